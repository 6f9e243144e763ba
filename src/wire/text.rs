//! Lists of texts joined by NUL bytes: the one way heads and settings travel.
//!
//! "a\0b\0c" is three texts, "" is none. A text that holds a NUL cannot be told from two, so it is
//! refused when written; readers need no other check than how many texts they got.

use super::FrameError;
use alloc::vec::Vec;

pub const SEPARATOR: u8 = 0;

/// A list as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Texts<'a> {
    joined: &'a [u8],
}

impl<'a> Texts<'a> {
    pub const fn new(joined: &'a [u8]) -> Self {
        Self { joined }
    }

    /// The bytes as they travel.
    pub const fn joined(self) -> &'a [u8] {
        self.joined
    }

    /// The texts. No bytes are no texts.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let parts = if self.joined.is_empty() {
            0
        } else {
            usize::MAX
        };
        self.joined.split(|&byte| byte == SEPARATOR).take(parts)
    }
}

/// A list that is made once and sent often: an environment, mount targets, modules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextList {
    joined: Vec<u8>,
}

impl TextList {
    pub const fn new() -> Self {
        Self { joined: Vec::new() }
    }

    /// Refused: a NUL inside, and the empty text (a list of only that would read as none).
    pub fn push(&mut self, text: &[u8]) -> Result<(), FrameError> {
        if text.is_empty() || text.contains(&SEPARATOR) {
            return Err(FrameError::BadText);
        }
        if !self.joined.is_empty() {
            self.joined.push(SEPARATOR);
        }
        self.joined.extend_from_slice(text);
        Ok(())
    }

    /// All of them, or the error of the first that is refused.
    pub fn collect<'t>(all: impl IntoIterator<Item = &'t [u8]>) -> Result<Self, FrameError> {
        let mut list = Self::new();
        for text in all {
            list.push(text)?;
        }
        Ok(list)
    }

    pub fn as_texts(&self) -> Texts<'_> {
        Texts::new(&self.joined)
    }
}

/// Appends texts, empty ones too, to a buffer that holds other things before them: heads.
#[derive(Debug)]
pub struct TextWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    empty: bool,
}

impl<'a> TextWriter<'a> {
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            out,
            start,
            empty: true,
        }
    }

    pub fn push(&mut self, text: &[u8]) -> Result<(), FrameError> {
        if text.contains(&SEPARATOR) {
            return Err(FrameError::BadText);
        }
        if !self.empty {
            self.out.push(SEPARATOR);
        }
        self.empty = false;
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// As `push`, in ASCII lower case: header names.
    pub fn push_lower(&mut self, text: &[u8]) -> Result<(), FrameError> {
        self.push(text)?;
        let start = self.out.len() - text.len();
        self.out[start..].make_ascii_lowercase();
        Ok(())
    }

    /// The bytes written so far.
    pub const fn bytes(&self) -> usize {
        self.out.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_texts_come_apart_again() {
        let mut out = b"before".to_vec();
        let mut writer = TextWriter::new(&mut out);
        for text in [&b"numpy"[..], b"", b"37"] {
            writer.push(text).unwrap();
        }
        writer.push_lower(b"X-Name").unwrap();
        assert_eq!(writer.bytes(), 16);
        assert_eq!(out, b"beforenumpy\0\x0037\0x-name");
        let parts: Vec<_> = Texts::new(&out[6..]).iter().collect();
        assert_eq!(parts, [&b"numpy"[..], b"", b"37", b"x-name"]);
    }

    #[test]
    fn a_list_gives_back_what_was_put_in() {
        let list = TextList::collect([&b"A=1"[..], b"B="]).unwrap();
        assert_eq!(
            list.as_texts().iter().collect::<Vec<_>>(),
            [&b"A=1"[..], b"B="]
        );
        assert_eq!(TextList::new().as_texts().iter().count(), 0);
    }

    #[test]
    fn a_text_that_would_read_as_another_is_refused() {
        assert_eq!(TextList::new().push(b"a\0b"), Err(FrameError::BadText));
        assert_eq!(TextList::new().push(b""), Err(FrameError::BadText));
        let mut out = Vec::new();
        assert_eq!(
            TextWriter::new(&mut out).push(b"a\0b"),
            Err(FrameError::BadText)
        );
        assert!(out.is_empty());
    }
}
