//! The kernel's word that work stalls for want of memory.
//!
//! A trigger of pressure stall information: its descriptor becomes ready (priority) at most once a
//! window while tasks of the group, or of the machine, waited longer than allowed for memory.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::Path;

/// Some task stalled for 150 ms within 2 s. Windows of whole 2 s need no privilege.
const TRIGGER: &[u8] = b"some 150000 2000000\0";
/// Of the whole machine.
const MACHINE: &str = "/proc/pressure/memory";

/// A trigger for this group if the kernel counts for groups, else for the machine.
pub fn trigger(group: &Path) -> io::Result<OwnedFd> {
    open(&group.join("memory.pressure")).or_else(|_| open(Path::new(MACHINE)))
}

fn open(file: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let descriptor = rustix::fs::open(file, flags, Mode::empty())?;
    match rustix::io::write(&descriptor, TRIGGER)? {
        length if length == TRIGGER.len() => Ok(descriptor),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}
