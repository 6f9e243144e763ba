//! A day that never was: a thousand functions, a million calls, packages as people use them.
//!
//! What `ol sim worker` runs when no trace is given. Functions ask for some of the packages that
//! many functions use, the popular ones more often; the tree that goes with it has the combinations
//! that pay.

use super::cost::TYPICAL;
use crate::base::{Package, Random};
use crate::engine::ZygoteTree;
use crate::policy::tree::{NodeId, Tree, Weights};
use crate::sim::trace::generate::{Kind, Plan, generate};
use crate::sim::trace::{Arrival, Reader};

/// Milliseconds of a day.
pub const DAY_MS: f64 = 86_400_000.0;

/// The processes are random: with this many more than wanted there are nearly always enough.
const SURPLUS: f64 = 1.2;

/// How large a day to make up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Day {
    pub functions: usize,
    pub calls: u64,
    pub length_ms: f64,
    pub seed: u64,
}

impl Day {
    pub const DEFAULT: Self = Self {
        functions: 1_000,
        calls: 1_000_000,
        length_ms: DAY_MS,
        seed: 0,
    };

    fn plan(&self) -> Plan {
        Plan {
            kind: Kind::Mixed,
            functions: self.functions,
            rate: self.calls as f64 * 1_000.0 * SURPLUS / self.length_ms,
            length_ms: self.length_ms,
            seed: self.seed,
        }
    }

    /// Why there cannot be such a day.
    pub fn refusal(&self) -> Option<String> {
        self.plan().refusal()
    }

    /// The day as a trace.
    pub fn reader(&self) -> Reader {
        let (mut header, arrivals) = generate(&self.plan());
        let mut random = Random::new(self.seed ^ 0x00DA_7A5E_7000);
        for function in &mut header.functions {
            function.packages = packages(&mut random);
        }
        let arrivals: Vec<Arrival> = arrivals.take(self.calls as usize).collect();
        Reader::from_memory("day", header, arrivals)
    }
}

/// None for a third of the functions, else one to four, the later ones of the list more often, with
/// what they need themselves.
fn packages(random: &mut Random) -> Vec<String> {
    let mut chosen: Vec<&str> = Vec::new();
    if random.chance(0.33) {
        return Vec::new();
    }
    for _ in 0..=random.below(4) {
        let place = f64::sqrt(random.unit()) * TYPICAL.len() as f64;
        chosen.push(TYPICAL[place as usize % TYPICAL.len()].0);
    }
    for (package, needs) in NEEDS {
        if chosen.contains(&package) {
            chosen.extend(needs);
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().map(String::from).collect()
}

/// What packages need, in an order in which one pass is enough.
const NEEDS: [(&str, &[&str]); 6] = [
    ("matplotlib", &["numpy", "pillow", "python-dateutil", "six"]),
    ("scikit-learn", &["scipy", "numpy"]),
    ("pandas", &["numpy", "python-dateutil", "six"]),
    ("scipy", &["numpy"]),
    ("flask", &["jinja2"]),
    ("python-dateutil", &["six"]),
];

/// The tree that goes with the day.
pub fn tree(weights: Weights) -> ZygoteTree {
    let mut tree = Tree::new();
    let mut add = |parent: NodeId, names: &[&str]| {
        let packages = names.iter().map(|name| Package::parse(name)).collect();
        let added = tree.add(parent, packages);
        added.expect("a small tree")
    };
    let numpy = add(NodeId::ROOT, &["numpy"]);
    let scipy = add(numpy, &["scipy"]);
    add(scipy, &["scikit-learn"]);
    let dateutil = add(numpy, &["six", "python-dateutil"]);
    add(dateutil, &["pandas"]);
    add(dateutil, &["pillow", "matplotlib"]);
    add(NodeId::ROOT, &["jinja2", "flask"]);
    add(NodeId::ROOT, &["sqlalchemy"]);
    add(NodeId::ROOT, &["sympy"]);
    add(NodeId::ROOT, &["requests"]);
    let installed = tree.iter().map(|(id, _)| id).collect();
    ZygoteTree {
        generation: 1,
        tree,
        weights,
        installed,
        stocked: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_day_and_its_calls_are_counted() {
        let day = Day {
            functions: 40,
            calls: 2_000,
            length_ms: 3_600_000.0,
            seed: 3,
        };
        let (mut first, mut second) = (day.reader(), day.reader());
        assert_eq!(first.header(), second.header());
        let arrivals = first.read_to_end().unwrap();
        assert_eq!(arrivals, second.read_to_end().unwrap());
        assert!((1_000..=2_000).contains(&arrivals.len()));
    }

    #[test]
    fn packages_come_with_what_they_need() {
        let mut random = Random::new(9);
        for _ in 0..500 {
            let chosen = packages(&mut random);
            for (package, needs) in NEEDS {
                if chosen.iter().any(|name| name == package) {
                    assert!(
                        needs
                            .iter()
                            .all(|need| chosen.iter().any(|name| name == need))
                    );
                }
            }
        }
    }
}
