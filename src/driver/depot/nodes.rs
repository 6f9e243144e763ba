//! What zygotes see: for a node of the tree, its packages and what they need, in one version each.
//!
//! Which versions those are is said by the function that wants the node first: its own packages
//! are there, so nothing is ever fetched for a node. A node that nobody in particular wants (it is
//! warmed up) has the newest versions that the store holds.

use super::{Depot, Told as DepotTold, fitness};
use crate::base::{Package, PackageSet};
use crate::driver::worker::Worker;
use crate::engine::{Event, Wanted};
use crate::host::packages::{Entry, EntryId, View};
use crate::policy::{NodeId, Tree};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Views of nodes that are remembered.
const VIEWS_MAX: usize = 8_192;

/// What zygotes with some packages are made with.
#[derive(Debug, Clone)]
pub(in crate::driver) struct NodeView {
    pub(super) view: View,
    pub(super) entries: Vec<EntryId>,
}

/// A helper has composed a view, or not.
#[derive(Debug)]
pub(in crate::driver) struct Told {
    wanted: Wanted,
    packages: PackageSet,
    entries: Vec<Entry>,
    composed: io::Result<View>,
}

impl Depot {
    /// The newest of everything.
    pub(super) fn newest(&self) -> BTreeMap<&str, &Entry> {
        let mut newest: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in self.entries.values() {
            let name = entry.facts.name.as_str();
            let place = newest.entry(name).or_insert(entry);
            let order = |entry: &Entry| super::order_of(&entry.facts.version);
            if order(entry) > order(place) {
                *place = entry;
            }
        }
        newest
    }

    /// Nodes that need nothing that is not there.
    pub(in crate::driver) fn stocked(&self, tree: &Tree) -> Vec<NodeId> {
        let newest = self.newest();
        let is_stocked = |id: &NodeId| closure(&tree.packages(*id), &newest).is_some();
        tree.iter().map(|(id, _)| id).filter(is_stocked).collect()
    }

    /// What a zygote that holds these packages is made with: its view, and the modules to import
    /// for the node's own packages.
    pub(in crate::driver) fn outfit(
        &self,
        holds: Option<&PackageSet>,
        own: &[Package],
    ) -> Result<(Option<PathBuf>, Vec<String>), String> {
        let Some(found) = holds.and_then(|holds| self.nodes.get(holds)) else {
            return match own.first() {
                None => Ok((None, Vec::new())),
                Some(package) => Err(format!("{package} is not installed")),
            };
        };
        let entries = found.entries.iter().filter_map(|id| self.entries.get(id));
        let entries: Vec<&Entry> = entries.collect();
        let unfit = fitness::unfit(&entries);
        let mut modules = Vec::new();
        for package in own {
            let name = package.name();
            let entry = entries.iter().find(|entry| entry.facts.name == name);
            let entry = entry.ok_or_else(|| format!("{package} was removed"))?;
            if !unfit.contains_key(name) {
                modules.extend(entry.facts.modules.iter().cloned());
            }
        }
        Ok((Some(found.view.path.clone()), modules))
    }
}

/// Packages of these names, and all they need, as far as `held` has them.
fn closure(names: &PackageSet, held: &BTreeMap<&str, &Entry>) -> Option<Vec<Entry>> {
    let mut open: Vec<String> = Vec::new();
    for package in names.iter() {
        let entry = held.get(package.name())?;
        if package
            .version()
            .is_some_and(|wanted| wanted != entry.facts.version)
        {
            return None;
        }
        open.push(package.name().to_owned());
    }
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    while let Some(name) = open.pop() {
        if found.contains_key(&name) {
            continue;
        }
        if let Some(entry) = held.get(name.as_str()) {
            open.extend(entry.facts.requires.iter().cloned());
            found.insert(name, (*entry).clone());
        }
    }
    Some(found.into_values().collect())
}

impl Worker {
    pub(super) fn want_node(&mut self, wanted: Wanted, node: NodeId) {
        let Some(entries) = self.entries_of_node(node) else {
            return self.told.push_back(Event::InstallFailed { wanted });
        };
        if self.is_left_out(node, &entries) {
            return self.told.push_back(Event::InstallFailed { wanted });
        }
        let packages = PackageSet::new(entries.iter().map(Entry::package).collect());
        if self.depot.nodes.contains_key(&packages) {
            let packages = Box::new(packages);
            return self
                .told
                .push_back(Event::InstallFinished { wanted, packages });
        }
        let store = self.depot.store.clone();
        let compose = move || {
            DepotTold::Node(Told {
                wanted,
                packages,
                composed: store.compose(&entries),
                entries,
            })
        };
        if self.depot.help(compose).is_err() {
            self.told.push_back(Event::InstallFailed { wanted });
        }
    }

    /// Why a node that was installed once has nothing that zygotes may import; empty when it has.
    pub(in crate::driver) fn why_left_out(&self, node: NodeId) -> String {
        let holds = self.engine.holds(node);
        let view = holds.and_then(|holds| self.depot.nodes.get(holds));
        let ids = view.map_or(&[][..], |view| &view.entries);
        let entries: Vec<&Entry> = ids
            .iter()
            .filter_map(|id| self.depot.entries.get(id))
            .collect();
        let own = &self.engine.tree().node(node).packages;
        fitness::all_unfit(own, &entries).unwrap_or_default()
    }

    /// Says which of a node's own packages its zygotes will not import. True when none is left.
    fn is_left_out(&mut self, node: NodeId, entries: &[Entry]) -> bool {
        let tree = self.engine.tree();
        if tree.len() != self.nests.labels() {
            self.nests.name_nodes(tree);
        }
        let name = self.nests.label(node);
        let own = &tree.node(node).packages;
        let entries: Vec<&Entry> = entries.iter().collect();
        if let Some(why) = fitness::all_unfit(own, &entries) {
            log::warn!(
                event = "node-left-out", node = &*name;
                "no zygote of {name}: {why}; its functions start from an ancestor"
            );
            return true;
        }
        let unfit = fitness::unfit(&entries);
        for package in own {
            if let Some(why) = unfit.get(package.name()) {
                log::info!("zygotes of {name} do not import {package}: {why}");
            }
        }
        false
    }

    /// In the versions of the function that wants the node, else the newest.
    pub(super) fn entries_of_node(&self, node: NodeId) -> Option<Vec<Entry>> {
        let names = self.engine.tree().packages(node);
        let like = self.engine.like(node);
        let code = like.and_then(|key| self.functions.get(key)?.code.as_ref());
        let set = code.and_then(|code| self.depot.sets.get(&code.requirements.key()));
        let held = match set {
            Some(set) => {
                let entries = set
                    .entries()
                    .iter()
                    .filter_map(|id| self.depot.entries.get(id));
                entries
                    .map(|entry| (entry.facts.name.as_str(), entry))
                    .collect()
            }
            None => self.depot.newest(),
        };
        closure(&names, &held)
    }

    pub(super) fn node_told(&mut self, told: Told) {
        let Told {
            wanted,
            packages,
            entries,
            composed,
        } = told;
        let is_there = |entry: &Entry| self.depot.entries.contains_key(&entry.id);
        let composed = match composed {
            // Else its files may have gone while they were linked.
            Ok(_) if !entries.iter().all(is_there) => {
                Err(io::Error::other("a package was removed meanwhile"))
            }
            composed => composed,
        };
        match composed {
            Ok(view) => {
                if self.depot.nodes.len() == VIEWS_MAX {
                    self.depot.nodes.pop_first();
                }
                let entries = entries.into_iter().map(|entry| entry.id).collect();
                self.depot
                    .nodes
                    .insert(packages.clone(), NodeView { view, entries });
                let packages = Box::new(packages);
                self.tell(Event::InstallFinished { wanted, packages });
            }
            Err(error) => {
                log::warn!("packages for a zygote cannot be put together: {error}");
                self.tell(Event::InstallFailed { wanted });
            }
        }
    }
}
