//! Signals as something to read: blocked, and met through a signalfd like any other event.
//!
//! Blocking is per thread and inherited by threads and children made later: `Signals::take` is
//! called before the first thread, and every child is made with [`restore_in`] or calls
//! [`restore_in_child`] itself, or SIGTERM would never reach it.

use core::mem::MaybeUninit;
use std::io::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A signal the worker acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGCHLD: some child has ended, maybe several.
    Child,
}

impl Signal {
    const ALL: [Self; 6] = [
        Self::Terminate,
        Self::Interrupt,
        Self::Hangup,
        Self::User1,
        Self::User2,
        Self::Child,
    ];

    const fn number(self) -> libc::c_int {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::Hangup => libc::SIGHUP,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
            Self::Child => libc::SIGCHLD,
        }
    }
}

/// A signal that came, and from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub signal: Signal,
    /// Zero when the kernel sent it.
    pub pid: u32,
    pub uid: u32,
}

/// Where the signals arrive: to be watched, and read until there is none.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks the signals in this thread and opens the descriptor; ignores SIGPIPE, since a peer
    /// that is gone is told by the call itself.
    pub fn take() -> Result<Self> {
        let set = set_of(&Signal::ALL);
        block(libc::SIG_BLOCK, &set)?;
        // SAFETY: a standard disposition, no handler of ours.
        if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(Error::last_os_error());
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: -1 asks for a new descriptor; the set is initialised and only read.
        let raw = unsafe { libc::signalfd(-1, &raw const set, flags) };
        if raw < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, nobody else knows it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor })
    }

    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// The next signal that has arrived at a descriptor of [`Signals`], if any.
pub fn next<Fd: AsFd>(descriptor: Fd) -> Result<Option<Arrived>> {
    let mut record = [0; size_of::<libc::signalfd_siginfo>()];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(&descriptor, &mut record)) {
            Ok(count) if count == record.len() => {}
            Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let word = |at: usize| u32::from_ne_bytes(core::array::from_fn(|byte| record[at + byte]));
        let number = word(core::mem::offset_of!(libc::signalfd_siginfo, ssi_signo)) as libc::c_int;
        if let Some(signal) = Signal::ALL
            .into_iter()
            .find(|signal| signal.number() == number)
        {
            return Ok(Some(Arrived {
                signal,
                pid: word(core::mem::offset_of!(libc::signalfd_siginfo, ssi_pid)),
                uid: word(core::mem::offset_of!(libc::signalfd_siginfo, ssi_uid)),
            }));
        }
    }
}

/// Has the command restore signals in its child.
pub fn restore_in(command: &mut Command) -> &mut Command {
    // SAFETY: the function only makes calls that are safe between fork and exec.
    unsafe { command.pre_exec(restore_in_child) }
}

/// In a fresh child, before anything else runs in it: nothing blocked, SIGPIPE as usual. Only calls
/// that are safe between clone and exec.
pub fn restore_in_child() -> Result<()> {
    // SAFETY: a standard disposition, no handler of ours.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(Error::last_os_error());
    }
    block(libc::SIG_SETMASK, &set_of(&[]))
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to a set of ours; this call makes it a valid, empty one.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set is valid by the call above and the number is a signal's.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal.number()) };
    }
    // SAFETY: sigemptyset has initialised all of it.
    unsafe { set.assume_init() }
}

fn block(how: libc::c_int, set: &libc::sigset_t) -> Result<()> {
    // SAFETY: the set is only read, and a null pointer means the old mask is not wanted.
    match unsafe { libc::pthread_sigmask(how, &raw const *set, core::ptr::null_mut()) } {
        0 => Ok(()),
        number => Err(Error::from_raw_os_error(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To this thread only, where it is blocked: other tests never meet it.
    fn raise(signal: Signal) {
        // SAFETY: raise has no preconditions.
        assert_eq!(unsafe { libc::raise(signal.number()) }, 0);
    }

    #[test]
    fn signals_are_read_not_suffered() {
        let signals = Signals::take().unwrap();
        assert_eq!(next(&signals).unwrap(), None);
        for signal in Signal::ALL {
            raise(signal);
            let arrived = next(&signals).unwrap().unwrap();
            assert_eq!((arrived.signal, arrived.pid), (signal, std::process::id()));
        }
        assert_eq!(next(&signals).unwrap(), None);
    }

    /// The mask of this kind of a process or thread, as the kernel tells it.
    fn mask(status: &str, kind: &str) -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(kind));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    }

    #[test]
    fn a_restored_command_neither_blocks_signals_nor_ignores_sigpipe() {
        let _signals = Signals::take().unwrap();
        let masks = |command: &mut Command| {
            let output = command.arg("/proc/self/status").output().unwrap();
            let status = String::from_utf8(output.stdout).unwrap();
            let pipe = 1 << (libc::SIGPIPE - 1);
            (mask(&status, "SigBlk:"), mask(&status, "SigIgn:") & pipe)
        };
        assert_eq!(masks(restore_in(&mut Command::new("cat"))), (0, 0));
        assert_ne!(masks(&mut Command::new("cat")), (0, 0));
    }

    #[test]
    fn a_restored_thread_blocks_nothing() {
        let _signals = Signals::take().unwrap();
        let blocked = || {
            mask(
                &std::fs::read_to_string("/proc/thread-self/status").unwrap(),
                "SigBlk:",
            )
        };
        assert_ne!(blocked(), 0);
        restore_in_child().unwrap();
        assert_eq!(blocked(), 0);
        // The disposition is the process's, other tests rely on it.
        drop(Signals::take().unwrap());
    }
}
