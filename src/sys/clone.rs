//! clone3(2): a process that begins its life in its cgroup and namespaces.
//!
//! The child gets a copy-on-write copy of the caller's memory and goes on on a copy of its stack,
//! as after fork(2); neither glibc's fork handlers nor its thread bookkeeping run. What comes back
//! is two-valued, like fork. Being put into a cgroup at birth costs nothing; writing a pid to
//! `cgroup.procs` later waits for a grace period of milliseconds.

use core::mem::size_of;
use linux_raw_sys::general::{CLONE_INTO_CGROUP, CLONE_PIDFD, clone_args};
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which namespaces are new, and whose child it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloneFlags(u64);

impl CloneFlags {
    pub const NEW_USER: Self = Self(linux_raw_sys::general::CLONE_NEWUSER as u64);
    pub const NEW_MOUNT: Self = Self(linux_raw_sys::general::CLONE_NEWNS as u64);
    pub const NEW_PID: Self = Self(linux_raw_sys::general::CLONE_NEWPID as u64);
    pub const NEW_IPC: Self = Self(linux_raw_sys::general::CLONE_NEWIPC as u64);
    pub const NEW_UTS: Self = Self(linux_raw_sys::general::CLONE_NEWUTS as u64);
    pub const NEW_NET: Self = Self(linux_raw_sys::general::CLONE_NEWNET as u64);
    /// A sibling of the caller instead of its child: the caller's parent reaps it.
    pub const SIBLING: Self = Self(linux_raw_sys::general::CLONE_PARENT as u64);

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// On which side of the fork we are.
#[derive(Debug)]
pub enum Forked {
    Parent { pid: Pid, pidfd: OwnedFd },
    Child,
}

/// Forks. The child sends no signal when it ends (wait with [`super::wait::ended`]); a `SIBLING`
/// inherits the caller's signal.
///
/// # Safety
/// The child has one thread and copies of locks other threads may have held: unless the caller is
/// the only thread of its process, the child must neither allocate nor touch a lock before it
/// calls execve or _exit.
pub unsafe fn clone3(flags: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let mut arguments = clone_args {
        flags: flags.0 | u64::from(CLONE_PIDFD),
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(group) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: `arguments` is a clone_args of the size given, the pidfd it points at outlives the
    // call; no stack and no CLONE_VM, so that the child runs on its own copy of this one.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<clone_args>(),
        )
    };
    match answer {
        0 => Ok(Forked::Child),
        pid if pid > 0 => {
            let pid = Pid::from_raw(pid as i32).expect("a positive pid");
            // SAFETY: CLONE_PIDFD succeeded: the kernel stored a new descriptor that nobody else
            // owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}
