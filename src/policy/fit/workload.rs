//! What a tree is fitted to: packages with their costs, and calls folded to distinct sets.
//!
//! Numbers instead of names: whoever read the trace keeps the names. Two workloads that share a
//! [`Catalog`] (a night and the next, a train and a test half) can be scored against one tree.

use super::set::ItemSet;
use alloc::vec;
use alloc::vec::Vec;

/// All packages that a trace names.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub items: Vec<Item>,
}

/// One package, in one version where the trace tells versions apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Of the import itself, dependencies loaded already.
    pub import_ms: f64,
    pub mem_mb: f64,
    /// The same for all versions of a package: no call has two of them.
    pub family: u32,
    /// Sets of packages, itself among them, that it was seen to need; empty: nobody said.
    pub closures: Vec<Vec<u32>>,
}

/// Calls with equal sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    pub set: ItemSet,
    pub calls: f64,
}

/// Calls, folded, and the order they came in as far as that is known.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    pub demands: Vec<Demand>,
    /// Indices into `demands`.
    pub sequence: Vec<u32>,
}

impl Catalog {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn empty_set(&self) -> ItemSet {
        ItemSet::new(self.len())
    }

    pub fn import_ms(&self, set: &ItemSet) -> f64 {
        let each = set.iter().map(|item| self.items[item].import_ms);
        each.fold(0.0, |sum, ms| sum + ms)
    }

    pub fn mem_mb(&self, set: &ItemSet) -> f64 {
        let each = set.iter().map(|item| self.items[item].mem_mb);
        each.fold(0.0, |sum, mb| sum + mb)
    }

    /// Whether two versions of one package are in it.
    pub fn has_rivals(&self, set: &ItemSet) -> bool {
        let mut families: Vec<u32> = set.iter().map(|item| self.items[item].family).collect();
        families.sort_unstable();
        families.windows(2).any(|pair| pair[0] == pair[1])
    }
}

impl Workload {
    /// Folds calls with equal sets; demands are in order of first appearance.
    pub fn fold<'a, I: IntoIterator<Item = &'a ItemSet>>(calls: I) -> Self {
        let mut places: alloc::collections::BTreeMap<&ItemSet, u32> =
            alloc::collections::BTreeMap::new();
        let mut folded = Self::default();
        for set in calls {
            let next = folded.demands.len() as u32;
            let place = *places.entry(set).or_insert(next);
            if place == next {
                let set = set.clone();
                folded.demands.push(Demand { set, calls: 0.0 });
            }
            folded.demands[place as usize].calls += 1.0;
            folded.sequence.push(place);
        }
        folded
    }

    pub fn calls(&self) -> f64 {
        self.demands.iter().map(|demand| demand.calls).sum()
    }

    /// Import time of all calls, were there no tree.
    pub fn import_ms(&self, catalog: &Catalog) -> f64 {
        let each = self.demands.iter();
        each.map(|demand| demand.calls * catalog.import_ms(&demand.set))
            .sum()
    }

    /// The smallest set of packages that every call with this package had; empty where none had it.
    pub fn closures(&self, catalog: &Catalog) -> Vec<ItemSet> {
        let mut closures: Vec<Option<ItemSet>> = vec![None; catalog.len()];
        for demand in &self.demands {
            for item in demand.set.iter() {
                let closure = &mut closures[item];
                *closure = Some(match closure.take() {
                    Some(seen) => seen.and(&demand.set),
                    None => demand.set.clone(),
                });
            }
        }
        let empty = || catalog.empty_set();
        closures
            .into_iter()
            .map(|closure| closure.unwrap_or_else(empty))
            .collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Packages with these import times and a tenth of that in megabytes.
    pub fn catalog(import_ms: &[f64]) -> Catalog {
        let item = |(number, ms): (usize, &f64)| Item {
            import_ms: *ms,
            mem_mb: ms / 10.0,
            family: number as u32,
            closures: Vec::new(),
        };
        Catalog {
            items: import_ms.iter().enumerate().map(item).collect(),
        }
    }

    pub fn workload(catalog: &Catalog, calls: &[&[u32]]) -> Workload {
        let sets: Vec<ItemSet> = calls
            .iter()
            .map(|call| ItemSet::of(catalog.len(), call.iter().copied()))
            .collect();
        Workload::fold(&sets)
    }

    #[test]
    fn equal_calls_are_folded_and_their_order_kept() {
        let catalog = catalog(&[1.0, 2.0, 4.0]);
        let workload = workload(&catalog, &[&[0, 1], &[2], &[1, 0], &[]]);
        let calls: Vec<f64> = workload.demands.iter().map(|demand| demand.calls).collect();
        assert_eq!(calls, [2.0, 1.0, 1.0]);
        assert_eq!(workload.sequence, [0, 1, 0, 2]);
        assert!((workload.import_ms(&catalog) - 10.0).abs() < 1e-12);
    }

    #[test]
    fn a_closure_is_what_always_comes_along() {
        let catalog = catalog(&[1.0; 4]);
        let workload = workload(&catalog, &[&[0, 1, 2], &[0, 1], &[1]]);
        let closures = workload.closures(&catalog);
        assert_eq!(closures[0], ItemSet::of(4, [0, 1]));
        assert_eq!(closures[2], ItemSet::of(4, [0, 1, 2]));
        assert!(closures[3].is_empty());
    }
}
