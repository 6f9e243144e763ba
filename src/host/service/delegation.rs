//! The worker's place in the cgroup tree: a group that is its own, with a leaf for itself.
//!
//! ```text
//!  under systemd (Delegate=yes)            by itself
//!  olworker.service/        <- root        <group it was started in>/
//!    worker/                <- itself        olworker-<pid>/     <- root
//!    .control/              <- systemd's       worker/           <- itself
//!    <what the pools make>                     <what the pools make>
//! ```
//!
//! A group with controllers handed down may hold no processes itself, so the worker moves into a
//! leaf first. What a controller cannot enforce is said, never pretended: [`Delegation::enforced`]
//! is what the kernel accepted, [`Delegation::why_not`] has the reason for each of the others.
//!
//! A group made by a worker that died is recognised by its empty leaf and its pid, which nobody
//! has any more; it is cleared by the next worker that starts beside it. Under systemd the groups
//! of a predecessor are simply all but `worker/`.

use super::groups::{self, Controller, Controllers};
use core::fmt;
use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The worker's own leaf.
const LEAF: &str = "worker";
/// Where systemd puts the processes of ExecReload= and ExecStop= by itself.
const CONTROL: &str = ".control";
/// What groups that a worker makes by itself are called, before the pid.
const OWN_PREFIX: &str = "olworker-";

/// How the root came to be the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// The service manager handed it over.
    Delegated,
    /// The worker made it, below the group it was started in.
    Own,
}

/// A limit that the kernel will not hold, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unenforced {
    pub controller: Controller,
    pub why: String,
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.controller.limits().unwrap_or(self.controller.name());
        write!(f, "{limits} not enforced by the kernel: {}", self.why)
    }
}

/// What [`Delegation::take`] would find, without changing anything.
#[derive(Debug)]
pub struct Survey {
    /// The group the process is in.
    pub here: PathBuf,
    pub ground: Ground,
    /// What `cgroup.controllers` of the root lists, or would list.
    pub controllers: Controllers,
    pub why_not: Vec<Unenforced>,
    root: PathBuf,
}

/// The group, taken: the worker sits in its leaf, controllers are handed down.
#[derive(Debug)]
pub struct Delegation {
    root: PathBuf,
    descriptor: OwnedFd,
    here: PathBuf,
    pid: u32,
    pub ground: Ground,
    /// What the root may hand down.
    pub controllers: Controllers,
    /// What it does hand down: these limits hold.
    pub enforced: Controllers,
    pub why_not: Vec<Unenforced>,
    /// How many groups of dead workers were cleared on the way.
    pub leftovers: usize,
}

/// Why there is no place for sandboxes on this machine.
#[derive(Debug)]
pub enum Error {
    NoHierarchy,
    ReadOnly {
        group: PathBuf,
    },
    NotPermitted {
        group: PathBuf,
    },
    Failed {
        what: &'static str,
        group: PathBuf,
        why: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHierarchy => f.write_str(
                "cgroups: no cgroup v2 hierarchy shows the worker's own group \
                 (mount one: mount -t cgroup2 none /sys/fs/cgroup, or boot with \
                 systemd.unified_cgroup_hierarchy=1)",
            ),
            Self::ReadOnly { group } => write!(
                f,
                "cgroups: {} is mounted read-only (a container needs it writable; a unit must \
                 not have ProtectControlGroups=yes)",
                group.display()
            ),
            Self::NotPermitted { group } => write!(
                f,
                "cgroups: {} is not ours to write (run as root, or under systemd with \
                 Delegate=yes)",
                group.display()
            ),
            Self::Failed { what, group, why } => {
                write!(f, "cgroups: cannot {what} {}: {why}", group.display())
            }
        }
    }
}

impl core::error::Error for Error {}

impl Survey {
    /// Of the process that asks.
    pub fn make() -> Result<Self, Error> {
        let read = |path: &str| fs::read_to_string(path).map_err(|_| Error::NoHierarchy);
        let (cgroup, mountinfo) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
        let here = groups::locate(&cgroup, &mountinfo).ok_or(Error::NoHierarchy)?;
        Self::of(here, &mountinfo)
    }

    fn of(mut here: PathBuf, mountinfo: &str) -> Result<Self, Error> {
        if here.ends_with(CONTROL) {
            here.pop();
        }
        let handed_over = here
            .ancestors()
            .take(2)
            .find(|group| groups::is_delegated(group));
        let (root, ground) = match handed_over {
            Some(root) => (root.to_owned(), Ground::Delegated),
            None => (here.clone(), Ground::Own),
        };
        writable(&root)?;
        let fail = |why| Error::Failed {
            what: "read",
            group: root.clone(),
            why,
        };
        let controllers = match ground {
            Ground::Delegated => groups::controllers(&root).map_err(fail)?,
            Ground::Own if may_hand_down(&root) => groups::controllers(&root).map_err(fail)?,
            Ground::Own => groups::handed_down(&root).map_err(fail)?,
        };
        let limiting = Controller::ALL
            .into_iter()
            .filter(|one| one.limits().is_some());
        let missing = limiting.filter(|one| !controllers.contains(*one));
        let reason = |controller| Unenforced {
            controller,
            why: why_missing(controller, ground, &root, mountinfo),
        };
        let why_not = missing.map(reason).collect();
        Ok(Self {
            here,
            ground,
            controllers,
            why_not,
            root,
        })
    }
}

/// Whether handing down more controllers from a group that is not ours harms nobody: no service
/// manager runs the tree, and it is the root of all or holds no process but this one.
fn may_hand_down(group: &Path) -> bool {
    let managed = Path::new("/run/systemd/system").exists();
    let alone = || {
        fs::read_to_string(group.join("cgroup.procs"))
            .is_ok_and(|pids| pids.trim() == std::process::id().to_string())
    };
    !managed && (groups::is_hierarchy_root(group) || alone())
}

fn why_missing(controller: Controller, ground: Ground, group: &Path, mountinfo: &str) -> String {
    let name = controller.name();
    if groups::is_in_v1(controller, mountinfo) {
        return format!(
            "the {name} controller is in use by cgroup v1 (boot with \
             systemd.unified_cgroup_hierarchy=1)"
        );
    }
    let top = groups::top(group);
    if !groups::controllers(&top)
        .unwrap_or_default()
        .contains(controller)
    {
        return format!(
            "{} has no {name} controller (a container gets it from its host, a kernel from its \
             configuration)",
            top.display()
        );
    }
    match ground {
        Ground::Delegated => format!(
            "the {name} controller was not delegated to {} (the unit needs Delegate=yes)",
            group.display()
        ),
        Ground::Own => format!(
            "{} hands down no {name} controller (run under systemd with Delegate=yes, or as the \
             only process of a container)",
            group.display()
        ),
    }
}

fn writable(group: &Path) -> Result<(), Error> {
    let group_buf = || group.to_owned();
    for file in [group.to_owned(), group.join("cgroup.procs")] {
        access(&file, Access::WRITE_OK).map_err(|why| match why {
            Errno::ROFS => Error::ReadOnly { group: group_buf() },
            Errno::ACCESS | Errno::PERM => Error::NotPermitted { group: group_buf() },
            why => Error::Failed {
                what: "write to",
                group: group_buf(),
                why: why.into(),
            },
        })?;
    }
    Ok(())
}

impl Delegation {
    /// Clears what dead workers left, makes the root and the leaf, moves the worker into the leaf,
    /// hands controllers down. To be called before the worker starts any thread or process.
    pub fn take() -> Result<Self, Error> {
        Self::take_for(std::process::id(), Survey::make()?)
    }

    fn take_for(pid: u32, survey: Survey) -> Result<Self, Error> {
        let Survey {
            here,
            ground,
            controllers,
            why_not,
            root: found,
        } = survey;
        let leftovers = clear_leftovers(&found, ground, pid)?;
        let root = match ground {
            Ground::Delegated => found.clone(),
            Ground::Own => found.join(format!("{OWN_PREFIX}{pid}")),
        };
        step("make", &root, groups::make(&root))?;
        let descriptor = open_group(&root)?;
        let leaf = root.join(LEAF);
        step("make", &leaf, groups::make(&leaf))?;
        step(
            "move the worker into",
            &leaf,
            groups::move_process(&leaf, pid),
        )?;
        let mut this = Self {
            root,
            descriptor,
            here,
            pid,
            ground,
            controllers,
            enforced: Controllers::NONE,
            why_not,
            leftovers,
        };
        if ground == Ground::Own {
            // The worker is out of it now; `may_hand_down` has decided whether we may.
            this.hand_down(&found);
        }
        let root = this.root.clone();
        this.enforced = this.hand_down(&root);
        Ok(this)
    }

    /// Enables what is there, and notes why not where the kernel refuses.
    fn hand_down(&mut self, group: &Path) -> Controllers {
        let already = groups::handed_down(group).unwrap_or_default();
        let mut enabled = Controllers::NONE;
        for controller in self.controllers.iter() {
            let done = already.contains(controller);
            match if done {
                Ok(())
            } else {
                groups::enable(group, controller)
            } {
                Ok(()) => enabled = enabled.with(controller),
                Err(why) => self.refused(group, controller, &why),
            }
        }
        enabled
    }

    fn refused(&mut self, group: &Path, controller: Controller, why: &io::Error) {
        if self
            .why_not
            .iter()
            .any(|known| known.controller == controller)
        {
            return;
        }
        let name = controller.name();
        let hint = match Errno::from_io_error(why) {
            Some(Errno::BUSY) => " (processes live in the group itself)",
            _ => "",
        };
        let why = format!("enabling {name} in {}: {why}{hint}", group.display());
        self.why_not.push(Unenforced { controller, why });
    }

    /// The group that is the worker's.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same, open.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Makes a group directly below the root and hands down to its children what is enforced.
    pub fn subtree(&self, name: &str) -> Result<PathBuf, Error> {
        let group = self.root.join(name);
        step("make", &group, groups::make(&group))?;
        for controller in self.enforced.iter() {
            step(
                "enable controllers in",
                &group,
                groups::enable(&group, controller),
            )?;
        }
        Ok(group)
    }

    /// Ends every group but the worker's own leaf; a root of our own is left and removed too.
    pub fn leave(self) -> Result<(), Error> {
        end_children(&self.root, &[LEAF, CONTROL])?;
        if self.ground == Ground::Delegated {
            return Ok(());
        }
        let here = &self.here;
        step(
            "move the worker back into",
            here,
            groups::move_process(here, self.pid),
        )?;
        for group in [self.root.join(LEAF), self.root.clone()] {
            step("remove", &group, fs::remove_dir(&group))?;
        }
        Ok(())
    }
}

fn step<T>(what: &'static str, group: &Path, done: io::Result<T>) -> Result<T, Error> {
    done.map_err(|why| Error::Failed {
        what,
        group: group.to_owned(),
        why,
    })
}

fn open_group(group: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    step(
        "open",
        group,
        open(group, flags, Mode::empty()).map_err(io::Error::from),
    )
}

/// Ends the groups of workers that are no more, and says how many there were.
fn clear_leftovers(root: &Path, ground: Ground, own_pid: u32) -> Result<usize, Error> {
    match ground {
        Ground::Delegated => end_children(root, &[LEAF, CONTROL]),
        Ground::Own => {
            let mut cleared = 0;
            for group in step("list", root, groups::children(root))? {
                if is_leftover(&group, own_pid) {
                    step("clear", &group, groups::end(&group))?;
                    cleared += 1;
                }
            }
            Ok(cleared)
        }
    }
}

/// A group with our kind of name, an empty leaf, and a pid that is nobody's: a worker that starts
/// or ends is in no leaf for a moment, but alive. A pid of our own is that of a dead namesake.
fn is_leftover(group: &Path, own_pid: u32) -> bool {
    let name = group.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.strip_prefix(OWN_PREFIX)?.parse::<u32>().ok());
    pid.is_some_and(|pid| {
        let is_gone = pid == own_pid || !Path::new(&format!("/proc/{pid}")).exists();
        is_gone && !groups::is_populated(&group.join(LEAF)).unwrap_or(false)
    })
}

fn end_children(root: &Path, but: &[&str]) -> Result<usize, Error> {
    let mut ended = 0;
    for group in step("list", root, groups::children(root))? {
        if !but.iter().any(|name| group.ends_with(name)) {
            step("clear", &group, groups::end(&group))?;
            ended += 1;
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Child, Command};

    const NO_V1: &str = "";

    /// A scratch group that plays the one a worker was started in, or a reason to skip.
    struct Scratch {
        top: PathBuf,
        here: PathBuf,
    }

    impl Scratch {
        fn make(name: &str) -> Option<Self> {
            let survey = match Survey::make() {
                Ok(survey) => survey,
                Err(why) => {
                    writeln!(io::stderr(), "SKIP: {why}").unwrap();
                    return None;
                }
            };
            let top = survey
                .here
                .join(format!("test-{name}-{}", std::process::id()));
            // One level more: the child of a delegated group would count as its leaf.
            let here = top.join("here");
            fs::create_dir_all(&here).unwrap();
            Some(Self { top, here })
        }

        fn survey(&self) -> Survey {
            Survey::of(self.here.clone(), NO_V1).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            groups::end(&self.top).unwrap();
        }
    }

    /// Something that lives until it is killed.
    fn process() -> Child {
        Command::new("sleep").arg("1000").spawn().unwrap()
    }

    fn end(mut process: Child) {
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn group_of(process: &Child) -> PathBuf {
        let pid = process.id();
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        groups::locate(&cgroup, &mountinfo).unwrap()
    }

    #[test]
    fn workers_that_start_at_once_clear_the_same_leftovers() {
        let Some(scratch) = Scratch::make("many") else {
            return;
        };
        for round in 0..10 {
            let group = scratch.here.join(format!("left-{round}"));
            for number in 0..40 {
                fs::create_dir_all(group.join(format!("{number}/below"))).unwrap();
            }
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| groups::end(&group).unwrap());
                }
            });
            assert!(!group.exists());
        }
    }

    #[test]
    fn a_worker_by_itself_has_a_group_and_a_leaf_and_leaves_nothing() {
        let Some(scratch) = Scratch::make("own") else {
            return;
        };
        let worker = process();
        let taken = Delegation::take_for(worker.id(), scratch.survey()).unwrap();
        assert_eq!(taken.ground, Ground::Own);
        assert_eq!(
            taken.root(),
            scratch.here.join(format!("olworker-{}", worker.id()))
        );
        assert_eq!(group_of(&worker), taken.root().join(LEAF));
        for controller in Controller::ALL
            .into_iter()
            .filter(|one| one.limits().is_some())
        {
            let why_not = taken.why_not.iter().any(|one| one.controller == controller);
            assert_ne!(
                why_not,
                taken.enforced.contains(controller),
                "it holds or has a reason"
            );
        }
        let subtree = taken.subtree("sandboxes").unwrap();
        assert_eq!(groups::handed_down(&subtree).unwrap(), taken.enforced);
        let mut instance = process();
        groups::move_process(&subtree, instance.id()).unwrap();
        taken.leave().unwrap();
        assert!(instance.wait().unwrap().code().is_none(), "it was killed");
        assert_eq!(
            groups::children(&scratch.here).unwrap(),
            Vec::<PathBuf>::new()
        );
        assert_eq!(group_of(&worker), scratch.here);
        end(worker);
    }

    #[test]
    fn what_a_dead_worker_left_is_cleared_and_a_living_one_is_let_alone() {
        let Some(scratch) = Scratch::make("leftover") else {
            return;
        };
        let (dead, living, next) = (process(), process(), process());
        let left = Delegation::take_for(dead.id(), scratch.survey()).unwrap();
        let kept = Delegation::take_for(living.id(), scratch.survey()).unwrap();
        assert_eq!(kept.leftovers, 0);
        let mut orphan = process();
        groups::move_process(&left.subtree("sandboxes").unwrap(), orphan.id()).unwrap();
        end(dead);
        let taken = Delegation::take_for(next.id(), scratch.survey()).unwrap();
        assert_eq!(taken.leftovers, 1);
        assert!(orphan.wait().unwrap().code().is_none(), "it was killed");
        assert!(!left.root().exists());
        assert_eq!(group_of(&living), kept.root().join(LEAF));
        taken.leave().unwrap();
        kept.leave().unwrap();
        end(living);
        end(next);
    }

    #[test]
    fn a_delegated_group_is_taken_as_it_is() {
        let Some(scratch) = Scratch::make("delegated") else {
            return;
        };
        let mark = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&scratch.here, "trusted.delegate", b"1", mark).unwrap();
        for old in ["worker", ".control", "sandboxes", "sandboxes/a"] {
            fs::create_dir(scratch.here.join(old)).unwrap();
        }
        let survey = Survey::of(scratch.here.join(CONTROL), NO_V1).unwrap();
        assert_eq!(survey.ground, Ground::Delegated);
        let worker = process();
        let taken = Delegation::take_for(worker.id(), survey).unwrap();
        assert_eq!(taken.root(), scratch.here);
        assert_eq!(taken.leftovers, 1, "sandboxes/ of a predecessor");
        assert!(scratch.here.join(CONTROL).exists());
        assert_eq!(group_of(&worker), scratch.here.join(LEAF));
        // Started anew in the leaf (by systemd, or by itself): the root is the same.
        let again = Survey::of(scratch.here.join(LEAF), NO_V1).unwrap();
        assert_eq!(
            (again.ground, again.root),
            (Ground::Delegated, scratch.here.clone())
        );
        taken.leave().unwrap();
        assert_eq!(group_of(&worker), scratch.here.join(LEAF));
        end(worker);
    }

    #[test]
    fn each_reason_names_the_remedy() {
        let tree = std::env::temp_dir().join(format!("ol-reasons-{}", std::process::id()));
        let group = tree.join("a");
        fs::create_dir_all(&group).unwrap();
        for (place, listed) in [(&tree, "memory pids"), (&group, "")] {
            fs::write(place.join("cgroup.controllers"), listed).unwrap();
        }
        let v1 = "36 31 0:33 / /cg/memory rw - cgroup cgroup rw,memory\n";
        let why = |controller, ground, mounts| why_missing(controller, ground, &group, mounts);
        let says = |why: String, what: &str| assert!(why.contains(what), "{why}");
        let memory = Controller::Memory;
        says(
            why(memory, Ground::Own, v1),
            "systemd.unified_cgroup_hierarchy=1",
        );
        says(why(memory, Ground::Delegated, NO_V1), "Delegate=yes");
        says(
            why(memory, Ground::Own, NO_V1),
            "/a hands down no memory controller",
        );
        let no_cpu = format!("{} has no cpu controller", tree.display());
        says(why(Controller::Cpu, Ground::Delegated, NO_V1), &no_cpu);
        fs::remove_dir_all(&tree).unwrap();
    }
}
