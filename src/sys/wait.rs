//! How a child ended, by its pidfd.

use core::fmt;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::os::fd::BorrowedFd;

/// What the kernel knows of an ended process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exit { code: i32 },
    Signal { number: i32 },
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { code } => write!(f, "exited with code {code}"),
            Self::Signal { number } => match signal_name(*number) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// The name of a signal a process can die of.
pub const fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

/// Reaps the child when it has ended; `None` while it lives.
///
/// With `__WALL`, else children that send no signal when they end are not seen at all.
pub fn ended(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    reap(pidfd, WaitIdOptions::NOHANG)
}

/// As [`ended`], but waits for the end.
pub fn wait(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    reap(pidfd, WaitIdOptions::empty()).map(|ended| ended.expect("waitid without NOHANG waits"))
}

fn reap(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> io::Result<Option<Ended>> {
    let options =
        options | WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(libc::__WALL as u32);
    loop {
        let status = match waitid(WaitId::PidFd(pidfd), options) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        return Ok(status.map(|status| {
            match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Ended::Exit { code },
                (None, Some(number)) => Ended::Signal { number },
                (None, None) => unreachable!("only ended children were asked for"),
            }
        }));
    }
}

/// Whether it is a child of this process, alive or not.
pub fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    let options = WaitIdOptions::EXITED
        | WaitIdOptions::NOHANG
        | WaitIdOptions::NOWAIT
        | WaitIdOptions::from_bits_retain(libc::__WALL as u32);
    waitid(WaitId::PidFd(pidfd), options).is_ok()
}
