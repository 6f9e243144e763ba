//! Frames between worker, zygote and instance. Imports nothing but base.
//!
//! Three peers, two transports, one page:
//!
//! ```text
//!            stream frames (call, frame, answer): SOCK_STREAM, one call at a time
//!   worker <------------------------------------------------------> instance
//!     |  \__ page (seen): one shared word tells what user code has met __/
//!     |
//!     |      datagrams (zygote): SOCK_SEQPACKET, descriptors by SCM_RIGHTS, many in flight
//!     +<----------------------------------------------------------> zygote
//! ```
//!
//! A stream frame is eight bytes and a payload, all integers little endian:
//!
//! ```text
//!   0        4      5       6          8
//!   | length | kind | flags | reserved | payload: length bytes
//! ```
//!
//! | kind | way | payload | flags |
//! |---|---|---|---|
//! | `Call` | to the instance | head length u32, budget ms u32, head, first body bytes | last |
//! | `Body` | to the instance | body bytes | last |
//! | `Cancel` | to the instance | none | |
//! | `Answer` | to the worker | head bytes u32, status u16, 0, head, body | last, busy, tainted |
//! | `Data` | to the worker | body bytes | last, busy, tainted |
//! | `Failure` | to the worker | code u16, 0 u16, detail length u32, detail, traceback | tainted |
//! | `Idle` | to the worker | none | tainted |
//!
//! One call, as the worker sees it (the instance never speaks first):
//!
//! ```text
//!   idle --Call--> asked --Answer--> streaming --Data(last)--> idle
//!                    |  \               |  \--Failure--> idle
//!                    |   \--Failure--> idle   \--last+busy--> busy --Idle--> idle
//!                    \--Answer(last)--> idle
//! ```
//!
//! After a `Call` that is not last the worker always ends the body with a last `Body` or with
//! `Cancel`, also when the answer came first, before it sends the next `Call`. A `Cancel` that
//! crosses the end of its answer is stale and ignored by the instance. A small warm call is one
//! frame each way.
//!
//! Heads are texts joined by NUL: no HTTP field can hold one, and a script language takes such a
//! head apart in one step, and only when it wants to know more than the body.

#![forbid(unsafe_code)]

pub mod answer;
pub mod call;
pub mod frame;
pub mod reply;
pub mod seen;
pub mod text;
pub mod zygote;

pub use answer::{
    After, AnswerDecoder, AnswerEvent, AnswerHead, Failure, FailureCode, Headers, Step,
};
pub use call::{CallHead, StartKind};
pub use frame::{FrameError, FrameHeader, FrameKind};
pub use seen::Seen;
