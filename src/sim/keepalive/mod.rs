//! Keep-alive simulation: which containers stay, when memory is short.
//!
//! Owns the choice of a model and what a caller sees of any of them: a [`Cell`] says what to
//! simulate (model, policy, memory), a [`Job`] plays it, its [`Counts`] say what came of it.
//!
//! | model | is |
//! |---|---|
//! | [`classic`] | the published simulator, call for call, faults included |
//! | course | the same with another price of a miss; its only policy is RAND |

pub mod classic;
mod classic_hist;
mod heap;
mod mersenne;
pub mod report;

use super::sweep::Player;
use super::trace::{Arrival, Function};
use classic::{Classic, Edition};
use core::fmt::Write as _;
use report::{Counts, Outcome, Victim};

/// Which simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Classic,
    Course,
}

impl Model {
    pub const ALL: [Self; 2] = [Self::Classic, Self::Course];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Course => "course",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }

    /// Every policy that this model knows, in the order in which tables show them.
    pub fn policies(self) -> Vec<Policy> {
        match self {
            Self::Classic => classic::Policy::ALL
                .into_iter()
                .map(|policy| Policy::Classic(policy, Edition::Classic))
                .collect(),
            Self::Course => vec![Policy::Classic(classic::Policy::Rand, Edition::Course)],
        }
    }
}

/// A policy, and with it the model that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Classic(classic::Policy, Edition),
}

impl Policy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic(policy, _) => policy.name(),
        }
    }

    pub const fn model(self) -> Model {
        match self {
            Self::Classic(_, Edition::Classic) => Model::Classic,
            Self::Classic(_, Edition::Course) => Model::Course,
        }
    }

    /// Whether another seed may give another answer.
    pub const fn has_dice(self) -> bool {
        match self {
            Self::Classic(policy, _) => matches!(policy, classic::Policy::Rand),
        }
    }
}

/// One thing to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    pub policy: Policy,
    pub memory_mb: f64,
    pub seed: u64,
}

#[derive(Debug)]
enum Simulation {
    Classic(Box<Classic>),
}

/// What a job keeps besides its counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// One letter a call.
    pub outcomes: bool,
    /// One line a call; drained by whoever prints them.
    pub decisions: bool,
}

/// A cell being simulated.
#[derive(Debug)]
pub struct Job {
    cell: Cell,
    simulation: Simulation,
    keep: Keep,
    outcomes: String,
    decisions: String,
    names: Vec<String>,
}

impl Job {
    pub fn new(functions: &[Function], cell: Cell, keep: Keep) -> Self {
        let simulation = match cell.policy {
            Policy::Classic(policy, edition) => {
                let seed = cell.seed as u32;
                let model = Classic::new(functions, policy, edition, cell.memory_mb, seed);
                Simulation::Classic(Box::new(model))
            }
        };
        let named = if keep.decisions { functions } else { &[] };
        let names = named.iter().map(|function| function.name.clone()).collect();
        let (outcomes, decisions) = (String::new(), String::new());
        Self {
            cell,
            simulation,
            keep,
            outcomes,
            decisions,
            names,
        }
    }

    pub fn cell(&self) -> Cell {
        self.cell
    }

    pub fn counts(&self) -> &Counts {
        match &self.simulation {
            Simulation::Classic(model) => model.counts(),
        }
    }

    pub fn outcomes(&self) -> &str {
        &self.outcomes
    }

    /// The decisions since the last time this was asked.
    pub fn take_decisions(&mut self) -> String {
        core::mem::take(&mut self.decisions)
    }

    fn explain(&mut self, arrival: Arrival, outcome: Outcome) {
        let Self {
            simulation,
            decisions,
            names,
            ..
        } = self;
        let name = |function: u32| names[function as usize].as_str();
        let victims: &[Victim] = match simulation {
            Simulation::Classic(model) => model.victims(),
        };
        // Writing to a string does not fail.
        let what = outcome.word();
        let _ = write!(
            decisions,
            "{} {} {what}",
            arrival.t_ms,
            name(arrival.function)
        );
        for (index, victim) in victims.iter().enumerate() {
            let joint = if index == 0 { "; evicted" } else { "," };
            let Victim { function, priority } = *victim;
            let _ = write!(decisions, "{joint} {} (worth {priority})", name(function));
        }
        decisions.push('\n');
    }
}

impl Player for Job {
    fn play(&mut self, batch: &[Arrival]) {
        for &arrival in batch {
            let outcome = match &mut self.simulation {
                Simulation::Classic(model) => model.call(arrival),
            };
            if self.keep.outcomes {
                self.outcomes.push(outcome.letter());
            }
            if self.keep.decisions {
                self.explain(arrival, outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_models_find_each_other() {
        for model in Model::ALL {
            assert_eq!(Model::parse(model.name()), Some(model));
            assert!(
                model
                    .policies()
                    .iter()
                    .all(|policy| policy.model() == model)
            );
        }
    }

    #[test]
    fn decisions_name_who_went_for_whom() {
        let functions = [
            Function::plain("a", 60.0, 20.0, 10.0),
            Function::plain("b", 60.0, 20.0, 10.0),
        ];
        let cell = Cell {
            policy: Policy::Classic(classic::Policy::Lru, Edition::Classic),
            memory_mb: 100.0,
            seed: 0,
        };
        let keep = Keep {
            outcomes: true,
            decisions: true,
        };
        let mut job = Job::new(&functions, cell, keep);
        job.play(
            &[(0.0, 0), (1.0, 1), (30.0, 1)].map(|(t_ms, function)| Arrival { t_ms, function }),
        );
        assert_eq!(job.outcomes(), "mdm");
        let wanted = "0 a miss\n1 b drop\n30 b miss; evicted a (worth 0)\n";
        assert_eq!(job.take_decisions(), wanted);
        assert_eq!(job.take_decisions(), "");
    }
}
