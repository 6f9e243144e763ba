//! The truth about functions, calls, instances, zygotes, memory: events in, effects out.
//! Imports base, policy.
//!
//! The worker is a value. It has no clock, no descriptor, no thread and no chance but its seed: it is
//! a function of (limits, parameters, seed, timed events). Whoever drives it tells what happened
//! (`Event`) and does what is asked (`Effect`); the live driver does it with system calls, the
//! simulator with a virtual clock.

#![forbid(unsafe_code)]

mod effect;
mod event;
mod note;
mod params;

pub use effect::{Effect, Origin, Refusal, Start};
pub use event::{Event, Exit, ForkFault, Sandbox, Verdict, Wanted, ZygoteFault, ZygoteTree};
pub use note::{End, Growth, Need, Note};
pub use params::{FunctionSettings, OnHangup, Packages, Params, ZygoteSettings};

use crate::base::Key;

/// A call, as the engine knows it.
#[derive(Debug)]
pub enum Call {}
/// A function, as the engine knows it.
#[derive(Debug)]
pub enum Function {}
/// An instance, as the engine knows it.
#[derive(Debug)]
pub enum Instance {}
/// A zygote, as the engine knows it.
#[derive(Debug)]
pub enum Zygote {}

/// Given by whoever keeps the call's bytes.
pub type CallKey = Key<Call>;
/// Given by whoever keeps the functions' code.
pub type FunctionKey = Key<Function>;
/// Given by the engine.
pub type InstanceKey = Key<Instance>;
/// Given by the engine.
pub type ZygoteKey = Key<Zygote>;
