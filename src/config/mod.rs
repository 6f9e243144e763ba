//! TOML to what was typed to what it means; trees on disk. Imports base, policy.
//!
//! [`Config`] is what everything that runs reads.

#![forbid(unsafe_code)]

pub mod key;
pub mod keys;
pub mod meaning;
pub mod nearest;
pub mod problem;
pub mod tree;
pub mod typed;
pub mod words;

pub use meaning::{Config, Home, Machine};
