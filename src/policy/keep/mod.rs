//! Who is kept: the order in which idle sandboxes give up their memory.
//!
//! Each policy is one small file beside this one, with its intuition, its formula and what it
//! rejected; the line that names it below gives it to the configuration, the live evictor and the
//! simulators. A policy keeps a history of one thing at a time (a function, a node of the tree),
//! is told what happens to that thing, and answers one number: its *worth*. The least worth goes
//! first.
//!
//! ```text
//!   arrived, used, released, lost --> history --worth--> evictor: the least goes
//!                                            '--stay---> agenda: how long it is kept anyway
//! ```
//!
//! With most policies worth only grows, while a thing is used, so the evictor may keep an old
//! number and correct it when it comes up (`engine::evict`): a warm call then costs nothing there.
//! Where worth drifts with time ([`Policy::DRIFTS`]), old numbers are of no use.
//!
//! | name | worth |
//! |---|---|
//! | `value` | rate of uses from now on * rebuild cost / memory |
//! | `layered` | as `value`; each layer gone anyway when most gaps between its uses are over |
//! | `gdsf` | clock + uses * rebuild cost / memory |
//! | `landlord` | clock + rebuild cost / memory |
//! | `lfu` | uses |
//! | `size` | clock + uses / memory |
//! | `lru` | time of the last use |
//! | `ttl`, `long-ttl` | as `lru`; gone anyway after ten minutes, two hours |
//! | `hist` | as `lru`; gone, and made again, when the histogram of gaps says so |
//! | `rand` | a number drawn at each use |
//!
//! Rejected: worth of each instance. All instances of a function are alike, so the function has a
//! history and its least recently used instance pays with it; the structure then grows with the
//! functions, not with the instances.

use crate::base::{Bytes, Duration, Time};
use serde::{Deserialize, Serialize};

/// A call of a function, or a fork of a zygote.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Use {
    pub now: Time,
    /// How many of the function's sandboxes were busy, those waited for included.
    pub busy: u32,
    /// The worth of the last victim, where the policy has such a clock.
    pub clock: f64,
}

/// A thing that could go, as it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thing {
    /// What it takes to have it again, from the best that would still be there.
    pub rebuild: Duration,
    /// What its end gives back.
    pub memory: Bytes,
    /// Which of its function's sandboxes it is: the n-th is needed when n calls overlap.
    pub level: u32,
    pub last_use: Time,
    pub now: Time,
    /// Something that no other thing has.
    pub name: u64,
}

impl Thing {
    fn rebuild_ms(&self) -> f64 {
        self.rebuild.as_secs_f64() * 1e3
    }

    /// No division by next to nothing.
    fn megabytes(&self) -> f64 {
        const MEMORY_MIN_MB: f64 = 0.25;
        f64::max(self.memory.as_mb(), MEMORY_MIN_MB)
    }
}

/// What a policy wants done though memory is not short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stay {
    /// Let go what has served and was idle for so long.
    pub used: Option<Duration>,
    /// Let go what was made ahead of a call and waited for it so long.
    pub unused: Option<Duration>,
    /// If all are gone, have one ready this long after the last call.
    pub ready_after: Option<Duration>,
}

impl Stay {
    /// For so long after the last use.
    const fn for_span(span: Duration) -> Self {
        Self {
            used: Some(span),
            unused: Some(span),
            ready_after: None,
        }
    }
}

/// One policy's history of one thing. What is not told of is of no interest to it.
pub trait Policy: Default {
    /// Its name in the configuration.
    const NAME: &'static str;
    /// Its name in tables beside the published policies.
    const TITLE: &'static str;
    /// The worth of the last victim becomes a clock: newcomers equal those who proved themselves
    /// long ago.
    const HAS_CLOCK: bool = false;
    /// Worth changes while nothing happens but time.
    const DRIFTS: bool = false;
    /// What a sandbox is made of is kept layer by layer, also where the simulated server would
    /// else know whole sandboxes only.
    const LAYERS: bool = false;

    /// A call came, whether it can be served or not.
    fn arrived(&mut self, _call: &Use) {}
    /// A sandbox took a call.
    fn used(&mut self, _used: &Use) {}
    /// A call ended; so many are busy still.
    fn released(&mut self, _busy: u32, _now: Time) {}
    /// A sandbox is gone, evicted or not; so many are left.
    fn lost(&mut self, _left: u32) {}
    /// What the thing is worth keeping.
    fn worth(&self, thing: &Thing) -> f64;
    /// Worth will be asked for often now: what holds for a while may be remembered.
    fn remember(&mut self, _thing: &Thing) {}
    fn stay(&self) -> Stay {
        Stay::default()
    }
}

/// Makes of a list of policies the choice of one, and the history that goes with the choice.
macro_rules! policies {
    ($($file:ident::$name:ident,)*) => {
        $(mod $file;)*
        $(pub use $file::$name;)*

        /// The eviction policy, by the name it has in the configuration.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Evict {
            $($name,)*
        }

        impl Evict {
            pub const ALL: [Self; [$($name::NAME),*].len()] = [$(Self::$name),*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $name::NAME,)*
                }
            }

            /// Its name in tables beside the published policies.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $name::TITLE,)*
                }
            }

            /// Whether the worth of the last victim becomes the clock.
            #[must_use]
            pub const fn has_clock(self) -> bool {
                match self {
                    $(Self::$name => $name::HAS_CLOCK,)*
                }
            }

            /// Whether worth changes while nothing happens but time.
            #[must_use]
            pub const fn drifts(self) -> bool {
                match self {
                    $(Self::$name => $name::DRIFTS,)*
                }
            }

            /// Whether it keeps layers one by one.
            #[must_use]
            pub const fn keeps_layers(self) -> bool {
                match self {
                    $(Self::$name => $name::LAYERS,)*
                }
            }

            /// Of a thing that nothing has happened to.
            #[must_use]
            pub fn history(self) -> History {
                match self {
                    $(Self::$name => History::$name($name::default()),)*
                }
            }
        }

        /// What the chosen policy knows of one thing.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum History {
            $($name($name),)*
        }

        impl History {
            pub fn arrived(&mut self, call: &Use) {
                match self {
                    $(Self::$name(policy) => policy.arrived(call),)*
                }
            }

            pub fn used(&mut self, used: &Use) {
                match self {
                    $(Self::$name(policy) => policy.used(used),)*
                }
            }

            pub fn released(&mut self, busy: u32, now: Time) {
                match self {
                    $(Self::$name(policy) => policy.released(busy, now),)*
                }
            }

            pub fn lost(&mut self, left: u32) {
                match self {
                    $(Self::$name(policy) => policy.lost(left),)*
                }
            }

            #[must_use]
            pub fn worth(&self, thing: &Thing) -> f64 {
                match self {
                    $(Self::$name(policy) => policy.worth(thing),)*
                }
            }

            pub fn remember(&mut self, thing: &Thing) {
                match self {
                    $(Self::$name(policy) => policy.remember(thing),)*
                }
            }

            #[must_use]
            pub fn stay(&self) -> Stay {
                match self {
                    $(Self::$name(policy) => policy.stay(),)*
                }
            }
        }
    };
}

policies! {
    gdsf::Gdsf,
    lru::Lru,
    ttl::Ttl,
    long_ttl::LongTtl,
    landlord::Landlord,
    lfu::Lfu,
    size::Size,
    hist::Hist,
    rand::Rand,
    value::Value,
    layered::Layered,
}

impl Default for Evict {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Evict {
    /// The best of them on every trace that was tried.
    pub const DEFAULT: Self = Self::Value;

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// How often a thing was used, with the clock of its last use. Its past counts half whenever the
/// last sandbox is gone.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Uses {
    count: f64,
    clock: f64,
}

impl Uses {
    fn add(&mut self, used: &Use) {
        self.count += 1.0;
        self.clock = used.clock;
    }

    fn lost(&mut self, left: u32) {
        if left == 0 {
            self.count *= 0.5;
        }
    }
}

#[cfg(test)]
mod tests;
