//! An io under test, and what the tests say to it.

use olworker::io::{Completion, Handle, Io, Limits, Token, Wanted, What};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longer than anything here takes; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// For the tests that run beside it.
const SPARE_DESCRIPTORS: u64 = 2000;

/// Long enough to fall asleep.
const NAP: Duration = Duration::from_millis(50);

pub struct Rig {
    pub io: Io,
    pub out: Vec<Completion>,
    pub wanted: Wanted,
}

/// Small, so that what is rare with the true limits is common here.
pub fn limits() -> Limits {
    Limits {
        handles: 64,
        chunks: 8,
        chunk_bytes: 1024,
        completions: 16,
    }
}

pub fn run(wanted: Wanted, test: fn(Rig)) {
    run_with(wanted, limits(), test);
}

pub fn run_with<F: FnOnce(Rig)>(wanted: Wanted, limits: Limits, test: F) {
    match Io::new(wanted, limits) {
        Ok((io, _)) => test(Rig {
            io,
            out: Vec::new(),
            wanted,
        }),
        Err(why) if wanted == Wanted::IoUring => skip(&why.to_string()),
        Err(why) => panic!("{why}"),
    }
}

#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
pub fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

/// Whether so many descriptors may be open, once as many as may be are allowed.
pub fn may_open(descriptors: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let raised = setrlimit(Resource::Nofile, most).is_ok();
    let allowed = raised
        && limit
            .maximum
            .is_none_or(|most| most >= descriptors + SPARE_DESCRIPTORS);
    if !allowed {
        skip(&format!(
            "{descriptors} descriptors are more than ulimit -Hn allows"
        ));
    }
    allowed
}

impl Rig {
    /// The same back end with other limits.
    pub fn with(self, limits: Limits) -> Self {
        let (io, _) = Io::new(self.wanted, limits).unwrap();
        Self { io, ..self }
    }

    pub fn add<T: Into<OwnedFd>>(&mut self, descriptor: T, token: u64) -> Handle {
        self.io.add(descriptor.into(), Token(token)).unwrap()
    }

    /// Adds one end of a pair under the token; the other end is a blocking one, for the test.
    pub fn pair(&mut self, token: u64) -> (Handle, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        theirs.set_write_timeout(Some(PATIENCE)).unwrap();
        (self.add(ours, token), theirs)
    }

    /// The next completion, which must come.
    pub fn next(&mut self) -> (u64, What) {
        while self.out.is_empty() {
            self.io.wait(Some(PATIENCE), &mut self.out).unwrap();
        }
        let done = self.out.remove(0);
        (done.token.0, done.what)
    }

    /// So many completions, in the order of their tokens.
    pub fn next_of(&mut self, count: usize) -> Vec<(u64, What)> {
        let mut all: Vec<_> = (0..count).map(|_| self.next()).collect();
        all.sort_by_key(|(token, _)| *token);
        all
    }

    /// Nothing is to complete, however often we look.
    pub fn expect_nothing(&mut self) {
        for _ in 0..3 {
            self.io
                .wait(Some(Duration::from_millis(2)), &mut self.out)
                .unwrap();
        }
        assert!(self.out.is_empty(), "{:?}", self.out);
    }
}

impl Rig {
    /// One wait lasts until the waker is used: nothing else ends it.
    pub fn expect_to_sleep(&mut self) {
        let waker = self.io.waker();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (sleeper, _other) = UnixStream::pair().unwrap();
                sleeper.set_read_timeout(Some(NAP)).unwrap();
                let _ = (&sleeper).read(&mut [0]);
                waker.wake();
            });
            self.io.wait(Some(PATIENCE), &mut self.out).unwrap();
        });
        let told = std::mem::take(&mut self.out);
        assert!(
            matches!(
                told[..],
                [Completion {
                    what: What::Woken,
                    ..
                }]
            ),
            "{told:?}"
        );
    }
}

pub fn bytes(what: &What) -> Vec<u8> {
    match what {
        What::Received(Ok(chunk)) => chunk.to_vec(),
        what => panic!("bytes expected, not {what:?}"),
    }
}

pub fn newcomer(what: What) -> OwnedFd {
    match what {
        What::Accepted(Ok(newcomer)) => newcomer,
        what => panic!("a newcomer expected, not {what:?}"),
    }
}
