//! Ends of instances, for whatever reason, and what becomes of the call they had.

use super::call::CallState;
use super::instance::InstanceState;
use super::zygote;
use super::{CallKey, Effect, End, Engine, Exit, FunctionKey, InstanceKey, Note, Refusal};
use crate::base::Time;

/// What is left of an instance.
pub(super) struct Buried {
    pub function: FunctionKey,
    pub call: Option<CallKey>,
    pub end: Option<End>,
}

impl Engine {
    /// Tells the instance to die. A call that it still has is decided when it is gone.
    pub(super) fn kill(&mut self, key: InstanceKey, end: End) {
        let instance = &mut self.instances[key];
        if instance.state == InstanceState::Dying {
            return;
        }
        instance.end = Some(end);
        self.spare_no_more(key);
        self.imports_no_more(key);
        self.shift(key, InstanceState::Dying, Time::MAX);
        self.unsettled = true;
        self.effect(Effect::Kill { instance: key });
    }

    pub(super) fn instance_exited(&mut self, key: InstanceKey, seen: bool, exit: Exit) {
        if !self.instances.contains(key) {
            return self.stale();
        }
        let buried = self.bury(key);
        let function = buried.function;
        self.note(Note::InstanceEnded {
            function,
            instance: key,
            why: buried.end.unwrap_or(End::ByItself(exit)),
        });
        if let Some(call) = buried.call {
            self.call_lost(call, seen, Refusal::SandboxDied);
        }
        self.after_death(function);
    }

    /// Takes everything back that the instance held; its call is left to the caller.
    pub(super) fn bury(&mut self, key: InstanceKey) -> Buried {
        if !self.instances[key].confirmed {
            self.forget_fork(key);
        }
        self.spare_no_more(key);
        self.imports_no_more(key);
        let gone = self.instances.remove(key);
        let gone = gone.expect("whoever buries has looked");
        let (state, function) = (gone.state, gone.function);
        let known = &mut self.functions[function];
        match state {
            InstanceState::Dying => known.dying -= 1,
            _ => self
                .instance_links
                .remove(&mut known.chains[state as usize], key.index() as u32),
        }
        if let Some(zygote) = gone.zygote {
            if state.is_working() {
                self.count_working(zygote, false);
            }
            self.perhaps_offer_zygote(zygote);
        }
        if gone.evicted {
            self.evictions_in_flight -= 1;
        }
        self.ledger.give_back(gone.charge);
        self.counts.ended += 1;
        self.unsettled = true;
        Buried {
            function,
            call: gone.call,
            end: gone.end,
        }
    }

    /// The fork never came to anything: its zygote need not be asked any more.
    fn forget_fork(&mut self, key: InstanceKey) {
        let zygote = self.instances[key].zygote;
        if let Some(zygote) = zygote.and_then(|zygote| self.zygotes.get_mut(zygote)) {
            self.fork_links
                .remove(&mut zygote.unconfirmed, zygote::slot(key));
            self.unsettled = true;
        }
    }

    /// The instance that had this call is gone.
    pub(super) fn call_lost(&mut self, call: CallKey, seen: bool, reason: Refusal) {
        let known = &self.calls[call];
        debug_assert!(matches!(known.state, CallState::Given(_)));
        let function = known.function;
        if known.hung_up {
            self.abandon(call);
        } else if seen || known.attempts >= self.limits.attempts {
            self.refuse(call, reason);
        } else if self.functions[function].removed {
            self.refuse(call, Refusal::NoSuchFunction);
        } else {
            self.counts.retried += 1;
            self.enqueue_again(call);
            self.note(Note::CallRetried { function, call });
        }
    }

    /// One instance of this function less: somebody may have waited for that.
    pub(super) fn after_death(&mut self, function: FunctionKey) {
        let known = &mut self.functions[function];
        let left = known.alive();
        known.history.lost(left);
        if left > 0 {
            return self.serve(function);
        }
        if known.removed {
            return self.retire(function);
        }
        self.serve(function);
        if let Some(at) = self.foreseen_at(function) {
            self.arm(function, Time::max(at, self.now));
        }
    }
}
