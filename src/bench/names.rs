//! The functions that may be called, by number.

use std::io::Write as _;

#[derive(Clone, Debug)]
pub enum Names {
    /// `PREFIX0`, `PREFIX1`, ...: 65,536 names without a list of them.
    Numbered {
        prefix: String,
        count: u32,
    },
    Listed(Vec<String>),
}

impl Names {
    pub fn count(&self) -> u32 {
        match self {
            Self::Numbered { count, .. } => *count,
            Self::Listed(names) => u32::try_from(names.len()).unwrap_or(u32::MAX),
        }
    }

    /// Appends the name with this number.
    pub fn write(&self, number: u32, out: &mut Vec<u8>) {
        match self {
            Self::Numbered { prefix, .. } => {
                write!(out, "{prefix}{number}").expect("memory takes every byte");
            }
            Self::Listed(names) => out.extend_from_slice(names[number as usize].as_bytes()),
        }
    }

    pub fn name(&self, number: u32) -> String {
        let mut name = Vec::new();
        self.write(number, &mut name);
        String::from_utf8(name).expect("names are text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_number() {
        let prefix = "bench-py-".to_owned();
        let numbered = Names::Numbered { prefix, count: 64 };
        assert_eq!(numbered.name(63), "bench-py-63");
        let listed = Names::Listed(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!((listed.count(), listed.name(1)), (2, "b".to_owned()));
    }
}
