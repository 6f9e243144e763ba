//! Answers longer than memory should hold, read from disk as their clients take them.
//!
//! ```text
//!            helper read a piece         room                    end of the source
//!   Reading ---------------------> written ------> Reading ... ----------------------> ended
//!     ^                              | full                |
//!     |                              v                     | a log that is followed
//!     +---------- Writable ------ ForRoom                  v
//!     +---------- new lines ----------------------------- ForLines
//! ```
//!
//! One piece is in memory for each client, whatever it asked for. A client that does not read
//! holds nobody up: nothing is read for it meanwhile, and the front gives up on it in time.

use super::front::{Client, Room};
use super::listing::Lister;
use super::worker::{Done, Worker};
use crate::base::{Duration, FunctionName, Time};
use crate::host::function_log::Follower;
use crate::host::stretch::Stretches;
use crate::http::{Code, Problem};
use std::io;

/// Answers that are streamed at once.
const STREAMS_MAX: usize = 64;
/// When the helpers had no time for a read, it is asked for again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// What is streamed.
#[derive(Debug)]
pub(super) enum Source {
    Trace(Stretches),
    Log(FunctionName, Box<Follower>),
    List(Lister),
}

impl Source {
    /// The next piece; an empty one: nothing now. Blocks: for helpers.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Trace(stretches) => stretches.read(),
            Self::Log(_, follower) => follower.read(),
            Self::List(lister) => lister.read(),
        }
    }

    fn content_type(&self) -> &'static [u8] {
        match self {
            Self::Trace(_) => b"application/x-ndjson",
            Self::Log(..) => b"text/plain; charset=utf-8",
            Self::List(_) => b"application/json",
        }
    }
}

/// A piece that a helper read.
#[derive(Debug)]
pub(super) struct Piece {
    client: Client,
    source: Source,
    bytes: io::Result<Vec<u8>>,
}

#[derive(Debug)]
struct Stream {
    client: Client,
    state: State,
    /// Lines came while it was being read.
    poked: bool,
}

#[derive(Debug)]
enum State {
    /// A helper has the source.
    Reading(Option<FunctionName>),
    ForRoom(Source),
    ForLines(Source),
    /// The helpers were busy.
    ForHelper(Source),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    list: Vec<Stream>,
    retry: Option<Time>,
}

impl Streams {
    /// The client is gone; what a helper still reads for it is thrown away.
    pub(super) fn forget(&mut self, client: Client) {
        self.list.retain(|stream| stream.client != client);
    }

    fn find(&mut self, client: Client) -> Option<&mut Stream> {
        self.list.iter_mut().find(|stream| stream.client == client)
    }
}

impl Worker {
    /// Answers a client with what is read from the source.
    pub(super) fn begin_stream(&mut self, client: Client, source: Source) {
        if self.front.request(client).is_none() {
            return;
        }
        if self.streams.list.len() == STREAMS_MAX {
            let detail = "as many long answers as there may be";
            return self.refuse(client, &Problem::new(Code::Overloaded, detail));
        }
        let fields = [(&b"Content-Type"[..], source.content_type())];
        let begun = self.front.begin(client, 200, fields.into_iter(), &[], None);
        begun.expect("these fields are well formed");
        self.streams.list.push(Stream {
            client,
            state: State::Reading(None),
            poked: false,
        });
        self.read_on(client, source);
    }

    fn read_on(&mut self, client: Client, source: Source) {
        let name = match &source {
            Source::Log(name, _) => Some(*name),
            Source::Trace(_) | Source::List(_) => None,
        };
        let Some(stream) = self.streams.find(client) else {
            return;
        };
        if self.helpers.is_full() {
            stream.state = State::ForHelper(source);
            self.streams.retry = Some(self.now + RETRY_AFTER);
            return;
        }
        stream.state = State::Reading(name);
        stream.poked = false;
        let mut source = source;
        let job = move || {
            let bytes = source.read();
            Done::Piece(Piece {
                client,
                source,
                bytes,
            })
        };
        let submitted = self.helpers.submit(job);
        assert!(submitted.is_ok(), "the helpers had room a moment ago");
    }

    pub(super) fn piece_read(&mut self, piece: Piece) {
        let Piece {
            client,
            source,
            bytes,
        } = piece;
        let Some(stream) = self.streams.find(client) else {
            return;
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                log::error!("an answer cannot be read on: {error}");
                self.streams.forget(client);
                return self.front.abort(client);
            }
        };
        if bytes.is_empty() {
            if !matches!(source, Source::Log(..)) {
                self.streams.forget(client);
                self.front.end(client);
            } else if stream.poked {
                self.read_on(client, source);
            } else {
                stream.state = State::ForLines(source);
            }
            return;
        }
        match self.front.write(client, &bytes) {
            Room::Enough => self.read_on(client, source),
            Room::Full => stream.state = State::ForRoom(source),
        }
    }

    /// There is room again in the answer of a client.
    pub(super) fn stream_writable(&mut self, client: Client) {
        let Some(stream) = self.streams.find(client) else {
            return;
        };
        match core::mem::replace(&mut stream.state, State::Reading(None)) {
            State::ForRoom(source) => self.read_on(client, source),
            state => stream.state = state,
        }
    }

    /// A function's log has more.
    pub(super) fn log_grew(&mut self, name: &FunctionName) {
        let mut ready = Vec::new();
        for stream in &mut self.streams.list {
            match core::mem::replace(&mut stream.state, State::Reading(None)) {
                State::ForLines(Source::Log(of, follower)) if of == *name => {
                    ready.push((stream.client, Source::Log(of, follower)));
                }
                state => {
                    stream.poked |= matches!(state, State::Reading(Some(of)) if of == *name);
                    stream.state = state;
                }
            }
        }
        for (client, source) in ready {
            self.read_on(client, source);
        }
    }

    /// Reads on for whom the helpers had no time. Returns when to come again.
    pub(super) fn retry_streams(&mut self) -> Option<Time> {
        let due = self.streams.retry?;
        if due > self.now {
            return Some(due);
        }
        self.streams.retry = None;
        let mut ready = Vec::new();
        for stream in &mut self.streams.list {
            match core::mem::replace(&mut stream.state, State::Reading(None)) {
                State::ForHelper(source) => ready.push((stream.client, source)),
                state => stream.state = state,
            }
        }
        for (client, source) in ready {
            self.read_on(client, source);
        }
        self.streams.retry
    }

    /// Nobody follows a log beyond the end of the worker.
    pub(super) fn end_followers(&mut self) {
        let mut ended = Vec::new();
        self.streams.list.retain(|stream| {
            let follows = match &stream.state {
                State::Reading(name) => name.is_some(),
                State::ForRoom(source) | State::ForLines(source) | State::ForHelper(source) => {
                    matches!(source, Source::Log(..))
                }
            };
            if follows {
                ended.push(stream.client);
            }
            !follows
        });
        for client in ended {
            self.front.end(client);
        }
    }
}
