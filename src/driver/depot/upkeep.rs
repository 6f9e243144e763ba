//! The store kept in order while nobody waits for it: what was added reaches the disk, what nobody
//! uses makes room, what was measured reaches the engine.
//!
//! In use is whatever a function that is known, or a zygote's node, can see: none of that goes,
//! however full the store is. Of the rest what was added first goes first.

use super::sets::State;
use super::{Depot, Told as DepotTold};
use crate::base::{Bytes, Duration as Span, Package, Time};
use crate::driver::worker::Worker;
use crate::engine::Event;
use crate::host::packages::{Entry, EntryId};
use crate::policy::Weights;
use crate::policy::tree::Weight;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// How often it is looked after, when anything changed.
const EVERY: Duration = Duration::from_secs(2);
/// The installer's cache is emptied above this.
const CACHE_BYTES_MAX: u64 = 1 << 30;

/// What a helper has put in order.
#[derive(Debug)]
pub(in crate::driver) enum Told {
    Settled(io::Result<Vec<EntryId>>),
    Removed(io::Result<()>),
    Kept(io::Result<()>),
}

/// What the packages of the store take.
pub(super) fn held(depot: &Depot) -> u64 {
    depot.entries.values().map(|entry| entry.facts.bytes).sum()
}

impl Depot {
    /// What importing costs, as far as it was measured.
    pub(in crate::driver) fn weights(&self) -> Weights {
        let mut weights = Weights::new();
        let newest = self.newest();
        for entry in self.entries.values() {
            let Some(profile) = &entry.facts.profile else {
                continue;
            };
            let megabytes = profile.private_mb + profile.shared_mb;
            let weight = Weight {
                import: Span::from_micros((profile.import_ms * 1e3) as u64),
                memory: Bytes::new((megabytes * f64::from(1 << 20)) as u64),
            };
            weights.insert(&entry.package(), weight);
            let name = entry.facts.name.as_str();
            if newest.get(name).is_some_and(|newest| newest.id == entry.id) {
                weights.insert(&Package::parse(name), weight);
            }
        }
        weights
    }
}

impl Worker {
    /// How many functions and nodes see each package.
    pub(super) fn uses(&self) -> BTreeMap<EntryId, usize> {
        let mut uses = BTreeMap::new();
        let mut count = |ids: &[EntryId]| {
            for id in ids {
                *uses.entry(id.clone()).or_insert(0) += 1;
            }
        };
        for key in self.functions.keys() {
            let known = self.functions.get(key);
            let code = known.and_then(|known| known.code.as_ref());
            let set = code.and_then(|code| self.depot.sets.get(&code.requirements.key()));
            if let Some(set) = set {
                count(set.entries());
            }
        }
        // Sets that are being put together, and zygotes that may outlive their functions.
        for set in self.depot.sets.values() {
            match &set.state {
                State::Fetching { there, .. } => {
                    let ids: Vec<EntryId> = there.values().cloned().collect();
                    count(&ids);
                }
                State::Composing { entries } => count(entries),
                _ => {}
            }
        }
        for node in self.engine.tree().iter().map(|(node, _)| node) {
            let holds = self.engine.holds(node);
            if let Some(view) = holds.and_then(|holds| self.depot.nodes.get(holds)) {
                count(&view.entries);
            }
        }
        uses
    }

    /// Looks after the store. Returns when to come again.
    pub(in crate::driver) fn keep_depot(&mut self) -> Option<Time> {
        let depot = &mut self.depot;
        if core::mem::take(&mut depot.weights_are_new) {
            let weights = Box::new(depot.weights());
            self.tell(Event::WeightsChanged { weights });
        }
        let depot = &mut self.depot;
        if depot.is_settled || depot.is_settling || depot.errands.is_busy() {
            return None;
        }
        if self.now < depot.upkeep_due {
            return Some(depot.upkeep_due);
        }
        depot.upkeep_due = self.now + EVERY;
        self.make_room();
        self.settle();
        None
    }

    /// Has the disk catch up with what was added.
    fn settle(&mut self) {
        let depot = &mut self.depot;
        let late = depot
            .entries
            .values()
            .filter(|entry| entry.facts.boot.is_some());
        let late: Vec<EntryId> = late.map(|entry| entry.id.clone()).collect();
        let store = depot.store.clone();
        let settle = move || {
            let bounded = store.bound_cache(CACHE_BYTES_MAX);
            let settled = bounded.and_then(|()| {
                if late.is_empty() {
                    Ok(())
                } else {
                    store.settle()
                }
            });
            DepotTold::Upkeep(Told::Settled(settled.map(|()| late)))
        };
        depot.is_settling = depot.help(settle).is_ok();
    }

    /// Removes what nobody uses until the store fits again.
    fn make_room(&mut self) {
        let limit = self.config.packages.max_bytes;
        let mut held = held(&self.depot);
        if held <= limit {
            return;
        }
        let uses = self.uses();
        let entries = self.depot.entries.values();
        let mut unused: Vec<&Entry> = entries
            .filter(|entry| !uses.contains_key(&entry.id))
            .collect();
        unused.sort_by_key(|entry| entry.facts.added_secs);
        let mut going = Vec::new();
        for entry in unused {
            if held <= limit {
                break;
            }
            held -= entry.facts.bytes;
            going.push(entry.id.clone());
        }
        if held > limit {
            log::warn!(
                "the packages in use take {} MB, more than [packages] max_mb",
                held >> 20
            );
        }
        self.drop_entries(&going);
    }

    /// Forgets packages that nobody uses, and has their files removed.
    pub(super) fn drop_entries(&mut self, going: &[EntryId]) {
        if going.is_empty() {
            return;
        }
        let depot = &mut self.depot;
        for id in going {
            depot.entries.remove(id);
            depot.errands.compiling.retain(|known| known != id);
        }
        let names = |ids: &[EntryId]| ids.iter().any(|id| going.contains(id));
        depot.sets.retain(|_, set| !names(set.entries()));
        depot.nodes.retain(|_, node| !names(&node.entries));
        log::info!("{} packages that nobody uses were removed", going.len());
        let (store, going) = (self.depot.store.clone(), going.to_vec());
        let remove = move || {
            let mut removed = going.iter().try_for_each(|id| store.remove(id));
            // Those of the sets and nodes that were just forgotten, and of workers before this one.
            removed = removed.and_then(|()| store.drop_views());
            DepotTold::Upkeep(Told::Removed(removed))
        };
        if self.depot.help(remove).is_err() {
            log::warn!(
                "packages could not be removed from the disk now; they go at the next start"
            );
        }
    }

    /// The disk has these: they need not be checked after the next boot.
    fn settled(&mut self, ids: &[EntryId]) {
        for id in ids {
            let Some(entry) = self.depot.entries.get_mut(id) else {
                continue;
            };
            entry.facts.boot = None;
            let (store, entry) = (self.depot.store.clone(), entry.clone());
            let keep = move || DepotTold::Upkeep(Told::Kept(store.keep_facts(&entry)));
            // Else it is checked once more than it had to be.
            let _ = self.depot.help(keep);
        }
        let mut all = self.depot.entries.values();
        self.depot.is_settled = all.all(|entry| entry.facts.boot.is_none());
    }

    pub(super) fn upkeep_told(&mut self, told: Told) {
        match told {
            Told::Settled(settled) => {
                self.depot.is_settling = false;
                match settled {
                    Ok(ids) => self.settled(&ids),
                    // What was not written is looked at again after the next boot.
                    Err(error) => {
                        log::warn!("the package store is not safely on its disk: {error}");
                        self.depot.is_settled = true;
                    }
                }
            }
            Told::Removed(Ok(())) | Told::Kept(Ok(())) => {}
            Told::Kept(Err(error)) => log::warn!("a package's facts were not kept: {error}"),
            Told::Removed(Err(error)) => log::warn!("packages were not removed: {error}"),
        }
    }
}
