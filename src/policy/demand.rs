//! How often the n-th sandbox of a function is wanted, and how long it has not been.
//!
//! The second umbrella: the first goes out with every rain, the second only when two go out, the
//! fifth when guests come. A function whose calls seldom overlap wants its first instance often and
//! its fifth hardly ever, so for keeping they are different things. A call that comes while `n - 1`
//! are busy wants the n-th; that one has not been wanted since the busy ones last fell below `n`.
//!
//! Rejected: a history for each instance (it dies with it, and says more of chance than of calls).

use super::gaps::Gaps;
use crate::base::{Duration, Time};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Levels 1, 2, 3-4, 5-8, ... share a history; above the last all do.
const CLASSES_MAX: usize = 8;
/// Levels beyond this are not told apart.
const LEVELS_MAX: usize = 4_096;

/// The history of one function's levels, or of one thing that has a single level.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// By level, from one: since when it has not been wanted.
    since: Vec<Time>,
    gaps: Vec<Gaps>,
    known: Option<Known>,
}

/// A rate that was asked for, and how long it holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Known {
    level: u32,
    rate: f64,
    until: Time,
}

/// Level 1 is class 0, level 2 class 1, levels 3 and 4 class 2.
fn class(level: usize) -> usize {
    let doublings = usize::BITS - (level - 1).leading_zeros();
    usize::min(doublings as usize, CLASSES_MAX - 1)
}

impl Demand {
    pub const fn new() -> Self {
        Self {
            since: Vec::new(),
            gaps: Vec::new(),
            known: None,
        }
    }

    /// A call came while so many were busy.
    pub fn wanted(&mut self, busy: u32, now: Time) {
        let place = usize::min(busy as usize, LEVELS_MAX - 1);
        let class = class(place + 1);
        if self.gaps.len() <= class {
            self.gaps.resize(class + 1, Gaps::new());
        }
        if let Some(since) = self.since.get_mut(place) {
            self.gaps[class].record(now.since(*since));
            // Should the call be turned away, the next one finds the level wanted just now.
            *since = now;
        } else {
            self.since.resize(place + 1, now);
        }
        self.known = None;
    }

    /// A call ended; so many are busy still.
    pub fn released(&mut self, busy: u32, now: Time) {
        if let Some(since) = self.since.get_mut(busy as usize) {
            *since = now;
        }
        self.known = None;
    }

    /// Uses a second of the sandbox at this level (from one), if it were kept from now on. A level
    /// that was never wanted has not been since `there_since`.
    #[must_use]
    pub fn rate(&self, level: u32, there_since: Time, now: Time) -> f64 {
        match self.known {
            Some(known) if known.level == level && now < known.until => known.rate,
            _ => self.known_at(level, there_since, now).rate,
        }
    }

    /// As `rate`, which for a while needs no reckoning then.
    pub fn remember(&mut self, level: u32, there_since: Time, now: Time) -> f64 {
        let known = match self.known {
            Some(known) if known.level == level && now < known.until => known,
            _ => self.known_at(level, there_since, now),
        };
        self.known = Some(known);
        known.rate
    }

    /// By which age this share of the first sandbox's gaps was over, once enough are known.
    #[must_use]
    pub fn first_gaps(&self, share: f64) -> Option<Duration> {
        self.gaps.first()?.over_by(share)
    }

    fn known_at(&self, level: u32, there_since: Time, now: Time) -> Known {
        let place = usize::min(level.max(1) as usize, LEVELS_MAX) - 1;
        let since = self.since.get(place).copied().unwrap_or(there_since);
        let age = now.since(since);
        let rate = match self.gaps.get(class(place + 1)) {
            Some(gaps) => gaps.rate(age),
            None => Gaps::new().rate(age),
        };
        let until = since + Gaps::same_until(age);
        Known { level, rate, until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_double() {
        let classes = [1, 2, 3, 4, 5, 8, 9, 64, 65, 4_096].map(class);
        assert_eq!(classes, [0, 1, 2, 2, 3, 3, 4, 6, 7, 7]);
    }

    #[test]
    fn a_level_that_is_seldom_wanted_has_a_low_rate() {
        let mut demand = Demand::new();
        let mut now = Time::ZERO;
        for call in 0..100 {
            demand.wanted(0, now);
            if call % 50 == 0 {
                demand.wanted(1, now);
                demand.released(1, now + Duration::from_millis(300));
            }
            now = now + Duration::from_millis(300);
            demand.released(0, now);
            now = now + Duration::from_secs(2);
        }
        let rate = |level| demand.rate(level, now, now);
        let (first, second) = (rate(1), rate(2));
        assert!(
            first > 10.0 * second && second > 0.0,
            "{first} and {second} a second"
        );
        assert!(rate(9) > 0.0, "never wanted, and nothing is known");
        let long_there = demand.rate(9, Time::ZERO, now);
        assert!(long_there < rate(9), "nobody has wanted it for long");
    }

    #[test]
    fn a_remembered_rate_is_the_rate() {
        let mut demand = Demand::new();
        for secs in [0, 10, 20, 35] {
            demand.wanted(0, Time::from_millis(secs * 1_000));
            demand.released(0, Time::from_millis(secs * 1_000 + 100));
        }
        let later = Time::from_millis(40_000);
        let fresh = demand.rate(1, later, later);
        assert!((demand.remember(1, later, later) - fresh).abs() < 1e-12);
        assert!((demand.rate(1, later, later) - fresh).abs() < 1e-12);
        assert!(demand.remember(1, later, Time::from_millis(400_000)) < fresh);
    }
}
