//! Every bound of the engine, by name, and what must hold between them.
//!
//! These bound the worker itself; what a tenant may use is configuration (`FunctionSettings`) and
//! what the machine has is the ledger's (`Params`). `tiny` makes rare paths common: simulations run
//! with it.

use serde::{Deserialize, Serialize};

/// How many of each thing there may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Functions known, those being retired included.
    pub functions: u32,
    /// Calls accepted and not yet ended; one more is refused as overloaded.
    pub calls: u32,
    /// Sandboxes of calls, those dying included.
    pub instances: u32,
    /// Sandboxes of zygotes, those dying included.
    pub zygotes: u32,
    /// Zygotes of one node at once (a saturated node is replicated).
    pub replicas: u32,
    /// Kills chosen by the evictor whose victims have not exited yet.
    pub evictions_in_flight: u32,
    /// How often smaller ones may pass the function that has waited longest for memory.
    pub bypasses: u32,
    /// Times one call is tried; above it the call is refused.
    pub attempts: u8,
}

impl Limits {
    pub const DEFAULT: Self = Self {
        functions: 100_000,
        calls: 65_536,
        instances: 131_072,
        zygotes: 4_096,
        replicas: 8,
        evictions_in_flight: 64,
        bypasses: 64,
        attempts: 2,
    };

    /// So small that a simulation of some thousand events meets every bound.
    pub const TINY: Self = Self {
        functions: 6,
        calls: 24,
        instances: 8,
        zygotes: 6,
        replicas: 2,
        evictions_in_flight: 2,
        bypasses: 3,
        attempts: 2,
    };

    const fn check(self) {
        assert!(self.functions > 0 && self.calls > 0 && self.instances > 0);
        assert!(self.attempts >= 1, "a call is tried at least once");
        assert!(
            self.evictions_in_flight >= 1,
            "else nothing could ever be evicted"
        );
        assert!(self.replicas >= 1 && self.replicas <= self.zygotes);
    }
}

const _: () = Limits::DEFAULT.check();
const _: () = Limits::TINY.check();
// Keys travel in tokens with 24 bits of index.
const _: () = assert!(Limits::DEFAULT.instances < 1 << 24 && Limits::DEFAULT.calls < 1 << 24);

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
