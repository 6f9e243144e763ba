//! A user namespace kept by descriptor: made once, entered by every zygote and instance of its
//! range of ids.
//!
//! A namespace needs a process to be made by and one outside to write its maps: a child is cloned
//! into it, waits until the maps are there, forbids nested ones, and ends.

use super::clone::{CloneFlags, Forked, clone3};
use super::process;
use super::wait::{self, Ended};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Ids of one namespace: 0 to 65,535 inside.
pub const IDS: u32 = 65_536;

/// Makes one whose ids 0.. are the host's `first_host_id`... Nested namespaces are forbidden in it.
///
/// `proc` is a proc file system of ours: the usual one may be mounted read-only.
pub fn create(first_host_id: u32, proc: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (released, release) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the child makes system calls only, then ends.
    let forked = unsafe { clone3(CloneFlags::NEW_USER, None)? };
    match forked {
        Forked::Child => {
            drop(release);
            process::exit_now(match inside(released.as_fd(), proc) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error(),
            })
        }
        Forked::Parent { pid, pidfd } => {
            let namespace = map_and_open(pid.as_raw_nonzero().get(), first_host_id);
            if namespace.is_ok() {
                rustix::io::write(&release, b"x")?;
            }
            drop(release);
            let ended = wait::wait(pidfd.as_fd())?;
            let namespace = namespace?;
            match ended {
                Ended::Exit { code: 0 } => Ok(namespace),
                Ended::Exit { code } => Err(io::Error::from_raw_os_error(code)),
                Ended::Signal { .. } => Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }
}

fn map_and_open(pid: i32, first_host_id: u32) -> io::Result<OwnedFd> {
    let map = format!("0 {first_host_id} {IDS}");
    for name in ["uid_map", "gid_map"] {
        let mut file = File::options()
            .write(true)
            .open(format!("/proc/{pid}/{name}"))?;
        file.write_all(map.as_bytes())?;
    }
    Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
}

fn inside(released: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut word = [0; 1];
    if rustix::io::read(released, &mut word)? == 0 {
        return Ok(());
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let nested = c"sys/user/max_user_namespaces";
    let file = rustix::fs::openat(proc, nested, flags, Mode::empty())?;
    rustix::io::write(&file, b"0")?;
    Ok(())
}
