//! Who gives up memory, and why.
//!
//! Enough and no more: what has been told to go and has not gone yet counts as coming back. What
//! is idle goes in the order of its worth (`policy::keep`); what runs is never touched. Where even
//! all that is idle would not do, nothing goes in vain.
//!
//! Functions and zygotes stand in one heap, by a worth that may be too low: uses raise it, and a
//! use does not touch the heap. Whoever comes up with too low a number is put back with the right
//! one. So a warm call pays nothing, and each correction is paid by a use before it. A policy whose
//! worth drifts with time has all numbers made anew before it evicts, at most once in a short
//! while.
//!
//! There are three reasons, in this order: somebody waits; the machine is short; the goal (a part
//! of the pool is kept free, so that a start seldom has to wait). For the goal only what has been
//! idle for a while goes: else a busy pool would kill its instances between two calls.

use super::instance::InstanceState;
use super::ledger::Amount;
use super::{End, Engine, FunctionKey, InstanceKey, Need, Note, Sandbox, Zygote, ZygoteKey};
use crate::base::{Bytes, Duration, Time};
use crate::policy::NodeId;
use crate::policy::keep::{History, Thing};
use alloc::vec::Vec;

/// The goal takes nothing that was used this recently.
const GOAL_IDLE_MIN: Duration = Duration::from_secs(1);
/// The goal is looked at this often while it is missed.
const GOAL_INTERVAL: Duration = Duration::from_secs(1);
/// Too young ones that the goal passes over in one search.
const ASIDE_MAX: usize = 8;
/// Worth that drifts is good for this long.
const DRIFT_MAX: Duration = Duration::from_millis(20);
/// Rebuild time of an instance of which nothing was measured.
const REBUILD_GUESS: Duration = Duration::from_millis(10);

/// Weight of one more function in what is usual.
const USUAL_SHARE: f64 = 0.125;

/// What today's calls added to the tree goes before all else, in the order of its own worth: below
/// any number of any policy, `GROWN_SPREAD` apart at most.
const GROWN_WORTH: f64 = -1e15;
const GROWN_SPREAD: f64 = 1e12;

/// Something that could go.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Instance(FunctionKey, InstanceKey),
    Zygote(ZygoteKey),
}

impl Engine {
    pub(super) fn evict_what_must_go(&mut self) {
        if self.drain.is_some_and(|drain| drain.closing) {
            return;
        }
        if let Some(head) = self.first_waiter() {
            let wanted = self.awaited(self.reachable());
            self.evict(wanted, Need::Start(head), Duration::ZERO);
        }
        self.pursue_goal();
    }

    /// All that could be free if everything idle went.
    fn reachable(&self) -> Amount {
        self.ledger.expected().plus(self.ledger.idle())
    }

    /// Keeps a part of the pool free, out of what has not been used for a while.
    fn pursue_goal(&mut self) {
        let goal = self.ledger.limit().memory.percent(self.params.free_percent);
        let goal = Amount::of_memory(goal);
        let met = self.evict(goal, Need::Goal, GOAL_IDLE_MIN);
        self.short = !met;
        if !met && !self.ledger.idle().is_nothing() {
            self.arm_goal();
        }
    }

    pub(super) fn arm_goal(&mut self) {
        self.agenda.arm(Self::ENGINE_SLOT, self.now + GOAL_INTERVAL);
    }

    /// The machine is short of memory, whatever the ledger says.
    pub(super) fn pressure_rose(&mut self, wanted: Bytes) {
        let expected = self.ledger.expected().memory;
        let target = Amount::of_memory(expected + wanted);
        self.evict(target, Need::Pressure, Duration::ZERO);
    }

    /// Makes room for a zygote out of what is older than it would be; it is tried again later.
    /// Nobody goes for a node that was not planned: it has what is free.
    pub(super) fn evict_for_zygote(&mut self, need: Amount, node: NodeId) {
        if self.forest.is_grown(node) {
            return;
        }
        if need.beyond(self.reachable()).is_nothing() {
            self.evict(need, Need::Zygote(node), GOAL_IDLE_MIN);
        }
    }

    /// Tells the least worthy to go until this much will be free; false when it will not.
    fn evict(&mut self, wanted: Amount, need: Need, idle_min: Duration) -> bool {
        if !wanted.beyond(self.ledger.expected()).is_nothing() {
            self.follow_drift();
        }
        while !wanted.beyond(self.ledger.expected()).is_nothing() {
            if self.evictions_in_flight >= self.limits.evictions_in_flight {
                return false;
            }
            let Some((worth, victim)) = self.next_victim(idle_min) else {
                return false;
            };
            if self.params.evict.has_clock() {
                self.clock = f64::max(self.clock, worth);
            }
            self.evict_one(victim, worth, need);
        }
        true
    }

    /// Makes all numbers anew where they change with time.
    fn follow_drift(&mut self) {
        if !self.params.evict.drifts() || self.now.since(self.drift_followed) < DRIFT_MAX {
            return;
        }
        self.drift_followed = self.now;
        let slots: Vec<u32> = self.victims.iter().map(|(_, slot)| slot).collect();
        for slot in slots {
            let Some((victim, _)) = self.victim_at(slot) else {
                continue;
            };
            let thing = self.thing(victim);
            self.history_mut(victim).remember(&thing);
            let worth = self.worth_of(victim);
            self.victims.set(slot, worth);
        }
    }

    fn evict_one(&mut self, victim: Victim, worth: f64, need: Need) {
        self.evictions_in_flight += 1;
        self.counts.evicted += 1;
        match victim {
            Victim::Instance(function, key) => {
                self.functions[function].counts.evictions += 1;
                let instance = &mut self.instances[key];
                instance.evicted = true;
                let (memory, since) = (instance.charge.memory(), instance.since);
                self.note(Note::Evicted {
                    sandbox: Sandbox::Instance(key),
                    function: Some(function),
                    node: None,
                    need,
                    worth,
                    memory,
                    idle: self.now.since(since),
                });
                self.kill(key, End::Evicted);
            }
            Victim::Zygote(key) => {
                let zygote = &mut self.zygotes[key];
                zygote.evicted = true;
                let (memory, since) = (zygote.charge.memory(), zygote.last_use);
                let node = zygote.node;
                self.note(Note::Evicted {
                    sandbox: Sandbox::Zygote(key),
                    function: None,
                    node: Some(node),
                    need,
                    worth,
                    memory,
                    idle: self.now.since(since),
                });
                self.kill_zygote(key, End::Evicted);
            }
        }
    }

    /// The least worthy of what has been idle for so long.
    fn next_victim(&mut self, idle_min: Duration) -> Option<(f64, Victim)> {
        let mut aside = [(0.0, 0); ASIDE_MAX];
        let mut passed = 0;
        let mut found = None;
        while let Some((stored, slot)) = self.victims.first() {
            let Some((victim, used)) = self.victim_at(slot) else {
                self.victims.remove(slot);
                continue;
            };
            let worth = self.worth_of(victim);
            if worth > stored {
                self.victims.set(slot, worth);
                continue;
            }
            if self.now.since(used) >= idle_min {
                found = Some((worth, victim));
                break;
            }
            if passed == ASIDE_MAX {
                break;
            }
            aside[passed] = (stored, slot);
            passed += 1;
            self.victims.remove(slot);
        }
        for (stored, slot) in &aside[..passed] {
            self.victims.set(*slot, *stored);
        }
        found
    }

    /// What would go from this slot, and since when it has not been used.
    fn victim_at(&self, slot: u32) -> Option<(Victim, Time)> {
        if slot >= self.limits.functions {
            let key = self.zygotes.key_at(slot - self.limits.functions)?;
            let zygote = &self.zygotes[key];
            return zygote
                .is_spare()
                .then_some((Victim::Zygote(key), zygote.last_use));
        }
        let function = self.functions.key_at(slot)?;
        let frozen = self.coolest(function, InstanceState::Frozen);
        let oldest = frozen.or_else(|| self.coolest(function, InstanceState::Idle))?;
        let since = self.instances[oldest].since;
        Some((Victim::Instance(function, oldest), since))
    }

    fn worth_of(&self, victim: Victim) -> f64 {
        let thing = self.thing(victim);
        match victim {
            Victim::Instance(function, _) => self.functions[function].history.worth(&thing),
            Victim::Zygote(key) => {
                let zygote = &self.zygotes[key];
                let worth = self.forest.at(zygote.place).history.worth(&thing);
                if self.forest.is_grown(zygote.node) {
                    GROWN_WORTH + GROWN_SPREAD * libm::atan(worth)
                } else {
                    worth
                }
            }
        }
    }

    fn history_mut(&mut self, victim: Victim) -> &mut History {
        match victim {
            Victim::Instance(function, _) => &mut self.functions[function].history,
            Victim::Zygote(zygote) => &mut self.forest.at_mut(self.zygotes[zygote].place).history,
        }
    }

    /// As the policy sees it.
    fn thing(&self, victim: Victim) -> Thing {
        match victim {
            Victim::Instance(function, key) => {
                let (known, oldest) = (&self.functions[function], &self.instances[key]);
                let own = known.own.get().unwrap_or(REBUILD_GUESS);
                Thing {
                    rebuild: own + self.residual(function),
                    memory: oldest.charge.memory(),
                    level: known.lowest(),
                    last_use: oldest.since,
                    now: self.now,
                    name: function.pack(),
                }
            }
            Victim::Zygote(key) => {
                let zygote = &self.zygotes[key];
                Thing {
                    rebuild: self.rebuild_of(zygote.place),
                    memory: zygote.charge.memory(),
                    level: 1,
                    last_use: zygote.last_use,
                    now: self.now,
                    name: key.pack(),
                }
            }
        }
    }

    /// The function has something idle now.
    pub(super) fn offer_victim(&mut self, function: FunctionKey) {
        let slot = function.index() as u32;
        if self.victims.contains(slot) {
            return;
        }
        if let Some((victim, _)) = self.victim_at(slot) {
            let worth = self.worth_of(victim);
            self.victims.set(slot, worth);
        }
    }

    /// A zygote is live, or depends on fewer now.
    pub(super) fn offer_zygote(&mut self, key: ZygoteKey) {
        let slot = self.limits.functions + key.index() as u32;
        if !self.victims.contains(slot) {
            let worth = self.worth_of(Victim::Zygote(key));
            self.victims.set(slot, worth);
        }
    }

    /// Less depends on the zygote than before: it may be one that could go.
    pub(super) fn perhaps_offer_zygote(&mut self, key: ZygoteKey) {
        if self.zygotes.get(key).is_some_and(Zygote::is_spare) {
            self.offer_zygote(key);
        }
    }

    pub(super) fn forget_victim(&mut self, function: FunctionKey) {
        self.victims.remove(function.index() as u32);
    }

    pub(super) fn forget_zygote(&mut self, key: ZygoteKey) {
        self.victims
            .remove(self.limits.functions + key.index() as u32);
    }

    /// What is idle may be worth something else than before.
    pub(super) fn reconsider_victims(&mut self) {
        for slot in 0..self.limits.functions + self.limits.zygotes {
            self.victims.remove(slot);
        }
        let idle = self.functions.iter().filter(|(_, known)| known.has_idle());
        let idle: Vec<FunctionKey> = idle.map(|(key, _)| key).collect();
        for function in idle {
            self.offer_victim(function);
        }
        let live = self.zygotes.iter();
        let live = live.filter(|(_, zygote)| zygote.state.takes_forks());
        let live: Vec<ZygoteKey> = live.map(|(key, _)| key).collect();
        for zygote in live {
            self.offer_zygote(zygote);
        }
    }

    // What sandboxes really hold.

    pub(super) fn memory_sampled(&mut self, sandbox: Sandbox, memory: Bytes) {
        match sandbox {
            Sandbox::Instance(key) => self.instance_sampled(key, memory),
            Sandbox::Zygote(key) => self.zygote_sampled(key, memory),
        }
    }

    fn instance_sampled(&mut self, key: InstanceKey, memory: Bytes) {
        let Some(instance) = self.instances.get_mut(key) else {
            return self.stale();
        };
        if instance.state == InstanceState::Dying {
            return;
        }
        self.ledger.measure(&mut instance.charge, memory);
        self.unsettled = true;
        let (function, call, node) = (instance.function, instance.call, instance.node);
        // Of a tree that was changed meanwhile it may be there no more.
        let is_there =
            |node: &NodeId| self.forest.copies > 0 && self.forest.tree.get(*node).is_some();
        if let Some(node) = node.filter(is_there) {
            let packages = self.functions[function].packages();
            let missing = self.forest.missing_at(node, packages);
            let place = self.forest.place(0, node);
            let own = memory - missing;
            self.forest.at_mut(place).instances.add(own);
        }
        let known = &mut self.functions[function];
        if known.measured.is_none() {
            let ceiling = f64::max(known.settings.memory.as_mb(), 1.0);
            let percent = f64::min(100.0 * memory.as_mb() / ceiling, 100.0);
            self.usual_percent += (percent - self.usual_percent) * USUAL_SHARE;
        }
        known.measured = Some(smoothed(known.measured, memory));
        if memory <= known.settings.memory {
            return;
        }
        if let Some(call) = call {
            self.instances[key].call = None;
            if self.calls[call].hung_up {
                self.abandon(call);
            } else {
                self.refuse(call, super::Refusal::SandboxDied);
            }
        }
        self.kill(key, End::OverMemory);
    }

    fn zygote_sampled(&mut self, key: ZygoteKey, memory: Bytes) {
        let Some(zygote) = self.zygotes.get_mut(key) else {
            return self.stale();
        };
        if !zygote.state.takes_forks() {
            return;
        }
        self.ledger.measure(&mut zygote.charge, memory);
        self.unsettled = true;
        let node = self.forest.at_mut(zygote.place);
        node.measured = Some(smoothed(node.measured, memory));
        if memory > self.params.zygote.memory {
            self.kill_zygote(key, End::OverMemory);
        }
    }
}

/// Follows growth at once, shrinking slowly.
fn smoothed(known: Option<Bytes>, sample: Bytes) -> Bytes {
    match known {
        Some(known) if sample < known => Bytes::new((known.get() * 7 + sample.get()) / 8),
        _ => sample,
    }
}
