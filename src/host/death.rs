//! How a sandbox ended, and how to say it.

use super::cgroup::Group;
use crate::sys::wait::{self, Ended};
use crate::sys::zygote::BIRTH_FAILED;
use core::fmt;
use rustix::fd::BorrowedFd;
use std::io;

/// The cause, as far as it can be known from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Exit(i32),
    Signal(i32),
    /// The kernel killed it at its memory limit.
    OutOfMemory,
    /// Its sandbox could not be set up; no code of a function has run.
    Unborn,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "{}", Ended::Exit { code: *code }),
            Self::Signal(number) => write!(f, "{}", Ended::Signal { number: *number }),
            Self::OutOfMemory => f.write_str("out of memory: killed at its memory limit (OOM)"),
            Self::Unborn => f.write_str("its sandbox could not be set up"),
        }
    }
}

/// Reaps it when it has ended; none while it lives.
pub(super) fn of(pidfd: BorrowedFd<'_>, group: &Group) -> io::Result<Option<Cause>> {
    let Some(ended) = wait::ended(pidfd)? else {
        return Ok(None);
    };
    // The counter is only worth a look where a kill can be seen: a process may also survive the
    // kill of its child and say so itself.
    Ok(Some(match ended {
        Ended::Signal { number } if number == libc::SIGKILL && group.out_of_memory()? => {
            Cause::OutOfMemory
        }
        Ended::Signal { number } => Cause::Signal(number),
        Ended::Exit { code } if code == BIRTH_FAILED => Cause::Unborn,
        Ended::Exit { code } => Cause::Exit(code),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_read_as_sentences() {
        assert_eq!(Cause::Exit(3).to_string(), "exited with code 3");
        assert_eq!(
            Cause::Signal(libc::SIGSEGV).to_string(),
            "killed by SIGSEGV"
        );
        assert_eq!(Cause::Signal(64).to_string(), "killed by signal 64");
        assert!(Cause::OutOfMemory.to_string().contains("OOM"));
    }
}
