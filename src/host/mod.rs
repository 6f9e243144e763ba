//! Cgroups, jails, live zygotes, code and package stores, systemd. Imports base, wire, sys.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod code;
pub mod death;
pub mod family;
pub mod function_log;
pub mod helper;
pub mod imports;
pub mod instance;
pub mod jail;
pub mod log;
pub mod memory;
pub mod packages;
pub mod pressure;
pub mod sandboxes;
pub mod service;
mod standby;
pub mod stretch;
pub mod trace;
pub mod unprivileged;
pub mod zygote;
