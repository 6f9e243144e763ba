//! Errands under way: what installers are sent to do, a bounded number at once.
//!
//! ```text
//!   queued --> preparing --> running --pidfd--> finishing --> gone, its result told
//!                 (helper)      |  too long, too much memory or disk: killed
//!                               `--needs something built--> queued again, alone
//! ```
//!
//! Compiling and profiling wait until nobody waits for anything else.

use super::fetches::{Ahead, Held};
use super::watch::Due;
use super::{Depot, Told as DepotTold};
use crate::base::{Key, Slab, Time};
use crate::driver::token::Owner;
use crate::driver::worker::Worker;
use crate::host::cgroup::Limits;
use crate::host::death::Cause;
use crate::host::packages::{
    Agent, Entry, EntryId, Errand, Installing, Mode, Pinned, Profile, RequirementsKey, Sources,
    Tool, last_lines,
};
use crate::host::sandboxes::errand::{Allowance, Running, USERS_MAX, User};
use crate::io::{Handle, Interest};
use crate::sys::clock;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Errands known at once.
const ERRANDS_MAX: usize = 4096;
/// Running at once: more would only share the same line and the same processors.
const AT_ONCE: usize = 8;
/// Of those that nobody waits for.
const BEHIND_AT_ONCE: usize = 1;
/// Processes and threads of one.
const PROCESSES: u32 = 1024;
/// The largest /tmp of one.
const SCRATCH_BYTES_MAX: u64 = 1 << 30;
/// After uv could not be fetched, pip is used for this long before it is tried again.
const TOOL_RETRY: Duration = Duration::from_mins(10);

/// Who waits for what it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    Tool,
    Resolve(RequirementsKey),
    Fetch(Vec<Pinned>),
    /// Nobody does yet: it was begun before it was known what is needed.
    Ahead,
    Compile(EntryId),
    Profile(EntryId),
}

impl Purpose {
    /// Nobody waits for it.
    fn is_behind(&self) -> bool {
        matches!(self, Self::Compile(_) | Self::Profile(_))
    }
}

#[derive(Debug)]
pub(in crate::driver) struct Job {
    errand: Errand,
    purpose: Purpose,
    user: User,
    pub(super) stage: Stage,
    /// When its turn came, its installer began, and that ended.
    times: [Time; 3],
    /// When its installer began, in seconds since 1970.
    pub(super) begun_secs: u64,
    pub(super) deadline: Time,
    /// Why it was killed.
    killed: Option<String>,
}

#[derive(Debug)]
pub(super) enum Stage {
    Queued,
    Preparing,
    Running {
        running: Running,
        installing: Box<Installing>,
        exit: Option<Handle>,
    },
    Finishing,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Errands {
    pub(super) table: Slab<Job>,
    queue: VecDeque<Key<Job>>,
    behind: VecDeque<Key<Job>>,
    running: usize,
    running_behind: usize,
    users: Vec<bool>,
    /// What is fetched, and the sets that wait for it.
    pub(super) fetches: BTreeMap<Pinned, Vec<RequirementsKey>>,
    /// What is installed before it is known to be needed, and the sets that wait to know.
    pub(super) ahead: Option<Ahead>,
    pub(super) held: Vec<Held>,
    /// What one run installs can be told apart,
    pub(super) is_joint: bool,
    /// but for these: names that others have files of, too.
    pub(super) apart: BTreeSet<String>,
    /// Errands that wait for uv.
    without_tool: Vec<(Errand, Purpose)>,
    tool_failed: Option<Time>,
    pub(super) due: Due,
    /// Entries whose bytecode is being made or was tried.
    pub(super) compiling: Vec<EntryId>,
    /// Entries that are being profiled.
    pub(super) profiling: Vec<EntryId>,
}

/// What a helper did for an errand.
#[derive(Debug)]
pub(in crate::driver) struct Told {
    job: Key<Job>,
    what: What,
}

#[derive(Debug)]
enum What {
    Prepared(io::Result<Box<Installing>>),
    Finished(Result<Brought, String>),
}

/// What a finished errand brought.
#[derive(Debug)]
enum Brought {
    Tool(Tool),
    Versions(Vec<(String, String)>),
    /// Packages, and others that it could not take.
    Entries(Vec<Entry>, Vec<Pinned>),
    /// Something, of which it cannot be said what.
    Untold,
    Compiled(Box<Entry>),
    Profile(Box<Entry>),
}

impl Errands {
    pub(super) fn new() -> Self {
        Self {
            table: Slab::new(ERRANDS_MAX),
            queue: VecDeque::new(),
            behind: VecDeque::new(),
            running: 0,
            running_behind: 0,
            users: vec![false; USERS_MAX as usize],
            fetches: BTreeMap::new(),
            ahead: None,
            held: Vec::new(),
            is_joint: true,
            apart: BTreeSet::new(),
            without_tool: Vec::new(),
            tool_failed: None,
            due: Due::default(),
            compiling: Vec::new(),
            profiling: Vec::new(),
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.running > 0 || !self.queue.is_empty() || !self.behind.is_empty()
    }

    /// Nobody waits for anything.
    pub(super) fn is_quiet(&self) -> bool {
        let is_idle = self.running == self.running_behind && self.queue.is_empty();
        is_idle && self.without_tool.is_empty() && self.fetches.is_empty()
    }

    /// What an errand is for from now on; false when it has ended.
    pub(super) fn rename(&mut self, key: Key<Job>, purpose: Purpose) -> bool {
        let job = self.table.get_mut(key).filter(|job| job.killed.is_none());
        job.map(|job| job.purpose = purpose).is_some()
    }

    pub(super) fn is_known(&self, key: Key<Job>) -> bool {
        self.table.contains(key)
    }

    pub(super) fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Those whose process runs and was not killed.
    pub(super) fn running(&self) -> impl Iterator<Item = (Key<Job>, &Job)> {
        self.table.iter().filter(|(_, job)| {
            let runs = matches!(job.stage, Stage::Running { .. });
            runs && job.killed.is_none()
        })
    }

    /// Ends one that runs or is about to, and keeps why.
    pub(super) fn kill(&mut self, key: Key<Job>, why: String) {
        let Some(job) = self.table.get_mut(key).filter(|job| job.killed.is_none()) else {
            return;
        };
        match &job.stage {
            Stage::Running { running, .. } => {
                let _ = running.kill();
            }
            Stage::Queued | Stage::Preparing => {}
            Stage::Finishing => return,
        }
        job.killed = Some(why);
    }

    /// A user for an errand; none when all are taken.
    fn take_user(&mut self, errand: &Errand) -> Option<User> {
        if !errand.is_private() {
            return Some(User::Shared);
        }
        let number = self.users.iter().position(|taken| !taken)?;
        self.users[number] = true;
        Some(User::Alone(number as u32))
    }

    fn give_back(&mut self, user: User) {
        if let User::Alone(number) = user {
            self.users[number as usize] = false;
        }
    }

    fn next(&mut self) -> Option<Key<Job>> {
        if self.running >= AT_ONCE {
            return None;
        }
        if let Some(key) = self.queue.pop_front() {
            return Some(key);
        }
        // Others are under way: what nobody waits for would be in their way.
        let is_busy = self.running > self.running_behind;
        if is_busy || self.running_behind >= BEHIND_AT_ONCE {
            return None;
        }
        self.behind.pop_front()
    }
}

impl Worker {
    /// What installers are told about where packages come from.
    pub(super) fn sources(&self) -> Sources {
        self.agent(Tool::Pip).sources
    }

    /// The best installer there is by now.
    pub(super) fn find_tool(&mut self) {
        if self.depot.tool.is_none() {
            let path = std::env::var("PATH").ok();
            self.depot.tool = Tool::uv(path.as_deref(), &self.depot.own_tool);
        }
    }

    /// Queues an errand; one that needs an installer waits until there is one.
    pub(super) fn send_errand(&mut self, errand: Errand, purpose: Purpose) -> Option<Key<Job>> {
        if errand.wants_network() && purpose != Purpose::Tool {
            self.find_tool();
            let failed = self.depot.errands.tool_failed;
            if self.depot.tool.is_none() && failed.is_none_or(|retry| retry <= self.now) {
                self.depot.errands.without_tool.push((errand, purpose));
                if self.depot.errands.without_tool.len() == 1 {
                    self.send_errand(Errand::Tool, Purpose::Tool);
                }
                return None;
            }
        }
        let is_behind = purpose.is_behind();
        let job = Job {
            errand,
            user: User::Shared,
            stage: Stage::Queued,
            times: [self.now; 3],
            begun_secs: 0,
            deadline: Time::MAX,
            killed: None,
            purpose,
        };
        let errands = &mut self.depot.errands;
        let key = match errands.table.insert(job) {
            Ok(key) => key,
            Err(job) => {
                self.errand_failed(job.purpose, "too many installs wait".to_owned());
                return None;
            }
        };
        if is_behind {
            errands.behind.push_back(key);
        } else {
            errands.queue.push_back(key);
        }
        self.run_errands();
        Some(key)
    }

    /// Begins as many as may run.
    fn run_errands(&mut self) {
        while let Some(key) = self.depot.errands.next() {
            let errands = &mut self.depot.errands;
            let Some(job) = errands.table.get(key) else {
                continue;
            };
            let (errand, is_behind) = (job.errand.clone(), job.purpose.is_behind());
            let Some(user) = errands.take_user(&errand) else {
                errands.queue.push_front(key);
                return;
            };
            if errands.running == 0 {
                errands.due.begin(self.now);
            }
            errands.running += 1;
            errands.running_behind += usize::from(is_behind);
            let job = errands.table.get_mut(key).expect("it was just there");
            job.user = user;
            job.times[0] = self.now;
            job.stage = Stage::Preparing;
            let owner = match self.sandboxes.errand_owner(user) {
                Ok(owner) => owner,
                Err(error) => {
                    self.end_errand(key, Err(format!("no sandbox: {error}")));
                    continue;
                }
            };
            let agent = self.agent(self.depot.tool.clone().unwrap_or(Tool::Pip));
            let prepare = move || {
                let prepared = agent.prepare(&errand, owner).map(Box::new);
                DepotTold::Errand(Told {
                    job: key,
                    what: What::Prepared(prepared),
                })
            };
            if self.depot.help(prepare).is_err() {
                self.end_errand(key, Err("too many installs are under way".to_owned()));
            }
        }
    }

    pub(super) fn errand_told(&mut self, told: Told) {
        match told.what {
            What::Prepared(Ok(installing)) => self.launch_errand(told.job, installing),
            What::Prepared(Err(error)) => {
                let why = format!("an install cannot be prepared: {error}");
                self.end_errand(told.job, Err(why));
            }
            What::Finished(brought) => self.end_errand(told.job, brought),
        }
    }

    fn launch_errand(&mut self, key: Key<Job>, installing: Box<Installing>) {
        let packages = &self.config.packages;
        let Some(job) = self.depot.errands.table.get_mut(key) else {
            return;
        };
        if let Some(why) = job.killed.clone() {
            // What was prepared for it goes with the next start.
            return self.end_errand(key, Err(why));
        }
        let allowance = Allowance {
            limits: Limits {
                memory_bytes: packages.installer_mem_bytes,
                swap_bytes: 0,
                processes: PROCESSES,
                cpu_percent: 0,
            },
            scratch_bytes: packages.installer_mem_bytes.min(SCRATCH_BYTES_MAX),
            network: job.errand.wants_network(),
        };
        job.times[1] = self.now;
        job.begun_secs = clock::wall().as_secs();
        job.deadline = self.now + packages.installer_timeout;
        let running = match self
            .sandboxes
            .start_errand(&installing, job.user, allowance)
        {
            Ok(running) => running,
            Err(error) => return self.end_errand(key, Err(format!("no sandbox: {error}"))),
        };
        let pidfd = running.pidfd().try_clone_to_owned().ok();
        let exit = pidfd.and_then(|pidfd| self.io.add(pidfd, Owner::Errand.token(key)).ok());
        match exit {
            Some(exit) => self.io.watch(exit, Interest::Readable),
            // Its deadline ends it.
            None => job.deadline = self.now,
        }
        job.stage = Stage::Running {
            running,
            installing,
            exit,
        };
    }

    /// An errand's process may have ended.
    pub(in crate::driver) fn errand_exit_seen<T>(&mut self, key: Key<T>) {
        let key: Key<Job> = key.alike();
        let Some(job) = self.depot.errands.table.get_mut(key) else {
            return;
        };
        let Stage::Running { running, exit, .. } = &job.stage else {
            return;
        };
        let cause = match running.ended() {
            Ok(Some(cause)) => cause,
            Ok(None) => {
                if let Some(exit) = *exit {
                    self.io.watch(exit, Interest::Readable);
                }
                return;
            }
            Err(error) => return log::error!("an installer cannot be waited for: {error}"),
        };
        let Stage::Running {
            running,
            installing,
            exit,
        } = core::mem::replace(&mut job.stage, Stage::Finishing)
        else {
            unreachable!("it was just seen running")
        };
        job.times[2] = self.now;
        let (errand, killed) = (job.errand.clone(), job.killed.clone());
        if let Some(exit) = exit {
            self.io.close(exit);
        }
        self.sandboxes.bury_errand(running);
        let agent = self.agent(self.depot.tool.clone().unwrap_or(Tool::Pip));
        let finish = move || {
            let brought = finished(&agent, errand, *installing, cause, killed);
            DepotTold::Errand(Told {
                job: key,
                what: What::Finished(brought),
            })
        };
        if self.depot.help(finish).is_err() {
            self.end_errand(key, Err("too many installs are under way".to_owned()));
        }
    }

    /// It is over: its place is free, its result goes to whoever waits.
    fn end_errand(&mut self, key: Key<Job>, brought: Result<Brought, String>) {
        let errands = &mut self.depot.errands;
        let Some(job) = errands.table.remove(key) else {
            return;
        };
        errands.running -= 1;
        errands.running_behind -= usize::from(job.purpose.is_behind());
        errands.give_back(job.user);
        let [taken, begun, ended] = job.times;
        log::debug!(
            "{:?}: {} ms prepared, {} ms under way, {} ms taken in",
            job.purpose,
            begun.since(taken).as_millis(),
            ended.since(begun).as_millis(),
            self.now.since(ended).as_millis()
        );
        match brought {
            Ok(brought) => self.errand_brought(job, brought),
            Err(why) => self.errand_failed_with(job, why),
        }
        self.run_errands();
    }

    fn errand_brought(&mut self, job: Job, brought: Brought) {
        match (job.purpose, brought) {
            (Purpose::Tool, Brought::Tool(tool)) => {
                self.depot.tool = Some(tool);
                self.resume_without_tool();
            }
            (Purpose::Resolve(key), Brought::Versions(versions)) => {
                let mode = match job.errand {
                    Errand::Resolve { mode, .. } => mode,
                    _ => Mode::Wheels,
                };
                self.set_resolved(key, mode, versions);
            }
            (Purpose::Fetch(versions), Brought::Entries(entries, others)) => {
                self.keep_apart(&others);
                self.fetched(versions, &entries, &job.errand);
            }
            (Purpose::Ahead, Brought::Entries(entries, others)) => {
                self.keep_apart(&others);
                self.keep_entries(&entries);
                self.end_ahead(Some((entries, others)));
            }
            (purpose, Brought::Untold) => {
                log::info!("packages are installed one by one: uv's cache is not as it is known");
                self.depot.errands.is_joint = false;
                match purpose {
                    Purpose::Fetch(versions) => {
                        self.fetched(versions, &[], &job.errand);
                    }
                    _ => self.end_ahead(None),
                }
            }
            (Purpose::Compile(id), Brought::Compiled(entry)) => {
                self.depot.errands.compiling.retain(|known| *known != id);
                self.compiled(*entry);
            }
            (Purpose::Profile(_), Brought::Profile(entry)) => self.profiled(*entry),
            (purpose, _) => unreachable!("{purpose:?} brings something else"),
        }
    }

    fn errand_failed_with(&mut self, job: Job, why: String) {
        // Another try would only come to the same limit.
        let was_killed = job.killed.is_some();
        let mode = job.errand.mode();
        let next = mode
            .filter(|_| !was_killed)
            .and_then(|mode| mode.next(&why));
        match (job.purpose, mode, next) {
            // Which of them it was is seen when each has a run to itself.
            (Purpose::Fetch(versions), Some(mode), _) if is_of_many(&job.errand) => {
                log::debug!("packages are installed one by one: {why}");
                self.fetch_each(versions, mode);
            }
            (Purpose::Resolve(key), _, Some(mode)) => {
                self.give_up_ahead(key);
                self.resolve_set(key, mode);
            }
            (Purpose::Fetch(versions), _, Some(mode)) => self.fetch_each(versions, mode),
            (purpose, ..) => self.errand_failed(purpose, why),
        }
    }

    fn errand_failed(&mut self, purpose: Purpose, why: String) {
        match purpose {
            Purpose::Tool => {
                log::warn!("uv could not be fetched, packages are installed by pip: {why}");
                self.depot.errands.tool_failed = Some(self.now + TOOL_RETRY);
                self.resume_without_tool();
            }
            Purpose::Resolve(key) => {
                self.give_up_ahead(key);
                self.fail_set(key, why);
            }
            Purpose::Fetch(versions) => {
                for version in versions {
                    let waiting = self.depot.errands.fetches.remove(&version);
                    for set in waiting.unwrap_or_default() {
                        self.fail_set(set, format!("{version}: {why}"));
                    }
                }
            }
            Purpose::Ahead => {
                log::debug!("an install that was begun ahead came to nothing: {why}");
                self.end_ahead(None);
            }
            // Tried again with the next worker.
            Purpose::Compile(id) => log::debug!("{id} has no bytecode: {why}"),
            Purpose::Profile(id) => {
                self.depot.errands.profiling.retain(|known| *known != id);
                log::debug!("{id} was not profiled: {why}");
            }
        }
    }

    fn resume_without_tool(&mut self) {
        for (errand, purpose) in core::mem::take(&mut self.depot.errands.without_tool) {
            let _ = self.send_errand(errand, purpose);
        }
    }

    /// Makes the bytecode of a package, once nobody waits for anything else.
    pub(super) fn compile_package(&mut self, id: &EntryId) {
        let known = self
            .depot
            .entries
            .get(id)
            .filter(|entry| !entry.facts.compiled);
        let Some(entry) = known.cloned() else {
            return;
        };
        if self.depot.errands.compiling.contains(id) {
            return;
        }
        self.depot.errands.compiling.push(id.clone());
        self.send_errand(Errand::Compile { entry }, Purpose::Compile(id.clone()));
    }

    /// The bytecode of a package is there: the views that were made without it get it.
    fn compiled(&mut self, entry: Entry) {
        let id = entry.id.clone();
        self.depot.entries.insert(id.clone(), entry);
        for view in self.depot.views_with(&id) {
            let (store, id) = (self.depot.store.clone(), id.clone());
            let refresh = move || {
                let refreshed = store.refresh(&view, &id);
                DepotTold::Set(super::sets::Told::Refreshed(refreshed))
            };
            let _ = self.depot.help(refresh);
        }
        let known = self.depot.entries.get(&id);
        if known.is_some_and(|entry| entry.facts.profile.is_none()) {
            self.profile(&id);
        }
    }
}

/// Whether it is not known whose a failure of it is.
fn is_of_many(errand: &Errand) -> bool {
    match errand {
        Errand::Fetch { packages, .. } => packages.len() > 1,
        errand => matches!(errand, Errand::Install { .. }),
    }
}

/// What an ended errand brought, and its directory gone. Blocks.
fn finished(
    agent: &Agent,
    errand: Errand,
    mut installing: Installing,
    cause: Cause,
    killed: Option<String>,
) -> Result<Brought, String> {
    let directory = installing.directory.clone();
    let said = last_lines(&mut installing.log);
    drop(installing);
    let brought = match (killed, cause) {
        (Some(why), _) => Err(why),
        (None, Cause::Exit(0)) => {
            bring(agent, errand, &directory).map_err(|error| error.to_string())
        }
        (None, Cause::Exit(_)) if !said.is_empty() => Err(said),
        (None, Cause::OutOfMemory) => {
            Err("it ran out of memory ([packages] installer_mem_mb)".to_owned())
        }
        (None, cause) => Err(format!("the installer: {cause}\n{said}")
            .trim_end()
            .to_owned()),
    };
    // What stays is removed at the next start.
    let _ = std::fs::remove_dir_all(&directory);
    brought
}

fn bring(agent: &Agent, errand: Errand, directory: &Path) -> io::Result<Brought> {
    match errand {
        Errand::Tool => agent.keep_tool(directory).map(Brought::Tool),
        Errand::Resolve { .. } => agent.versions(directory).map(Brought::Versions),
        Errand::Fetch { packages, .. } if packages.len() == 1 => {
            let entry = agent
                .store
                .adopt(&directory.join("target"), &packages[0].name)?;
            Ok(Brought::Entries(vec![entry], Vec::new()))
        }
        errand @ (Errand::Fetch { .. } | Errand::Install { .. }) => {
            let entries = agent.adopt_all(&errand, directory)?;
            Ok(entries.map_or(Brought::Untold, |(taken, others)| {
                Brought::Entries(taken, others)
            }))
        }
        Errand::Compile { mut entry } => {
            agent
                .store
                .add_bytecode(&mut entry, &directory.join("target"))?;
            Ok(Brought::Compiled(Box::new(entry)))
        }
        Errand::Profile { mut entry, .. } => {
            let profile: Profile = agent.profile(directory)?;
            entry.facts.profile = Some(profile);
            agent.store.keep_facts(&entry)?;
            Ok(Brought::Profile(Box::new(entry)))
        }
    }
}

impl Depot {
    /// Every view that was made with this package.
    fn views_with(&self, id: &EntryId) -> Vec<crate::host::packages::View> {
        let sets = self
            .sets
            .values()
            .filter(|request| request.entries().contains(id));
        let sets = sets.filter_map(super::sets::Request::ready_view);
        let nodes = self.nodes.values().filter(|node| node.entries.contains(id));
        sets.chain(nodes.map(|node| &node.view)).cloned().collect()
    }
}
