//! The pure rooms once more, without std: a clock, file, thread, socket or HashMap of std in one of
//! them does not compile here. Built as an example by every `cargo test`; nothing links it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[path = "../../src/base/mod.rs"]
pub mod base;
#[path = "../../src/engine/mod.rs"]
pub mod engine;
#[path = "../../src/http/mod.rs"]
pub mod http;
#[path = "../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../src/wire/mod.rs"]
pub mod wire;
