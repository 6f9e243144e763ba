//! How many instances a function should have.
//!
//! The supermarket: a queue at the tills opens tills. At first, when nobody knows how long a
//! customer takes, one for each who waits; later, when it is known, as many as Little's law says
//! (customers in the shop = arrivals a second * seconds each), with the square root of that as
//! slack, and not for a customer whose turn comes before a till could be opened.
//!
//! Rejected: feedback controllers (they answer a burst one tick late, and tuning them is a trade of
//! its own); opening one till a tick.

use crate::base::Duration;
use serde::{Deserialize, Serialize};

/// The scaling policy, by the name it has in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Little's law where times are known, else as `burst`; a call waits for an instance that is
    /// expected free sooner than a new one would be there.
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
    pub busy: u32,
    /// Calls a second.
    pub rate: f64,
    /// Mean time in user code; none when nothing was measured.
    pub service: Option<Duration>,
    /// Mean time from a fork to its first answer, less the service.
    pub cold: Option<Duration>,
    /// The most instances that this function may have.
    pub cap: u32,
    /// Instances alive, dying ones included.
    pub alive: u32,
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

    /// How many instances to start now for calls that wait.
    #[must_use]
    pub fn starts(self, load: &Load) -> u32 {
        let room = load.cap.saturating_sub(load.alive);
        let uncovered = load.waiting.saturating_sub(load.coming);
        u32::min(uncovered - self.patient(load, uncovered), room)
    }

    /// How many of the uncovered calls do better to wait for a running instance.
    fn patient(self, load: &Load, uncovered: u32) -> u32 {
        let (Self::Little, Some(service), Some(cold)) = (self, load.service, load.cold) else {
            return 0;
        };
        // The running ones took longer than expected: patience is over.
        let overdue = load.longest_wait >= cold;
        if load.busy == 0 || overdue || load.alive < target(load.rate, service) {
            return 0;
        }
        // The k-th to wait is served after about k * service / busy.
        let turns =
            cold.as_secs_f64() * f64::from(load.busy) / f64::max(service.as_secs_f64(), 1e-6);
        u32::min(uncovered, turns as u32)
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
        busy: 0,
        rate: 0.0,
        service: None,
        cold: None,
        cap: 1_000,
        alive: 0,
    };

    #[test]
    fn a_cold_burst_starts_all_at_once_up_to_the_cap() {
        for policy in Scale::ALL {
            assert_eq!(policy.starts(&COLD), 32);
            assert_eq!(policy.starts(&Load { cap: 8, ..COLD }), 8);
            assert_eq!(policy.starts(&Load { coming: 30, ..COLD }), 2);
        }
    }

    #[test]
    fn a_call_waits_when_its_turn_comes_before_a_cold_start() {
        let known = Load {
            waiting: 3,
            busy: 4,
            alive: 4,
            rate: 10.0,
            service: Some(Duration::from_millis(10)),
            cold: Some(Duration::from_millis(400)),
            ..COLD
        };
        assert_eq!(Scale::Little.starts(&known), 0);
        assert_eq!(Scale::Burst.starts(&known), 3);
        let overdue = Load {
            longest_wait: Duration::from_millis(400),
            ..known
        };
        assert_eq!(Scale::Little.starts(&overdue), 3);
        let slow = Load {
            service: Some(Duration::from_secs(3)),
            ..known
        };
        assert_eq!(Scale::Little.starts(&slow), 3);
    }

    #[test]
    fn little_law_with_its_square_root() {
        assert_eq!(target(100.0, Duration::from_millis(40)), 6);
        assert_eq!(target(0.0, Duration::from_millis(40)), 0);
    }
}
