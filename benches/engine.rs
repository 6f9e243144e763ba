//! How fast the engine is, and whether its cost grows with what it looks after.
//!
//! `cargo bench --bench engine` prints events a second with 100, 1,000, 10,000 and 100,000
//! instances of 1,000 functions, the ratio of the largest to the smallest, and fails when a warm
//! call allocates. `-- --json` prints one object.
#![expect(
    clippy::print_stdout,
    reason = "what a benchmark has to say goes to stdout"
)]
#![expect(
    unsafe_code,
    reason = "an allocator that counts is the only way to count allocations"
)]

use olworker::base::{Bytes, Duration, Key, Limits, Random, Time};
use olworker::engine::{
    CallKey, Effect, Engine, Event, FunctionKey, FunctionSettings, InstanceKey, Params, Verdict,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const FUNCTIONS: u32 = 1_000;
const WARM_CALLS: u32 = 1_000_000;
/// The best of this many is told: the machine is shared.
const REPEATS: u32 = 5;
/// Calls under way at once; the rest of the instances is idle.
const CONCURRENCY: usize = 64;

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

/// An engine whose functions have this many idle instances between them.
struct Bench {
    engine: Engine,
    functions: u32,
    now: u64,
    random: Random,
    generations: Vec<u32>,
}

impl Bench {
    fn new(instances: u32) -> Self {
        let memory = Bytes::from_mb(64 * u64::from(instances) * 2);
        let params = Params {
            descriptors: u32::MAX,
            processes: u32::MAX,
            free_percent: 0,
            trees: 0,
            freeze_after: Some(Duration::from_secs(5)),
            ..Params::new(memory)
        };
        let limits = Limits {
            calls: 131_072,
            ..Limits::DEFAULT
        };
        let mut bench = Self {
            engine: Engine::new(limits, params, 1),
            functions: u32::min(FUNCTIONS, instances),
            now: 1_000_000_000,
            random: Random::new(5),
            generations: vec![0; 131_072],
        };
        for index in 0..bench.functions {
            bench.tell(Event::FunctionDeployed {
                function: Key::new(index, 0),
                version: 1,
                settings: Box::new(FunctionSettings {
                    queue: 100_000,
                    ..FunctionSettings::DEFAULT
                }),
            });
        }
        bench.start(instances);
        bench
    }

    fn time(&self) -> Time {
        Time::from_nanos(self.now)
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let now = self.time();
        self.engine.handle(event, now).collect()
    }

    /// Bursts of calls, all answered: that many instances are idle then.
    fn start(&mut self, instances: u32) {
        let mut running = Vec::new();
        for number in 0..instances {
            let function = Key::new(number % self.functions, 0);
            let call = Key::new(number, 0);
            for effect in self.tell(Event::CallArrived { call, function }) {
                if let Effect::Relay { call, instance, .. } = effect {
                    running.push((call, instance));
                }
            }
        }
        assert_eq!(
            running.len(),
            instances as usize,
            "each call got an instance"
        );
        for (call, instance) in running {
            self.tell(Event::Forked { instance });
            self.tell(Event::Given { instance });
            self.tell(Event::Answered {
                instance,
                call,
                verdict: Verdict::Fit,
            });
            self.generations[call.index()] += 1;
        }
    }

    /// One call arrives at an idle instance.
    fn arrive(&mut self, slot: usize) -> (CallKey, InstanceKey) {
        self.now += 300;
        // Each slot has functions of its own, so an idle instance is always there.
        let own = (self.functions as usize - slot).div_ceil(CONCURRENCY);
        let place = slot + CONCURRENCY * self.random.below(own as u64) as usize;
        let function: FunctionKey = Key::new(place as u32, 0);
        let call = Key::new(slot as u32, self.generations[slot]);
        let now = self.time();
        let mut effects = self
            .engine
            .handle(Event::CallArrived { call, function }, now);
        loop {
            match effects.next() {
                Some(Effect::Relay { instance, .. }) => return (call, instance),
                Some(Effect::Thaw { .. }) => {}
                other => panic!("a warm call is relayed, not {other:?}"),
            }
        }
    }

    fn answer(&mut self, call: CallKey, instance: InstanceKey) {
        self.now += 300;
        self.generations[call.index()] += 1;
        let now = self.time();
        let answered = Event::Answered {
            instance,
            call,
            verdict: Verdict::Fit,
        };
        let effects = self.engine.handle(answered, now);
        assert_eq!(effects.len(), 0, "an idle instance asks for nothing");
    }

    fn expire(&mut self) {
        if self
            .engine
            .next_deadline()
            .is_some_and(|at| at <= self.time())
        {
            let now = self.time();
            drop(self.engine.expire(now));
        }
    }

    /// Events a second of warm calls, and allocations per call.
    fn warm(&mut self, calls: u32) -> (f64, f64) {
        let mut running: Vec<Option<(CallKey, InstanceKey)>> = vec![None; CONCURRENCY];
        // Every list has been as long as it will be.
        for _ in 0..2 {
            for slot in 0..CONCURRENCY {
                self.turn(&mut running, slot);
            }
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
        let start = Instant::now();
        for number in 0..calls {
            self.turn(&mut running, number as usize % CONCURRENCY);
        }
        let seconds = start.elapsed().as_secs_f64();
        let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
        for slot in running.into_iter().flatten() {
            self.answer(slot.0, slot.1);
        }
        (
            f64::from(calls) * 2.0 / seconds,
            allocated as f64 / f64::from(calls),
        )
    }

    fn turn(&mut self, running: &mut [Option<(CallKey, InstanceKey)>], slot: usize) {
        if let Some((call, instance)) = running[slot] {
            self.answer(call, instance);
        }
        running[slot] = Some(self.arrive(slot));
        self.expire();
    }
}

fn main() {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut rates = Vec::new();
    for instances in [100, 1_000, 10_000, 100_000] {
        let mut bench = Bench::new(instances);
        let mut best = 0.0_f64;
        // What a function's history needs is made with its first calls, by whoever makes them.
        bench.warm(WARM_CALLS);
        for _ in 0..REPEATS {
            let (rate, allocations) = bench.warm(WARM_CALLS);
            assert!(
                allocations == 0.0,
                "a warm call allocates {allocations} times"
            );
            best = best.max(rate);
        }
        rates.push((instances, best));
    }
    let smallest = rates[0].1;
    if json {
        let rates: Vec<String> = rates
            .iter()
            .map(|(instances, rate)| format!("\"{instances}\":{rate:.0}"))
            .collect();
        println!("{{\"events_per_second\":{{{}}}}}", rates.join(","));
        return;
    }
    for (instances, rate) in &rates {
        println!(
            "{instances:>7} instances of {:>4} functions  {:>6.2} M events/s  {:.2} of the least",
            u32::min(FUNCTIONS, *instances),
            rate / 1e6,
            rate / smallest,
        );
    }
    println!("a warm call allocates nothing");
}
