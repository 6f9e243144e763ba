//! The virtual loop. Imports base, policy, engine, config.

#![forbid(unsafe_code)]

pub mod keepalive;
pub mod sweep;
pub mod trace;
pub mod worker;
