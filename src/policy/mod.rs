//! Decisions, with no state of the world. Imports base.
//!
//! Everything a researcher would want to swap is here, under the name it has in the configuration
//! and in the simulators. A policy takes what it needs as arguments (`now` among them) and returns
//! a value; the engine owns the world and does what the value says.

#![forbid(unsafe_code)]

pub mod demand;
pub mod fit;
pub mod gaps;
pub mod grow;
pub mod keep;
pub mod lookup;
pub mod scale;
pub mod tree;

pub use keep::Evict;
pub use lookup::Lookup;
pub use scale::Scale;
pub use tree::{NodeId, Tree, Weight, Weights};
