//! One client: what it sent, what it is owed, how it ends. No descriptor is touched here; what the
//! connection would like done (receive, send, close) is read off it by `front`.
//!
//! ```text
//!              head                     answer and request complete, kept
//!   Reading ─────────▶ Answering ──────────────────────────────────────────▶ Reading
//!      │                   │ ╲  answer complete, body still coming             ▲
//!      │                   │  ╲────────────────────────▶ Draining ── body end ─┘
//!      │ refused,          │ answer closes                  │ refused, too slow
//!      │ ended             ▼                                │
//!      └──────────────▶ Closing ◀───────────────────────────┘
//!                          │ all is sent
//!             unread bytes ├──────────────▶ Lingering ── ended, enough, or too long ──▶ Gone
//!             may be there └─ none ──────────────────────────────────────────────────▶ Gone
//! ```
//! Any error of the socket leads to Gone at once. Lingering reads and throws away what the client
//! still sends: closing with bytes unread would reset the connection, and the client might never
//! see why it was refused.

mod answering;
mod reading;

use super::intake::{Intake, Wish};
use super::shared::{Event, Shared};
use super::{Body, Client, Limits, Via};
use crate::base::Time;
use crate::http::answer::{self, Asked, Ended};
use crate::http::{Code, Decoder, Head, Refusal};
use crate::io::Handle;
use core::time::Duration;

/// Bytes of answers to one client that wait to be sent, while others are being sent. Whoever writes
/// more is told to wait, and the client's next request is not looked at before.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The same, when the clients together are slow to read.
const SCARCE_ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Bytes of answers under way to all clients together; beyond it memory is scarce.
const SENDING_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of requests kept for one client whose answers wait. Whoever sends a long pipeline before
/// reading anything gets that far; a client that reads as it sends never needs it.
const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same, all clients together: beyond it, a chunk each.
const ALL_AHEAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long after a request's last byte its sender may end its side and still be waiting for the
/// answer, where the kernel cannot tell that from leaving (TCP).
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(250);
/// How long what a refused client still sends is thrown away, and how much of it.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bodies and answers that move slower than this use up their patience, however steadily they move.
const BYTES_PER_SEC_MIN: u64 = 500;

/// A client's connection. Only `front` looks inside.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    /// There from the moment `io` knows the socket.
    handle: Option<Handle>,
    via: Via,
    receiving: bool,
    /// Bytes that `io` is sending.
    sending: Option<u64>,
    /// Is in the list of those that `flush` visits.
    touched: bool,
    phase: Phase,
    decoder: Decoder,
    /// There from the first byte of a head until its answer is complete.
    head: Option<Box<Head>>,
    /// Bytes that have come and are not decoded yet, from `ahead_read` on: about a chunk, more only
    /// while `held_up`.
    ahead: Vec<u8>,
    ahead_read: usize,
    /// What of them is in the count of all clients.
    ahead_counted: usize,
    intake: Intake,
    asked: Asked,
    reply: Reply,
    /// The driver has been told of the request (the event was taken).
    announced: bool,
    /// A `Body` event is on its way.
    body_told: bool,
    /// Somebody was told `Room::Full` and waits for `Writable`.
    wants_room: bool,
    /// The bytes ahead wait until the client has taken more of its answers.
    held_up: bool,
    /// The client has shut its sending side.
    peer_ended: bool,
    /// `100 Continue` was sent.
    continued: bool,
    out: Vec<u8>,
    /// When the request's last byte came.
    request_ended: Time,
    read_due: Time,
    write_due: Time,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Reading,
    Answering,
    Draining,
    Closing { linger: bool },
    Lingering { left: u64 },
    Gone,
}

/// How far the answer to the present request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reply {
    None,
    /// Complete, and held back from this offset of `out` on until the request's body has ended.
    Held {
        from: usize,
        ended: Ended,
    },
    Streaming(answer::Body),
}

/// What the connection would like done.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) receive: bool,
    pub(super) send: Option<Vec<u8>>,
    /// Say that nothing more will be sent.
    pub(super) shutdown: bool,
    pub(super) close: bool,
}

/// How much of an answer may wait now.
fn answer_bytes_max(shared: &Shared) -> usize {
    if shared.sending > SENDING_BYTES_MAX {
        SCARCE_ANSWER_BYTES_MAX
    } else {
        ANSWER_BYTES_MAX
    }
}

/// From the socket.
impl Connection {
    pub(super) fn new(client: Client, via: Via, limits: &Limits, now: Time) -> Self {
        Self {
            client,
            handle: None,
            via,
            receiving: false,
            sending: None,
            touched: false,
            phase: Phase::Reading,
            decoder: Decoder::default(),
            head: None,
            ahead: Vec::new(),
            ahead_read: 0,
            ahead_counted: 0,
            intake: Intake::default(),
            asked: Asked::UNREADABLE,
            reply: Reply::None,
            announced: false,
            body_told: false,
            wants_room: false,
            held_up: false,
            peer_ended: false,
            continued: false,
            out: Vec::new(),
            request_ended: now,
            read_due: now + limits.idle_timeout,
            write_due: Time::MAX,
        }
    }

    /// Bytes have come.
    pub(super) fn received(&mut self, chunk: &[u8], shared: &mut Shared) {
        self.receiving = false;
        shared.counters.bytes_received += chunk.len() as u64;
        match &mut self.phase {
            Phase::Lingering { left } => {
                *left = left.saturating_sub(chunk.len() as u64);
                if *left == 0 {
                    self.phase = Phase::Gone;
                }
            }
            Phase::Closing { linger } => *linger = true,
            Phase::Gone => {}
            Phase::Reading | Phase::Draining if self.ahead.is_empty() => self.feed(chunk, shared),
            Phase::Answering if !self.intake.ended => self.feed(chunk, shared),
            Phase::Reading | Phase::Draining | Phase::Answering => self.keep(chunk, shared),
        }
    }

    fn feed(&mut self, mut chunk: &[u8], shared: &mut Shared) {
        self.decode(&mut chunk, shared);
        if chunk.is_empty() {
            return;
        }
        self.keep(chunk, shared);
        if self.phase == Phase::Reading {
            self.go_on_soon(shared);
        }
    }

    fn keep(&mut self, bytes: &[u8], shared: &mut Shared) {
        match self.phase {
            Phase::Closing { .. } | Phase::Lingering { .. } | Phase::Gone => {}
            Phase::Reading | Phase::Answering | Phase::Draining => {
                if self.ahead.capacity() == 0 {
                    self.ahead = shared.buffers.take();
                }
                self.ahead.drain(..core::mem::take(&mut self.ahead_read));
                self.ahead.extend_from_slice(bytes);
                self.count_ahead(shared);
            }
        }
    }

    pub(super) fn count_ahead(&mut self, shared: &mut Shared) {
        shared.ahead = shared.ahead - self.ahead_counted + self.ahead.len();
        self.ahead_counted = self.ahead.len();
    }

    /// The client will send no more. `left`: the kernel says that it does not read either.
    pub(super) fn ended(&mut self, left: bool, shared: &mut Shared) {
        self.receiving = false;
        self.peer_ended = true;
        match self.phase {
            Phase::Lingering { .. } => self.phase = Phase::Gone,
            Phase::Answering if self.intake.ended => {
                let late = shared.now.since(self.request_ended) > HALF_CLOSE_GRACE;
                if left || (late && self.via == Via::Tcp) {
                    shared.counters.hang_ups += 1;
                    self.lost(shared);
                }
            }
            Phase::Reading | Phase::Draining | Phase::Answering if self.ahead.is_empty() => {
                self.nothing_more(shared);
            }
            Phase::Reading
            | Phase::Draining
            | Phase::Answering
            | Phase::Closing { .. }
            | Phase::Gone => {}
        }
    }

    /// All that the client will ever send has been decoded, and no answer is due.
    fn nothing_more(&mut self, shared: &mut Shared) {
        if self.phase == Phase::Reading && self.decoder.is_between() {
            self.close(false);
        } else {
            self.refuse_rest(Refusal::bad("the request ends in its middle"), shared);
        }
    }

    /// A buffer was sent, or could not be.
    pub(super) fn sent(&mut self, sent: Option<usize>, buffer: Vec<u8>, shared: &mut Shared) {
        shared.sending -= self.sending.take().unwrap_or(0);
        self.write_due = Time::MAX;
        shared.buffers.give_back(buffer);
        match sent {
            None => self.lost(shared),
            Some(count) => {
                shared.counters.bytes_sent += count as u64;
                if self.wants_room && self.out.len() < answer_bytes_max(shared) / 2 {
                    self.wants_room = false;
                    shared.events.push_back(Event::Writable(self.client));
                }
            }
        }
    }

    /// The connection is broken, or not worth waiting for any more.
    pub(super) fn lost(&mut self, shared: &mut Shared) {
        self.forget_request(shared);
        self.reply = Reply::None;
        self.phase = Phase::Gone;
    }

    /// Whoever works on the answer is told to stop.
    fn forget_request(&mut self, shared: &mut Shared) {
        let awaited = match self.reply {
            Reply::None | Reply::Streaming(_) => true,
            Reply::Held { .. } => false,
        };
        if self.phase == Phase::Answering && self.announced && awaited {
            shared.events.push_back(Event::HungUp(self.client));
        }
        self.intake.discard(&mut shared.budget, &mut shared.buffers);
    }

    /// Its time is over, or would be if nothing had moved since.
    pub(super) fn expired(&mut self, shared: &mut Shared) {
        if self.due(shared) > shared.now {
            return;
        }
        if self.write_due <= shared.now {
            shared.counters.timeouts += 1;
            return self.lost(shared);
        }
        match self.phase {
            Phase::Reading if self.decoder.is_between() => self.close(false),
            Phase::Reading | Phase::Answering | Phase::Draining => {
                shared.counters.timeouts += 1;
                let code = Code::TimeoutReadingRequest;
                self.refuse_rest(
                    Refusal::new(code, "the rest of it did not come in time"),
                    shared,
                );
            }
            Phase::Closing { .. } | Phase::Lingering { .. } | Phase::Gone => {
                self.phase = Phase::Gone;
            }
        }
    }
}

/// The request, for the driver.
impl Connection {
    pub(super) fn via(&self) -> Via {
        self.via
    }

    /// The event of its arrival is being taken; false if the request is not there any more.
    pub(super) fn announce(&mut self) -> bool {
        let there = self.is_unanswered() && !self.announced;
        self.announced |= there;
        there
    }

    /// The event of more body is being taken; false if there is nobody for it.
    pub(super) fn announce_body(&mut self) -> bool {
        self.body_told = false;
        self.phase == Phase::Answering
    }

    pub(super) fn head(&self) -> Option<&Head> {
        if self.phase == Phase::Answering {
            self.head.as_deref()
        } else {
            None
        }
    }

    pub(super) fn body(&self) -> Body<'_> {
        if self.phase == Phase::Answering {
            Body {
                bytes: self.intake.bytes(),
                is_last: self.intake.is_complete(),
            }
        } else {
            Body {
                bytes: &[],
                is_last: true,
            }
        }
    }

    pub(super) fn take_body(&mut self, count: usize, shared: &mut Shared) {
        if self.phase != Phase::Answering || count == 0 {
            return;
        }
        let wanted = self
            .intake
            .wants_more(&shared.budget, shared.limits.chunk_bytes);
        if self.intake.take(count, &mut shared.budget).is_err() {
            return self.lost(shared);
        }
        if !wanted {
            self.read_due = shared.now + shared.limits.body_timeout;
        }
    }

    /// Reads on, for somebody who takes or for nobody.
    pub(super) fn read_on(&mut self, wish: Wish, shared: &mut Shared) {
        if self.phase != Phase::Answering || self.intake.wish == wish {
            return;
        }
        if !self
            .intake
            .wants_more(&shared.budget, shared.limits.chunk_bytes)
        {
            self.read_due = shared.now + shared.limits.body_timeout;
        }
        match wish {
            Wish::Discard => self.intake.discard(&mut shared.budget, &mut shared.buffers),
            Wish::Undecided | Wish::Stream | Wish::Spool => {
                if self.awaits_continue() && self.is_unanswered() {
                    self.prepare_out(shared);
                    self.out.extend_from_slice(answer::CONTINUE);
                    self.continued = true;
                }
                self.intake.wish = wish;
            }
        }
    }
}

/// For `flush`.
impl Connection {
    pub(super) fn attach(&mut self, handle: Handle) {
        self.handle = Some(handle);
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle
            .expect("attached before anything else happens to it")
    }

    /// Notes that `flush` shall look; false if it will anyway.
    pub(super) fn touch(&mut self) -> bool {
        !core::mem::replace(&mut self.touched, true)
    }

    /// Between two requests, with nothing to say.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Reading && self.decoder.is_between() && self.ahead.is_empty()
    }

    /// Idle connections are closed when the worker drains.
    pub(super) fn drain(&mut self) {
        if self.is_idle() {
            self.close(false);
        }
        self.asked.keep_alive = false;
    }

    /// What shall be done now; doing it is up to the caller.
    pub(super) fn wants(&mut self, shared: &mut Shared) -> Wants {
        self.touched = false;
        let mut wants = Wants::default();
        if self.sending.is_none() && self.phase != Phase::Gone {
            wants.send = self.sendable(shared);
            if let Some(buffer) = &wants.send {
                let earned = Duration::from_secs(buffer.len() as u64 / BYTES_PER_SEC_MIN);
                self.write_due = shared.now + shared.limits.body_timeout + earned;
                self.sending = Some(buffer.len() as u64);
                shared.sending += buffer.len() as u64;
            }
        }
        if self.held_up {
            self.go_on_soon(shared);
        }
        if let Phase::Closing { linger } = self.phase
            && self.sending.is_none()
        {
            self.phase = Phase::Gone;
            if linger && !self.peer_ended {
                self.phase = Phase::Lingering {
                    left: LINGER_BYTES_MAX,
                };
                self.read_due = shared.now + LINGER;
                wants.shutdown = true;
            }
        }
        wants.close = self.phase == Phase::Gone;
        wants.receive = !wants.close && !self.receiving && self.wants_to_receive(shared);
        self.receiving |= wants.receive;
        wants
    }

    fn sendable(&mut self, shared: &mut Shared) -> Option<Vec<u8>> {
        let end = match self.reply {
            Reply::Held { from, .. } => from,
            Reply::None | Reply::Streaming(_) => self.out.len(),
        };
        if end == 0 {
            return None;
        }
        let mut rest = Vec::new();
        if let Reply::Held { from, .. } = &mut self.reply {
            rest = shared.buffers.take();
            rest.extend_from_slice(&self.out[end..]);
            self.out.truncate(end);
            *from = 0;
        }
        Some(core::mem::replace(&mut self.out, rest))
    }

    fn wants_to_receive(&self, shared: &Shared) -> bool {
        !self.peer_ended
            && match self.phase {
                Phase::Reading if self.held_up => {
                    let is_little = self.ahead.len() < AHEAD_BYTES_MAX;
                    is_little && shared.ahead < ALL_AHEAD_BYTES_MAX
                }
                Phase::Reading => self.ahead.is_empty(),
                Phase::Draining | Phase::Lingering { .. } => true,
                Phase::Closing { linger } => linger,
                Phase::Answering if self.intake.ended => self.ahead.is_empty(),
                Phase::Answering => self
                    .intake
                    .wants_more(&shared.budget, shared.limits.chunk_bytes),
                Phase::Gone => false,
            }
    }

    /// When it has waited long enough for the client.
    pub(super) fn due(&self, shared: &Shared) -> Time {
        let read_due = match self.phase {
            Phase::Reading if !self.ahead.is_empty() => Time::MAX,
            Phase::Reading | Phase::Draining | Phase::Lingering { .. } => self.read_due,
            Phase::Answering if !self.intake.ended => {
                let waits = self
                    .intake
                    .wants_more(&shared.budget, shared.limits.chunk_bytes);
                if waits { self.read_due } else { Time::MAX }
            }
            Phase::Answering | Phase::Closing { .. } | Phase::Gone => Time::MAX,
        };
        read_due.min(self.write_due)
    }

    /// Its memory goes back before it goes.
    pub(super) fn bury(mut self, shared: &mut Shared) {
        shared.sending -= self.sending.take().unwrap_or(0);
        shared.ahead -= self.ahead_counted;
        self.intake.reset(&mut shared.budget, &mut shared.buffers);
        if let Some(head) = self.head.take() {
            shared.buffers.give_back_head(head);
        }
        shared.buffers.give_back(self.ahead);
        shared.buffers.give_back(self.out);
    }
}

#[cfg(test)]
mod tests;
