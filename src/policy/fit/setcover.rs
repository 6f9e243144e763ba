//! The default fit: the sets that save most, for the calls that are expected.
//!
//! ```text
//! workload --future--> expected calls --ground--> candidates --cover--> chosen sets --> tree
//!     ^ folds: how much smoothing? |                            ^ memory: gain for a megabyte
//! ```
//!
//! The same workload and wish give the same tree on every machine: sums are taken in the order of
//! sets, chance is seeded, ties go to the first.

use super::cover::{Cover, Gain};
use super::future::{Smoothing, folds};
use super::ground::{Ground, Reach};
use super::plan::{NODE_MB, Plan, ROOT_MB};
use super::score::score;
use super::set::ItemSet;
use super::workload::{Catalog, Demand, Workload};
use super::{Objective, Wish};
use crate::policy::lookup::Lookup;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Parts that a workload is divided into for choosing how much to smooth.
const FOLDS: usize = 3;
/// Another smoothing than the usual one leaves so much less.
const CLEARLY: f64 = 0.03;
/// Distinct sets up to which that is chosen by trying.
const TRIED_MAX: usize = 2_000;

/// How often a tree is made smaller to make room for copies of its busy nodes.
const COPIES_TRIES: usize = 8;

/// A tree, and how it came about.
#[derive(Debug, Clone)]
pub struct Fitted {
    pub plan: Plan,
    pub smoothing: Smoothing,
}

/// One tree for each of these numbers of nodes (the root counted).
pub fn fit(catalog: &Catalog, workload: &Workload, wish: &Wish, sizes: &[usize]) -> Vec<Fitted> {
    let mut ground = Ground::new(catalog, workload, &wish.objective, Reach::Future);
    let smoothings = match wish.smoothing {
        Some(smoothing) => vec![smoothing; sizes.len()],
        None if workload.demands.len() > TRIED_MAX => {
            vec![Smoothing::guessed(workload); sizes.len()]
        }
        None => tried(catalog, workload, wish, sizes),
    };
    let mut fitted: Vec<Option<Fitted>> = vec![None; sizes.len()];
    for smoothing in distinct(&smoothings) {
        ground.weigh(smoothing);
        let wanted: Vec<usize> = (0..sizes.len())
            .filter(|at| smoothings[*at] == smoothing)
            .collect();
        let some: Vec<usize> = wanted.iter().map(|at| sizes[*at]).collect();
        let choices = choose(catalog, &ground.cover, wish, &some);
        for (at, chosen) in wanted.into_iter().zip(choices) {
            let sets = sets_of(&ground.cover, &chosen);
            let plan = Plan::from_sets(catalog, &sets);
            let plan = with_room_for_copies(catalog, workload, &ground.cover, wish, plan);
            fitted[at] = Some(Fitted { plan, smoothing });
        }
    }
    let all = fitted.into_iter();
    all.map(|fitted| fitted.expect("every size has a smoothing"))
        .collect()
}

/// Copies of busy nodes take memory too: with less for nodes, until both fit.
fn with_room_for_copies(
    catalog: &Catalog,
    workload: &Workload,
    cover: &Cover,
    wish: &Wish,
    mut plan: Plan,
) -> Plan {
    let Some(memory_mb) = wish
        .memory_mb
        .filter(|_| wish.objective.forks_per_sec > 0.0)
    else {
        return plan;
    };
    for _ in 0..COPIES_TRIES {
        let score = score(catalog, &plan, workload, Lookup::Best);
        let replicas = wish.objective.replicas(catalog, &plan, &score);
        let over_mb = wish.objective.memory_mb(catalog, &plan, &replicas) - memory_mb;
        if over_mb <= 0.0 {
            break;
        }
        let left_mb = plan.memory_mb(catalog) - over_mb;
        let chosen = Budget::new(catalog, cover, wish, left_mb).choose(plan.len() - 1);
        plan = Plan::from_sets(catalog, &sets_of(cover, &chosen));
    }
    plan
}

fn distinct(smoothings: &[Smoothing]) -> Vec<Smoothing> {
    let mut distinct = Vec::new();
    for smoothing in smoothings {
        if !distinct.contains(smoothing) {
            distinct.push(*smoothing);
        }
    }
    distinct
}

/// What no tree of so many nodes can do better on a workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Import time saved, at most.
    pub saved_ms: f64,
    /// False: there were too many sets to look at all of them, so it holds for trees of those that
    /// were looked at.
    pub is_proven: bool,
}

pub fn bound(catalog: &Catalog, workload: &Workload, nodes: usize) -> Bound {
    let mut ground = Ground::new(catalog, workload, &Objective::IMPORTS, Reach::Trace);
    ground.weigh(Smoothing::NONE);
    let count = nodes.saturating_sub(1);
    let chosen = ground.cover.greedy(count);
    Bound {
        saved_ms: ground.cover.bound(count, &chosen) * workload.calls(),
        is_proven: ground.is_whole,
    }
}

/// The smoothing that serves held-back calls best, for each size.
fn tried(catalog: &Catalog, workload: &Workload, wish: &Wish, sizes: &[usize]) -> Vec<Smoothing> {
    let mut left = vec![vec![0.0; Smoothing::GRID.len()]; sizes.len()];
    for (kept, held) in folds(workload, FOLDS) {
        let mut ground = Ground::new(catalog, &kept, &wish.objective, Reach::NearFuture);
        for (column, smoothing) in Smoothing::GRID.iter().enumerate() {
            ground.weigh(*smoothing);
            let choices = choose(catalog, &ground.cover, wish, sizes);
            for (row, chosen) in choices.iter().enumerate() {
                left[row][column] += residual_ms(catalog, &ground.cover, chosen, &held);
            }
        }
    }
    left.iter()
        .map(|left| Smoothing::GRID[best(left)])
        .collect()
}

/// The usual one, unless another is clearly better: parts are small, and luck is large.
fn best(left: &[f64]) -> usize {
    let least = (0..left.len()).min_by(|a, b| left[*a].total_cmp(&left[*b]));
    let least = least.expect("the grid is not empty");
    if left[least] < (1.0 - CLEARLY) * left[Smoothing::USUAL] {
        least
    } else {
        Smoothing::USUAL
    }
}

fn residual_ms(catalog: &Catalog, cover: &Cover, chosen: &[usize], held: &Workload) -> f64 {
    let left = |demand: &Demand| {
        let mut best = 0.0;
        for candidate in chosen.iter().map(|at| &cover.candidates[*at]) {
            if candidate.value > best && candidate.set.is_within(&demand.set) {
                best = candidate.value;
            }
        }
        demand.calls * (catalog.import_ms(&demand.set) - best)
    };
    held.demands.iter().map(left).sum()
}

fn choose(catalog: &Catalog, cover: &Cover, wish: &Wish, sizes: &[usize]) -> Vec<Vec<usize>> {
    let counts = sizes.iter().map(|size| size.saturating_sub(1));
    if let Some(memory_mb) = wish.memory_mb {
        let within = |count| Budget::new(catalog, cover, wish, memory_mb).choose(count);
        return counts.map(within).collect();
    }
    let most = counts.clone().max().unwrap_or(0);
    let chosen = cover.greedy(most);
    counts
        .map(|count| chosen.iter().take(count).copied().collect())
        .collect()
}

fn sets_of(cover: &Cover, chosen: &[usize]) -> Vec<ItemSet> {
    let sets = chosen.iter();
    sets.map(|at| cover.candidates[*at].set.clone()).collect()
}

/// Choosing under a memory budget: the most gain for a megabyte next.
///
/// What a candidate costs changes as others are chosen: it imports only what its parent lacks, and
/// those that find a better parent in it need less themselves. So a set that few calls start from
/// may still pay, as an inner node.
struct Budget<'a> {
    cover: &'a Cover,
    wish: &'a Wish,
    memory_mb: f64,
    used_mb: f64,
    /// By candidate.
    import_ms: Vec<f64>,
    resident_mb: Vec<f64>,
    parent: Vec<Held>,
    /// What those chosen already would save by it.
    relief: Vec<Held>,
    chosen: Vec<usize>,
    /// Candidates within each chosen one.
    within: Vec<Vec<u32>>,
    values: Vec<f64>,
}

/// Import time and memory together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Held {
    ms: f64,
    mb: f64,
}

impl<'a> Budget<'a> {
    fn new(catalog: &Catalog, cover: &'a Cover, wish: &'a Wish, memory_mb: f64) -> Self {
        let all = cover.candidates.iter();
        let resident = |set: &ItemSet| wish.objective.resident_mb(catalog, set);
        Self {
            cover,
            wish,
            memory_mb,
            used_mb: ROOT_MB,
            import_ms: all.clone().map(|c| catalog.import_ms(&c.set)).collect(),
            resident_mb: all.map(|c| resident(&c.set)).collect(),
            parent: vec![Held::default(); cover.candidates.len()],
            relief: vec![Held::default(); cover.candidates.len()],
            chosen: Vec::new(),
            within: Vec::new(),
            values: vec![0.0; cover.weights.len()],
        }
    }

    fn choose(mut self, count: usize) -> Vec<usize> {
        let mut gains: Vec<f64> = (0..self.cover.candidates.len())
            .map(|at| self.cover.gain(at, &self.values))
            .collect();
        while self.chosen.len() < count {
            let Some(at) = self.next(&mut gains) else {
                break;
            };
            self.take(at);
            gains[at] = 0.0;
        }
        self.chosen
    }

    /// The one with the most gain for its memory; gains reckoned earlier are bounds.
    fn next(&self, gains: &mut [f64]) -> Option<usize> {
        let mut heap = alloc::collections::BinaryHeap::new();
        for (at, gain) in gains.iter().enumerate() {
            if *gain > 0.0 && self.used_mb + self.cost_mb(at) <= self.memory_mb {
                let worth = self.worth(at, *gain);
                if worth > 0.0 {
                    heap.push(Gain(worth, Reverse(at)));
                }
            }
        }
        while let Some(Gain(_, Reverse(at))) = heap.pop() {
            gains[at] = self.cover.gain(at, &self.values);
            let now = Gain(self.worth(at, gains[at]), Reverse(at));
            if now.0 <= 0.0 {
                continue;
            }
            if heap.peek().is_none_or(|next| *next <= now) {
                return Some(at);
            }
            heap.push(now);
        }
        None
    }

    fn cost_mb(&self, at: usize) -> f64 {
        let own = self.resident_mb[at] - self.parent[at].mb;
        NODE_MB + own - self.relief[at].mb
    }

    /// A node that frees memory is worth more than any other.
    fn worth(&self, at: usize, gain: f64) -> f64 {
        let own_ms = self.import_ms[at] - self.parent[at].ms - self.relief[at].ms;
        let objective = &self.wish.objective;
        let build_ms = objective.builds * (objective.fork_ms + own_ms);
        let net = gain - build_ms / f64::max(self.wish.calls, 1.0);
        net / f64::max(self.cost_mb(at), 1e-3)
    }

    fn take(&mut self, at: usize) {
        self.used_mb += self.cost_mb(at);
        self.cover.take(at, &mut self.values);
        let cover = self.cover;
        let set = &cover.candidates[at].set;
        let held = Held {
            ms: self.import_ms[at],
            mb: self.resident_mb[at],
        };
        let inside = |other: &usize| *other != at && cover.candidates[*other].set.is_within(set);
        let inside: Vec<u32> = (0..cover.candidates.len())
            .filter(inside)
            .map(|other| other as u32)
            .collect();
        self.relieve(&inside, self.parent[at], 1.0);
        for place in 0..self.chosen.len() {
            let other = self.chosen[place];
            let before = self.parent[other];
            if held.ms > before.ms && set.is_within(&cover.candidates[other].set) {
                let within = core::mem::take(&mut self.within[place]);
                self.relieve(&within, before, -1.0);
                self.relieve(&within, held, 1.0);
                self.within[place] = within;
            }
        }
        for other in 0..cover.candidates.len() {
            let better = held.ms > self.parent[other].ms;
            if better && other != at && set.is_within(&cover.candidates[other].set) {
                self.parent[other] = held;
            }
        }
        self.chosen.push(at);
        self.within.push(inside);
    }

    /// What a chosen node with this parent would save below each of those.
    fn relieve(&mut self, within: &[u32], parent: Held, sign: f64) {
        for other in within.iter().map(|other| *other as usize) {
            if self.import_ms[other] > parent.ms {
                self.relief[other].ms += sign * (self.import_ms[other] - parent.ms);
                self.relief[other].mb += sign * (self.resident_mb[other] - parent.mb);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::tests::{catalog, workload};
    use super::*;

    #[test]
    fn the_sets_that_save_most_are_held() {
        let catalog = catalog(&[10.0, 100.0, 1.0]);
        let calls: &[&[u32]] = &[&[0, 1], &[0, 1], &[0, 1], &[0], &[0], &[2], &[2]];
        let workload = workload(&catalog, calls);
        let fitted = fit(&catalog, &workload, &Wish::default(), &[1, 2, 3, 9]);
        let sizes: Vec<usize> = fitted.iter().map(|fitted| fitted.plan.len()).collect();
        assert_eq!(sizes[..3], [1, 2, 3]);
        let left = |at: usize| {
            let plan: &Plan = &fitted[at].plan;
            score(&catalog, plan, &workload, Lookup::Best).residual_ms
        };
        assert!((left(0) - 352.0).abs() < 1e-9);
        assert!((left(1) - 22.0).abs() < 1e-9);
        assert!((left(2) - 2.0).abs() < 1e-9);
        assert!(left(3).abs() < 1e-9);
        let bound = bound(&catalog, &workload, 3);
        assert!((bound.saved_ms - 350.0).abs() < 1e-6, "{bound:?}");
        assert!(bound.is_proven);
    }

    #[test]
    fn copies_of_busy_nodes_are_within_the_budget() {
        let catalog = catalog(&[100.0, 80.0, 60.0]);
        let workload = workload(&catalog, &[&[0], &[0], &[1], &[1], &[2], &[2]]);
        let busy = Objective {
            forks_per_sec: 2_000.0,
            ..Objective::MEASURED
        };
        let budget_mb = 420.0;
        let wish = Wish {
            memory_mb: Some(budget_mb),
            objective: busy,
            calls: workload.calls(),
            ..Wish::default()
        };
        let plan = &fit(&catalog, &workload, &wish, &[64])[0].plan;
        let score = score(&catalog, plan, &workload, Lookup::Best);
        let replicas = busy.replicas(&catalog, plan, &score);
        assert!(replicas.iter().any(|copies| *copies > 1.0), "{replicas:?}");
        let held = busy.memory_mb(&catalog, plan, &replicas);
        assert!(held <= budget_mb, "{held} of {budget_mb}: {plan:?}");
    }

    #[test]
    fn a_budget_is_kept_and_inner_nodes_pay() {
        // Two heavy sets share 30 MB: with an inner node they fit, without it only one does.
        let mut catalog = catalog(&[100.0, 50.0, 50.0]);
        for (item, mb) in catalog.items.iter_mut().zip([30.0, 1.0, 1.0]) {
            item.mem_mb = mb / super::super::plan::TRACED_FACTOR;
        }
        let workload = workload(&catalog, &[&[0, 1], &[0, 1], &[0, 2], &[0, 2]]);
        let wish = Wish {
            memory_mb: Some(ROOT_MB + 3.0 * NODE_MB + 32.5),
            ..Wish::default()
        };
        let fitted = fit(&catalog, &workload, &wish, &[64]);
        let plan = &fitted[0].plan;
        assert!(plan.memory_mb(&catalog) <= wish.memory_mb.expect("it is set"));
        let left = score(&catalog, plan, &workload, Lookup::Best).residual_ms;
        assert!(left.abs() < 1e-9, "{left} of {plan:?}");
    }
}
