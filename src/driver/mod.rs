//! The live loop. Imports everything but sim.

#![forbid(unsafe_code)]

pub mod front;
pub mod functions;
pub mod token;
