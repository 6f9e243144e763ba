//! Starts: whether there is room, from what, and who waits for room in what order.
//!
//! Functions that wait for memory stand in one line. Memory that comes free goes to the first; one
//! that needs less may pass, but only so often (`Limits::bypasses`), then everybody stands behind
//! the first until it is served. So nobody is behind a giant for ever, nor the giant behind dwarfs.
//! Whoever was served and wants more goes to the end of the line.

use super::function::{Function, slot};
use super::instance::{Instance, InstanceState};
use super::ledger::{Amount, Charge, Holding};
use super::zygote;
use super::{
    Effect, Engine, ForkFault, FunctionKey, Growth, InstanceKey, Note, Origin, Refusal, Start,
    ZygoteKey,
};
use crate::base::{Bytes, Duration, Time};
use crate::policy::scale::{Load, Plan, RELEASES_MAX, Releases};

/// Waiters looked at in one turn.
pub(super) const SCAN_MAX: usize = 16;
/// What an instance holds beside its packages before anything was measured.
const GUESS: Bytes = Bytes::from_mb(16);
/// Part of its ceiling that a function uses, before any was measured.
pub(super) const USUAL_PERCENT: f64 = 25.0;
/// Headroom over what was measured, in percent of it.
const HEADROOM_PERCENT: u32 = 25;
/// How long a zygote is passed over after a fork from it failed.
const AVOIDANCE: Duration = Duration::from_secs(1);

/// Whether an instance may start now.
enum Admission {
    Granted(Charge),
    /// There will be room.
    Later,
    /// There will never be.
    Never,
}

impl Engine {
    /// What the scaling policy makes of this function now.
    pub(super) fn plan(&self, function: FunctionKey) -> Plan {
        self.params.scale.plan(&self.load(function))
    }

    /// What the scaling policy may know.
    pub(super) fn load(&self, function: FunctionKey) -> Load {
        let known = &self.functions[function];
        let first = known.queue.first().and_then(|at| self.calls.key_at(at));
        let since = first.map_or(self.now, |call| self.calls[call].since);
        let (service, cold) = (known.service.get(), self.cold_of(function));
        let mut load = Load {
            waiting: known.queue.len(),
            longest_wait: self.now.since(since),
            coming: known.spare,
            releases: Releases::NONE,
            rate: known.rate.per_second(self.now),
            service,
            cold,
            cap: known.settings.instances.unwrap_or(u32::MAX),
            alive: known.alive(),
        };
        if let (Some(service), Some(cold)) = (service, cold)
            && load.waiting > 0
        {
            self.expect_releases(known, service, cold, &mut load.releases);
        }
        load
    }

    /// When instances that have a call are expected to be free: those given theirs first, first.
    fn expect_releases(
        &self,
        known: &Function,
        service: Duration,
        cold: Duration,
        releases: &mut Releases,
    ) {
        for state in [
            InstanceState::Busy,
            InstanceState::Starting,
            InstanceState::Forking,
        ] {
            let listed = self.instance_links.iter(known.chain(state));
            for index in listed.take(RELEASES_MAX) {
                let key = self.instances.key_at(index);
                let instance = &self.instances[key.expect("lists hold the living")];
                releases.push(match state {
                    InstanceState::Busy => remaining(service, self.now.since(instance.since)),
                    _ if instance.spare => continue,
                    _ => remaining(cold, self.now.since(instance.born)) + service,
                });
            }
        }
    }

    /// How long a start would take now: what its code needs, and the imports that the best live
    /// zygote leaves to it.
    pub(super) fn cold_of(&self, function: FunctionKey) -> Option<Duration> {
        let own = self.functions[function].own.get()?;
        Some(own + self.residual(function))
    }

    /// What one more instance will hold: as measured with headroom, never above the ceiling.
    pub(super) fn need_of(&self, function: FunctionKey) -> Amount {
        let known = &self.functions[function];
        let held = known.measured.unwrap_or_else(|| self.guess(known));
        let held = held + held.percent(HEADROOM_PERCENT);
        Amount::of_instance(Bytes::min(held, known.settings.memory))
    }

    /// Of a function that was never measured: what others hold that came from the same node; else
    /// what its packages weigh, or the part of its ceiling that others use of theirs.
    fn guess(&self, known: &Function) -> Bytes {
        let mut ranked = known.ranked.iter();
        let usual = ranked
            .find(|found| self.is_live(found.node))
            .and_then(|found| {
                let node = self.forest.at(self.forest.place(0, found.node));
                Some(node.instances.get()? + self.forest.missing_at(found.node, known.packages()))
            });
        usual.unwrap_or_else(|| self.first_guess(known))
    }

    fn first_guess(&self, known: &Function) -> Bytes {
        let weights = &self.forest.weights;
        let packages = known.packages().iter();
        let modelled = GUESS + packages.map(|package| weights.of(package).memory).sum();
        let usual = known
            .settings
            .memory
            .percent(libm::round(self.usual_percent) as u32);
        Bytes::max(modelled, usual)
    }

    /// Starts an instance for the call that waits behind so many; false when there is no room, or
    /// when it is better to wait for a zygote.
    pub(super) fn start_for_call(&mut self, function: FunctionKey, patient: u32) -> bool {
        if self.expects_zygote(function) {
            return false;
        }
        match self.admit(function) {
            Admission::Granted(charge) => {
                self.start_granted(function, charge, patient);
                true
            }
            Admission::Later => {
                self.await_memory(function);
                false
            }
            Admission::Never => {
                self.refuse_queue(function, Refusal::Overloaded);
                false
            }
        }
    }

    fn start_granted(&mut self, function: FunctionKey, charge: Charge, patient: u32) {
        let call = self.queued_behind(function, patient);
        let waiting = self.functions[function].queue.len();
        let origin = self.origin(function);
        let instance = self.fork(function, origin, charge, waiting, Growth::Demand);
        self.unqueue(call);
        let start = match origin {
            Origin::Fresh => Start::Fresh,
            Origin::Zygote { .. } => Start::Zygote,
        };
        self.give(call, instance, start);
    }

    /// Starts an instance ahead of need, if there is room that nobody waits for.
    pub(super) fn start_ahead(&mut self, function: FunctionKey) {
        let need = self.need_of(function);
        if !self.waiters.is_empty() || self.drain.is_some() {
            return;
        }
        let Some(charge) = self.ledger.take(need) else {
            return;
        };
        let origin = self.origin(function);
        self.fork(function, origin, charge, 0, Growth::Foreseen);
    }

    fn admit(&mut self, function: FunctionKey) -> Admission {
        let need = self.need_of(function);
        if !need.beyond(self.ledger.limit()).is_nothing() {
            return Admission::Never;
        }
        let head = self.first_waiter().filter(|head| *head != function);
        if let Some(head) = head
            && self.functions[head].bypassed >= self.limits.bypasses
        {
            return Admission::Later;
        }
        let Some(charge) = self.ledger.take(need) else {
            return Admission::Later;
        };
        if let Some(head) = head {
            self.functions[head].bypassed += 1;
        }
        Admission::Granted(charge)
    }

    /// Makes the instance. A call may be given to it at once.
    fn fork(
        &mut self,
        function: FunctionKey,
        origin: Origin,
        charge: Charge,
        waiting: u32,
        why: Growth,
    ) -> InstanceKey {
        let (zygote, node) = match origin {
            Origin::Fresh => (None, None),
            Origin::Zygote { zygote, node } => (Some(zygote), Some(node)),
        };
        let version = self.functions[function].version;
        let deadline = self.now + self.params.fork;
        if why == Growth::Foreseen {
            self.functions[function].spare += 1;
        }
        let imports = Self::is_heavy(self.left_to_import(function, node));
        self.importing += u32::from(imports);
        let made = self.instances.insert(Instance {
            function,
            state: InstanceState::Forking,
            call: None,
            version,
            confirmed: false,
            given: false,
            since: self.now,
            deadline,
            born: self.now,
            zygote,
            node,
            charge,
            end: None,
            evicted: false,
            spare: why == Growth::Foreseen,
            imports,
        });
        let key = made.expect("admission looked whether there is a place");
        self.list(key);
        self.arm(function, deadline);
        if let Some(zygote) = zygote {
            self.fork_from(zygote, key);
        }
        self.counts.forks += 1;
        self.unsettled = true;
        self.effect(Effect::Fork {
            instance: key,
            function,
            version,
            origin,
        });
        let alive = self.functions[function].alive();
        self.note(Note::Scaled {
            function,
            instance: key,
            origin,
            waiting,
            alive,
            why,
        });
        key
    }

    /// The process exists.
    pub(super) fn forked(&mut self, key: InstanceKey) {
        let Some(instance) = self.instances.get(key) else {
            return self.stale();
        };
        let (state, has_call, function) =
            (instance.state, instance.call.is_some(), instance.function);
        if instance.confirmed {
            // A sign of life came first.
            return;
        }
        self.confirm(key);
        match (state, has_call) {
            (InstanceState::Dying, _) => self.effect(Effect::Kill { instance: key }),
            (InstanceState::Forking, true) => {
                let deadline = self.now + self.params.start;
                self.shift(key, InstanceState::Starting, deadline);
                self.arm(function, deadline);
            }
            (InstanceState::Forking, false) => self.spare_is_there(key),
            _ => unreachable!("whatever is beyond forking is confirmed"),
        }
    }

    /// An instance that was made ahead of need has come.
    fn spare_is_there(&mut self, key: InstanceKey) {
        self.spare_no_more(key);
        self.rest(key);
    }

    /// It is not on its way any more.
    pub(super) fn spare_no_more(&mut self, key: InstanceKey) {
        let instance = &mut self.instances[key];
        if instance.spare {
            instance.spare = false;
            self.functions[instance.function].spare -= 1;
        }
    }

    pub(super) fn fork_failed(&mut self, key: InstanceKey, fault: ForkFault) {
        let Some(instance) = self.instances.get(key) else {
            return self.stale();
        };
        let (function, zygote) = (instance.function, instance.zygote);
        // Told of one that exists it can only mean that it is gone.
        let seen = instance.given;
        self.counts.forks_failed += 1;
        self.note(Note::ForkFailed {
            function,
            instance: key,
            fault,
        });
        if let Some(zygote) = zygote {
            self.fork_failed_from(zygote, fault);
        }
        let buried = self.bury(key);
        if let Some(call) = buried.call {
            self.call_lost(call, seen, Refusal::ForkFailed);
        }
        self.after_death(function);
    }

    /// Whatever else happens, this zygote is not the best choice for a while.
    fn fork_failed_from(&mut self, key: ZygoteKey, fault: ForkFault) {
        let Some(zygote) = self.zygotes.get_mut(key) else {
            return;
        };
        zygote.avoided_until = self.now + AVOIDANCE;
        match fault {
            ForkFault::HasThreads => self.has_threads(key),
            ForkFault::Refused | ForkFault::Lost | ForkFault::Unprepared => {}
        }
    }

    /// There is a process: its zygote need not be asked any more.
    pub(super) fn confirm(&mut self, key: InstanceKey) {
        let instance = &mut self.instances[key];
        if instance.confirmed {
            return;
        }
        instance.confirmed = true;
        let (key_of_zygote, born) = (instance.zygote, instance.born);
        let Some(zygote) = key_of_zygote.and_then(|zygote| self.zygotes.get_mut(zygote)) else {
            return;
        };
        let alone = zygote.unconfirmed.len() == 1;
        self.fork_links
            .remove(&mut zygote.unconfirmed, zygote::slot(key));
        if zygote.state.takes_forks() {
            let node = self.forest.at_mut(zygote.place);
            node.proven = true;
            if alone {
                node.fork_time.add(self.now.since(born));
            }
        }
        self.unsettled |= zygote.retiring;
        if alone && let Some(zygote) = key_of_zygote {
            self.perhaps_offer_zygote(zygote);
        }
    }

    // States and lists of instances.

    /// Moves an instance from one state to another, with every list and sum that depends on it.
    pub(super) fn shift(&mut self, key: InstanceKey, to: InstanceState, deadline: Time) {
        let instance = &mut self.instances[key];
        let from = instance.state;
        let known = &mut self.functions[instance.function];
        self.instance_links
            .remove(&mut known.chains[from as usize], key.index() as u32);
        instance.state = to;
        instance.deadline = deadline;
        // The age of idleness counts on while frozen.
        if to != InstanceState::Frozen {
            instance.since = self.now;
        }
        let holding = match to {
            InstanceState::Forking | InstanceState::Starting | InstanceState::Busy => {
                Holding::Working
            }
            InstanceState::Idle | InstanceState::Frozen => Holding::Idle,
            InstanceState::Dying => Holding::Leaving,
        };
        self.ledger.mark(&mut instance.charge, holding);
        let (function, zygote) = (instance.function, instance.zygote);
        self.list(key);
        if from.is_working() && !to.is_working() {
            let (now, known) = (self.now, &mut self.functions[function]);
            let working = known.working();
            known.history.released(working, now);
        }
        if let Some(zygote) = zygote
            && from.is_working() != to.is_working()
        {
            self.count_working(zygote, to.is_working());
        }
    }

    /// One instance of this zygote more, or less, is working.
    pub(super) fn count_working(&mut self, key: ZygoteKey, more: bool) {
        let Some(zygote) = self.zygotes.get_mut(key) else {
            return;
        };
        if more {
            zygote.working += 1;
        } else {
            zygote.working -= 1;
            if zygote.working == 0 {
                self.perhaps_offer_zygote(key);
            }
        }
    }

    /// Puts an instance into the list of its state.
    fn list(&mut self, key: InstanceKey) {
        let index = key.index() as u32;
        let instance = &self.instances[key];
        let (state, deadline) = (instance.state, instance.deadline);
        let known = &mut self.functions[instance.function];
        match state {
            InstanceState::Dying => known.dying += 1,
            InstanceState::Idle | InstanceState::Frozen => self
                .instance_links
                .push_first(&mut known.chains[state as usize], index),
            InstanceState::Forking | InstanceState::Starting | InstanceState::Busy => {
                let chain = &mut known.chains[state as usize];
                let mut previous = chain.last();
                // Almost always the last: one limit holds for all, unless it was changed meanwhile.
                while let Some(before) = previous {
                    let before_key = self.instances.key_at(before);
                    let listed = before_key.expect("lists hold the living");
                    if self.instances[listed].deadline <= deadline {
                        break;
                    }
                    previous = self.instance_links.previous(before);
                }
                self.instance_links.insert_after(chain, previous, index);
            }
        }
    }

    // Who waits for memory.

    pub(super) fn first_waiter(&self) -> Option<FunctionKey> {
        self.functions.key_at(self.waiters.first()?)
    }

    fn await_memory(&mut self, function: FunctionKey) {
        if self.functions[function].awaiting.is_some() {
            return;
        }
        let memory = self.need_of(function).memory;
        let known = &mut self.functions[function];
        known.awaiting = Some(self.now);
        known.bypassed = 0;
        self.waiter_links
            .push_last(&mut self.waiters, slot(function));
        self.unsettled = true;
        self.note(Note::MemoryAwaited { function, memory });
    }

    pub(super) fn await_no_more(&mut self, function: FunctionKey) {
        let known = &mut self.functions[function];
        if known.awaiting.take().is_some() {
            self.waiter_links.remove(&mut self.waiters, slot(function));
            self.unsettled = true;
        }
    }

    /// Serves the line in its order, as far as memory goes.
    pub(super) fn serve_waiters(&mut self) {
        let mut scanned = 0;
        let mut at = self.waiters.first();
        while let Some(index) = at
            && scanned < SCAN_MAX
        {
            scanned += 1;
            let key = self.functions.key_at(index);
            let function = key.expect("whoever waits is known");
            let next = self.waiter_links.next(index);
            let plan = self.plan(function);
            if plan.starts == 0 {
                self.await_no_more(function);
                at = next;
                continue;
            }
            match self.admit(function) {
                Admission::Later => at = next,
                Admission::Never => {
                    self.refuse_queue(function, Refusal::Overloaded);
                    at = next;
                }
                Admission::Granted(charge) => {
                    self.start_granted(function, charge, plan.patient);
                    self.stand_last(function);
                    at = self.waiters.first();
                }
            }
        }
    }

    /// Others first, if it waits at all.
    pub(super) fn stand_last(&mut self, function: FunctionKey) {
        let known = &mut self.functions[function];
        if known.awaiting.is_none() {
            return;
        }
        known.awaiting = Some(self.now);
        known.bypassed = 0;
        self.waiter_links.remove(&mut self.waiters, slot(function));
        self.waiter_links
            .push_last(&mut self.waiters, slot(function));
    }

    /// What the first of the line want altogether, less those whom all that is reachable would not
    /// help.
    pub(super) fn awaited(&self, reachable: Amount) -> Amount {
        let first = self.waiter_links.iter(&self.waiters).take(SCAN_MAX);
        let mut wanted = Amount::default();
        for index in first {
            let key = self.functions.key_at(index);
            let function = key.expect("whoever waits is known");
            let starts = self.plan(function).starts;
            let need = self.need_of(function);
            if need.beyond(reachable).is_nothing() {
                wanted = wanted.plus(need.times(starts));
            }
        }
        wanted
    }
}

/// How much longer something will take that usually takes this long: what is overdue is expected to
/// take the longer the longer it is overdue.
pub(super) fn remaining(usual: Duration, elapsed: Duration) -> Duration {
    match usual.checked_sub(elapsed) {
        Some(left) => left,
        None => elapsed.saturating_sub(usual).saturating_add(usual / 4),
    }
}
