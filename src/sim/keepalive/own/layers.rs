//! What sandboxes are made of: a function's own state on packages on a runtime.
//!
//! [`Layers`] is the shape, the same for a whole trace: nodes of a zygote tree with what each takes
//! on top of its parent, and for each function the node that it stands on and what is its own. A
//! start makes whatever is missing of the stack; what is there already is shared and paid for once.
//! When a sandbox goes its layers stay, until nobody stands on them and their time is over.
//!
//! ```text
//! runtime <-- numpy <-- pandas <-- report's own      absent --a start needs it--> stood on
//!                   '-- model's own                     ^                           | ^
//!                                                       '- evicted, expired -- bare <-' stood on
//! ```
//!
//! Where functions tell their packages, nodes are the sets that they ask for and what two of those
//! have in common, each below the node that saves it most (the live worker's lookup), at the costs
//! of `ol sim worker`. A plain trace tells no more than two times; there one layer stands for the
//! runtime. Since it is the same for everybody it can be no more than what the lightest function
//! takes: this share of the shortest start, and of the smallest memory.

use super::{Event, Own};
use crate::base::{Bytes, Duration, Package, PackageSet};
use crate::policy::keep::{History, Thing, Use};
use crate::policy::{Evict, Lookup, NodeId, Tree};
use crate::sim::trace::{Function, Header};
use crate::sim::worker::{Costs, cost};
use std::collections::BTreeMap;

/// Of the lightest function, what is the runtime's, in percent.
pub const RUNTIME_SHARE_PERCENT: u32 = 50;
/// Sets that are compared with each other, those of most functions.
const SETS_MAX: usize = 128;
/// Nodes made of sets.
const LAYERS_MAX: usize = 512;
/// What a function has to itself at least, however much it shares.
const OWN_MIN_MB: f64 = 2.0;

/// The layers under the functions of a trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers {
    /// Parents before their children.
    nodes: Vec<Layer>,
    stands: Vec<Stand>,
}

/// What a node takes on top of its parent.
#[derive(Debug, Clone, PartialEq)]
struct Layer {
    name: String,
    parent: Option<u32>,
    start_ms: f64,
    mem_mb: f64,
}

/// Where a function stands, and what is its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stand {
    pub node: Option<u32>,
    pub start_ms: f64,
    pub mem_mb: f64,
}

fn start_ms(function: &Function) -> f64 {
    f64::max(function.cold_ms - function.warm_ms, 0.0)
}

/// Standing on nothing.
fn whole(function: &Function) -> Stand {
    Stand {
        node: None,
        start_ms: start_ms(function),
        mem_mb: function.mem_mb,
    }
}

impl Layers {
    /// Whole sandboxes, nothing shared.
    pub fn none(functions: &[Function]) -> Self {
        Self {
            nodes: Vec::new(),
            stands: functions.iter().map(whole).collect(),
        }
    }

    /// As much as the trace tells.
    pub fn of(header: &Header, runtime_share: f64) -> Self {
        if header
            .functions
            .iter()
            .all(|function| names(function).is_empty())
        {
            Self::runtime(&header.functions, runtime_share)
        } else {
            Self::packages(header)
        }
    }

    fn runtime(functions: &[Function], share: f64) -> Self {
        let least = |figures: &mut dyn Iterator<Item = f64>| figures.fold(f64::INFINITY, f64::min);
        let starting = || functions.iter().filter(|function| start_ms(function) > 0.0);
        let start = least(&mut starting().map(start_ms)) * share;
        let mem_mb = least(&mut starting().map(|function| function.mem_mb)) * share;
        let mut layers = Self::none(functions);
        if !(start > 0.0 && start.is_finite()) {
            return layers;
        }
        layers.nodes.push(Layer {
            name: "runtime".to_owned(),
            parent: None,
            start_ms: start,
            mem_mb,
        });
        layers.place(functions, |_| vec![0]);
        layers
    }

    fn packages(header: &Header) -> Self {
        let costs = Costs::default();
        let weights = cost::weights_of(header);
        let sets: Vec<PackageSet> = header.functions.iter().map(set).collect();
        let mut tree = Tree::new();
        for wanted in worth_a_node(&sets) {
            let parent = Lookup::Best.ranked(&tree, &weights, &wanted)[0].node;
            let above = tree.packages(parent);
            let own = wanted
                .iter()
                .filter(|package| above.get(package.name()).is_none());
            let own: Vec<Package> = own.cloned().collect();
            if !own.is_empty() && tree.add(parent, own).is_err() {
                break; // The tree is full or too deep: what is there will do.
            }
        }
        let layer = |(_, node): (NodeId, &crate::policy::tree::Node)| {
            let own = node.packages.iter();
            let memory: Bytes = own.clone().map(|package| weights.of(package).memory).sum();
            let names: Vec<&str> = own.map(Package::name).collect();
            let Some(parent) = node.parent else {
                return Layer {
                    name: "runtime".to_owned(),
                    parent: None,
                    start_ms: super::ms(costs.fresh),
                    mem_mb: cost::INTERPRETER.as_mb(),
                };
            };
            Layer {
                name: names.join("+"),
                parent: Some(parent.0),
                start_ms: super::ms(weights.import_of(&node.packages)),
                mem_mb: memory.as_mb(),
            }
        };
        let mut layers = Self::none(&header.functions);
        layers.nodes = tree.iter().map(layer).collect();
        layers.place(&header.functions, |function| {
            let ranked = Lookup::Best.ranked(&tree, &weights, &sets[function]);
            ranked.iter().map(|found| found.node.0).collect()
        });
        layers
    }

    /// Each function on the best of its nodes whose stack is no more than the function is itself:
    /// a start from nothing then takes what the trace says, in time and in memory.
    fn place<F: Fn(usize) -> Vec<u32>>(&mut self, functions: &[Function], ranked: F) {
        for (at, function) in functions.iter().enumerate() {
            let all = whole(function);
            for node in ranked(at) {
                let stack = self
                    .chain(Some(node))
                    .map(|node| &self.nodes[node as usize]);
                let (above_ms, above_mb) = stack.fold((0.0, 0.0), |(ms, mb), layer| {
                    (ms + layer.start_ms, mb + layer.mem_mb)
                });
                if above_ms <= all.start_ms && above_mb + OWN_MIN_MB <= all.mem_mb {
                    self.stands[at] = Stand {
                        node: Some(node),
                        start_ms: all.start_ms - above_ms,
                        mem_mb: all.mem_mb - above_mb,
                    };
                    break;
                }
            }
        }
    }

    /// The node and those below it, down to the runtime.
    fn chain(&self, node: Option<u32>) -> impl Iterator<Item = u32> {
        core::iter::successors(node, |&node| self.nodes[node as usize].parent)
    }

    pub(super) fn stand(&self, function: u32) -> Stand {
        self.stands[function as usize]
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What a node adds, for a person.
    pub fn name(&self, node: u32) -> &str {
        &self.nodes[node as usize].name
    }
}

fn names(function: &Function) -> &[String] {
    if function.packages.is_empty() {
        &function.imports
    } else {
        &function.packages
    }
}

fn set(function: &Function) -> PackageSet {
    PackageSet::parse(names(function).iter().map(String::as_str))
}

/// The sets asked for and what two of them share, by how many functions want them; the smaller
/// before the larger, so that parents come first.
fn worth_a_node(sets: &[PackageSet]) -> Vec<PackageSet> {
    let mut counted: BTreeMap<PackageSet, usize> = BTreeMap::new();
    for set in sets.iter().filter(|set| !set.is_empty()) {
        *counted.entry(set.clone()).or_default() += 1;
    }
    let mut common: Vec<(PackageSet, usize)> = counted.clone().into_iter().collect();
    common.sort_by_key(|(_, functions)| core::cmp::Reverse(*functions));
    common.truncate(SETS_MAX);
    for (at, (one, _)) in common.iter().enumerate() {
        for (other, _) in &common[..at] {
            let both = one.iter().filter(|package| other.allows(package));
            let both = PackageSet::new(both.cloned().collect());
            if !both.is_empty() {
                *counted.entry(both).or_default() += 1;
            }
        }
    }
    let mut worth: Vec<(PackageSet, usize)> = counted.into_iter().collect();
    worth.sort_by_key(|(_, functions)| core::cmp::Reverse(*functions));
    worth.truncate(LAYERS_MAX);
    let mut worth: Vec<PackageSet> = worth.into_iter().map(|(set, _)| set).collect();
    worth.sort_by_key(PackageSet::len);
    worth
}

/// What becomes of one node.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub is_there: bool,
    /// Containers and nodes right above it.
    pub stood_on_by: u32,
    /// Busy containers anywhere above it.
    pub busy: u32,
    pub bare_since_ms: f64,
    pub history: History,
}

impl Kept {
    pub fn absent(evict: Evict) -> Self {
        Self {
            is_there: false,
            stood_on_by: 0,
            busy: 0,
            bare_since_ms: 0.0,
            history: evict.history(),
        }
    }

    pub const fn is_bare(&self) -> bool {
        self.is_there && self.stood_on_by == 0
    }
}

/// What a start of a function would have to make below it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Missing {
    pub start_ms: f64,
    pub mem_mb: f64,
    /// Of its stack, what no busy container holds.
    pub unheld_mb: f64,
    /// Something was there to begin from.
    pub some_there: bool,
}

impl Own {
    pub(super) fn missing(&self, function: u32) -> Missing {
        let mut missing = Missing::default();
        for node in self.layers.chain(self.layers.stand(function).node) {
            let (layer, kept) = (&self.layers.nodes[node as usize], &self.kept[node as usize]);
            if kept.is_there {
                missing.some_there = true;
            } else {
                missing.start_ms += layer.start_ms;
                missing.mem_mb += layer.mem_mb;
            }
            if kept.busy == 0 {
                missing.unheld_mb += layer.mem_mb;
            }
        }
        missing
    }

    /// A start of the function wants all of its stack, whether it is there or not.
    pub(super) fn want_stack(&mut self, function: u32, now: f64) {
        let used = Use {
            now: super::time(now),
            busy: 0,
            clock: self.clock,
        };
        for node in self.layers.chain(self.layers.stand(function).node) {
            let history = &mut self.kept[node as usize].history;
            history.arrived(&used);
            history.used(&used);
        }
    }

    /// Something new stands on the node; what is missing of its stack is made.
    pub(super) fn step_on(&mut self, mut node: Option<u32>) {
        while let Some(at) = node {
            let kept = &mut self.kept[at as usize];
            kept.stood_on_by += 1;
            if kept.is_there {
                return;
            }
            kept.is_there = true;
            let layer = &self.layers.nodes[at as usize];
            self.used_mb += layer.mem_mb;
            node = layer.parent;
        }
    }

    /// What stood on the node is gone.
    pub(super) fn step_off(&mut self, node: Option<u32>, now: f64) {
        let Some(at) = node else { return };
        let kept = &mut self.kept[at as usize];
        kept.stood_on_by -= 1;
        if kept.stood_on_by > 0 {
            return;
        }
        kept.bare_since_ms = now;
        kept.history.released(0, super::time(now));
        if let Some(span) = kept.history.stay().used {
            self.schedule(now + super::ms(span), Event::Bared(at));
        }
    }

    /// A busy container above holds the whole stack, or holds it no more.
    pub(super) fn hold_stack(&mut self, function: u32, holds: bool) {
        for node in self.layers.chain(self.layers.stand(function).node) {
            let kept = &mut self.kept[node as usize];
            let mem_mb = self.layers.nodes[node as usize].mem_mb;
            if holds {
                kept.busy += 1;
                if kept.busy == 1 {
                    self.busy_mb += mem_mb;
                }
            } else {
                kept.busy -= 1;
                if kept.busy == 0 {
                    self.busy_mb -= mem_mb;
                }
            }
        }
    }

    /// The time of a layer may be over.
    pub(super) fn bared(&mut self, node: u32, now: f64) {
        let kept = &self.kept[node as usize];
        let Some(span) = kept.history.stay().used.filter(|_| kept.is_bare()) else {
            return;
        };
        let ends_ms = kept.bare_since_ms + super::ms(span);
        if ends_ms > now {
            return self.schedule(ends_ms, Event::Bared(node));
        }
        self.remove_layer(node, now);
    }

    pub(super) fn remove_layer(&mut self, node: u32, now: f64) {
        let kept = &mut self.kept[node as usize];
        assert!(kept.is_bare(), "somebody stands on it");
        kept.is_there = false;
        kept.history.lost(0);
        self.counts.layer_evictions += 1;
        let Layer { parent, mem_mb, .. } = self.layers.nodes[node as usize];
        self.used_mb -= mem_mb;
        self.step_off(parent, now);
    }

    pub(super) fn layer_mb(&self, node: u32) -> f64 {
        self.layers.nodes[node as usize].mem_mb
    }

    pub(super) fn parent_of(&self, node: u32) -> Option<u32> {
        self.layers.nodes[node as usize].parent
    }

    pub(super) fn is_below(&self, node: u32, function: u32) -> bool {
        let mut stack = self.layers.chain(self.layers.stand(function).node);
        stack.any(|below| below == node)
    }

    /// What a bare layer is worth, if it were bare now.
    pub(super) fn worth_of_layer(&mut self, node: u32, now: f64) -> f64 {
        let layer = &self.layers.nodes[node as usize];
        let kept = &mut self.kept[node as usize];
        let since_ms = if kept.is_bare() {
            kept.bare_since_ms
        } else {
            now
        };
        let thing = Thing {
            rebuild: Duration::from_secs_f64(layer.start_ms / 1e3),
            memory: Bytes::new((layer.mem_mb * (1 << 20) as f64) as u64),
            level: 1,
            last_use: super::time(since_ms),
            now: super::time(now),
            name: u64::from(u32::MAX - node) ^ self.seed,
        };
        kept.history.remember(&thing);
        kept.history.worth(&thing)
    }
}
