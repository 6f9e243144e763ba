//! The worker on a virtual clock: the very engine that runs live, in a world that is made up.
//!
//! ```text
//!   trace --arrivals--> +-------+ --events--> engine --effects--> +-------+
//!                       | world |                                 | world |
//!   costs, faults ----> +-------+ <-- what happens when ----------+-------+
//! ```
//!
//! The world does what the effects say and knows how long everything takes (`cost`); what it does
//! becomes events at their times. It can do harm (`fault`): deaths at any moment, forks that are
//! slow, fail or never answer, zygotes that run out of memory, clocks that jump, a machine under
//! pressure. It keeps the engine's promises in a book of its own and panics when one is broken:
//! each call ends once, each sandbox that was asked for is accounted for, and in the end everything
//! is given back.
//!
//! The seed determines everything, to the byte. Nothing here reads a clock.

pub mod cost;
pub mod day;
pub mod explain;
pub mod fault;
pub mod replay;
pub mod report;
mod world;

pub use cost::{Costs, FunctionCost};
pub use fault::Faults;
pub use report::{FunctionReport, Report};
pub use world::World;

use crate::base::Limits;
use crate::engine::{Params, ZygoteTree};
use crate::sim::sweep::Player;
use crate::sim::trace::Arrival;

/// How often the invariants are swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// At the end only.
    Last,
    /// After this many inputs, and at the end. One: after each.
    Every(u32),
}

/// A world before its first moment.
#[derive(Debug, Clone)]
pub struct Setup {
    pub limits: Limits,
    pub params: Params,
    pub seed: u64,
    pub tree: Option<ZygoteTree>,
    pub functions: Vec<FunctionCost>,
    pub costs: Costs,
    pub faults: Option<Faults>,
    pub sweep: Sweep,
    /// Keep the notes of the engine for whoever wants to read them.
    pub explain: bool,
}

impl Player for World {
    fn play(&mut self, batch: &[Arrival]) {
        Self::play(self, batch);
    }
}
