//! The shape of the zygote tree: which packages each node imports on top of its parent's.
//!
//! ```text
//! ROOT            no packages: a bare interpreter
//!   numpy         has {numpy}
//!     pandas      has {numpy, pandas}: pandas is its own, numpy inherited
//!   flask
//! ```
//!
//! A tree is a value: configuration reads it, fitting writes it, the engine grows zygotes by it.
//! Nodes are numbered in the order they were added; a parent always comes before its children.

use crate::base::{Bytes, Duration, Package, PackageSet};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Nodes of one tree; far more than any memory holds.
pub const NODES_MAX: usize = 4_096;
/// Levels below the root.
pub const DEPTH_MAX: usize = 30;

/// A node of a tree, by number. The root is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl NodeId {
    pub const ROOT: Self = Self(0);

    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tree with at least its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    nodes: Vec<Node>,
}

/// What one node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its own packages, as the tree spells them.
    pub packages: Vec<Package>,
    pub parent: Option<NodeId>,
    pub children: Vec<NodeId>,
    pub depth: u32,
}

/// Why a node cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeFault {
    TooManyNodes,
    TooDeep,
    NoSuchParent,
}

impl fmt::Display for TreeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyNodes => write!(f, "a tree has at most {NODES_MAX} nodes"),
            Self::TooDeep => write!(f, "a tree has at most {DEPTH_MAX} levels below its root"),
            Self::NoSuchParent => f.write_str("the parent is not in the tree"),
        }
    }
}

/// What importing a package costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    pub import: Duration,
    pub memory: Bytes,
}

impl Weight {
    /// A package nobody has measured: about the median of what is on the index.
    pub const UNKNOWN: Self = Self {
        import: Duration::from_millis(10),
        memory: Bytes::from_mb(2),
    };
}

/// Measured costs, by normalised name with or without a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Weights(BTreeMap<String, Weight>);

impl Weights {
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn insert(&mut self, package: &Package, weight: Weight) {
        self.0.insert(package.to_string(), weight);
    }

    /// Of exactly this version where it was measured, else of the name, else the guess.
    pub fn of(&self, package: &Package) -> Weight {
        let exact = self.0.get(&package.to_string());
        let named = exact.or_else(|| self.0.get(package.name()));
        named.copied().unwrap_or(Weight::UNKNOWN)
    }

    pub fn import_of<'a, I: IntoIterator<Item = &'a Package>>(&self, packages: I) -> Duration {
        packages
            .into_iter()
            .map(|package| self.of(package).import)
            .sum()
    }
}

impl Tree {
    /// A bare root.
    pub fn new() -> Self {
        Self {
            nodes: vec![Node {
                packages: Vec::new(),
                parent: None,
                children: Vec::new(),
                depth: 0,
            }],
        }
    }

    /// Adds a child that imports these packages on top of what its parent has.
    pub fn add(&mut self, parent: NodeId, packages: Vec<Package>) -> Result<NodeId, TreeFault> {
        let Some(depth) = self.get(parent).map(|node| node.depth + 1) else {
            return Err(TreeFault::NoSuchParent);
        };
        if self.nodes.len() == NODES_MAX {
            return Err(TreeFault::TooManyNodes);
        }
        if depth as usize > DEPTH_MAX {
            return Err(TreeFault::TooDeep);
        }
        let id = NodeId(self.nodes.len() as u32);
        self.nodes[parent.index()].children.push(id);
        self.nodes.push(Node {
            packages,
            parent: Some(parent),
            children: Vec::new(),
            depth,
        });
        Ok(id)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: there is always a root.
    pub const fn is_empty(&self) -> bool {
        false
    }

    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// Of a node that is known to be in this tree.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// All nodes, parents before their children.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (NodeId(index as u32), node))
    }

    /// The node's ancestors, nearest first, the root last.
    pub fn ancestors(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        core::iter::successors(self.node(id).parent, |&id| self.node(id).parent)
    }

    /// What the node has imported: its own packages and all inherited ones.
    pub fn packages(&self, id: NodeId) -> PackageSet {
        let all = core::iter::once(id).chain(self.ancestors(id));
        PackageSet::new(
            all.flat_map(|id| self.node(id).packages.iter().cloned())
                .collect(),
        )
    }

    /// The dump, one line a node: count, two blanks a level, its packages or ROOT, inherited ones.
    pub fn dump<F: Fn(NodeId) -> u64>(&self, count: F) -> Vec<String> {
        let mut lines = Vec::with_capacity(self.len());
        let mut open = vec![NodeId::ROOT];
        while let Some(id) = open.pop() {
            lines.push(self.line(id, count(id)));
            open.extend(self.node(id).children.iter().rev());
        }
        lines
    }

    fn line(&self, id: NodeId, count: u64) -> String {
        let node = self.node(id);
        let names = match node.parent {
            None => String::from("ROOT"),
            Some(_) => joined(node.packages.iter()),
        };
        let mut ancestors: Vec<NodeId> = self.ancestors(id).collect();
        ancestors.reverse();
        let inherited = joined(
            ancestors
                .iter()
                .flat_map(|id| self.node(*id).packages.iter()),
        );
        let indirect = match inherited.as_str() {
            "" => String::new(),
            inherited => format!(" [indirect: {inherited}]"),
        };
        let indent = 2 * node.depth as usize;
        format!("{count:>4} {:indent$}- {names}{indirect}", "")
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

fn joined<'a, I: Iterator<Item = &'a Package>>(packages: I) -> String {
    let names: Vec<String> = packages.map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tree {
        let mut tree = Tree::new();
        let numpy = tree
            .add(NodeId::ROOT, vec![Package::parse("numpy")])
            .unwrap();
        tree.add(numpy, vec![Package::parse("pandas")]).unwrap();
        tree
    }

    #[test]
    fn a_node_has_what_its_ancestors_have() {
        let tree = sample();
        assert_eq!(
            tree.packages(NodeId(2)),
            PackageSet::parse(["numpy", "pandas"])
        );
        assert_eq!(tree.packages(NodeId::ROOT), PackageSet::EMPTY);
    }

    #[test]
    fn the_dump_has_one_line_a_node() {
        let counts = [1, 33, 521];
        assert_eq!(
            sample().dump(|id| counts[id.index()]),
            [
                "   1 - ROOT",
                "  33   - numpy",
                " 521     - pandas [indirect: numpy]",
            ]
        );
    }

    #[test]
    fn a_tree_is_bounded() {
        let mut tree = Tree::new();
        let mut last = NodeId::ROOT;
        for _ in 0..DEPTH_MAX {
            last = tree.add(last, Vec::new()).unwrap();
        }
        assert_eq!(tree.add(last, Vec::new()), Err(TreeFault::TooDeep));
        assert_eq!(
            tree.add(NodeId(999), Vec::new()),
            Err(TreeFault::NoSuchParent)
        );
    }

    #[test]
    fn weights_fall_back_from_version_to_name_to_a_guess() {
        let mut weights = Weights::new();
        let weight = |millis| Weight {
            import: Duration::from_millis(millis),
            memory: Bytes::from_mb(1),
        };
        weights.insert(&Package::parse("pandas"), weight(250));
        weights.insert(&Package::parse("pandas==2.0"), weight(300));
        assert_eq!(weights.of(&Package::parse("pandas==2.0")), weight(300));
        assert_eq!(weights.of(&Package::parse("pandas==1.0")), weight(250));
        assert_eq!(weights.of(&Package::parse("six")), Weight::UNKNOWN);
    }
}
