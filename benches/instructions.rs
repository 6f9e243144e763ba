//! Instructions and allocations of what happens for each call: figures that do not depend on how
//! fast, or how busy, the machine is.
//!
//! ```text
//! cargo test --profile counted --bench instructions -- --bench    beside benches/instructions.txt
//!                                                      --check    fails where one grew too much
//!                                                      --write    keeps them
//! ```
//!
//! Instructions are counted by valgrind's callgrind, as a slope: this program runs itself twice
//! with different numbers of rounds, and the difference belongs to the rounds alone. They depend on
//! the compiler and the processor's kind, so the file is of x86-64 and of the pinned toolchain.
//! Where valgrind is missing only allocations are told.

#![expect(
    clippy::print_stdout,
    reason = "what a benchmark has to say goes to stdout"
)]
#![expect(
    unsafe_code,
    reason = "an allocator that counts is the only way to count allocations"
)]

use olworker::base::{Bytes, Duration, Histogram, Key, Limits, Time};
use olworker::bench::Reader;
use olworker::engine::{Effect, Engine, Event, Exit, FunctionSettings, Params, Verdict};
use olworker::http::{self, Decoder, Head, Step};
use olworker::wire::answer::AnswerEvent;
use olworker::wire::frame::FLAG_LAST;
use olworker::wire::{AnswerDecoder, CallHead, StartKind, reply};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

/// A figure may grow by this part before it is a regression.
const TOLERANCE: f64 = 0.05;
/// Rounds of the two runs whose difference counts.
const FEW: u32 = 1_000;
const MANY: u32 = 3_000;
const INSTANCES: u32 = 1_000;

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

const REQUEST: &[u8] =
    b"POST /run/echo HTTP/1.1\r\nHost: localhost:5000\r\nUser-Agent: curl/7.88.1\r\n\
    Accept: */*\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
    content-type: application/json\r\nX-OL-Call-Id: 5f0c7a9e21b4\r\nX-OL-Start: warm\r\n\
    Content-Length: 2\r\n\r\n42";
const HEADERS: [(&str, &str); 3] = [
    ("host", "localhost"),
    ("content-type", "application/json"),
    ("content-length", "8"),
];

type Work = Box<dyn FnMut()>;
type Named = (&'static str, fn() -> Work);

/// What is measured: its name, and one round of it.
fn works() -> [Named; 8] {
    [
        ("http: read a request", read_request),
        ("wire: write a call", write_call),
        ("wire: read an answer", read_answer),
        ("engine: a warm call", warm_call),
        ("engine: a first call, nothing evicted", first_call),
        ("engine: a first call that evicts", evicting_call),
        ("bench: read an answer", read_reply),
        ("base: record a duration", record),
    ]
}

fn read_request() -> Work {
    let limits = http::Limits::new(32 * 1024, 8 * 1024, 1 << 20);
    let (mut decoder, mut head) = (Decoder::default(), Head::default());
    Box::new(move || {
        let mut input = black_box(REQUEST);
        loop {
            match decoder.step(&mut input, &mut head, &limits) {
                Step::End => break,
                Step::Head => drop(black_box(head.path())),
                Step::Body(data) => drop(black_box(data)),
                Step::NeedMore | Step::Refuse(_) => panic!("a good request"),
            }
        }
    })
}

fn write_call() -> Work {
    let mut out = Vec::new();
    Box::new(move || {
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
        out.clear();
        let headers = HEADERS.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        head.encode(headers, b"{\"a\": 1}", true, &mut out)
            .expect("a small call");
        black_box(&out);
    })
}

fn read_answer() -> Work {
    let mut answer = Vec::new();
    let headers = [(&b"content-type"[..], &b"application/json"[..])];
    reply::encode_answer(200, headers, b"42", FLAG_LAST, &mut answer);
    let mut decoder = AnswerDecoder::new();
    Box::new(move || {
        decoder.call_sent();
        let mut rest = &answer[..];
        loop {
            let step = decoder.decode(black_box(rest)).expect("a good answer");
            rest = &rest[step.used..];
            if let Some(AnswerEvent::End(_)) = black_box(step.event) {
                break;
            }
        }
    })
}

/// An engine with a pool of so many instances' memory, and functions to fill it.
struct Pool {
    engine: Engine,
    now: u64,
    call: u32,
    function: u32,
}

impl Pool {
    fn new(functions: u32, instances: u32) -> Self {
        let settings = FunctionSettings::DEFAULT;
        let memory = Bytes::new(settings.memory.get() * u64::from(instances));
        let params = Params {
            descriptors: u32::MAX,
            processes: u32::MAX,
            free_percent: 0,
            trees: 0,
            freeze_after: Some(Duration::from_secs(5)),
            ..Params::new(memory)
        };
        let mut pool = Self {
            engine: Engine::new(Limits::DEFAULT, params, 1),
            now: 1_000_000_000,
            call: 0,
            function: 0,
        };
        for index in 0..functions {
            let function = Key::new(index, 0);
            pool.tell(Event::FunctionDeployed {
                function,
                version: 1,
                settings: Box::new(settings.clone()),
            });
        }
        pool
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.now += 1_000;
        let now = Time::from_nanos(self.now);
        let mut effects: Vec<Effect> = self.engine.handle(event, now).collect();
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            effects.extend(self.engine.expire(now));
        }
        effects
    }

    /// One call of the function, to its end; whoever is killed for it dies.
    fn call(&mut self, function: u32) {
        let call = Key::new(0, self.call);
        self.call += 1;
        let function = Key::new(function, 0);
        let mut open = self.tell(Event::CallArrived { call, function });
        let mut relayed = None;
        while let Some(effect) = open.pop() {
            let more = match effect {
                Effect::Relay { instance, .. } => {
                    relayed = Some(instance);
                    continue;
                }
                Effect::Fork { instance, .. } => self.tell(Event::Forked { instance }),
                Effect::Kill { instance } => self.tell(Event::InstanceExited {
                    instance,
                    seen: true,
                    exit: Exit::Signal(9),
                }),
                _ => continue,
            };
            open.extend(more);
        }
        let instance = relayed.expect("each call gets an instance");
        self.tell(Event::Given { instance });
        self.tell(Event::Answered {
            instance,
            call,
            verdict: Verdict::Fit,
        });
    }

    fn next(&mut self, functions: u32) -> u32 {
        self.function = (self.function + 1) % functions;
        self.function
    }
}

fn warm_call() -> Work {
    let mut pool = Pool::new(INSTANCES, 2 * INSTANCES);
    for function in 0..INSTANCES {
        pool.call(function);
    }
    Box::new(move || {
        let function = pool.next(INSTANCES);
        pool.call(function);
    })
}

fn first_call() -> Work {
    let functions = 2 * MANY;
    let mut pool = Pool::new(functions, 2 * functions);
    Box::new(move || {
        let function = pool.next(functions);
        pool.call(function);
    })
}

fn evicting_call() -> Work {
    let functions = 4 * INSTANCES;
    let mut pool = Pool::new(functions, INSTANCES);
    for function in 0..INSTANCES {
        pool.call(function);
    }
    pool.function = INSTANCES;
    Box::new(move || {
        let function = pool.next(functions);
        pool.call(function);
    })
}

fn read_reply() -> Work {
    let mut reader = Reader::default();
    Box::new(move || {
        let reply = reader.feed(black_box(ANSWER)).expect("an answer");
        assert!(black_box(reply).is_some_and(|reply| reply.status == 200));
    })
}

fn record() -> Work {
    let mut histogram = Histogram::default();
    let mut value = 1;
    Box::new(move || {
        value = value * 3 % 1_000_003;
        histogram.record_duration(Duration::from_nanos(black_box(value)));
    })
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, rounds] = &words[..]
        && word == "--run"
    {
        let rounds = rounds.parse().expect("rounds");
        return run(name, rounds);
    }
    let has = |word: &str| words.iter().any(|given| given == word);
    if !has("--bench") && !has("--check") && !has("--write") {
        // As a mere check that it works, where cargo runs benches as tests.
        return works().iter().for_each(|(name, _)| run(name, 3));
    }
    let figures = figures();
    let kept = kept();
    print!("{}", table(&figures, &kept));
    if has("--write") {
        std::fs::write(file(), text(&figures)).expect("the tree is writable");
    }
    let grown = grown(&figures, &kept);
    assert!(grown.is_empty() || !has("--check"), "grew: {grown:?}");
}

fn run(name: &str, rounds: u32) {
    let (_, make) = works()
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("one of the names");
    let mut work = make();
    for _ in 0..rounds {
        work();
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Figure {
    /// None where they cannot be counted.
    instructions: Option<f64>,
    allocations: f64,
}

fn figures() -> BTreeMap<String, Figure> {
    let mut figures = BTreeMap::new();
    let counted = Command::new("valgrind").arg("--version").output();
    let has_valgrind = counted.is_ok_and(|output| output.status.success());
    for (name, make) in works() {
        let mut work = make();
        // Every list has been as long as it will be.
        (0..FEW).for_each(|_| work());
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (0..FEW).for_each(|_| work());
        let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
        let instructions = has_valgrind.then(|| {
            let (few, many) = (instructions(name, FEW), instructions(name, MANY));
            (many - few) / f64::from(MANY - FEW)
        });
        let figure = Figure {
            instructions,
            allocations: allocated as f64 / f64::from(FEW),
        };
        figures.insert(name.to_owned(), figure);
    }
    figures
}

/// All instructions of a run of this program, as callgrind counts them.
fn instructions(name: &str, rounds: u32) -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--run", name, &rounds.to_string()])
        .output()
        .expect("valgrind was there a moment ago");
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected :")?;
        count.trim().parse::<f64>().ok()
    });
    collected.unwrap_or_else(|| panic!("callgrind counts: {said}"))
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

/// The figures that were kept; none where there is no file.
fn kept() -> BTreeMap<String, Figure> {
    let text = std::fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let figure = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let name = fields.next()?.to_owned();
        let instructions = fields.next()?.parse().ok();
        let allocations = fields.next()?.parse().ok()?;
        let figure = Figure {
            instructions,
            allocations,
        };
        Some((name, figure))
    };
    lines.filter_map(figure).collect()
}

fn text(figures: &BTreeMap<String, Figure>) -> String {
    let mut text = "# what | instructions | allocations; see instructions.rs\n".to_owned();
    for (name, figure) in figures {
        let instructions = shown(figure.instructions);
        let allocations = figure.allocations;
        writeln!(text, "{name} | {instructions} | {allocations:.2}").expect("a string");
    }
    text
}

fn shown(instructions: Option<f64>) -> String {
    instructions.map_or_else(|| "-".to_owned(), |count| format!("{count:.0}"))
}

fn table(figures: &BTreeMap<String, Figure>, kept: &BTreeMap<String, Figure>) -> String {
    let mut text = format!(
        "{:38} {:>12} {:>8} {:>12}\n",
        "a round of", "instructions", "of kept", "allocations"
    );
    for (name, figure) in figures {
        let before = kept.get(name).and_then(|kept| kept.instructions);
        let part = figure.instructions.zip(before);
        let part = part.map_or_else(String::new, |(now, then)| format!("{:.2}", now / then));
        let (instructions, allocations) = (shown(figure.instructions), figure.allocations);
        writeln!(
            text,
            "{name:38} {instructions:>12} {part:>8} {allocations:>12.2}"
        )
        .expect("a string");
    }
    text
}

/// What costs more than was kept.
fn grown(figures: &BTreeMap<String, Figure>, kept: &BTreeMap<String, Figure>) -> Vec<String> {
    let grew = |now: f64, then: f64| now > then * (1.0 + TOLERANCE) + 0.01;
    let mut grown = Vec::new();
    for (name, figure) in figures {
        let Some(before) = kept.get(name) else {
            continue;
        };
        let pair = figure.instructions.zip(before.instructions);
        let instructions = pair.is_some_and(|(now, then)| grew(now, then));
        if instructions || grew(figure.allocations, before.allocations) {
            grown.push(name.clone());
        }
    }
    grown
}
