//! A tree in the making: what each node has in all, what it imports itself, who its parent is.
//!
//! Only the family of sets matters to calls; parents matter to memory and to how fast a node is
//! made. So [`Plan::from_sets`] takes any sets and gives each the chosen strict subset with the
//! most import time as its parent, which is exact: nodes choose independently.

use super::set::ItemSet;
use super::workload::Catalog;
use crate::policy::tree::{DEPTH_MAX, NODES_MAX};
use alloc::vec;
use alloc::vec::Vec;

/// Memory of a tree, as measured trees have it: `ROOT + NODE * (nodes - 1) + TRACED * packages`.
pub const ROOT_MB: f64 = 62.0;
pub const NODE_MB: f64 = 3.6;
/// A megabyte of traced allocations is this much of resident memory.
pub const TRACED_FACTOR: f64 = 4.8;

/// Nodes, parents before their children; the first is the root.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub nodes: Vec<PlanNode>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlanNode {
    /// Everything it has imported, inherited packages included.
    pub set: ItemSet,
    /// What it imports itself.
    pub own: ItemSet,
    /// None: the root.
    pub parent: Option<usize>,
    pub depth: u32,
    /// In order; the first that fits is the one that first-match lookup enters.
    pub children: Vec<usize>,
    /// Import time of its whole set.
    pub import_ms: f64,
}

impl Plan {
    /// Nothing but a root.
    pub fn bare(catalog: &Catalog) -> Self {
        let empty = catalog.empty_set();
        Self {
            nodes: vec![PlanNode {
                set: empty.clone(),
                own: empty,
                parent: None,
                depth: 0,
                children: Vec::new(),
                import_ms: 0.0,
            }],
        }
    }

    /// Adds a child; its number, or none where the tree is full, too deep, or has that set.
    pub fn add(&mut self, catalog: &Catalog, parent: usize, own: &ItemSet) -> Option<usize> {
        let above = &self.nodes[parent];
        let own = own.without(&above.set);
        if own.is_empty() || self.nodes.len() == NODES_MAX || above.depth as usize == DEPTH_MAX {
            return None;
        }
        let set = above.set.or(&own);
        let number = self.nodes.len();
        self.nodes.push(PlanNode {
            import_ms: catalog.import_ms(&set),
            set,
            own,
            parent: Some(parent),
            depth: above.depth + 1,
            children: Vec::new(),
        });
        self.nodes[parent].children.push(number);
        Some(number)
    }

    /// The sets in this order of importance, each below the one that saves it most.
    pub fn from_sets(catalog: &Catalog, sets: &[ItemSet]) -> Self {
        let mut plan = Self::bare(catalog);
        let mut order: Vec<usize> = (0..sets.len()).collect();
        // A strict subset has fewer packages, so it is there before whoever may be below it.
        order.sort_by_key(|at| (sets[*at].len(), *at));
        let mut ranks = vec![0];
        for at in order {
            let parent = plan.best_parent(&sets[at]);
            if plan.nodes[parent].set == sets[at] {
                continue;
            }
            if plan.add(catalog, parent, &sets[at]).is_some() {
                ranks.push(at);
            }
        }
        for node in &mut plan.nodes {
            node.children.sort_by_key(|child| ranks[*child]);
        }
        plan
    }

    /// The node with the most import time among those that a node with this set can be below.
    pub fn best_parent(&self, set: &ItemSet) -> usize {
        let mut best = 0;
        for (number, node) in self.nodes.iter().enumerate().skip(1) {
            let better = node.import_ms > self.nodes[best].import_ms;
            if better && (node.depth as usize) < DEPTH_MAX && node.set.is_within(set) {
                best = number;
            }
        }
        best
    }

    /// The first nodes that were added: so many, and no more than that memory holds.
    #[must_use]
    pub fn first(&self, catalog: &Catalog, nodes: usize, memory_mb: f64) -> Self {
        let mut held_mb = ROOT_MB;
        let mut kept = 1;
        while kept < usize::min(nodes, self.len()) {
            held_mb += NODE_MB + TRACED_FACTOR * catalog.mem_mb(&self.nodes[kept].own);
            if held_mb > memory_mb {
                break;
            }
            kept += 1;
        }
        let mut nodes = self.nodes[..kept].to_vec();
        for node in &mut nodes {
            node.children.retain(|child| *child < kept);
        }
        Self { nodes }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: there is always a root.
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Traced megabytes of what each node imports itself.
    pub fn package_mb(&self, catalog: &Catalog) -> f64 {
        self.nodes
            .iter()
            .map(|node| catalog.mem_mb(&node.own))
            .sum()
    }

    /// What the whole tree holds when every node lives.
    pub fn memory_mb(&self, catalog: &Catalog) -> f64 {
        let nodes = (self.len() - 1) as f64;
        ROOT_MB + NODE_MB * nodes + TRACED_FACTOR * self.package_mb(catalog)
    }

    /// Import time that making every node once takes.
    pub fn build_ms(&self, catalog: &Catalog) -> f64 {
        let own = self.nodes.iter();
        own.map(|node| catalog.import_ms(&node.own)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::tests::catalog;
    use super::*;

    #[test]
    fn each_set_goes_below_the_one_that_saves_it_most() {
        let catalog = catalog(&[1.0, 10.0, 100.0, 5.0]);
        let set = |numbers: &[u32]| ItemSet::of(4, numbers.iter().copied());
        let sets = [
            set(&[0, 1, 2]),
            set(&[1]),
            set(&[0, 3]),
            set(&[0]),
            set(&[1]),
        ];
        let plan = Plan::from_sets(&catalog, &sets);
        assert_eq!(plan.len(), 5, "the second [1] is the first one");
        let parent_of = |wanted: &[u32]| {
            let node = plan.nodes.iter().find(|node| node.set == set(wanted));
            let parent = node.expect("it was given").parent.expect("no root");
            plan.nodes[parent].set.clone()
        };
        assert_eq!(parent_of(&[0, 1, 2]), set(&[1]));
        assert_eq!(parent_of(&[0, 3]), set(&[0]));
        assert_eq!(parent_of(&[1]), set(&[]));
        let first = plan.nodes[0].children[0];
        assert_eq!(
            plan.nodes[first].set,
            set(&[1]),
            "the more important child first"
        );
        // own: 1, 10, 5 and (1 + 100) ms, a tenth of it in MB.
        assert!((plan.package_mb(&catalog) - 11.7).abs() < 1e-9);
        assert!((plan.build_ms(&catalog) - 117.0).abs() < 1e-9);
    }

    #[test]
    fn a_plan_is_as_deep_as_a_tree_may_be() {
        let catalog = catalog(&[1.0; 64]);
        let sets: Vec<ItemSet> = (1..=64).map(|count| ItemSet::of(64, 0..count)).collect();
        let plan = Plan::from_sets(&catalog, &sets);
        assert_eq!(plan.len(), 65);
        assert!(
            plan.nodes
                .iter()
                .all(|node| node.depth as usize <= DEPTH_MAX)
        );
    }
}
