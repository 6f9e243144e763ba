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

pub mod refusal;
pub mod route;

pub use refusal::{Code, Refusal};
pub use route::{FunctionName, Method, Route};
