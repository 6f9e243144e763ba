//! The cgroup v2 tree as files: finding one's own group, controllers, and how a group ends.
//!
//! Only the `0::` line of /proc/self/cgroup and cgroup2 mounts count, wherever they are: on hybrid
//! machines (v1 controllers, v2 beside them at /sys/fs/cgroup/unified) everything else speaks of
//! another hierarchy.

use core::fmt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// How often and how long at most a killed group is waited for: five seconds in all.
const EMPTY_POLLS_MAX: usize = 50;
/// Others who clear the same groups are met so often.
const END_TRIES_MAX: usize = 100;
const EMPTY_POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The controllers that limits are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    Cpu,
    Io,
    Memory,
    Pids,
}

impl Controller {
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Io, Self::Memory, Self::Pids];

    /// As in `cgroup.controllers`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    /// The limits of a function it enforces; `io` only shares.
    pub const fn limits(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu_percent"),
            Self::Io => None,
            Self::Memory => Some("mem_mb and swap_mb"),
            Self::Pids => Some("procs"),
        }
    }

    /// What the first version of cgroups calls it.
    pub const fn name_in_v1(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.name(),
        }
    }
}

/// A set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Controllers(u8);

impl Controllers {
    pub const NONE: Self = Self(0);

    pub const fn contains(self, controller: Controller) -> bool {
        self.0 & (1 << controller as u8) != 0
    }

    #[must_use]
    pub const fn with(self, controller: Controller) -> Self {
        Self(self.0 | (1 << controller as u8))
    }

    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL
            .into_iter()
            .filter(move |controller| self.contains(*controller))
    }

    /// From the blank-separated names of `cgroup.controllers`; unknown ones are none of ours.
    pub fn parse(names: &str) -> Self {
        let listed =
            |controller: &Controller| names.split_whitespace().any(|n| n == controller.name());
        Controller::ALL
            .into_iter()
            .filter(listed)
            .fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Controller::name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

/// Where the process with these `/proc/PID/cgroup` and `/proc/PID/mountinfo` finds its own group.
/// A writable mount is preferred.
pub fn locate(cgroup: &str, mountinfo: &str) -> Option<PathBuf> {
    let own = Path::new(cgroup.lines().find_map(|line| line.strip_prefix("0::"))?);
    let mut mounts: Vec<_> = mountinfo.lines().filter_map(Mount::parse).collect();
    mounts.sort_by_key(|mount| !mount.writable);
    mounts.iter().find_map(|mount| {
        let below = own.strip_prefix(&mount.root).ok()?;
        // Joining an empty path would append a slash.
        Some(mount.point.components().chain(below.components()).collect())
    })
}

/// Whether a v1 hierarchy holds this controller, and so keeps it from v2.
pub fn is_in_v1(controller: Controller, mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        let (_, behind) = line.split_once(" - ").unwrap_or_default();
        let mut fields = behind.split(' ');
        fields.next() == Some("cgroup")
            && fields.nth(1).is_some_and(|options| {
                options
                    .split(',')
                    .any(|option| option == controller.name_in_v1())
            })
    })
}

struct Mount {
    root: PathBuf,
    point: PathBuf,
    writable: bool,
}

impl Mount {
    /// `36 35 0:29 ROOT POINT OPTIONS [tags...] - TYPE SOURCE SUPER_OPTIONS`
    fn parse(line: &str) -> Option<Self> {
        let (before, behind) = line.split_once(" - ")?;
        let mut behind = behind.split(' ');
        if behind.next()? != "cgroup2" {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let is_writable = |options: &str| options.split(',').any(|option| option == "rw");
        let writable = is_writable(fields.next()?) && behind.nth(1).is_none_or(is_writable);
        Some(Self {
            root,
            point,
            writable,
        })
    }
}

/// The kernel writes blanks, tabs, line breaks and backslashes as `\040`.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|digits| core::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if byte == b'\\' => {
                bytes.push(code);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// What the group could hand down to its children.
pub fn controllers(group: &Path) -> io::Result<Controllers> {
    fs::read_to_string(group.join("cgroup.controllers")).map(|names| Controllers::parse(&names))
}

/// The highest group that can be seen from here.
pub fn top(group: &Path) -> PathBuf {
    let is_group = |place: &&Path| place.join("cgroup.controllers").exists();
    group
        .ancestors()
        .take_while(is_group)
        .last()
        .unwrap_or(group)
        .to_owned()
}

/// What it does hand down.
pub fn handed_down(group: &Path) -> io::Result<Controllers> {
    fs::read_to_string(group.join("cgroup.subtree_control")).map(|names| Controllers::parse(&names))
}

/// Hands one controller down to the group's children.
pub fn enable(group: &Path, controller: Controller) -> io::Result<()> {
    fs::write(
        group.join("cgroup.subtree_control"),
        format!("+{}", controller.name()),
    )
}

/// Moves a process, with all its threads. Slow (tens of milliseconds): for starts only.
pub fn move_process(group: &Path, pid: u32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), pid.to_string())
}

/// The root of the whole hierarchy is the only group that cannot be populated or not.
pub fn is_hierarchy_root(group: &Path) -> bool {
    !group.join("cgroup.events").exists()
}

/// Whether the service manager handed this group over to whoever runs in it.
pub fn is_delegated(group: &Path) -> bool {
    ["trusted.delegate", "user.delegate"]
        .iter()
        .any(|attribute| {
            let mut value = [0; 8];
            let read = rustix::fs::getxattr(group, *attribute, &mut value[..]);
            read.is_ok_and(|len| &value[..len] == b"1")
        })
}

/// Makes the group unless it is there.
pub fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        _ => Ok(()),
    }
}

/// Kills whatever lives in the group and below, waits until it is gone, removes the directories.
/// A group that vanishes meanwhile was ended by somebody else: by another worker that starts.
pub fn end(group: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let ended = fs::write(group.join("cgroup.kill"), "1")
            .and_then(|()| wait_until_empty(group))
            .and_then(|()| remove(group));
        tries += 1;
        match ended {
            Err(_) if !group.exists() => return Ok(()),
            // Groups below it vanish one by one: somebody else is about it, too.
            Err(why) if is_gone(&why) && tries < END_TRIES_MAX => {}
            ended => return ended,
        }
    }
}

/// What the kernel says of a group, or of a file in it, that went between two looks.
fn is_gone(why: &io::Error) -> bool {
    why.kind() == io::ErrorKind::NotFound || why.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Whether a process lives in the group or below.
pub fn is_populated(group: &Path) -> io::Result<bool> {
    fs::read_to_string(group.join("cgroup.events")).map(|events| says_populated(&events))
}

fn says_populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}

fn wait_until_empty(group: &Path) -> io::Result<()> {
    let path = group.join("cgroup.events");
    for _ in 0..EMPTY_POLLS_MAX {
        // Opened anew each time: reading it is what arms the next notification.
        let events = fs::File::open(&path)?;
        if !says_populated(&io::read_to_string(&events)?) {
            return Ok(());
        }
        poll(
            &mut [PollFd::new(&events, PollFlags::PRI)],
            Some(&EMPTY_POLL),
        )?;
    }
    let text = format!(
        "{} still has processes after they were killed",
        group.display()
    );
    Err(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// Removes an empty group and its empty descendants, deepest first.
fn remove(group: &Path) -> io::Result<()> {
    let below = match children(group) {
        Err(why) if is_gone(&why) => return Ok(()),
        below => below?,
    };
    for child in below {
        remove(&child)?;
    }
    match fs::remove_dir(group) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

/// The groups directly below.
pub fn children(group: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/blkio rw,relatime shared:9 - cgroup cgroup rw,blkio
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const UNIFIED: &str =
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn only_the_second_hierarchy_counts() {
        let cgroup = "9:name=systemd:/x\n4:memory:/process\n0::/\n";
        assert_eq!(
            locate(cgroup, HYBRID).unwrap(),
            Path::new("/sys/fs/cgroup/unified")
        );
        let cgroup = "0::/olworker.slice/olworker.service\n";
        assert_eq!(
            locate(cgroup, UNIFIED).unwrap(),
            Path::new("/sys/fs/cgroup/olworker.slice/olworker.service")
        );
        assert_eq!(locate("4:memory:/x\n", UNIFIED), None);
        assert_eq!(
            locate(cgroup, "31 23 0:28 / /sys rw - sysfs sysfs rw\n"),
            None
        );
    }

    #[test]
    fn a_mount_that_shows_a_part_is_joined_and_a_writable_one_preferred() {
        let mounts = "\
40 1 0:26 / /ro ro,relatime - cgroup2 none rw
41 1 0:26 /else /else rw - cgroup2 none rw
42 1 0:26 /a /my\\040groups rw - cgroup2 none rw
";
        assert_eq!(
            locate("0::/a/b\n", mounts).unwrap(),
            Path::new("/my groups/b")
        );
        assert_eq!(locate("0::/a\n", mounts).unwrap(), Path::new("/my groups"));
        assert_eq!(locate("0::/ab\n", mounts).unwrap(), Path::new("/ro/ab"));
    }

    #[test]
    fn a_controller_kept_by_the_first_version_is_found() {
        assert!(is_in_v1(Controller::Memory, HYBRID));
        assert!(is_in_v1(Controller::Io, HYBRID));
        assert!(!is_in_v1(Controller::Pids, HYBRID));
        assert!(!is_in_v1(Controller::Memory, UNIFIED));
    }

    #[test]
    fn sets_of_controllers() {
        let set = Controllers::parse("cpuset cpu io memory hugetlb pids rdma misc\n");
        assert_eq!(set.to_string(), "cpu io memory pids");
        assert_eq!(Controllers::parse("hugetlb\n"), Controllers::NONE);
        assert_eq!(Controllers::NONE.to_string(), "none");
        assert!(
            !Controllers::NONE
                .with(Controller::Io)
                .contains(Controller::Memory)
        );
    }
}
