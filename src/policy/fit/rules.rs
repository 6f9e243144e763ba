//! Trees by splitting: the published family of rules.
//!
//! Think of a table of calls and packages. The root holds all calls. Splitting a package off a node
//! moves the calls that want it into a child, where its column is done with. A node costs
//! `sum n_j w_j (1 + lambda H(p_j))` over its columns (`n_j` calls want package j, `p_j` is their
//! share, H the binary entropy), the benefit of a split is what it takes off that, and the best
//! split of all nodes is done next, until there are enough nodes.
//!
//! | rule | a package is split off | weight |
//! |---|---|---|
//! | `rule0` | at any time | 1 |
//! | `rule1` | behind its prerequisites | 1 |
//! | `rule2` | behind its prerequisites | import time |
//! | `rule3` | behind its prerequisites | import time, lambda 1 |
//! | `rule4` | behind its prerequisites | as `rule3`, spread evenly over it and its dependencies |
//! | `multi` | with all that it lacks, as one node | import time |
//! | `multi-count` | with all that it lacks, as one node | 1 |
//!
//! What a package needs is what the trace says, or else what every call with it had.

use super::plan::Plan;
use super::set::ItemSet;
use super::workload::{Catalog, Workload};
use crate::policy::tree::DEPTH_MAX;
use alloc::vec;
use alloc::vec::Vec;

/// How much an undecided column counts more than a decided one, where that is counted at all.
const LAMBDA: f64 = 1.0;
/// Calls of one node up to which `n log n` is looked up.
const LOGARITHMS_MAX: usize = 1 << 16;

/// What a rule does with packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub prerequisites: Prerequisites,
    pub timed: bool,
    pub entropy: bool,
    pub inherited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prerequisites {
    /// Nobody asks.
    Ignored,
    /// A package waits for them.
    First,
    /// They come along.
    Along,
}

/// Splits until there are so many nodes, or nothing is gained any more.
pub fn fit(catalog: &Catalog, workload: &Workload, rule: Rule, nodes: usize) -> Plan {
    let mut splitting = Splitting::new(catalog, workload, rule);
    let mut plan = Plan::bare(catalog);
    let rows = (0..workload.demands.len() as u32).collect();
    let best = splitting.best_split(&rows, &plan, 0);
    let mut parts = vec![Part { rows, best }];
    while plan.len() < nodes {
        let Some((at, split)) = best_part(&parts) else {
            break;
        };
        let Some(child) = plan.add(catalog, at, &split.own) else {
            parts[at].best = None;
            continue;
        };
        let goes = |row: &u32| split.own.is_within(&workload.demands[*row as usize].set);
        let (moved, stay) = parts[at].rows.iter().partition(|row| goes(row));
        parts[at].rows = stay;
        parts[at].best = splitting.best_split(&parts[at].rows, &plan, at);
        let deep = plan.nodes[child].depth as usize == DEPTH_MAX;
        let best = if deep {
            None
        } else {
            splitting.best_split(&moved, &plan, child)
        };
        parts.push(Part { rows: moved, best });
    }
    plan
}

/// The calls of one node, and what would best be split off.
struct Part {
    rows: Vec<u32>,
    best: Option<Split>,
}

#[derive(Clone)]
struct Split {
    benefit: f64,
    own: ItemSet,
}

/// Of equals the older node.
fn best_part(parts: &[Part]) -> Option<(usize, Split)> {
    let mut best: Option<(usize, &Split)> = None;
    for (at, part) in parts.iter().enumerate() {
        let Some(split) = &part.best else { continue };
        if best.is_none_or(|(_, than)| split.benefit > than.benefit) {
            best = Some((at, split));
        }
    }
    best.map(|(at, split)| (at, split.clone()))
}

struct Splitting<'a> {
    catalog: &'a Catalog,
    workload: &'a Workload,
    rule: Rule,
    weights: Vec<f64>,
    /// For each package the sets that it may need, itself among them.
    closures: Vec<Vec<ItemSet>>,
    /// `n log2 n` of whole numbers.
    logarithms: Vec<f64>,
    /// Scratch: calls of the node, and of the child, that want each package.
    above: Vec<f64>,
    below: Vec<f64>,
}

impl<'a> Splitting<'a> {
    fn new(catalog: &'a Catalog, workload: &'a Workload, rule: Rule) -> Self {
        let closures = closures(catalog, workload);
        let own = |item: &super::Item| if rule.timed { item.import_ms } else { 1.0 };
        let mut weights: Vec<f64> = catalog.items.iter().map(own).collect();
        if rule.inherited {
            weights = spread(&weights, &closures);
        }
        let most = f64::min(workload.calls(), LOGARITHMS_MAX as f64) as usize;
        let logarithm = |number: usize| match number {
            0 => 0.0,
            number => number as f64 * libm::log2(number as f64),
        };
        let logarithms = if rule.entropy {
            (0..=most).map(logarithm).collect()
        } else {
            Vec::new()
        };
        Self {
            catalog,
            workload,
            rule,
            weights,
            closures,
            logarithms,
            above: vec![0.0; catalog.len()],
            below: vec![0.0; catalog.len()],
        }
    }

    /// What would best be split off this node; of equals the first package.
    fn best_split(&mut self, rows: &Vec<u32>, plan: &Plan, node: usize) -> Option<Split> {
        let has = &plan.nodes[node].set;
        let mut wanted = self.catalog.empty_set();
        self.above.fill(0.0);
        let mut calls = 0.0;
        for row in rows {
            let demand = &self.workload.demands[*row as usize];
            calls += demand.calls;
            for item in demand.set.without(has).iter() {
                wanted.insert(item);
                self.above[item] += demand.calls;
            }
        }
        let columns: Vec<usize> = wanted.iter().collect();
        let before = self.cost(&columns, calls, &self.above);
        let mut best: Option<Split> = None;
        for item in columns.iter().copied() {
            for own in self.splits(item, has) {
                let benefit = self.benefit(&own, rows, has, &columns, (calls, before));
                let better = best.as_ref().is_none_or(|best| benefit > best.benefit);
                if benefit > 0.0 && better {
                    best = Some(Split { benefit, own });
                }
            }
        }
        best
    }

    /// The sets that may be split off for the sake of this package.
    fn splits(&self, item: usize, has: &ItemSet) -> Vec<ItemSet> {
        let single = || {
            let mut own = self.catalog.empty_set();
            own.insert(item);
            own
        };
        let lacking = || {
            let fitting = self.closures[item].iter();
            fitting
                .filter(|closure| !self.catalog.has_rivals(&closure.or(has)))
                .map(|closure| closure.without(has))
        };
        let mut splits: Vec<ItemSet> = match self.rule.prerequisites {
            Prerequisites::Ignored => vec![single()],
            Prerequisites::First => lacking().filter(|own| own.len() == 1).take(1).collect(),
            Prerequisites::Along => lacking().collect(),
        };
        splits.sort();
        splits.dedup();
        splits
    }

    fn benefit(
        &mut self,
        own: &ItemSet,
        rows: &[u32],
        has: &ItemSet,
        columns: &[usize],
        (calls, before): (f64, f64),
    ) -> f64 {
        let demands = rows.iter().map(|row| &self.workload.demands[*row as usize]);
        let moved = demands.filter(|demand| own.is_within(&demand.set));
        if !self.rule.entropy {
            let weight: f64 = own.iter().map(|item| self.weights[item]).sum();
            return weight * moved.map(|demand| demand.calls).sum::<f64>();
        }
        self.below.fill(0.0);
        let mut gone = 0.0;
        for demand in moved {
            gone += demand.calls;
            for item in demand.set.without(has).iter() {
                self.below[item] += demand.calls;
            }
        }
        let mut stay = self.above.clone();
        for item in columns {
            stay[*item] -= self.below[*item];
        }
        for item in own.iter() {
            self.below[item] = 0.0;
        }
        let after = self.cost(columns, calls - gone, &stay) + self.cost(columns, gone, &self.below);
        before - after
    }

    fn cost(&self, columns: &[usize], calls: f64, wanted: &[f64]) -> f64 {
        let each = columns.iter().map(|item| {
            let count = wanted[*item];
            count * self.weights[*item] * (1.0 + self.penalty(count, calls))
        });
        each.sum()
    }

    /// Lambda times the binary entropy of this share.
    fn penalty(&self, count: f64, calls: f64) -> f64 {
        if !self.rule.entropy || count <= 0.0 || count >= calls {
            return 0.0;
        }
        let spread = self.n_log_n(count) + self.n_log_n(calls - count);
        LAMBDA * (self.n_log_n(calls) - spread) / calls
    }

    fn n_log_n(&self, number: f64) -> f64 {
        let looked_up = self.logarithms.get(number as usize).copied();
        looked_up.unwrap_or_else(|| number * libm::log2(number))
    }
}

fn closures(catalog: &Catalog, workload: &Workload) -> Vec<Vec<ItemSet>> {
    let inferred = workload.closures(catalog);
    let told = catalog.items.iter().zip(inferred);
    told.map(|(item, inferred)| match item.closures.as_slice() {
        [] => vec![inferred],
        closures => {
            let sets = closures.iter();
            sets.map(|closure| ItemSet::of(catalog.len(), closure.iter().copied()))
                .collect()
        }
    })
    .collect()
}

/// Each package's weight, spread evenly over itself and all it needs.
fn spread(weights: &[f64], closures: &[Vec<ItemSet>]) -> Vec<f64> {
    let mut spread = vec![0.0; weights.len()];
    for (item, weight) in weights.iter().enumerate() {
        match closures[item].first().filter(|closure| !closure.is_empty()) {
            Some(closure) => {
                let share = weight / closure.len() as f64;
                for other in closure.iter() {
                    spread[other] += share;
                }
            }
            None => spread[item] += weight,
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::super::workload::tests::{catalog, workload};
    use super::super::{Algorithm, Wish, fit};
    use super::*;

    /// numpy, pandas (needs numpy), flask, six.
    fn world() -> (Catalog, Workload) {
        let catalog = catalog(&[46.0, 250.0, 19.0, 1.4]);
        let calls: &[&[u32]] = &[
            &[0, 1],
            &[0, 1, 3],
            &[0],
            &[2, 3],
            &[2, 3],
            &[2, 3],
            &[2],
            &[0, 2, 3],
        ];
        let workload = workload(&catalog, calls);
        (catalog, workload)
    }

    fn order(algorithm: Algorithm, nodes: usize) -> Vec<Vec<usize>> {
        let (catalog, workload) = world();
        let plan = fit(&catalog, &workload, algorithm, &Wish::nodes(nodes));
        let own = plan.nodes.iter().skip(1);
        own.map(|node| node.own.iter().collect()).collect()
    }

    #[test]
    fn counts_take_the_common_package_first() {
        assert_eq!(
            order(Algorithm::Rule0, 2),
            [[2]],
            "five of flask and of six"
        );
    }

    #[test]
    fn a_package_waits_for_its_prerequisites() {
        assert_eq!(order(Algorithm::Rule2, 3), [[0], [1]]);
        let plain: Vec<Vec<usize>> = order(Algorithm::Rule1, 9);
        let place = |item: usize| plain.iter().position(|own| own == &[item]);
        assert!(place(0) < place(1));
    }

    #[test]
    fn several_packages_make_one_node() {
        assert_eq!(order(Algorithm::Multi, 2), [[0, 1]]);
    }

    #[test]
    fn an_undecided_column_costs_more() {
        let (catalog, workload) = world();
        let rule = Algorithm::Rule3.rule().expect("a rule");
        let splitting = Splitting::new(&catalog, &workload, rule);
        assert!((splitting.penalty(4.0, 8.0) - 1.0).abs() < 1e-12);
        assert!(splitting.penalty(8.0, 8.0).abs() < 1e-12);
        assert!((splitting.penalty(2.0, 8.0) - 0.811_278).abs() < 1e-6);
    }

    #[test]
    fn weight_is_spread_over_what_is_needed() {
        let catalog = catalog(&[46.0, 250.0]);
        let workload = workload(&catalog, &[&[0, 1], &[0]]);
        let spread = spread(&[46.0, 250.0], &closures(&catalog, &workload));
        assert!((spread[0] - 171.0).abs() < 1e-9 && (spread[1] - 125.0).abs() < 1e-9);
    }
}
