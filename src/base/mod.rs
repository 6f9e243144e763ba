//! The vocabulary every other room speaks: keys, time, bounded collections. Imports nothing.
//!
//! No clock, no file, no thread, no std: this room is compiled once more without std.

#![forbid(unsafe_code)]

pub mod key;
pub mod slab;
pub mod time;

pub use key::Key;
pub use slab::Slab;
pub use time::{Duration, Time};
