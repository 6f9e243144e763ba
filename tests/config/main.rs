//! Configurations as files: what is told of wrong ones, and that what is written is read back.

mod errors;
mod roundtrip;
