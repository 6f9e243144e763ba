//! The end: what runs finishes, what waits is served until the deadline, then everything goes.
//!
//! ```text
//! serving --> draining, accepting --> draining --> closing --> drained
//!                                     (no calls left, or the deadline)
//! ```

use super::{CallKey, Effect, End, Engine, InstanceKey, Note, Refusal, ZygoteKey};
use crate::base::Time;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How the worker is ending.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Drain {
    /// New calls are still served.
    pub accept: bool,
    pub deadline: Time,
    /// Everything was told to go.
    pub closing: bool,
    /// `Drained` was said.
    pub done: bool,
}

impl Engine {
    pub(super) fn drain_requested(&mut self, accept: bool, deadline: Time) {
        let closing = self.drain.is_some_and(|drain| drain.closing);
        let done = self.drain.is_some_and(|drain| drain.done);
        self.drain = Some(Drain {
            accept: accept && !closing,
            deadline,
            closing,
            done,
        });
        self.agenda.arm(Self::ENGINE_SLOT, deadline);
        self.unsettled = true;
        self.note(Note::Draining {
            calls: self.calls.len() as u32,
            instances: self.instances.len() as u32,
        });
    }

    /// Moves the drain on as far as it goes.
    pub(super) fn finish_drain(&mut self) {
        let Some(drain) = self.drain.filter(|drain| !drain.done) else {
            return;
        };
        let over = self.now >= drain.deadline;
        if over && !drain.closing {
            self.refuse_everything();
        }
        if self.calls.is_empty() && (over || !drain.accept) && !drain.closing {
            self.drain = Some(Drain {
                accept: false,
                closing: true,
                ..drain
            });
            self.close();
        }
        let closing = self.drain.is_some_and(|drain| drain.closing);
        if closing && self.instances.is_empty() && self.zygotes.is_empty() {
            self.drain = Some(Drain {
                accept: false,
                closing: true,
                done: true,
                ..drain
            });
            self.note(Note::Drained);
            self.effect(Effect::Drained);
        }
    }

    fn refuse_everything(&mut self) {
        let calls: Vec<CallKey> = self.calls.keys().collect();
        for call in calls {
            match self.calls[call].state {
                super::call::CallState::Queued => self.unqueue(call),
                super::call::CallState::Given(instance) => self.instances[instance].call = None,
            }
            if self.calls[call].hung_up {
                self.abandon(call);
            } else {
                self.refuse(call, Refusal::Draining);
            }
        }
    }

    fn close(&mut self) {
        let instances: Vec<InstanceKey> = self.instances.keys().collect();
        for instance in instances {
            self.kill(instance, End::Drained);
        }
        let zygotes: Vec<ZygoteKey> = self.zygotes.keys().collect();
        for zygote in zygotes {
            self.kill_zygote(zygote, End::Drained);
        }
        self.cancel_installs();
    }
}
