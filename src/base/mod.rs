//! The vocabulary every other room speaks: keys, time, bounded collections. Imports nothing.
//!
//! No clock, no file, no thread, no std: this room is compiled once more without std.

#![forbid(unsafe_code)]

pub mod agenda;
pub mod chain;
pub mod heap;
pub mod histogram;
pub mod key;
pub mod limits;
pub mod name;
pub mod packages;
pub mod random;
pub mod slab;
pub mod table;
pub mod time;
pub mod units;

pub use agenda::Agenda;
pub use chain::{Chain, Links};
pub use heap::IndexedHeap;
pub use histogram::Histogram;
pub use key::Key;
pub use limits::Limits;
pub use name::FunctionName;
pub use packages::{Package, PackageSet};
pub use random::Random;
pub use slab::Slab;
pub use table::Table;
pub use time::{Duration, Time};
pub use units::Bytes;
