//! Bytes to heads, framing, and the one refusal table. Imports base.
//!
//! Nothing here reads a socket or a clock: bytes come in as slices of any split, and leave in a
//! buffer of the caller. The parts, in the order in which a request meets them:
//!
//! ```text
//!  bytes ─▶ decoder ─┬─▶ head ─▶ target, fields ─▶ route          one request
//!                    ├─▶ body (length | chunked) ─▶ bytes, end
//!                    └─▶ refusal ─▶ answer::problem ─▶ bytes      or why not
//!  status, fields, body ─▶ answer ─▶ bytes                        one answer
//! ```
//!
//! Everything ambiguous is refused here, before anybody else sees a byte of it: what reaches the
//! rest of the worker has exactly one reading.

#![forbid(unsafe_code)]

pub mod answer;
pub mod bearer;
mod characters;
mod chunked;
pub mod date;
mod decoder;
mod head;
pub mod json;
mod problem;
pub mod refusal;
pub mod route;
mod scan;
mod target;

pub use answer::{Answer, Asked};
pub use chunked::EXTENSION_BYTES_MAX;
pub use date::Date;
pub use decoder::{Decoder, Step};
pub use head::{Framing, Head, Version, list};
pub use problem::Problem;
pub use refusal::{Code, Refusal};
pub use route::{FunctionName, Method, Route};

/// Fields of one head, and of one trailer section.
pub const FIELDS_MAX: usize = 128;

/// What the configuration bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A request head with the empty lines before it, and a trailer section. Below 4 GiB.
    pub head_bytes: usize,
    pub target_bytes: usize,
    /// A body, codings taken off.
    pub body_bytes: u64,
}

impl Limits {
    /// Offsets into a head are 32 bits.
    pub const HEAD_BYTES_MAX: usize = 1 << 30;

    /// The limits, checked.
    pub fn new(head_bytes: usize, target_bytes: usize, body_bytes: u64) -> Self {
        assert!(
            head_bytes <= Self::HEAD_BYTES_MAX,
            "a head has 32-bit offsets"
        );
        assert!(target_bytes <= head_bytes, "a target is part of its head");
        Self {
            head_bytes,
            target_bytes,
            body_bytes,
        }
    }
}
