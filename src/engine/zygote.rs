//! A zygote: one sandbox that has imported the packages of its node and is forked from.
//!
//! ```text
//!        demanded                     installed, parent there
//! absent ---------> installing, waiting ---------------> forking ---- Ready ----> live <--> frozen
//!   ^                       |                                  |                       |         |
//!   |                       '-- failed --> (absent, backing off)'------ Kill, ---------'---------'
//!   |                                              ^                    exits, fails         |
//!   '----------------------------------------------'---- dying <-----------------------------'
//! ```
//!
//! The first three are states of a node without a zygote (`forest`), the others of a zygote. While
//! a node has none that is live, its functions start from its nearest live ancestor.
//!
//! Every event in every state, as a test finds it out:
//!
#![doc = include_str!("states/zygote.md")]

use super::ledger::Charge;
use super::{End, InstanceKey, ZygoteKey};
use crate::base::{Chain, Time};
use crate::policy::NodeId;
use serde::{Deserialize, Serialize};

/// The place of a zygote that has no node any more: about to be killed.
pub(super) const UPROOTED: u32 = u32::MAX;

/// What the engine knows of a sandbox that is forked from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Zygote {
    /// Its place in the forest, while it is not dying.
    pub(super) place: u32,
    pub(super) node: NodeId,
    pub(super) state: ZygoteState,
    /// What it is a fork of, if that still lives.
    pub(super) parent: Option<ZygoteKey>,
    pub(super) since: Time,
    /// It must be ready by then.
    pub(super) deadline: Time,
    pub(super) ready_at: Time,
    /// Instances asked of it whose process is not certain yet.
    pub(super) unconfirmed: Chain,
    /// Zygotes being made from it.
    pub(super) making: u32,
    /// Its instances that are working.
    pub(super) working: u32,
    pub(super) forks: u64,
    pub(super) last_use: Time,
    /// Not forked from before this: its last fork failed.
    pub(super) avoided_until: Time,
    /// To be killed as soon as another of its node is live.
    pub(super) retiring: bool,
    pub(super) charge: Charge,
    pub(super) end: Option<End>,
    pub(super) evicted: bool,
}

/// Where a zygote is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZygoteState {
    /// Being made: forked, importing.
    Forking,
    /// Takes forks.
    Live,
    /// Takes forks once thawed; told to freeze.
    Frozen,
    /// Was told to die.
    Dying,
}

impl ZygoteState {
    pub const ALL: [Self; 4] = [Self::Forking, Self::Live, Self::Frozen, Self::Dying];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Forking => "forking",
            Self::Live => "live",
            Self::Frozen => "frozen",
            Self::Dying => "dying",
        }
    }

    /// Can be forked from.
    pub(super) const fn takes_forks(self) -> bool {
        matches!(self, Self::Live | Self::Frozen)
    }
}

impl Zygote {
    /// It will never be forked from again.
    pub(super) fn is_useless(&self) -> bool {
        self.avoided_until == Time::MAX
    }

    /// Nothing that runs or is being made depends on it, and it is not on its way out already.
    pub(super) fn is_spare(&self) -> bool {
        self.place != UPROOTED
            && self.state.takes_forks()
            && self.working == 0
            && self.making == 0
            && self.unconfirmed.is_empty()
    }
}

/// The instance's place in its zygote's list of uncertain forks.
pub(super) fn slot(instance: InstanceKey) -> u32 {
    instance.index() as u32
}
