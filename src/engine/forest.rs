//! The nodes of the zygote tree, in as many copies as configured, and what became of each.
//!
//! A node is a wish and a zygote is its fulfilment: a node has none, one, or several (a saturated
//! node is replicated). Nodes of the copies are numbered through: copy times length plus node.

use super::measure::{Mean, Rate, Usual};
use super::{FunctionKey, ZygoteKey};
use super::{ZygoteTree, event::Wanted};
use crate::base::{Bytes, Duration, PackageSet, Time};
use crate::policy::keep::{Evict, History};
use crate::policy::tree::{NodeId, Tree, Weights};
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// All copies of the tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Forest {
    pub generation: u32,
    pub tree: Tree,
    pub weights: Weights,
    pub copies: u32,
    /// Whose histories the nodes keep.
    pub evict: Evict,
    pub nodes: Vec<Node>,
    /// What each node of the tree has, inherited ones included (the same in all copies).
    pub packages: Vec<PackageSet>,
    /// Nodes whose packages are in the store (the same in all copies).
    pub installed: Vec<bool>,
    /// Nodes whose packages need no index.
    pub stocked: Vec<bool>,
    /// In which versions, and with what they depend on (the same in all copies).
    pub pins: Vec<Pin>,
    /// Nodes added since the tree was told.
    pub grown: u32,
    /// What functions imported by themselves because no node has it, the last wanted last.
    unmet: Vec<Unmet>,
}

/// Packages that cold starts from a node imported by themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unmet {
    node: NodeId,
    packages: PackageSet,
    starts: u64,
}

/// Those that were not wanted for the longest time are forgotten.
const UNMET_MAX: usize = 64;

/// What a node that names packages without a version stands for at present: zygotes hold one
/// version of each, and functions pinned to another one must not meet them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Pin {
    /// Exactly what its zygotes can import; none where nobody has said.
    pub holds: Option<PackageSet>,
    /// The function whose versions these are to be.
    pub like: Option<FunctionKey>,
    /// A function that would start here has other versions.
    pub contested: bool,
}

/// One node of one copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Node {
    pub phase: Phase,
    /// Its zygotes, dying ones not among them.
    pub zygotes: Vec<ZygoteKey>,
    pub failures: u32,
    /// Not tried before this.
    pub retry_at: Time,
    /// Not tried at all: its imports start threads, or there is nothing to install them from.
    pub hopeless: bool,
    /// A fork from it succeeded once.
    pub proven: bool,
    /// Sandboxes made from it, zygotes included.
    pub created: u64,
    /// Uses, aged: halved whenever it loses its last zygote.
    pub uses: f64,
    /// What the evictor's policy knows of it.
    pub history: History,
    pub forks: Rate,
    /// From `Fork` to `Forked` when nothing else was under way.
    pub fork_time: Mean,
    /// From `StartZygote` to `ZygoteReady`.
    pub start_time: Mean,
    pub measured: Option<Bytes>,
    /// What instances from here hold beside the packages that they import themselves. Of the node:
    /// kept in the first copy.
    pub instances: Usual,
}

/// What a node without a live zygote is doing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing.
    Absent,
    /// Its packages are being installed.
    Installing { since: Time },
    /// Its parent is being made.
    Waiting,
    /// It has at least one zygote, or one that is being made.
    Present,
}

impl Phase {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Installing { .. } => "installing",
            Self::Waiting => "waiting",
            Self::Present => "present",
        }
    }
}

/// Of a bare interpreter in a sandbox.
const ROOT_MEMORY: Bytes = Bytes::from_mb(10);
/// Page tables, stacks, a zygote's own dirt.
const NODE_MEMORY: Bytes = Bytes::from_mb(4);
/// The first failure is forgiven, the next ones double from this.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(5);

impl Forest {
    /// No trees: everything starts fresh.
    pub fn none() -> Self {
        let tree = ZygoteTree {
            generation: 0,
            tree: Tree::new(),
            weights: Weights::new(),
            installed: Vec::new(),
            stocked: Vec::new(),
        };
        Self::new(tree, 0, Evict::DEFAULT)
    }

    pub fn new(told: ZygoteTree, copies: u32, evict: Evict) -> Self {
        let ZygoteTree {
            generation,
            tree,
            weights,
            installed: held,
            stocked,
        } = told;
        let tree_len = tree.len();
        let packages = tree.iter().map(|(id, _)| tree.packages(id)).collect();
        let nodes = tree.iter();
        let installed = nodes
            .map(|(id, node)| node.packages.is_empty() || held.contains(&id))
            .collect();
        let mut forest = Self {
            generation,
            tree,
            weights,
            copies,
            evict,
            nodes: Vec::new(),
            packages,
            installed,
            stocked: tree_flags(tree_len, &stocked),
            pins: vec![Pin::default(); tree_len],
            grown: 0,
            unmet: Vec::new(),
        };
        let count = forest.tree.len() * copies as usize;
        forest.nodes.resize_with(count, || Node::new(evict));
        forest
    }

    pub fn forget_histories(&mut self, evict: Evict) {
        self.evict = evict;
        for node in &mut self.nodes {
            node.history = evict.history();
        }
    }

    pub fn place(&self, copy: u32, node: NodeId) -> u32 {
        copy * self.tree.len() as u32 + node.0
    }

    pub fn node_of(&self, place: u32) -> NodeId {
        NodeId(place % self.tree.len() as u32)
    }

    pub fn copy_of(&self, place: u32) -> u32 {
        place / self.tree.len() as u32
    }

    pub fn at(&self, place: u32) -> &Node {
        &self.nodes[place as usize]
    }

    pub fn at_mut(&mut self, place: u32) -> &mut Node {
        &mut self.nodes[place as usize]
    }

    /// All copies of this node.
    pub fn copies_of(&self, node: NodeId) -> impl Iterator<Item = u32> {
        (0..self.copies).map(move |copy| self.place(copy, node))
    }

    pub fn parent(&self, place: u32) -> Option<u32> {
        let parent = self.tree.node(self.node_of(place)).parent?;
        Some(self.place(self.copy_of(place), parent))
    }

    /// The child's places in the same copy.
    pub fn child(&self, place: u32, number: usize) -> Option<u32> {
        let children = &self.tree.node(self.node_of(place)).children;
        let child = *children.get(number)?;
        Some(self.place(self.copy_of(place), child))
    }

    pub fn wanted(&self, place: u32) -> Wanted {
        Wanted::Node {
            generation: self.generation,
            node: self.node_of(place),
        }
    }

    /// What the packages weigh that a node has not.
    pub fn missing_at(&self, node: NodeId, packages: &PackageSet) -> Bytes {
        let has = &self.packages[node.index()];
        let missing = packages
            .iter()
            .filter(|package| has.get(package.name()).is_none());
        missing.map(|package| self.weights.of(package).memory).sum()
    }

    /// What a zygote here will hold beyond its parent's pages, as measured or else as modelled.
    pub fn memory(&self, place: u32) -> Bytes {
        if let Some(measured) = self.at(place).measured {
            return measured;
        }
        let node = self.tree.node(self.node_of(place));
        if node.parent.is_none() {
            return ROOT_MEMORY;
        }
        let own = node
            .packages
            .iter()
            .map(|package| self.weights.of(package).memory);
        NODE_MEMORY + own.sum()
    }

    /// A cold start from this node has these to import by itself. How many had, whichever function.
    pub fn miss(&mut self, node: NodeId, packages: &PackageSet) -> u64 {
        let mut known = self.unmet.iter();
        let place = known.position(|unmet| unmet.node == node && unmet.packages == *packages);
        let mut unmet = match place {
            Some(place) => self.unmet.remove(place),
            None => Unmet {
                node,
                packages: packages.clone(),
                starts: 0,
            },
        };
        if self.unmet.len() >= UNMET_MAX {
            self.unmet.remove(0);
        }
        unmet.starts += 1;
        let starts = unmet.starts;
        self.unmet.push(unmet);
        starts
    }

    /// Adds a node to every copy; places change, so the caller renumbers its zygotes by `copy_of`
    /// and `node_of` taken before.
    pub fn grow(
        &mut self,
        parent: NodeId,
        packages: &PackageSet,
        installed: bool,
    ) -> Option<NodeId> {
        let own = packages.iter().cloned().collect();
        let id = self.tree.add(parent, own).ok()?;
        self.packages.push(self.tree.packages(id));
        self.installed.push(installed);
        self.stocked.push(true);
        self.pins.push(Pin::default());
        self.grown += 1;
        let length = self.tree.len();
        for copy in 0..self.copies as usize {
            let node = Node::new(self.evict);
            self.nodes.insert(copy * length + id.index(), node);
        }
        Some(id)
    }
}

impl Forest {
    /// Whether a function with these packages may start here, and if not only its versions are
    /// to blame, that somebody waits for others.
    pub fn admits(&mut self, node: NodeId, wanted: &PackageSet) -> bool {
        let pin = &mut self.pins[node.index()];
        let admits = pin
            .holds
            .as_ref()
            .is_none_or(|holds| wanted.allows_all(holds));
        pin.contested |= !admits;
        admits
    }

    /// Whether zygotes of this place may be forked from those of an ancestor: what that has
    /// imported is what they are to have.
    pub fn may_follow(&self, place: u32, ancestor: u32) -> bool {
        let holds = |place: u32| self.pins[self.node_of(place).index()].holds.as_ref();
        match (holds(place), holds(ancestor)) {
            (Some(own), Some(inherited)) => own.allows_all(inherited),
            _ => true,
        }
    }

    /// Whether today's calls added this node to the tree.
    pub fn is_grown(&self, node: NodeId) -> bool {
        node.index() + self.grown as usize >= self.tree.len()
    }

    pub fn stocked_nodes(&self) -> Vec<NodeId> {
        let all = self.stocked.iter().enumerate();
        all.filter(|(_, stocked)| **stocked)
            .map(|(index, _)| NodeId(index as u32))
            .collect()
    }

    /// Lets others say which versions this node has, once nothing is left of it. True when that
    /// makes a difference to somebody.
    pub fn unpin(&mut self, node: NodeId) -> bool {
        let is_left = self.copies_of(node).any(|place| {
            let node = self.at(place);
            !node.zygotes.is_empty() || node.phase != Phase::Absent
        });
        let pin = &mut self.pins[node.index()];
        if is_left || !pin.contested {
            return false;
        }
        *pin = Pin::default();
        self.installed[node.index()] = false;
        true
    }
}

fn tree_flags(length: usize, nodes: &[NodeId]) -> Vec<bool> {
    (0..length)
        .map(|index| index == 0 || nodes.contains(&NodeId(index as u32)))
        .collect()
}

impl Node {
    pub fn new(evict: Evict) -> Self {
        Self {
            phase: Phase::Absent,
            zygotes: Vec::new(),
            failures: 0,
            retry_at: Time::ZERO,
            hopeless: false,
            proven: false,
            created: 0,
            uses: 0.0,
            history: evict.history(),
            forks: Rate::default(),
            fork_time: Mean::default(),
            start_time: Mean::default(),
            measured: None,
            instances: Usual::default(),
        }
    }

    /// Whether making a zygote here may be tried.
    pub fn may_start(&self, now: Time) -> bool {
        !self.hopeless && now >= self.retry_at
    }

    /// It failed once more; answers when it may be tried again.
    pub fn back_off(&mut self, now: Time) -> Duration {
        self.failures += 1;
        let doublings = u32::min(self.failures.saturating_sub(2), 16);
        let wait = match self.failures {
            1 => Duration::ZERO,
            _ => Duration::min(BACKOFF * (1 << doublings), BACKOFF_MAX),
        };
        self.retry_at = now + wait;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Package;

    fn forest() -> Forest {
        let mut tree = Tree::new();
        let numpy = tree
            .add(NodeId::ROOT, vec![Package::parse("numpy")])
            .unwrap();
        tree.add(numpy, vec![Package::parse("pandas")]).unwrap();
        let told = ZygoteTree {
            generation: 1,
            tree,
            weights: Weights::new(),
            installed: Vec::new(),
            stocked: Vec::new(),
        };
        Forest::new(told, 2, Evict::DEFAULT)
    }

    #[test]
    fn copies_are_apart() {
        let forest = forest();
        assert_eq!(forest.parent(5), Some(4));
        assert_eq!(forest.parent(3), None);
        assert_eq!(forest.child(3, 0), Some(4));
        assert_eq!(forest.child(3, 1), None);
        assert!(forest.copies_of(NodeId(1)).eq([1, 4]));
    }

    #[test]
    fn growing_shifts_the_later_copies() {
        let mut forest = forest();
        forest.at_mut(4).created = 7;
        let id = forest.grow(NodeId(1), &PackageSet::parse(["scipy"]), true);
        assert_eq!(id, Some(NodeId(3)));
        assert_eq!(forest.nodes.len(), 8);
        let moved = forest.place(1, NodeId(1));
        assert_eq!(forest.at(moved).created, 7);
        assert_eq!(forest.packages[3], PackageSet::parse(["numpy", "scipy"]));
    }

    #[test]
    fn a_node_holds_one_version_until_it_is_left() {
        let mut forest = forest();
        let (numpy, pandas) = (NodeId(1), NodeId(2));
        let old = PackageSet::parse(["numpy==1.26.4", "pandas==2.2.2"]);
        let new = PackageSet::parse(["numpy==2.1.0", "pandas==2.2.2"]);
        assert!(forest.admits(numpy, &old) && forest.admits(numpy, &new));
        forest.pins[1].holds = Some(PackageSet::parse(["numpy==1.26.4"]));
        assert!(
            forest.admits(numpy, &old) && !forest.unpin(numpy),
            "nobody minds"
        );
        assert!(!forest.admits(numpy, &new));
        forest.pins[2].holds = Some(new.clone());
        assert!(!forest.may_follow(2, 1) && forest.may_follow(2, 0));
        assert!(forest.admits(pandas, &new));
        forest.at_mut(4).phase = Phase::Waiting;
        assert!(!forest.unpin(numpy), "another copy is being made");
        forest.at_mut(4).phase = Phase::Absent;
        assert!(forest.unpin(numpy) && forest.admits(numpy, &new));
    }

    #[test]
    fn the_first_failure_is_forgiven() {
        let mut node = Node::new(Evict::DEFAULT);
        let waits: Vec<u64> = (0..12)
            .map(|_| node.back_off(Time::ZERO).as_secs())
            .collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }
}
