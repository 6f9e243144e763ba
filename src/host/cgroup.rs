//! The cgroups sandboxes live in, made ahead of need.
//!
//! ```text
//!   <root>/                 the worker's (host::service), with its own leaf beside
//!     sandboxes/            ceiling of all sandboxes together
//!       f0/ f1/ ...         one Branch for each family of zygotes
//!         z1 z2 ...         zygotes
//!         s1 s2 ...         instances: killed, thawed, checked, used again
//! ```
//!
//! A zygote, root only in its user namespace, clones children straight into groups of its branch.
//! The kernel wants it to have write access to `cgroup.procs` of the target and of the common
//! ancestor: those files, and nothing else, belong to the family's ids. Limits stay the worker's.
//! The common ancestor is the branch itself, so no family can touch another one's groups.

use super::service::groups::{self, Controller, Controllers};
use core::fmt::Write as _;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Below the worker's root: everything that is no part of the worker itself.
const SANDBOXES: &str = "sandboxes";
/// A group that is used again may hold this much of its last user (page cache); more is not worth
/// reclaiming, such a group is replaced.
const LEFT_BYTES_MAX: u64 = 1 << 20;
/// What one file of a group can tell.
const FILE_BYTES_MAX: usize = 4096;
/// Microseconds of a period of cpu.max.
const CPU_PERIOD_US: u64 = 100_000;

/// What the kernel enforces for a group, as far as it has the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub processes: u32,
    /// Of one processor; 0 is without limit.
    pub cpu_percent: u32,
}

/// The directory of all branches.
#[derive(Debug)]
pub struct Forest {
    path: PathBuf,
    directory: OwnedFd,
    enforced: Controllers,
    branches_made: u64,
}

/// The groups of one family.
#[derive(Debug)]
pub struct Branch {
    name: String,
    directory: OwnedFd,
    enforced: Controllers,
    /// Host id of the family's root; none where ids are the host's.
    owner: Option<u32>,
    groups_made: u64,
}

/// One group.
#[derive(Debug)]
pub struct Group {
    /// Below the branch.
    name: String,
    directory: OwnedFd,
    enforced: Controllers,
    limits: Option<Limits>,
    frozen: bool,
    /// `oom_kill` when it was handed out: the counter is never reset.
    oom_kills_before: u64,
}

/// The memory of a group whose kernel counts it.
#[derive(Debug)]
pub struct Account {
    directory: OwnedFd,
}

impl Account {
    /// Asks for memory back. False when the kernel found less than that, which is no error. Blocks.
    pub fn reclaim(&self, bytes: u64) -> io::Result<bool> {
        match write_number(self.directory.as_fd(), c"memory.reclaim", bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // Before Linux 5.19.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Charged to it now.
    pub fn memory_bytes(&self) -> io::Result<u64> {
        let directory = self.directory.as_fd();
        let parsed = read(directory, c"memory.current", |text| {
            text.trim().parse().ok()
        })?;
        parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// `cgroup.events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupState {
    pub populated: bool,
    pub frozen: bool,
}

impl Forest {
    /// Below the worker's own root. Whatever a dead worker left there is killed and removed.
    pub fn plant(root: &Path) -> io::Result<Self> {
        let path = root.join(SANDBOXES);
        if path.is_dir() {
            groups::end(&path)?;
        }
        groups::make(&path)?;
        for controller in groups::controllers(&path)?.iter() {
            groups::enable(&path, controller)?;
        }
        let directory = open_directory(&path)?;
        Ok(Self {
            enforced: groups::handed_down(&path)?,
            path,
            directory,
            branches_made: 0,
        })
    }

    /// What the kernel will hold sandboxes to.
    pub fn enforced(&self) -> Controllers {
        self.enforced
    }

    /// Of all sandboxes together; where the controller is there.
    pub fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        if !self.enforced.contains(Controller::Memory) {
            return Ok(());
        }
        write_number(self.directory.as_fd(), c"memory.max", bytes)
    }

    /// A new branch whose groups processes of `owner` may clone into.
    pub fn branch(&mut self, owner: Option<u32>) -> io::Result<Branch> {
        let name = format!("f{}", self.branches_made);
        self.branches_made += 1;
        let path = self.path.join(&name);
        groups::make(&path)?;
        for controller in self.enforced.iter() {
            groups::enable(&path, controller)?;
        }
        let directory = open_directory(&path)?;
        give(directory.as_fd(), owner)?;
        let enforced = groups::handed_down(&path)?;
        Ok(Branch {
            name,
            directory,
            enforced,
            owner,
            groups_made: 0,
        })
    }

    /// Removes a branch without groups. Fails while something of it is left.
    pub fn prune(&self, branch: &Branch) -> io::Result<()> {
        remove(self.directory.as_fd(), &branch.name)
    }

    /// Kills everything in all branches and removes them.
    pub fn fell(self) -> io::Result<()> {
        groups::end(&self.path)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Branch {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new group with these limits; `letter` says what for.
    pub fn group(&mut self, letter: char, limits: Option<Limits>) -> io::Result<Group> {
        self.groups_made += 1;
        let name = format!("{letter}{}", self.groups_made);
        let path = name_of(&name);
        match rustix::fs::mkdirat(&self.directory, &path, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&self.directory, &path, flags, Mode::empty())?;
        give(directory.as_fd(), self.owner)?;
        let mut group = Group {
            name,
            directory,
            enforced: self.enforced,
            limits: None,
            frozen: false,
            oom_kills_before: 0,
        };
        if let Some(limits) = limits {
            group.limit(limits)?;
        }
        Ok(group)
    }

    /// Removes a group in which nothing lives. Busy for a moment after the last process has ended.
    pub fn remove(&self, group: &Group) -> io::Result<()> {
        remove(self.directory.as_fd(), &group.name)
    }
}

impl Group {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What clone3 takes.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Sets what differs from the limits it has.
    pub fn limit(&mut self, limits: Limits) -> io::Result<()> {
        if self.limits == Some(limits) {
            return Ok(());
        }
        let directory = self.directory.as_fd();
        if self.enforced.contains(Controller::Memory) {
            write_number(directory, c"memory.max", limits.memory_bytes)?;
            match write_number(directory, c"memory.swap.max", limits.swap_bytes) {
                // A kernel without swap accounting.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            write_number(directory, c"memory.oom.group", 1)?;
        }
        if self.enforced.contains(Controller::Pids) {
            write_number(directory, c"pids.max", u64::from(limits.processes))?;
        }
        if self.enforced.contains(Controller::Cpu) {
            let mut text = Text {
                bytes: [0; 48],
                length: 0,
            };
            let quota = u64::from(limits.cpu_percent) * CPU_PERIOD_US / 100;
            let _ = match limits.cpu_percent {
                0 => write!(text, "max {CPU_PERIOD_US}"),
                _ => write!(text, "{quota} {CPU_PERIOD_US}"),
            };
            write_text(directory, c"cpu.max", text.as_bytes())?;
        }
        self.limits = Some(limits);
        Ok(())
    }

    /// Makes it ready for its next user: thawed, its limits set, its counters noted. False when
    /// something of the last one is left and it should be removed instead.
    pub fn renew(&mut self, limits: Limits) -> io::Result<bool> {
        if self.state()?.populated {
            return Ok(false);
        }
        if self.frozen {
            self.thaw()?;
        }
        if self.enforced.contains(Controller::Memory) {
            if self.memory_bytes()?.unwrap_or(0) > LEFT_BYTES_MAX {
                return Ok(false);
            }
            self.oom_kills_before = self.oom_kills_ever()?;
        }
        self.limit(limits)?;
        Ok(true)
    }

    pub fn state(&self) -> io::Result<GroupState> {
        read(self.directory.as_fd(), c"cgroup.events", |text| {
            GroupState {
                populated: field(text, "populated") == Some(1),
                frozen: field(text, "frozen") == Some(1),
            }
        })
    }

    /// Becomes ready (priority) whenever `state` changes, once that was read since the last time.
    pub fn events(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let name = c"cgroup.events";
        Ok(rustix::fs::openat(
            &self.directory,
            name,
            flags,
            Mode::empty(),
        )?)
    }

    /// Asks the freezer; `state` tells when it is done.
    pub fn freeze(&mut self) -> io::Result<()> {
        self.frozen = true;
        write_number(self.directory.as_fd(), c"cgroup.freeze", 1)
    }

    pub fn thaw(&mut self) -> io::Result<()> {
        write_number(self.directory.as_fd(), c"cgroup.freeze", 0)?;
        self.frozen = false;
        Ok(())
    }

    /// Kills everything in it, frozen or not.
    pub fn kill(&self) -> io::Result<()> {
        write_number(self.directory.as_fd(), c"cgroup.kill", 1)
    }

    /// The processes in it, without those that have ended.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        read(self.directory.as_fd(), c"cgroup.procs", |text| {
            text.lines().filter_map(|line| line.parse().ok()).collect()
        })
    }

    /// Charged to it now; none where nobody counts.
    pub fn memory_bytes(&self) -> io::Result<Option<u64>> {
        self.memory_file(c"memory.current")
    }

    /// The most there ever was, its earlier users included; none where nobody counts.
    pub fn memory_peak_bytes(&self) -> io::Result<Option<u64>> {
        self.memory_file(c"memory.peak")
    }

    /// Whether the kernel has killed for memory since the group was handed out.
    pub fn out_of_memory(&self) -> io::Result<bool> {
        if !self.enforced.contains(Controller::Memory) {
            return Ok(false);
        }
        Ok(self.oom_kills_ever()? > self.oom_kills_before)
    }

    /// What may be asked of its memory elsewhere than where the group is kept; none where nobody
    /// counts.
    pub fn account(&self) -> io::Result<Option<Account>> {
        if !self.enforced.contains(Controller::Memory) {
            return Ok(None);
        }
        let directory = self.directory.try_clone()?;
        Ok(Some(Account { directory }))
    }

    fn memory_file(&self, name: &core::ffi::CStr) -> io::Result<Option<u64>> {
        if !self.enforced.contains(Controller::Memory) {
            return Ok(None);
        }
        match read(self.directory.as_fd(), name, |text| {
            text.trim().parse().ok()
        }) {
            // memory.peak came with Linux 5.19.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other,
        }
    }

    fn oom_kills_ever(&self) -> io::Result<u64> {
        read(self.directory.as_fd(), c"memory.events", |text| {
            field(text, "oom_kill").unwrap_or(0)
        })
    }
}

/// A few bytes on the stack.
struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.length..self.length + text.len());
        room.ok_or(core::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

/// The number behind a name, in files of lines `NAME NUMBER`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn name_of(name: &str) -> CString {
    CString::new(name).expect("names of groups are made here and hold no NUL")
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Lets processes of the owner move into it: that file only.
fn give(directory: BorrowedFd<'_>, owner: Option<u32>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
    let file = c"cgroup.procs";
    Ok(rustix::fs::chownat(
        directory,
        file,
        Some(uid),
        Some(gid),
        AtFlags::empty(),
    )?)
}

fn remove(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name_of(name), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn write_number(directory: BorrowedFd<'_>, name: &core::ffi::CStr, number: u64) -> io::Result<()> {
    let mut text = Text {
        bytes: [0; 48],
        length: 0,
    };
    let _ = write!(text, "{number}");
    write_text(directory, name, text.as_bytes())
}

fn write_text(directory: BorrowedFd<'_>, name: &core::ffi::CStr, text: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    rustix::io::write(&file, text)?;
    Ok(())
}

fn read<T>(
    directory: BorrowedFd<'_>,
    name: &core::ffi::CStr,
    parse: impl FnOnce(&str) -> T,
) -> io::Result<T> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    let mut bytes = [0; FILE_BYTES_MAX];
    let length = rustix::io::read(&file, &mut bytes)?;
    let text = core::str::from_utf8(&bytes[..length])
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "oom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(field(text, "oom"), Some(3));
        assert_eq!(field(text, "oom_kill"), Some(2));
        assert_eq!(field(text, "oom_k"), None);
    }
}
