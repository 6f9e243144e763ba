//! What happened and why, as one record: journal fields when live, rows when simulated, lines in
//! tests.
//!
//! Notes are for people. Nothing is decided by them, and a warm call makes none.

use super::{
    CallKey, Exit, ForkFault, FunctionKey, InstanceKey, Origin, Refusal, Sandbox, Wanted,
    ZygoteFault, ZygoteKey,
};
use crate::base::{Bytes, Duration};
use crate::policy::NodeId;
use serde::{Deserialize, Serialize};

/// One thing worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Note {
    /// An instance is being made, because of calls that wait or ahead of them.
    Scaled {
        function: FunctionKey,
        instance: InstanceKey,
        origin: Origin,
        /// Calls waiting when it was decided.
        waiting: u32,
        /// Instances alive, this one included.
        alive: u32,
        why: Growth,
    },
    /// Its first answer came this long after the fork was asked for.
    Warmed {
        function: FunctionKey,
        instance: InstanceKey,
        cold: Duration,
    },
    ForkFailed {
        function: FunctionKey,
        instance: InstanceKey,
        fault: ForkFault,
    },
    InstanceEnded {
        function: FunctionKey,
        instance: InstanceKey,
        why: End,
    },
    /// The call's instance died before user code saw it; it waits again.
    CallRetried {
        function: FunctionKey,
        call: CallKey,
    },
    CallRefused {
        /// None when the name was not known.
        function: Option<FunctionKey>,
        call: CallKey,
        reason: Refusal,
    },
    /// The function waits until this much memory is free.
    MemoryAwaited {
        function: FunctionKey,
        memory: Bytes,
    },
    /// Its calls wait for a zygote that is being made.
    ZygoteAwaited {
        function: FunctionKey,
        node: NodeId,
        expected: Duration,
    },

    /// A victim was chosen: of all that is idle it was worth least.
    Evicted {
        sandbox: Sandbox,
        /// Of an instance.
        function: Option<FunctionKey>,
        /// Of a zygote.
        node: Option<NodeId>,
        need: Need,
        /// By the policy in force.
        worth: f64,
        memory: Bytes,
        idle: Duration,
    },

    ZygoteStarting {
        zygote: ZygoteKey,
        node: NodeId,
        parent: Option<NodeId>,
    },
    ZygoteReady {
        zygote: ZygoteKey,
        node: NodeId,
        took: Duration,
    },
    ZygoteFailed {
        zygote: ZygoteKey,
        node: NodeId,
        fault: ZygoteFault,
        /// It is not tried again before this long; none: not until the tree changes.
        retry: Option<Duration>,
    },
    ZygoteEnded {
        zygote: ZygoteKey,
        node: NodeId,
        why: End,
        forks: u64,
    },
    /// A node got another zygote because the present ones fork most of the time.
    Replicated {
        zygote: ZygoteKey,
        node: NodeId,
        replicas: u32,
        utilisation: f64,
    },
    /// A node was added for what several functions asked for in vain.
    NodeAdded {
        node: NodeId,
        parent: NodeId,
    },

    Installing {
        wanted: Wanted,
    },
    Installed {
        wanted: Wanted,
        took: Duration,
    },
    InstallFailed {
        wanted: Wanted,
    },
    InstallTimedOut {
        wanted: Wanted,
    },

    FunctionDeployed {
        function: FunctionKey,
        version: u32,
    },
    FunctionRemoved {
        function: FunctionKey,
    },
    Draining {
        calls: u32,
        instances: u32,
    },
    Drained,
}

/// Why an instance was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Growth {
    /// For a call that waits.
    Demand,
    /// `hist` expects a call soon.
    Foreseen,
}

/// Why a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum End {
    /// Nobody asked for it.
    ByItself(Exit),
    Evicted,
    /// A call ran longer than allowed.
    TimedOut,
    /// It never got as far as user code.
    StartTimedOut,
    /// Its zygote died before the fork was certain.
    LostZygote,
    /// Its client hung up and the function asks for that.
    HungUp,
    /// It answered for the last time (not to be used again).
    Unfit,
    /// Its memory goes to a function that has waited long and has less.
    Yielded,
    /// It held more memory than allowed.
    OverMemory,
    /// Its version is not the newest any more.
    Outdated,
    /// Idle beyond what its function needs.
    Surplus,
    /// Idle longer than the policy keeps it.
    Expired,
    /// A zygote that has forked often or lived long enough: children share its hash seed and
    /// layout.
    Rotated,
    /// The tree has no such node any more.
    Uprooted,
    Drained,
}

/// What an eviction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Need {
    /// A start that waits for memory, descriptors or processes.
    Start(FunctionKey),
    /// A zygote that would serve better than what is idle.
    Zygote(NodeId),
    /// A part of the pool is kept free ahead of need.
    Goal,
    /// The machine is short.
    Pressure,
}
