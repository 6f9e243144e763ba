//! The cache of the 2018 system, simulated: every call that finds no exact zygote makes one.
//!
//! A call takes the zygote with exactly its packages, or else the best that has only some of them,
//! and then a new zygote with the whole rest is forked from that one. When all places are taken the
//! childless zygote with the least hits for its size goes. What it holds in the end is its tree; a
//! test half meets it as it changes, since that is how it lived.
//!
//! Its pathology: where every pair of packages is asked for once, each call makes a zygote that
//! nobody asks for again.

use super::plan::{NODE_MB, Plan, TRACED_FACTOR};
use super::set::ItemSet;
use super::workload::{Catalog, Workload};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// The zygotes alive.
#[derive(Debug, Clone)]
pub struct Cache<'a> {
    catalog: &'a Catalog,
    nodes_max: usize,
    memory_max_mb: f64,
    slots: Vec<Option<Zygote>>,
    exact: BTreeMap<ItemSet, usize>,
    live: usize,
    memory_mb: f64,
}

#[derive(Debug, Clone)]
struct Zygote {
    set: ItemSet,
    import_ms: f64,
    size_mb: f64,
    hits: f64,
    parent: usize,
    children: u32,
    /// Order of birth.
    born: u64,
}

impl<'a> Cache<'a> {
    /// `nodes` counts the root.
    pub fn new(catalog: &'a Catalog, nodes: usize, memory_mb: f64) -> Self {
        let set = catalog.empty_set();
        let root = Zygote {
            set: set.clone(),
            import_ms: 0.0,
            size_mb: super::plan::ROOT_MB,
            hits: 0.0,
            parent: 0,
            children: 0,
            born: 0,
        };
        Self {
            catalog,
            nodes_max: nodes,
            memory_max_mb: memory_mb,
            memory_mb: root.size_mb,
            slots: vec![Some(root)],
            exact: BTreeMap::from([(set, 0)]),
            live: 1,
        }
    }

    /// Import time that is left for this call; the cache is changed by it.
    pub fn call(&mut self, set: &ItemSet, number: u64) -> f64 {
        let at = match self.exact.get(set) {
            Some(at) => *at,
            None => self.best_subset(set),
        };
        let zygote = self.slots[at].as_mut().expect("found among the living");
        zygote.hits += 1.0;
        let (has, saved_ms) = (zygote.set.clone(), zygote.import_ms);
        let residual_ms = f64::max(self.catalog.import_ms(set) - saved_ms, 0.0);
        if has != *set {
            self.make(at, set, &has, number + 1);
        }
        residual_ms
    }

    fn best_subset(&self, set: &ItemSet) -> usize {
        let mut best = (0, 0.0);
        for (at, zygote) in self.slots.iter().enumerate() {
            let Some(zygote) = zygote else { continue };
            if zygote.import_ms > best.1 && zygote.set.is_within(set) {
                best = (at, zygote.import_ms);
            }
        }
        best.0
    }

    fn make(&mut self, parent: usize, set: &ItemSet, has: &ItemSet, born: u64) {
        let rest_mb = self.catalog.mem_mb(&set.without(has));
        let size_mb = NODE_MB + TRACED_FACTOR * rest_mb;
        self.parent_of(parent).children += 1;
        while self.live + 1 > self.nodes_max || self.memory_mb + size_mb > self.memory_max_mb {
            if !self.evict() {
                self.parent_of(parent).children -= 1;
                return;
            }
        }
        let zygote = Zygote {
            set: set.clone(),
            import_ms: self.catalog.import_ms(set),
            size_mb,
            hits: 0.0,
            parent,
            children: 0,
            born,
        };
        let free = self.slots.iter().position(Option::is_none);
        let at = free.unwrap_or(self.slots.len());
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[at] = Some(zygote);
        self.exact.insert(set.clone(), at);
        self.live += 1;
        self.memory_mb += size_mb;
    }

    fn parent_of(&mut self, at: usize) -> &mut Zygote {
        let parent = self.slots[at].as_mut();
        parent.expect("a zygote with a child is not evicted")
    }

    /// False: nobody may go.
    fn evict(&mut self) -> bool {
        let mut victim: Option<(usize, f64, u64)> = None;
        for (at, zygote) in self.slots.iter().enumerate().skip(1) {
            let Some(zygote) = zygote.as_ref().filter(|zygote| zygote.children == 0) else {
                continue;
            };
            let worth = zygote.hits / zygote.size_mb;
            let less = |(_, than, born): (usize, f64, u64)| {
                worth < than || (worth <= than && zygote.born < born)
            };
            if victim.is_none_or(less) {
                victim = Some((at, worth, zygote.born));
            }
        }
        let Some((at, ..)) = victim else {
            return false;
        };
        let gone = self.slots[at].take().expect("it was found there");
        self.exact.remove(&gone.set);
        self.parent_of(gone.parent).children -= 1;
        self.live -= 1;
        self.memory_mb -= gone.size_mb;
        true
    }

    /// What it holds now, the most used first.
    pub fn plan(&self) -> Plan {
        let mut alive: Vec<&Zygote> = self.slots.iter().flatten().skip(1).collect();
        alive.sort_by(|a, b| b.hits.total_cmp(&a.hits).then(a.born.cmp(&b.born)));
        let sets: Vec<ItemSet> = alive.iter().map(|zygote| zygote.set.clone()).collect();
        Plan::from_sets(self.catalog, &sets)
    }
}

/// The cache after the workload's calls; those whose order nobody kept come by sets.
pub fn run<'a>(catalog: &'a Catalog, workload: &Workload, nodes: usize, mb: f64) -> Cache<'a> {
    let mut cache = Cache::new(catalog, nodes, mb);
    replay(&mut cache, workload);
    cache
}

/// Import time left on the path of all calls.
pub fn replay(cache: &mut Cache<'_>, workload: &Workload) -> f64 {
    let mut residual_ms = 0.0;
    for (number, demand) in workload.sequence.iter().enumerate() {
        let set = &workload.demands[*demand as usize].set;
        residual_ms += cache.call(set, number as u64);
    }
    residual_ms
}

#[cfg(test)]
mod tests {
    use super::super::workload::tests::{catalog, workload};
    use super::*;

    #[test]
    fn an_exact_zygote_is_made_and_the_least_used_goes() {
        let catalog = catalog(&[10.0, 20.0, 30.0]);
        let calls = workload(&catalog, &[&[0], &[0], &[1], &[2], &[0, 1]]);
        let mut cache = Cache::new(&catalog, 3, f64::INFINITY);
        let left: Vec<f64> = calls
            .sequence
            .iter()
            .enumerate()
            .map(|(number, at)| cache.call(&calls.demands[*at as usize].set, number as u64))
            .collect();
        // The fourth finds no room: {1} was never hit, so it goes; {0, 1} is made from {0}.
        assert_eq!(left, [10.0, 0.0, 20.0, 30.0, 20.0]);
        let plan = cache.plan();
        let own: Vec<Vec<usize>> = plan.nodes.iter().map(|n| n.own.iter().collect()).collect();
        assert_eq!(own, [vec![], vec![0], vec![1]]);
    }

    #[test]
    fn a_cache_without_room_is_a_bare_root() {
        let catalog = catalog(&[10.0]);
        let calls = workload(&catalog, &[&[0], &[0]]);
        let mut cache = Cache::new(&catalog, 1, f64::INFINITY);
        assert!((replay(&mut cache, &calls) - 20.0).abs() < 1e-9);
        assert_eq!(cache.plan().len(), 1);
    }
}
