//! Fitting: from calls to the zygote tree that serves them best. The serving side is
//! `policy::tree` and `policy::lookup`; this room makes what they serve.
//!
//! ```text
//! Catalog + Workload --fit(Algorithm, Wish)--> Plan --score(Lookup)--> what is left, memory
//! ```
//!
//! Everything here is arithmetic on numbers: the same input gives the same tree on every machine.

pub mod cover;
pub mod future;
pub mod ground;
pub mod objective;
pub mod plan;
pub mod rules;
pub mod score;
pub mod set;
pub mod setcover;
pub mod sock2018;
pub mod workload;

pub use future::Smoothing;
pub use objective::Objective;
pub use plan::{Plan, PlanNode};
pub use score::{Score, score};
pub use set::ItemSet;
pub use workload::{Catalog, Demand, Item, Workload};

use crate::policy::tree::NODES_MAX;
use alloc::vec::Vec;
use rules::{Prerequisites, Rule};

/// How a tree is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Rule0,
    Rule1,
    Rule2,
    Rule3,
    Rule4,
    Multi,
    MultiCount,
    Sock2018,
    SetCover,
}

impl Algorithm {
    pub const ALL: [Self; 9] = [
        Self::Rule0,
        Self::Rule1,
        Self::Rule2,
        Self::Rule3,
        Self::Rule4,
        Self::Multi,
        Self::MultiCount,
        Self::Sock2018,
        Self::SetCover,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule0 => "rule0",
            Self::Rule1 => "rule1",
            Self::Rule2 => "rule2",
            Self::Rule3 => "rule3",
            Self::Rule4 => "rule4",
            Self::Multi => "multi",
            Self::MultiCount => "multi-count",
            Self::Sock2018 => "sock2018",
            Self::SetCover => "setcover",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// For those that split.
    pub const fn rule(self) -> Option<Rule> {
        let (prerequisites, timed, entropy, inherited) = match self {
            Self::Rule0 => (Prerequisites::Ignored, false, false, false),
            Self::Rule1 => (Prerequisites::First, false, false, false),
            Self::Rule2 => (Prerequisites::First, true, false, false),
            Self::Rule3 => (Prerequisites::First, true, true, false),
            Self::Rule4 => (Prerequisites::First, true, true, true),
            Self::Multi => (Prerequisites::Along, true, false, false),
            Self::MultiCount => (Prerequisites::Along, false, false, false),
            Self::Sock2018 | Self::SetCover => return None,
        };
        Some(Rule {
            prerequisites,
            timed,
            entropy,
            inherited,
        })
    }
}

/// What the tree is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// At most, the root counted.
    pub nodes: usize,
    /// At most, of the whole tree.
    pub memory_mb: Option<f64>,
    pub objective: Objective,
    /// Calls of the workload, against which building is weighed.
    pub calls: f64,
    /// None: chosen by cross-validation.
    pub smoothing: Option<Smoothing>,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            nodes: NODES_MAX,
            memory_mb: None,
            objective: Objective::IMPORTS,
            calls: 1.0,
            smoothing: None,
        }
    }
}

impl Wish {
    pub fn nodes(nodes: usize) -> Self {
        Self {
            nodes,
            ..Self::default()
        }
    }
}

/// The tree that this algorithm makes of the workload.
pub fn fit(catalog: &Catalog, workload: &Workload, algorithm: Algorithm, wish: &Wish) -> Plan {
    let mut plans = fit_sizes(catalog, workload, algorithm, wish, &[wish.nodes]);
    plans.pop().expect("a plan for the one size")
}

/// One tree for each of these numbers of nodes.
pub fn fit_sizes(
    catalog: &Catalog,
    workload: &Workload,
    algorithm: Algorithm,
    wish: &Wish,
    sizes: &[usize],
) -> Vec<Plan> {
    let memory_mb = wish.memory_mb.unwrap_or(f64::INFINITY);
    match algorithm {
        Algorithm::SetCover => {
            let fitted = setcover::fit(catalog, workload, wish, sizes);
            fitted.into_iter().map(|fitted| fitted.plan).collect()
        }
        Algorithm::Sock2018 => sizes
            .iter()
            .map(|size| sock2018::run(catalog, workload, *size, memory_mb).plan())
            .collect(),
        _ => {
            let rule = algorithm.rule().expect("the others were dealt with");
            let most = sizes.iter().copied().max().unwrap_or(1);
            let grown = rules::fit(catalog, workload, rule, most);
            let cut = |size: &usize| grown.first(catalog, *size, memory_mb);
            sizes.iter().map(cut).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::workload::tests::{catalog, workload};
    use super::*;
    use crate::policy::lookup::Lookup;

    #[test]
    fn names_are_read_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("rule5"), None);
    }

    #[test]
    fn a_tree_of_every_algorithm_keeps_its_bounds() {
        let catalog = catalog(&[5.0, 7.0, 11.0, 13.0, 1.0]);
        let calls: &[&[u32]] = &[&[0, 1], &[1, 2, 3], &[0], &[4], &[0, 1, 4], &[]];
        let workload = workload(&catalog, calls);
        for algorithm in Algorithm::ALL {
            for nodes in [1, 2, 3, 50] {
                let plan = fit(&catalog, &workload, algorithm, &Wish::nodes(nodes));
                assert!(plan.len() <= nodes, "{}: {}", algorithm.name(), plan.len());
                assert!(plan.nodes[0].set.is_empty());
            }
            let wish = Wish {
                memory_mb: Some(75.0),
                ..Wish::nodes(50)
            };
            let plan = fit(&catalog, &workload, algorithm, &wish);
            assert!(plan.memory_mb(&catalog) <= 75.0, "{}", algorithm.name());
        }
    }

    #[test]
    fn the_pathological_case_of_pairs() {
        // Each pair of twelve packages once: nothing comes again.
        let catalog = catalog(&[10.0; 12]);
        let pairs: Vec<Vec<u32>> = (0..12)
            .flat_map(|a| (0..a).map(move |b| alloc::vec![a, b]))
            .collect();
        let calls: Vec<&[u32]> = pairs.iter().map(Vec::as_slice).collect();
        let workload = workload(&catalog, &calls);
        let left = |algorithm| {
            let plan = fit(&catalog, &workload, algorithm, &Wish::nodes(12));
            score(&catalog, &plan, &workload, Lookup::Best).mean_residual_ms()
        };
        assert!(left(Algorithm::SetCover) < left(Algorithm::Sock2018));
    }
}
