//! The words of `io`: what the owner names things by, and what it is told.

use super::{Chunk, Errno};
use crate::base::Key;
use std::os::fd::OwnedFd;

/// The owner's own name for a handle, returned with each completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl Token {
    /// The token of `What::Woken`; no other handle may have it.
    pub const WAKER: Self = Self(u64::MAX);
}

/// What a [`Handle`] names: a descriptor that `io` keeps.
#[derive(Debug)]
pub enum Descriptor {}

/// Names one descriptor for as long as `io` keeps it, and none after it.
pub type Handle = Key<Descriptor>;

/// Something asked for has happened.
#[derive(Debug)]
pub struct Completion {
    pub token: Token,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// A newcomer; more follow. After an error accepting is paused.
    Accepted(Result<OwnedFd, Errno>),
    /// At least one byte, or why there will be none.
    Received(Result<Chunk, Errno>),
    /// The peer will send no more.
    Ended,
    /// All of the buffer was sent (its length), or an error met; the buffer comes back either way.
    Sent {
        result: Result<usize, Errno>,
        buffer: Vec<u8>,
    },
    /// A watched descriptor is ready, or cannot be watched.
    Ready(Result<(), Errno>),
    /// A [`Waker`](super::Waker) was used, once or often.
    Woken,
}

/// What to watch a descriptor for. Errors and hang-ups are always watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read: sockets, pidfd, eventfd, timerfd, signalfd.
    Readable,
    /// An exceptional condition: `cgroup.events`, `memory.events`, pressure triggers. Kernel files
    /// stay ready until they are read again from the start.
    Priority,
}
