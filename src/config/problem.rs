//! What is wrong with a configuration: one line a problem, and it always says what to do.
//!
//! `FILE:LINE: key: why (what to do)`. Text that comes from outside is escaped, so a problem stays
//! one line whatever the file holds.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value was typed. The order is the order in which sources are read: later wins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// Nobody typed it.
    BuiltIn,
    File {
        /// Place among the files read.
        order: usize,
        path: Arc<Path>,
        /// From 1.
        line: usize,
    },
    /// `-o`, by its place on the command line.
    Override(usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("default"),
            Self::File { path, line, .. } => {
                write!(
                    f,
                    "{}:{line}",
                    one_line(&path.display().to_string(), PATH_CHARS_MAX)
                )
            }
            Self::Override(_) => f.write_str("-o"),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub place: Place,
    /// Full name of the key, where it is about one.
    pub key: Option<String>,
    pub why: String,
    pub remedy: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Where something was typed.
    Typed(Origin),
    /// A file as a whole: unreadable, not text.
    File(PathBuf),
}

impl Problem {
    pub fn at(origin: &Origin, key: &str, why: impl Into<String>, remedy: &str) -> Self {
        Self {
            place: Place::Typed(origin.clone()),
            key: Some(key.to_owned()),
            why: why.into(),
            remedy: remedy.to_owned(),
        }
    }

    pub fn of_file(path: &Path, why: impl Into<String>, remedy: &str) -> Self {
        Self {
            place: Place::File(path.to_path_buf()),
            key: None,
            why: why.into(),
            remedy: remedy.to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Typed(origin) => write!(f, "{origin}: ")?,
            Place::File(path) => write!(
                f,
                "{}: ",
                one_line(&path.display().to_string(), PATH_CHARS_MAX)
            )?,
        }
        if let Some(key) = &self.key {
            write!(f, "{}: ", one_line(key, KEY_CHARS_MAX))?;
        }
        let text = |text: &str| one_line(text, TEXT_CHARS_MAX);
        write!(f, "{} ({})", text(&self.why), text(&self.remedy))
    }
}

/// Longest parts of a line: keys and texts repeat what somebody typed.
const KEY_CHARS_MAX: usize = 100;
const TEXT_CHARS_MAX: usize = 600;
/// As long as the kernel takes.
const PATH_CHARS_MAX: usize = 4096;
/// Longest text of somebody else's that a problem repeats.
const QUOTE_CHARS_MAX: usize = 60;

/// A value as it is repeated in a problem: quoted, escaped, cut.
pub fn quoted(text: &str) -> String {
    if text.chars().count() <= QUOTE_CHARS_MAX {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    format!("{start:?}...")
}

/// Control characters escaped, and cut where it is longer than anybody would read.
fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    for (index, letter) in text.chars().enumerate() {
        if index == chars_max {
            line.push_str("...");
            break;
        }
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line() {
        let origin = Origin::File {
            order: 0,
            path: Path::new("/etc/a\nb.toml").into(),
            line: 3,
        };
        let problem = Problem::at(&origin, "x\u{1b}[31m", "is\r\nwrong", "do better");
        assert_eq!(
            problem.to_string(),
            r"/etc/a\nb.toml:3: x\u{1b}[31m: is\r\nwrong (do better)"
        );
    }

    #[test]
    fn no_part_is_endless() {
        let long = "k".repeat(10_000);
        let problem = Problem::at(&Origin::Override(0), &long, long.clone(), &long);
        assert!(problem.to_string().len() < 1400);
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(quoted("a\"b"), r#""a\"b""#);
        assert_eq!(quoted(&"x".repeat(100)).len(), QUOTE_CHARS_MAX + 5);
    }
}
