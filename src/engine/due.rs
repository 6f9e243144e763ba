//! Everything that happens because time passed.
//!
//! A function has one entry in the agenda, for the earliest of the deadlines of its calls and
//! instances that was known when it was armed. When it fires, everything that is due is done and
//! the entry is set anew; so calls come and go without touching the agenda.

use super::function::Install;
use super::instance::InstanceState;
use super::{
    Effect, End, Engine, FunctionKey, InstanceKey, Note, Refusal, Sandbox, ZygoteFault, ZygoteKey,
    ZygoteState,
};
use crate::base::{Duration, Time};
use alloc::vec::Vec;

/// An entry never fires twice for one moment.
pub(super) const GRAIN: Duration = Duration::from_millis(1);
/// How soon a zygote that could not be frozen or rotated is looked at again.
const ZYGOTE_GRAIN: Duration = Duration::from_secs(1);

impl Engine {
    // The agenda's slots: the engine itself, zygotes, functions, nodes.

    pub(super) const ENGINE_SLOT: u32 = 0;

    pub(super) const fn zygote_slot(index: u32) -> u32 {
        1 + index
    }

    pub(super) const fn function_slot(&self, index: u32) -> u32 {
        1 + self.limits.zygotes + index
    }

    pub(super) const fn node_slot(&self, place: u32) -> u32 {
        1 + self.limits.zygotes + self.limits.functions + place
    }

    pub(super) fn due(&mut self, slot: u32) {
        let functions = self.function_slot(0);
        let nodes = self.node_slot(0);
        if slot == Self::ENGINE_SLOT {
            self.engine_due();
        } else if slot < functions {
            if let Some(zygote) = self.zygotes.key_at(slot - 1) {
                self.zygote_due(zygote);
            }
        } else if slot < nodes {
            if let Some(function) = self.functions.key_at(slot - functions) {
                self.function_due(function);
            }
        } else {
            self.node_install_due(slot - nodes);
        }
    }

    /// The goal of free memory is looked at again, and the drain's deadline.
    fn engine_due(&mut self) {
        self.unsettled = true;
        if let Some(drain) = self.drain
            && self.now < drain.deadline
        {
            self.agenda.arm(Self::ENGINE_SLOT, drain.deadline);
        }
    }

    fn function_due(&mut self, key: FunctionKey) {
        self.functions[key].armed = Time::MAX;
        self.queue_due(key);
        self.running_due(key);
        self.idle_due(key);
        if !self.functions[key].removed {
            self.foresee(key);
            self.serve(key);
        }
        if let Some(at) = self.function_deadline(key) {
            self.arm(key, Time::max(at, self.now + GRAIN));
        }
    }

    /// Waits that were too long.
    fn queue_due(&mut self, key: FunctionKey) {
        let known = &self.functions[key];
        match known.install {
            Install::Running { since } => {
                let longest = self.params.install.unwrap_or(Duration::MAX);
                if since + longest <= self.now {
                    self.install_timed_out(key);
                }
            }
            Install::Ready | Install::Needed | Install::Failed { .. } => {
                let reason = match known.awaiting {
                    Some(_) => Refusal::Overloaded,
                    None => Refusal::TooManyCalls,
                };
                while let Some(call) = self.first_queued(key) {
                    if self.calls[call].since + self.params.queue > self.now {
                        break;
                    }
                    self.unqueue(call);
                    self.refuse(call, reason);
                }
            }
        }
    }

    /// Forks without an answer, starts without user code, calls that ran too long.
    fn running_due(&mut self, key: FunctionKey) {
        while let Some(instance) = self.first_due(key, InstanceState::Forking) {
            // Its call is decided when it is certain whether user code saw it.
            let zygote = self.instances[instance].zygote;
            self.kill(instance, End::StartTimedOut);
            if let Some(zygote) = zygote.filter(|zygote| self.zygotes.contains(*zygote)) {
                self.kill_zygote(zygote, End::TimedOut);
            }
        }
        while let Some(instance) = self.first_due(key, InstanceState::Starting) {
            self.time_out(instance, End::StartTimedOut, Refusal::StartTimedOut);
        }
        while let Some(instance) = self.first_due(key, InstanceState::Busy) {
            self.time_out(instance, End::TimedOut, Refusal::CallTimedOut);
        }
    }

    fn first_due(&self, key: FunctionKey, state: InstanceState) -> Option<InstanceKey> {
        let index = self.functions[key].chain(state).first()?;
        let instance = self.instances.key_at(index)?;
        (self.instances[instance].deadline <= self.now).then_some(instance)
    }

    fn time_out(&mut self, key: InstanceKey, end: End, reason: Refusal) {
        let call = self.instances[key].call.take();
        let call = call.expect("what starts or is busy has a call");
        if self.calls[call].hung_up {
            self.abandon(call);
        } else {
            self.refuse(call, reason);
        }
        self.counts.timed_out += 1;
        self.kill(key, end);
    }

    /// What was idle for long is frozen, or goes.
    fn idle_due(&mut self, key: FunctionKey) {
        while let Some((instance, end)) = self.expired(key) {
            self.kill(instance, end);
        }
        let Some(after) = self.params.freeze_after else {
            return;
        };
        while let Some(instance) = self.coolest(key, InstanceState::Idle) {
            if self.instances[instance].since + after > self.now {
                break;
            }
            self.shift(instance, InstanceState::Frozen, Time::MAX);
            self.counts.frozen += 1;
            let sandbox = Sandbox::Instance(instance);
            self.effect(Effect::Freeze { sandbox });
        }
    }

    /// The one idle for longest, if it is not to be kept.
    fn expired(&self, key: FunctionKey) -> Option<(InstanceKey, End)> {
        let frozen = self.coolest(key, InstanceState::Frozen);
        let oldest = frozen.or_else(|| self.coolest(key, InstanceState::Idle))?;
        let since = self.instances[oldest].since;
        let kept = self.keep_span(key, self.instances[oldest].given);
        if kept.is_some_and(|kept| since + kept <= self.now) {
            return Some((oldest, End::Expired));
        }
        let surplus = self.params.surplus?;
        let wanted = u32::max(self.params.scale.kept(&self.load(key)), 1);
        let is_surplus = since + surplus <= self.now && self.functions[key].useful() > wanted;
        is_surplus.then_some((oldest, End::Surplus))
    }

    pub(super) fn coolest(&self, key: FunctionKey, state: InstanceState) -> Option<InstanceKey> {
        let index = self.functions[key].chain(state).last()?;
        self.instances.key_at(index)
    }

    /// How long the policy keeps what is idle, whether its memory is needed or not.
    fn keep_span(&self, key: FunctionKey, used: bool) -> Option<Duration> {
        let stay = self.functions[key].history.stay();
        if used { stay.used } else { stay.unused }
    }

    /// Where the policy says that a call is near and nothing is there for it.
    fn foresee(&mut self, key: FunctionKey) {
        let Some(at) = self.foreseen_at(key) else {
            return;
        };
        let known = &self.functions[key];
        let span = known.history.stay().unused.unwrap_or(Duration::MAX);
        if at <= self.now && self.now < at + span && known.install == Install::Ready {
            self.start_ahead(key);
        }
    }

    /// When an instance is to be made ahead of need.
    pub(super) fn foreseen_at(&self, key: FunctionKey) -> Option<Time> {
        if self.functions[key].alive() > 0 {
            return None;
        }
        let known = &self.functions[key];
        Some(known.last_use + known.history.stay().ready_after?)
    }

    /// How soon an instance that becomes idle now has something due.
    pub(super) fn idle_span(&self, key: FunctionKey) -> Option<Duration> {
        let kept = self.keep_span(key, true);
        let spans = [self.params.freeze_after, self.params.surplus, kept];
        spans.into_iter().flatten().min()
    }

    /// When the function is to be looked at next: its bounds, and what is merely expected.
    fn function_deadline(&self, key: FunctionKey) -> Option<Time> {
        let expected = [
            self.patience_deadline(key),
            self.expectation_deadline(key),
            self.keep_deadline(key),
            self.foreseen_at(key).filter(|at| *at > self.now),
        ];
        let bound = self.function_bound(key);
        bound
            .into_iter()
            .chain(expected.into_iter().flatten())
            .min()
    }

    /// The earliest thing that must not be late: waits, forks, starts, calls, freezing.
    pub(super) fn function_bound(&self, key: FunctionKey) -> Option<Time> {
        let known = &self.functions[key];
        let working = [
            InstanceState::Forking,
            InstanceState::Starting,
            InstanceState::Busy,
        ];
        let running = working.into_iter().filter_map(|state| {
            let first = self.instances.key_at(known.chain(state).first()?)?;
            Some(self.instances[first].deadline)
        });
        let others = [self.queue_deadline(key), self.freeze_deadline(key)];
        running.chain(others.into_iter().flatten()).min()
    }

    fn queue_deadline(&self, key: FunctionKey) -> Option<Time> {
        match self.functions[key].install {
            Install::Running { since } => self.params.install.map(|longest| since + longest),
            Install::Ready | Install::Needed | Install::Failed { .. } => {
                let first = self.first_queued(key)?;
                Some(self.calls[first].since + self.params.queue)
            }
        }
    }

    /// When a call that waits for a running instance has waited as long as a start takes.
    fn patience_deadline(&self, key: FunctionKey) -> Option<Time> {
        let first = self.first_queued(key)?;
        let at = self.calls[first].since + self.cold_of(key)?;
        (at > self.now).then_some(at)
    }

    fn freeze_deadline(&self, key: FunctionKey) -> Option<Time> {
        let idle = self.coolest(key, InstanceState::Idle)?;
        Some(self.instances[idle].since + self.params.freeze_after?)
    }

    /// When the one idle for longest may have been kept long enough.
    fn keep_deadline(&self, key: FunctionKey) -> Option<Time> {
        let frozen = self.coolest(key, InstanceState::Frozen);
        let oldest = frozen.or_else(|| self.coolest(key, InstanceState::Idle))?;
        let since = self.instances[oldest].since;
        let used = self.instances[oldest].given;
        let kept = self.keep_span(key, used).map(|kept| since + kept);
        let surplus = self.params.surplus.map(|surplus| {
            // Not surplus then, but it may become so: a look now and then.
            let at = since + surplus;
            if at > self.now {
                at
            } else {
                self.now + surplus
            }
        });
        kept.into_iter().chain(surplus).min()
    }

    /// Calls were left waiting: when must they be looked at again?
    pub(super) fn arm_queue(&mut self, key: FunctionKey) {
        let soonest = [
            self.queue_deadline(key),
            self.patience_deadline(key),
            self.expectation_deadline(key),
        ];
        if let Some(at) = soonest.into_iter().flatten().min() {
            self.arm(key, at);
        }
    }

    /// The bounds may have changed: looks at everybody's anew.
    pub(super) fn arm_all(&mut self) {
        let functions: Vec<FunctionKey> = self.functions.keys().collect();
        for function in functions {
            if let Some(at) = self.function_deadline(function) {
                self.arm(function, Time::max(at, self.now + GRAIN));
            }
        }
        let zygotes: Vec<ZygoteKey> = self.zygotes.keys().collect();
        for zygote in zygotes {
            self.arm_zygote(zygote);
        }
    }

    // Zygotes.

    fn zygote_due(&mut self, key: ZygoteKey) {
        let zygote = &self.zygotes[key];
        match zygote.state {
            ZygoteState::Forking if zygote.deadline <= self.now => {
                let fault = ZygoteFault::Refused;
                self.note_zygote_failure(key, fault);
                return self.kill_zygote(key, End::StartTimedOut);
            }
            ZygoteState::Live => self.zygote_may_freeze(key),
            _ => {}
        }
        self.zygote_may_rotate(key);
        self.arm_zygote(key);
    }

    fn zygote_may_freeze(&mut self, key: ZygoteKey) {
        let Some(after) = self.params.freeze_after else {
            return;
        };
        let zygote = &mut self.zygotes[key];
        let quiet = zygote.unconfirmed.is_empty() && zygote.making == 0;
        if quiet && zygote.last_use + after <= self.now {
            zygote.state = ZygoteState::Frozen;
            self.counts.frozen += 1;
            let sandbox = Sandbox::Zygote(key);
            self.effect(Effect::Freeze { sandbox });
        }
    }

    /// Sets the zygote's next look.
    pub(super) fn arm_zygote(&mut self, key: ZygoteKey) {
        let zygote = &self.zygotes[key];
        let freeze = self
            .params
            .freeze_after
            .map(|after| zygote.last_use + after);
        let rotate = self.params.zygote.age_max.map(|age| zygote.ready_at + age);
        let at = match zygote.state {
            ZygoteState::Forking => Some(zygote.deadline),
            ZygoteState::Live => freeze.into_iter().chain(rotate).min(),
            ZygoteState::Frozen => rotate,
            ZygoteState::Dying => None,
        };
        if let Some(at) = at {
            let slot = Self::zygote_slot(key.index() as u32);
            let after = self.now + ZYGOTE_GRAIN;
            let past = at <= self.now;
            self.agenda.arm(slot, if past { after } else { at });
        }
    }

    pub(super) fn frozen(&mut self, sandbox: Sandbox) {
        if !self.is_known(sandbox) {
            return self.stale();
        }
        if self.is_frozen(sandbox) && self.params.reclaim_frozen {
            self.effect(Effect::Reclaim { sandbox });
        }
    }

    pub(super) fn thawed(&mut self, sandbox: Sandbox) {
        if !self.is_known(sandbox) {
            self.stale();
        }
    }

    fn is_known(&self, sandbox: Sandbox) -> bool {
        match sandbox {
            Sandbox::Instance(key) => self.instances.contains(key),
            Sandbox::Zygote(key) => self.zygotes.contains(key),
        }
    }

    fn is_frozen(&self, sandbox: Sandbox) -> bool {
        match sandbox {
            Sandbox::Instance(key) => self.instances[key].state == InstanceState::Frozen,
            Sandbox::Zygote(key) => self.zygotes[key].state == ZygoteState::Frozen,
        }
    }

    pub(super) fn note_zygote_failure(&mut self, key: ZygoteKey, fault: ZygoteFault) {
        let node = self.zygotes[key].node;
        self.note(Note::ZygoteFailed {
            zygote: key,
            node,
            fault,
            retry: None,
        });
    }
}
