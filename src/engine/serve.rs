//! Calls: they arrive, wait, are given to an instance, are answered.
//!
//! The path of a warm call is `call_arrived` -> `give` and `answered` -> `rest`: no allocation, no
//! search, nothing that grows with the number of instances.

use super::call::{Call, CallState};
use super::function::{Install, slot};
use super::instance::InstanceState;
use super::start::SCAN_MAX;
use super::{
    CallKey, Effect, End, Engine, FunctionKey, InstanceKey, Note, OnHangup, Refusal, Start, Verdict,
};
use crate::base::{Duration, Time};
use crate::policy::keep::Use;

/// A function that has waited this long for memory may have that of others at their call's end.
const YIELD_AFTER: Duration = Duration::from_secs(1);
/// What a client is told to wait before it tries again when nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) fn call_arrived(&mut self, call: CallKey, function: FunctionKey) {
        let now = self.now;
        self.counts.arrived += 1;
        let Some(known) = self.functions.get_mut(function).filter(|f| !f.removed) else {
            return self.turn_away(call, None, Refusal::NoSuchFunction);
        };
        known.counts.calls += 1;
        known.rate.add(now);
        known.last_use = now;
        let busy = known.working() + known.queue.len();
        let clock = self.clock;
        known.history.arrived(&Use { now, busy, clock });
        if self.drain.is_some_and(|drain| !drain.accept) {
            return self.turn_away(call, Some(function), Refusal::Draining);
        }
        let arrived = Call {
            function,
            state: CallState::Queued,
            since: now,
            attempts: 0,
            hung_up: false,
        };
        if self.calls.insert(call, arrived).is_err() {
            return self.turn_away(call, Some(function), Refusal::Overloaded);
        }
        if let Some(instance) = self.warmest(function) {
            return self.give(call, instance, Start::Warm);
        }
        self.enqueue_last(call);
        self.serve(function);
        self.cut_queue(function, call);
    }

    /// A queue that is longer than allowed loses the call that made it so, if it still waits: the
    /// newest may have been given away before older ones whose turn comes sooner than a start.
    fn cut_queue(&mut self, function: FunctionKey, newest: CallKey) {
        let known = &self.functions[function];
        let newest_call = self.calls.get(newest);
        let waits = newest_call.is_some_and(|call| call.state == CallState::Queued);
        if waits && known.queue.len() > known.settings.queue {
            self.unqueue(newest);
            self.refuse(newest, Refusal::TooManyCalls);
        }
    }

    pub(super) fn call_hung_up(&mut self, call: CallKey) {
        let Some(known) = self.calls.get_mut(call) else {
            return self.stale();
        };
        known.hung_up = true;
        match known.state {
            CallState::Queued => {
                self.unqueue(call);
                self.abandon(call);
            }
            CallState::Given(instance) => {
                let function = &self.functions[known.function];
                match function.settings.on_hangup {
                    OnHangup::Finish => {}
                    OnHangup::Kill => {
                        self.instances[instance].call = None;
                        self.abandon(call);
                        self.kill(instance, End::HungUp);
                    }
                }
            }
        }
    }

    pub(super) fn given(&mut self, key: InstanceKey) {
        let Some(instance) = self.instances.get_mut(key) else {
            return self.stale();
        };
        if instance.call.is_none() || instance.given {
            return self.stale();
        }
        instance.given = true;
        let (function, born, state) = (instance.function, instance.born, instance.state);
        self.confirm(key);
        if state == InstanceState::Dying {
            return;
        }
        self.warmed(key, born);
        let deadline = self.now + self.functions[function].settings.runtime;
        self.shift(key, InstanceState::Busy, deadline);
        self.arm(function, deadline);
    }

    /// Its code is loaded: that took from the fork until now.
    fn warmed(&mut self, key: InstanceKey, born: Time) {
        self.imports_no_more(key);
        let cold = self.now.since(born);
        let instance = &self.instances[key];
        let (function, node) = (instance.function, instance.node);
        let left = self.left_to_import(function, node);
        self.functions[function].own.add(cold.saturating_sub(left));
        self.note(Note::Warmed {
            function,
            instance: key,
            cold,
        });
    }

    pub(super) fn answered(&mut self, key: InstanceKey, call: CallKey, verdict: Verdict) {
        let Some(instance) = self.instances.get_mut(key) else {
            return self.stale();
        };
        if instance.call != Some(call) {
            return self.stale();
        }
        instance.call = None;
        let state = instance.state;
        let (function, since) = (instance.function, instance.since);
        let outdated = instance.version != self.functions[function].version;
        self.calls.remove(call);
        self.counts.answered += 1;
        self.unsettled |= self.drain.is_some();
        if state == InstanceState::Dying {
            return;
        }
        if state == InstanceState::Busy {
            let service = self.now.since(since);
            self.functions[function].service.add(service);
        } else {
            self.answered_early(key);
        }
        let known = &self.functions[function];
        if outdated || known.removed {
            self.kill(key, End::Outdated);
        } else if verdict == Verdict::Unfit || !known.settings.reuse {
            self.kill(key, End::Unfit);
        } else {
            self.rest(key);
        }
    }

    /// The answer overtook what should have come before it.
    fn answered_early(&mut self, key: InstanceKey) {
        self.confirm(key);
        let instance = &mut self.instances[key];
        if instance.given {
            return;
        }
        instance.given = true;
        let born = instance.born;
        self.warmed(key, born);
    }

    /// The instance has nothing to do: the next call, or its memory to somebody else, or idle.
    pub(super) fn rest(&mut self, key: InstanceKey) {
        let function = self.instances[key].function;
        if self.functions[function].queue.is_empty() {
            return self.cool(key);
        }
        if self.yields(function) {
            // Its own calls stand behind those it makes room for.
            self.stand_last(function);
            return self.kill(key, End::Yielded);
        }
        let Some(call) = self.first_queued(function) else {
            unreachable!("the queue is not empty")
        };
        self.unqueue(call);
        self.give(call, key, Start::Warm);
    }

    fn cool(&mut self, key: InstanceKey) {
        self.shift(key, InstanceState::Idle, Time::MAX);
        let function = self.instances[key].function;
        self.offer_victim(function);
        if let Some(longest) = self.idle_span(function) {
            self.arm(function, self.now + longest);
        }
        self.unsettled |= !self.waiters.is_empty() || self.drain.is_some();
        if self.short {
            self.arm_goal();
        }
    }

    /// Somebody with less has waited for memory long enough, and what is coming is not enough.
    fn yields(&self, function: FunctionKey) -> bool {
        let giving = self.functions[function].useful();
        let mut waiting = self.waiter_links.iter(&self.waiters).take(SCAN_MAX);
        waiting.any(|index| {
            let key = self.functions.key_at(index);
            let waiter = key.expect("whoever waits is known");
            let known = &self.functions[waiter];
            let since = known.awaiting.unwrap_or(self.now);
            waiter != function
                && self.now.since(since) >= YIELD_AFTER
                && known.useful() < giving
                && !self
                    .need_of(waiter)
                    .beyond(self.ledger.expected())
                    .is_nothing()
        })
    }

    /// Gives waiting calls to idle instances, then starts what the policy wants for the rest.
    pub(super) fn serve(&mut self, function: FunctionKey) {
        while let Some(call) = self.first_queued(function) {
            let Some(instance) = self.warmest(function) else {
                break;
            };
            self.unqueue(call);
            self.give(call, instance, Start::Warm);
        }
        let known = &mut self.functions[function];
        if known.queue.is_empty() {
            known.expecting = None;
            return;
        }
        if known.install != Install::Ready {
            return self.install(function);
        }
        if known.awaiting.is_some() {
            // It stands in the line for memory: `settle` serves that in its order.
            self.unsettled = true;
            return self.arm_queue(function);
        }
        let plan = self.plan(function);
        for _ in 0..plan.starts {
            if !self.start_for_call(function, plan.patient) {
                break;
            }
        }
        self.arm_queue(function);
    }

    /// The idle instance used last: frozen ones only when no other is there.
    fn warmest(&self, function: FunctionKey) -> Option<InstanceKey> {
        let known = &self.functions[function];
        let idle = known.chain(InstanceState::Idle).first();
        let index = idle.or_else(|| known.chain(InstanceState::Frozen).first())?;
        self.instances.key_at(index)
    }

    /// Hands the call over. It is in no queue, the instance is idle or forking without a call.
    pub(super) fn give(&mut self, call: CallKey, key: InstanceKey, start: Start) {
        let now = self.now;
        let known = &mut self.calls[call];
        known.state = CallState::Given(key);
        known.attempts += 1;
        let instance = &mut self.instances[key];
        instance.call = Some(call);
        let (state, function) = (instance.state, instance.function);
        let unborn = !instance.confirmed;
        let serving = &mut self.functions[function];
        let (busy, clock) = (serving.working(), self.clock);
        serving.history.used(&Use { now, busy, clock });
        match start {
            Start::Warm => serving.counts.warm += 1,
            Start::Zygote => serving.counts.zygote += 1,
            Start::Fresh => serving.counts.fresh += 1,
        }
        let (next, deadline) = if instance.given {
            (InstanceState::Busy, now + serving.settings.runtime)
        } else {
            (InstanceState::Starting, now + self.params.start)
        };
        match state {
            InstanceState::Forking if unborn => {}
            InstanceState::Frozen => {
                let sandbox = super::Sandbox::Instance(key);
                self.effect(Effect::Thaw { sandbox });
                self.shift(key, next, deadline);
                self.arm(function, deadline);
            }
            _ => {
                self.shift(key, next, deadline);
                self.arm(function, deadline);
            }
        }
        self.effect(Effect::Relay {
            call,
            instance: key,
            start,
        });
    }

    // The queue.

    pub(super) fn first_queued(&self, function: FunctionKey) -> Option<CallKey> {
        let index = self.functions[function].queue.first()?;
        self.calls.key_at(index)
    }

    /// The call that waits behind this many others, or else the last.
    pub(super) fn queued_behind(&self, function: FunctionKey, ahead: u32) -> CallKey {
        let queue = &self.functions[function].queue;
        let mut waiting = self.queue_links.iter(queue).take(ahead as usize + 1);
        let index = waiting.by_ref().last();
        let call = index.and_then(|index| self.calls.key_at(index));
        call.expect("asked only while calls wait")
    }

    fn enqueue_last(&mut self, call: CallKey) {
        let queue = &mut self.functions[self.calls[call].function].queue;
        self.queue_links.push_last(queue, call.index() as u32);
    }

    /// Back to where it stood: in front of all who came later.
    pub(super) fn enqueue_again(&mut self, call: CallKey) {
        let known = &mut self.calls[call];
        known.state = CallState::Queued;
        let (function, since) = (known.function, known.since);
        let queue = &self.functions[function].queue;
        let mut earlier = None;
        // Only those who are there for the second time as well can have come earlier.
        for index in self.queue_links.iter(queue) {
            let waiting = self.calls.key_at(index);
            let waiting = waiting.expect("queues hold the living");
            if self.calls[waiting].since >= since {
                break;
            }
            earlier = Some(index);
        }
        let queue = &mut self.functions[function].queue;
        self.queue_links
            .insert_after(queue, earlier, call.index() as u32);
    }

    pub(super) fn unqueue(&mut self, call: CallKey) {
        let function = self.calls[call].function;
        let known = &mut self.functions[function];
        self.queue_links
            .remove(&mut known.queue, call.index() as u32);
        if known.queue.is_empty() {
            self.await_no_more(function);
        }
    }

    /// Refuses every call that waits for this function.
    pub(super) fn refuse_queue(&mut self, function: FunctionKey, reason: Refusal) {
        while let Some(call) = self.first_queued(function) {
            self.unqueue(call);
            self.refuse(call, reason);
        }
    }

    // The three ends of a call that are ours.

    /// Of a call that was not let in.
    fn turn_away(&mut self, call: CallKey, function: Option<FunctionKey>, reason: Refusal) {
        self.counts.refused += 1;
        if let Some(function) = function {
            self.functions[function].counts.refused += 1;
        }
        self.effect(Effect::Refuse {
            call,
            reason,
            retry_after: self.retry_after(function, reason),
        });
        self.note(Note::CallRefused {
            function,
            call,
            reason,
        });
    }

    /// Of a call that is in no queue and that no instance has any more.
    pub(super) fn refuse(&mut self, call: CallKey, reason: Refusal) {
        let Some(ended) = self.calls.remove(call) else {
            unreachable!("a call is refused by whoever found it")
        };
        self.unsettled |= self.drain.is_some();
        self.turn_away(call, Some(ended.function), reason);
    }

    pub(super) fn abandon(&mut self, call: CallKey) {
        self.calls.remove(call);
        self.counts.abandoned += 1;
        self.effect(Effect::Abandon { call });
        self.unsettled |= self.drain.is_some();
    }

    fn retry_after(&self, function: Option<FunctionKey>, reason: Refusal) -> Option<Duration> {
        match reason {
            Refusal::TooManyCalls | Refusal::Overloaded => {
                let service = function.and_then(|key| self.functions[key].service.get());
                Some(Duration::max(service.unwrap_or(RETRY_AFTER), RETRY_AFTER))
            }
            Refusal::NoSuchFunction
            | Refusal::Draining
            | Refusal::InstallFailed
            | Refusal::StartTimedOut
            | Refusal::SandboxDied
            | Refusal::ForkFailed
            | Refusal::CallTimedOut => None,
        }
    }

    /// Makes sure that the function is looked at by then.
    pub(super) fn arm(&mut self, function: FunctionKey, at: Time) {
        let known = &mut self.functions[function];
        if at < known.armed {
            known.armed = at;
            let place = self.function_slot(slot(function));
            self.agenda.arm(place, at);
        }
    }
}
