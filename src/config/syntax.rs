//! What is no TOML, in words that help: above all a JSON object pasted bare.

use super::problem::quoted;
use std::borrow::Cow;
use std::ops::Range;
use toml::de::{DeTable, Error};

/// Syntax errors told of one file: behind a few, they are one another's echo.
const ERRORS_MAX: usize = 5;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    pub offset: usize,
    pub key: Option<String>,
    pub why: String,
    pub remedy: String,
}

/// The line, from 1, that holds this byte.
pub fn line_at(text: &str, offset: usize) -> usize {
    1 + text[..floor(text, offset.min(text.len()))]
        .matches('\n')
        .count()
}

/// A text as it can be read, with JSON that was pasted bare blanked out, and what was wrong.
#[derive(Debug)]
pub struct Readable<'a> {
    pub text: Cow<'a, str>,
    pub errors: Vec<Explained>,
    /// Errors other than such JSON are left: what the rest says is not known.
    pub broken: bool,
}

/// Finds the syntax errors of a text. Offsets are those of the text as it came.
pub fn readable(text: &str) -> Readable<'_> {
    let mut readable = Readable {
        text: Cow::Borrowed(text),
        errors: Vec::new(),
        broken: false,
    };
    for _ in 0..ERRORS_MAX {
        let (_, errors) = DeTable::parse_recoverable(&readable.text);
        let offsets = || errors.iter().map(|error| offset_of(error, text));
        let Some(json) = offsets().find_map(|offset| bare_json(&readable.text, offset)) else {
            readable.broken = !errors.is_empty();
            for error in &errors {
                let plain = plain(text, offset_of(error, text), error);
                // Further errors on one line are the echo of the first.
                let line = line_at(text, plain.offset);
                let mut told = readable
                    .errors
                    .iter()
                    .map(|error| line_at(text, error.offset));
                if readable.errors.len() < ERRORS_MAX && !told.any(|told| told == line) {
                    readable.errors.push(plain);
                }
            }
            return readable;
        };
        readable.errors.push(json.explain(text));
        let blanked = blank(&readable.text, &json.value);
        readable.text = Cow::Owned(blanked);
    }
    readable.broken = true;
    readable
}

fn offset_of(error: &Error, text: &str) -> usize {
    floor(
        text,
        error
            .span()
            .map_or(text.len(), |span| span.start)
            .min(text.len()),
    )
}

/// The text with `""` and blanks for the value; lines stay where they are.
fn blank(text: &str, value: &Range<usize>) -> String {
    let mut blanked = text[..value.start].to_owned();
    blanked.push_str("\"\"");
    let rest = text[value.clone()].bytes().skip(2);
    blanked.extend(rest.map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
    blanked.push_str(&text[value.end..]);
    blanked
}

fn plain(text: &str, offset: usize, error: &Error) -> Explained {
    let message = error.message();
    if let Some(name) = message.strip_prefix("duplicate key") {
        return Explained {
            offset,
            key: key_of_line(text, offset),
            why: format!("typed twice in one file{name}"),
            remedy: "keep one of them".to_owned(),
        };
    }
    let rest = text[offset..].lines().next().unwrap_or("");
    let near = if rest.is_empty() {
        "the end of the line".to_owned()
    } else {
        quoted(rest)
    };
    let remedy = unquoted(text, offset)
        .unwrap_or_else(|| "write key = value; strings stand in quotes".to_owned());
    Explained {
        offset,
        key: key_of_line(text, offset),
        why: format!("no TOML: {message}, at {near}"),
        remedy,
    }
}

/// The assignment with its value in quotes, where that is what is missing.
fn unquoted(text: &str, offset: usize) -> Option<String> {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let (name, value) = text[start..].lines().next()?.split_once('=')?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    let plain = |c: char| c.is_alphanumeric() || "._-:/*".contains(c);
    let is_plain = !value.is_empty() && value.chars().all(plain);
    (is_plain && is_bare(name.trim())).then(|| format!("write {} = \"{value}\"", name.trim()))
}

/// The next boundary between characters, downwards.
fn floor(text: &str, offset: usize) -> usize {
    (0..=offset)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The full name of the key assigned on the line of this byte.
fn key_of_line(text: &str, offset: usize) -> Option<String> {
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next()?;
    let (name, _) = line.split_once('=')?;
    let name = name.trim();
    is_bare(name).then(|| in_section(&text[..start], name))
}

fn is_bare(name: &str) -> bool {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.chars().all(bare)
}

/// The name with the section that the text before it opens.
fn in_section(before: &str, name: &str) -> String {
    let section = before.lines().rev().find_map(|line| {
        let inside = line.trim().strip_prefix('[')?;
        let section = inside.split_once(']')?.0.trim();
        is_bare(section).then_some(section)
    });
    section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"))
}

struct BareJson {
    key: String,
    /// Where the key stands.
    offset: usize,
    value: Range<usize>,
}

impl BareJson {
    fn explain(&self, text: &str) -> Explained {
        let value = &text[self.value.clone()];
        let one_line: Vec<&str> = value.split_whitespace().collect();
        let one_line = one_line.join(" ");
        // What is shown is to be pasted: in full while it is short, else the form of it.
        let shown = if one_line.chars().count() <= 200 {
            one_line
        } else {
            r#"{"packages": [...], "children": [...]}"#.to_owned()
        };
        Explained {
            offset: self.offset,
            key: Some(in_section(&text[..self.offset], &self.key)),
            why: "a JSON object pasted bare is no TOML".to_owned(),
            remedy: format!("put it in three quotes: {} = '''{shown}'''", self.key),
        }
    }
}

/// The assignment around `offset` whose value is JSON: `key = {"name": ...`.
fn bare_json(text: &str, offset: usize) -> Option<BareJson> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if start > offset {
            return None;
        }
        if let Some(found) = json_assignment(text, start, line)
            && found.value.contains(&offset)
        {
            return Some(found);
        }
        start += line.len();
    }
    None
}

/// A line that begins `key = {` with a quoted name and a colon behind it; the value may go on over
/// further lines.
fn json_assignment(text: &str, start: usize, line: &str) -> Option<BareJson> {
    let (name, _) = line.split_once('=')?;
    let key = name.trim();
    if !is_bare(key) {
        return None;
    }
    let behind = start + name.len() + 1;
    let value_start = behind + text[behind..].find(|c: char| !c.is_whitespace())?;
    let inside = text[value_start..].strip_prefix('{')?.trim_start();
    let (_, after_name) = inside.strip_prefix('"')?.split_once('"')?;
    if !after_name.trim_start().starts_with(':') {
        return None;
    }
    let value = value_start..value_start + json_length(&text[value_start..]);
    let offset = start + (name.len() - name.trim_start().len());
    Some(BareJson {
        key: key.to_owned(),
        offset,
        value,
    })
}

/// Bytes of the object that `text` begins with, by its braces; everything where they never close.
fn json_length(text: &str) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str) -> Vec<Explained> {
        readable(text).errors
    }

    #[test]
    fn json_pasted_bare_is_told_once_with_its_cure() {
        let text = "[features]\nimport_cache_tree = {\"packages\": [],\n \
            \"children\": [{\"packages\": [\"numpy\"]}]}\nwarmup = 3 4\n";
        let found = explained(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(line_at(text, found[0].offset), 2);
        assert_eq!(found[0].key.as_deref(), Some("features.import_cache_tree"));
        assert!(
            found[0].remedy.ends_with(
                "import_cache_tree = '''{\"packages\": [], \
                 \"children\": [{\"packages\": [\"numpy\"]}]}'''"
            ),
            "{}",
            found[0].remedy
        );
        assert_eq!(line_at(text, found[1].offset), 4);
    }

    #[test]
    fn other_errors_name_their_key_and_place() {
        let found = explained("[http]\ntcp = 127.0.0.1:5000\n");
        assert_eq!(found[0].key.as_deref(), Some("http.tcp"));
        assert!(found[0].why.starts_with("no TOML: "), "{}", found[0].why);
    }

    #[test]
    fn a_string_without_quotes_is_shown_with_them() {
        let found = explained("[http]\ntcp = 127.0.0.1:5000 # here\n");
        assert_eq!(found[0].remedy, "write tcp = \"127.0.0.1:5000\"");
        let found = explained("[log]\nlevel = debug\n");
        assert_eq!(found[0].remedy, "write level = \"debug\"");
        let found = explained("[log]\nlevel = \"debug\n");
        assert!(found[0].remedy.starts_with("write key = value"));
    }

    #[test]
    fn offsets_within_characters_do_no_harm() {
        for end in 0..8 {
            assert_eq!(floor("aé", end.min(3)), [0, 1, 1, 3][end.min(3)]);
        }
        assert!(explained("é = \u{7f}").len() <= ERRORS_MAX);
    }
}
