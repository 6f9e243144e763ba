//! Keep-alive simulation: which containers stay, when memory is short.
//!
//! Owns the choice of a model and what a caller sees of any of them: a [`Cell`] says what to
//! simulate (model, policy, memory), a [`Job`] plays it, its [`Counts`] say what came of it.
//!
//! | model | is |
//! |---|---|
//! | [`classic`] | the published simulator, call for call, faults included |
//! | course | the same with another price of a miss; its only policy is RAND |
//! | [`own`] | a server without those faults, under the live worker's own policies |

pub mod classic;
mod classic_hist;
pub mod curve;
mod heap;
mod levels;
mod mersenne;
pub mod own;
pub mod report;

use super::sweep::Player;
use super::trace::{Arrival, Function};
use crate::policy::Evict;
use classic::{Classic, Edition};
use own::Own;
use own::future::Future;
use own::layers::Layers;
use report::{Counts, Outcome, Victim};
use std::sync::Arc;

/// Which simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Classic,
    Course,
    Own,
}

impl Model {
    pub const ALL: [Self; 3] = [Self::Classic, Self::Course, Self::Own];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Course => "course",
            Self::Own => "own",
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
            Self::Own => {
                let own = own::Policy::all().map(Policy::Own);
                own.chain([Policy::Bound]).collect()
            }
        }
    }
}

/// A policy, and with it the model that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Classic(classic::Policy, Edition),
    Own(own::Policy),
    /// No policy: what none that starts on demand can go below.
    Bound,
}

impl Policy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic(policy, _) => policy.name(),
            Self::Own(policy) => policy.name(),
            Self::Bound => "BOUND",
        }
    }

    pub const fn model(self) -> Model {
        match self {
            Self::Classic(_, Edition::Classic) => Model::Classic,
            Self::Classic(_, Edition::Course) => Model::Course,
            Self::Own(_) | Self::Bound => Model::Own,
        }
    }

    /// Whether another seed may give another answer.
    pub const fn has_dice(self) -> bool {
        match self {
            Self::Classic(policy, _) => matches!(policy, classic::Policy::Rand),
            Self::Own(policy) => matches!(policy, own::Policy::Live(Evict::Rand)),
            Self::Bound => false,
        }
    }

    /// Whether it must be told the calls to come.
    pub const fn is_clairvoyant(self) -> bool {
        matches!(self, Self::Own(own::Policy::Oracle) | Self::Bound)
    }
}

/// One thing to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    pub policy: Policy,
    pub memory_mb: f64,
    pub seed: u64,
    pub options: own::Options,
}

#[derive(Debug, Clone)]
enum Simulation {
    Classic(Box<Classic>),
    Own(Box<Own>),
    /// Known beforehand; there are no decisions.
    Bound(Counts),
}

/// What a job keeps besides its counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// One letter a call.
    pub outcomes: bool,
    /// What was decided at each call; drained by whoever prints them.
    pub decisions: bool,
}

/// What was decided at one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub arrival: Arrival,
    pub outcome: Outcome,
    /// Who had to go for it.
    pub evicted: Vec<Victim>,
}

/// What is told of a trace before its first call.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    pub functions: &'a [Function],
    pub future: Option<Arc<Future>>,
    /// What sandboxes are made of; without it they are wholes.
    pub layers: Option<Arc<Layers>>,
}

/// A cell being simulated, and with it those of less memory for which it makes no difference yet.
///
/// As long as nobody asked for more memory than a size has, that size fares like a larger one. So
/// the largest of them is played, and a size parts from it in the batch in which it is too small:
/// that batch is played once more from its beginning.
#[derive(Debug)]
pub struct Job {
    cell: Cell,
    /// Memories of the others, the largest last.
    also_mb: Vec<f64>,
    parted: Vec<Self>,
    simulation: Simulation,
    keep: Keep,
    outcomes: String,
    decisions: Vec<Decision>,
}

impl Job {
    /// Jobs for all the cells, as few as will do.
    pub fn for_all(told: &Told<'_>, cells: &[Cell], keep: Keep) -> Vec<Self> {
        let mut jobs: Vec<Self> = Vec::new();
        for &cell in cells {
            // A decision is told as it is made, and bounds are not played.
            let alone = keep.decisions || cell.policy == Policy::Bound;
            let with = jobs.iter_mut().find(|job| !alone && job.is_like(cell));
            match with {
                Some(job) => job.also_mb.push(cell.memory_mb),
                None => jobs.push(Self::new(told, cell, keep)),
            }
        }
        for job in &mut jobs {
            job.also_mb.push(job.cell.memory_mb);
            job.also_mb.sort_by(f64::total_cmp);
            let largest_mb = job.also_mb.pop().expect("its own at least");
            job.set_memory_mb(largest_mb);
        }
        jobs
    }

    fn is_like(&self, cell: Cell) -> bool {
        let memory_mb = cell.memory_mb;
        Cell {
            memory_mb,
            ..self.cell
        } == cell
    }

    /// Whether the counts are those of this cell.
    pub fn stands_for(&self, cell: Cell) -> bool {
        let mut others = self.also_mb.iter();
        self.cell == cell
            || (self.is_like(cell) && others.any(|size| size.total_cmp(&cell.memory_mb).is_eq()))
    }

    /// Clairvoyant policies must be told the future of the trace that will be played.
    pub fn new(told: &Told<'_>, cell: Cell, keep: Keep) -> Self {
        let Told {
            functions,
            ref future,
            ref layers,
        } = *told;
        let Cell {
            memory_mb,
            seed,
            options,
            ..
        } = cell;
        let simulation = match cell.policy {
            Policy::Classic(policy, edition) => {
                let model = Classic::new(functions, policy, edition, memory_mb, seed as u32);
                Simulation::Classic(Box::new(model))
            }
            Policy::Own(policy) => {
                let future = future.clone().filter(|_| cell.policy.is_clairvoyant());
                let layers = layers.clone();
                let model = Own::new(functions, policy, options, memory_mb, seed, future, layers);
                Simulation::Own(Box::new(model))
            }
            Policy::Bound => {
                let future = future.as_ref().expect("the caller asks `is_clairvoyant`");
                Simulation::Bound(future.bound(functions, memory_mb))
            }
        };
        let (outcomes, decisions) = (String::new(), Vec::new());
        Self {
            cell,
            also_mb: Vec::new(),
            parted: Vec::new(),
            simulation,
            keep,
            outcomes,
            decisions,
        }
    }

    fn set_memory_mb(&mut self, memory_mb: f64) {
        self.cell.memory_mb = memory_mb;
        match &mut self.simulation {
            Simulation::Classic(model) => model.set_memory_mb(memory_mb),
            Simulation::Own(model) => model.set_memory_mb(memory_mb),
            Simulation::Bound(_) => {}
        }
    }

    fn asked_mb(&self) -> f64 {
        match &self.simulation {
            Simulation::Classic(model) => model.asked_mb(),
            Simulation::Own(model) => model.asked_mb(),
            Simulation::Bound(_) => 0.0,
        }
    }

    pub fn cell(&self) -> Cell {
        self.cell
    }

    pub fn counts(&self) -> &Counts {
        match &self.simulation {
            Simulation::Classic(model) => model.counts(),
            Simulation::Own(model) => model.counts(),
            Simulation::Bound(counts) => counts,
        }
    }

    pub fn outcomes(&self) -> &str {
        &self.outcomes
    }

    /// The decisions since the last time this was asked.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        core::mem::take(&mut self.decisions)
    }

    fn victims(&self) -> &[Victim] {
        match &self.simulation {
            Simulation::Classic(model) => model.victims(),
            Simulation::Own(model) => model.victims(),
            Simulation::Bound(_) => &[],
        }
    }

    /// Sizes too small for what was just played go their own way from where it began.
    fn part(&mut self, before: Simulation, outcomes: usize, batch: &[Arrival]) {
        let asked_mb = self.asked_mb();
        let parting = self.also_mb.partition_point(|&size_mb| size_mb < asked_mb);
        let mut parting: Vec<f64> = self.also_mb.drain(..parting).collect();
        let Some(largest_mb) = parting.pop() else {
            return;
        };
        let mut job = Self {
            cell: self.cell,
            also_mb: parting,
            parted: Vec::new(),
            simulation: before,
            keep: self.keep,
            outcomes: self.outcomes[..outcomes].to_owned(),
            decisions: Vec::new(),
        };
        job.set_memory_mb(largest_mb);
        job.play(batch);
        self.parted.append(&mut job.parted);
        self.parted.push(job);
    }

    fn play_alone(&mut self, batch: &[Arrival]) {
        for &arrival in batch {
            let outcome = match &mut self.simulation {
                Simulation::Classic(model) => model.call(arrival),
                Simulation::Own(model) => model.call(arrival),
                Simulation::Bound(_) => return,
            };
            if self.keep.outcomes {
                self.outcomes.push(outcome.letter());
            }
            if self.keep.decisions {
                let evicted = self.victims().to_vec();
                self.decisions.push(Decision {
                    arrival,
                    outcome,
                    evicted,
                });
            }
        }
    }
}

impl Player for Job {
    fn play(&mut self, batch: &[Arrival]) {
        if self.also_mb.is_empty() {
            return self.play_alone(batch);
        }
        let (before, outcomes) = (self.simulation.clone(), self.outcomes.len());
        self.play_alone(batch);
        self.part(before, outcomes, batch);
    }

    fn parted(&mut self) -> Vec<Self> {
        core::mem::take(&mut self.parted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::trace::Reader;
    use crate::sim::trace::generate::{Kind, Plan};

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

    /// Every policy of the model, in memories that begin small and end large enough for all.
    fn cells(model: Model) -> Vec<Cell> {
        let mut cells = Vec::new();
        for policy in model.policies() {
            for options in [(false, false), (true, true)] {
                let (wait, layers) = options;
                cells.extend((1..14).map(|size| Cell {
                    policy,
                    memory_mb: 150.0 * f64::from(size) * f64::from(size),
                    seed: 5,
                    options: own::Options { wait, layers },
                }));
            }
        }
        cells
    }

    #[test]
    fn sizes_simulated_together_fare_as_each_alone() {
        for (seed, model) in [(1, Model::Classic), (2, Model::Course), (3, Model::Own)] {
            let plan = Plan {
                kind: Kind::Mixed,
                functions: 12,
                rate: 2.0,
                length_ms: 3_000_000.0,
                seed,
            };
            let mut reader = Reader::generated(&plan);
            let arrivals = reader.read_to_end().unwrap();
            let header = reader.header();
            let told = Told {
                functions: &header.functions,
                future: Some(Arc::new(Future::of(&header.functions, &arrivals))),
                layers: Some(Arc::new(Layers::of(header, 0.3))),
            };
            let keep = Keep {
                outcomes: true,
                decisions: false,
            };
            let cells = cells(model);
            let mut jobs = Job::for_all(&told, &cells, keep);
            let together = jobs.len();
            let mut alone: Vec<Job> = cells
                .iter()
                .map(|&cell| Job::new(&told, cell, keep))
                .collect();
            for batch in arrivals.chunks(500) {
                for job in &mut alone {
                    job.play(batch);
                }
                for job in &mut jobs {
                    job.play(batch);
                }
                let parted: Vec<Job> = jobs.iter_mut().flat_map(Job::parted).collect();
                jobs.extend(parted);
            }
            assert!(
                together < jobs.len() && jobs.len() < cells.len(),
                "{model:?}"
            );
            for job in alone {
                let other = jobs.iter().find(|other| other.stands_for(job.cell()));
                let other = other.unwrap();
                assert_eq!(other.outcomes(), job.outcomes(), "{:?}", job.cell());
                assert_eq!(other.counts(), job.counts(), "{:?}", job.cell());
            }
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
            options: own::Options::default(),
        };
        let keep = Keep {
            outcomes: true,
            decisions: true,
        };
        let told = Told {
            functions: &functions,
            future: None,
            layers: None,
        };
        let mut job = Job::new(&told, cell, keep);
        job.play(
            &[(0.0, 0), (1.0, 1), (30.0, 1)].map(|(t_ms, function)| Arrival { t_ms, function }),
        );
        assert_eq!(job.outcomes(), "mdm");
        let decisions = job.take_decisions();
        let evicted = |index: usize| decisions[index].evicted.clone();
        assert_eq!(evicted(1), []);
        assert_eq!(
            evicted(2),
            [Victim {
                who: report::Who::Function(0),
                priority: 0.0
            }]
        );
        assert!(job.take_decisions().is_empty());
    }
}
