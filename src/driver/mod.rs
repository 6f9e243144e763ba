//! The live loop. Imports everything but sim.

#![forbid(unsafe_code)]

pub mod front;
pub mod functions;
pub mod listen;
pub mod settings;
pub mod token;
