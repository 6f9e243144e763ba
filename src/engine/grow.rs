//! Zygotes: who is forked from, who is made, from what, and what happens when one dies.
//!
//! A cold call takes the best zygote that is live, and says which one it would rather have had
//! (`demand`); that one is made behind its back, its ancestors first. Only where that serves it
//! sooner does a call wait for one (`expect`). When a zygote dies or a node cannot be made, its
//! functions start from the nearest live ancestor at once, because live is all that is looked at.

use super::forest::Phase;
use super::instance::InstanceState;
use super::ledger::{Amount, Holding};
use super::zygote::{self, UPROOTED, Zygote, ZygoteState};
use super::{
    Effect, End, Engine, Exit, FunctionKey, InstanceKey, Note, Origin, Sandbox, ZygoteFault,
    ZygoteKey,
};
use crate::base::{Bytes, Chain, Duration, Time};
use crate::policy::keep::Use;
use crate::policy::tree::DEPTH_MAX;
use crate::policy::{NodeId, grow};
use alloc::vec::Vec;
use core::mem;

/// A node for which there was no room is tried again after this.
const NO_ROOM_RETRY: Duration = Duration::from_secs(1);

impl Engine {
    // Where instances come from.

    /// What a new instance of this function is best made from now.
    pub(super) fn origin(&mut self, function: FunctionKey) -> Origin {
        let known = &self.functions[function];
        if self.forest.copies == 0 || !known.settings.zygote {
            return Origin::Fresh;
        }
        self.wish(function);
        let known = &self.functions[function];
        let mut usable = known.ranked.iter().filter_map(|found| {
            let zygote = self.least_loaded(found.node)?;
            let node = found.node;
            Some(Origin::Zygote { zygote, node })
        });
        let origin = usable.next().unwrap_or(Origin::Fresh);
        self.perhaps_grow(function, origin);
        origin
    }

    /// Says which zygote this function would rather be forked from than from what there is.
    pub(super) fn wish(&mut self, function: FunctionKey) {
        let ranked = mem::take(&mut self.functions[function].ranked);
        for found in &ranked {
            let home = self.home(function, found.node);
            let wished = self.live_zygote(home).is_some() || self.demand(home, Some(function));
            if wished || self.least_loaded(found.node).is_some() {
                break;
            }
        }
        self.functions[function].ranked = ranked;
    }

    /// Of several copies of the tree, each function has one that it would rather use.
    fn home(&self, function: FunctionKey, node: NodeId) -> u32 {
        self.forest
            .place(function.index() as u32 % self.forest.copies, node)
    }

    /// The zygote of this node, in any copy, that has least to do.
    pub(super) fn least_loaded(&self, node: NodeId) -> Option<ZygoteKey> {
        let places = self.forest.copies_of(node);
        let nodes = places.map(|place| self.forest.at(place));
        let able = nodes.filter(|node| !node.hopeless);
        let zygotes = able.flat_map(|node| node.zygotes.iter().copied());
        let usable = zygotes.filter(|key| {
            let zygote = &self.zygotes[*key];
            zygote.state.takes_forks() && zygote.avoided_until <= self.now
        });
        usable.min_by_key(|key| {
            let zygote = &self.zygotes[*key];
            (zygote.retiring, zygote.unconfirmed.len(), zygote.forks)
        })
    }

    /// An instance is being forked from this zygote.
    pub(super) fn fork_from(&mut self, key: ZygoteKey, instance: InstanceKey) {
        let now = self.now;
        let zygote = &mut self.zygotes[key];
        self.fork_links
            .push_last(&mut zygote.unconfirmed, zygote::slot(instance));
        zygote.working += 1;
        zygote.forks += 1;
        zygote.last_use = now;
        let (place, forks) = (zygote.place, zygote.forks);
        let node = self.forest.at_mut(place);
        node.created += 1;
        node.uses += 1.0;
        node.forks.add(now);
        let (busy, clock) = (0, self.clock);
        let used = Use { now, busy, clock };
        node.history.arrived(&used);
        node.history.used(&used);
        self.wake_zygote(key);
        if self.params.zygote.forks_max.is_some_and(|max| forks >= max) {
            self.rotate(key);
        }
        self.perhaps_replicate(key);
    }

    fn wake_zygote(&mut self, key: ZygoteKey) {
        let zygote = &mut self.zygotes[key];
        if zygote.state == ZygoteState::Frozen {
            zygote.state = ZygoteState::Live;
            let sandbox = Sandbox::Zygote(key);
            self.effect(Effect::Thaw { sandbox });
            self.arm_zygote(key);
        }
    }

    /// Import time that the best live zygote would leave to an instance of this function.
    pub(super) fn residual(&self, function: FunctionKey) -> Duration {
        let known = &self.functions[function];
        let ranked = known.ranked.iter();
        let mut live = ranked.filter(|found| self.is_live(found.node));
        let saved = live.next().map_or(Duration::ZERO, |found| found.saved);
        known.imports.saturating_sub(saved)
    }

    /// Import time left to an instance of this function that was forked from this node.
    pub(super) fn left_to_import(&self, function: FunctionKey, node: Option<NodeId>) -> Duration {
        let known = &self.functions[function];
        let ranked = known.ranked.iter();
        let from = node.and_then(|node| ranked.into_iter().find(|found| found.node == node));
        known
            .imports
            .saturating_sub(from.map_or(Duration::ZERO, |found| found.saved))
    }

    pub(super) fn is_live(&self, node: NodeId) -> bool {
        self.forest
            .copies_of(node)
            .any(|place| self.live_zygote(place).is_some())
    }

    pub(super) fn live_zygote(&self, place: u32) -> Option<ZygoteKey> {
        let zygotes = self.forest.at(place).zygotes.iter().copied();
        zygotes
            .filter(|key| {
                let zygote = &self.zygotes[*key];
                zygote.state.takes_forks() && !zygote.is_useless()
            })
            .min_by_key(|key| self.zygotes[*key].retiring)
    }

    fn nearest_live_ancestor(&self, place: u32) -> Option<ZygoteKey> {
        let mut at = self.forest.parent(place);
        while let Some(ancestor) = at {
            let usable =
                !self.forest.at(ancestor).hopeless && self.forest.may_follow(place, ancestor);
            if let Some(zygote) = self.live_zygote(ancestor).filter(|_| usable) {
                return Some(zygote);
            }
            at = self.forest.parent(ancestor);
        }
        None
    }

    /// What it would take to have a zygote here again: its imports, and those of the ancestors that
    /// are not live.
    pub(super) fn rebuild_of(&self, place: u32) -> Duration {
        let mut rebuild = Duration::from_millis(10);
        let mut at = Some(place);
        while let Some(here) = at {
            if here != place && self.live_zygote(here).is_some() {
                break;
            }
            let node = self.forest.tree.node(self.forest.node_of(here));
            rebuild += self.forest.weights.import_of(&node.packages);
            at = self.forest.parent(here);
        }
        rebuild
    }

    // Wishes.

    /// A zygote is wanted here, in the versions of a function: begins with whatever is missing
    /// first. False when nothing can be done about it now.
    pub(super) fn demand(&mut self, place: u32, like: Option<FunctionKey>) -> bool {
        if self.drain.is_some() {
            return false;
        }
        let mut at = place;
        for _ in 0..=DEPTH_MAX {
            let node = self.forest.at(at);
            if node.phase != Phase::Absent {
                return true;
            }
            if !node.may_start(self.now) {
                return false;
            }
            if self.begins_install(at, like) {
                return true;
            }
            let Some(parent) = self.forest.parent(at) else {
                return self.begin(at, None);
            };
            let fits = self.forest.may_follow(at, parent);
            if let Some(zygote) = self.live_zygote(parent).filter(|_| fits) {
                return self.begin(at, Some(zygote));
            }
            let coming = self.forest.at(parent);
            if !fits || coming.phase == Phase::Absent && !coming.may_start(self.now) {
                let ancestor = self.nearest_live_ancestor(at);
                return self.begin(at, ancestor);
            }
            self.forest.at_mut(at).phase = Phase::Waiting;
            at = parent;
        }
        unreachable!("a tree is at most this deep")
    }

    /// Makes a zygote here from this one. False when there is no room for it.
    fn begin(&mut self, place: u32, parent: Option<ZygoteKey>) -> bool {
        if self.drain.is_some() {
            self.wish_no_more(place);
            return false;
        }
        let need = Amount::of_zygote(self.zygote_need(place, parent));
        let charge = if self.waiters.is_empty() && !self.zygotes.is_full() {
            self.ledger.take(need)
        } else {
            None
        };
        let Some(charge) = charge else {
            self.no_room(place, need);
            return false;
        };
        let node = self.forest.node_of(place);
        let deadline = self.now + self.params.zygote_start;
        let made = self.zygotes.insert(Zygote {
            place,
            node,
            state: ZygoteState::Forking,
            parent,
            since: self.now,
            deadline,
            ready_at: self.now,
            unconfirmed: Chain::EMPTY,
            making: 0,
            working: 0,
            forks: 0,
            last_use: self.now,
            avoided_until: Time::ZERO,
            retiring: false,
            charge,
            end: None,
            evicted: false,
        });
        let key = made.expect("it was looked whether there is a place");
        let present = self.forest.at_mut(place);
        present.zygotes.push(key);
        present.phase = Phase::Present;
        let parent_node = parent.map(|parent| self.zygotes[parent].node);
        if let Some(parent) = parent {
            let from = &mut self.zygotes[parent];
            from.making += 1;
            from.forks += 1;
            from.last_use = self.now;
            let from = from.place;
            self.forest.at_mut(from).created += 1;
            self.wake_zygote(parent);
        }
        self.arm_zygote(key);
        self.counts.zygotes_started += 1;
        self.unsettled = true;
        self.effect(Effect::StartZygote {
            zygote: key,
            tree: self.forest.copy_of(place),
            node,
            parent,
        });
        self.note(Note::ZygoteStarting {
            zygote: key,
            node,
            parent: parent_node,
        });
        true
    }

    /// Memory of a zygote here: its own imports, and those of ancestors it cannot share with.
    fn zygote_need(&self, place: u32, parent: Option<ZygoteKey>) -> Bytes {
        let shared = parent.map(|parent| self.zygotes[parent].place);
        let mut need = Bytes::ZERO;
        let mut at = Some(place);
        while let Some(here) = at
            && at != shared
        {
            need += self.forest.memory(here);
            at = self.forest.parent(here);
        }
        Bytes::min(need, self.params.zygote.memory)
    }

    fn no_room(&mut self, place: u32, need: Amount) {
        let retry_at = self.now + NO_ROOM_RETRY;
        self.forest.at_mut(place).retry_at = retry_at;
        self.wish_no_more(place);
        let node = self.forest.node_of(place);
        self.evict_for_zygote(need, node);
    }

    /// Nothing is done about this node now, nor about the children that waited for it; they are
    /// demanded again when they are needed.
    pub(super) fn wish_no_more(&mut self, place: u32) {
        let node = self.forest.at_mut(place);
        if node.zygotes.is_empty() {
            node.phase = Phase::Absent;
        }
        self.each_waiting_child(place, Self::wish_no_more);
    }

    fn each_waiting_child<F: FnMut(&mut Self, u32)>(&mut self, place: u32, mut act: F) {
        let mut number = 0;
        while let Some(child) = self.forest.child(place, number) {
            number += 1;
            if self.forest.at(child).phase == Phase::Waiting {
                act(self, child);
            }
        }
    }

    /// If the node that its children waited for will not come, they take the next best ancestor.
    pub(super) fn children_fall_back(&mut self, place: u32) {
        if self.forest.at(place).phase != Phase::Absent {
            return;
        }
        self.each_waiting_child(place, |engine, child| {
            let ancestor = engine.nearest_live_ancestor(child);
            engine.begin(child, ancestor);
        });
    }

    // What happens to zygotes.

    pub(super) fn zygote_ready(&mut self, key: ZygoteKey) {
        let Some(zygote) = self.zygotes.get_mut(key) else {
            return self.stale();
        };
        if zygote.state != ZygoteState::Forking {
            return self.stale();
        }
        zygote.state = ZygoteState::Live;
        zygote.ready_at = self.now;
        zygote.last_use = self.now;
        let (place, node, took) = (zygote.place, zygote.node, self.now.since(zygote.since));
        self.ledger.mark(&mut zygote.charge, Holding::Idle);
        self.made(key);
        let present = self.forest.at_mut(place);
        present.failures = 0;
        present.start_time.add(took);
        self.arm_zygote(key);
        self.offer_zygote(key);
        self.note(Note::ZygoteReady {
            zygote: key,
            node,
            took,
        });
        self.unsettled = true;
        self.each_waiting_child(place, |engine, child| {
            let parent = if engine.forest.may_follow(child, place) {
                Some(key)
            } else {
                engine.nearest_live_ancestor(child)
            };
            engine.begin(child, parent);
        });
        self.serve_expectants();
    }

    /// Its parent is done with it.
    fn made(&mut self, key: ZygoteKey) {
        let key_of_parent = self.zygotes[key].parent.take();
        if let Some(parent) = key_of_parent.and_then(|parent| self.zygotes.get_mut(parent)) {
            parent.making -= 1;
            self.unsettled = true;
        }
        if let Some(parent) = key_of_parent {
            self.perhaps_offer_zygote(parent);
        }
    }

    pub(super) fn zygote_failed(&mut self, key: ZygoteKey, fault: ZygoteFault) {
        let Some(zygote) = self.zygotes.get(key) else {
            return self.stale();
        };
        match (zygote.state, fault) {
            (ZygoteState::Forking, _) => {}
            (ZygoteState::Live | ZygoteState::Frozen, ZygoteFault::Died(exit)) => {
                return self.zygote_exited(key, exit);
            }
            (ZygoteState::Live | ZygoteState::Frozen, _) => {
                return self.zygote_exited(key, Exit::Status(1));
            }
            (ZygoteState::Dying, _) => {
                self.bury_zygote(key, Exit::Status(0));
                return;
            }
        }
        let place = zygote.place;
        let node = zygote.node;
        self.detach(key);
        let failed = self.forest.at_mut(place);
        failed.hopeless |= matches!(fault, ZygoteFault::HasThreads | ZygoteFault::Unfit);
        let wait = failed.back_off(self.now);
        let retry = (!failed.hopeless).then_some(wait);
        let replacing = failed.zygotes.clone();
        for other in replacing {
            self.retire_no_more(other);
        }
        self.counts.zygotes_failed += 1;
        self.note(Note::ZygoteFailed {
            zygote: key,
            node,
            fault,
            retry,
        });
        self.bury_zygote(key, Exit::Status(1));
        self.unpin(place);
        self.children_fall_back(place);
        self.serve_expectants();
    }

    pub(super) fn zygote_exited(&mut self, key: ZygoteKey, exit: Exit) {
        let Some(zygote) = self.zygotes.get(key) else {
            return self.stale();
        };
        match zygote.state {
            ZygoteState::Forking => return self.zygote_failed(key, ZygoteFault::Died(exit)),
            ZygoteState::Dying => return self.bury_zygote(key, exit),
            ZygoteState::Live | ZygoteState::Frozen => {}
        }
        let place = zygote.place;
        // From here on nobody starts anything from it.
        self.zygotes[key].state = ZygoteState::Dying;
        self.detach(key);
        self.orphan(key);
        self.forest.at_mut(place).back_off(self.now);
        self.counts.zygotes_failed += 1;
        self.bury_zygote(key, exit);
        let is_free = self.unpin(place);
        let node = self.forest.at(place);
        if node.zygotes.is_empty() && node.uses > 0.0 && !is_free {
            self.demand(place, None);
        }
        self.children_fall_back(place);
    }

    /// Tells the zygote to die. Its node has it no more from now on.
    pub(super) fn kill_zygote(&mut self, key: ZygoteKey, end: End) {
        let Some(zygote) = self.zygotes.get(key) else {
            return;
        };
        if zygote.state == ZygoteState::Dying {
            return;
        }
        let place = zygote.place;
        self.zygotes[key].state = ZygoteState::Dying;
        self.detach(key);
        self.orphan(key);
        let zygote = &mut self.zygotes[key];
        zygote.end = Some(end);
        self.ledger.mark(&mut zygote.charge, Holding::Leaving);
        self.made(key);
        self.unsettled = true;
        self.effect(Effect::KillZygote { zygote: key });
        if place != UPROOTED {
            self.unpin(place);
            self.children_fall_back(place);
        }
    }

    /// Whatever depended on this zygote being there.
    fn orphan(&mut self, key: ZygoteKey) {
        while let Some(index) = self.zygotes[key].unconfirmed.first() {
            let listed = self.instances.key_at(index);
            let instance = listed.expect("lists hold the living");
            let chain = &mut self.zygotes[key].unconfirmed;
            self.fork_links.remove(chain, index);
            self.lose_origin(instance);
        }
        if self.zygotes[key].making == 0 {
            return;
        }
        let made = self.zygotes.iter();
        let made = made.filter(|(_, zygote)| zygote.parent == Some(key));
        let made: Vec<ZygoteKey> = made.map(|(made, _)| made).collect();
        for child in made {
            self.kill_zygote(child, End::LostZygote);
        }
    }

    /// It cannot be known whether this fork happened.
    fn lose_origin(&mut self, key: InstanceKey) {
        let instance = &mut self.instances[key];
        let zygote = instance.zygote.take();
        let working = instance.state.is_working();
        if let Some(zygote) = zygote.filter(|_| working) {
            self.count_working(zygote, false);
        }
        if self.instances[key].state != InstanceState::Dying {
            self.kill(key, End::LostZygote);
        }
    }

    /// Takes it from its node, which may be without one then.
    fn detach(&mut self, key: ZygoteKey) {
        let zygote = &mut self.zygotes[key];
        let place = zygote.place;
        if mem::take(&mut zygote.retiring) {
            self.retiring -= 1;
        }
        self.forget_zygote(key);
        self.agenda.disarm(Self::zygote_slot(key.index() as u32));
        if place == UPROOTED {
            return;
        }
        let node = self.forest.at_mut(place);
        node.zygotes.retain(|other| *other != key);
        if node.zygotes.is_empty() {
            node.phase = Phase::Absent;
            node.uses *= 0.5;
            node.history.lost(0);
        }
    }

    fn bury_zygote(&mut self, key: ZygoteKey, exit: Exit) {
        self.made(key);
        let gone = self.zygotes.remove(key);
        let gone = gone.expect("whoever buries has looked");
        if gone.evicted {
            self.evictions_in_flight -= 1;
        }
        self.note(Note::ZygoteEnded {
            zygote: key,
            node: gone.node,
            why: gone.end.unwrap_or(End::ByItself(exit)),
            forks: gone.forks,
        });
        self.ledger.give_back(gone.charge);
        self.unsettled = true;
    }

    // Rotation and replicas.

    /// It refused to fork because it has threads. Where no fork ever succeeded its imports start
    /// them, and nothing can come of this node; else it was this zygote's misfortune.
    pub(super) fn has_threads(&mut self, key: ZygoteKey) {
        if self.zygotes[key].state == ZygoteState::Dying {
            return;
        }
        let now = self.now;
        let node = self.forest.at_mut(self.zygotes[key].place);
        if node.proven {
            node.back_off(now);
            return self.end_soon(key);
        }
        node.hopeless = true;
        let all = node.zygotes.clone();
        for zygote in all {
            self.end_soon(zygote);
        }
    }

    /// Nothing more is forked from it, and it ends when nothing hangs on it any more.
    fn end_soon(&mut self, key: ZygoteKey) {
        self.zygotes[key].avoided_until = Time::MAX;
        self.retire_soon(key);
    }

    fn retire_soon(&mut self, key: ZygoteKey) {
        let zygote = &mut self.zygotes[key];
        if !mem::replace(&mut zygote.retiring, true) {
            self.retiring += 1;
        }
        self.unsettled = true;
    }

    fn retire_no_more(&mut self, key: ZygoteKey) {
        let zygote = &mut self.zygotes[key];
        if !zygote.is_useless() && mem::take(&mut zygote.retiring) {
            self.retiring -= 1;
        }
    }

    pub(super) fn zygote_may_rotate(&mut self, key: ZygoteKey) {
        let Some(age) = self.params.zygote.age_max else {
            return;
        };
        let zygote = &self.zygotes[key];
        if zygote.state.takes_forks() && zygote.ready_at + age <= self.now {
            self.rotate(key);
        }
    }

    /// Has it replaced: it forks on until the new one is live.
    fn rotate(&mut self, key: ZygoteKey) {
        let zygote = &self.zygotes[key];
        let place = zygote.place;
        if zygote.retiring || self.drain.is_some() || self.is_being_made(place) {
            return;
        }
        let parent = self.nearest_live_ancestor(place);
        if self.begin(place, parent) {
            self.retire_soon(key);
        }
    }

    fn is_being_made(&self, place: u32) -> bool {
        let mut zygotes = self.forest.at(place).zygotes.iter();
        zygotes.any(|key| self.zygotes[*key].state == ZygoteState::Forking)
    }

    /// Ends those that were replaced, or are of no use, and that nothing hangs on any more.
    pub(super) fn end_retiring(&mut self) {
        if self.retiring == 0 {
            return;
        }
        let retiring = self.zygotes.iter().filter(|(_, zygote)| {
            let idle = zygote.unconfirmed.is_empty() && zygote.making == 0;
            let replaced = || {
                let node = self.forest.at(zygote.place);
                let mut others = node.zygotes.iter().map(|key| &self.zygotes[*key]);
                others.any(|other| !other.retiring && other.state.takes_forks())
            };
            zygote.retiring && idle && (zygote.is_useless() || replaced())
        });
        let retiring: Vec<ZygoteKey> = retiring.map(|(key, _)| key).collect();
        for key in retiring {
            self.kill_zygote(key, End::Rotated);
        }
    }

    /// A node that forks too much of the time gets another zygote.
    fn perhaps_replicate(&mut self, key: ZygoteKey) {
        let place = self.zygotes[key].place;
        let node = self.forest.at(place);
        let Some(fork_time) = node.fork_time.get() else {
            return;
        };
        let rate = node.forks.per_second(self.now);
        let utilisation = grow::utilisation(rate, fork_time, node.zygotes.len());
        let enough = node.zygotes.len() >= self.limits.replicas as usize;
        if enough || !grow::is_saturated(utilisation) || !node.may_start(self.now) {
            return;
        }
        if self.is_being_made(place) || self.drain.is_some() {
            return;
        }
        let parent = self.nearest_live_ancestor(place);
        if self.begin(place, parent) {
            let node = self.forest.at(place);
            let replicas = node.zygotes.len() as u32;
            let newest = *node.zygotes.last().expect("it was just begun");
            self.note(Note::Replicated {
                zygote: newest,
                node: self.forest.node_of(place),
                replicas,
                utilisation,
            });
        }
    }
}
