//! Who is kept: the order in which idle sandboxes give up their memory.
//!
//! The larder: what is used often, is dear to make again and takes little room stays longest. A
//! clock that stands at the worth of the last thing thrown out makes newcomers equal to those who
//! have proven themselves long ago.
//!
//! Every variant gives a thing one number, its *worth*; the least worth goes first. With most of
//! them worth only grows, while a thing is used, so the evictor may keep an old number and correct
//! it when it comes up (`engine::evict`): a warm call then costs nothing here. Where worth drifts
//! with time ([`Evict::drifts`]), old numbers are of no use.
//!
//! | name | worth |
//! |---|---|
//! | `value` | rate of uses from now on * rebuild cost / memory |
//! | `gdsf` | clock + uses * rebuild cost / memory |
//! | `landlord` | clock + rebuild cost / memory |
//! | `lfu` | uses |
//! | `size` | clock + uses / memory |
//! | `lru` | time of the last use |
//! | `ttl` | time of the last use; gone anyway when older than the time to live |
//! | `hist` | when the histogram of gaps says that the next use is overdue |
//! | `rand` | a number drawn at each use |
//!
//! Rejected: per-instance worth. All instances of a function are alike, so the function has the
//! worth and its least recently used instance pays with it; the structure then grows with the
//! functions, not with the instances.

use crate::base::{Bytes, Duration, Time};
use serde::{Deserialize, Serialize};

/// The eviction policy, by the name it has in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evict {
    /// Greedy dual by size and frequency: our default.
    #[default]
    Gdsf,
    Lru,
    /// Least recently used, and nothing idle longer than `TIME_TO_LIVE` is kept.
    Ttl,
    Lfu,
    Size,
    Landlord,
    /// Keeps by the histogram of each function's gaps, and starts ahead of the next call.
    Hist,
    Rand,
    /// By the saving expected of keeping, from the gaps between uses (`policy::gaps`).
    Value,
}

/// How long `ttl` keeps what nobody uses.
pub const TIME_TO_LIVE: Duration = Duration::from_mins(10);

/// What a policy may know about a thing that could go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Uses that count for it (calls of a function, forks of a zygote), aged.
    pub uses: f64,
    /// What it takes to have it again, from the best that would still be there.
    pub rebuild: Duration,
    /// What its end gives back.
    pub memory: Bytes,
    pub last_use: Time,
    /// Until when `hist` would keep it.
    pub keep_until: Time,
    /// A fresh draw, for `rand`.
    pub draw: f64,
    /// Uses a second to be expected from now on (`policy::demand`), for `value`.
    pub rate: f64,
}

impl Evict {
    pub const ALL: [Self; 9] = [
        Self::Gdsf,
        Self::Lru,
        Self::Ttl,
        Self::Lfu,
        Self::Size,
        Self::Landlord,
        Self::Hist,
        Self::Rand,
        Self::Value,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Gdsf => "gdsf",
            Self::Lru => "lru",
            Self::Ttl => "ttl",
            Self::Lfu => "lfu",
            Self::Size => "size",
            Self::Landlord => "landlord",
            Self::Hist => "hist",
            Self::Rand => "rand",
            Self::Value => "value",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// What the thing is worth keeping; `clock` is the worth of the last victim.
    #[must_use]
    pub fn worth(self, clock: f64, thing: &Candidate) -> f64 {
        let megabytes = f64::max(thing.memory.as_mb(), MEMORY_MIN_MB);
        let rebuild_ms = thing.rebuild.as_secs_f64() * 1e3;
        match self {
            Self::Gdsf => clock + thing.uses * rebuild_ms / megabytes,
            Self::Landlord => clock + rebuild_ms / megabytes,
            Self::Lfu => thing.uses,
            Self::Size => clock + thing.uses / megabytes,
            Self::Lru | Self::Ttl => thing.last_use.as_secs_f64(),
            Self::Hist => thing.keep_until.as_secs_f64(),
            Self::Rand => thing.draw,
            Self::Value => thing.rate * rebuild_ms / megabytes,
        }
    }

    /// Whether the worth of the last victim becomes the clock.
    #[must_use]
    pub const fn has_clock(self) -> bool {
        matches!(self, Self::Gdsf | Self::Landlord | Self::Size)
    }

    /// Whether worth changes while nothing happens but time.
    #[must_use]
    pub const fn drifts(self) -> bool {
        matches!(self, Self::Value)
    }
}

/// Below this a thing counts as this large: no division by next to nothing.
const MEMORY_MIN_MB: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    const THING: Candidate = Candidate {
        uses: 4.0,
        rebuild: Duration::from_millis(100),
        memory: Bytes::from_mb(10),
        last_use: Time::from_millis(5_000),
        keep_until: Time::from_millis(9_000),
        draw: 0.5,
        rate: 0.25,
    };

    #[test]
    fn each_variant_is_its_formula() {
        let worth: [f64; 9] = Evict::ALL.map(|policy| policy.worth(2.0, &THING));
        let expected = [42.0, 5.0, 5.0, 4.0, 2.4, 12.0, 9.0, 0.5, 2.5];
        for (worth, expected) in worth.into_iter().zip(expected) {
            assert!((worth - expected).abs() < 1e-9, "{worth} is not {expected}");
        }
    }

    #[test]
    fn dearer_smaller_and_more_used_is_worth_more() {
        let base = Evict::Gdsf.worth(0.0, &THING);
        let dearer = Candidate {
            rebuild: THING.rebuild * 2,
            ..THING
        };
        let smaller = Candidate {
            memory: Bytes::from_mb(5),
            ..THING
        };
        let more_used = Candidate { uses: 5.0, ..THING };
        for better in [dearer, smaller, more_used] {
            assert!(Evict::Gdsf.worth(0.0, &better) > base);
        }
    }

    #[test]
    fn names_are_found_again() {
        for policy in Evict::ALL {
            assert_eq!(Evict::parse(policy.name()), Some(policy));
        }
        assert_eq!(Evict::parse("fifo"), None);
    }
}
