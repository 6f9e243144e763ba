//! What S3 answers to the wish for a list: XML of a few known elements, read without a tree.
//!
//! ```text
//!   <ListBucketResult> <IsTruncated>true</IsTruncated> <NextContinuationToken>...</...>
//!     <Contents> <Key>team/f.py</Key> <LastModified>...</...> <Size>31</Size> </Contents> ...
//! ```

/// An object of a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) bytes: u64,
    /// `2026-11-28T11:45:00.000Z`
    pub(super) modified: String,
}

/// A part of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    /// What to ask the next part with; none: this was the last.
    pub(super) next: Option<String>,
}

/// None where this is no answer to that wish.
pub(super) fn page(xml: &str) -> Option<Page> {
    let result = elements(xml, "ListBucketResult").next()?;
    let mut objects = Vec::new();
    // Those of the objects first: what is left of the result is about the list.
    for object in elements(result, "Contents") {
        objects.push(Object {
            key: text(object, "Key")?,
            bytes: text(object, "Size")?.parse().ok()?,
            modified: text(object, "LastModified").unwrap_or_default(),
        });
    }
    let is_cut = text(result, "IsTruncated").is_some_and(|text| text == "true");
    let mut next = None;
    if is_cut {
        // Without it the rest could not be had, and half a list is no list.
        next = Some(text(result, "NextContinuationToken")?);
    }
    Some(Page { objects, next })
}

/// The insides of all elements of this name; none of them is in another of its name.
fn elements<'a>(xml: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    let mut rest = xml;
    core::iter::from_fn(move || {
        loop {
            let start = rest.find('<')?;
            let tag = &rest[start + 1..];
            let end = tag.find('>')?;
            let (tag, behind) = (&tag[..end], &tag[end + 1..]);
            rest = behind;
            let is_it = tag
                .strip_prefix(name)
                .is_some_and(|more| more.is_empty() || more.starts_with([' ', '\n', '\t', '\r']));
            if is_it && !tag.ends_with('/') {
                let inside = behind.find(&format!("</{name}>"))?;
                rest = &behind[inside..];
                return Some(&behind[..inside]);
            }
        }
    })
}

fn text(xml: &str, name: &'static str) -> Option<String> {
    unescaped(elements(xml, name).next()?)
}

/// `&amp;` and its like undone.
fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (name, behind) = rest[at + 1..].split_once(';')?;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            number => {
                let number = number.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16),
                    None => number.parse(),
                };
                char::from_u32(code.ok()?)?
            }
        });
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>code</Name><Prefix>team/</Prefix><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys>
  <IsTruncated>false</IsTruncated>
  <Contents><Key>team/f.py</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
    <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size>
    <StorageClass>STANDARD</StorageClass></Contents>
  <Contents><Key>team/a&amp;&#98;&#x63;.zip</Key><Size>7</Size><Owner/></Contents>
  <CommonPrefixes><Prefix>team/more/</Prefix></CommonPrefixes>
</ListBucketResult>"#;

    #[test]
    fn a_page_is_read() {
        let page = page(WHOLE).unwrap();
        assert_eq!(page.next, None);
        let object = |key: &str, bytes, modified: &str| Object {
            key: key.to_owned(),
            bytes,
            modified: modified.to_owned(),
        };
        assert_eq!(
            page.objects,
            [
                object("team/f.py", 434_234, "2009-10-12T17:50:30.000Z"),
                object("team/a&bc.zip", 7, ""),
            ]
        );
    }

    #[test]
    fn a_page_that_is_not_the_last_tells_where_the_next_begins() {
        let cut = "<ListBucketResult><IsTruncated>true</IsTruncated>\
                   <NextContinuationToken>a&lt;b=</NextContinuationToken></ListBucketResult>";
        let read = page(cut).unwrap();
        assert_eq!(
            (read.objects.len(), read.next.as_deref()),
            (0, Some("a<b="))
        );
        assert_eq!(page(&cut.replace("NextContinuationToken", "Next")), None);
    }

    #[test]
    fn anything_else_is_none() {
        for xml in [
            "",
            "<Error><Code>AccessDenied</Code></Error>",
            "<ListBucketResult>",
            "<ListBucketResult><Contents><Key>x</Key></Contents></ListBucketResult>",
            "<ListBucketResult><Contents><Key>&no;</Key><Size>1</Size></Contents>\
             </ListBucketResult>",
            "<<<>>>&&&",
        ] {
            assert_eq!(page(xml), None, "{xml}");
        }
        // However it is cut off, it is no page, or one that makes no more of it than there was.
        for end in 0..WHOLE.len() {
            assert_eq!(page(&WHOLE[..end]), None);
        }
    }
}
