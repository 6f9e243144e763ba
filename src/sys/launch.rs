//! Starting a program in a jail, from the worker: the first interpreter of a zygote tree, and
//! instances that want a fresh one.
//!
//! The child is the worker's, with host root's rights until it enters the user namespace. It makes
//! its mounts before that, then copies its mount namespace once more inside: mounts copied into a
//! less privileged namespace keep read-only, nosuid and nodev whatever root in there says.
//!
//! Everything between clone and exec happens on prepared memory: other threads of the worker may
//! have held the allocator's lock at the clone, and nobody is left to release it.

use super::clone::{CloneFlags, Forked, clone3};
use super::zygote::BIRTH_FAILED;
use super::{mount, network_namespace, process, seccomp};
use core::ffi::{CStr, c_char};
use core::fmt::Write as _;
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Resource};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags};
use seccompiler::sock_filter;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

/// Descriptors a launched program may be given.
pub const DESCRIPTORS_MAX: usize = 8;
/// Targets are below it, sources are moved above it first.
const NUMBER_MAX: RawFd = 64;

/// What a zygote still needs inside its namespace: to clone, to mount, to change ids.
const ZYGOTE_CAPABILITIES: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// Everything about the program to be.
#[derive(Debug)]
pub struct Launch<'a> {
    pub cgroup: Option<BorrowedFd<'a>>,
    /// None: ids and rights are the host's.
    pub user_namespace: Option<BorrowedFd<'a>>,
    /// Detached; becomes its root.
    pub root: BorrowedFd<'a>,
    /// A directory of the worker's where the root can be attached for a moment.
    pub staging: &'a CStr,
    /// More detached mounts, and where they go below the new root.
    pub mounts: &'a [(&'a CStr, BorrowedFd<'a>)],
    pub role: LaunchRole<'a>,
    pub hostname: &'a [u8],
    pub limits: &'a [(Resource, u64)],
    /// Its descriptors and their numbers. The first is its line to the worker.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    pub program: &'a CStr,
    pub arguments: &'a [CString],
    pub environment: &'a [CString],
    /// None: system calls are not filtered.
    pub filter: Option<&'a [sock_filter]>,
}

/// What it will be.
#[derive(Debug, Clone, Copy)]
pub enum LaunchRole<'a> {
    /// Root of its user namespace, in the worker's pid namespace (else it could not make siblings).
    Zygote,
    /// A user without rights, first process of its own pid namespace.
    Instance {
        uid: u32,
        gid: u32,
        network: LaunchNetwork<'a>,
    },
}

/// Which network a launched instance has.
#[derive(Debug, Clone, Copy)]
pub enum LaunchNetwork<'a> {
    Host,
    /// A new one, empty.
    New,
    /// One that exists.
    Join(BorrowedFd<'a>),
}

/// A line for the log, without allocating.
struct Line {
    bytes: [u8; 160],
    length: usize,
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.length..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

type Step = Result<(), (&'static str, io::Error)>;

fn at<T, E: Into<io::Error>>(
    step: &'static str,
    result: Result<T, E>,
) -> Result<T, (&'static str, io::Error)> {
    result.map_err(|error| (step, error.into()))
}

impl Launch<'_> {
    /// Starts it. What fails in the child is one line on its stderr, and exit code
    /// [`BIRTH_FAILED`].
    pub fn start(&self) -> io::Result<(Pid, OwnedFd)> {
        assert!(
            self.descriptors.len() <= DESCRIPTORS_MAX,
            "callers know how many they pass"
        );
        let arguments = pointers(self.arguments);
        let environment = pointers(self.environment);
        let mut flags = CloneFlags::NEW_MOUNT
            .and(CloneFlags::NEW_IPC)
            .and(CloneFlags::NEW_UTS);
        if let LaunchRole::Instance { network, .. } = self.role {
            flags = flags.and(CloneFlags::NEW_PID);
            if matches!(network, LaunchNetwork::New) {
                flags = flags.and(CloneFlags::NEW_NET);
            }
        }
        // SAFETY: the child makes system calls on what is prepared, then execs or exits.
        match unsafe { clone3(flags, self.cgroup)? } {
            Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
            Forked::Child => {
                let failed = self.confine().err();
                let (step, error) = failed.unwrap_or_else(|| {
                    // SAFETY: both lists were made by `pointers` and are still borrowed.
                    let error = unsafe { process::execute(self.program, &arguments, &environment) };
                    ("start the interpreter", error)
                });
                let mut line = Line {
                    bytes: [0; 160],
                    length: 0,
                };
                let errno = error.raw_os_error().unwrap_or(0);
                let _ = writeln!(line, "olworker: sandbox: could not {step}: errno {errno}");
                let _ = rustix::io::write(io::stderr(), &line.bytes[..line.length]);
                process::exit_now(BIRTH_FAILED)
            }
        }
    }

    fn confine(&self) -> Step {
        at("reset signals", process::reset_signals())?;
        at(
            "leave the keyring",
            tolerate(process::join_new_keyring(), libc::ENOSYS),
        )?;
        self.enter_root()?;
        at(
            "set the host name",
            rustix::system::sethostname(self.hostname),
        )?;
        at("leave the session", rustix::process::setsid())?;
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
        if let LaunchRole::Instance {
            network: LaunchNetwork::Join(network),
            ..
        } = self.role
        {
            let kind = Some(LinkNameSpaceType::Network);
            at(
                "enter the network",
                rustix::thread::move_into_link_name_space(network, kind),
            )?;
        }
        if let LaunchRole::Instance {
            network: LaunchNetwork::New,
            ..
        } = self.role
        {
            at("raise the loopback", network_namespace::raise_loopback())?;
        }
        at("forbid core dumps", process::forbid_core_dumps())?;
        self.enter_user_namespace()?;
        // Before the limits: among the worker's thousands there may be no free number below them.
        self.take_descriptors()?;
        for (resource, value) in self.limits {
            at("limit resources", process::limit(*resource, *value))?;
        }
        self.become_user()?;
        // SAFETY: take_descriptors has just put the line to the worker there.
        let lifeline = unsafe { BorrowedFd::borrow_raw(self.descriptors[0].1) };
        at(
            "tie its life to the worker's",
            process::die_with_parent(lifeline),
        )?;
        at(
            "give up new privileges",
            rustix::thread::set_no_new_privs(true),
        )?;
        if let Some(filter) = self.filter {
            at("filter system calls", seccomp::install(filter))?;
            if let LaunchRole::Instance { .. } = self.role {
                at("filter system calls", seccomp::install(&seccomp::last()))?;
            }
        }
        Ok(())
    }

    fn enter_root(&self) -> Step {
        // What is mounted in here must not reach the worker, nor what the host mounts reach us.
        let private = rustix::mount::MountPropagationFlags::REC
            | rustix::mount::MountPropagationFlags::PRIVATE;
        at(
            "leave the host's mounts",
            rustix::mount::mount_change(c"/", private),
        )?;
        at("attach the root", mount::attach_at(self.root, self.staging))?;
        at("enter the root", rustix::process::chdir(self.staging))?;
        at("enter the root", rustix::process::pivot_root(c".", c"."))?;
        at(
            "leave the old root",
            rustix::mount::unmount(c".", UnmountFlags::DETACH),
        )?;
        at("enter the root", rustix::process::chdir(c"/"))?;
        for (path, tree) in self.mounts {
            at("attach a mount", mount::attach_at(*tree, path))?;
        }
        if let LaunchRole::Instance { .. } = self.role {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            at(
                "mount /proc",
                rustix::mount::mount(c"proc", c"/proc", c"proc", flags, None),
            )?;
        }
        Ok(())
    }

    fn enter_user_namespace(&self) -> Step {
        let Some(namespace) = self.user_namespace else {
            return Ok(());
        };
        let kind = Some(LinkNameSpaceType::User);
        at(
            "enter the user namespace",
            rustix::thread::move_into_link_name_space(namespace, kind),
        )?;
        // SAFETY: only the mount namespace is unshared; the table of descriptors stays.
        let copied = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
        at("lock the mounts", copied)
    }

    fn take_descriptors(&self) -> Step {
        let mut moved = [-1; DESCRIPTORS_MAX];
        for ((source, _), place) in self.descriptors.iter().zip(&mut moved) {
            // SAFETY: an integer command on a descriptor that is borrowed.
            *place = unsafe { libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, NUMBER_MAX) };
            if *place < 0 {
                return Err(("take descriptors", io::Error::last_os_error()));
            }
        }
        let mut first_unused = 3;
        for ((_, number), source) in self.descriptors.iter().zip(moved) {
            assert!(*number < NUMBER_MAX, "targets are small");
            // SAFETY: the copy was made above and is open.
            let source = unsafe { BorrowedFd::borrow_raw(source) };
            // SAFETY: nobody in this process uses a descriptor by its old number from here on.
            at("take descriptors", unsafe {
                process::place(source, *number)
            })?;
            first_unused = first_unused.max(number + 1);
        }
        // SAFETY: as above; exec follows.
        at("close descriptors", unsafe {
            process::close_from(first_unused)
        })
    }

    fn become_user(&self) -> Step {
        let (uid, gid) = match self.role {
            LaunchRole::Instance { uid, gid, .. } => (Uid::from_raw(uid), Gid::from_raw(gid)),
            LaunchRole::Zygote => (Uid::ROOT, Gid::ROOT),
        };
        at("drop capabilities", self.shrink_capabilities())?;
        at("leave its groups", rustix::thread::set_thread_groups(&[]))?;
        at(
            "take its group",
            rustix::thread::set_thread_res_gid(gid, gid, gid),
        )?;
        at(
            "take its user",
            rustix::thread::set_thread_res_uid(uid, uid, uid),
        )
    }

    /// At exec root gets what is in the bounding set; others get nothing anyway.
    fn shrink_capabilities(&self) -> rustix::io::Result<()> {
        let kept = match self.role {
            LaunchRole::Zygote => ZYGOTE_CAPABILITIES,
            LaunchRole::Instance { .. } => CapabilitySet::empty(),
        };
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            if kept.contains(one) {
                continue;
            }
            match rustix::thread::remove_capability_from_bounding_set(one) {
                Ok(()) => {}
                // Above the newest capability of this kernel.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(error),
            }
        }
        rustix::thread::clear_ambient_capability_set()
    }
}

/// What an old or stripped kernel does not have is no failure.
fn tolerate(result: io::Result<()>, errno: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        other => other,
    }
}

/// A list as execve wants it. Borrowed from `texts`.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts
        .iter()
        .map(|text| text.as_ptr())
        .chain([core::ptr::null()])
        .collect()
}
