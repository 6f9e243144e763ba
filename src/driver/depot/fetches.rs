//! Versions on their way: which, for whom, and by how many runs of the installer.
//!
//! ```text
//!   wanted --on its way already--> waits for it
//!      \--else: all of a set in one run --some not brought, or it failed--> one run each
//!
//!   resolving a set, nothing else going on:  the same is installed meanwhile, ahead
//!      it turns out to bring what is missing --> that run is the one that fetches
//!      else --> it is ended, and what is missing fetched
//!   the same, and the store is empty:  it is only installed, what comes is what it needs
//!      it fails --> resolved after all, which says why
//! ```
//!
//! A run that resolves and installs at once spares the start of a second one, its connections and
//! its look at the index. It finds what the store has as if it were installed already. What it will
//! bring is known only when the resolver has said it; until then, all other sets wait with what
//! they would fetch, so that nothing is fetched twice.

use super::errands::{Errands, Job, Purpose};
use crate::base::Key;
use crate::driver::worker::Worker;
use crate::host::packages::{Entry, EntryId, Errand, Mode, Pinned, RequirementsKey, Tool};

/// Packages of the store that an installer is told of at most.
const THERE_MAX: usize = 256;
/// Names of packages that are never installed together with others, that are remembered.
const APART_MAX: usize = 4096;

/// An install that nobody is known to need.
#[derive(Debug)]
pub(super) struct Ahead {
    job: Key<Job>,
    set: RequirementsKey,
    /// What it was told is there.
    there: Vec<EntryId>,
    /// Nobody else resolves the set: from where it installs.
    alone: Option<Mode>,
}

/// A set whose versions are known, and how they were found.
pub(super) type Held = (RequirementsKey, Mode, Vec<(String, String)>);

impl Errands {
    /// What a set waits for.
    pub(super) fn fetched_for(&self, set: RequirementsKey) -> Vec<String> {
        let fetches = self
            .fetches
            .iter()
            .filter(|(_, waiting)| waiting.contains(&set));
        fetches.map(|(version, _)| version.to_string()).collect()
    }
}

impl Worker {
    /// Fetches packages for a set which has some, or has it wait for whoever fetches them already.
    pub(super) fn fetch(
        &mut self,
        wanted: Vec<Pinned>,
        mode: Mode,
        set: RequirementsKey,
        has: &[EntryId],
    ) {
        let fetches = &mut self.depot.errands.fetches;
        let count = wanted.len();
        let mut fresh = Vec::new();
        for version in wanted {
            if let Some(waiting) = fetches.get_mut(&version) {
                waiting.push(set);
                continue;
            }
            fetches.insert(version.clone(), vec![set]);
            fresh.push(version);
        }
        let ahead = &mut self.depot.errands.ahead;
        let ahead = ahead.take_if(|ahead| ahead.set == set);
        let is_ahead = ahead.is_some();
        if let Some(ahead) = ahead {
            let purpose = Purpose::Fetch(fresh.clone());
            let brings_it = !fresh.is_empty()
                && fresh.len() == count
                && has.iter().all(|id| ahead.there.contains(id));
            if brings_it && self.depot.errands.rename(ahead.job, purpose) {
                fresh.clear();
            } else {
                let why = "it would bring what is there".to_owned();
                self.depot.errands.kill(ahead.job, why);
            }
        }
        let apart = &self.depot.errands.apart;
        let (single, fresh): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|it| apart.contains(&it.name));
        self.fetch_each(single, mode);
        if self.joins(mode) && fresh.len() > 1 {
            let packages = fresh.clone();
            self.send_errand(Errand::Fetch { packages, mode }, Purpose::Fetch(fresh));
        } else {
            self.fetch_each(fresh, mode);
        }
        if is_ahead {
            self.release_held();
        }
    }

    /// Whether one run may install several packages.
    fn joins(&self, mode: Mode) -> bool {
        let is_uv = matches!(self.depot.tool, Some(Tool::Uv { .. }));
        is_uv && !mode.builds() && self.depot.errands.is_joint
    }

    /// A run for each.
    pub(super) fn fetch_each(&mut self, versions: Vec<Pinned>, mode: Mode) {
        for version in versions {
            let packages = vec![version.clone()];
            let purpose = Purpose::Fetch(vec![version]);
            self.send_errand(Errand::Fetch { packages, mode }, purpose);
        }
    }

    /// These could not be told from others when they were installed together.
    pub(super) fn keep_apart(&mut self, others: &[Pinned]) {
        let apart = &mut self.depot.errands.apart;
        for other in others {
            if apart.len() < APART_MAX {
                apart.insert(other.name.clone());
            }
        }
    }

    /// These are in the store.
    pub(super) fn keep_entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.depot.is_settled = false;
            let entry = entry.clone();
            self.depot.entries.insert(entry.id.clone(), entry);
        }
    }

    /// A run that was to bring some versions has brought these.
    pub(super) fn fetched(&mut self, versions: Vec<Pinned>, entries: &[Entry], by: &Errand) {
        self.keep_entries(entries);
        // One that was not told which versions may have come to others.
        let is_told = matches!(by, Errand::Fetch { .. });
        let mut left = Vec::new();
        for version in versions {
            let is_it = |entry: &&Entry| {
                entry.facts.name == version.name
                    && (is_told || entry.facts.version == version.version)
            };
            let Some(entry) = entries.iter().find(is_it) else {
                left.push(version);
                continue;
            };
            let waiting = self.depot.errands.fetches.remove(&version);
            for set in waiting.unwrap_or_default() {
                self.set_gets(set, entry);
            }
        }
        if let Some(mode) = by.mode() {
            self.fetch_each(left, mode);
        }
    }

    /// Installs what a set comes to while that is found out, where chances are that it is needed.
    pub(super) fn go_ahead(&mut self, set: RequirementsKey, mode: Mode) {
        let Some(request) = self.depot.sets.get(&set) else {
            return;
        };
        let newest = self.depot.newest();
        let asked = &request.requirements;
        let has_all = asked.iter().all(|one| newest.contains_key(one.name()));
        // Else resolving has ended already.
        let is_resolving = !self.depot.errands.is_quiet();
        if is_resolving && !has_all && newest.len() <= THERE_MAX {
            let there = newest.values().map(|entry| (*entry).clone()).collect();
            self.install_ahead(set, mode, there, None);
        }
    }

    /// Installs what a set comes to without asking first what that is: there is nothing that could
    /// be fetched twice. False when that cannot be.
    pub(super) fn install_at_once(&mut self, set: RequirementsKey, mode: Mode) -> bool {
        self.find_tool();
        let is_empty = self.depot.entries.is_empty();
        is_empty && self.install_ahead(set, mode, Vec::new(), Some(mode))
    }

    fn install_ahead(
        &mut self,
        set: RequirementsKey,
        mode: Mode,
        there: Vec<Entry>,
        alone: Option<Mode>,
    ) -> bool {
        let Some(request) = self.depot.sets.get(&set) else {
            return false;
        };
        let is_free = self.depot.errands.ahead.is_none();
        if !is_free || request.requirements.has_hashes() || !self.joins(mode) {
            return false;
        }
        let ids = there.iter().map(|entry| entry.id.clone()).collect();
        let errand = Errand::Install {
            requirements: (*request.requirements).clone(),
            mode,
            there,
        };
        let job = self.send_errand(errand, Purpose::Ahead);
        let job = job.filter(|job| self.depot.errands.is_known(*job));
        self.depot.errands.ahead = job.map(|job| Ahead {
            job,
            set,
            there: ids,
            alone,
        });
        job.is_some()
    }

    /// Whether this set does not fetch yet: another may be about to get what it needs.
    pub(super) fn waits_for_ahead(&self, set: RequirementsKey) -> bool {
        let ahead = self.depot.errands.ahead.as_ref();
        ahead.is_some_and(|ahead| ahead.set != set)
    }

    /// It is not known what this set needs: what was begun for it ends.
    pub(super) fn give_up_ahead(&mut self, set: RequirementsKey) {
        let ahead = &mut self.depot.errands.ahead;
        if let Some(ahead) = ahead.take_if(|ahead| ahead.set == set) {
            let why = "nobody needs it".to_owned();
            self.depot.errands.kill(ahead.job, why);
            self.release_held();
        }
    }

    /// What was begun ahead has ended before anybody knew whether it is needed, with this.
    pub(super) fn end_ahead(&mut self, brought: Option<(Vec<Entry>, Vec<Pinned>)>) {
        let errands = &mut self.depot.errands;
        // Another may have been begun since.
        let ended = errands.ahead.take_if(|it| !errands.table.contains(it.job));
        let Some(ended) = ended else {
            return;
        };
        if let Some(mode) = ended.alone {
            match brought {
                Some((entries, others)) => {
                    let taken = entries
                        .into_iter()
                        .map(|it| (it.facts.name, it.facts.version));
                    let others = others.into_iter().map(|it| (it.name, it.version));
                    self.set_resolved(ended.set, mode, taken.chain(others).collect());
                }
                None => self.resolve_only(ended.set, mode),
            }
        }
        self.release_held();
    }

    fn release_held(&mut self) {
        for (set, mode, versions) in core::mem::take(&mut self.depot.errands.held) {
            self.set_resolved(set, mode, versions);
        }
    }
}
