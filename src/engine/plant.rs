//! The tree itself: told, changed, grown; and what its nodes need installed.

use super::forest::{Forest, Phase};
use super::zygote::{UPROOTED, ZygoteState};
use super::{
    Effect, End, Engine, FunctionKey, Note, Origin, Params, Wanted, ZygoteKey, ZygoteTree,
};
use crate::base::{Duration, PackageSet};
use crate::policy::{NodeId, Weights, grow};
use alloc::vec::Vec;
use core::mem;

impl Engine {
    /// A new tree. Zygotes that it has as well stay; the others go, and the forks that they had not
    /// answered yet are made elsewhere.
    pub(super) fn tree_changed(&mut self, told: ZygoteTree) {
        let copies = self.forest_copies(&self.params);
        self.transplant(Forest::new(told, copies, self.params.evict));
    }

    pub(super) fn forest_copies(&self, params: &Params) -> u32 {
        u32::min(params.trees, self.limits.zygotes)
    }

    /// Another number of copies of the same tree.
    pub(super) fn replant(&mut self, copies: u32) {
        let forest = &self.forest;
        let installed = forest.installed.iter().enumerate();
        let told = ZygoteTree {
            generation: forest.generation,
            tree: forest.tree.clone(),
            weights: forest.weights.clone(),
            // What was installed in certain versions is looked for again, in those of whoever asks.
            installed: installed
                .filter(|(index, installed)| **installed && forest.pins[*index].holds.is_none())
                .map(|(index, _)| NodeId(index as u32))
                .collect(),
            stocked: forest.stocked_nodes(),
        };
        self.transplant(Forest::new(told, copies, self.params.evict));
    }

    fn transplant(&mut self, forest: Forest) {
        self.cancel_installs();
        let old = mem::replace(&mut self.forest, forest);
        let keys: Vec<ZygoteKey> = self.zygotes.keys().collect();
        let mut uprooted = Vec::new();
        for key in keys {
            let zygote = &self.zygotes[key];
            if zygote.state == ZygoteState::Dying {
                continue;
            }
            if let Some(place) = self.adopted_place(&old, zygote.place) {
                self.adopt(&old, key, place);
            } else {
                self.zygotes[key].place = UPROOTED;
                uprooted.push(key);
            }
        }
        for key in uprooted {
            self.kill_zygote(key, End::Uprooted);
        }
        self.rank_all();
        self.reconsider_victims();
        self.warm_up();
        self.unsettled = true;
    }

    /// Where in the new forest a zygote of this place of the old one belongs: same copy, same
    /// packages.
    fn adopted_place(&self, old: &Forest, place: u32) -> Option<u32> {
        let copy = old.copy_of(place);
        if copy >= self.forest.copies {
            return None;
        }
        let has = &old.packages[old.node_of(place).index()];
        let index = self.forest.packages.iter().position(|new| new == has)?;
        Some(self.forest.place(copy, NodeId(index as u32)))
    }

    fn adopt(&mut self, old: &Forest, key: ZygoteKey, place: u32) {
        let node = self.forest.node_of(place);
        let was = old.at(self.zygotes[key].place);
        let now = self.forest.at_mut(place);
        if now.zygotes.is_empty() {
            now.created = was.created;
            now.uses = was.uses;
            now.history = was.history.clone();
            now.forks = was.forks;
            now.fork_time = was.fork_time;
            now.start_time = was.start_time;
            now.measured = was.measured;
            now.instances = was.instances;
            now.hopeless = was.hopeless;
            now.proven = was.proven;
        }
        now.phase = Phase::Present;
        now.zygotes.push(key);
        self.forest.installed[node.index()] = true;
        let pin = &old.pins[old.node_of(self.zygotes[key].place).index()];
        self.forest.pins[node.index()] = pin.clone();
        let zygote = &mut self.zygotes[key];
        zygote.place = place;
        zygote.node = node;
    }

    /// The roots at once; every node where the configuration says so, as far as the store goes.
    fn warm_up(&mut self) {
        for place in 0..self.forest.nodes.len() as u32 {
            let node = self.forest.node_of(place);
            let is_root = node == NodeId::ROOT;
            if is_root || (self.params.warmup && self.is_all_installed(node)) {
                self.demand(place, None);
            }
        }
    }

    fn is_all_installed(&self, node: NodeId) -> bool {
        let forest = &self.forest;
        let mut path = core::iter::once(node).chain(forest.tree.ancestors(node));
        path.all(|node| forest.installed[node.index()] || forest.stocked[node.index()])
    }

    // What functions may start from.

    pub(super) fn rank(&mut self, key: FunctionKey) {
        let forest = &mut self.forest;
        let known = &mut self.functions[key];
        let packages = known.packages();
        let imports = forest.weights.import_of(packages.iter());
        let mut ranked = if forest.copies == 0 {
            Vec::new()
        } else {
            let lookup = self.params.lookup;
            lookup.ranked(&forest.tree, &forest.weights, packages)
        };
        ranked.retain(|found| forest.admits(found.node, packages));
        known.ranked = ranked;
        known.imports = imports;
    }

    pub(super) fn weights_changed(&mut self, weights: Weights) {
        self.forest.weights = weights;
        self.rank_all();
        self.reconsider_victims();
    }

    /// The last zygote of this node may have gone: other versions may have their turn then. True
    /// when they have.
    pub(super) fn unpin(&mut self, place: u32) -> bool {
        let unpinned = self.forest.unpin(self.forest.node_of(place));
        if unpinned {
            self.rank_all();
        }
        unpinned
    }

    pub(super) fn rank_all(&mut self) {
        let keys: Vec<FunctionKey> = self.functions.keys().collect();
        for key in keys {
            self.rank(key);
        }
    }

    /// What functions import at each cold start, one or many, gets a node of its own.
    pub(super) fn perhaps_grow(&mut self, function: FunctionKey, origin: Origin) {
        let Origin::Zygote { node, .. } = origin else {
            return;
        };
        if !self.params.dynamic_zygotes || self.drain.is_some() {
            return;
        }
        let known = &self.functions[function];
        let best = known.ranked.first().map(|best| best.node);
        let residual = self.left_to_import(function, best);
        if best != Some(node) || !grow::is_dear(residual) {
            return;
        }
        let has = &self.forest.packages[node.index()];
        let wanted = known.packages().iter();
        let missing = wanted.filter(|package| has.get(package.name()).is_none());
        let missing = PackageSet::new(missing.cloned().collect());
        let starts = self.forest.miss(node, &missing);
        if grow::deserves_node(starts, self.forest.grown) {
            self.add_node(node, &missing);
        }
    }

    fn add_node(&mut self, parent: NodeId, packages: &PackageSet) {
        let places: Vec<(ZygoteKey, u32, NodeId)> = self
            .zygotes
            .iter()
            .filter(|(_, zygote)| zygote.state != ZygoteState::Dying)
            .map(|(key, zygote)| {
                let forest = &self.forest;
                (key, forest.copy_of(zygote.place), zygote.node)
            })
            .collect();
        self.cancel_node_timers();
        let installed = self.params.install.is_none();
        let Some(node) = self.forest.grow(parent, packages, installed) else {
            return self.restore_node_timers();
        };
        for (key, copy, node) in places {
            self.zygotes[key].place = self.forest.place(copy, node);
        }
        self.restore_node_timers();
        self.rank_all();
        self.note(Note::NodeAdded { node, parent });
    }

    // What nodes need installed.

    /// Asks for this node's packages, if they are not there. True when they have to be waited for.
    pub(super) fn begins_install(&mut self, place: u32, like: Option<FunctionKey>) -> bool {
        let node = self.forest.node_of(place);
        let Some(longest) = self.params.install else {
            return false;
        };
        if self.forest.installed[node.index()] {
            return false;
        }
        let since = self.now;
        let asked = !self.places_installing(node).is_empty();
        self.forest.at_mut(place).phase = Phase::Installing { since };
        self.agenda.arm(self.node_slot(place), since + longest);
        if !asked {
            self.forest.pins[node.index()].like = like;
            let wanted = self.forest.wanted(place);
            self.effect(Effect::Install { wanted });
            self.note(Note::Installing { wanted });
        }
        true
    }

    fn is_installing(&self, place: u32) -> bool {
        matches!(self.forest.at(place).phase, Phase::Installing { .. })
    }

    pub(super) fn node_installed(&mut self, generation: u32, node: NodeId, packages: PackageSet) {
        if generation != self.forest.generation || self.forest.tree.get(node).is_none() {
            return self.stale();
        }
        if self.forest.installed[node.index()] {
            // Its zygotes have what was told before.
            return self.stale();
        }
        self.forest.installed[node.index()] = true;
        self.forest.pins[node.index()].holds = Some(packages);
        self.rank_all();
        for place in self.places_installing(node) {
            let Phase::Installing { since } = self.forest.at(place).phase else {
                unreachable!("those were chosen for installing")
            };
            let (wanted, took) = (self.forest.wanted(place), self.now.since(since));
            self.note(Note::Installed { wanted, took });
            self.end_install(place);
            if !self.demand(place, None) {
                self.wish_no_more(place);
            }
        }
    }

    pub(super) fn node_install_failed(&mut self, generation: u32, node: NodeId) {
        if generation != self.forest.generation || self.forest.tree.get(node).is_none() {
            return self.stale();
        }
        for place in self.places_installing(node) {
            let wanted = self.forest.wanted(place);
            self.note(Note::InstallFailed { wanted });
            self.give_up_node(place);
        }
    }

    /// The install of this place took too long.
    pub(super) fn node_install_due(&mut self, place: u32) {
        if (place as usize) < self.forest.nodes.len() && self.is_installing(place) {
            let wanted = self.forest.wanted(place);
            self.effect(Effect::CancelInstall { wanted });
            self.note(Note::InstallTimedOut { wanted });
            self.give_up_node(place);
        }
    }

    fn give_up_node(&mut self, place: u32) {
        self.end_install(place);
        // Twice: the first failure is forgiven, and this one was not a matter of chance.
        let now = self.now;
        let node = self.forest.at_mut(place);
        node.back_off(now);
        node.back_off(now);
        self.children_fall_back(place);
    }

    fn end_install(&mut self, place: u32) {
        self.forest.at_mut(place).phase = Phase::Absent;
        self.agenda.disarm(self.node_slot(place));
    }

    fn places_installing(&self, node: NodeId) -> Vec<u32> {
        let copies = self.forest.copies_of(node);
        copies.filter(|place| self.is_installing(*place)).collect()
    }

    /// Nothing is waited for any more: the tree changes, or the worker ends.
    pub(super) fn cancel_installs(&mut self) {
        for place in 0..self.forest.nodes.len() as u32 {
            if self.is_installing(place) {
                let wanted = self.forest.wanted(place);
                self.effect(Effect::CancelInstall { wanted });
                self.end_install(place);
            }
        }
        let functions: Vec<FunctionKey> = self.functions.keys().collect();
        for function in functions {
            self.cancel_unwanted_install(function);
        }
    }

    fn cancel_unwanted_install(&mut self, key: FunctionKey) {
        let closing = self.drain.is_some_and(|drain| drain.closing);
        let known = &mut self.functions[key];
        if closing && matches!(known.install, super::function::Install::Running { .. }) {
            known.install = super::function::Install::Needed;
            let wanted = Wanted::Function {
                function: key,
                version: known.version,
            };
            self.effect(Effect::CancelInstall { wanted });
        }
    }

    // Places change when a node is added to the first of several copies: so do their deadlines.

    fn cancel_node_timers(&mut self) {
        for place in 0..self.forest.nodes.len() as u32 {
            self.agenda.disarm(self.node_slot(place));
        }
    }

    fn restore_node_timers(&mut self) {
        let longest = self.params.install.unwrap_or(Duration::MAX);
        for place in 0..self.forest.nodes.len() as u32 {
            if let Phase::Installing { since } = self.forest.at(place).phase {
                self.agenda.arm(self.node_slot(place), since + longest);
            }
        }
    }
}
