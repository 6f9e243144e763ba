//! A network with nothing but a loopback, inside a user namespace, kept by descriptor.
//!
//! Making one takes a quarter of a millisecond and now and then three, so it is made ahead and
//! joined; joining one that the user namespace does not own is forbidden, so a child makes it from
//! inside.

use super::clone::{CloneFlags, Forked, clone3};
use super::process;
use super::wait::{self, Ended};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// Makes one that processes of this user namespace may join; its loopback is up. May be called on
/// any thread; takes about a millisecond.
pub fn create(user_namespace: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let (made, tell_made) = pipe_with(PipeFlags::CLOEXEC)?;
    let (opened, tell_opened) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the child makes system calls only, then ends.
    match unsafe { clone3(CloneFlags::default(), None)? } {
        Forked::Child => {
            drop((made, tell_opened));
            let code = match inside(user_namespace) {
                Ok(()) => {
                    let _ = rustix::io::write(&tell_made, b"x");
                    // The worker opens it by our pid: we stay until it has.
                    let _ = rustix::io::read(&opened, &mut [0; 1]);
                    0
                }
                Err(error) => error.raw_os_error().unwrap_or(libc::EINVAL),
            };
            process::exit_now(code)
        }
        Forked::Parent { pid, pidfd } => {
            drop((tell_made, opened));
            let told = rustix::io::read(&made, &mut [0; 1]);
            let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
            let namespace = File::open(path).map(OwnedFd::from);
            drop(tell_opened);
            match (wait::wait(pidfd.as_fd())?, told) {
                (Ended::Exit { code: 0 }, Ok(1)) => namespace,
                (Ended::Exit { code }, _) => Err(io::Error::from_raw_os_error(code)),
                (Ended::Signal { .. }, _) => Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }
}

fn inside(user_namespace: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if let Some(namespace) = user_namespace {
        let kind = Some(LinkNameSpaceType::User);
        rustix::thread::move_into_link_name_space(namespace, kind)?;
    }
    // SAFETY: only the network is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    raise_loopback()
}

/// Leaves the network for one of its own that has nothing, not even a loopback.
pub fn leave() -> io::Result<()> {
    // SAFETY: only the network is unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    Ok(())
}

/// Brings up `lo` of the network this process is in. Does not allocate.
pub(super) fn raise_loopback() -> io::Result<()> {
    // SAFETY: three integers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened by the line above and belongs to nobody else.
    let socket = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) };
    // SAFETY: an all-zero ifreq is a valid value.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which this is.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
