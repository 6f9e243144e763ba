//! Random owners and random peers against a model that knows what may and what must happen.
//!
//! May: a completion is for an open handle, for something asked for, with the very bytes that come
//! next. Must: once the peers have read all and no chunk is held, whatever can complete does.
//! `PROPTEST_CASES` widens it.

use crate::rig::{Rig, run_with};
use olworker::io::{Completion, Handle, Limits, Token, Wanted, What};
use olworker::sys::clock;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const CONNECTIONS_MAX: usize = 6;
const STEPS_MAX: usize = 80;

/// A wait that brings nothing for so long says that what must happen does not.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than it takes to send what a step asks for, a socket's buffer at a time.
const ROUNDS_MAX: u32 = 1000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Open,
    PeerWrites(usize, usize),
    PeerReads(usize, usize),
    PeerShuts(usize),
    PeerCloses(usize),
    Receive(usize),
    Send(usize, usize),
    Close(usize),
    DropChunk(usize),
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..CONNECTIONS_MAX;
    let step = prop_oneof![
        3 => Just(Step::Open),
        6 => (who.clone(), 1..400usize).prop_map(|(who, count)| Step::PeerWrites(who, count)),
        2 => (who.clone(), 1..300_000usize).prop_map(|(who, count)| Step::PeerReads(who, count)),
        1 => who.clone().prop_map(Step::PeerShuts),
        1 => who.clone().prop_map(Step::PeerCloses),
        6 => who.clone().prop_map(Step::Receive),
        3 => (who.clone(), 0..500_000usize).prop_map(|(who, count)| Step::Send(who, count)),
        2 => who.prop_map(Step::Close),
        3 => (0..2usize).prop_map(Step::DropChunk),
        8 => Just(Step::Wait),
    ];
    prop::collection::vec(step, 1..STEPS_MAX)
}

/// The byte at a place of a connection's stream, in either direction.
fn byte(token: u64, at: usize) -> u8 {
    (at as u64)
        .wrapping_mul(37)
        .wrapping_add(token * 11)
        .to_le_bytes()[0]
        ^ (at >> 8) as u8
}

fn bytes(token: u64, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| byte(token, at)).collect()
}

struct Connection {
    handle: Handle,
    token: u64,
    /// None once it has closed.
    peer: Option<UnixStream>,
    peer_shut: bool,
    /// Bytes the peer wrote, and how many of them were received.
    written: usize,
    received: usize,
    receiving: bool,
    /// Bytes asked to be sent, and how many of them the peer has read.
    asked: usize,
    read: usize,
    sending: Option<usize>,
}

struct Model {
    rig: Rig,
    connections: Vec<Connection>,
    opened: u64,
    held: Vec<What>,
}

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Open => self.open(),
            Step::Wait => self.wait(Duration::ZERO),
            Step::DropChunk(index) => {
                if index < self.held.len() {
                    self.held.remove(index);
                }
            }
            Step::Close(who) => {
                if who < self.connections.len() {
                    let connection = self.connections.remove(who);
                    self.rig.io.close(connection.handle);
                }
            }
            Step::Receive(who) => self.receive(who),
            Step::Send(who, count) => self.send(who, count),
            Step::PeerWrites(who, count) => {
                self.on(who, |connection| connection.peer_writes(count));
            }
            Step::PeerReads(who, count) => {
                self.on(who, |connection| {
                    connection.peer_reads(count);
                });
            }
            Step::PeerShuts(who) => self.on(who, |connection| {
                if let Some(peer) = &connection.peer {
                    peer.shutdown(Shutdown::Write).unwrap();
                    connection.peer_shut = true;
                }
            }),
            Step::PeerCloses(who) => self.on(who, |connection| connection.peer = None),
        }
    }

    fn on<F: FnOnce(&mut Connection)>(&mut self, who: usize, what: F) {
        if let Some(connection) = self.connections.get_mut(who) {
            what(connection);
        }
    }

    fn open(&mut self) {
        if self.connections.len() == CONNECTIONS_MAX {
            return;
        }
        let (ours, peer) = UnixStream::pair().unwrap();
        peer.set_nonblocking(true).unwrap();
        let token = self.opened;
        self.opened += 1;
        self.connections.push(Connection {
            handle: self.rig.add(ours, token),
            token,
            peer: Some(peer),
            peer_shut: false,
            written: 0,
            received: 0,
            receiving: false,
            asked: 0,
            read: 0,
            sending: None,
        });
    }

    fn receive(&mut self, who: usize) {
        let Some(connection) = self.connections.get_mut(who) else {
            return;
        };
        if !connection.receiving {
            connection.receiving = true;
            self.rig.io.receive(connection.handle);
        }
    }

    fn send(&mut self, who: usize, count: usize) {
        let Some(connection) = self.connections.get_mut(who) else {
            return;
        };
        if connection.sending.is_none() {
            let buffer = bytes(connection.token, connection.asked, count);
            connection.sending = Some(count);
            connection.asked += count;
            self.rig.io.send(connection.handle, buffer);
        }
    }

    fn wait(&mut self, timeout: Duration) {
        self.rig.io.wait(Some(timeout), &mut self.rig.out).unwrap();
        assert!(self.rig.out.len() <= small().completions as usize);
        for done in std::mem::take(&mut self.rig.out) {
            self.done(done);
        }
    }

    fn done(&mut self, done: Completion) {
        let Completion {
            token: Token(token),
            what,
        } = done;
        let connection = self
            .connections
            .iter_mut()
            .find(|connection| connection.token == token)
            .expect("only open handles complete");
        match &what {
            What::Sent { result, buffer } => {
                let count = connection
                    .sending
                    .take()
                    .expect("only what was asked for completes");
                let from = connection.asked - count;
                assert!(
                    *buffer == bytes(token, from, count),
                    "the buffer comes back as it went"
                );
                match result {
                    Ok(sent) => assert_eq!(*sent, count),
                    Err(error) => assert!(connection.peer.is_none(), "{error}"),
                }
            }
            What::Received(_) | What::Ended => {
                assert!(connection.receiving, "only what was asked for completes");
                connection.receiving = false;
                connection.check_received(&what);
            }
            what => panic!("never asked for: {what:?}"),
        }
        if matches!(what, What::Received(Ok(_))) {
            self.held.push(what);
        }
    }

    /// No more steps come: what can complete must, receives without being asked again.
    fn settle(&mut self) {
        self.held.clear();
        while self.connections.iter().any(Connection::must_receive) {
            let before = clock::now();
            self.wait(PATIENCE);
            let stuck = self
                .connections
                .iter()
                .find(|connection| connection.must_receive());
            if let (Some(stuck), true) = (stuck, clock::now() - before >= PATIENCE) {
                panic!("{} waits for ever", stuck.token);
            }
            self.held.clear();
        }
        let mut rounds = 0..ROUNDS_MAX;
        while self
            .connections
            .iter()
            .any(|connection| connection.sending.is_some())
        {
            assert!(rounds.next().is_some(), "what the peers read makes no room");
            for connection in &mut self.connections {
                while connection.peer_reads(1 << 20) > 0 {}
            }
            self.wait(Duration::ZERO);
        }
        for connection in std::mem::take(&mut self.connections) {
            self.rig.io.close(connection.handle);
        }
        self.rig.expect_nothing();
    }
}

impl Connection {
    fn peer_writes(&mut self, count: usize) {
        let Some(peer) = &mut self.peer else { return };
        if self.peer_shut {
            return;
        }
        match peer.write(&bytes(self.token, self.written, count)) {
            Ok(count) => self.written += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    fn peer_reads(&mut self, count: usize) -> usize {
        let Some(peer) = &mut self.peer else { return 0 };
        let mut buffer = vec![0; count];
        match peer.read(&mut buffer) {
            Ok(count) => {
                assert!(self.read + count <= self.asked, "more than was asked for");
                assert!(buffer[..count] == bytes(self.token, self.read, count));
                self.read += count;
                count
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                0
            }
        }
    }

    fn check_received(&mut self, what: &What) {
        match what {
            What::Received(Ok(chunk)) => {
                assert!(!chunk.is_empty());
                assert!(**chunk == bytes(self.token, self.received, chunk.len()));
                self.received += chunk.len();
                assert!(self.received <= self.written);
            }
            What::Received(Err(error)) => assert!(self.peer.is_none(), "{error}"),
            _ => {
                assert!(
                    self.peer_shut || self.peer.is_none(),
                    "the peer may still send"
                );
                assert_eq!(self.received, self.written, "the end comes last");
            }
        }
    }

    fn must_receive(&self) -> bool {
        let ended = self.peer_shut || self.peer.is_none();
        self.receiving && (ended || self.received < self.written)
    }
}

fn small() -> Limits {
    Limits {
        handles: CONNECTIONS_MAX as u32,
        chunks: 2,
        chunk_bytes: 64,
        completions: 4,
    }
}

fn behaves(wanted: Wanted) {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        run_with(wanted, small(), |rig| {
            let mut model = Model {
                rig,
                connections: Vec::new(),
                opened: 0,
                held: Vec::new(),
            };
            for step in steps {
                model.step(step);
            }
            model.settle();
        });
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn epoll_behaves_as_the_model() {
    behaves(Wanted::Epoll);
}

#[test]
fn io_uring_behaves_as_the_model() {
    behaves(Wanted::IoUring);
}
