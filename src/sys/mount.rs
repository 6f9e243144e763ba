//! mount_setattr(2) and short forms of the mount API calls that rustix has.
//!
//! Nothing here attaches a mount anywhere by itself: file systems and trees are made detached,
//! travel as descriptors, and are attached where they are wanted with [`attach`].

use core::ffi::CStr;
use core::mem::size_of;
use linux_raw_sys::general as kernel;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What holds for a mount, whatever the file system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u32);

impl Attributes {
    pub const READ_ONLY: Self = Self(kernel::MOUNT_ATTR_RDONLY);
    pub const NO_SETUID: Self = Self(kernel::MOUNT_ATTR_NOSUID);
    pub const NO_DEVICES: Self = Self(kernel::MOUNT_ATTR_NODEV);
    pub const NO_EXECUTION: Self = Self(kernel::MOUNT_ATTR_NOEXEC);

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Adds attributes to a mount, and to those below it when `recursive`.
pub fn restrict(tree: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let wanted = kernel::mount_attr {
        attr_set: u64::from(attributes.0),
        attr_clr: 0,
        // Nothing that happens to the original may reach the copy.
        propagation: 1 << 18, // MS_PRIVATE
        userns_fd: 0,
    };
    let recursion = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the attributes a mount_attr of the size given; the
    // kernel reads both and keeps neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursion,
            &raw const wanted,
            size_of::<kernel::mount_attr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A detached copy of what is mounted at `path` below `directory`, with its submounts when
/// `recursive`.
pub fn copy_of(directory: BorrowedFd<'_>, path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(directory, path, flags)?)
}

/// A new file system, detached.
pub fn new_file_system(
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(attributes.0);
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// Attaches a detached tree at `path` below `directory`.
pub fn attach(tree: BorrowedFd<'_>, directory: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", directory, path, flags)?)
}

/// Attaches a detached tree at an absolute path.
pub fn attach_at(tree: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    attach(tree, CWD, path)
}

/// Gives the calling thread a mount namespace of its own, a copy of the one it was in.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: neither the table of descriptors nor memory is unshared, only mounts and, with them,
    // what this thread calls its root and working directory.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS)? };
    Ok(())
}
