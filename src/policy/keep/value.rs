//! By value: what keeping saves, for the memory it takes.
//!
//! The taxi again: how soon the thing is wanted depends on how long it has not been, and on which
//! of its kind it is (`policy::demand` keeps that history). The rate of uses that is to be expected
//! of it from now on, times what each of them saves, is what keeping it is worth a second; over its
//! memory, since that is what is short.
//!
//!     worth = uses a second from now on * rebuild cost / memory
//!
//! The rate falls and rises while time passes, so old numbers are of no use to the evictor: it asks
//! everybody anew, at most once in a short while.

use super::{Policy, Thing, Use};
use crate::base::Time;
use crate::policy::demand::Demand;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Value {
    pub(super) demand: Demand,
}

impl Policy for Value {
    const NAME: &'static str = "value";
    const TITLE: &'static str = "VALUE";
    const DRIFTS: bool = true;

    fn arrived(&mut self, call: &Use) {
        self.demand.wanted(call.busy, call.now);
    }

    fn released(&mut self, busy: u32, now: Time) {
        self.demand.released(busy, now);
    }

    fn worth(&self, thing: &Thing) -> f64 {
        let rate = self.demand.rate(thing.level, thing.last_use, thing.now);
        rate * thing.rebuild_ms() / thing.megabytes()
    }

    fn remember(&mut self, thing: &Thing) {
        self.demand.remember(thing.level, thing.last_use, thing.now);
    }
}
