//! Signals reach the loop through either back end. Without the test harness: signals are for the
//! whole process, and its threads would have to block them too.

use olworker::io::{Completion, Interest, Io, Limits, Token, Wanted, What};
use olworker::sys::signals::{Arrived, Signal, Signals, next};
use rustix::process::{Signal as Number, getpid, getuid, kill_process};
use std::os::fd::AsFd;
use std::time::Duration;

const SENT: [(Number, Signal); 3] = [
    (Number::TERM, Signal::Terminate),
    (Number::HUP, Signal::Hangup),
    (Number::CHILD, Signal::Child),
];

fn main() {
    let signals = Signals::take().unwrap();
    for wanted in [Wanted::Epoll, Wanted::IoUring] {
        match Io::new(wanted, Limits::default()) {
            Ok((io, _)) => signals_arrive(io, signals.as_fd().try_clone_to_owned().unwrap()),
            Err(why) if wanted == Wanted::IoUring => skip(&why.to_string()),
            Err(why) => panic!("{why}"),
        }
    }
}

fn signals_arrive(mut io: Io, signals: std::os::fd::OwnedFd) {
    let handle = io.add(signals, Token(1)).unwrap();
    let mut out: Vec<Completion> = Vec::new();
    for (number, signal) in SENT {
        io.watch(handle, Interest::Readable);
        io.wait(Some(Duration::ZERO), &mut out).unwrap();
        assert!(out.is_empty(), "{out:?}");
        kill_process(getpid(), number).unwrap();
        while out.is_empty() {
            io.wait(Some(Duration::from_secs(20)), &mut out).unwrap();
        }
        assert!(matches!(out.pop().unwrap().what, What::Ready(Ok(()))));
        let pid = getpid().as_raw_pid() as u32;
        let arrived = Arrived {
            signal,
            pid,
            uid: getuid().as_raw(),
        };
        assert_eq!(next(io.descriptor(handle)).unwrap(), Some(arrived));
        assert_eq!(next(io.descriptor(handle)).unwrap(), None);
    }
}

#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}
