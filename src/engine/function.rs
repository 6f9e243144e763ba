//! A function: its queue, its instances by state, what was measured of it.
//!
//! Its lists are chains through the calls and instances, so a warm call moves links and allocates
//! nothing. Idle instances are a stack: the one used last is used next, so that the rest can cool.
//!
//! ```text
//! deployed --> [ install: ready | needed -> running -> ready | failed ] --> removed --> (retired)
//! ```
//!
//! Every event in every state, as a test finds it out:
//!
#![doc = include_str!("states/function.md")]

use super::instance::InstanceState;
use super::measure::{Mean, Rate};
use super::{FunctionKey, FunctionSettings, Packages, Params};
use crate::base::{Bytes, Chain, Duration, PackageSet, Time};
use crate::policy::keep::History;
use crate::policy::lookup::Match;
use alloc::boxed::Box;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What the engine knows of a function.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Function {
    pub(super) version: u32,
    /// Gone from the registry; what runs may finish.
    pub(super) removed: bool,
    pub(super) install: Install,
    /// In a row.
    pub(super) install_failures: u32,
    pub(super) settings: Box<FunctionSettings>,
    /// Calls that wait, the oldest first.
    pub(super) queue: Chain,
    /// Instances by `InstanceState`; deadlines in order, the last used of the idle ones first.
    pub(super) chains: [Chain; InstanceState::LISTED],
    pub(super) dying: u32,
    /// Instances on their way that have no call.
    pub(super) spare: u32,
    /// Waits for memory, since then.
    pub(super) awaiting: Option<Time>,
    /// Waits for a zygote, to be looked at again then.
    pub(super) expecting: Option<Time>,
    /// How often others passed it while it waited longest.
    pub(super) bypassed: u32,
    /// What the agenda has for it; it never fires later than any of its deadlines.
    pub(super) armed: Time,

    pub(super) rate: Rate,
    pub(super) last_use: Time,
    /// What the evictor's policy knows of it.
    pub(super) history: History,
    pub(super) service: Mean,
    /// From the fork to user code, less the imports that its zygote had left to it.
    pub(super) own: Mean,
    /// What an instance holds, as measured.
    pub(super) measured: Option<Bytes>,
    /// Nodes its instances may start from, the best first.
    pub(super) ranked: Vec<Match>,
    /// Import time of all its packages.
    pub(super) imports: Duration,
    pub(super) counts: FunctionCounts,
}

/// Whether its packages are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Install {
    /// Installed, or nothing to install.
    Ready,
    /// Not asked for yet.
    Needed,
    Running {
        since: Time,
    },
    /// Calls are refused until then; the first one after it tries again.
    Failed {
        until: Time,
    },
}

/// What happened to a function so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCounts {
    pub calls: u64,
    pub warm: u64,
    pub zygote: u64,
    pub fresh: u64,
    pub refused: u64,
    pub evictions: u64,
}

impl Function {
    pub(super) fn new(version: u32, settings: Box<FunctionSettings>, params: &Params) -> Self {
        Self {
            version,
            removed: false,
            install: install_state(&settings, params),
            install_failures: 0,
            settings,
            queue: Chain::EMPTY,
            chains: [Chain::EMPTY; InstanceState::LISTED],
            dying: 0,
            spare: 0,
            awaiting: None,
            expecting: None,
            bypassed: 0,
            armed: Time::MAX,
            rate: Rate::default(),
            last_use: Time::ZERO,
            history: params.evict.history(),
            service: Mean::default(),
            own: Mean::default(),
            measured: None,
            ranked: Vec::new(),
            imports: Duration::ZERO,
            counts: FunctionCounts::default(),
        }
    }

    pub(super) fn renew(&mut self, version: u32, settings: Box<FunctionSettings>, params: &Params) {
        self.version = version;
        self.install_failures = 0;
        self.install = install_state(&settings, params);
        self.settings = settings;
    }

    pub(super) fn chain(&self, state: InstanceState) -> &Chain {
        &self.chains[state as usize]
    }

    pub(super) fn count(&self, state: InstanceState) -> u32 {
        match state {
            InstanceState::Dying => self.dying,
            _ => self.chains[state as usize].len(),
        }
    }

    /// Instances, dying ones included.
    pub(super) fn alive(&self) -> u32 {
        self.chains.iter().map(Chain::len).sum::<u32>() + self.dying
    }

    /// Instances that serve or will.
    pub(super) fn useful(&self) -> u32 {
        self.alive() - self.dying
    }

    /// How many of its instances something depends on.
    pub(super) fn working(&self) -> u32 {
        let working = [
            InstanceState::Forking,
            InstanceState::Starting,
            InstanceState::Busy,
        ];
        working.into_iter().map(|state| self.count(state)).sum()
    }

    /// The place among its instances that the one used longest ago has.
    pub(super) fn lowest(&self) -> u32 {
        self.working() + self.count(InstanceState::Idle) + self.count(InstanceState::Frozen)
    }

    pub(super) fn has_idle(&self) -> bool {
        !self.chain(InstanceState::Idle).is_empty() || !self.chain(InstanceState::Frozen).is_empty()
    }

    /// The packages it has been given.
    pub(super) fn packages(&self) -> &PackageSet {
        const NONE: &PackageSet = &PackageSet::EMPTY;
        match &self.settings.packages {
            Packages::Known(packages) => packages,
            Packages::Wanted => NONE,
        }
    }
}

/// Without a store nothing is installed, and the function finds out by itself what it lacks.
fn install_state(settings: &FunctionSettings, params: &Params) -> Install {
    match (&settings.packages, params.install) {
        (Packages::Wanted, Some(_)) => Install::Needed,
        (Packages::Wanted, None) | (Packages::Known(_), _) => Install::Ready,
    }
}

/// One function, by its place in the table.
pub(super) fn slot(function: FunctionKey) -> u32 {
    function.index() as u32
}
