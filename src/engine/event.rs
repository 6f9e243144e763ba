//! What happened, in the past tense: everything the engine ever learns.
//!
//! Who names what: calls and functions come from outside, so whoever drives the engine names them
//! (it keeps their bytes and their code under the same keys); instances and zygotes exist because
//! the engine says so, so the engine names them.
//!
//! When a name may be given away again:
//! - a call: once `Answered` was told, or `Refuse` or `Abandon` was said; each call ends in exactly
//!   one of the three;
//! - a function: once `RetireFunction` was said;
//! - an instance: gone with `ForkFailed` or `InstanceExited`, exactly one of which must be told for
//!   every `Fork`;
//! - a zygote: gone with `ZygoteFailed` or `ZygoteExited`, exactly one for every `StartZygote`.
//!
//! A name of somebody who is gone is ordinary: such an event is counted as stale and changes
//! nothing.

use super::{CallKey, FunctionKey, FunctionSettings, InstanceKey, Params, ZygoteKey};
use crate::base::{Bytes, PackageSet, Time};
use crate::policy::{NodeId, Tree, Weights};
use alloc::boxed::Box;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One thing that happened outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    // Calls.
    /// A call's head was read and its function is known. Its body may still be on its way.
    CallArrived {
        call: CallKey,
        function: FunctionKey,
    },
    /// The client of the call is gone. Answered by `Abandon` now or at the call's end.
    CallHungUp { call: CallKey },

    // Instances.
    /// The fork succeeded: the process exists. May come after `Given` and `Answered`.
    Forked { instance: InstanceKey },
    /// There is no process and there will be none. Ends the instance.
    ForkFailed {
        instance: InstanceKey,
        fault: ForkFault,
    },
    /// User code has got the instance's first call (told once; `Answered` implies it). The call's
    /// running time counts from here.
    Given { instance: InstanceKey },
    /// The call's answer is complete, or the client was answered with the instance's own failure
    /// (its import failed, its answer was malformed). Ends the call.
    Answered {
        instance: InstanceKey,
        call: CallKey,
        verdict: Verdict,
    },
    /// The process is gone and its cgroup empty. `seen`: user code had got the call it was given.
    InstanceExited {
        instance: InstanceKey,
        seen: bool,
        exit: Exit,
    },

    // Zygotes.
    /// Its packages are imported; it takes forks.
    ZygoteReady { zygote: ZygoteKey },
    /// It could not be made; there is no process. Ends the zygote.
    ZygoteFailed {
        zygote: ZygoteKey,
        fault: ZygoteFault,
    },
    /// A zygote that was ready, or was told to die, is gone. Ends the zygote.
    ZygoteExited { zygote: ZygoteKey, exit: Exit },

    // Any sandbox.
    /// The freezer says so, some time after `Freeze`.
    Frozen { sandbox: Sandbox },
    /// The freezer says so, some time after `Thaw`.
    Thawed { sandbox: Sandbox },
    /// What a sandbox holds: its own pages, shared ones divided among those who share them.
    MemorySampled { sandbox: Sandbox, memory: Bytes },
    /// The machine is short of memory, whatever the ledger says: this much should go.
    PressureRose { wanted: Bytes },

    // Packages.
    /// Everything wanted is installed; `packages` is what that is, dependencies and versions
    /// included.
    InstallFinished {
        wanted: Wanted,
        packages: Box<PackageSet>,
    },
    /// It is not, and asking again at once would not help.
    InstallFailed { wanted: Wanted },

    // What is configured.
    /// A function appeared, or a new version of one did.
    FunctionDeployed {
        function: FunctionKey,
        version: u32,
        settings: Box<FunctionSettings>,
    },
    /// A function went from the registry. Running calls finish; answered by `RetireFunction`.
    FunctionRemoved { function: FunctionKey },
    /// The configuration changed.
    ConfigChanged { params: Box<Params> },
    /// The zygote tree changed (or is told for the first time).
    TreeChanged { tree: Box<ZygoteTree> },
    /// What packages cost was measured anew.
    WeightsChanged { weights: Box<Weights> },

    // The end.
    /// The worker shall end by `deadline`. `accept`: calls that still come are served until then,
    /// else they are refused. May be told again with less patience. Ends with `Drained`.
    DrainRequested { accept: bool, deadline: Time },
}

/// Why a fork produced no process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ForkFault {
    /// The zygote refused: it is not single-threaded any more.
    HasThreads,
    /// The kernel refused (memory, processes, cgroup).
    Refused,
    /// The zygote died or its socket broke before it answered.
    Lost,
    /// The driver could not prepare what the fork needs (descriptors, cgroup, root).
    Unprepared,
}

/// What is to become of an instance that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// It serves on.
    Fit,
    /// It must not be used again: the import failed, the answer broke the protocol, the function
    /// does not reuse sandboxes.
    Unfit,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Status(u8),
    /// By this signal.
    Signal(u8),
    /// Killed by the kernel because its memory limit was reached.
    OutOfMemory,
}

/// Why a zygote could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ZygoteFault {
    /// An import raised.
    ImportFailed,
    /// An import started a thread: its children would lack it. The node is of no use.
    HasThreads,
    /// It died while importing.
    Died(Exit),
    /// The kernel or the parent refused the fork, or the driver could not prepare it.
    Refused,
    /// None of its own packages may be imported by a zygote, as was found. The node is of no use.
    Unfit,
}

/// Something with a cgroup of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sandbox {
    Instance(InstanceKey),
    Zygote(ZygoteKey),
}

/// Whose packages are to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wanted {
    /// What this version of the function requires.
    Function { function: FunctionKey, version: u32 },
    /// What this node imports itself, of the tree of this generation.
    Node { generation: u32, node: NodeId },
}

/// The tree, with what its packages cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZygoteTree {
    /// Grows with each change; told back in `Wanted::Node`, so that late installs are recognised.
    pub generation: u32,
    pub tree: Tree,
    pub weights: Weights,
    /// Nodes that need no install.
    pub installed: Vec<NodeId>,
    /// Nodes whose install would need nothing that is not there: those that are warmed up.
    pub stocked: Vec<NodeId>,
}
