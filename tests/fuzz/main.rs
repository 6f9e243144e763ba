//! Fuzzing in process, by plain `cargo test`: seeded, bounded in time, the same again by seed.
//!
//! `OLWORKER_FUZZ_SECS` says how long each target runs (a second if unset), `OLWORKER_FUZZ_SEED`
//! which inputs it tries. A target that fails prints the input that did it.

mod harness;
mod http;
