//! What the configuration says, as the engine needs it: the worker's and each function's.

use crate::base::{Bytes, Duration, PackageSet};
use crate::policy::{Evict, Lookup, Scale};
use serde::{Deserialize, Serialize};

/// Descriptors that one sandbox costs the worker: its socket, its log's two pipes, its pidfd to
/// watch and to kill by, its cgroup, the page it shares.
pub const DESCRIPTORS_OF_A_SANDBOX: u32 = 7;

/// What is true for the whole worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Memory of all sandboxes together (`[pool] mem_mb`).
    pub memory: Bytes,
    /// Descriptors that sandboxes may take of the worker's (its limit less what it needs itself).
    pub descriptors: u32,
    /// Processes that sandboxes may have on this machine.
    pub processes: u32,
    /// Part of the pool that the evictor keeps free ahead of need (`[pool] free_percent`).
    pub free_percent: u32,
    /// Freeze what was idle for this long (`[pool] idle_freeze_ms`); none: never.
    pub freeze_after: Option<Duration>,
    /// Reclaim memory of what was frozen (`[features] downsize_paused_mem`).
    pub reclaim_frozen: bool,

    /// Longest wait for an install (`[packages] installer_sec`); none: there is no package store,
    /// nothing is ever installed.
    pub install: Option<Duration>,
    /// Longest time from `Fork` to `Forked` or a first sign of life.
    pub fork: Duration,
    /// Longest time from there until user code gets the first call: imports.
    pub start: Duration,
    /// Longest time in a queue.
    pub queue: Duration,
    /// Longest time for a zygote to become ready.
    pub zygote_start: Duration,
    /// Keep instances beyond what `scale` wants no longer than this when idle; none: until their
    /// memory is needed.
    pub surplus: Option<Duration>,

    /// Processors that those who import at once share.
    pub processors: u32,
    /// Copies of the zygote tree: none without an import cache, one for "tree", one a core for
    /// "multitree".
    pub trees: u32,
    /// Start every node's zygote at once, from what the store holds (`[features] warmup`).
    pub warmup: bool,
    /// Grow the tree by what functions ask for in vain (`[policy] dynamic_zygotes`).
    pub dynamic_zygotes: bool,
    pub zygote: ZygoteSettings,

    pub evict: Evict,
    pub scale: Scale,
    pub lookup: Lookup,
}

impl Params {
    /// As the shipped configuration has it, for a pool of this size.
    pub const fn new(memory: Bytes) -> Self {
        Self {
            memory,
            descriptors: 16_384,
            processes: 16_384,
            free_percent: 20,
            freeze_after: None,
            reclaim_frozen: true,
            install: None,
            fork: Duration::from_secs(10),
            start: Duration::from_mins(1),
            queue: Duration::from_mins(1),
            zygote_start: Duration::from_mins(2),
            surplus: Some(Duration::from_mins(10)),
            processors: 4,
            trees: 1,
            warmup: false,
            dynamic_zygotes: false,
            zygote: ZygoteSettings::DEFAULT,
            evict: Evict::DEFAULT,
            scale: Scale::Little,
            lookup: Lookup::Best,
        }
    }
}

/// What is true for every zygote (`[limits.zygote]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZygoteSettings {
    /// Its ceiling.
    pub memory: Bytes,
    /// It is replaced after this many forks.
    pub forks_max: Option<u64>,
    /// It is replaced at this age.
    pub age_max: Option<Duration>,
}

impl ZygoteSettings {
    pub const DEFAULT: Self = Self {
        memory: Bytes::from_mb(512),
        forks_max: None,
        age_max: None,
    };
}

/// What is true for one version of one function (`[limits]` overlaid by the function's own).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSettings {
    /// Ceiling of an instance.
    pub memory: Bytes,
    /// Longest time in user code.
    pub runtime: Duration,
    /// The most instances; none: as the pool allows.
    pub instances: Option<u32>,
    /// Calls that may wait.
    pub queue: u32,
    pub on_hangup: OnHangup,
    /// An instance serves more than one call.
    pub reuse: bool,
    /// Instances may be forked from zygotes.
    pub zygote: bool,
    pub packages: Packages,
}

impl FunctionSettings {
    /// As the shipped configuration has it, for a function without packages.
    pub const DEFAULT: Self = Self {
        memory: Bytes::from_mb(128),
        runtime: Duration::from_secs(30),
        instances: None,
        queue: 1_024,
        on_hangup: OnHangup::Finish,
        reuse: true,
        zygote: true,
        packages: Packages::Known(PackageSet::EMPTY),
    };
}

impl Default for FunctionSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What becomes of a running call whose client hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHangup {
    #[default]
    Finish,
    Kill,
}

/// What a function needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packages {
    /// Installed, or none needed: exactly these.
    Known(PackageSet),
    /// To be resolved and installed first.
    Wanted,
}
