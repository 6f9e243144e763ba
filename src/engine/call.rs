//! A call, from its arrival to its one end.
//!
//! ```text
//!             +----- died unseen (once) -----+
//!             v                              |
//! (arrived) queued ------- Relay -------> given ---- Answered ---> (ended)
//!             |                              |
//!             +-- Refuse, Abandon --> (ended) <-- Refuse, Abandon -+
//! ```
//!
//! Every event in every state, as a test finds it out:
//!
#![doc = include_str!("states/call.md")]

use super::{FunctionKey, InstanceKey};
use crate::base::Time;
use serde::{Deserialize, Serialize};

/// What the engine knows of a call; its bytes are elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    pub(super) function: FunctionKey,
    pub(super) state: CallState,
    /// Since when it has been waiting: the longest wait counts from here.
    pub(super) since: Time,
    /// Times it was given to an instance.
    pub(super) attempts: u8,
    /// Nobody waits for its answer any more.
    pub(super) hung_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum CallState {
    /// In its function's queue.
    Queued,
    /// Handed to this instance.
    Given(InstanceKey),
}
