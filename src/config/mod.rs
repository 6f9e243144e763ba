//! TOML to what was typed to what it means; trees on disk. Imports base, policy.
//!
//! ```text
//! load: files      read: texts            key/keys: one table         meaning
//! FILE, FILE.d/* --> syntax, walk, -o --> name, kind, bounds, lens --> Config
//!                                         |
//!                                         +--> render, changes, manual
//! ```
//!
//! [`Config`] is what everything that runs reads; [`load::load`] makes one from files,
//! [`read::read`] from texts; [`Config::changes`] says what a reload brings.

#![forbid(unsafe_code)]

pub mod changes;
pub mod contradictions;
pub mod function;
pub mod key;
pub mod keys;
pub mod load;
pub mod meaning;
pub mod nearest;
pub mod places;
pub mod problem;
pub mod read;
pub mod render;
pub mod syntax;
pub mod tree;
pub mod typed;
pub mod words;
mod yaml;

pub use load::{Request, load};
pub use meaning::{Config, Home, Machine};
pub use problem::Problem;
pub use read::Loaded;
