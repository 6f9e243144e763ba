//! What a call costs on its way into an instance and back.
//!
//! `cargo bench --bench wire [-- INTERPRETER]`. First the frames, in nanoseconds of this process;
//! then the runtime, in microseconds of CPU of the instance for each call, one call at a time over
//! a bare socketpair, next to an interpreter that only moves the same bytes: the floor.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

#[expect(dead_code, reason = "tests need more of it")]
#[path = "../tests/runtime/instance.rs"]
mod instance;

use instance::{Heard, Instance, Request, interpreters};
use olworker::wire::answer::AnswerEvent;
use olworker::wire::frame::FLAG_LAST;
use olworker::wire::text::TextList;
use olworker::wire::zygote::{ForkInstance, ProcessLimits, Reply, Role, Roles};
use olworker::wire::{AnswerDecoder, CallHead, StartKind, reply, zygote};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const ROUNDS: u32 = 1_000_000;
const CALLS: u32 = 20_000;
const CALLS_UNTIL_WARM: u32 = 2_000;
const BODY: &str = "{\"a\": [1, 2, 3], \"b\": \"text\"}";
const HEADERS: [(&str, &str); 4] = [
    ("host", "localhost"),
    ("user-agent", "bench/1.0"),
    ("content-type", "application/json"),
    ("content-length", "29"),
];

fn main() {
    frames();
    let named = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'))
        .map(PathBuf::from);
    match named.or_else(|| interpreters().first().cloned()) {
        Some(interpreter) => runtime(&interpreter),
        None => println!("no CPython 3.9 or later here: the runtime is not measured"),
    }
}

fn frames() {
    let head = CallHead {
        id: "5f0c7a9e21b4",
        function: "echo",
        start: StartKind::Warm,
        budget_ms: 30_000,
        protocol: "HTTP/1.1",
        method: "POST",
        script_name: "/run/echo",
        path: "",
        query: "",
        client: "127.0.0.1:40000",
        server: "127.0.0.1:5000",
    };
    let mut out = Vec::new();
    measure("encode a call", || {
        out.clear();
        let headers = HEADERS.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        head.encode(headers, BODY.as_bytes(), true, &mut out)
            .expect("a small call");
        black_box(&out);
    });
    let mut answer = Vec::new();
    let headers = [(&b"content-type"[..], &b"application/json"[..])];
    reply::encode_answer(200, headers, BODY.as_bytes(), FLAG_LAST, &mut answer);
    let mut decoder = AnswerDecoder::new();
    measure("decode an answer", || {
        decoder.call_sent();
        let mut rest = &answer[..];
        loop {
            let step = decoder.decode(black_box(rest)).expect("a good answer");
            rest = &rest[step.used..];
            if let Some(AnswerEvent::End(_)) = black_box(step.event) {
                break;
            }
        }
    });
    let mounts = TextList::collect([&b"/tmp"[..], b"/host", b"/handler"]).expect("plain texts");
    let environment = TextList::collect([&b"PATH=/usr/bin"[..]]).expect("plain texts");
    let fork = zygote::Request::ForkInstance(ForkInstance {
        id: 1,
        uid: 1,
        gid: 1,
        limits: ProcessLimits::NONE,
        roles: Roles::EMPTY.with(Role::Connection).with(Role::Cgroup),
        hostname: b"echo",
        mounts: mounts.as_texts(),
        environment: environment.as_texts(),
    });
    measure("encode a fork", || {
        fork.encode(&mut out).expect("a small request");
        black_box(&out);
    });
    let mut forked = Vec::new();
    let told = Reply::Forked { id: 1, pid: 4711 };
    told.encode(&mut forked).expect("a small reply");
    measure("decode its reply", || {
        let _ = black_box(Reply::decode(black_box(&forked), 1));
    });
}

fn measure(name: &str, mut work: impl FnMut()) {
    for _ in 0..ROUNDS / 10 {
        work();
    }
    let start = Instant::now();
    for _ in 0..ROUNDS {
        work();
    }
    let nanos = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS);
    println!("{name:24} {nanos:8.1} ns");
}

const PLAIN: &str = "def f(event): return event";
const CONTEXT: &str = "def f(event, context): return [event, context.method]";
const STREAMED: &str = "def f(event): yield 'text'";
const COROUTINE: &str = "async def f(event): return event";
const WSGI: &str = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [environ['wsgi.input'].read()]
";
const ASGI: &str = "
HEADERS = [(b'content-type', b'application/json')]
async def app(scope, receive, send):
    assert scope['type'] == 'http'
    message = await receive()
    await send({'type': 'http.response.start', 'status': 200, 'headers': HEADERS})
    await send({'type': 'http.response.body', 'body': message['body']})
";

fn runtime(interpreter: &Path) {
    println!("{}", interpreter.display());
    let floor = echo_us(interpreter);
    println!("{:24} {floor:8.2} us", "bytes in, bytes out");
    for (name, code) in [
        ("f(event)", PLAIN),
        ("f(event, context)", CONTEXT),
        ("generator", STREAMED),
        ("async f(event)", COROUTINE),
        ("WSGI", WSGI),
        ("ASGI", ASGI),
    ] {
        let mut instance = Instance::of(interpreter, code);
        stay_on_one_core(instance.child.id());
        let request = Request {
            headers: &HEADERS,
            body: BODY.as_bytes(),
            ..Request::default()
        };
        let pid = instance.child.id();
        let us = cpu_us(pid, || {
            instance.send(request, true);
            while !matches!(instance.hear(), Heard::End(_)) {}
        });
        println!("{name:24} {us:8.2} us {:6.2} x", us / floor);
    }
}

/// CPU of a process for each of many calls.
fn cpu_us(pid: u32, mut call: impl FnMut()) -> f64 {
    let spent = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("it lives");
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
        nanos.unwrap_or(0.0_f64)
    };
    for _ in 0..CALLS_UNTIL_WARM {
        call();
    }
    let before = spent();
    for _ in 0..CALLS {
        call();
    }
    (spent() - before) / 1e3 / f64::from(CALLS)
}

/// The floor: receive into one buffer, send the same bytes.
fn echo_us(interpreter: &Path) -> f64 {
    const ECHO: &str = "
import _socket
line = _socket.socket(fileno=0)
buffer = memoryview(bytearray(65536))
while True:
    count = line.recv_into(buffer)
    if not count: break
    line.sendall(buffer[:count])
";
    let (mut stream, other) = UnixStream::pair().expect("a socketpair");
    let mut child: Child = Command::new(interpreter)
        .args(["-I", "-S", "-c", ECHO])
        .stdin(Stdio::from(OwnedFd::from(other)))
        .spawn()
        .expect("the interpreter starts");
    stay_on_one_core(child.id());
    let request = [b'x'; 220];
    let mut answer = [0; 4096];
    let mut call = || {
        stream.write_all(&request).expect("it lives");
        let _ = stream.read(&mut answer).expect("it answers");
    };
    let us = cpu_us(child.id(), &mut call);
    drop(stream);
    let _ = child.wait();
    us
}

/// Both sides on the last core: what is measured is work, not waking up another core.
fn stay_on_one_core(pid: u32) {
    let Ok(all) = rustix::thread::sched_getaffinity(None) else {
        return;
    };
    let last = (0..rustix::thread::CpuSet::MAX_CPU).rev();
    let Some(last) = last.into_iter().find(|&cpu| all.is_set(cpu)) else {
        return;
    };
    let mut one = rustix::thread::CpuSet::new();
    one.set(last);
    let child = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    for process in [None, child] {
        // Without it the figures are larger, that is all.
        let _ = rustix::thread::sched_setaffinity(process, &one);
    }
}
