//! The clients: their connections, their requests, and the answers they wait for.
//!
//! `Front` is told what `io` completed, turns bytes into events for the driver's loop, and takes
//! the answers. It reads no clock (the time is set once a turn) and knows no function: what a
//! request means is the driver's business.
//!
//! ```text
//!            Received, Ended, Sent, Accepted                Arrived, Body, Writable, HungUp
//!   io ───────────────────────────────────────▶ Front ───────────────────────────────────▶ driver
//!      ◀─────────────────────────────────────── Front ◀───────────────────────────────────
//!            accept, receive, send, close                   answer, refuse, begin/write/end,
//!                                                           stream/spool_body, take_body
//! ```
//!
//! One turn of the driver's loop:
//!
//! ```text
//!   io.wait(.., &mut completions)
//!   front.set_time(now, unix_sec)
//!   for each completion of Owner::Listener or Owner::Client
//!       front.completed(token, what, &mut io)
//!   front.expire(&mut io)
//!   while let Some(event) = front.next_event() { .. answers .. }
//!   front.flush(&mut io)                  one send for each client with something to say
//!   sleep until front.next_deadline()
//! ```
//!
//! The driver's side:
//!
//! ```text
//!   request(client) -> Request { head: &Head, via: Via }     until the answer has ended
//!   body(client) -> Body { bytes: &[u8], is_last: bool }     what can be taken now
//!   take_body(client, count)                                 taken: there will be room for more
//!   after Arrived nothing of the body is read but what came with the head; then one of
//!     stream_body(client)  read on as bytes are taken (backpressure); says 100 Continue if asked
//!     spool_body(client)   read to the end whether or not anybody takes: memory, then an anonymous
//!                          file, within the budget of all (beyond it: backpressure as above)
//!     answering before the end throws the rest away
//!
//!   answer(client, status, fields, body)       the worker's own answers and refusals: they leave
//!   refuse(client, &Problem { .. })            once the request's body has been read to its end,
//!                                              but for those the refusal table lets go early
//!   begin(client, status, fields, own, length) a function's head, checked; hop-by-hop fields are
//!                                              dropped, the worker's own follow
//!   write(client, bytes) -> Room               Full: wait for Writable
//!   end(client)                                complete; the client's next request may follow
//!   abort(client)                              broken off: the client sees that it is cut
//! ```
//!
//! A client that is gone, or that an event `HungUp` was made for, may still be named: every method
//! does nothing then.

mod buffers;
mod connection;
mod intake;
mod listeners;
mod shared;

pub use connection::{ANSWER_BYTES_MAX, Connection};
pub use intake::MEMORY_BYTES_MAX;
pub use shared::{Counters, Event};

use super::token::Owner;
use crate::base::{Agenda, Key, Slab, Time};
use crate::config;
use crate::http::answer::BadAnswer;
use crate::http::{self, Date, Head, Problem};
use crate::io::{Handle, Io, Token, What};
use buffers::Buffers;
use connection::Wants;
use core::time::Duration;
use intake::{SpoolBudget, Wish};
use listeners::Listeners;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shared::Shared;
use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::fd::OwnedFd;

/// Names one connection, and so the request that it has in progress.
pub type Client = Key<Connection>;

/// Pipelined requests that are looked at in one turn: then others get theirs, and answers leave.
const READY_PER_TURN_MAX: u32 = 64;
/// Clients that may come in after accepting was paused: the kernel or `io` had them already.
pub const ACCEPTED_IN_FLIGHT_MAX: usize = 1024;

/// What a client came through; it decides what it may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    Unix,
    Tcp,
}

/// Is there room for more of an answer?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Room {
    Enough,
    /// Everything written was taken, but wait for `Event::Writable` before writing more.
    Full,
}

/// The bounds of the front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub http: http::Limits,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// The longest silence within a body, or of a client that does not read its answer.
    pub body_timeout: Duration,
    /// The longest silence between two requests.
    pub idle_timeout: Duration,
    pub connections: usize,
    pub spool_bytes: u64,
    /// What `io` receives at once.
    pub chunk_bytes: usize,
}

impl Limits {
    pub fn new(http: &config::meaning::Http, io: &crate::io::Limits) -> Self {
        Self {
            http: http::Limits::new(
                http.max_head_bytes as usize,
                http.max_uri_bytes.min(http.max_head_bytes) as usize,
                http.max_body_bytes,
            ),
            head_timeout: http.head_timeout,
            body_timeout: http.body_timeout,
            idle_timeout: http.idle_timeout,
            connections: http.max_connections as usize,
            spool_bytes: http.spool_bytes,
            chunk_bytes: io.chunk_bytes as usize,
        }
    }
}

/// A request in progress.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub head: &'a Head,
    pub via: Via,
}

/// What of a request's body can be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    pub bytes: &'a [u8],
    /// Nothing comes behind these bytes.
    pub is_last: bool,
}

/// All clients.
#[derive(Debug)]
pub struct Front {
    clients: Slab<Connection>,
    listeners: Listeners,
    /// By the index of the client.
    agenda: Agenda,
    touched: Vec<Client>,
    /// How many of those that are ready may still go on in this turn.
    turns_left: u32,
    shared: Shared,
}

/// What the driver's loop calls.
impl Front {
    pub fn new(limits: Limits, now: Time, unix_sec: u64) -> Self {
        Self {
            clients: Slab::new(limits.connections + ACCEPTED_IN_FLIGHT_MAX),
            listeners: Listeners::new(),
            agenda: Agenda::new(),
            touched: Vec::new(),
            turns_left: READY_PER_TURN_MAX,
            shared: Shared {
                limits,
                now,
                date: Date::at(unix_sec),
                draining: false,
                buffers: Buffers::new(),
                budget: SpoolBudget {
                    used: 0,
                    limit: limits.spool_bytes,
                },
                events: VecDeque::new(),
                ready: VecDeque::new(),
                counters: Counters::default(),
                sending: 0,
                ahead: 0,
                scratch: Vec::new(),
            },
        }
    }

    /// Accepts clients from a listening socket. Hands it back when there are too many of them.
    pub fn listen(&mut self, socket: OwnedFd, via: Via, io: &mut Io) -> Result<(), OwnedFd> {
        self.listeners.add(socket, via, io)
    }

    /// The time of this turn, before anything else is called in it.
    pub fn set_time(&mut self, now: Time, unix_sec: u64) {
        self.shared.now = now;
        self.shared.date.set(unix_sec);
        self.turns_left = READY_PER_TURN_MAX;
    }

    /// What was reloaded holds from now on, for bodies and heads begun already as well; the number
    /// of connections stays as it was.
    pub fn set_limits(&mut self, limits: Limits) {
        self.shared.budget.limit = limits.spool_bytes;
        self.shared.limits = Limits {
            connections: self.shared.limits.connections,
            ..limits
        };
    }

    /// Something that the front asked `io` for has happened.
    pub fn completed(&mut self, token: Token, what: What, io: &mut Io) {
        match Owner::of::<Connection>(token) {
            (Owner::Client, client) => self.client_completed(client, what, io),
            (Owner::Listener, _) => self.listener_completed(token, what, io),
            (owner, _) => panic!("the front does not own {owner:?}"),
        }
    }

    fn client_completed(&mut self, client: Client, what: What, io: &Io) {
        let Some(connection) = self.clients.get_mut(client) else {
            return;
        };
        let shared = &mut self.shared;
        match what {
            What::Received(Ok(chunk)) => connection.received(&chunk, shared),
            What::Received(Err(_)) => connection.lost(shared),
            What::Ended => connection.ended(has_left(io, connection.handle()), shared),
            What::Sent { result, buffer } => connection.sent(result.ok(), buffer, shared),
            What::Accepted(_) | What::Ready(_) | What::Woken => {
                panic!("nobody asked for this on a client: {what:?}")
            }
        }
        self.touch(client);
    }

    fn listener_completed(&mut self, token: Token, what: What, io: &mut Io) {
        match what {
            What::Accepted(Ok(socket)) => {
                if let Some(via) = self.listeners.via(token) {
                    self.accepted(socket, via, io);
                }
            }
            What::Accepted(Err(error)) => {
                self.shared.counters.accept_failures += 1;
                self.listeners.failed(token, error, self.shared.now);
            }
            what => panic!("nobody asked for this on a listener: {what:?}"),
        }
    }

    fn accepted(&mut self, socket: OwnedFd, via: Via, io: &mut Io) {
        if via == Via::Tcp {
            // Answers leave whole; waiting to fill a segment would only cost time.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        }
        let shared = &mut self.shared;
        let new = |client| Connection::new(client, via, &shared.limits, shared.now);
        let Ok(client) = self.clients.insert_with(new) else {
            shared.counters.turned_away += 1;
            return;
        };
        let Ok(handle) = io.add(socket, Owner::Client.token(client)) else {
            self.clients.remove(client);
            shared.counters.turned_away += 1;
            return;
        };
        shared.counters.accepted += 1;
        if let Some(connection) = self.clients.get_mut(client) {
            connection.attach(handle);
        }
        if self.clients.len() >= self.shared.limits.connections {
            self.listeners.pause(io);
        }
        self.touch(client);
    }

    /// The next thing the driver should know, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            while let Some(event) = self.shared.events.pop_front() {
                if self.announce(event) {
                    return Some(event);
                }
            }
            self.turns_left = self.turns_left.checked_sub(1)?;
            let client = self.shared.ready.pop_front()?;
            if let Some(connection) = self.clients.get_mut(client) {
                connection.go_on(&mut self.shared);
                self.touch(client);
            }
        }
    }

    /// False: the event came to nothing meanwhile.
    fn announce(&mut self, event: Event) -> bool {
        match event {
            Event::Arrived(client) => self
                .clients
                .get_mut(client)
                .is_some_and(Connection::announce),
            Event::Body(client) => self
                .clients
                .get_mut(client)
                .is_some_and(Connection::announce_body),
            Event::Writable(client) => self.clients.contains(client),
            Event::HungUp(_) => true,
        }
    }

    /// Asks `io` for what the clients of this turn need: sends, receives, closes.
    pub fn flush(&mut self, io: &mut Io) {
        while let Some(client) = self.touched.pop() {
            let Some(connection) = self.clients.get_mut(client) else {
                continue;
            };
            let Wants {
                receive,
                send,
                shutdown,
                close,
            } = connection.wants(&mut self.shared);
            let handle = connection.handle();
            if close {
                io.close(handle);
                self.bury(client, io);
                continue;
            }
            if let Some(buffer) = send {
                io.send(handle, buffer);
            }
            if shutdown {
                io.shutdown(handle, Shutdown::Write);
            }
            if receive {
                io.receive(handle);
            }
            let due = connection.due(&self.shared);
            if due < Time::MAX {
                self.agenda.arm(client.index() as u32, due);
            }
        }
    }

    fn bury(&mut self, client: Client, io: &mut Io) {
        self.agenda.disarm(client.index() as u32);
        if let Some(connection) = self.clients.remove(client) {
            connection.bury(&mut self.shared);
            self.shared.counters.closed += 1;
        }
        if self.clients.len() < self.shared.limits.connections {
            self.listeners.resume(io);
        }
    }

    /// The earliest moment at which `expire` or `next_event` has something to do.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.shared.ready.is_empty() {
            return Some(self.shared.now);
        }
        let rest = self.listeners.rest_ends();
        self.agenda.next_deadline().into_iter().chain(rest).min()
    }

    /// Gives up on clients whose time is over.
    pub fn expire(&mut self, io: &mut Io) {
        let now = self.shared.now;
        while let Some(index) = self.agenda.pop_due(now) {
            let Some(client) = self.clients.key_at(index) else {
                continue;
            };
            if let Some(connection) = self.clients.get_mut(client) {
                connection.expired(&mut self.shared);
                self.touch(client);
            }
        }
        if self.listeners.rest_ends().is_some_and(|end| end <= now) {
            self.listeners.rested(io);
        }
    }

    fn touch(&mut self, client: Client) {
        if let Some(connection) = self.clients.get_mut(client)
            && connection.touch()
        {
            self.touched.push(client);
        }
    }

    /// From now on every answer is the last of its connection, and idle connections are closed.
    pub fn drain(&mut self) {
        self.shared.draining = true;
        let clients: Vec<Client> = self.clients.keys().collect();
        for client in clients {
            self.on(client, |connection, _| connection.drain());
        }
    }

    /// Accepts nobody any more; who waits in the backlog waits for the next worker.
    pub fn stop_accepting(&mut self, io: &mut Io) {
        self.listeners.close(io);
    }

    /// Whether a request is being read or an answer being sent.
    pub fn is_busy(&self) -> bool {
        self.clients
            .iter()
            .any(|(_, connection)| !connection.is_idle())
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.clients.len()
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Bytes of bodies that have come and wait to be taken.
    pub fn spooled_bytes(&self) -> u64 {
        self.shared.budget.used
    }
}

/// What the driver asks about requests and says to clients. A client that is gone, or whose request
/// is, may be named: nothing happens then.
impl Front {
    pub fn request(&self, client: Client) -> Option<Request<'_>> {
        let connection = self.clients.get(client)?;
        Some(Request {
            head: connection.head()?,
            via: connection.via(),
        })
    }

    /// What of the request's body can be taken now.
    pub fn body(&self, client: Client) -> Body<'_> {
        match self.clients.get(client) {
            Some(connection) => connection.body(),
            None => Body {
                bytes: &[],
                is_last: true,
            },
        }
    }

    /// The first `count` bytes of the body were taken.
    pub fn take_body(&mut self, client: Client, count: usize) {
        self.on(client, |connection, shared| {
            connection.take_body(count, shared);
        });
    }

    /// Read the body as it is taken.
    pub fn stream_body(&mut self, client: Client) {
        self.on(client, |connection, shared| {
            connection.read_on(Wish::Stream, shared);
        });
    }

    /// Read the body to its end, even if nobody takes it yet.
    pub fn spool_body(&mut self, client: Client) {
        self.on(client, |connection, shared| {
            connection.read_on(Wish::Spool, shared);
        });
    }

    /// The worker's own answer.
    pub fn answer(&mut self, client: Client, status: u16, fields: &[(&str, &[u8])], body: &[u8]) {
        self.on(client, |connection, shared| {
            connection.answer(status, fields, body, shared);
        });
    }

    /// The worker's own refusal.
    pub fn refuse(&mut self, client: Client, problem: &Problem<'_>) {
        self.on(client, |connection, shared| {
            connection.refuse(problem, shared);
        });
    }

    /// A function's answer begins: its status and fields, the worker's own fields, and how long the
    /// body will be, if that is known. An answer that HTTP cannot carry is not begun.
    pub fn begin<'f, I>(
        &mut self,
        client: Client,
        status: u16,
        fields: I,
        own: &[(&str, &[u8])],
        length: Option<u64>,
    ) -> Result<(), BadAnswer>
    where
        I: Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
    {
        self.on(client, |connection, shared| {
            connection.begin(status, fields, own, length, shared)
        })
        .unwrap_or(Ok(()))
    }

    /// More of the answer's body.
    pub fn write(&mut self, client: Client, data: &[u8]) -> Room {
        self.on(client, |connection, shared| connection.write(data, shared))
            .unwrap_or(Room::Enough)
    }

    /// The answer is complete.
    pub fn end(&mut self, client: Client) {
        self.on(client, Connection::end);
    }

    /// The answer will never be complete.
    pub fn abort(&mut self, client: Client) {
        self.on(client, Connection::abort);
    }

    fn on<R, F>(&mut self, client: Client, act: F) -> Option<R>
    where
        F: FnOnce(&mut Connection, &mut Shared) -> R,
    {
        let connection = self.clients.get_mut(client)?;
        let result = act(connection, &mut self.shared);
        if connection.touch() {
            self.touched.push(client);
        }
        Some(result)
    }
}

/// Has the peer closed the socket altogether, not only its sending side? Unix sockets tell.
fn has_left(io: &Io, handle: Handle) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(
        io.descriptor(handle),
        PollFlags::empty(),
    )];
    let polling = poll(
        &mut polled,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    );
    polling.is_ok()
        && polled[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests;
