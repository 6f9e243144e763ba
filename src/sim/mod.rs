//! The virtual loop. Imports base, policy, engine, config.

#![forbid(unsafe_code)]

pub mod trace;
