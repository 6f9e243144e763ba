//! From which node of the tree a function's instances are best forked.
//!
//! A function may only start from a node all of whose packages it asked for: nobody is ever shown a
//! package by accident. Among those nodes the best is the one that saves most import time, which is
//! not always the deepest and not always the first that one meets walking down from the root. The
//! order is computed once a function and tree; a cold call then only looks which node is live.
//!
//! Rejected: matching by number of packages (six and pandas are not equals).

use crate::base::{Duration, PackageSet};
use crate::policy::tree::{NodeId, Tree, Weights};
use alloc::vec::Vec;
use core::cmp::Reverse;
use serde::{Deserialize, Serialize};

/// How nodes are ranked for a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lookup {
    /// By import time saved.
    #[default]
    Best,
    /// Down from the root, always into the first child that fits: what the original does.
    First,
}

/// A node that a function may start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    pub node: NodeId,
    /// Import time that starting here saves.
    pub saved: Duration,
}

impl Lookup {
    pub const ALL: [Self; 2] = [Self::Best, Self::First];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::First => "first",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// The nodes a function with these packages may start from, the best first, the root last.
    #[must_use]
    pub fn ranked(self, tree: &Tree, weights: &Weights, wanted: &PackageSet) -> Vec<Match> {
        match self {
            Self::Best => best(tree, weights, wanted),
            Self::First => first(tree, weights, wanted),
        }
    }
}

/// Every allowed node; of equals the shallower one, which more functions keep warm.
fn best(tree: &Tree, weights: &Weights, wanted: &PackageSet) -> Vec<Match> {
    let mut saved: Vec<Option<Duration>> = Vec::with_capacity(tree.len());
    let mut matches = Vec::new();
    for (node, shape) in tree.iter() {
        let above = match shape.parent {
            None => Some(Duration::ZERO),
            Some(parent) => saved[parent.index()],
        };
        let fits = shape.packages.iter().all(|package| wanted.allows(package));
        let here = above
            .filter(|_| fits)
            .map(|above| above + weights.import_of(&shape.packages));
        saved.push(here);
        matches.extend(here.map(|saved| Match { node, saved }));
    }
    matches.sort_by_key(|found| {
        (
            Reverse(found.saved),
            tree.node(found.node).depth,
            found.node,
        )
    });
    matches
}

/// The path of first fits, deepest first.
fn first(tree: &Tree, weights: &Weights, wanted: &PackageSet) -> Vec<Match> {
    let mut path = Vec::new();
    let mut at = Match {
        node: NodeId::ROOT,
        saved: Duration::ZERO,
    };
    loop {
        path.push(at);
        let fitting = tree.node(at.node).children.iter().find(|child| {
            let packages = &tree.node(**child).packages;
            packages.iter().all(|package| wanted.allows(package))
        });
        let Some(&node) = fitting else {
            break;
        };
        let saved = at.saved + weights.import_of(&tree.node(node).packages);
        at = Match { node, saved };
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Bytes, Package};
    use crate::policy::tree::Weight;
    use alloc::vec;

    fn world() -> (Tree, Weights) {
        let mut tree = Tree::new();
        let package = |name| vec![Package::parse(name)];
        tree.add(NodeId::ROOT, package("six")).unwrap();
        let numpy = tree.add(NodeId::ROOT, package("numpy")).unwrap();
        tree.add(numpy, package("pandas")).unwrap();
        let mut weights = Weights::new();
        for (name, millis) in [("six", 1), ("numpy", 46), ("pandas", 250)] {
            let weight = Weight {
                import: Duration::from_millis(millis),
                memory: Bytes::from_mb(1),
            };
            weights.insert(&Package::parse(name), weight);
        }
        (tree, weights)
    }

    fn nodes(lookup: Lookup, wanted: &[&str]) -> Vec<u32> {
        let (tree, weights) = world();
        let wanted = PackageSet::parse(wanted.iter().copied());
        let ranked = lookup.ranked(&tree, &weights, &wanted);
        ranked.iter().map(|found| found.node.0).collect()
    }

    #[test]
    fn best_takes_what_saves_most() {
        assert_eq!(
            nodes(Lookup::Best, &["six", "numpy", "pandas"]),
            [3, 2, 1, 0]
        );
        assert_eq!(nodes(Lookup::Best, &["six", "numpy"]), [2, 1, 0]);
        assert_eq!(nodes(Lookup::Best, &["pandas"]), [0]);
    }

    #[test]
    fn first_takes_the_first_that_fits() {
        assert_eq!(nodes(Lookup::First, &["six", "numpy", "pandas"]), [1, 0]);
        assert_eq!(nodes(Lookup::First, &["numpy", "pandas"]), [3, 2, 0]);
    }

    #[test]
    fn nobody_is_shown_a_package_it_did_not_ask_for() {
        let (tree, weights) = world();
        let wanted = PackageSet::parse(["numpy"]);
        for lookup in Lookup::ALL {
            for found in lookup.ranked(&tree, &weights, &wanted) {
                assert!(wanted.allows_all(&tree.packages(found.node)));
            }
        }
    }
}
