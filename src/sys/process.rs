//! What a process does to itself before it runs code that is not ours.

use core::ffi::{CStr, c_char, c_int, c_uint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::process::{Resource, Rlimit, Signal};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// Closes every descriptor from `first` on.
///
/// # Safety
/// Whoever owns one of them in this process must never use or close it again.
pub unsafe fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the caller gives up all descriptors in the range.
    let answer = unsafe { libc::close_range(first as c_uint, c_uint::MAX, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes `number` another name of `descriptor`, kept over exec.
///
/// # Safety
/// Whoever owned `number` before must be prepared to find something else there.
pub unsafe fn place(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    if descriptor.as_raw_fd() == number {
        return Ok(rustix::io::fcntl_setfd(
            descriptor,
            rustix::io::FdFlags::empty(),
        )?);
    }
    // SAFETY: two integers; what happens to `number` is the caller's business.
    let answer = unsafe { libc::dup2(descriptor.as_raw_fd(), number) };
    if answer == number {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ends the process without running any exit handler.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// Leaves the session keyring of whoever started us: keys are reachable by possession.
pub fn join_new_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            core::ptr::null::<c_char>(),
        )
    };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// All signals unblocked, and SIGPIPE (ignored by Rust programs) as the kernel gives it.
pub fn reset_signals() -> io::Result<()> {
    // SAFETY: an all-zero sigset_t is a valid value.
    let mut none: libc::sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: `none` is a sigset_t of ours.
    unsafe { libc::sigemptyset(&raw mut none) };
    // SAFETY: reads `none`, wants no old set.
    let answer =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut()) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIG_DFL runs no code of this process.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if old == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Lowers a limit, soft and hard; one that is lower already stays.
pub fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let value = Some(hard.map_or(value, |hard| hard.min(value)));
    let wanted = Rlimit {
        current: value,
        maximum: value,
    };
    Ok(rustix::process::setrlimit(resource, wanted)?)
}

/// Becomes a user who owns nothing: no group, no capability, no way back.
pub fn become_nobody(id: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// No core file and no core handler of the host: 1 is the value the kernel never pipes for.
pub fn forbid_core_dumps() -> io::Result<()> {
    limit(Resource::Core, 1)
}

/// Dies with its parent thread, however that ends. `lifeline` is an end of a socket whose other end
/// only the parent's process holds: it may have died before we asked to die with it.
///
/// The kernel forgets this wish when ids change, so it comes after them.
pub fn die_with_parent(lifeline: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut watched = [PollFd::from_borrowed_fd(lifeline, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut watched, Some(&at_once))?;
    if watched[0]
        .revents()
        .intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
    {
        exit_now(0);
    }
    Ok(())
}

/// How many threads this process has, without allocating: the links of its task directory.
pub fn threads() -> io::Result<u32> {
    const LINKS_OF_EMPTY: u64 = 2;
    let directory = rustix::fs::stat(c"/proc/self/task")?;
    Ok((directory.st_nlink as u64).saturating_sub(LINKS_OF_EMPTY) as u32)
}

/// Replaces the program. Comes back only with an error.
///
/// # Safety
/// `arguments` and `environment` end with a null pointer; those before it point at C strings.
pub unsafe fn execute(
    program: &CStr,
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> io::Error {
    // SAFETY: three pointers to what execve wants, by the caller's word.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = wait.recv();
            });
            // Other tests start and end threads meanwhile: both views must agree once.
            let agreed = (0..1000).any(|_| {
                let entries = std::fs::read_dir("/proc/self/task").unwrap().count() as u32;
                entries >= 2 && threads().unwrap() == entries
            });
            drop(release);
            assert!(agreed);
        });
    }
}
