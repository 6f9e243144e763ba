//! How many instances a function should have.
//!
//! The supermarket: a queue at the tills opens tills. At first, when nobody knows how long a
//! customer takes, one for each who waits; later, when it is known, none for a customer whose turn
//! comes before another till could be opened. Tills stay open as many as Little's law says
//! (customers in the shop = arrivals a second * seconds each), with the square root of that as
//! slack.
//!
//! Rejected: feedback controllers (they answer a burst one tick late, and tuning them is a trade of
//! its own); opening one till a tick.

use crate::base::Duration;
use serde::{Deserialize, Serialize};

/// The scaling policy, by the name it has in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// A call waits for an instance that is expected free sooner than a new one would be there;
    /// Little's law says how many are kept. As `burst` while no times are known.
    #[default]
    Little,
    /// One instance for each waiting call, always.
    Burst,
}

/// What is known about a function at this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Calls that wait for an instance.
    pub waiting: u32,
    /// How long the first of them has waited.
    pub longest_wait: Duration,
    /// Instances on their way that no call is bound to yet.
    pub coming: u32,
    /// When those that run or start are expected to be free.
    pub releases: Releases,
    /// Calls a second.
    pub rate: f64,
    /// Mean time in user code; none when nothing was measured.
    pub service: Option<Duration>,
    /// Expected time from a fork to user code, as of now.
    pub cold: Option<Duration>,
    /// The most instances that this function may have.
    pub cap: u32,
    /// Instances alive, dying ones included.
    pub alive: u32,
}

/// More than this many never wait for turns: the estimate would be of the far future.
const PATIENT_MAX: u32 = 256;

/// Those looked at; whoever comes free later than this many others helps nobody who waits now.
pub const RELEASES_MAX: usize = 32;

/// How soon running instances are expected to be free, the soonest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Releases {
    spans: [Duration; RELEASES_MAX],
    count: usize,
}

impl Releases {
    pub const NONE: Self = Self {
        spans: [Duration::MAX; RELEASES_MAX],
        count: 0,
    };

    /// Keeps them in order; those beyond the bound are forgotten.
    pub fn push(&mut self, span: Duration) {
        let known = &self.spans[..self.count];
        let place = known.partition_point(|other| *other <= span);
        if place == RELEASES_MAX {
            return;
        }
        self.count = usize::min(self.count + 1, RELEASES_MAX);
        self.spans[place..self.count].rotate_right(1);
        self.spans[place] = span;
    }

    pub const fn is_full(&self) -> bool {
        self.count == RELEASES_MAX
    }

    /// When the call behind `ahead` others gets its turn, if each takes `service`.
    fn turn(&self, ahead: u32, service: Duration) -> Option<Duration> {
        let count = u32::try_from(self.count).ok().filter(|count| *count > 0)?;
        let first = self.spans[(ahead % count) as usize];
        Some(first.saturating_add(service.saturating_mul(ahead / count)))
    }
}

/// What to do about calls that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// Start this many instances,
    pub starts: u32,
    /// for those behind this many, whose turn at a running one comes sooner than a start.
    pub patient: u32,
}

impl Scale {
    pub const ALL: [Self; 2] = [Self::Little, Self::Burst];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Little => "little",
            Self::Burst => "burst",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// What to do about the calls that wait now.
    pub fn plan(self, load: &Load) -> Plan {
        let room = load.cap.saturating_sub(load.alive);
        let uncovered = load.waiting.saturating_sub(load.coming);
        if room == 0 || uncovered == 0 {
            return Plan {
                starts: 0,
                patient: uncovered,
            };
        }
        let patient = self.patient(load, uncovered);
        Plan {
            starts: u32::min(uncovered - patient, room),
            patient,
        }
    }

    /// How many of the uncovered calls do better to wait for a running instance.
    fn patient(self, load: &Load, uncovered: u32) -> u32 {
        let (Self::Little, Some(service), Some(cold)) = (self, load.service, load.cold) else {
            return 0;
        };
        // The running ones took longer than expected: patience is over.
        if load.longest_wait >= cold {
            return 0;
        }
        let sooner = |ahead: u32| {
            let turn = load.releases.turn(ahead, service);
            turn.is_some_and(|turn| turn < cold)
        };
        let bound = u32::min(uncovered, PATIENT_MAX);
        (0..bound).find(|ahead| !sooner(*ahead)).unwrap_or(bound)
    }

    /// How many instances are worth keeping without a call to serve.
    #[must_use]
    pub fn kept(self, load: &Load) -> u32 {
        match (self, load.service) {
            (Self::Little, Some(service)) => target(load.rate, service),
            _ => load.alive,
        }
    }
}

/// Little's law and its square root.
#[must_use]
pub fn target(rate: f64, service: Duration) -> u32 {
    let offered = rate * service.as_secs_f64();
    libm::ceil(offered + libm::sqrt(offered)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLD: Load = Load {
        waiting: 32,
        longest_wait: Duration::ZERO,
        coming: 0,
        releases: Releases::NONE,
        rate: 0.0,
        service: None,
        cold: None,
        cap: 1_000,
        alive: 0,
    };

    fn releases(millis: &[u64]) -> Releases {
        let mut releases = Releases::NONE;
        for span in millis {
            releases.push(Duration::from_millis(*span));
        }
        releases
    }

    #[test]
    fn a_cold_burst_starts_all_at_once_up_to_the_cap() {
        for policy in Scale::ALL {
            assert_eq!(policy.plan(&COLD).starts, 32);
            assert_eq!(policy.plan(&Load { cap: 8, ..COLD }).starts, 8);
            let covered = Load { coming: 30, ..COLD };
            assert_eq!(policy.plan(&covered).starts, 2);
        }
    }

    #[test]
    fn a_call_waits_when_its_turn_comes_before_a_cold_start() {
        let known = Load {
            waiting: 6,
            releases: releases(&[90, 10, 350]),
            alive: 3,
            rate: 10.0,
            service: Some(Duration::from_millis(150)),
            cold: Some(Duration::from_millis(200)),
            ..COLD
        };
        // Turns come after 10, 90, 350, 160, 240, 500 ms.
        let plan = Plan {
            starts: 4,
            patient: 2,
        };
        assert_eq!(Scale::Little.plan(&known), plan);
        assert_eq!(Scale::Burst.plan(&known).starts, 6);
        let overdue = Load {
            longest_wait: Duration::from_millis(200),
            ..known
        };
        assert_eq!(Scale::Little.plan(&overdue).starts, 6);
        let full = Load { cap: 3, ..known };
        assert_eq!(Scale::Burst.plan(&full).starts, 0);
    }

    #[test]
    fn the_soonest_releases_are_kept_in_order() {
        let mut many = Releases::NONE;
        for span in (0..100).rev() {
            many.push(Duration::from_millis(span));
        }
        assert!(many.is_full());
        let expected: [Duration; RELEASES_MAX] =
            core::array::from_fn(|place| Duration::from_millis(place as u64));
        assert_eq!(many.spans, expected);
    }

    #[test]
    fn little_law_with_its_square_root() {
        assert_eq!(target(100.0, Duration::from_millis(40)), 6);
        assert_eq!(target(0.0, Duration::from_millis(40)), 0);
    }
}
