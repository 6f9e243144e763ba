//! What `io` promises, tried on both back ends: each test below runs once on epoll, once on io_uring.

use olworker::io::{Completion, Handle, Io, Limits, Token, Wanted, What};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

macro_rules! on_both_back_ends {
    ($($test:ident)*) => {
        mod epoll {
            $(#[test] fn $test() { super::run(super::Wanted::Epoll, super::$test); })*
        }
        mod io_uring {
            $(#[test] fn $test() { super::run(super::Wanted::IoUring, super::$test); })*
        }
    };
}

on_both_back_ends! {
    bytes_come_and_go_over_a_unix_socket
    a_receive_waits_for_bytes_and_then_for_the_end
}

/// Longer than anything here takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// An io under test.
struct Rig {
    io: Io,
    out: Vec<Completion>,
}

fn limits() -> Limits {
    Limits {
        handles: 64,
        chunks: 8,
        chunk_bytes: 1024,
        completions: 64,
    }
}

fn run(wanted: Wanted, test: fn(&mut Rig)) {
    match Io::new(wanted, limits()) {
        Ok((io, _)) => test(&mut Rig {
            io,
            out: Vec::new(),
        }),
        Err(why) if wanted == Wanted::IoUring => skip(&why.to_string()),
        Err(why) => panic!("{why}"),
    }
}

#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

impl Rig {
    /// Adds one end of a pair under the token; the other end is a blocking one, for the test.
    fn pair(&mut self, token: u64) -> (Handle, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        (
            self.io.add(OwnedFd::from(ours), Token(token)).unwrap(),
            theirs,
        )
    }

    /// The next completion, which must come.
    fn next(&mut self) -> (u64, What) {
        while self.out.is_empty() {
            self.io.wait(Some(PATIENCE), &mut self.out).unwrap();
        }
        let done = self.out.remove(0);
        (done.token.0, done.what)
    }

    /// Nothing is to complete, however often we look.
    fn expect_nothing(&mut self) {
        for _ in 0..3 {
            self.io
                .wait(Some(Duration::from_millis(2)), &mut self.out)
                .unwrap();
        }
        assert!(self.out.is_empty(), "{:?}", self.out);
    }
}

fn bytes(what: What) -> Vec<u8> {
    match what {
        What::Received(Ok(chunk)) => chunk.to_vec(),
        what => panic!("bytes expected, not {what:?}"),
    }
}

fn bytes_come_and_go_over_a_unix_socket(rig: &mut Rig) {
    let (handle, mut peer) = rig.pair(7);
    for round in 0..3u8 {
        peer.write_all(&[round; 5]).unwrap();
        rig.io.receive(handle);
        let (token, what) = rig.next();
        assert_eq!((token, bytes(what)), (7, vec![round; 5]));
        rig.io.send(handle, vec![round + 1; 6]);
        let (token, what) = rig.next();
        assert_eq!(token, 7);
        assert!(matches!(what, What::Sent { result: Ok(6), buffer } if buffer.len() == 6));
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [round + 1; 6]);
    }
}

fn a_receive_waits_for_bytes_and_then_for_the_end(rig: &mut Rig) {
    let (handle, mut peer) = rig.pair(1);
    rig.io.receive(handle);
    rig.expect_nothing();
    peer.write_all(b"x").unwrap();
    assert_eq!(bytes(rig.next().1), b"x");
    rig.io.receive(handle);
    rig.expect_nothing();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(rig.next(), (1, What::Ended)));
    rig.io.close(handle);
    rig.expect_nothing();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}
