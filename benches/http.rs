//! What reading a request costs, beside the bare parser that it stands on, and what a whole
//! keep-alive request costs over a Unix socket, on both back ends.
//!
//! `cargo bench --bench http` prints nanoseconds and ratios of one run, and fails when a warm
//! request allocates. `-- --json` prints one object.
#![expect(
    clippy::print_stdout,
    reason = "what a benchmark has to say goes to stdout"
)]
#![expect(
    unsafe_code,
    reason = "an allocator that counts is the only way to count allocations"
)]

use olworker::base::{Duration, Time};
use olworker::driver::front::{Event, Front, Limits as FrontLimits, Via};
use olworker::http::{Decoder, Head, Limits, Step};
use olworker::io::{Completion, Io, Limits as IoLimits, Token, Wanted};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};

const HEADS: u32 = 200_000;
const REQUESTS: u32 = 20_000;
/// The best of this many is told: the machine is shared.
const REPEATS: u32 = 5;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SHORT: &[u8] = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
const USUAL: &[u8] =
    b"POST /run/echo HTTP/1.1\r\nHost: localhost:5000\r\nUser-Agent: curl/7.88.1\r\n\
    Accept: */*\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";
const LONG: &[u8] = b"GET /run/page/a/b?c=d HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/119.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\nReferer: https://www.example.com/run/page/a\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark; consent=yes; _id=GA1.2.3.4\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\nCache-Control: max-age=0\r\n\r\n";

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut rows = Vec::new();
    for (name, request) in [("short", SHORT), ("usual", USUAL), ("long", LONG)] {
        let (bare, ours) = heads(request);
        rows.push((format!("{name}_httparse_ns"), bare));
        rows.push((format!("{name}_decoder_ns"), ours));
    }
    for (name, wanted) in [("epoll", Wanted::Epoll), ("io_uring", Wanted::IoUring)] {
        if let Some(nanos) = round_trips(wanted) {
            rows.push((format!("{name}_round_trip_ns"), nanos));
        }
    }
    if json {
        let members: Vec<String> = rows
            .iter()
            .map(|(name, nanos)| format!("\"{name}\": {nanos:.1}"))
            .collect();
        println!("{{{}}}", members.join(", "));
        return;
    }
    for pair in rows[..6].chunks(2) {
        let ratio = pair[1].1 / pair[0].1;
        println!("{:>20} {:8.1}", pair[0].0, pair[0].1);
        println!(
            "{:>20} {:8.1}   {ratio:.2} of the bare parser",
            pair[1].0, pair[1].1
        );
    }
    for (name, nanos) in &rows[6..] {
        println!("{name:>20} {nanos:8.1}");
    }
    println!("{:>20} {:8}", "allocations", 0);
}

/// Nanoseconds a request, the best of some repeats.
fn best<F: FnMut()>(count: u32, mut run: F) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = olworker::sys::clock::now();
        run();
        let took = olworker::sys::clock::now().since(start);
        best = best.min(took.as_nanos() as f64 / f64::from(count));
    }
    best
}

/// The bare parser, and our decoder with all that it checks, keeps and finds.
fn heads(request: &[u8]) -> (f64, f64) {
    let bare = best(HEADS, || {
        for _ in 0..HEADS {
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut parsed = httparse::Request::new(&mut fields);
            black_box(parsed.parse(black_box(request))).expect("a good head");
        }
    });
    let limits = Limits::new(32 * 1024, 8 * 1024, 1 << 20);
    let (mut decoder, mut head) = (Decoder::default(), Head::default());
    let mut decode = |count| {
        for _ in 0..count {
            let mut input = black_box(request);
            loop {
                match decoder.step(&mut input, &mut head, &limits) {
                    Step::End => break,
                    Step::Head => drop(black_box(head.path())),
                    Step::Body(data) => drop(black_box(data)),
                    Step::NeedMore | Step::Refuse(_) => panic!("a good request"),
                }
            }
        }
    };
    decode(1);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let ours = best(HEADS, || decode(HEADS));
    assert_eq!(
        ALLOCATIONS.load(Ordering::Relaxed),
        before,
        "a warm head allocates nothing"
    );
    (bare, ours)
}

/// From a client's write to its read of the answer, through socket, loop and front, one at a time.
fn round_trips(wanted: Wanted) -> Option<f64> {
    let bounds = IoLimits::default();
    let (mut io, _) = match Io::new(wanted, bounds) {
        Ok(io) => io,
        Err(why) => {
            println!("SKIP: {why}");
            return None;
        }
    };
    let name = format!("olworker-bench-{}-{wanted:?}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).expect("a name of some bytes");
    let listener = UnixListener::bind_addr(&address).expect("nobody else has this name");
    let limits = FrontLimits {
        http: Limits::new(32 * 1024, 8 * 1024, 1 << 20),
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_mins(1),
        connections: 16,
        spool_bytes: 1 << 20,
        chunk_bytes: bounds.chunk_bytes as usize,
    };
    let mut front = Front::new(limits, Time::ZERO, 0);
    front
        .listen(listener.into(), Via::Unix, &mut io)
        .expect("the first listener");
    let mut client = UnixStream::connect_addr(&address).expect("it listens");
    let mut completions = Vec::new();
    let mut answer = [0; 256];
    let mut serve = |count| {
        for _ in 0..count {
            client.write_all(SHORT).expect("the socket takes a head");
            while !turn(&mut io, &mut front, &mut completions) {}
            // What was asked for last leaves with the next wait.
            io.wait(Some(Duration::ZERO), &mut completions)
                .expect("the back end works");
            let length = client.read(&mut answer).expect("an answer");
            assert!(answer[..length].ends_with(b"ready\n"));
        }
    };
    serve(100);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let nanos = best(REQUESTS, || serve(REQUESTS));
    assert_eq!(
        ALLOCATIONS.load(Ordering::Relaxed),
        before,
        "a warm request allocates nothing"
    );
    Some(nanos)
}

/// One turn of the loop; true when something was sent.
fn turn(io: &mut Io, front: &mut Front, completions: &mut Vec<Completion>) -> bool {
    io.wait(Some(Duration::from_millis(100)), completions)
        .expect("the back end works");
    let now = olworker::sys::clock::now();
    front.set_time(now, now.as_nanos() / 1_000_000_000);
    for Completion { token, what } in completions.drain(..) {
        if token != Token::WAKER {
            front.completed(token, what, io);
        }
    }
    front.expire(io);
    let mut answered = false;
    while let Some(event) = front.next_event() {
        if let Event::Arrived(client) = event {
            front.answer(client, 200, &[("Content-Type", b"text/plain")], b"ready\n");
            answered = true;
        }
    }
    front.flush(io);
    answered
}
