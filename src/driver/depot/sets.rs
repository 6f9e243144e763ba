//! Sets of requirements: from what people write to a directory that can be mounted.
//!
//! ```text
//!   wanted --> looking --known--------------------------> composing --> ready
//!                 \--new--> resolving --> fetching --------^              (a package that is
//!                               \             \                            removed: forgotten)
//!                                `--> failed <-'  (wanted again: from the start, once it may)
//! ```
//!
//! A package that several sets need is fetched once: they all wait for it.

use super::errands::Purpose;
use super::{Depot, SETS_MAX, Told as DepotTold};
use crate::base::{PackageSet, Time};
use crate::driver::worker::Worker;
use crate::engine::{Event, Wanted};
use crate::host::packages::{
    Entry, EntryId, Errand, Mode, Pinned, Requirements, RequirementsKey, Set, View,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A failure is the answer to everybody who asks within this time, doubled with each in a row.
const REMEMBERED: Duration = Duration::from_secs(4);
const REMEMBERED_MAX: Duration = Duration::from_mins(4);

/// What installers say, and what can be done about it.
const REMEDIES: [(&str, &str); 7] = [
    (
        "was not found in the",
        "check the name, and [packages] index_url",
    ),
    (
        "No matching distribution",
        "check the name and version, and [packages] index_url",
    ),
    (
        "unsatisfiable",
        "ask for versions that go together and exist",
    ),
    (
        "Hash mismatch",
        "the file is not the one that was hashed: check the index, or hash it anew",
    ),
    (
        "DO NOT MATCH THE HASHES",
        "check the index, or hash the file anew",
    ),
    (
        "Failed to build",
        "ask for a version that has a wheel, or add what its build needs to the base",
    ),
    (
        "error sending request",
        "is the index reachable? ([packages] index_url, proxies)",
    ),
];

/// What became of some requirements.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) requirements: Arc<Requirements>,
    pub(super) state: State,
    pub(super) waiting: Vec<Wanted>,
    failures: u32,
}

#[derive(Debug)]
pub(super) enum State {
    Looking,
    Resolving,
    /// What is there of it, and how many are on their way.
    Fetching {
        there: BTreeMap<String, EntryId>,
        left: usize,
    },
    Composing {
        entries: Vec<EntryId>,
    },
    Ready {
        view: View,
        packages: Box<PackageSet>,
        entries: Vec<EntryId>,
    },
    Failed {
        why: String,
        until: Time,
    },
}

/// What helpers say about sets.
#[derive(Debug)]
pub(in crate::driver) enum Told {
    Looked(RequirementsKey, Option<Set>),
    Composed(RequirementsKey, Vec<Entry>, std::io::Result<View>),
    /// A view got the bytecode of a package.
    Refreshed(std::io::Result<()>),
}

impl Request {
    pub(super) fn view(&self) -> Option<&Path> {
        match &self.state {
            State::Ready { view, .. } => Some(&view.path),
            _ => None,
        }
    }

    pub(super) fn ready_view(&self) -> Option<&View> {
        match &self.state {
            State::Ready { view, .. } => Some(view),
            _ => None,
        }
    }

    pub(super) fn why(&self) -> Option<&str> {
        match &self.state {
            State::Failed { why, .. } => Some(why),
            _ => None,
        }
    }

    pub(super) fn entries(&self) -> &[EntryId] {
        match &self.state {
            State::Ready { entries, .. } => entries,
            _ => &[],
        }
    }
}

impl Depot {
    /// Makes room for one more set: one that nobody waits for goes.
    fn forget_one_set(&mut self) {
        if self.sets.len() < SETS_MAX {
            return;
        }
        let idle = self.sets.iter().find(|(_, request)| {
            let ended = matches!(request.state, State::Failed { .. });
            ended && request.waiting.is_empty()
        });
        if let Some(key) = idle.map(|(key, _)| *key) {
            self.sets.remove(&key);
        }
    }
}

impl Worker {
    /// These are wanted, by the engine or by nobody in particular.
    pub(in crate::driver) fn want_set(&mut self, wish: Arc<Requirements>, wanted: Option<Wanted>) {
        let key = wish.key();
        let Some(request) = self.depot.sets.get_mut(&key) else {
            return self.begin_set(wish, wanted);
        };
        match &request.state {
            State::Ready { packages, .. } => {
                let packages = packages.clone();
                self.told
                    .extend(wanted.map(|wanted| Event::InstallFinished { wanted, packages }));
            }
            State::Failed { until, .. } if self.now < *until => {
                self.told
                    .extend(wanted.map(|wanted| Event::InstallFailed { wanted }));
            }
            State::Failed { .. } => {
                request.waiting.extend(wanted);
                request.state = State::Looking;
                self.look_for_set(key);
            }
            _ => request.waiting.extend(wanted),
        }
    }

    fn begin_set(&mut self, requirements: Arc<Requirements>, wanted: Option<Wanted>) {
        let key = requirements.key();
        self.depot.forget_one_set();
        let request = Request {
            requirements,
            state: State::Looking,
            waiting: wanted.into_iter().collect(),
            failures: 0,
        };
        self.depot.sets.insert(key, request);
        self.look_for_set(key);
    }

    fn look_for_set(&mut self, key: RequirementsKey) {
        let store = self.depot.store.clone();
        let look = move || DepotTold::Set(Told::Looked(key, store.set(key)));
        if self.depot.help(look).is_err() {
            self.fail_set(key, "too many installs are under way".to_owned());
        }
    }

    pub(super) fn set_told(&mut self, told: Told) {
        match told {
            Told::Looked(key, set) => self.set_looked_for(key, set),
            Told::Composed(key, entries, Ok(view)) => self.set_composed(key, &entries, view),
            Told::Composed(key, _, Err(error)) => {
                self.fail_set(
                    key,
                    format!("the store cannot be written: {}", error.kind()),
                );
            }
            Told::Refreshed(Ok(())) => {}
            Told::Refreshed(Err(error)) => log::debug!("a view has no bytecode: {error}"),
        }
    }

    fn set_looked_for(&mut self, key: RequirementsKey, set: Option<Set>) {
        let Some(request) = self.depot.sets.get(&key) else {
            return;
        };
        if request.requirements.is_empty() {
            return self.compose_set(key, Vec::new());
        }
        let known = set.and_then(|set| {
            let ids = set.packages.into_iter();
            let held = ids.map(|id| self.depot.entries.get(&id).cloned());
            held.collect::<Option<Vec<Entry>>>()
        });
        match known {
            Some(entries) => self.compose_set(key, entries),
            None => self.resolve_set(key, Mode::first(&self.sources())),
        }
    }

    pub(super) fn resolve_set(&mut self, key: RequirementsKey, mode: Mode) {
        let Some(request) = self.depot.sets.get_mut(&key) else {
            return;
        };
        request.state = State::Resolving;
        let is_quiet = self.depot.errands.is_quiet();
        if !(is_quiet && self.install_at_once(key, mode)) {
            self.resolve_only(key, mode);
            if is_quiet {
                self.go_ahead(key, mode);
            }
        }
    }

    pub(super) fn resolve_only(&mut self, key: RequirementsKey, mode: Mode) {
        let Some(request) = self.depot.sets.get(&key) else {
            return;
        };
        let requirements = (*request.requirements).clone();
        let errand = Errand::Resolve { requirements, mode };
        self.send_errand(errand, Purpose::Resolve(key));
    }

    /// An installer knows which versions it would take.
    pub(super) fn set_resolved(
        &mut self,
        key: RequirementsKey,
        mode: Mode,
        versions: Vec<(String, String)>,
    ) {
        if self.waits_for_ahead(key) {
            return self.depot.errands.held.push((key, mode, versions));
        }
        let Some(request) = self.depot.sets.get_mut(&key) else {
            return;
        };
        let requirements = Arc::clone(&request.requirements);
        let mut there = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, version) in versions {
            let asked = requirements.iter().find(|one| one.name() == name);
            let hashes = asked.map(|one| one.hashes().to_vec()).unwrap_or_default();
            if requirements.has_hashes() && hashes.is_empty() {
                let why = format!(
                    "{name}=={version} is needed but not listed: where one requirement has a \
                     --hash, all packages must be listed with theirs"
                );
                return self.fail_set(key, why);
            }
            match self
                .depot
                .find(&name, Some(&version))
                .filter(|_| hashes.is_empty())
            {
                Some(entry) => {
                    there.insert(name, entry.id.clone());
                }
                None => missing.push(Pinned {
                    name,
                    version,
                    hashes,
                }),
            }
        }
        let left = missing.len();
        let has: Vec<EntryId> = there.values().cloned().collect();
        if let Some(request) = self.depot.sets.get_mut(&key) {
            request.state = State::Fetching { there, left };
        }
        // One that was built to be understood is built to be installed, too: wheels come first.
        let mode = mode.without_builds();
        self.fetch(missing, mode, key, &has);
        self.perhaps_fetched(key);
    }

    /// A package that this set waits for is there.
    pub(super) fn set_gets(&mut self, key: RequirementsKey, entry: &Entry) {
        if let Some(request) = self.depot.sets.get_mut(&key)
            && let State::Fetching { there, left, .. } = &mut request.state
        {
            there.insert(entry.facts.name.clone(), entry.id.clone());
            *left -= 1;
        }
        self.perhaps_fetched(key);
    }

    fn perhaps_fetched(&mut self, key: RequirementsKey) {
        let Some(request) = self.depot.sets.get(&key) else {
            return;
        };
        let State::Fetching { there, left: 0, .. } = &request.state else {
            return;
        };
        let entries = there.values().map(|id| self.depot.entries.get(id).cloned());
        match entries.collect::<Option<Vec<Entry>>>() {
            Some(entries) => self.compose_set(key, entries),
            None => self.fail_set(key, "a package was removed meanwhile".to_owned()),
        }
    }

    fn compose_set(&mut self, key: RequirementsKey, entries: Vec<Entry>) {
        let Some(request) = self.depot.sets.get_mut(&key) else {
            return;
        };
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id.clone()).collect();
        let store = self.depot.store.clone();
        let set = Set {
            requirements: request.requirements.text(),
            packages: ids.clone(),
        };
        request.state = State::Composing { entries: ids };
        let compose = move || {
            let view = store.compose(&entries);
            let kept = view.and_then(|view| store.keep_set(key, &set).map(|()| view));
            DepotTold::Set(Told::Composed(key, entries, kept))
        };
        if self.depot.help(compose).is_err() {
            self.fail_set(key, "too many installs are under way".to_owned());
        }
    }

    fn set_composed(&mut self, key: RequirementsKey, entries: &[Entry], view: View) {
        let Some(request) = self.depot.sets.get_mut(&key) else {
            return;
        };
        let packages = PackageSet::new(entries.iter().map(Entry::package).collect());
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id.clone()).collect();
        request.failures = 0;
        request.state = State::Ready {
            view,
            packages: Box::new(packages.clone()),
            entries: ids.clone(),
        };
        let waiting = core::mem::take(&mut request.waiting);
        for wanted in waiting {
            if let Wanted::Function { function, .. } = wanted {
                self.record_function(function);
            }
            let packages = Box::new(packages.clone());
            self.told
                .push_back(Event::InstallFinished { wanted, packages });
        }
        // Its view was made before they had their bytecode.
        let late = entries.iter().filter(|entry| !entry.facts.compiled);
        let late: Vec<EntryId> = late.map(|entry| entry.id.clone()).collect();
        for id in late {
            self.compile_package(&id);
        }
        self.hear_engine();
    }

    pub(super) fn fail_set(&mut self, key: RequirementsKey, why: String) {
        let Some(request) = self.depot.sets.get_mut(&key) else {
            return;
        };
        let why = with_remedy(why);
        log::warn!("packages could not be installed: {why}");
        let doubled = REMEMBERED * (1 << request.failures.min(16));
        request.failures += 1;
        request.state = State::Failed {
            why,
            until: self.now + doubled.min(REMEMBERED_MAX),
        };
        let waiting = core::mem::take(&mut request.waiting);
        let failed = |wanted| Event::InstallFailed { wanted };
        self.told.extend(waiting.into_iter().map(failed));
        self.hear_engine();
    }
}

/// The reason, and what to do about it where that is known.
fn with_remedy(why: String) -> String {
    match REMEDIES.iter().find(|(said, _)| why.contains(said)) {
        Some((_, remedy)) => format!("{why}\n({remedy})"),
        None => why,
    }
}
