//! Everything that starts and buries sandboxes, for a driver that owns the handles.
//!
//! The driver keeps each [`Zygote`] and [`Instance`] and watches their descriptors; here are the
//! things they are made from: the base, the cgroups, ranges of ids, families.
//!
//! ```text
//!   driver: start_zygote --> Zygote    (watch control, pidfd)
//!           start_child  --> Zygote    (parent's control tells Forked: Zygote::born)
//!           fork         --> Instance  (zygote's control tells Forked: Instance::born)
//!           start_fresh  --> Instance  (born at once)
//!           stand_by                   (zygote's control tells Forked: standby_born)
//!           bury, bury_zygote          when they are dead
//!           refill, reap               when there is nothing better to do
//! ```

pub mod errand;

use super::cgroup::{Forest, Group, Limits};
use super::family::{Family, SlotDefaults};
use super::instance::{Instance, Network, Order, Outfit};
use super::jail::{self, Base, BaseError, BaseSpec, PrivateMounts};
use super::standby::Standby;
use super::zygote::{AskError, Zygote};
use crate::base::{Key, Slab};
use crate::sys::launch::{Launch, LaunchNetwork, LaunchRole};
use crate::sys::user_namespace::IDS;
use crate::sys::zygote::{CONNECTION, CONTROL, LIBRARY, NO_FILTER_VARIABLE, SEEN};
use crate::sys::{scm, seccomp, wait};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Resource, pidfd_open};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Families alive at once: each started zygote is one, and lives on while it has instances.
pub const FAMILIES_MAX: usize = 4096;
/// Networks kept for tenants that want to be alone; each is some 100 KB of the kernel's memory.
const NETWORKS_MAX: usize = 256;
/// A zygote's own /tmp, for what imports write.
const ZYGOTE_SCRATCH_BYTES: u64 = 64 << 20;
/// Open files of a zygote; it holds none but its own.
const ZYGOTE_OPEN_FILES: u64 = 4096;
/// What a zygote calls its machine.
const HOSTNAME: &[u8] = b"zygote";
/// All the environment a zygote gets. Thread pools would make it impossible to fork.
const ZYGOTE_ENVIRONMENT: [&str; 12] = [
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "HOME=/tmp",
    "LANG=C.UTF-8",
    // Symbols bound once here are not bound, and their pages not copied, in each child.
    "LD_BIND_NOW=1",
    "OPENBLAS_NUM_THREADS=1",
    "OMP_NUM_THREADS=1",
    "MKL_NUM_THREADS=1",
    "BLIS_NUM_THREADS=1",
    "VECLIB_MAXIMUM_THREADS=1",
    "NUMEXPR_NUM_THREADS=1",
    "RAYON_NUM_THREADS=1",
    "TOKENIZERS_PARALLELISM=false",
];

/// What every sandbox of this worker has in common.
#[derive(Debug)]
pub struct Settings<'a> {
    pub base: BaseSpec<'a>,
    /// The cdylib of this program.
    pub library: &'a Path,
    /// The worker's root in the cgroup tree.
    pub cgroup_root: &'a Path,
    pub id_base: u32,
    pub user_namespace: bool,
    pub seccomp: bool,
    pub slots: SlotDefaults,
    pub zygote_limits: Limits,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Sandboxes {
    base: Base,
    forest: Forest,
    ranges: Ranges,
    families: Slab<Family>,
    networks: Vec<TenantNetwork>,
    /// Families whose groups were busy when the last member died.
    dying: Vec<Family>,
    /// Killed, and to be waited for.
    retired: Vec<(FamilyKey, Standby)>,
    /// The family of instances that no zygote made.
    fresh: Option<Key<Family>>,
    /// That of installers.
    errands: Option<Key<Family>>,
    /// Processes alive, by pid: nobody is claimed by two.
    alive: BTreeSet<i32>,
    program: CString,
    library: OwnedFd,
    null: OwnedFd,
    filter: Option<seccomp::Program>,
    slots: SlotDefaults,
    zygote_limits: Limits,
}

/// A network of one function's instances in one family.
#[derive(Debug)]
struct TenantNetwork {
    family: FamilyKey,
    tenant: u64,
    namespace: OwnedFd,
}

/// Ranges of host ids, each for one family.
#[derive(Debug)]
struct Ranges {
    first_id: u32,
    own_namespaces: bool,
    used: u32,
    free: Vec<u32>,
}

/// What the driver keeps for each sandbox besides its handle.
pub type FamilyKey = Key<Family>;

/// Why there is no sandbox.
#[derive(Debug)]
pub enum SandboxError {
    /// As many families, forks or ids as there may be.
    Full,
    Failed(io::Error),
}

impl core::fmt::Display for SandboxError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Full => f.write_str("as many sandboxes are under way as there may be"),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for SandboxError {}

impl From<io::Error> for SandboxError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<AskError> for SandboxError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Full => Self::Full,
            AskError::Failed(error) => Self::Failed(error),
        }
    }
}

/// A zygote's claim about a pid was false: it is to be killed, and so is what it may have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FalseClaim {
    pub pid: i32,
}

impl Sandboxes {
    /// Clears what a dead worker left, builds the base, founds the family of fresh instances.
    pub fn open(own: &PrivateMounts, settings: &Settings<'_>) -> Result<Self, OpenError> {
        let base = Base::build(own, &settings.base).map_err(OpenError::Base)?;
        let program = settings.base.interpreter.program().as_os_str().as_bytes();
        let file = |path: &Path, what| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(
                |error| OpenError::Failed {
                    what,
                    error: error.into(),
                },
            )
        };
        let at = |what| move |error| OpenError::Failed { what, error };
        let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let mut sandboxes = Self {
            base,
            forest: Forest::plant(settings.cgroup_root).map_err(at("prepare cgroups"))?,
            ranges: Ranges {
                first_id: settings.id_base,
                own_namespaces: settings.user_namespace,
                used: 0,
                free: Vec::new(),
            },
            families: Slab::new(FAMILIES_MAX),
            networks: Vec::new(),
            dying: Vec::new(),
            retired: Vec::new(),
            fresh: None,
            errands: None,
            alive: BTreeSet::new(),
            program: CString::new(program).map_err(|error| OpenError::Failed {
                what: "name the interpreter",
                error: error.into(),
            })?,
            library: file(settings.library, "open the native library")?,
            null: null.map_err(|error| OpenError::Failed {
                what: "open /dev/null",
                error: error.into(),
            })?,
            filter: settings.seccomp.then(seccomp::broad),
            slots: settings.slots,
            zygote_limits: settings.zygote_limits,
        };
        sandboxes
            .found()
            .map(|fresh| sandboxes.fresh = Some(fresh))
            .map_err(|error| {
                let error = io::Error::other(error.to_string());
                OpenError::Failed {
                    what: "make a user namespace for sandboxes",
                    error,
                }
            })?;
        Ok(sandboxes)
    }

    pub fn forest(&self) -> &Forest {
        &self.forest
    }

    pub fn base(&mut self) -> &mut Base {
        &mut self.base
    }

    /// A zygote from nothing: a new interpreter, a new family. Tell it what to import.
    pub fn start_zygote(
        &mut self,
        id: u64,
        log: BorrowedFd<'_>,
        packages: Option<&Path>,
    ) -> Result<(FamilyKey, Zygote), SandboxError> {
        let key = self.found()?;
        match self.launch_zygote(key, id, log, packages) {
            Ok(zygote) => Ok((key, zygote)),
            Err(error) => {
                self.end_if_extinct(key);
                Err(error.into())
            }
        }
    }

    /// A zygote of the same family, forked from another. Alive once the parent says `Forked`.
    pub fn start_child(
        &mut self,
        family: FamilyKey,
        parent: &mut Zygote,
        id: u64,
        log: BorrowedFd<'_>,
        packages: Option<&Path>,
    ) -> Result<Zygote, SandboxError> {
        let limits = self.zygote_limits;
        let packages = packages.map(jail::read_only).transpose()?;
        let home = self.home(family);
        let (control, other) = scm::pair()?;
        let group = home.take_group(limits)?;
        let seen = packages.as_ref().map(|packages| packages.as_fd());
        match parent.fork_zygote(id, other.as_fd(), log, &group, seen) {
            Ok(()) => Ok(Zygote::new(id, group, control)),
            Err(error) => {
                home.give_back_group(group);
                Err(error.into())
            }
        }
    }

    /// An instance forked from a zygote. Calls may be written to it at once; it is alive once the
    /// zygote says `Forked`.
    pub fn fork(
        &mut self,
        family: FamilyKey,
        zygote: &mut Zygote,
        order: &Order<'_>,
    ) -> Result<Instance, SandboxError> {
        let network = match order.network {
            Network::Host => None,
            Network::Alone { tenant } => Some(self.network(family, tenant)?),
        };
        while order.scratch_bytes == self.slots.scratch_bytes
            && let Some(standby) = zygote.take_standby()
        {
            match self.send_on(family, zygote, standby, order, network) {
                Ok(instance) => return Ok(instance),
                // It had ended; the next one may live.
                Err(standby) => self.retire(family, *standby),
            }
        }
        let (mut instance, outfit) = prepare(self.home(family), order)?;
        let slot = instance.slot();
        let (uid, _) = self.home_of(family).ids(slot);
        let network = network.map(|place| self.networks[place].namespace.as_fd());
        match zygote.fork(order, (uid, &slot.group), slot.page(), network, &outfit) {
            Ok(()) => Ok(instance),
            Err(error) => {
                instance.stillborn();
                self.home(family).give_back(instance.into_remains().0);
                Err(error.into())
            }
        }
    }

    /// Makes one that stands by an instance: alive at once.
    fn send_on(
        &mut self,
        family: FamilyKey,
        zygote: &mut Zygote,
        mut standby: Standby,
        order: &Order<'_>,
        network: Option<usize>,
    ) -> Result<Instance, Box<Standby>> {
        let Ok(outfit) = standby
            .slot()
            .group
            .limit(order.limits)
            .and_then(|()| Outfit::make(order, None))
        else {
            return Err(Box::new(standby));
        };
        let (connection, outfit) = outfit;
        let network = network.map(|place| self.networks[place].namespace.as_fd());
        let (uid, _) = self.home_of(family).ids(standby.slot());
        let page = standby.page().try_clone_to_owned();
        let sent = page.and_then(|page| {
            zygote.send_on(&standby, order, (uid, page.as_fd()), network, &outfit)
        });
        if sent.is_err() {
            return Err(Box::new(standby));
        }
        Ok(standby.into_instance(order.id, connection))
    }

    /// Has a zygote fork a process ahead. It stands by once `standby_born` is told of it.
    pub fn stand_by(
        &mut self,
        family: FamilyKey,
        zygote: &mut Zygote,
        id: u64,
    ) -> Result<(), SandboxError> {
        let slots = self.slots;
        let (control, other) = scm::pair()?;
        let home = self.home(family);
        let (slot, scratch) = home.take(slots.limits, slots.scratch_bytes)?;
        let standby = Standby::new(slot, control);
        zygote
            .fork_standby(id, standby, (other.as_fd(), &scratch))
            .map_err(|(standby, error)| {
                home.give_back(standby.into_parts().0);
                error.into()
            })
    }

    /// A zygote says that the standby asked for first lives; see `born`.
    pub fn standby_born(
        &mut self,
        family: FamilyKey,
        zygote: &mut Zygote,
        pid: i32,
    ) -> Result<(), FalseClaim> {
        let Some(mut standby) = zygote.take_unborn() else {
            return Err(FalseClaim { pid });
        };
        match self.verify(standby.group(), pid) {
            Ok(pidfd) => {
                standby.born(pid, pidfd);
                zygote.keep_standby(standby);
                Ok(())
            }
            Err(claim) => {
                self.retire(family, standby);
                Err(claim)
            }
        }
    }

    /// A zygote says that it could not make the standby asked for first.
    pub fn standby_failed(&mut self, family: FamilyKey, zygote: &mut Zygote) {
        if let Some(standby) = zygote.take_unborn() {
            self.retire(family, standby);
        }
    }

    /// Its zygote is gone, or it is.
    fn retire(&mut self, family: FamilyKey, mut standby: Standby) {
        if !standby.is_born()
            && let Some((pid, pidfd)) = self.find_born(family, standby.group())
        {
            standby.born(pid, pidfd);
        }
        standby.kill();
        self.retired.push((family, standby));
    }

    /// Waits for those that were killed. True while some are left.
    pub fn reap(&mut self) -> bool {
        for (family, standby) in core::mem::take(&mut self.retired) {
            if !standby.has_ended() {
                self.retired.push((family, standby));
                continue;
            }
            let (slot, process) = standby.into_parts();
            if let Some((pid, _)) = process {
                self.alive.remove(&pid);
            }
            self.home(family).give_back(slot);
            self.end_if_extinct(family);
        }
        !self.retired.is_empty()
    }

    /// An instance in a new interpreter. Alive at once.
    pub fn start_fresh(
        &mut self,
        order: &Order<'_>,
    ) -> Result<(FamilyKey, Instance), SandboxError> {
        let family = self.fresh.expect("founded when opened");
        let home = self
            .families
            .get_mut(family)
            .expect("lives as long as self");
        let (mut instance, outfit) = prepare(home, order)?;
        let started = launch_fresh(self, family, order, &instance, &outfit);
        match started {
            Ok((pid, pidfd)) => {
                self.alive.insert(pid);
                instance.born(pid, pidfd)?;
                Ok((family, instance))
            }
            Err(error) => {
                instance.stillborn();
                self.home(family).give_back(instance.into_remains().0);
                Err(error.into())
            }
        }
    }

    /// A zygote says that this instance lives. What zygotes say is user code's word: the process
    /// must be a child of ours, in the instance's group, and nobody else.
    pub fn born(&mut self, instance: &mut Instance, pid: i32) -> Result<(), FalseClaim> {
        let pidfd = self.verify(&instance.slot().group, pid)?;
        let born = instance.born(pid, pidfd);
        // Killing a doomed one can only fail because it has ended already.
        debug_assert!(born.is_ok());
        Ok(())
    }

    pub fn zygote_born(&mut self, zygote: &mut Zygote, pid: i32) -> Result<(), FalseClaim> {
        let pidfd = self.verify(zygote.group(), pid)?;
        zygote.born(pid, pidfd);
        Ok(())
    }

    /// The zygote has died before it answered: the instance may have been born all the same, and
    /// may have ended since. False, and it counts as dead, when it was not.
    pub fn search(&mut self, family: FamilyKey, instance: &mut Instance) -> bool {
        let found = self.find_born(family, &instance.slot().group);
        if let Some((pid, pidfd)) = found {
            // As in `born`.
            let born = instance.born(pid, pidfd);
            debug_assert!(born.is_ok());
            return true;
        }
        instance.stillborn();
        false
    }

    /// The process that was to be born into this group, if it was.
    fn find_born(&mut self, family: FamilyKey, group: &Group) -> Option<(i32, OwnedFd)> {
        let place = format!("/{}/{}", self.home_of(family).name(), group.name());
        // A group that cannot be read is emptied when its slot comes back.
        let living = group.pids().unwrap_or_default();
        living
            .into_iter()
            .chain(ended_children_in(&place))
            .find_map(|pid| Some((pid, self.verify(group, pid).ok()?)))
    }

    fn verify(&mut self, group: &Group, pid: i32) -> Result<OwnedFd, FalseClaim> {
        let false_claim = FalseClaim { pid };
        let name = Some(pid)
            .filter(|pid| *pid > 0)
            .and_then(Pid::from_raw)
            .ok_or(false_claim)?;
        let pidfd = pidfd_open(name, PidfdFlags::empty()).map_err(|_| false_claim)?;
        let inside = group.pids().map_err(|_| false_claim)?;
        // One that has ended already is in no group any more.
        let plausible = inside.contains(&pid) || inside.is_empty();
        if !plausible || !wait::is_child(pidfd.as_fd()) || !self.alive.insert(pid) {
            return Err(false_claim);
        }
        Ok(pidfd)
    }

    /// Takes back what a dead instance had.
    pub fn bury(&mut self, family: FamilyKey, instance: Instance) {
        let (slot, pid) = instance.into_remains();
        if let Some(pid) = pid {
            self.alive.remove(&pid);
        }
        self.home(family).give_back(slot);
        self.end_if_extinct(family);
    }

    /// Takes back what a dead zygote had. Its instances live on.
    pub fn bury_zygote(&mut self, family: FamilyKey, zygote: Zygote) {
        let (group, pid, standbys) = zygote.into_remains();
        for standby in standbys {
            self.retire(family, standby);
        }
        if let Some(pid) = pid {
            self.alive.remove(&pid);
        }
        self.home(family).give_back_group(group);
        self.end_if_extinct(family);
    }

    /// Cleans and makes spares, a few at a time. False when there is nothing left to do.
    pub fn refill(&mut self) -> io::Result<bool> {
        let mut more = false;
        for (_, family) in self.families.iter_mut() {
            more |= family.refill()?;
        }
        let dying = core::mem::take(&mut self.dying);
        for family in dying {
            self.end(family);
        }
        Ok(more)
    }

    /// Kills everything and removes all groups.
    pub fn close(self) -> io::Result<()> {
        let Self { forest, base, .. } = self;
        drop(base);
        forest.fell()
    }

    /// Where the network of a tenant in this family is kept; made when there is none. A process
    /// that is in a network keeps it, so that forgetting one only means that the next instance is
    /// alone.
    fn network(&mut self, family: FamilyKey, tenant: u64) -> io::Result<usize> {
        let known = |network: &TenantNetwork| network.family == family && network.tenant == tenant;
        if let Some(place) = self.networks.iter().position(known) {
            return Ok(place);
        }
        let namespace = self.home_of(family).empty_network()?;
        if self.networks.len() == NETWORKS_MAX {
            self.networks.remove(0);
        }
        self.networks.push(TenantNetwork {
            family,
            tenant,
            namespace,
        });
        Ok(self.networks.len() - 1)
    }

    fn home_of(&self, family: FamilyKey) -> &Family {
        self.families
            .get(family)
            .expect("a family lives as long as a member does")
    }

    fn home(&mut self, family: FamilyKey) -> &mut Family {
        self.families
            .get_mut(family)
            .expect("a family lives as long as a member does")
    }

    fn found(&mut self) -> Result<FamilyKey, SandboxError> {
        if self.families.is_full() {
            return Err(SandboxError::Full);
        }
        let first = self.ranges.take().ok_or(SandboxError::Full)?;
        let own = self.ranges.own_namespaces;
        match Family::found(&mut self.forest, first, own, self.slots) {
            Ok(family) => Ok(self
                .families
                .insert(family)
                .unwrap_or_else(|_| unreachable!("not full"))),
            Err(error) => {
                self.ranges.free.push(first);
                Err(error.into())
            }
        }
    }

    fn end_if_extinct(&mut self, key: FamilyKey) {
        let is_kept = [self.fresh, self.errands].contains(&Some(key));
        if is_kept || !self.home(key).is_extinct() {
            return;
        }
        let family = self.families.remove(key).expect("found by the line above");
        self.networks.retain(|network| network.family != key);
        self.end(family);
    }

    fn end(&mut self, mut family: Family) {
        match family.bury(&self.forest) {
            Ok(()) => self.ranges.free.push(family.first_host_id()),
            // Tried again at the next refill.
            Err(_) => self.dying.push(family),
        }
    }

    fn launch_zygote(
        &mut self,
        key: FamilyKey,
        id: u64,
        log: BorrowedFd<'_>,
        packages: Option<&Path>,
    ) -> io::Result<Zygote> {
        let packages = packages.map(jail::read_only).transpose()?;
        let (control, other) = scm::pair()?;
        let root = self.base.root()?;
        let proc = jail::zygote_proc()?;
        let tmp = jail::scratch(ZYGOTE_SCRATCH_BYTES)?;
        let limits = self.zygote_limits;
        let group = self.home(key).take_group(limits)?;
        let home = self.families.get(key).expect("just used");
        let arguments = self.arguments("zygote");
        let environment = self.environment(&ZYGOTE_ENVIRONMENT);
        let mut mounts = vec![(c"/proc", proc.as_fd()), (c"/tmp", tmp.as_fd())];
        mounts.extend(packages.as_ref().map(|tree| (c"/packages", tree.as_fd())));
        let launch = Launch {
            cgroup: Some(group.descriptor()),
            user_namespace: home.user_namespace(),
            root: root.as_fd(),
            staging: self.base.staging(),
            mounts: &mounts,
            role: LaunchRole::Zygote,
            hostname: HOSTNAME,
            limits: &[(Resource::Nofile, ZYGOTE_OPEN_FILES)],
            descriptors: &[
                (other.as_fd(), CONTROL),
                (self.library.as_fd(), LIBRARY),
                (self.null.as_fd(), 0),
                (log, 1),
                (log, 2),
            ],
            program: &self.program,
            arguments: &arguments,
            environment: &environment,
            filter: self.filter.as_deref(),
        };
        match launch.start() {
            Ok((pid, pidfd)) => {
                let pid = pid.as_raw_nonzero().get();
                let mut zygote = Zygote::new(id, group, control);
                zygote.born(pid, pidfd);
                self.alive.insert(pid);
                Ok(zygote)
            }
            Err(error) => {
                self.home(key).give_back_group(group);
                Err(error)
            }
        }
    }

    fn arguments(&self, role: &str) -> Vec<CString> {
        let fixed = ["-I", "-S", "-B", "-X", "utf8", "/olworker/start.py", role];
        let fixed = fixed
            .iter()
            .map(|text| CString::new(*text).expect("no NUL in a constant"));
        core::iter::once(self.program.clone())
            .chain(fixed)
            .collect()
    }

    fn environment(&self, fixed: &[&str]) -> Vec<CString> {
        let unfiltered = format!("{NO_FILTER_VARIABLE}=1");
        let unfiltered = self.filter.is_none().then_some(&*unfiltered);
        let all = fixed.iter().copied().chain(unfiltered);
        all.map(|text| CString::new(text).expect("no NUL in a constant"))
            .collect()
    }
}

fn launch_fresh(
    sandboxes: &Sandboxes,
    family: FamilyKey,
    order: &Order<'_>,
    instance: &Instance,
    outfit: &Outfit,
) -> io::Result<(i32, OwnedFd)> {
    let home = sandboxes
        .families
        .get(family)
        .expect("a member has just been prepared");
    let root = sandboxes.base.root()?;
    let slot = instance.slot();
    let (uid, _) = home.ids(slot);
    let arguments = sandboxes.arguments("instance");
    let texts = order.environment.as_texts();
    let environment: Result<Vec<CString>, _> = texts.iter().map(CString::new).collect();
    let mut mounts = vec![(c"/handler", outfit.code.as_fd())];
    if let Some(scratch) = &outfit.scratch {
        mounts.push((c"/tmp", scratch.tmp.as_fd()));
        mounts.push((c"/host", scratch.host.as_fd()));
    }
    let packages = outfit.packages.as_ref();
    mounts.extend(packages.map(|tree| (c"/packages", tree.as_fd())));
    let network = match order.network {
        Network::Host => LaunchNetwork::Host,
        Network::Alone { .. } => LaunchNetwork::New,
    };
    let launch = Launch {
        cgroup: Some(slot.group.descriptor()),
        user_namespace: home.user_namespace(),
        root: root.as_fd(),
        staging: sandboxes.base.staging(),
        mounts: &mounts,
        role: LaunchRole::Instance {
            uid,
            gid: uid,
            network,
        },
        hostname: order.hostname.as_bytes(),
        limits: &[
            (Resource::Nofile, order.open_files),
            (Resource::Nproc, u64::from(order.limits.processes)),
        ],
        descriptors: &[
            (outfit.connection.as_fd(), CONNECTION),
            (slot.page(), SEEN),
            (sandboxes.null.as_fd(), 0),
            (order.stdout, 1),
            (order.stderr, 2),
        ],
        program: &sandboxes.program,
        arguments: &arguments,
        environment: &environment?,
        filter: sandboxes.filter.as_deref(),
    };
    let (pid, pidfd) = launch.start()?;
    Ok((pid.as_raw_nonzero().get(), pidfd))
}

fn prepare(home: &mut Family, order: &Order<'_>) -> Result<(Instance, Outfit), SandboxError> {
    let (slot, scratch) = home.take(order.limits, order.scratch_bytes)?;
    match Outfit::make(order, Some(scratch)) {
        Ok((connection, outfit)) => Ok((Instance::new(order.id, slot, connection), outfit)),
        Err(error) => {
            home.give_back(slot);
            Err(error.into())
        }
    }
}

impl Ranges {
    /// The first id of a range nobody has; with host ids all families share the first.
    fn take(&mut self) -> Option<u32> {
        if !self.own_namespaces {
            return Some(self.first_id);
        }
        self.free.pop().or_else(|| {
            let first = self.used.checked_mul(IDS)?.checked_add(self.first_id)?;
            first.checked_add(IDS)?;
            self.used += 1;
            Some(first)
        })
    }
}

/// Children of this thread (zygotes and instances are all its own) that have ended in this group
/// and that nobody has waited for. None where the kernel does not list children.
fn ended_children_in(place: &str) -> Vec<i32> {
    let Ok(children) = fs::read_to_string("/proc/thread-self/children") else {
        return Vec::new();
    };
    let was_in = |pid: &i32| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups
            .lines()
            .any(|line| line.starts_with("0::") && line.ends_with(place))
    };
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(was_in)
        .collect()
}

/// Why the worker cannot have sandboxes.
#[derive(Debug)]
pub enum OpenError {
    Base(BaseError),
    Failed {
        what: &'static str,
        error: io::Error,
    },
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Base(error) => write!(f, "{error}"),
            Self::Failed { what, error } => write!(f, "sandboxes: could not {what}: {error}"),
        }
    }
}

impl core::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_disjoint_used_again_and_end() {
        let last = u32::MAX - 2 * IDS - 1;
        let mut ranges = Ranges {
            first_id: last,
            own_namespaces: true,
            used: 0,
            free: Vec::new(),
        };
        let first = ranges.take().unwrap();
        let second = ranges.take().unwrap();
        assert!(second - first >= IDS);
        assert_eq!(ranges.take(), None);
        ranges.free.push(first);
        assert_eq!(ranges.take(), Some(first));
    }
}
