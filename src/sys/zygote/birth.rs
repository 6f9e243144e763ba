//! What a forked child does before any code of a function runs in it.
//!
//! An instance is born as root of its zygote's user namespace, in new mount, pid, ipc and uts
//! namespaces that are copies of the zygote's. In this order it:
//!
//! ```text
//!   attaches /packages, /handler, /tmp, /host  (detached mounts)       as root of the namespace
//!   mounts its own /proc, takes its host name, enters its network      as root of the namespace
//!   limits its resources, leaves the session, takes its descriptors
//!   becomes its own user: no capability is left
//!   asks to die with the worker                             (forgotten when ids change)
//!   closes the last doors                                   (the last system call filter)
//! ```
//!
//! A standby is born before anybody knows whose instance it will be: it does what the same is for
//! all (its /tmp, /host and /proc, leaving the session) and the rest when its order comes.
//!
//! The zygote's root needs no replacement: it is made of the same read-only mounts, and only /tmp
//! differs. Keeping it saves a third of a birth against pivoting into another one.

use super::super::{mount, process, seccomp};
use super::{BIRTH_FAILED, CONNECTION, CONTROL, NO_FILTER_VARIABLE, SEEN, by_role};
use crate::wire::answer::FailureCode;
use crate::wire::reply::encode_failure;
use crate::wire::text::Texts;
use crate::wire::zygote::{ForkInstance, ForkStandby, ProcessLimits, Role, Roles};
use rustix::fs::{Gid, Mode, Uid};
use rustix::mount::MountFlags;
use rustix::process::Resource;
use rustix::thread::{LinkNameSpaceType, set_thread_res_gid, set_thread_res_uid};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

/// Where the packages of a function or of a zygote's node are seen.
const PACKAGES: &core::ffi::CStr = c"/packages";
/// Standard streams end here; what a child keeps besides has numbers above them.
const STDOUT: i32 = 1;
const STDERR: i32 = 2;
const FIRST_UNUSED: i32 = 5;

/// Which step failed, and how.
#[derive(Debug)]
struct BirthError {
    step: &'static str,
    error: io::Error,
}

/// Tells the step of an error.
trait At<T> {
    fn at(self, step: &'static str) -> Result<T, BirthError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &'static str) -> Result<T, BirthError> {
        self.map_err(|error| BirthError {
            step,
            error: error.into(),
        })
    }
}

/// How much of a birth there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// What a standby has not done yet.
    Rest,
}

/// Comes back jailed, or not at all: a failure is told through the connection.
pub(super) fn become_instance(fork: &ForkInstance<'_>, descriptors: Vec<OwnedFd>, part: Part) {
    if let Err(failed) = confine(fork, &descriptors, part) {
        let connection = by_role(fork.roles, Role::Connection, &descriptors);
        tell(connection.expect("checked before the fork"), &failed);
        process::exit_now(BIRTH_FAILED);
    }
    // They have been closed by number.
    core::mem::forget(descriptors);
}

/// The child that waits for its order in a control socket of its own.
pub(super) fn become_standby(fork: &ForkStandby<'_>, descriptors: Vec<OwnedFd>) -> io::Result<()> {
    let prepared = attach_mounts(fork.roles, fork.mounts, &descriptors)
        .and_then(|()| leave_zygote())
        .map_err(|failed| failed.error);
    prepared?;
    let control = by_role(fork.roles, Role::Control, &descriptors);
    let control = control.expect("checked before the fork");
    // SAFETY: the zygote's control socket belongs to nobody in this process any more.
    unsafe { process::place(control, CONTROL)? };
    // SAFETY: as in `take_descriptors`.
    unsafe { process::close_from(FIRST_UNUSED)? };
    core::mem::forget(descriptors);
    // A worker that has gone meanwhile hangs up, which is the next thing this process hears. One
    // that has sent the order may hang up, too: the socket is not asked here whether it did.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// The child of a zygote that will be one: another control socket, other streams, other packages,
/// the same rights.
pub(super) fn become_zygote(
    roles: Roles,
    new_control: BorrowedFd<'_>,
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    if let Some(packages) = by_role(roles, Role::Packages, descriptors) {
        mount::attach_at(packages, PACKAGES)?;
    }
    take_streams(roles, descriptors)?;
    // SAFETY: the parent's control socket belongs to nobody in this process any more.
    unsafe { process::place(new_control, CONTROL)? };
    process::die_with_parent(super::control())
}

fn confine(fork: &ForkInstance<'_>, descriptors: &[OwnedFd], part: Part) -> Result<(), BirthError> {
    attach_mounts(fork.roles, fork.mounts, descriptors)?;
    if part == Part::Whole {
        leave_zygote()?;
    }
    rustix::system::sethostname(fork.hostname).at("set the host name")?;
    if let Some(network) = by_role(fork.roles, Role::Network, descriptors) {
        let kind = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(network, kind).at("enter the network")?;
    }
    limit_resources(&fork.limits).at("limit resources")?;
    take_descriptors(fork.roles, descriptors).at("take descriptors")?;
    become_user(fork.uid, fork.gid)?;
    // SAFETY: take_descriptors has just put the connection there.
    let connection = unsafe { BorrowedFd::borrow_raw(CONNECTION) };
    process::die_with_parent(connection).at("tie its life to the worker's")?;
    if std::env::var_os(NO_FILTER_VARIABLE).is_none() {
        seccomp::install(&seccomp::last()).at("install the system call filter")?;
    }
    Ok(())
}

/// What is the same for all instances.
fn leave_zygote() -> Result<(), BirthError> {
    let proc_flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"proc", c"/proc", c"proc", proc_flags, None).at("mount /proc")?;
    rustix::process::setsid().at("leave the session")?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    Ok(())
}

fn attach_mounts(
    roles: Roles,
    paths: Texts<'_>,
    descriptors: &[OwnedFd],
) -> Result<(), BirthError> {
    if let Some(packages) = by_role(roles, Role::Packages, descriptors) {
        mount::attach_at(packages, PACKAGES).at("attach its packages")?;
    }
    let trees = &descriptors[roles.count()..];
    for (path, tree) in paths.iter().zip(trees) {
        let path = CString::new(path).expect("texts hold no NUL");
        mount::attach_at(tree.as_fd(), &path).at("attach a mount")?;
    }
    Ok(())
}

fn limit_resources(limits: &ProcessLimits) -> io::Result<()> {
    for (resource, value) in [
        (Resource::Nofile, limits.open_files),
        (Resource::Nproc, limits.processes),
        (Resource::Fsize, limits.file_bytes),
        (Resource::As, limits.address_space_bytes),
    ] {
        if value != ProcessLimits::UNLIMITED {
            process::limit(resource, value)?;
        }
    }
    Ok(())
}

fn take_streams(roles: Roles, descriptors: &[OwnedFd]) -> io::Result<()> {
    for (role, number) in [(Role::Stdout, STDOUT), (Role::Stderr, STDERR)] {
        if let Some(stream) = by_role(roles, role, descriptors) {
            // SAFETY: standard streams are named by number; received descriptors lie above 4.
            unsafe { process::place(stream, number)? };
        }
    }
    Ok(())
}

fn take_descriptors(roles: Roles, descriptors: &[OwnedFd]) -> io::Result<()> {
    take_streams(roles, descriptors)?;
    for (role, number) in [(Role::Connection, CONNECTION), (Role::Seen, SEEN)] {
        if let Some(descriptor) = by_role(roles, role, descriptors) {
            debug_assert!(
                descriptor.as_raw_fd() > SEEN,
                "0 to 4 are taken in every zygote"
            );
            // SAFETY: 3 and 4 were the zygote's control socket and library, which end here.
            unsafe { process::place(descriptor, number)? };
        }
    }
    // SAFETY: whoever owns one of the others (the list of descriptors, imported packages) is told
    // to forget it, or belongs to code that has to live with a fork that closes everything.
    unsafe { process::close_from(FIRST_UNUSED) }
}

fn become_user(uid: u32, gid: u32) -> Result<(), BirthError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(gid, gid, gid).at("take its group")?;
    set_thread_res_uid(uid, uid, uid).at("take its user")?;
    // Else its own /proc/self belongs to nobody: what changes ids is not dumpable.
    let dumpable = rustix::process::DumpableBehavior::Dumpable;
    rustix::process::set_dumpable_behavior(dumpable).at("own its /proc")
}

fn tell(connection: BorrowedFd<'_>, failed: &BirthError) {
    let detail = format!("could not {}: {}", failed.step, failed.error);
    let mut frame = Vec::new();
    encode_failure(FailureCode::SandboxFailed, &detail, "", true, &mut frame);
    // The descriptors may have been closed by number already.
    for descriptor in [connection.as_raw_fd(), CONNECTION] {
        // SAFETY: only written to; when it is no open descriptor, that fails.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        if rustix::net::send(descriptor, &frame, rustix::net::SendFlags::NOSIGNAL).is_ok() {
            return;
        }
    }
}
