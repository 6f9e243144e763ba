//! What a tree costs and saves, in milliseconds and megabytes.
//!
//! ```text
//! a cold call    fork + fork_per_mb * RSS(node) + copy_on_write + residual imports
//! a node         builds * (its own imports + a fork), and its memory
//! a saturated    node is there more than once: memory again
//! ```
//!
//! Without a memory budget only residual imports count, which is what published fits are compared
//! by. The worker replicates single nodes by itself; here their memory is reckoned with.

use super::plan::{NODE_MB, Plan, ROOT_MB, TRACED_FACTOR};
use super::score::Score;
use super::set::ItemSet;
use super::workload::Catalog;
use alloc::vec::Vec;

/// What counts besides imports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// A fork of a bare zygote, to the first line of code.
    pub fork_ms: f64,
    /// More for each megabyte that the zygote holds: its page tables.
    pub fork_ms_per_mb: f64,
    /// Pages that a child writes to at once.
    pub copy_on_write_ms: f64,
    /// An interpreter from nothing.
    pub fresh_ms: f64,
    /// How often each node is made while the workload lasts; zero where nobody knows how long it
    /// lasts.
    pub builds: f64,
    /// Forks a second, where the workload tells time.
    pub forks_per_sec: f64,
    /// Resident megabytes for a megabyte of a package.
    pub mb_factor: f64,
}

/// A node that forks for more than this share of the time makes calls wait.
pub const UTILISATION_MAX: f64 = 0.3;
/// Copies of one node.
const REPLICAS_MAX: f64 = 64.0;

impl Objective {
    /// Import time alone.
    pub const IMPORTS: Self = Self {
        fork_ms: 0.0,
        fork_ms_per_mb: 0.0,
        copy_on_write_ms: 0.0,
        fresh_ms: 0.0,
        builds: 0.0,
        forks_per_sec: 0.0,
        mb_factor: TRACED_FACTOR,
    };

    /// As this kind of machine was measured.
    pub const MEASURED: Self = Self {
        fork_ms: 0.25,
        fork_ms_per_mb: 0.01,
        // About 270 pages, 2.3 us each.
        copy_on_write_ms: 0.6,
        fresh_ms: 9.0,
        ..Self::IMPORTS
    };

    /// Resident megabytes of packages.
    pub fn resident_mb(&self, catalog: &Catalog, set: &ItemSet) -> f64 {
        self.mb_factor * catalog.mem_mb(set)
    }

    /// What a node with this set takes off one call, against the root.
    pub fn value(&self, catalog: &Catalog, set: &ItemSet) -> f64 {
        catalog.import_ms(set) - self.fork_ms_per_mb * self.resident_mb(catalog, set)
    }

    /// From the worker's decision to the first line of the function, less imports.
    pub fn start_ms(&self, catalog: &Catalog, set: &ItemSet) -> f64 {
        let resident_mb = self.resident_mb(catalog, set);
        self.fork_ms + self.copy_on_write_ms + self.fork_ms_per_mb * resident_mb
    }

    /// What one call waits on average, from a cold start to its first line.
    pub fn cold_ms(&self, catalog: &Catalog, plan: &Plan, score: &Score) -> f64 {
        let calls = f64::max(score.calls, 1.0);
        let starts = plan.nodes.iter().zip(&score.served);
        let start_ms: f64 = starts
            .map(|(node, served)| served * self.start_ms(catalog, &node.set))
            .sum();
        (start_ms + score.residual_ms) / calls
    }

    /// The same without any tree.
    pub fn fresh_cold_ms(&self, score: &Score) -> f64 {
        self.fresh_ms + score.mean_import_ms()
    }

    /// How many of each node it takes to fork without a queue.
    pub fn replicas(&self, catalog: &Catalog, plan: &Plan, score: &Score) -> Vec<f64> {
        let calls = f64::max(score.calls, 1.0);
        let nodes = plan.nodes.iter().zip(&score.served);
        nodes
            .map(|(node, served)| {
                let rate = self.forks_per_sec * served / calls;
                let busy = rate * self.start_ms(catalog, &node.set) / 1e3;
                libm::ceil(busy / UTILISATION_MAX).clamp(1.0, REPLICAS_MAX)
            })
            .collect()
    }

    /// Memory of the whole tree, replicas of saturated nodes included.
    pub fn memory_mb(&self, catalog: &Catalog, plan: &Plan, replicas: &[f64]) -> f64 {
        let nodes = plan.nodes.iter().zip(replicas);
        nodes
            .map(|(node, replicas)| {
                replicas * self.node_mb(catalog, &node.own, node.parent.is_none())
            })
            .sum()
    }

    pub fn node_mb(&self, catalog: &Catalog, own: &ItemSet, is_root: bool) -> f64 {
        let bare = if is_root { ROOT_MB } else { NODE_MB };
        bare + self.resident_mb(catalog, own)
    }

    /// Time to make a node once.
    pub fn build_ms(&self, catalog: &Catalog, own: &ItemSet) -> f64 {
        self.fork_ms + catalog.import_ms(own)
    }
}

#[cfg(test)]
mod tests {
    use super::super::score::score;
    use super::super::workload::tests::{catalog, workload};
    use super::*;
    use crate::policy::lookup::Lookup;

    #[test]
    fn heavy_zygotes_fork_slower_and_busy_ones_are_many() {
        // 250 ms and 25 MB: 120 MB resident, 1.2 ms more for a fork.
        let catalog = catalog(&[250.0]);
        let calls = workload(&catalog, &[&[0], &[0], &[]]);
        let set = ItemSet::of(1, [0]);
        let plan = Plan::from_sets(&catalog, core::slice::from_ref(&set));
        let objective = Objective {
            forks_per_sec: 600.0,
            ..Objective::MEASURED
        };
        assert!((objective.value(&catalog, &set) - 248.8).abs() < 1e-9);
        let score = score(&catalog, &plan, &calls, Lookup::Best);
        let cold = objective.cold_ms(&catalog, &plan, &score);
        assert!((cold - (0.85 + 2.0 / 3.0 * 1.2)).abs() < 1e-9);
        // 400 a second of 2.05 ms each: 82 % busy.
        assert_eq!(objective.replicas(&catalog, &plan, &score), [1.0, 3.0]);
        let memory = objective.memory_mb(&catalog, &plan, &[1.0, 3.0]);
        assert!((memory - (62.0 + 3.0 * 123.6)).abs() < 1e-9);
    }
}
