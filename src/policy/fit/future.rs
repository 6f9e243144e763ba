//! What tomorrow will ask for, if yesterday is all that is known.
//!
//! Like a cook who saw the last evening's orders: most guests order what was ordered before, some
//! order dishes from two menus. A tree that is fitted to the orders as they were wastes nodes on
//! what only one guest ever wanted. So three things stand for tomorrow:
//!
//! - the calls as they were, for a part of their weight ([`Smoothing::doubt`] takes the rest);
//! - the calls as they would have been served had each not been seen itself: a set that is known
//!   from a single call does not serve that call;
//! - imagined calls ([`imagine`]): a call that was seen loses some of what it asked for by name and
//!   gains some that others asked for, each with all it needs ([`Smoothing::imagined`]).
//!
//! How much of each is chosen by cross-validation within the workload: parts of it are held back
//! and scored by trees fitted to the rest.
//!
//! What is added must not ask for another version of what is there already. A resolver would find a
//! version for both; but that versions fit says that two things are of one time, and things of one
//! time are asked for together.
//!
//! Rejected: calls at every intersection weighted by support alone, which never join what was not
//! joined before, and lose where nodes are many.

use super::set::ItemSet;
use super::workload::{Catalog, Demand, Workload};
use crate::base::Random;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// What a call asked for by name stays in an imagined one this often.
const KEPT: f64 = 0.7;
/// One more is added this often, again and again: one on average.
const ADDED: f64 = 0.5;
const ADDED_MAX: usize = 16;
/// Calls of one set that are dealt to folds one by one; more are divided evenly.
const DEALT_MAX: f64 = 64.0;
const SEED: u64 = 0x5EED_0F0A_7EE5_0001;

/// How far tomorrow may differ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Smoothing {
    /// The share of each seen call that counts as if it had not been seen itself.
    pub doubt: f64,
    /// The share of imagined calls.
    pub imagined: f64,
}

impl Smoothing {
    /// Tomorrow is as yesterday.
    pub const NONE: Self = Self {
        doubt: 0.0,
        imagined: 0.0,
    };

    /// What cross-validation chooses from.
    pub const GRID: [Self; 5] = [
        Self::NONE,
        Self::new(0.4, 0.1),
        Self::new(0.4, 0.2),
        Self::new(0.4, 0.3),
        Self::new(0.4, 0.45),
    ];

    /// The one of them that serves most workloads well.
    pub const USUAL: usize = 3;

    pub const fn new(doubt: f64, imagined: f64) -> Self {
        Self { doubt, imagined }
    }

    /// Without trying: the share of calls seen once is that of calls not seen yet (Good and
    /// Turing).
    pub fn guessed(workload: &Workload) -> Self {
        let once = workload.demands.iter().filter(|demand| demand.calls < 1.5);
        let share = once.count() as f64 / f64::max(workload.calls(), 1.0);
        Self::new(0.4 * f64::min(2.0 * share, 1.0), f64::min(share, 0.4))
    }
}

/// So many calls that nobody made, from the habits of those who did; none where nobody called.
pub fn imagine(catalog: &Catalog, workload: &Workload, count: usize) -> Vec<Demand> {
    let habits = Habits::of(catalog, workload);
    let mut random = Random::new(SEED);
    let mut imagined: BTreeMap<ItemSet, f64> = BTreeMap::new();
    if habits.parts.is_empty() {
        return Vec::new();
    }
    for _ in 0..count {
        *imagined
            .entry(habits.call(catalog, &mut random))
            .or_default() += 1.0;
    }
    let each = imagined.into_iter();
    each.map(|(set, calls)| Demand { set, calls }).collect()
}

/// What calls consist of: each thing asked for by name, with all it brings along.
struct Habits {
    /// By demand.
    parts: Vec<Vec<ItemSet>>,
    calls: Dice,
    named: Dice,
}

impl Habits {
    fn of(catalog: &Catalog, workload: &Workload) -> Self {
        let brought = brought(catalog, workload);
        let demands = workload.demands.iter();
        let parts: Vec<Vec<ItemSet>> = demands
            .map(|demand| parts(catalog, &demand.set, &brought))
            .collect();
        let calls = workload.demands.iter().map(|demand| demand.calls);
        let named = calls.clone().zip(&parts);
        Self {
            named: Dice::new(named.map(|(calls, parts)| calls * parts.len() as f64)),
            calls: Dice::new(calls),
            parts,
        }
    }

    fn call(&self, catalog: &Catalog, random: &mut Random) -> ItemSet {
        let mut set = catalog.empty_set();
        for part in &self.parts[self.calls.roll(random)] {
            if random.chance(KEPT) {
                set = set.or(part);
            }
        }
        for _ in 0..ADDED_MAX {
            if !random.chance(ADDED) {
                break;
            }
            let parts = &self.parts[self.named.roll(random)];
            let Some(part) = parts.get(random.below(parts.len() as u64) as usize) else {
                continue;
            };
            let wider = set.or(part);
            if !catalog.has_rivals(&wider) {
                set = wider;
            }
        }
        set
    }
}

/// By family: the families that came along whenever it was asked for, whatever the version.
fn brought(catalog: &Catalog, workload: &Workload) -> Vec<ItemSet> {
    let count = catalog.items.iter().map(|item| item.family as usize + 1);
    let count = count.max().unwrap_or(0);
    let mut brought: Vec<Option<ItemSet>> = vec![None; count];
    for demand in &workload.demands {
        let families: Vec<u32> = families(catalog, &demand.set).collect();
        let all = ItemSet::of(count, families.iter().copied());
        for family in families {
            let known = &mut brought[family as usize];
            *known = Some(match known.take() {
                Some(known) => known.and(&all),
                None => all.clone(),
            });
        }
    }
    let empty = || ItemSet::new(count);
    let all = brought.into_iter();
    all.map(|known| known.unwrap_or_else(empty)).collect()
}

fn families<'a>(catalog: &'a Catalog, set: &'a ItemSet) -> impl Iterator<Item = u32> + 'a {
    set.iter().map(|item| catalog.items[item].family)
}

/// A call in parts: of packages that always come together the first gives its name.
fn parts(catalog: &Catalog, set: &ItemSet, brought: &[ItemSet]) -> Vec<ItemSet> {
    let items: Vec<(usize, usize)> = set
        .iter()
        .map(|item| (item, catalog.items[item].family as usize))
        .collect();
    let brings = |(other, by): (usize, usize), (item, family): (usize, usize)| {
        let mutual = brought[family].has(by);
        other != item && brought[by].has(family) && !(mutual && other > item)
    };
    let is_name = |one: &&(usize, usize)| !items.iter().any(|other| brings(*other, **one));
    let names = items.iter().filter(is_name);
    names
        .map(|(_, name)| {
            let along = items
                .iter()
                .filter(|(_, family)| brought[*name].has(*family));
            ItemSet::of(catalog.len(), along.map(|(item, _)| *item as u32))
        })
        .collect()
}

/// Rolls numbers as often as their weights say.
struct Dice {
    sums: Vec<f64>,
}

impl Dice {
    fn new<I: IntoIterator<Item = f64>>(weights: I) -> Self {
        let sum = |sum: &mut f64, weight: f64| {
            *sum += weight;
            Some(*sum)
        };
        Self {
            sums: weights.into_iter().scan(0.0, sum).collect(),
        }
    }

    fn roll(&self, random: &mut Random) -> usize {
        let all = self.sums.last().copied().unwrap_or(0.0);
        let at = random.unit() * all;
        let place = self.sums.partition_point(|sum| *sum <= at);
        usize::min(place, self.sums.len().saturating_sub(1))
    }
}

/// The workload without one part in `folds`, and that part.
pub fn folds(workload: &Workload, folds: usize) -> Vec<(Workload, Workload)> {
    let mut random = Random::new(SEED ^ folds as u64);
    let mut held = vec![vec![0.0; workload.demands.len()]; folds];
    for (at, demand) in workload.demands.iter().enumerate() {
        if demand.calls > DEALT_MAX {
            for held in &mut held {
                held[at] = demand.calls / folds as f64;
            }
            continue;
        }
        for _ in 0..libm::round(demand.calls) as usize {
            held[random.below(folds as u64) as usize][at] += 1.0;
        }
    }
    let part = |calls: &dyn Fn(usize) -> f64| {
        let demands = workload.demands.iter().enumerate();
        let demands = demands.map(|(at, demand)| Demand {
            set: demand.set.clone(),
            calls: calls(at),
        });
        Workload {
            demands: demands.filter(|demand| demand.calls > 0.0).collect(),
            sequence: Vec::new(),
        }
    };
    held.iter()
        .map(|held| {
            let kept = part(&|at| workload.demands[at].calls - held[at]);
            (kept, part(&|at| held[at]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::workload::tests::{catalog, workload};
    use super::*;

    const MANY: usize = 1_000;

    #[test]
    fn a_part_is_what_nothing_else_brings_and_what_it_brings() {
        let catalog = catalog(&[1.0; 4]);
        // 1 always brings 0; 2 and 3 always come together.
        let calls: &[&[u32]] = &[&[0, 1], &[0], &[2, 3], &[0, 1, 2, 3]];
        let workload = workload(&catalog, calls);
        let brought = brought(&catalog, &workload);
        let set = |set: &[u32]| ItemSet::of(4, set.iter().copied());
        assert_eq!(parts(&catalog, &set(&[0, 1]), &brought), [set(&[0, 1])]);
        assert_eq!(parts(&catalog, &set(&[0]), &brought), [set(&[0])]);
        let both = parts(&catalog, &set(&[0, 1, 2, 3]), &brought);
        assert_eq!(both, [set(&[0, 1]), set(&[2, 3])]);
    }

    #[test]
    fn another_version_brings_the_same() {
        let mut catalog = catalog(&[1.0; 4]);
        // 0 and 1 are versions of one package, 2 and 3 those of what it needs.
        for (item, family) in catalog.items.iter_mut().zip([0, 0, 1, 1]) {
            item.family = family;
        }
        let workload = workload(&catalog, &[&[0, 2], &[1, 3], &[3]]);
        let brought = brought(&catalog, &workload);
        let set = ItemSet::of(4, [1, 3]);
        assert_eq!(parts(&catalog, &set, &brought), [set]);
    }

    #[test]
    fn imagined_calls_are_many_and_always_the_same() {
        let catalog = catalog(&[1.0; 6]);
        let workload = workload(&catalog, &[&[0, 1], &[0], &[2, 3], &[2], &[4], &[5]]);
        let imagined = imagine(&catalog, &workload, MANY);
        assert_eq!(imagined, imagine(&catalog, &workload, MANY));
        let calls: f64 = imagined.iter().map(|demand| demand.calls).sum();
        assert!((calls - MANY as f64).abs() < 1e-9);
        let joined = ItemSet::of(6, [0, 4]);
        assert!(imagined.iter().any(|demand| demand.set == joined));
        assert!(imagine(&catalog, &Workload::default(), MANY).is_empty());
    }

    #[test]
    fn nobody_imagines_two_versions_of_a_package() {
        let mut catalog = catalog(&[1.0; 2]);
        catalog.items[1].family = 0;
        let workload = workload(&catalog, &[&[0], &[1]]);
        let imagined = imagine(&catalog, &workload, MANY);
        assert!(imagined.iter().all(|demand| demand.set.len() < 2));
    }

    #[test]
    fn folds_hold_everything_back_once() {
        let catalog = catalog(&[1.0; 3]);
        let mut workload = workload(&catalog, &[&[0], &[0], &[1], &[2]]);
        workload.demands[2].calls = 3_000.0;
        let folds = folds(&workload, 3);
        for (kept, held) in &folds {
            assert!((kept.calls() + held.calls() - workload.calls()).abs() < 1e-9);
        }
        let held: f64 = folds.iter().map(|(_, held)| held.calls()).sum();
        assert!((held - workload.calls()).abs() < 1e-9);
    }
}
