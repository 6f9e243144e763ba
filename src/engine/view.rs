//! What may be seen from outside: values for `/stats`, `/tree`, `/debug` and the reports.
//!
//! Nothing here changes anything, and nothing here is on the path of a call.

use super::forest::Phase;
use super::{
    CallKey, Engine, FunctionCounts, FunctionKey, InstanceKey, InstanceState, Params, ZygoteKey,
    ZygoteState,
};
use crate::base::{Bytes, Duration, PackageSet, Time};
use crate::policy::{NodeId, Tree};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub events: u64,
    /// Events that named somebody who was gone.
    pub stale: u64,
    pub arrived: u64,
    pub answered: u64,
    pub refused: u64,
    pub abandoned: u64,
    pub retried: u64,
    pub timed_out: u64,
    pub forks: u64,
    pub forks_failed: u64,
    /// Instances gone.
    pub ended: u64,
    pub evicted: u64,
    pub frozen: u64,
    pub zygotes_started: u64,
    pub zygotes_failed: u64,
}

/// What is held of what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub memory_limit: Bytes,
    pub memory_held: Bytes,
    /// Of that, what idle sandboxes hold.
    pub memory_idle: Bytes,
    /// Of that, what is coming back.
    pub memory_leaving: Bytes,
    pub calls: u32,
    pub waiting_functions: u32,
    pub instances: u32,
    pub zygotes: u32,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionView {
    pub key: FunctionKey,
    pub version: u32,
    pub queued: u32,
    /// By `InstanceState::ALL`.
    pub instances: [u32; 6],
    pub counts: FunctionCounts,
    /// Mean time in user code.
    pub service: Option<Duration>,
    /// Expected time of a start now.
    pub cold: Option<Duration>,
    pub memory: Option<Bytes>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceView {
    pub key: InstanceKey,
    pub function: FunctionKey,
    pub version: u32,
    pub state: InstanceState,
    pub since: Time,
    pub born: Time,
    pub call: Option<CallKey>,
    pub node: Option<NodeId>,
    pub memory: Bytes,
}

/// One zygote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZygoteView {
    pub key: ZygoteKey,
    pub node: NodeId,
    pub state: ZygoteState,
    pub since: Time,
    pub forks: u64,
    pub memory: Bytes,
}

/// One node of one copy of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    pub node: NodeId,
    pub copy: u32,
    pub phase: Phase,
    pub hopeless: bool,
    /// Sandboxes made from it, zygotes included.
    pub created: u64,
    pub zygotes: Vec<ZygoteView>,
}

impl Engine {
    pub fn now(&self) -> Time {
        self.now
    }

    pub fn params(&self) -> &Params {
        &self.params
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn pool(&self) -> Pool {
        Pool {
            memory_limit: self.ledger.limit().memory,
            memory_held: self.ledger.held().memory,
            memory_idle: self.ledger.idle().memory,
            memory_leaving: self.ledger.leaving().memory,
            calls: self.calls.len() as u32,
            waiting_functions: self.waiters.len(),
            instances: self.instances.len() as u32,
            zygotes: self.zygotes.len() as u32,
        }
    }

    /// The tree as it is now, with the nodes that were grown.
    pub fn tree(&self) -> &Tree {
        &self.forest.tree
    }

    /// The function whose versions a node that is being installed is to have.
    pub fn like(&self, node: NodeId) -> Option<FunctionKey> {
        self.forest.pins.get(node.index())?.like
    }

    /// Exactly what zygotes of a node can import, once that is known.
    pub fn holds(&self, node: NodeId) -> Option<&PackageSet> {
        self.forest.pins.get(node.index())?.holds.as_ref()
    }

    /// What a node has, inherited packages included.
    pub fn node_packages(&self, node: NodeId) -> Option<&PackageSet> {
        self.forest.packages.get(node.index())
    }

    pub fn tree_copies(&self) -> u32 {
        self.forest.copies
    }

    /// The lines of the dump of one copy of the tree.
    pub fn tree_dump(&self, copy: u32) -> Vec<String> {
        self.forest.tree.dump(|node| {
            let place = self.forest.place(copy, node);
            self.forest.at(place).created
        })
    }

    pub fn function(&self, key: FunctionKey) -> Option<FunctionView> {
        let known = self.functions.get(key)?;
        Some(FunctionView {
            key,
            version: known.version,
            queued: known.queue.len(),
            instances: InstanceState::ALL.map(|state| known.count(state)),
            counts: known.counts,
            service: known.service.get(),
            cold: self.cold_of(key),
            memory: known.measured,
        })
    }

    pub fn functions(&self) -> impl Iterator<Item = FunctionView> {
        self.functions.keys().filter_map(|key| self.function(key))
    }

    pub fn instance(&self, key: InstanceKey) -> Option<InstanceView> {
        let known = self.instances.get(key)?;
        Some(InstanceView {
            key,
            function: known.function,
            version: known.version,
            state: known.state,
            since: known.since,
            born: known.born,
            call: known.call,
            node: known.node,
            memory: known.charge.memory(),
        })
    }

    pub fn instances(&self) -> impl Iterator<Item = InstanceView> {
        self.instances.keys().filter_map(|key| self.instance(key))
    }

    pub fn zygote(&self, key: ZygoteKey) -> Option<ZygoteView> {
        let known = self.zygotes.get(key)?;
        Some(ZygoteView {
            key,
            node: known.node,
            state: known.state,
            since: known.since,
            forks: known.forks,
            memory: known.charge.memory(),
        })
    }

    pub fn zygotes(&self) -> impl Iterator<Item = ZygoteView> {
        self.zygotes.keys().filter_map(|key| self.zygote(key))
    }

    /// Every node of every copy.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView> {
        let places = 0..self.forest.nodes.len() as u32;
        places.map(|place| {
            let node = self.forest.at(place);
            let zygotes = node.zygotes.iter();
            NodeView {
                node: self.forest.node_of(place),
                copy: self.forest.copy_of(place),
                phase: node.phase,
                hopeless: node.hopeless,
                created: node.created,
                zygotes: zygotes.filter_map(|key| self.zygote(*key)).collect(),
            }
        })
    }
}
