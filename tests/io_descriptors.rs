//! Out of descriptors: accepting pauses and says so, and goes on when told. In a program of its
//! own, since the limit is that of the whole process.

use olworker::io::{Completion, Errno, Io, Limits, Token, Wanted, What};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

const CLIENTS: usize = 40;

struct Rig {
    io: Io,
    out: Vec<Completion>,
}

impl Rig {
    fn next(&mut self) -> What {
        while self.out.is_empty() {
            self.io
                .wait(Some(Duration::from_secs(20)), &mut self.out)
                .unwrap();
        }
        self.out.remove(0).what
    }
}

fn accepting_pauses_when_descriptors_run_out(wanted: Wanted) {
    let mut rig = match Io::new(wanted, Limits::default()) {
        Ok((io, _)) => Rig {
            io,
            out: Vec::new(),
        },
        Err(why) if wanted == Wanted::IoUring => return skip(&why.to_string()),
        Err(why) => panic!("{why}"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listening = rig.io.add(listener.into(), Token(1)).unwrap();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let usual = getrlimit(Resource::Nofile);
    // Descriptors are numbered from below: so many more and it is over.
    let probe = std::fs::File::open("/dev/null").unwrap().as_raw_fd();
    let low = Rlimit {
        current: Some(probe as u64 + 10),
        maximum: usual.maximum,
    };
    setrlimit(Resource::Nofile, low).unwrap();
    rig.io.accept(listening);
    let mut newcomers: Vec<OwnedFd> = Vec::new();
    let error = loop {
        match rig.next() {
            What::Accepted(Ok(newcomer)) => newcomers.push(newcomer),
            What::Accepted(Err(error)) => break error,
            what => panic!("{what:?}"),
        }
    };
    assert_eq!(error, Errno::MFILE);
    assert!(
        newcomers.len() >= 5 && newcomers.len() < CLIENTS,
        "{}",
        newcomers.len()
    );
    // Paused: told once, however often we wait.
    for _ in 0..5 {
        rig.io
            .wait(Some(Duration::from_millis(2)), &mut rig.out)
            .unwrap();
    }
    assert!(rig.out.is_empty(), "{:?}", rig.out);
    setrlimit(Resource::Nofile, usual).unwrap();
    rig.io.accept(listening);
    while newcomers.len() < CLIENTS {
        match rig.next() {
            What::Accepted(Ok(newcomer)) => newcomers.push(newcomer),
            what => panic!("{what:?}"),
        }
    }
    drop(clients);
}

#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

#[test]
fn accepting_pauses_when_descriptors_run_out_on_both_back_ends() {
    accepting_pauses_when_descriptors_run_out(Wanted::Epoll);
    accepting_pauses_when_descriptors_run_out(Wanted::IoUring);
}
