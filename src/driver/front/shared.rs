//! What all connections share, and what they tell.

use super::buffers::Buffers;
use super::intake::SpoolBudget;
use super::{Client, Limits};
use crate::base::Time;
use crate::http::{Code, Date};
use std::collections::VecDeque;

/// What happened to a client, for the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A request with a good head; `Front::request` shows it.
    Arrived(Client),
    /// More of its body can be taken, or it has ended.
    Body(Client),
    /// There is room again, after `Room::Full`.
    Writable(Client),
    /// Nobody waits for this answer any more: the client has left, is too slow, or the rest of its
    /// request turned out bad and was refused. Nothing more comes of this request.
    HungUp(Client),
}

/// What happened so far, all clients together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub accepted: u64,
    pub closed: u64,
    /// Accepted and closed at once, because there were too many.
    pub turned_away: u64,
    /// Times that accepting failed for want of descriptors or memory.
    pub accept_failures: u64,
    /// Requests with a good head.
    pub requests: u64,
    /// By code, in the order of the refusal table.
    pub refused: [u64; Code::COUNT],
    /// Clients too slow to send or to read.
    pub timeouts: u64,
    /// Clients that left while an answer was made for them.
    pub hang_ups: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) now: Time,
    pub(super) date: Date,
    pub(super) draining: bool,
    pub(super) buffers: Buffers,
    pub(super) budget: SpoolBudget,
    /// At most one `Arrived`, one `HungUp`, one `Body` and one `Writable` for each connection.
    pub(super) events: VecDeque<Event>,
    /// Those with bytes ahead and nothing in their way; each at most once.
    pub(super) ready: VecDeque<Client>,
    pub(super) counters: Counters,
    /// Bytes that `io` is sending, to all clients together.
    pub(super) sending: u64,
    /// Bytes that have come and are not decoded yet, of all clients together.
    pub(super) ahead: usize,
    /// Where the body of a problem is made before its length is known.
    pub(super) scratch: Vec<u8>,
}
