//! What a tree leaves of the import time of calls.
//!
//! A call starts from the node that lookup gives it and imports the rest itself: its residual. The
//! live worker's lookup (`policy::lookup`) is the same rule over names instead of numbers.

use super::plan::Plan;
use super::set::ItemSet;
use super::workload::{Catalog, Workload};
use crate::policy::lookup::Lookup;
use alloc::vec;
use alloc::vec::Vec;

/// A tree, over a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    pub calls: f64,
    /// Import time on the path of all calls.
    pub residual_ms: f64,
    /// What it would be without a tree.
    pub import_ms: f64,
    /// Calls that start from each node.
    pub served: Vec<f64>,
    /// Import time that each node saves those calls.
    pub saved_ms: Vec<f64>,
}

impl Score {
    /// Of one call, on average.
    pub fn mean_residual_ms(&self) -> f64 {
        self.residual_ms / f64::max(self.calls, 1.0)
    }

    pub fn mean_import_ms(&self) -> f64 {
        self.import_ms / f64::max(self.calls, 1.0)
    }

    /// The share of calls that find a node better than the root.
    pub fn hit_share(&self) -> f64 {
        1.0 - self.served[0] / f64::max(self.calls, 1.0)
    }
}

/// The node that a call with this set starts from.
pub fn find(plan: &Plan, lookup: Lookup, set: &ItemSet) -> usize {
    match lookup {
        Lookup::Best => best(plan, set),
        Lookup::First => first(plan, set),
    }
}

/// Of equals the shallower one, as the live lookup has it.
fn best(plan: &Plan, set: &ItemSet) -> usize {
    let mut best = 0;
    for (number, node) in plan.nodes.iter().enumerate().skip(1) {
        let than = &plan.nodes[best];
        let better = node.import_ms > than.import_ms
            || (node.import_ms >= than.import_ms && node.depth < than.depth);
        if better && node.set.is_within(set) {
            best = number;
        }
    }
    best
}

fn first(plan: &Plan, set: &ItemSet) -> usize {
    let mut at = 0;
    while let Some(next) = plan.nodes[at]
        .children
        .iter()
        .find(|child| plan.nodes[**child].own.is_within(set))
    {
        at = *next;
    }
    at
}

/// Every call of the workload, against the tree.
pub fn score(catalog: &Catalog, plan: &Plan, workload: &Workload, lookup: Lookup) -> Score {
    let mut score = Score {
        calls: 0.0,
        residual_ms: 0.0,
        import_ms: 0.0,
        served: vec![0.0; plan.len()],
        saved_ms: vec![0.0; plan.len()],
    };
    for demand in &workload.demands {
        let node = find(plan, lookup, &demand.set);
        let import_ms = catalog.import_ms(&demand.set);
        let saved_ms = plan.nodes[node].import_ms;
        score.calls += demand.calls;
        score.import_ms += demand.calls * import_ms;
        score.residual_ms += demand.calls * f64::max(import_ms - saved_ms, 0.0);
        score.served[node] += demand.calls;
        score.saved_ms[node] += demand.calls * saved_ms;
    }
    score
}

/// Import time that would be lost with each node alone, all others staying.
pub fn marginal_ms(plan: &Plan, workload: &Workload) -> Vec<f64> {
    let mut lost = vec![0.0; plan.len()];
    for demand in &workload.demands {
        let node = best(plan, &demand.set);
        let mut next = 0.0;
        for (other, shape) in plan.nodes.iter().enumerate() {
            if other != node && shape.import_ms > next && shape.set.is_within(&demand.set) {
                next = shape.import_ms;
            }
        }
        lost[node] += demand.calls * (plan.nodes[node].import_ms - next);
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::super::workload::tests::{catalog, workload};
    use super::*;

    #[test]
    fn best_saves_most_and_first_takes_what_comes() {
        let catalog = catalog(&[1.0, 46.0, 250.0]);
        let set = |numbers: &[u32]| ItemSet::of(3, numbers.iter().copied());
        let sets = [set(&[0]), set(&[1]), set(&[1, 2])];
        let plan = Plan::from_sets(&catalog, &sets);
        let calls = workload(&catalog, &[&[0, 1, 2], &[1, 2], &[0, 2]]);
        let by = |lookup| score(&catalog, &plan, &calls, lookup);
        let (best, first) = (by(Lookup::Best), by(Lookup::First));
        assert!((best.residual_ms - (1.0 + 0.0 + 250.0)).abs() < 1e-9);
        assert!((first.residual_ms - (296.0 + 0.0 + 250.0)).abs() < 1e-9);
        assert!((best.import_ms - 844.0).abs() < 1e-9);
        assert!((best.saved_ms.iter().sum::<f64>() - 593.0).abs() < 1e-9);
        assert!((best.hit_share() - 1.0).abs() < 1e-12);
    }
}
