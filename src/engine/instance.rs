//! An instance: one sandbox that serves one function, one call at a time.
//!
//! ```text
//!  Fork        Forked          Given           Answered        idle for long
//!   --> forking ---> starting ------> busy ------------> idle ------------> frozen
//!         |  ^         |  (imports)   | ^ \              | |                  |
//!         |  '- Answered may overtake-' |  `-- Relay ----' '------ Relay -----'
//!         |            |                |                |                    |
//!         '------------'----- Kill -----'----------------'--------------------' --> dying
//!                                                                     InstanceExited --> (gone)
//! ```
//!
//! An instance made ahead of need has no call while it is forking; once there it is idle, and its
//! first call finds it `starting`.
//!
//! Every event in every state, as a test finds it out:
//!
#![doc = include_str!("states/instance.md")]

use super::ledger::Charge;
use super::{CallKey, End, FunctionKey, ZygoteKey};
use crate::base::Time;
use crate::policy::NodeId;
use serde::{Deserialize, Serialize};

/// What the engine knows of a sandbox of a function.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Instance {
    pub(super) function: FunctionKey,
    pub(super) state: InstanceState,
    pub(super) call: Option<CallKey>,
    pub(super) version: u32,
    /// The process is known to exist.
    pub(super) confirmed: bool,
    /// User code has got a call.
    pub(super) given: bool,
    /// In this state since then.
    pub(super) since: Time,
    /// This state must be over by then (forking, starting, busy).
    pub(super) deadline: Time,
    /// The fork was asked for then.
    pub(super) born: Time,
    /// What it was forked from, if that still lives.
    pub(super) zygote: Option<ZygoteKey>,
    pub(super) node: Option<NodeId>,
    pub(super) charge: Charge,
    /// Why it was killed.
    pub(super) end: Option<End>,
    /// Chosen by the evictor: counts as an eviction in flight.
    pub(super) evicted: bool,
    /// Made ahead of need and not there yet.
    pub(super) spare: bool,
    /// It has much to import and is not done.
    pub(super) imports: bool,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Asked for; there may be a process, or not yet.
    Forking,
    /// The process is there and has a call, but user code has not got it: imports.
    Starting,
    /// User code has a call.
    Busy,
    /// Waits for a call.
    Idle,
    /// Waits for a call, and was told to freeze.
    Frozen,
    /// Was told to die.
    Dying,
}

impl InstanceState {
    pub const ALL: [Self; 6] = [
        Self::Forking,
        Self::Starting,
        Self::Busy,
        Self::Idle,
        Self::Frozen,
        Self::Dying,
    ];
    /// States with a list of their own in the function.
    pub(super) const LISTED: usize = 5;

    pub const fn name(self) -> &'static str {
        match self {
            Self::Forking => "forking",
            Self::Starting => "starting",
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::Frozen => "frozen",
            Self::Dying => "dying",
        }
    }

    /// Something depends on it.
    pub(super) const fn is_working(self) -> bool {
        matches!(self, Self::Forking | Self::Starting | Self::Busy)
    }
}
