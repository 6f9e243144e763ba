//! What this kernel lets this process do. Everything is tried, nothing is inferred from a version:
//! containers, seccomp filters and sysctls take away what a version promises.
//!
//! The tries leave nothing behind: children end at once, mounts stay detached, the one cgroup is
//! removed again.

use super::clone::{CloneFlags, Forked, clone3};
use super::mount::{self, Attributes};
use super::{process, wait};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub feature: Feature,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It works; more about it, perhaps.
    Works(String),
    Fails {
        why: String,
    },
}

impl Answer {
    pub const fn works(&self) -> bool {
        matches!(self, Self::Works(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Clone3,
    Pidfd,
    Namespaces,
    NetworkNamespace,
    UserNamespace,
    MountApi,
    MountSetattr,
    Seccomp,
    CloseRange,
    Memfd,
    CloneIntoCgroup,
    CgroupFreeze,
    CgroupKill,
    IoUring,
}

impl Feature {
    pub const ALL: [Self; 14] = [
        Self::Clone3,
        Self::Pidfd,
        Self::Namespaces,
        Self::NetworkNamespace,
        Self::UserNamespace,
        Self::MountApi,
        Self::MountSetattr,
        Self::Seccomp,
        Self::CloseRange,
        Self::Memfd,
        Self::CloneIntoCgroup,
        Self::CgroupFreeze,
        Self::CgroupKill,
        Self::IoUring,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Clone3 => "clone3",
            Self::Pidfd => "pidfd",
            Self::Namespaces => "mount, pid, ipc, uts namespaces",
            Self::NetworkNamespace => "network namespaces",
            Self::UserNamespace => "user namespaces",
            Self::MountApi => "mount API",
            Self::MountSetattr => "mount_setattr",
            Self::Seccomp => "seccomp filters",
            Self::CloseRange => "close_range",
            Self::Memfd => "memfd with seals",
            Self::CloneIntoCgroup => "clone3 into a cgroup",
            Self::CgroupFreeze => "cgroup.freeze",
            Self::CgroupKill => "cgroup.kill",
            Self::IoUring => "io_uring",
        }
    }

    /// What goes without it; `None`: no sandbox does.
    pub const fn without(self) -> Option<&'static str> {
        match self {
            Self::IoUring => Some("epoll serves instead"),
            Self::UserNamespace => Some("only with sandbox.user_namespace = false"),
            Self::NetworkNamespace => Some("only functions with network = \"host\""),
            Self::Seccomp => Some("only with features.enable_seccomp = false"),
            Self::CgroupFreeze => Some("idle instances are not frozen"),
            _ => None,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Tries everything. `group` is a cgroup below which one may be made.
pub fn all(group: Result<&Path, String>) -> Vec<Probe> {
    let mut probes: Vec<Probe> = Vec::with_capacity(Feature::ALL.len());
    let mut say = |feature, answer| probes.push(Probe { feature, answer });
    say(Feature::Clone3, answer(child(CloneFlags::default())));
    say(Feature::Pidfd, answer(pidfd()));
    say(Feature::Namespaces, answer(child(namespaces())));
    say(
        Feature::NetworkNamespace,
        answer(child(CloneFlags::NEW_NET)),
    );
    say(Feature::UserNamespace, user_namespace());
    let file_system = mount::new_file_system(c"tmpfs", &[], Attributes::NO_SETUID);
    say(
        Feature::MountApi,
        answer(file_system.as_ref().map(|_| ()).map_err(copy_of)),
    );
    say(
        Feature::MountSetattr,
        answer(file_system.and_then(|tree| restrict(&tree))),
    );
    say(Feature::Seccomp, answer(seccomp()));
    say(Feature::CloseRange, answer(close_range()));
    say(Feature::Memfd, answer(sealed_memfd()));
    for (feature, answer) in cgroup(group) {
        say(feature, answer);
    }
    say(Feature::IoUring, io_uring());
    probes
}

fn answer(tried: io::Result<()>) -> Answer {
    match tried {
        Ok(()) => Answer::Works(String::new()),
        Err(error) => Answer::Fails {
            why: reason(&error),
        },
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel, or a filter, does not know it".to_owned(),
        Some(libc::EPERM | libc::EACCES) if !rustix::process::geteuid().is_root() => {
            "not permitted to an ordinary user".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => {
            "not permitted, even to root: a capability or a container's filter".to_owned()
        }
        _ => error.to_string(),
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    )
}

fn namespaces() -> CloneFlags {
    let kinds = [
        CloneFlags::NEW_PID,
        CloneFlags::NEW_IPC,
        CloneFlags::NEW_UTS,
    ];
    kinds
        .into_iter()
        .fold(CloneFlags::NEW_MOUNT, CloneFlags::and)
}

/// A child that ends at once.
fn child(flags: CloneFlags) -> io::Result<()> {
    // SAFETY: the child calls nothing but _exit.
    match unsafe { clone3(flags, None) }? {
        Forked::Child => process::exit_now(0),
        Forked::Parent { pidfd, .. } => wait::wait(pidfd.as_fd()).map(|_| ()),
    }
}

fn pidfd() -> io::Result<()> {
    let own = rustix::process::getpid();
    Ok(rustix::process::pidfd_open(own, PidfdFlags::empty()).map(|_: OwnedFd| ())?)
}

fn user_namespace() -> Answer {
    let mut sysctls = Vec::new();
    for name in [
        "user/max_user_namespaces",
        "kernel/unprivileged_userns_clone",
        "kernel/apparmor_restrict_unprivileged_userns",
    ] {
        if let Some(value) = sysctl(name) {
            sysctls.push(format!("{} = {value}", name.replace('/', ".")));
        }
    }
    let sysctls = sysctls.join(", ");
    match child(CloneFlags::NEW_USER) {
        Ok(()) => Answer::Works(sysctls),
        Err(error) => Answer::Fails {
            why: format!("{} ({sysctls})", reason(&error)),
        },
    }
}

fn sysctl(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim().to_owned())
}

fn restrict(tree: &OwnedFd) -> io::Result<()> {
    mount::restrict(tree.as_fd(), Attributes::READ_ONLY, false)
}

fn seccomp() -> io::Result<()> {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: asks whether an action is known; reads the one word.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn close_range() -> io::Result<()> {
    // SAFETY: no descriptor has the greatest number there is: limits are far below it.
    unsafe { process::close_from(i32::MAX) }
}

fn sealed_memfd() -> io::Result<()> {
    let file = rustix::fs::memfd_create(
        c"olworker-probe",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?;
    Ok(rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::SEAL,
    )?)
}

/// Entries of the smallest ring.
const RING_ENTRIES: u32 = 2;

fn io_uring() -> Answer {
    match io_uring::IoUring::new(RING_ENTRIES) {
        Ok(_) => Answer::Works(String::new()),
        Err(error) => {
            let disabled = sysctl("kernel/io_uring_disabled").filter(|value| value != "0");
            let why = match disabled {
                Some(value) => format!("{} (kernel.io_uring_disabled = {value})", reason(&error)),
                None => reason(&error),
            };
            Answer::Fails { why }
        }
    }
}

/// A cgroup of the probe's own, with a child in it; gone with this value.
struct Group {
    path: PathBuf,
    child: Option<OwnedFd>,
}

impl Group {
    fn make(below: &Path) -> io::Result<Self> {
        let path = below.join(format!("olworker-probe-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self { path, child: None })
    }

    /// A child that was born in the group, and waits to be killed.
    fn populate(&mut self) -> io::Result<()> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let group = rustix::fs::open(&self.path, directory, Mode::empty())?;
        // SAFETY: the child only sleeps in the kernel, and ends if it ever wakes.
        match unsafe { clone3(CloneFlags::default(), Some(group.as_fd())) }? {
            Forked::Child => {
                rustix::event::pause();
                process::exit_now(0)
            }
            Forked::Parent { pid, pidfd } => {
                self.child = Some(pidfd);
                self.holds(pid)
            }
        }
    }

    fn holds(&self, pid: Pid) -> io::Result<()> {
        let pids = fs::read_to_string(self.path.join("cgroup.procs"))?;
        let pid = pid.as_raw_nonzero().to_string();
        if pids.lines().any(|line| line == pid) {
            Ok(())
        } else {
            Err(io::Error::other("the child was born elsewhere"))
        }
    }

    fn write(&self, file: &str) -> io::Result<()> {
        fs::write(self.path.join(file), "1")
    }

    fn kill(&mut self) -> io::Result<()> {
        self.write("cgroup.kill")?;
        match self.child.take() {
            Some(child) => wait::wait(child.as_fd()).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            end(child.as_fd());
        }
        // Where it cannot be removed it is empty, and the next worker that starts here clears it.
        let _ = fs::remove_dir(&self.path);
    }
}

fn end(child: BorrowedFd<'_>) {
    // A child that is not there any more is what is wanted.
    let _ = rustix::process::pidfd_send_signal(child, Signal::KILL);
    let _ = wait::wait(child);
}

fn cgroup(below: Result<&Path, String>) -> [(Feature, Answer); 3] {
    let all = |answer: &Answer| {
        let features = [
            Feature::CloneIntoCgroup,
            Feature::CgroupFreeze,
            Feature::CgroupKill,
        ];
        features.map(|feature| (feature, answer.clone()))
    };
    let below = match below {
        Ok(below) => below,
        Err(why) => return all(&Answer::Fails { why }),
    };
    let mut group = match Group::make(below) {
        Ok(group) => group,
        Err(error) => {
            let why = format!(
                "no group can be made in {}: {}",
                below.display(),
                reason(&error)
            );
            return all(&Answer::Fails { why });
        }
    };
    let born = answer(group.populate());
    let freeze = answer(group.write("cgroup.freeze"));
    let kill = answer(group.kill());
    [
        (Feature::CloneIntoCgroup, born),
        (Feature::CgroupFreeze, freeze),
        (Feature::CgroupKill, kill),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_tried_once() {
        let probes = all(Err("no group".to_owned()));
        let tried: Vec<_> = probes.iter().map(|probe| probe.feature).collect();
        assert_eq!(tried, Feature::ALL);
        let into_cgroup = probes
            .iter()
            .find(|p| p.feature == Feature::CloneIntoCgroup)
            .unwrap();
        assert_eq!(
            into_cgroup.answer,
            Answer::Fails {
                why: "no group".to_owned()
            }
        );
        // No kernel this compiles for lacks these, and no filter in use takes them away.
        for feature in [Feature::Pidfd, Feature::Memfd] {
            let probe = probes.iter().find(|p| p.feature == feature).unwrap();
            assert!(probe.answer.works(), "{probe:?}");
        }
    }

    #[test]
    fn a_group_that_cannot_be_made_is_told_with_its_place() {
        let [(_, answer), ..] = cgroup(Ok(Path::new("/nonexistent")));
        let Answer::Fails { why } = answer else {
            panic!("a group in /nonexistent");
        };
        assert!(
            why.starts_with("no group can be made in /nonexistent: "),
            "{why}"
        );
    }
}
