//! The classic keep-alive model: the simulator of the FaasCache work, call for call.
//!
//! Owns one simulated server: its pool of containers in heap order, the running ones, the counts.
//! The value of this model is that it is *the same* as the published one, its faults included, so
//! that figures can be compared; what should be right about it is right in the `own` model. Two
//! things decide outcomes and are easily lost: the arrangement of equals in the pool (see
//! [`heap`](super::heap)) and the order of floating point operations. Nothing here may be
//! "simplified" without `tests/keepalive.rs`, which holds it against a literal transcription.
//!
//! ```text
//!            miss: add                 finish <= now
//! (nothing) ----------> running  ---------------------> idle --hit--> running
//!                                                        | evicted, expired, pre-warmed (HIST)
//!                                                        v
//!                                                    (nothing)
//! ```
//!
//! What it costs: a call touches the containers of its own function, and what a rebuild of the heap
//! really moves. Only an eviction under LND, an expiry and a deletion under HIST cost the pool.

use super::classic_hist::Gaps;
use super::heap::Heap;
use super::mersenne::Mersenne;
use super::report::{Counts, DROP_RETRY_MS, Outcome, Victim, Who};
use crate::sim::trace::{Arrival, Function};
use core::cmp::Reverse;
use std::collections::BinaryHeap;

const MINUTE_MS: f64 = 60_000.0;
const TTL_MS: f64 = 10.0 * MINUTE_MS;
const LONG_TTL_MS: f64 = 120.0 * MINUTE_MS;

/// The published policies, by the names their paper gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    Gd,
    Lru,
    Ttl,
    LongTtl,
    Lnd,
    Freq,
    Size,
    Hist,
    Rand,
}

impl Policy {
    pub const ALL: [Self; 9] = [
        Self::Gd,
        Self::Lru,
        Self::Ttl,
        Self::LongTtl,
        Self::Lnd,
        Self::Freq,
        Self::Size,
        Self::Hist,
        Self::Rand,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Gd => "GD",
            Self::Lru => "LRU",
            Self::Ttl => "TTL",
            Self::LongTtl => "LONG-TTL",
            Self::Lnd => "LND",
            Self::Freq => "FREQ",
            Self::Size => "SIZE",
            Self::Hist => "HIST",
            Self::Rand => "RAND",
        }
    }

    /// After how long an idle container is deleted when its function is called again.
    const fn lifetime_ms(self) -> Option<f64> {
        match self {
            Self::Ttl => Some(TTL_MS),
            Self::LongTtl => Some(LONG_TTL_MS),
            _ => None,
        }
    }
}

/// What a call that finds no idle container takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// The cold run.
    Classic,
    /// Three seconds and 1.2 cold runs.
    Course,
}

impl Edition {
    fn miss_ms(self, function: &Function) -> f64 {
        match self {
            Self::Classic => function.cold_ms,
            Self::Course => 3_000.0 + 1.2 * function.cold_ms,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Container {
    function: u32,
    uses: u64,
    last_access_ms: f64,
    running: bool,
    /// Counts starts of calls: among running containers the smaller one started earlier.
    started: u64,
}

/// When a container is free again, then which: one number, which is compared in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Finish(u128);

impl Finish {
    /// Bits of floats that are not negative order as they do.
    const fn new(t_ms: f64, container: u32) -> Self {
        Self((t_ms.to_bits() as u128) << 32 | container as u128)
    }

    const fn t_ms(self) -> f64 {
        f64::from_bits((self.0 >> 32) as u64)
    }

    const fn container(self) -> u32 {
        self.0 as u32
    }
}

#[derive(Debug, Clone)]
struct Served {
    size_mb: f64,
    cost_ms: f64,
    miss_ms: f64,
    hit_ms: f64,
    /// The sum of the use counts of its containers.
    uses: u64,
    containers: Vec<u32>,
    hist: Option<Hist>,
}

/// What HIST knows of a function that was called before.
#[derive(Debug, Clone)]
struct Hist {
    gaps: Gaps,
    prewarm_ms: f64,
    /// Its place among the functions in the order of their first arrivals.
    order: usize,
}

/// One server under one policy with one size of memory.
#[derive(Debug, Clone)]
pub struct Classic {
    policy: Policy,
    memory_mb: f64,
    used_mb: f64,
    asked_mb: f64,
    clock: f64,
    functions: Vec<Served>,
    containers: Vec<Container>,
    free: Vec<u32>,
    pool: Heap,
    running: BinaryHeap<Reverse<Finish>>,
    starts: u64,
    /// HIST: functions in the order of their first arrivals, and until when each is pre-warmed.
    seen: Vec<u32>,
    prewarmed_until_ms: Vec<f64>,
    /// No function is pre-warmed for longer.
    prewarmed_max_ms: f64,
    random: Mersenne,
    counts: Counts,
    victims: Vec<Victim>,
    stopped: Vec<u32>,
    snapshot: Vec<u32>,
    aside: Vec<(u32, f64)>,
}

impl Classic {
    pub fn new(
        functions: &[Function],
        policy: Policy,
        edition: Edition,
        memory_mb: f64,
        seed: u32,
    ) -> Self {
        let served = |function: &Function| Served {
            size_mb: function.mem_mb,
            cost_ms: function.cold_ms - function.warm_ms,
            miss_ms: edition.miss_ms(function),
            hit_ms: function.warm_ms,
            uses: 0,
            containers: Vec::new(),
            hist: None,
        };
        Self {
            policy,
            memory_mb,
            used_mb: 0.0,
            asked_mb: 0.0,
            clock: 0.0,
            functions: functions.iter().map(served).collect(),
            containers: Vec::new(),
            free: Vec::new(),
            pool: Heap::default(),
            running: BinaryHeap::new(),
            starts: 0,
            seen: Vec::new(),
            prewarmed_until_ms: Vec::new(),
            prewarmed_max_ms: f64::NEG_INFINITY,
            random: Mersenne::new(seed),
            counts: Counts::new(functions.len()),
            victims: Vec::new(),
            stopped: Vec::new(),
            snapshot: Vec::new(),
            aside: Vec::new(),
        }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Who was evicted on behalf of the last call.
    pub fn victims(&self) -> &[Victim] {
        &self.victims
    }

    /// The priority of the last victim of an eviction round.
    pub fn clock(&self) -> f64 {
        self.clock
    }

    pub fn used_mb(&self) -> f64 {
        self.used_mb
    }

    /// The most memory that was asked for so far: with as much as that, everything goes as here.
    pub fn asked_mb(&self) -> f64 {
        self.asked_mb
    }

    /// From now on. What is in use stays in use.
    pub fn set_memory_mb(&mut self, memory_mb: f64) {
        self.memory_mb = memory_mb;
    }

    pub fn pool_len(&self) -> usize {
        self.pool.len()
    }

    pub fn running_len(&self) -> usize {
        self.running.len()
    }

    /// One call: who stops, who is pre-warmed, who is chosen, who must go.
    pub fn call(&mut self, arrival: Arrival) -> Outcome {
        let Arrival {
            t_ms: now,
            function,
        } = arrival;
        self.victims.clear();
        self.counts.mem_mb_ms += self.used_mb * (now - self.counts.until_ms);
        self.counts.until_ms = now;
        self.stop_finished(now);
        if self.policy.lifetime_ms().is_some() && self.idle_of(function).next().is_some() {
            self.pool.heapify_for_now(); // Who chooses among the idle rebuilds it again.
        } else {
            self.pool.heapify();
        }
        if self.policy == Policy::Hist {
            self.prewarm(now);
            self.note_arrival(function, now);
        }
        let outcome = match self.choose(function, now) {
            Some(container) => {
                self.start(container, now, self.functions[function as usize].hit_ms);
                Outcome::Hit
            }
            None => self.miss(function, now),
        };
        self.counts.count(function as usize, outcome);
        let served = &self.functions[function as usize];
        self.counts.added_ms += match outcome {
            Outcome::Hit => 0.0,
            Outcome::Missed => served.miss_ms - served.hit_ms,
            Outcome::Dropped => DROP_RETRY_MS + served.miss_ms - served.hit_ms,
        };
        outcome
    }

    fn miss(&mut self, function: u32, now: f64) -> Outcome {
        let size_mb = self.functions[function as usize].size_mb;
        if !self.fits(size_mb) {
            self.evict(size_mb);
        }
        if !self.fits(size_mb) {
            return Outcome::Dropped;
        }
        let container = self.add(function, now);
        self.pool.heapify();
        self.start(container, now, self.functions[function as usize].miss_ms);
        Outcome::Missed
    }

    /// Step 1. Only HIST cares in which order they stop.
    fn stop_finished(&mut self, now: f64) {
        debug_assert!(self.stopped.is_empty());
        while let Some(&Reverse(finish)) = self.running.peek() {
            if finish.t_ms() > now {
                break;
            }
            self.running.pop();
            let container = finish.container();
            self.containers[container as usize].running = false;
            if self.policy == Policy::Hist {
                self.stopped.push(container);
            }
        }
        if self.stopped.is_empty() {
            return;
        }
        let mut stopped = core::mem::take(&mut self.stopped);
        stopped.sort_unstable_by_key(|&container| self.containers[container as usize].started);
        for container in stopped.drain(..) {
            let function = self.containers[container as usize].function;
            if self.prewarm_ms(function) != 0.0 {
                self.delete(container);
            }
        }
        self.stopped = stopped;
    }

    /// Step 2, with the comparison the wrong way round, as published: whoever was called *less*
    /// than its window ago gets another container, at every call of anybody.
    fn prewarm(&mut self, now: f64) {
        if self.prewarmed_max_ms < now {
            return;
        }
        for order in 0..self.seen.len() {
            if self.prewarmed_until_ms[order] >= now {
                let function = self.seen[order];
                if self.fits(self.functions[function as usize].size_mb) {
                    self.add(function, now);
                }
            }
        }
    }

    fn prewarm_ms(&self, function: u32) -> f64 {
        self.functions[function as usize]
            .hist
            .as_ref()
            .map_or(0.0, |hist| hist.prewarm_ms)
    }

    /// Step 3.
    fn note_arrival(&mut self, function: u32, now: f64) {
        let served = &mut self.functions[function as usize];
        let Some(hist) = &mut served.hist else {
            let order = self.seen.len();
            served.hist = Some(Hist {
                gaps: Gaps::first(now),
                prewarm_ms: 0.0,
                order,
            });
            self.seen.push(function);
            self.prewarmed_until_ms.push(f64::NEG_INFINITY);
            return;
        };
        hist.gaps.arrived(now);
        hist.prewarm_ms = hist.gaps.prewarm_ms();
        let until_ms = if hist.prewarm_ms == 0.0 {
            f64::NEG_INFINITY
        } else {
            now + hist.prewarm_ms
        };
        self.prewarmed_until_ms[hist.order] = until_ms;
        self.prewarmed_max_ms = f64::max(self.prewarmed_max_ms, until_ms);
    }

    /// Step 4: the first idle container in array order that has not expired.
    fn choose(&mut self, function: u32, now: f64) -> Option<u32> {
        if let Some(lifetime_ms) = self.policy.lifetime_ms() {
            return self.choose_unexpired(function, now, lifetime_ms);
        }
        self.first_idle_of(function)
    }

    fn first_idle_of(&self, function: u32) -> Option<u32> {
        self.idle_of(function)
            .min_by_key(|&container| self.pool.place(container))
    }

    fn idle_of(&self, function: u32) -> impl Iterator<Item = u32> {
        let idle = |container: &u32| !self.containers[*container as usize].running;
        self.functions[function as usize]
            .containers
            .iter()
            .copied()
            .filter(idle)
    }

    /// The order is that of the array before anybody is deleted; the rebuilding comes after.
    fn choose_unexpired(&mut self, function: u32, now: f64, lifetime_ms: f64) -> Option<u32> {
        let expired =
            |container: u32| self.containers[container as usize].last_access_ms + lifetime_ms < now;
        if !self.idle_of(function).any(expired) {
            let chosen = self.first_idle_of(function)?;
            self.pool.heapify();
            return Some(chosen);
        }
        let mut snapshot = core::mem::take(&mut self.snapshot);
        snapshot.clear();
        snapshot.extend(self.idle_of(function));
        snapshot.sort_unstable_by_key(|&container| self.pool.place(container));
        let mut chosen = None;
        for &container in &snapshot {
            let idle = &self.containers[container as usize];
            if idle.last_access_ms + lifetime_ms < now {
                self.note_victim(container);
                self.delete(container);
            } else if chosen.is_none() {
                chosen = Some(container);
            }
        }
        self.pool.heapify();
        self.snapshot = snapshot;
        chosen
    }

    fn fits(&mut self, size_mb: f64) -> bool {
        let asked_mb = self.used_mb + size_mb;
        self.asked_mb = f64::max(self.asked_mb, asked_mb);
        asked_mb <= self.memory_mb
    }

    /// A new container of the function, in the pool and idle.
    fn add(&mut self, function: u32, now: f64) -> u32 {
        self.used_mb += self.functions[function as usize].size_mb;
        self.counts.peak_mem_mb = self.counts.peak_mem_mb.max(self.used_mb);
        let priority = self.priority(function, now);
        let container = Container {
            function,
            uses: 0,
            last_access_ms: now,
            running: false,
            started: 0,
        };
        let index = if let Some(index) = self.free.pop() {
            self.containers[index as usize] = container;
            index
        } else {
            self.containers.push(container);
            self.containers.len() as u32 - 1
        };
        self.functions[function as usize].containers.push(index);
        self.pool.push(index, priority);
        self.counts.peak_pool = self.counts.peak_pool.max(self.pool.len());
        index
    }

    /// Step 6: the call runs, and all containers of its function get the new priority.
    fn start(&mut self, index: u32, now: f64, run_ms: f64) {
        self.starts += 1;
        let container = &mut self.containers[index as usize];
        container.uses += 1;
        container.running = true;
        container.started = self.starts;
        container.last_access_ms = now;
        let function = container.function;
        self.running.push(Reverse(Finish::new(now + run_ms, index)));
        self.counts.exec_ms += run_ms;
        self.functions[function as usize].uses += 1;
        let priority = self.priority(function, now);
        for &other in &self.functions[function as usize].containers {
            self.pool.set(other, priority);
        }
        self.pool.heapify();
    }

    fn priority(&mut self, function: u32, now: f64) -> f64 {
        let served = &self.functions[function as usize];
        let uses = served.uses as f64;
        match self.policy {
            Policy::Gd => self.clock + uses * (served.cost_ms / served.size_mb),
            Policy::Freq => self.clock + uses * served.cost_ms,
            Policy::Size => self.clock + uses / served.size_mb,
            Policy::Lnd => served.hit_ms,
            Policy::Rand => f64::from(self.random.digit()),
            Policy::Lru | Policy::Ttl | Policy::LongTtl | Policy::Hist => now,
        }
    }

    /// Frees `size_mb` of idle containers, as if nothing were free, from the smallest priority up.
    fn evict(&mut self, size_mb: f64) {
        if self.running.len() == self.pool.len() {
            return;
        }
        if self.policy == Policy::Lnd {
            self.charge_rent();
        }
        let mut freed_mb = 0.0;
        while freed_mb < size_mb {
            let Some((container, priority)) = self.pool.pop() else {
                break;
            };
            if self.containers[container as usize].running {
                self.aside.push((container, priority));
                continue;
            }
            freed_mb += self.size_of(container);
            self.note_victim_at(container, priority);
            self.forget(container);
            self.clock = priority;
        }
        for (container, priority) in self.aside.drain(..) {
            self.pool.push(container, priority);
        }
    }

    /// Landlord: everybody pays the same for each megabyte, so much that somebody is left with
    /// nothing. Running containers pay as well.
    fn charge_rent(&mut self) {
        let credit_per_mb =
            |&container: &u32| self.pool.priority(container) / self.size_of(container);
        let rent = self
            .pool
            .items()
            .iter()
            .map(credit_per_mb)
            .fold(f64::INFINITY, f64::min);
        let (functions, containers) = (&self.functions, &self.containers);
        self.pool.set_all(|container, credit| {
            let function = containers[container as usize].function;
            credit - rent * functions[function as usize].size_mb
        });
        self.pool.heapify();
    }

    fn size_of(&self, container: u32) -> f64 {
        self.functions[self.containers[container as usize].function as usize].size_mb
    }

    fn note_victim(&mut self, container: u32) {
        self.note_victim_at(container, self.pool.priority(container));
    }

    fn note_victim_at(&mut self, container: u32, priority: f64) {
        let function = self.containers[container as usize].function;
        self.counts.evicted(function as usize);
        let who = Who::Function(function);
        self.victims.push(Victim { who, priority });
    }

    /// Out of the middle of the array, rebuilding at once.
    fn delete(&mut self, container: u32) {
        self.pool.remove(container);
        self.pool.heapify();
        self.forget(container);
    }

    /// Everything but the pool forgets it.
    fn forget(&mut self, index: u32) {
        let Container { function, uses, .. } = self.containers[index as usize];
        let served = &mut self.functions[function as usize];
        served.uses -= uses;
        let at = served.containers.iter().position(|&other| other == index);
        served
            .containers
            .swap_remove(at.expect("a function knows its containers"));
        self.used_mb -= served.size_mb;
        self.free.push(index);
    }
}
