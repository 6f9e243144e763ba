//! One descriptor under io_uring: its role, and which operations are under way for it.

use crate::base::Key;
use crate::io::{Completion, Errno, Interest, Token, What, passes_with_the_newcomer};
use crate::sys::ring::{Ring, Ticket, Via};
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Debug)]
pub(super) struct Place {
    descriptor: OwnedFd,
    token: Token,
    /// How many operations were pushed when the last one that names the descriptor was.
    pushed: u64,
    role: Role,
}

/// Found out by the first thing asked for; a descriptor never changes it.
#[derive(Debug)]
enum Role {
    Unused,
    Stream(Stream),
    Listener(Listener),
    Watched(Option<Ticket>),
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) via: Via,
    pub(super) receiving: Option<Receiving>,
    pub(super) sending: Option<Ticket>,
    /// The last receive did not fill its chunk: likely nothing is left.
    pub(super) drained: bool,
}

#[derive(Debug)]
pub(super) enum Receiving {
    UnderWay(Ticket, Try),
    /// In the queue for a chunk.
    Starving,
}

impl Receiving {
    pub(super) fn tried(self) -> Option<Try> {
        match self {
            Self::UnderWay(_, tried) => Some(tried),
            Self::Starving => None,
        }
    }
}

/// How a receive goes about it, which says what it means that there was no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Try {
    /// Maybe there are no bytes either: to be polled.
    AtOnce,
    /// There are bytes: it starves.
    Polled,
    /// It starved, and somebody was quicker: first in the queue again.
    Fed,
}

#[derive(Debug)]
struct Listener {
    accepting: bool,
    /// Under way, perhaps being cancelled.
    ticket: Option<Ticket>,
    /// Accepted by the kernel after the pause, for when accepting is resumed. No more than fit into
    /// the completion queue between the pause and the next wait.
    surplus: VecDeque<OwnedFd>,
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Place {
    pub(super) const fn new(descriptor: OwnedFd, token: Token) -> Self {
        Self {
            descriptor,
            token,
            pushed: 0,
            role: Role::Unused,
        }
    }

    pub(super) const fn token(&self) -> Token {
        self.token
    }

    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    /// The descriptor, and the number of the last operation that names it.
    pub(super) fn into_parts(self) -> (u64, OwnedFd) {
        (self.pushed, self.descriptor)
    }

    pub(super) fn is_idle(&self) -> bool {
        match &self.role {
            Role::Unused => true,
            Role::Stream(stream) => stream.receiving.is_none() && stream.sending.is_none(),
            Role::Listener(_) => false,
            Role::Watched(ticket) => ticket.is_none(),
        }
    }

    /// What is under way.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> + use<> {
        let tickets = match &self.role {
            Role::Unused => [None, None],
            Role::Stream(stream) => {
                let receiving = match stream.receiving {
                    Some(Receiving::UnderWay(ticket, _)) => Some(ticket),
                    Some(Receiving::Starving) | None => None,
                };
                [receiving, stream.sending]
            }
            Role::Listener(listener) => [listener.ticket, None],
            Role::Watched(ticket) => [*ticket, None],
        };
        tickets.into_iter().flatten()
    }

    pub(super) fn stream(&mut self) -> &mut Stream {
        if let Role::Unused = self.role {
            self.role = Role::Stream(Stream {
                via: Via::Socket,
                receiving: None,
                sending: None,
                drained: false,
            });
        }
        match &mut self.role {
            Role::Stream(stream) => stream,
            role => panic!("sends and receives only as a stream, not as {role:?}"),
        }
    }

    /// Worth polling first: for a socket that costs nothing.
    pub(super) fn is_drained(&mut self) -> bool {
        let stream = self.stream();
        stream.drained && stream.via == Via::Socket
    }

    pub(super) fn receive(&mut self, ring: &mut Ring, key: Key<Self>, how: Try) {
        let via = self.stream().via;
        let descriptor = self.descriptor.as_fd();
        let ticket = match (via, how) {
            // Reads know no way to wait before they need a buffer.
            (Via::Pipe, Try::Polled) => ring.poll(descriptor, READABLE, key.pack()),
            _ => ring.receive(descriptor, via, how == Try::Polled, key.pack()),
        };
        self.stream().receiving = Some(Receiving::UnderWay(ticket, how));
        self.pushed = ring.pushed();
    }

    pub(super) fn send(&mut self, ring: &mut Ring, key: Key<Self>, buffer: Vec<u8>, from: usize) {
        let via = self.stream().via;
        let ticket = ring.send(self.descriptor.as_fd(), via, buffer, from, key.pack());
        self.stream().sending = Some(ticket);
        self.pushed = ring.pushed();
    }

    pub(super) fn sent(
        &mut self,
        ring: &mut Ring,
        key: Key<Self>,
        result: Result<usize, Errno>,
        buffer: Vec<u8>,
        from: usize,
    ) -> Option<What> {
        self.stream().sending = None;
        let result = match result {
            Err(Errno::NOTSOCK) => {
                self.stream().via = Via::Pipe;
                self.send(ring, key, buffer, from);
                return None;
            }
            Ok(0) if from < buffer.len() => Err(Errno::IO),
            Ok(count) if from + count < buffer.len() => {
                self.send(ring, key, buffer, from + count);
                return None;
            }
            Ok(_) => Ok(buffer.len()),
            Err(error) => Err(error),
        };
        Some(What::Sent { result, buffer })
    }

    pub(super) fn watch(&mut self, ring: &mut Ring, key: Key<Self>, interest: Interest) {
        let idle = matches!(self.role, Role::Unused | Role::Watched(None));
        assert!(
            idle,
            "watched once at a time and in no other role: {:?}",
            self.role
        );
        let events = match interest {
            Interest::Readable => READABLE,
            Interest::Priority => PRIORITY,
        };
        let ticket = ring.poll(self.descriptor.as_fd(), events, key.pack());
        self.role = Role::Watched(Some(ticket));
        self.pushed = ring.pushed();
    }

    pub(super) fn polled(
        &mut self,
        ring: &mut Ring,
        key: Key<Self>,
        result: Result<(), Errno>,
    ) -> Option<What> {
        match &mut self.role {
            Role::Watched(ticket) => {
                *ticket = None;
                Some(What::Ready(result))
            }
            Role::Stream(stream) => {
                // A pipe has bytes now, or tells its error when read.
                let ticket = ring.receive(self.descriptor.as_fd(), stream.via, false, key.pack());
                stream.receiving = Some(Receiving::UnderWay(ticket, Try::Polled));
                self.pushed = ring.pushed();
                None
            }
            role => unreachable!("never polled: {role:?}"),
        }
    }

    /// True when there are newcomers to deliver that came after the pause.
    pub(super) fn accept(&mut self, ring: &mut Ring, key: Key<Self>) -> bool {
        if let Role::Unused = self.role {
            self.role = Role::Listener(Listener {
                accepting: false,
                ticket: None,
                surplus: VecDeque::new(),
            });
        }
        let resumed = {
            let listener = self.listener();
            !core::mem::replace(&mut listener.accepting, true) && !listener.surplus.is_empty()
        };
        self.keep_accepting(ring, key);
        resumed
    }

    /// Where accepting is wanted and not under way (or about to be cancelled) it is started.
    fn keep_accepting(&mut self, ring: &mut Ring, key: Key<Self>) {
        let listener = self.listener();
        if listener.accepting && listener.ticket.is_none() {
            let ticket = ring.accept(self.descriptor.as_fd(), key.pack());
            self.listener().ticket = Some(ticket);
            self.pushed = ring.pushed();
        }
    }

    pub(super) fn pause_accept(&mut self, ring: &mut Ring) {
        let listener = self.listener();
        if core::mem::replace(&mut listener.accepting, false)
            && let Some(ticket) = listener.ticket
        {
            ring.cancel(ticket);
        }
    }

    pub(super) fn accepted(
        &mut self,
        ring: &mut Ring,
        key: Key<Self>,
        result: Result<OwnedFd, Errno>,
        more: bool,
    ) -> Option<What> {
        let listener = self.listener();
        if !more {
            listener.ticket = None;
        }
        let what = match result {
            Ok(newcomer) if listener.accepting => Some(What::Accepted(Ok(newcomer))),
            Ok(newcomer) => {
                listener.surplus.push_back(newcomer);
                None
            }
            Err(Errno::CANCELED) => None,
            Err(error) if passes_with_the_newcomer(error) => None,
            Err(error) if listener.accepting => {
                listener.accepting = false;
                Some(What::Accepted(Err(error)))
            }
            Err(_) => None,
        };
        self.keep_accepting(ring, key);
        what
    }

    /// The next of those accepted by the kernel after a pause, if accepting was resumed.
    pub(super) fn next_surplus(&mut self) -> Option<Completion> {
        let token = self.token;
        let listener = self.listener();
        if !listener.accepting {
            return None;
        }
        let what = What::Accepted(Ok(listener.surplus.pop_front()?));
        Some(Completion { token, what })
    }

    fn listener(&mut self) -> &mut Listener {
        match &mut self.role {
            Role::Listener(listener) => listener,
            role => panic!("accepts and pauses only as a listener, not as {role:?}"),
        }
    }
}

const READABLE: u32 = (PollFlags::IN.bits() | PollFlags::RDHUP.bits()) as u32;
const PRIORITY: u32 = PollFlags::PRI.bits() as u32;
