//! In layers: each layer goes when its own time is over, the most special one first.
//!
//! The stage after the play: costumes go back at once, the set stays for the matinee, the house
//! stands for the season. What a sandbox is made of (the function's own state, the packages below
//! it, the runtime below those) serves ever more callers the deeper it lies, so each layer is a
//! thing with a history and a horizon of its own, and what is left of a sandbox that goes is where
//! the next one begins.
//!
//!     kept = until HORIZON_SHARE of the known gaps between its uses are over
//!     worth = as `value`, when memory is short before that
//!
//! A layer that others stand on stays with them; its horizon begins when the last of them is gone.
//! That is RainbowCake's idea, with a histogram where that has a Poisson process per layer: gaps
//! here are measured, not assumed to be memoryless. Rejected: a price of memory that bounds the
//! horizon (rent or buy), one more number that nobody can set; when memory is short `worth` weighs
//! it anyway.

use super::value::Value;
use super::{Policy, Stay, Thing, Use};
use crate::base::{Duration, Time};
use serde::{Deserialize, Serialize};

/// A gap longer than this share of them is not waited for.
const HORIZON_SHARE: f64 = 0.95;
/// Kept this long while too few gaps are known.
const HORIZON_UNKNOWN: Duration = Duration::from_hours(1);
/// Kept at least this long: a horizon of milliseconds would save nothing.
const HORIZON_MIN: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Layered {
    value: Value,
}

impl Policy for Layered {
    const NAME: &'static str = "layered";
    const TITLE: &'static str = "LAYERED";
    const DRIFTS: bool = true;
    const LAYERS: bool = true;

    fn arrived(&mut self, call: &Use) {
        self.value.arrived(call);
    }

    fn released(&mut self, busy: u32, now: Time) {
        self.value.released(busy, now);
    }

    fn worth(&self, thing: &Thing) -> f64 {
        self.value.worth(thing)
    }

    fn remember(&mut self, thing: &Thing) {
        self.value.remember(thing);
    }

    fn stay(&self) -> Stay {
        let known = self.value.demand.first_gaps(HORIZON_SHARE);
        Stay::for_span(known.map_or(HORIZON_UNKNOWN, |gap| Duration::max(gap, HORIZON_MIN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_gaps(minutes: u64, calls: u64) -> Layered {
        let mut layered = Layered::default();
        for call in 0..=calls {
            let now = Time::ZERO + Duration::from_mins(minutes) * call as u32;
            layered.arrived(&Use {
                now,
                busy: 0,
                clock: 0.0,
            });
            layered.released(0, now);
        }
        layered
    }

    #[test]
    fn the_horizon_is_that_of_the_gaps_seen() {
        let kept = |layered: &Layered| layered.stay().used.unwrap();
        let (seldom, often) = (after_gaps(40, 20), after_gaps(4, 20));
        assert!(kept(&seldom) >= Duration::from_mins(40));
        assert!(kept(&seldom) <= Duration::from_mins(50), "within a bin");
        assert!(kept(&often) >= Duration::from_mins(4) && kept(&often) < Duration::from_mins(6));
        assert_eq!(kept(&after_gaps(0, 20)), HORIZON_MIN);
        assert_eq!(kept(&after_gaps(4, 1)), HORIZON_UNKNOWN);
    }
}
