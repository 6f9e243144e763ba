//! Cgroups, jails, live zygotes, code and package stores, systemd. Imports base, wire, sys.

#![forbid(unsafe_code)]

pub mod code;
pub mod helper;
pub mod log;
pub mod service;
