//! What a tree may hold, and for whom: candidates and rows of the cover problem.
//!
//! A node's set can always be enlarged to what all calls that it serves have in common, so the call
//! sets and their intersections are enough for the calls that were seen. For those that were not,
//! intersections of imagined calls come along.

use super::cover::{Candidate, Cover};
use super::future::{Smoothing, imagine};
use super::objective::Objective;
use super::set::ItemSet;
use super::workload::{Catalog, Workload};
use crate::base::Random;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Distinct sets that are fitted to: those with most import time in all.
const ROWS_MAX: usize = 20_000;
/// Sets of which every two are intersected.
const PAIRED_MAX: usize = 1_200;
/// Intersections that are remembered while they are counted.
const SEEN_MAX: usize = 1 << 18;
/// Of those, candidates: the ones that come up most for what they save.
const CANDIDATES_MAX: usize = 8_192;
/// Imagined calls, and pairs of them that are intersected.
const IMAGINED: (usize, usize) = (20_000, 300_000);
/// The same where only a choice depends on it.
const IMAGINED_FEW: (usize, usize) = (3_000, 20_000);
/// Packages of one set: a tree file takes no more in one node.
const PACKAGES_MAX: usize = 256;
/// Supporters that are looked at to see whether one of them matters.
const CRITICAL_MAX: usize = 64;
const SEED: u64 = 0x5EED_0F0A_7EE5_0002;

/// Candidates, and rows in three parts: calls as seen, calls as if not seen, imagined ones.
#[derive(Debug)]
pub struct Ground {
    pub cover: Cover,
    /// Every set that could be a node is a candidate.
    pub is_whole: bool,
    seen: Vec<f64>,
    imagined: Vec<f64>,
}

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The calls and what any two have in common, imagined calls too.
    Future,
    /// The same with fewer of those.
    NearFuture,
    /// What any number of the calls have in common, and nothing else: the trace itself.
    Trace,
}

impl Ground {
    pub fn new(
        catalog: &Catalog,
        workload: &Workload,
        objective: &Objective,
        reach: Reach,
    ) -> Self {
        let rows = heaviest(catalog, workload);
        let (count, pairs) = match reach {
            Reach::Future => IMAGINED,
            Reach::NearFuture => IMAGINED_FEW,
            Reach::Trace => (0, 0),
        };
        let imagined = imagine(catalog, workload, count);
        let calls = |rows: &[(&ItemSet, f64)]| rows.iter().map(|row| row.1).collect();
        let imagined: Vec<(&ItemSet, f64)> = imagined.iter().map(|d| (&d.set, d.calls)).collect();
        let (seen_calls, imagined_calls) = (calls(&rows), calls(&imagined));
        let index = (Index::new(catalog, &rows), Index::new(catalog, &imagined));
        let mut candidates = Vec::new();
        let (sets, is_whole) = sets(catalog, &rows, &imagined, pairs);
        for set in sets {
            let value = objective.value(catalog, &set);
            if value > 0.0 {
                candidates.push(candidate(set, value, &rows, &index));
            }
        }
        let weights = Vec::new();
        Self {
            cover: Cover {
                weights,
                candidates,
            },
            is_whole: is_whole && rows.len() == workload.demands.len(),
            seen: seen_calls,
            imagined: imagined_calls,
        }
    }

    /// Weighs rows; all weights together are one.
    pub fn weigh(&mut self, smoothing: Smoothing) {
        let Smoothing { doubt, imagined } = smoothing;
        let share = |of: &[f64], share: f64| {
            let all = f64::max(of.iter().sum(), f64::MIN_POSITIVE);
            of.iter().map(|calls| calls / all * share).collect()
        };
        let imagined = if self.imagined.is_empty() {
            0.0
        } else {
            imagined
        };
        let seen = 1.0 - imagined;
        let parts: [Vec<f64>; 3] = [
            share(&self.seen, seen * (1.0 - doubt)),
            share(&self.seen, seen * doubt),
            share(&self.imagined, imagined),
        ];
        self.cover.weights = parts.concat();
    }
}

/// Sets with their calls, in order; beyond the bound those with the least import time are left out.
fn heaviest<'a>(catalog: &Catalog, workload: &'a Workload) -> Vec<(&'a ItemSet, f64)> {
    let mut rows: Vec<(&ItemSet, f64)> = workload
        .demands
        .iter()
        .map(|demand| (&demand.set, demand.calls))
        .collect();
    if rows.len() > ROWS_MAX {
        by_weight(catalog, &mut rows);
        rows.truncate(ROWS_MAX);
    }
    rows.sort_by(|a, b| a.0.cmp(b.0));
    rows
}

fn by_weight(catalog: &Catalog, rows: &mut [(&ItemSet, f64)]) {
    rows.sort_by_cached_key(|(set, calls)| {
        let weight = calls * catalog.import_ms(set);
        (core::cmp::Reverse(weight.to_bits()), (*set).clone())
    });
}

/// Everything that may be a node, each once, in order; and whether that is all.
fn sets(
    catalog: &Catalog,
    rows: &[(&ItemSet, f64)],
    imagined: &[(&ItemSet, f64)],
    pairs: usize,
) -> (Vec<ItemSet>, bool) {
    let mut found: BTreeMap<ItemSet, f64> = BTreeMap::new();
    let mut count = |set: ItemSet, calls: f64| {
        if let Some(seen) = found.get_mut(&set) {
            *seen += calls;
        } else if found.len() < SEEN_MAX {
            found.insert(set, calls);
        }
    };
    let mut paired: Vec<(&ItemSet, f64)> = rows.to_vec();
    let mut is_whole = paired.len() <= PAIRED_MAX;
    if !is_whole {
        by_weight(catalog, &mut paired);
        paired.truncate(PAIRED_MAX);
    }
    for (set, calls) in rows {
        count((*set).clone(), *calls);
    }
    for (at, (set, calls)) in paired.iter().enumerate() {
        for (other, more) in &paired[..at] {
            count(set.and(other), f64::min(*calls, *more));
        }
    }
    if !imagined.is_empty() {
        let mut random = Random::new(SEED);
        let mut pick = || imagined[random.below(imagined.len() as u64) as usize];
        for _ in 0..pairs {
            let ((set, _), (other, _)) = (pick(), pick());
            count(set.and(other), 0.1);
        }
    }
    if pairs == 0 {
        close(&mut found, &paired);
    }
    let mut found: Vec<(ItemSet, f64)> = found
        .into_iter()
        .map(|(set, calls)| (trimmed(catalog, set), calls))
        .filter(|(set, _)| !set.is_empty())
        .collect();
    is_whole &= found.len() < CANDIDATES_MAX;
    if found.len() > CANDIDATES_MAX {
        found.sort_by_cached_key(|(set, calls)| {
            let worth = calls * catalog.import_ms(set);
            (core::cmp::Reverse(worth.to_bits()), set.clone())
        });
        found.truncate(CANDIDATES_MAX);
    }
    let mut sets: Vec<ItemSet> = found.into_iter().map(|(set, _)| set).collect();
    sets.sort();
    sets.dedup();
    (sets, is_whole)
}

/// Intersects on, until nothing new comes up or there are too many.
fn close(found: &mut BTreeMap<ItemSet, f64>, rows: &[(&ItemSet, f64)]) {
    let mut fresh: Vec<ItemSet> = found.keys().cloned().collect();
    while !fresh.is_empty() && found.len() < CANDIDATES_MAX {
        let mut next = Vec::new();
        for set in &fresh {
            for (row, calls) in rows {
                let common = set.and(row);
                if !found.contains_key(&common) && found.len() < CANDIDATES_MAX {
                    found.insert(common.clone(), *calls);
                    next.push(common);
                }
            }
        }
        fresh = next;
    }
}

/// Without the cheapest imports of a set that is too large for one node.
fn trimmed(catalog: &Catalog, set: ItemSet) -> ItemSet {
    if set.len() <= PACKAGES_MAX {
        return set;
    }
    let mut items: Vec<usize> = set.iter().collect();
    let ms = |item: &usize| catalog.items[*item].import_ms;
    items.sort_by(|a, b| ms(b).total_cmp(&ms(a)).then(a.cmp(b)));
    let kept = items.iter().take(PACKAGES_MAX).map(|item| *item as u32);
    ItemSet::of(catalog.len(), kept)
}

/// For each package the rows that have it: whom a set serves is what its packages' rows have in
/// common.
struct Index {
    rows: usize,
    having: Vec<ItemSet>,
}

impl Index {
    fn new(catalog: &Catalog, rows: &[(&ItemSet, f64)]) -> Self {
        let mut having = alloc::vec![ItemSet::new(rows.len()); catalog.len()];
        for (row, (set, _)) in rows.iter().enumerate() {
            for item in set.iter() {
                having[item].insert(row);
            }
        }
        Self {
            rows: rows.len(),
            having,
        }
    }

    fn served(&self, set: &ItemSet) -> Vec<u32> {
        let mut items = set.iter();
        let Some(first) = items.next() else {
            return (0..self.rows as u32).collect();
        };
        let mut served = self.having[first].clone();
        for item in items {
            served.keep(&self.having[item]);
        }
        served.iter().map(|row| row as u32).collect()
    }
}

fn candidate(
    set: ItemSet,
    value: f64,
    rows: &[(&ItemSet, f64)],
    (seen, imagined): &(Index, Index),
) -> Candidate {
    let supporters = seen.served(&set);
    let count = rows.len() as u32;
    let mut all = supporters.clone();
    for row in uncritical(&set, &supporters, rows) {
        all.push(count + row);
    }
    all.extend(imagined.served(&set).iter().map(|row| 2 * count + row));
    Candidate {
        set,
        value,
        rows: all,
    }
}

/// Supporters without whom the set would be known all the same.
fn uncritical(set: &ItemSet, supporters: &[u32], rows: &[(&ItemSet, f64)]) -> Vec<u32> {
    let row = |at: usize| rows[supporters[at] as usize];
    let is_single = |at: usize| row(at).1 < 1.5;
    if supporters.len() == 1 && is_single(0) {
        return Vec::new();
    }
    let common = |skip: usize| {
        let mut rest = (0..supporters.len()).filter(|at| *at != skip);
        let first = rest.next().map(|at| row(at).0.clone())?;
        Some(rest.fold(first, |common, at| common.and(row(at).0)))
    };
    if supporters.len() > CRITICAL_MAX || common(usize::MAX).as_ref() != Some(set) {
        // So many agree on it by chance only, or it was imagined.
        return supporters.to_vec();
    }
    (0..supporters.len())
        .filter(|at| !is_single(*at) || common(*at).as_ref() == Some(set))
        .map(|at| supporters[at])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::workload::tests::{catalog, workload};
    use super::*;

    fn candidates(calls: &[&[u32]], reach: Reach) -> Vec<(Vec<usize>, Vec<u32>)> {
        let catalog = catalog(&[1.0, 2.0, 4.0, 8.0]);
        let workload = workload(&catalog, calls);
        let ground = Ground::new(&catalog, &workload, &Objective::IMPORTS, reach);
        let candidates = ground.cover.candidates.iter();
        candidates
            .map(|candidate| (candidate.set.iter().collect(), candidate.rows.clone()))
            .collect()
    }

    #[test]
    fn calls_and_what_they_have_in_common_are_candidates() {
        // Rows in order of their sets: {0, 1}, {0, 2}; as if unseen: 2 and 3.
        let found = candidates(&[&[0, 1], &[0, 2]], Reach::Trace);
        let all: &[(Vec<usize>, Vec<u32>)] = &[
            (vec![0], vec![0, 1]),
            (vec![0, 1], vec![0]),
            (vec![0, 2], vec![1]),
        ];
        assert_eq!(found, all, "without either call nobody would know of {{0}}");
    }

    #[test]
    fn a_set_that_others_show_too_serves_a_call_as_if_unseen() {
        let found = candidates(&[&[0, 1], &[0, 2], &[0, 3]], Reach::Trace);
        assert_eq!(found[0], (vec![0], vec![0, 1, 2, 3, 4, 5]));
        let found = candidates(&[&[0, 1], &[0, 1]], Reach::Trace);
        assert_eq!(found, [(vec![0, 1], vec![0, 1])], "asked for twice");
    }

    #[test]
    fn intersections_of_intersections_are_found() {
        let calls: &[&[u32]] = &[&[0, 1, 2], &[0, 1, 3], &[0, 2, 3]];
        let found = candidates(calls, Reach::Trace);
        assert!(found.iter().any(|(set, _)| set == &[0]));
    }

    #[test]
    fn imagined_calls_bring_new_sets() {
        let calls: &[&[u32]] = &[&[0], &[1], &[2], &[3]];
        let found = candidates(calls, Reach::Future);
        assert!(found.iter().any(|(set, _)| set == &[0, 1]));
    }

    #[test]
    fn weights_are_shares() {
        let catalog = catalog(&[1.0, 2.0]);
        let workload = workload(&catalog, &[&[0], &[0], &[1]]);
        let mut ground = Ground::new(&catalog, &workload, &Objective::IMPORTS, Reach::Future);
        for smoothing in Smoothing::GRID {
            ground.weigh(smoothing);
            let sum: f64 = ground.cover.weights.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{smoothing:?}: {sum}");
        }
    }
}
