//! The live loop. Imports everything but sim.
//!
//! `worker` is the loop and says which file does what.

#![forbid(unsafe_code)]

mod admin;
mod calls;
mod depot;
mod effects;
mod flight;
mod freezer;
pub mod front;
mod functions;
mod instances;
mod listen;
mod listing;
mod memory;
mod notes;
mod outputs;
mod registry;
mod relay;
mod requests;
mod service;
pub mod settings;
mod start;
pub mod stats;
mod streams;
pub mod token;
mod trace;
mod worker;
mod zygotes;

pub use start::{Failure, Start, serve};
