//! One descriptor under epoll: its role, what was asked of it, and what epoll has told about it.

use crate::base::Key;
use crate::io::chunk::Pool;
use crate::io::{Completion, Errno, Interest, Token, What, passes_with_the_newcomer};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest as Edges, Registry};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Newcomers accepted in one turn of a listener: a storm of them may not keep the others waiting.
const ACCEPTS_PER_TURN: usize = 64;

/// What a turn leaves behind.
pub(super) enum Turn {
    Done,
    Again,
    Starving,
}

#[derive(Debug)]
pub(super) struct Place {
    descriptor: OwnedFd,
    token: Token,
    /// Which edges epoll was asked for; none while the descriptor is unknown to it.
    registered: Option<Edges>,
    /// Waits for a turn, or starves.
    pub(super) queued: bool,
    role: Role,
}

/// Found out by the first thing asked for; a descriptor never changes it.
#[derive(Debug)]
enum Role {
    Unused,
    Stream(Stream),
    Listener(Listener),
    Watched(Watched),
}

#[derive(Debug)]
struct Stream {
    via: Via,
    receiving: bool,
    sending: Option<Outgoing>,
    /// Not known to be drained.
    readable: bool,
    /// Not known to be full.
    writable: bool,
    /// The peer's end was announced: no further edge will come, so a receive that does not fill its
    /// chunk says nothing any more.
    hung_up: bool,
}

/// Sockets have calls that never block and never raise SIGPIPE; pipes know only read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    Socket,
    Pipe,
}

#[derive(Debug)]
struct Outgoing {
    buffer: Vec<u8>,
    sent: usize,
    result: Option<Result<usize, Errno>>,
}

#[derive(Debug)]
struct Listener {
    accepting: bool,
    ready: bool,
}

#[derive(Debug)]
enum Watched {
    Idle,
    Armed,
    Fired(Result<(), Errno>),
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
            registered: None,
            queued: false,
            role: Role::Unused,
        }
    }

    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }

    pub(super) fn is_idle(&self) -> bool {
        match &self.role {
            Role::Unused => true,
            Role::Stream(stream) => !stream.receiving && stream.sending.is_none(),
            Role::Listener(_) => false,
            Role::Watched(watched) => matches!(watched, Watched::Idle),
        }
    }

    pub(super) fn has_something_to_try(&self) -> bool {
        match &self.role {
            Role::Unused => false,
            Role::Stream(stream) => {
                (stream.receiving && stream.readable)
                    || stream
                        .sending
                        .as_ref()
                        .is_some_and(|out| out.result.is_some() || stream.writable)
            }
            Role::Listener(listener) => listener.accepting && listener.ready,
            Role::Watched(watched) => matches!(watched, Watched::Fired(_)),
        }
    }

    pub(super) fn accept(&mut self) {
        match &mut self.role {
            Role::Listener(listener) => listener.accepting = true,
            Role::Unused => {
                never_block(&self.descriptor);
                self.role = Role::Listener(Listener {
                    accepting: true,
                    ready: true,
                });
            }
            role => panic!("accepts only as a listener, not as {role:?}"),
        }
    }

    pub(super) fn pause_accept(&mut self) {
        match &mut self.role {
            Role::Listener(listener) => listener.accepting = false,
            role => panic!("only a listener pauses, not {role:?}"),
        }
    }

    pub(super) fn receive(&mut self) {
        let stream = self.stream();
        assert!(!stream.receiving, "one receive at a time");
        stream.receiving = true;
    }

    pub(super) fn send(&mut self, buffer: Vec<u8>, registry: &Registry, key: Key<Self>) {
        let stream = self.stream();
        assert!(stream.sending.is_none(), "one send at a time");
        stream.sending = Some(Outgoing {
            buffer,
            sent: 0,
            result: None,
        });
        self.push(registry, key);
    }

    /// Registering again makes epoll look anew, so what is ready already is told at once.
    pub(super) fn watch(&mut self, interest: Interest, registry: &Registry, key: Key<Self>) {
        let edges = match interest {
            Interest::Readable => Edges::READABLE,
            Interest::Priority => Edges::PRIORITY,
        };
        let idle = matches!(self.role, Role::Unused | Role::Watched(Watched::Idle));
        assert!(
            idle,
            "watched once at a time and in no other role: {:?}",
            self.role
        );
        let registered = self.register(edges, registry, key);
        self.role = Role::Watched(match registered {
            Ok(()) => Watched::Armed,
            Err(error) => Watched::Fired(Err(error)),
        });
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        // A description that lives on elsewhere would stay in the epoll set otherwise.
        if self.registered.take().is_some() {
            let _ = registry.deregister(&mut SourceFd(&self.descriptor.as_raw_fd()));
        }
    }

    /// Takes down what epoll tells; the caller looks whether there is something to try now.
    pub(super) fn note(&mut self, event: &Event, registry: &Registry, key: Key<Self>) {
        let broken = event.is_error() || event.is_read_closed();
        match &mut self.role {
            Role::Unused => {}
            Role::Stream(stream) => {
                stream.hung_up |= broken;
                stream.readable |= event.is_readable() || broken;
                stream.writable |=
                    event.is_writable() || event.is_write_closed() || event.is_error();
                if stream.sending.is_none() && self.registered != Some(Edges::READABLE) {
                    // Nobody waits for room: the peer's reading shall not wake us. Where this
                    // fails it does, which is only slower.
                    let _ = self.register(Edges::READABLE, registry, key);
                }
            }
            Role::Listener(listener) => listener.ready = true,
            Role::Watched(watched) => {
                if matches!(watched, Watched::Armed) {
                    *watched = Watched::Fired(Ok(()));
                }
            }
        }
    }

    /// Tries once what can be tried; at most `room` completions.
    pub(super) fn turn(
        &mut self,
        key: Key<Self>,
        registry: &Registry,
        pool: &Rc<Pool>,
        room: usize,
        out: &mut Vec<Completion>,
    ) -> Turn {
        match &mut self.role {
            Role::Unused => Turn::Done,
            Role::Stream(_) => {
                if let Some(what) = self.sending_turn(registry, key) {
                    out.push(Completion {
                        token: self.token,
                        what,
                    });
                }
                self.receiving_turn(registry, key, pool, out)
            }
            Role::Listener(_) => self.listener_turn(registry, key, room, out),
            Role::Watched(watched) => {
                if let Watched::Fired(result) = *watched {
                    *watched = Watched::Idle;
                    out.push(Completion {
                        token: self.token,
                        what: What::Ready(result),
                    });
                }
                Turn::Done
            }
        }
    }

    fn sending_turn(&mut self, registry: &Registry, key: Key<Self>) -> Option<What> {
        let stream = self.stream();
        if stream.sending.as_ref()?.result.is_none() && stream.writable {
            self.push(registry, key);
        }
        let stream = self.stream();
        let result = stream.sending.as_ref()?.result?;
        let buffer = stream.sending.take()?.buffer;
        Some(What::Sent { result, buffer })
    }

    /// Writes as much as goes; what does not go waits for the edge that tells of room.
    fn push(&mut self, registry: &Registry, key: Key<Self>) {
        let Role::Stream(stream) = &mut self.role else {
            unreachable!("only streams send")
        };
        let Some(out) = &mut stream.sending else {
            unreachable!("the caller has set it")
        };
        if out.result.is_some() {
            return;
        }
        match write(&self.descriptor, &mut stream.via, &out.buffer[out.sent..]) {
            Ok(count) => out.sent += count,
            Err(Errno::AGAIN) => {}
            Err(error) => out.result = Some(Err(error)),
        }
        if out.result.is_none() && out.sent == out.buffer.len() {
            out.result = Some(Ok(out.sent));
        }
        if out.result.is_some() {
            return;
        }
        stream.writable = false;
        if let Err(error) = self.register(Edges::READABLE | Edges::WRITABLE, registry, key) {
            let Role::Stream(Stream {
                sending: Some(out), ..
            }) = &mut self.role
            else {
                unreachable!("it is being sent")
            };
            out.result = Some(Err(error));
        }
    }

    fn receiving_turn(
        &mut self,
        registry: &Registry,
        key: Key<Self>,
        pool: &Rc<Pool>,
        out: &mut Vec<Completion>,
    ) -> Turn {
        let Role::Stream(stream) = &mut self.role else {
            unreachable!("only streams receive")
        };
        if !(stream.receiving && stream.readable) {
            return Turn::Done;
        }
        let Some(mut buffer) = pool.take() else {
            if has_something(&self.descriptor) {
                return Turn::Starving;
            }
            return match self.blocked(registry, key) {
                Ok(()) => Turn::Done,
                Err(error) => self.received(What::Received(Err(error)), out),
            };
        };
        let what = match read(&self.descriptor, &mut stream.via, &mut buffer) {
            Ok(0) => What::Ended,
            Ok(count) => {
                let drained = count < buffer.len() && !stream.hung_up;
                stream.readable = !(drained && self.registered.is_some());
                What::Received(Ok(pool.chunk(core::mem::take(&mut buffer), count)))
            }
            Err(Errno::AGAIN) => match self.blocked(registry, key) {
                Ok(()) => {
                    pool.give_back(buffer);
                    return Turn::Done;
                }
                Err(error) => What::Received(Err(error)),
            },
            Err(error) => What::Received(Err(error)),
        };
        if !buffer.is_empty() {
            pool.give_back(buffer);
        }
        self.received(what, out)
    }

    /// There is nothing to receive: the edge will tell.
    fn blocked(&mut self, registry: &Registry, key: Key<Self>) -> Result<(), Errno> {
        self.stream().readable = false;
        match self.registered {
            Some(_) => Ok(()),
            None => self.register(Edges::READABLE, registry, key),
        }
    }

    fn received(&mut self, what: What, out: &mut Vec<Completion>) -> Turn {
        self.stream().receiving = false;
        out.push(Completion {
            token: self.token,
            what,
        });
        Turn::Done
    }

    fn listener_turn(
        &mut self,
        registry: &Registry,
        key: Key<Self>,
        room: usize,
        out: &mut Vec<Completion>,
    ) -> Turn {
        let Role::Listener(listener) = &mut self.role else {
            unreachable!("only these accept")
        };
        if !listener.accepting {
            return Turn::Done;
        }
        let mut complete = |result| {
            out.push(Completion {
                token: self.token,
                what: What::Accepted(result),
            });
        };
        for _ in 0..room.min(ACCEPTS_PER_TURN) {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&self.descriptor, flags) {
                Ok(newcomer) => complete(Ok(newcomer)),
                Err(error) if passes_with_the_newcomer(error) => {}
                Err(Errno::AGAIN) => {
                    listener.ready = false;
                    if self.registered.is_none()
                        && let Err(error) = self.register(Edges::READABLE, registry, key)
                    {
                        out.push(Completion {
                            token: self.token,
                            what: What::Accepted(Err(error)),
                        });
                        self.pause_accept();
                    }
                    return Turn::Done;
                }
                Err(error) => {
                    listener.accepting = false;
                    complete(Err(error));
                    return Turn::Done;
                }
            }
        }
        Turn::Again
    }

    fn stream(&mut self) -> &mut Stream {
        if let Role::Unused = self.role {
            self.role = Role::Stream(Stream {
                via: Via::Socket,
                receiving: false,
                sending: None,
                readable: true,
                writable: true,
                hung_up: false,
            });
        }
        match &mut self.role {
            Role::Stream(stream) => stream,
            role => panic!("sends and receives only as a stream, not as {role:?}"),
        }
    }

    fn register(&mut self, edges: Edges, registry: &Registry, key: Key<Self>) -> Result<(), Errno> {
        let descriptor = self.descriptor.as_raw_fd();
        let mut source = SourceFd(&descriptor);
        let token = mio::Token(key.pack() as usize);
        let registered = match self.registered {
            None => registry.register(&mut source, token, edges),
            Some(_) => registry.reregister(&mut source, token, edges),
        };
        match registered {
            Ok(()) => {
                self.registered = Some(edges);
                Ok(())
            }
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
}

/// Only who is known to have something to receive starves: a free chunk would be wasted on others.
fn has_something(descriptor: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(descriptor, PollFlags::IN)];
    // Where asking fails, receiving fails too and tells.
    rustix::event::poll(&mut asked, Some(&Timespec::default())) != Ok(0)
}

fn read(descriptor: &OwnedFd, via: &mut Via, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let result = match via {
            Via::Socket => rustix::net::recv(descriptor, &mut *buffer, RecvFlags::DONTWAIT)
                .map(|(count, _)| count),
            Via::Pipe => rustix::io::read(descriptor, &mut *buffer),
        };
        match result {
            Err(Errno::INTR) => {}
            Err(Errno::NOTSOCK) => become_pipe(descriptor, via),
            result => return result,
        }
    }
}

fn write(descriptor: &OwnedFd, via: &mut Via, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        let result = match via {
            Via::Socket => rustix::net::send(descriptor, bytes, flags),
            Via::Pipe => rustix::io::write(descriptor, bytes),
        };
        match result {
            Err(Errno::INTR) => {}
            Err(Errno::NOTSOCK) => become_pipe(descriptor, via),
            result => return result,
        }
    }
}

fn become_pipe(descriptor: &OwnedFd, via: &mut Via) {
    never_block(descriptor);
    *via = Via::Pipe;
}

/// What lacks a flag for each call needs the one of its description.
fn never_block(descriptor: &OwnedFd) {
    // It cannot fail for an open descriptor; what cannot be read tells so itself.
    if let Ok(flags) = rustix::fs::fcntl_getfl(descriptor) {
        let _ = rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK);
    }
}
