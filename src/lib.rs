//! olworker: a serverless worker for one Linux machine.
//!
//! The rooms and who may import whom are told in ARCHITECTURE.md and held by `tests/tidy`;
//! the pure rooms (`base`, `policy`, `engine`, `http`, `wire`) are compiled once more without std
//! by `tests/pure_rooms`.

extern crate alloc;

pub mod base;
pub mod bench;
pub mod cli;
pub mod config;
pub mod driver;
pub mod engine;
pub mod host;
pub mod http;
pub mod io;
pub mod policy;
pub mod sim;
pub mod sys;
pub mod wire;
