//! The name of a function, as it stands in paths, in the registry and in logs.

use core::fmt;

/// The name of a function: `[A-Za-z0-9._-]{1,64}`, but not `.` or `..`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName {
    // Ordered by content first: the bytes behind the length are zero.
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl FunctionName {
    pub const BYTES_MAX: usize = 64;

    /// What a name must be, for errors.
    pub const RULE: &'static str = "1 to 64 letters, digits, '.', '_' or '-', and not '.' or '..'";

    pub fn new(name: &str) -> Option<Self> {
        Self::from_bytes(name.as_bytes().iter().copied())
    }

    /// From bytes as they are told, one by one: a percent-decoder, say.
    pub fn from_bytes<I: Iterator<Item = u8>>(decoded: I) -> Option<Self> {
        let mut name = Self {
            bytes: [0; Self::BYTES_MAX],
            len: 0,
        };
        for byte in decoded {
            let legal = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if !legal || usize::from(name.len) == Self::BYTES_MAX {
                return None;
            }
            name.bytes[usize::from(name.len)] = byte;
            name.len += 1;
        }
        (!matches!(name.as_str(), "" | "." | "..")).then_some(name)
    }

    pub fn as_str(&self) -> &str {
        let bytes = &self.bytes[..usize::from(self.len)];
        core::str::from_utf8(bytes).expect("only ASCII was let in")
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_rule_says() {
        let longest = [b'x'; 64];
        let longest = core::str::from_utf8(&longest).unwrap();
        for good in ["a", "A-b_c.9", ".hidden", "...", longest] {
            assert_eq!(FunctionName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "~versions",
            "a/b",
            "a b",
            "é",
            "a\n",
            &longest.repeat(2),
        ] {
            assert_eq!(FunctionName::new(bad), None, "{bad}");
        }
    }
}
