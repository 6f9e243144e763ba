//! TOML to what was typed to what it means; trees on disk. Imports base, policy.
//!
//! [`Config`] is what everything that runs reads.

#![forbid(unsafe_code)]

pub mod meaning;
pub mod tree;
pub mod words;

pub use meaning::{Config, Home, Machine};
