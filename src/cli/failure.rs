//! How a verb fails: one line that says what, why and what to do, and the exit code of its kind.

use crate::config::Problem;
use std::fmt::{self, Write as _};
use std::io;
use std::process::ExitCode;

/// The exit codes that scripts may rely on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    Unreachable = 69,
    BadConfiguration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug)]
pub enum Failure {
    Said(Said),
    /// A line each, every one with a remedy of its own.
    Configuration(Vec<Problem>),
    /// A line that another room wrote, with its remedy in it.
    Line(Exit, String),
    /// Everything was said already; only the code is left to give.
    Silent(Exit),
}

/// `ol: what: why (what to do)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub exit: Exit,
    pub what: String,
    pub why: String,
    pub remedy: String,
}

impl Failure {
    pub fn new(
        exit: Exit,
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (what, why, remedy) = (what.into(), why.into(), remedy.into());
        Self::Said(Said {
            exit,
            what,
            why,
            remedy,
        })
    }

    pub fn failed(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Exit::Failed, what, why, remedy)
    }

    pub fn usage(
        what: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Exit::Usage, what, why, remedy)
    }

    /// Of a file or directory that could not be worked with.
    pub fn of_path(path: &std::path::Path, error: &io::Error, remedy: &str) -> Self {
        Self::failed(path.display().to_string(), error.to_string(), remedy)
    }

    pub fn exit(&self) -> Exit {
        match self {
            Self::Said(said) => said.exit,
            Self::Configuration(_) => Exit::BadConfiguration,
            Self::Line(exit, _) | Self::Silent(exit) => *exit,
        }
    }

    /// The lines for stderr, each ended.
    pub fn lines(&self, program: &str) -> String {
        match self {
            Self::Said(said) => format!("{program}: {said}\n"),
            Self::Configuration(problems) => {
                let mut lines = String::new();
                for problem in problems {
                    writeln!(lines, "{program}: {problem}").expect("a string takes everything");
                }
                lines
            }
            Self::Line(_, line) => format!("{program}: {}\n", one_line(line)),
            Self::Silent(_) => String::new(),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, why) = (one_line(&self.what), one_line(&self.why));
        write!(f, "{what}: {why} ({})", one_line(&self.remedy))
    }
}

/// Whatever a server or a file says stays on one line, and sends nothing to a terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.trim_end().chars() {
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
    fn a_failure_is_one_line() {
        let failure = Failure::failed("deploy f", "said\n\u{1b}[2Jit", "look");
        assert_eq!(
            failure.lines("ol"),
            "ol: deploy f: said\\n\\u{1b}[2Jit (look)\n"
        );
        assert_eq!(failure.exit() as u8, 1);
        assert_eq!(Failure::usage("a", "b", "c").exit() as u8, 2);
        assert_eq!(Failure::Configuration(Vec::new()).exit() as u8, 78);
    }
}
