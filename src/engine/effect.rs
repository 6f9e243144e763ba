//! What shall be done, in the imperative: everything the engine ever asks for.
//!
//! Effects are to be done in their order. None of them fails towards the engine: one that cannot be
//! done becomes an event (`ForkFailed`, `ZygoteFailed`, `InstallFailed`) of a later round.

use super::{CallKey, FunctionKey, InstanceKey, Note, Sandbox, Wanted, ZygoteKey};
use crate::base::Duration;
use crate::policy::NodeId;
use serde::{Deserialize, Serialize};

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Make a process for this version of the function. A `Relay` to it may follow at once: what is
    /// written waits in its socket.
    Fork {
        instance: InstanceKey,
        function: FunctionKey,
        version: u32,
        origin: Origin,
    },
    /// Hand the call over. A frozen instance is thawed by an effect before this one.
    Relay {
        call: CallKey,
        instance: InstanceKey,
        start: Start,
    },
    /// Answer the call with a failure of the worker. Ends the call. An instance that runs it is
    /// killed by another effect.
    Refuse {
        call: CallKey,
        reason: Refusal,
        /// When trying again is worth it; none where it is not the worker's load.
        retry_after: Option<Duration>,
    },
    /// Forget a call whose client hung up. Ends the call. What its instance still sends for it is
    /// thrown away.
    Abandon {
        call: CallKey,
    },
    /// Kill everything in the sandbox, then tell `InstanceExited`. Where the fork is under way:
    /// `ForkFailed`, or kill what it makes and tell `InstanceExited`. May be said twice.
    Kill {
        instance: InstanceKey,
    },

    /// Make a zygote of this node (`Engine::tree` has it): a fork of `parent`, or a fresh
    /// interpreter. It imports what its node has and the parent has not.
    StartZygote {
        zygote: ZygoteKey,
        /// Which copy of the tree ("multitree" has several).
        tree: u32,
        node: NodeId,
        parent: Option<ZygoteKey>,
    },
    /// Kill it, then tell `ZygoteExited` (`ZygoteFailed` while it was being made is as good).
    KillZygote {
        zygote: ZygoteKey,
    },

    Freeze {
        sandbox: Sandbox,
    },
    Thaw {
        sandbox: Sandbox,
    },
    /// Ask the kernel to take back what this frozen sandbox does not need.
    Reclaim {
        sandbox: Sandbox,
    },

    /// Install, then tell `InstallFinished` or `InstallFailed`.
    Install {
        wanted: Wanted,
    },
    /// Nobody waits for this any more: it took too long, or is of a version that is gone.
    /// It may go on in the background and still tell its end.
    CancelInstall {
        wanted: Wanted,
    },

    /// Nothing of this function is left; its name may be given away.
    RetireFunction {
        function: FunctionKey,
    },
    /// Nothing is left at all.
    Drained,

    /// Write this down.
    Note(Note),
}

/// What a new instance is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Origin {
    /// A fresh interpreter.
    Fresh,
    /// A fork of this zygote, of this node.
    Zygote { zygote: ZygoteKey, node: NodeId },
}

/// How the instance of a call came to be there (`X-OL-Start`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Start {
    Warm,
    Zygote,
    Fresh,
}

impl Start {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Zygote => "zygote",
            Self::Fresh => "fresh",
        }
    }
}

/// Why the worker itself answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Refusal {
    NoSuchFunction,
    /// The function's own queue is full, or its own instances were busy for too long.
    TooManyCalls,
    /// The pool or a limit of the worker.
    Overloaded,
    Draining,
    InstallFailed,
    /// The sandbox was there but its code did not take a call in time.
    StartTimedOut,
    /// Exit, signal or OOM kill while it had the call; the driver knows which.
    SandboxDied,
    /// No process could be made for it, twice.
    ForkFailed,
    /// Longer than `runtime_sec`.
    CallTimedOut,
}
