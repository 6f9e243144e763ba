//! What to expect of a tree: for people, and as JSON.

use super::live::Served;
use super::tree_file;
use crate::policy::Lookup;
use crate::policy::fit::score::marginal_ms;
use crate::policy::fit::setcover::Bound;
use crate::policy::fit::{Algorithm, Catalog, Objective, Plan, Score, Smoothing, Workload, score};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Packages of a node that are shown to people.
const SHOWN_MAX: usize = 8;

pub struct Report<'a> {
    pub algorithm: Algorithm,
    pub lookup: Lookup,
    pub catalog: &'a Catalog,
    pub workload: &'a Workload,
    pub plan: &'a Plan,
    pub spellings: &'a [String],
    pub smoothing: Option<Smoothing>,
    /// The budget.
    pub memory_mb: Option<f64>,
    pub objective: Objective,
    /// No tree of so many nodes saves more import time on the trace.
    pub bound: Bound,
    pub against: Option<(&'a str, Served)>,
    pub test: Option<Tested<'a>>,
}

/// Calls that the tree was not fitted to.
pub struct Tested<'a> {
    pub workload: &'a Workload,
    pub against: Option<Served>,
}

/// Cold starts of one workload, every way.
struct Expected {
    calls: f64,
    sets: usize,
    residual_ms: f64,
    hit_share: f64,
    /// From the worker's decision to the function's first line.
    tree_ms: f64,
    root_ms: f64,
    none_ms: f64,
    against: Option<Served>,
}

impl Report<'_> {
    fn expected(&self, workload: &Workload, against: Option<Served>) -> (Expected, Score) {
        let score = score(self.catalog, self.plan, workload, self.lookup);
        let bare = self
            .objective
            .start_ms(self.catalog, &self.catalog.empty_set());
        let expected = Expected {
            calls: score.calls,
            sets: workload.demands.len(),
            residual_ms: score.mean_residual_ms(),
            hit_share: score.hit_share(),
            tree_ms: self.objective.cold_ms(self.catalog, self.plan, &score),
            root_ms: bare + score.mean_import_ms(),
            none_ms: self.objective.fresh_cold_ms(&score),
            against,
        };
        (expected, score)
    }

    /// How far the tree is from the best possible one on the trace, in percent of what that saves.
    fn gap_percent(&self, score: &Score) -> f64 {
        let saved_ms = score.import_ms - score.residual_ms;
        if self.bound.saved_ms <= 0.0 {
            return 0.0;
        }
        f64::max(100.0 * (1.0 - saved_ms / self.bound.saved_ms), 0.0)
    }

    pub fn json(&self) -> Value {
        let (expected, score) = self.expected(self.workload, self.served());
        let replicas = self.objective.replicas(self.catalog, self.plan, &score);
        let memory_mb = self.objective.memory_mb(self.catalog, self.plan, &replicas);
        let mut object = json!({
            "algorithm": self.algorithm.name(),
            "lookup": self.lookup.name(),
            "nodes": self.plan.len(),
            "packages": self.catalog.len(),
            "memory_mb": self.plan.memory_mb(self.catalog),
            "memory_with_copies_mb": memory_mb,
            "package_mb": self.plan.package_mb(self.catalog),
            "build_ms": self.plan.build_ms(self.catalog),
            "smoothing": self.smoothing.map(|smoothing| json!({
                "doubt": smoothing.doubt, "imagined": smoothing.imagined,
            })),
            "bound": {
                "saved_ms": score.import_ms - score.residual_ms,
                "best_possible_ms": self.bound.saved_ms,
                "is_proven": self.bound.is_proven,
                "within_percent": self.gap_percent(&score),
            },
            "expected": expected.json(),
        });
        if let Some((name, _)) = self.against {
            object["against"] = json!(name);
        }
        if let Some(test) = &self.test {
            object["test"] = self.expected(test.workload, test.against).0.json();
        }
        object["explanation"] = self.explanation(&score, &replicas);
        object["tree"] = tree_file::value(self.plan, self.spellings);
        object
    }

    fn served(&self) -> Option<Served> {
        self.against.map(|(_, served)| served)
    }

    fn explanation(&self, score: &Score, replicas: &[f64]) -> Value {
        let marginal = marginal_ms(self.plan, self.workload);
        let node = |(at, node): (usize, &crate::policy::fit::PlanNode)| {
            json!({
                "node": at,
                "parent": node.parent,
                "packages": self.names(node.own.iter()),
                "calls": score.served[at],
                "saved_ms": score.saved_ms[at],
                "lost_without_ms": marginal[at],
                "copies": replicas[at],
                "memory_mb": self.objective.node_mb(self.catalog, &node.own, at == 0),
                "build_ms": self.objective.build_ms(self.catalog, &node.own),
            })
        };
        self.plan.nodes.iter().enumerate().map(node).collect()
    }

    fn names<I: Iterator<Item = usize>>(&self, items: I) -> Vec<&str> {
        items.map(|item| self.spellings[item].as_str()).collect()
    }

    pub fn text(&self) -> String {
        let (expected, score) = self.expected(self.workload, self.served());
        let replicas = self.objective.replicas(self.catalog, self.plan, &score);
        let mut text = self.nodes_text(&score, &replicas);
        let mut line = |line: String| {
            writeln!(text, "{line}").expect("a string takes everything");
        };
        line(format!(
            "\n{} nodes by {}, from {} calls for {} different sets of {} packages",
            self.plan.len(),
            self.algorithm.name(),
            expected.calls,
            expected.sets,
            self.catalog.len(),
        ));
        line(format!(
            "memory: {:.0} MB{}{}; making every node once: {:.1} s of imports",
            self.objective.memory_mb(self.catalog, self.plan, &replicas),
            copies(&replicas),
            self.memory_mb
                .map_or_else(String::new, |mb| format!(" of {mb:.0} MB")),
            self.plan.build_ms(self.catalog) / 1e3,
        ));
        line(format!(
            "within {:.1} % of the best that {} nodes can save on this trace{}",
            self.gap_percent(&score),
            self.plan.len(),
            if self.bound.is_proven {
                ""
            } else {
                ", of the sets that were looked at"
            },
        ));
        let name = self.against.map(|(name, _)| name);
        line(expected.text("a cold start on this trace", name));
        if let Some(test) = &self.test {
            let (held, _) = self.expected(test.workload, test.against);
            line(held.text("a cold start on the test trace", name));
        }
        text
    }

    /// A line a node, as the worker's dump has them, with what it is good for.
    fn nodes_text(&self, score: &Score, replicas: &[f64]) -> String {
        let marginal = marginal_ms(self.plan, self.workload);
        let mut text = String::from("   CALLS   SAVES_MS  WITHOUT_MS       MB  BUILD_MS  NODE\n");
        let mut open = vec![0];
        while let Some(at) = open.pop() {
            let node = &self.plan.nodes[at];
            open.extend(node.children.iter().rev());
            let names = self.names(node.own.iter());
            let shown = names.len().min(SHOWN_MAX);
            let mut held = match at {
                0 => "ROOT".to_owned(),
                _ => names[..shown].join(", "),
            };
            if names.len() > shown {
                write!(held, " and {} more", names.len() - shown)
                    .expect("a string takes everything");
            }
            if replicas[at] > 1.0 {
                write!(held, " ({} copies)", replicas[at]).expect("a string takes everything");
            }
            writeln!(
                text,
                "{:>8.0} {:>10.0} {:>11.0} {:>8.1} {:>9.0}  {:indent$}- {held}",
                score.served[at],
                score.saved_ms[at],
                marginal[at],
                self.objective.node_mb(self.catalog, &node.own, at == 0),
                self.objective.build_ms(self.catalog, &node.own),
                "",
                indent = 2 * node.depth as usize,
            )
            .expect("a string takes everything");
        }
        text
    }
}

fn copies(replicas: &[f64]) -> String {
    let more: f64 = replicas.iter().map(|copies| copies - 1.0).sum();
    if more > 0.0 {
        format!(" with {more} copies of busy nodes")
    } else {
        String::new()
    }
}

impl Expected {
    fn json(&self) -> Value {
        json!({
            "calls": self.calls,
            "sets": self.sets,
            "residual_ms": self.residual_ms,
            "hit_share": self.hit_share,
            "cold_ms": {
                "tree": self.tree_ms,
                "bare_root": self.root_ms,
                "no_tree": self.none_ms,
                "present": self.against.map(|served| served.cold_ms),
            },
            "present_residual_ms": self.against.map(|served| served.residual_ms),
            "saved_ms": {
                "against_no_tree": self.none_ms - self.tree_ms,
                "against_bare_root": self.root_ms - self.tree_ms,
                "against_present": self.against.map(|served| served.cold_ms - self.tree_ms),
            },
        })
    }

    fn text(&self, what: &str, against: Option<&str>) -> String {
        let mut text = format!(
            "{what}: {:.1} ms ({:.1} of imports); with a bare root {:.1} ms, \
             without zygotes {:.1} ms",
            self.tree_ms, self.residual_ms, self.root_ms, self.none_ms,
        );
        if let (Some(name), Some(served)) = (against, self.against) {
            write!(text, ", with {name} {:.1} ms", served.cold_ms)
                .expect("a string takes everything");
        }
        text
    }
}
