//! Ping-pong over Unix sockets: the two back ends of `io`, and a bare blocking loop, in one run.
//!
//! A client writes to each of its connections, then reads an answer from each. The bare server
//! reads and answers in that very order with blocking calls, two system calls an answer and no
//! knowledge of readiness: what no real server can have. The contenders take turns, several times,
//! and the median of each counts. Processor time of the server's thread an answer says more than
//! answers a second where other programs run too; on any machine compare the ratios.
//!
//! `CARGO_PROFILE_RELEASE_PANIC=unwind cargo bench --bench io`, or sooner, with much the same
//! ratios, `cargo test --bench io -- --bench`.

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use olworker::io::{Completion, Handle, Io, Limits, Token, Wanted, What};
use olworker::sys::clock;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const CONNECTIONS: [usize; 3] = [1, 64, 1024];
const MESSAGE_BYTES: usize = 128;
const REPETITIONS: usize = 7;
const MEASURED: Duration = Duration::from_millis(400);
/// As a mere check that it works, where cargo runs benches as tests.
const CHECKED: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    Bare,
    Io(Wanted),
}

const CONTENDERS: [Contender; 3] = [
    Contender::Bare,
    Contender::Io(Wanted::Epoll),
    Contender::Io(Wanted::IoUring),
];

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (repetitions, span) = if measured {
        (REPETITIONS, MEASURED)
    } else {
        (1, CHECKED)
    };
    println!("            answers/s                             processor us an answer");
    println!(
        "connections     bare    epoll io_uring  uring/epoll   bare  epoll  io_uring  uring/epoll"
    );
    for connections in CONNECTIONS {
        let mut runs = CONTENDERS.map(|_| Vec::new());
        for _ in 0..repetitions {
            for (contender, runs) in CONTENDERS.into_iter().zip(&mut runs) {
                runs.push(run(contender, connections, span));
            }
        }
        let [bare, epoll, uring] = runs.each_ref().map(|runs| median(runs, |run| run.rate));
        let [bare_us, epoll_us, uring_us] = runs.map(|runs| median(&runs, |run| run.processor_us));
        println!(
            "{connections:>11} {bare:>8.0} {epoll:>8.0} {uring:>8.0} {:>12.2} {bare_us:>6.2} \
             {epoll_us:>6.2} {uring_us:>9.2} {:>12.2}",
            uring / epoll,
            uring_us / epoll_us,
        );
    }
}

/// What one run of one contender showed; not numbers where the back end cannot be had.
#[derive(Clone, Copy)]
struct Run {
    rate: f64,
    processor_us: f64,
}

fn median<F: Fn(&Run) -> f64>(runs: &[Run], value: F) -> f64 {
    let mut values: Vec<_> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Processor time of this thread.
fn processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn run(contender: Contender, connections: usize, span: Duration) -> Run {
    let (mut clients, servers): (Vec<_>, Vec<_>) = (0..connections)
        .map(|_| UnixStream::pair().unwrap())
        .unzip();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let served = match contender {
                Contender::Bare => serve_bare(servers),
                Contender::Io(wanted) => serve(wanted, servers),
            };
            served.map(|()| processor())
        });
        let start = clock::now();
        let mut answers = 0;
        while clock::now() - start < span {
            if round(&mut clients).is_none() {
                break;
            }
            answers += connections;
        }
        let took = clock::now() - start;
        drop(clients);
        match server.join().expect("the server does not panic") {
            Some(processor) => Run {
                rate: answers as f64 / took.as_secs_f64(),
                processor_us: processor.as_secs_f64() * 1e6 / answers as f64,
            },
            None => Run {
                rate: f64::NAN,
                processor_us: f64::NAN,
            },
        }
    })
}

/// None when the server is gone.
fn round(clients: &mut [UnixStream]) -> Option<()> {
    let mut message = [1; MESSAGE_BYTES];
    for client in &mut *clients {
        client.write_all(&message).ok()?;
    }
    for client in clients {
        client.read_exact(&mut message).ok()?;
    }
    Some(())
}

fn serve_bare(mut servers: Vec<UnixStream>) -> Option<()> {
    let mut message = [0; MESSAGE_BYTES];
    loop {
        for server in &mut servers {
            if server.read_exact(&mut message).is_err() {
                return Some(());
            }
            server.write_all(&message).expect("the client reads");
        }
    }
}

fn serve(wanted: Wanted, servers: Vec<UnixStream>) -> Option<()> {
    let (mut io, _) = Io::new(wanted, Limits::default()).ok()?;
    let mut open = servers.len();
    let mut handles: Vec<Handle> = Vec::new();
    for (token, server) in servers.into_iter().enumerate() {
        let handle = io
            .add(server.into(), Token(token as u64))
            .expect("below the limit");
        io.receive(handle);
        handles.push(handle);
    }
    let mut buffers = vec![Vec::with_capacity(MESSAGE_BYTES); open];
    let mut out = Vec::new();
    while open > 0 {
        io.wait(None, &mut out).expect("waiting works");
        for Completion { token, what } in out.drain(..) {
            let index = token.0 as usize;
            match what {
                What::Received(Ok(chunk)) => {
                    let mut buffer = std::mem::take(&mut buffers[index]);
                    buffer.clear();
                    buffer.extend(&*chunk);
                    io.send(handles[index], buffer);
                    io.receive(handles[index]);
                }
                What::Sent { buffer, .. } => buffers[index] = buffer,
                _ => {
                    io.close(handles[index]);
                    open -= 1;
                }
            }
        }
    }
    Some(())
}
