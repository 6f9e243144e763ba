//! Sandboxes of installers and of other errands of the worker's own: a process that does one thing
//! to one directory and ends.
//!
//! Like an instance it has a user without rights, namespaces, a cgroup and a filter of its own; it
//! serves nobody, and may write to what is mounted for it. All errands are one family: those that
//! only unpack share a user, since they share a cache; each of the others has one to itself.

use super::{FamilyKey, SandboxError, Sandboxes};
use crate::host::cgroup::{Group, Limits};
use crate::host::death::{self, Cause};
use crate::host::jail;
use crate::host::packages::Installing;
use crate::sys::launch::{Launch, LaunchNetwork, LaunchRole};
use crate::sys::mount::{self, Attributes};
use crate::sys::scm;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::process::{Resource, Signal, pidfd_send_signal};
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Open files of an errand.
const OPEN_FILES: u64 = 4096;
/// The longest file it may write: far above any package.
const FILE_BYTES: u64 = 4 << 30;
/// Where its line to the worker is.
const LIFELINE: i32 = 3;
/// Errands that may run code of strangers at once: each has a user of its own.
pub const USERS_MAX: u32 = 64;
const HOSTNAME: &[u8] = b"installer";

/// Who an errand runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The one who owns the shared cache.
    Shared,
    /// One of [`USERS_MAX`].
    Alone(u32),
}

impl User {
    fn number(self) -> u32 {
        match self {
            Self::Shared => 1,
            Self::Alone(number) => {
                assert!(
                    number < USERS_MAX,
                    "errands are numbered within their bound"
                );
                2 + number
            }
        }
    }
}

/// What an errand may use.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub limits: Limits,
    /// Its /tmp, which is memory.
    pub scratch_bytes: u64,
    pub network: bool,
}

/// One that runs.
#[derive(Debug)]
pub struct Running {
    family: FamilyKey,
    group: Group,
    pid: i32,
    pidfd: OwnedFd,
    /// Closed when this goes.
    _lifeline: OwnedFd,
}

impl Running {
    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The first process of a pid namespace takes all others with it.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// To be asked when the pidfd is readable: reaps it and tells the cause.
    pub fn ended(&self) -> io::Result<Option<Cause>> {
        death::of(self.pidfd.as_fd(), &self.group)
    }
}

impl Sandboxes {
    /// The id by which the host knows a user of errands.
    pub fn errand_owner(&mut self, user: User) -> Result<u32, SandboxError> {
        let family = self.errands()?;
        Ok(self.home_of(family).first_host_id() + user.number())
    }

    /// Errands have a family of their own, founded with the first.
    fn errands(&mut self) -> Result<FamilyKey, SandboxError> {
        if let Some(family) = self.errands {
            return Ok(family);
        }
        let family = self.found()?;
        self.errands = Some(family);
        Ok(family)
    }

    /// Runs what was prepared.
    pub fn start_errand(
        &mut self,
        installing: &Installing,
        user: User,
        allowance: Allowance,
    ) -> Result<Running, SandboxError> {
        let family = self.errands()?;
        let group = self.home(family).take_group(allowance.limits)?;
        match self.launch_errand(family, &group, installing, user, allowance) {
            Ok((pid, pidfd, lifeline)) => {
                self.alive.insert(pid);
                Ok(Running {
                    family,
                    group,
                    pid,
                    pidfd,
                    _lifeline: lifeline,
                })
            }
            Err(error) => {
                self.home(family).give_back_group(group);
                Err(error.into())
            }
        }
    }

    /// Takes back what a dead one had.
    pub fn bury_errand(&mut self, errand: Running) {
        self.alive.remove(&errand.pid);
        self.home(errand.family).give_back_group(errand.group);
    }

    fn launch_errand(
        &mut self,
        family: FamilyKey,
        group: &Group,
        installing: &Installing,
        user: User,
        allowance: Allowance,
    ) -> io::Result<(i32, OwnedFd, OwnedFd)> {
        self.base.follow_host()?;
        let (lifeline, other) = scm::pair()?;
        let root = self.base.root()?;
        let tmp = jail::scratch(allowance.scratch_bytes)?;
        let mut trees = Vec::with_capacity(installing.mounts.len());
        for mount in &installing.mounts {
            trees.push(if mount.is_writable {
                writable(&mount.source)?
            } else {
                jail::read_only(&mount.source)?
            });
        }
        let places = installing.mounts.iter().zip(&trees);
        let places = places.map(|(mount, tree)| (mount.place.as_c_str(), tree.as_fd()));
        let mounts: Vec<(&CStr, BorrowedFd<'_>)> = places.chain([(c"/tmp", tmp.as_fd())]).collect();
        let home = self.home_of(family);
        let number = user.number();
        let uid = match home.user_namespace() {
            Some(_) => number,
            None => home.first_host_id() + number,
        };
        let launch = Launch {
            cgroup: Some(group.descriptor()),
            user_namespace: home.user_namespace(),
            root: root.as_fd(),
            staging: self.base.staging(),
            mounts: &mounts,
            role: LaunchRole::Instance {
                uid,
                gid: uid,
                network: if allowance.network {
                    LaunchNetwork::Host
                } else {
                    LaunchNetwork::New
                },
            },
            hostname: HOSTNAME,
            limits: &[
                (Resource::Nofile, OPEN_FILES),
                (Resource::Fsize, FILE_BYTES),
                (Resource::Nproc, u64::from(allowance.limits.processes)),
            ],
            descriptors: &[
                (other.as_fd(), LIFELINE),
                (self.null.as_fd(), 0),
                (installing.log.as_fd(), 1),
                (installing.log.as_fd(), 2),
            ],
            program: &installing.program,
            arguments: &installing.arguments,
            environment: &installing.environment,
            filter: self.filter.as_deref(),
        };
        let (pid, pidfd) = launch.start()?;
        Ok((pid.as_raw_nonzero().get(), pidfd, lifeline))
    }
}

/// A directory that an errand may write to: no setuid programs, no devices.
fn writable(directory: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    let copy = mount::copy_of(CWD, &path, false)?;
    mount::restrict(
        copy.as_fd(),
        Attributes::NO_SETUID.and(Attributes::NO_DEVICES),
        false,
    )?;
    Ok(copy)
}
