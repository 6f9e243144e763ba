//! The keep-alive model that makes no mistakes it can avoid.
//!
//! Owns one simulated server as the classic model does, with the faults of that one put right:
//! memory is asked whether it can be made free before anybody goes, no more goes than is needed,
//! what has lived too long gives its memory back at once, nobody pays rent for running.
//!
//! ```text
//!             start                    finished
//! (nothing) ---------> busy  --------------------------> idle  --call--> busy
//!                       ^ '-- a call waits for it --'     | evicted, expired
//!                       '---------------------------------v
//!                                                     (nothing)
//! ```
//!
//! The idle containers of a function are a stack: the one used last serves next, so those below are
//! needed only when more calls overlap. Each depth of the stack therefore has a history of its own
//! (`policy::demand`), and the bottom is what a function would lose.
//!
//! A server may know sandboxes as wholes, or as stacks of [`layers`] of which the lower ones are
//! shared: then what is left of a stack is where the next start begins.
//!
//! Who goes first is not decided here: the order is that of `policy::keep`, the very code by which
//! the live worker evicts, or of the future itself ([`future`]).

pub mod future;
pub mod layers;
#[cfg(test)]
mod tests;
mod victims;

use super::report::{Counts, DROP_RETRY_MS, Outcome, Victim};
use crate::base::{Bytes, Duration, Key, Slab, Time};
use crate::policy::Evict;
use crate::policy::keep::{History, Thing, Use};
use crate::sim::trace::{Arrival, Function};
use core::cmp::Reverse;
use future::{Cursor, Future};
use layers::{Kept, Layers};
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::sync::Arc;

/// More containers than any simulated memory holds.
const CONTAINERS_MAX: usize = 1 << 24;

/// Who is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// By a policy of the live evictor.
    Live(Evict),
    /// Knows all calls to come, and gives up what saves least until it is wanted.
    Oracle,
}

impl Policy {
    pub fn all() -> impl Iterator<Item = Self> {
        let live = Evict::ALL.into_iter().map(Self::Live);
        live.chain([Self::Oracle])
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Live(evict) => evict.title(),
            Self::Oracle => "ORACLE",
        }
    }

    /// Whether sandboxes are stacks of layers under it. What is known of the future is about whole
    /// sandboxes.
    pub const fn keeps_layers(self, options: Options) -> bool {
        match self {
            Self::Live(evict) => evict.keeps_layers() || options.layers,
            Self::Oracle => false,
        }
    }

    /// The oracle's order is its own: the history that it has beside it is never asked.
    const fn evict(self) -> Evict {
        match self {
            Self::Live(evict) => evict,
            Self::Oracle => Evict::Lru,
        }
    }
}

/// What may be done besides starting and evicting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// A call waits for a busy container of its function that will be free sooner than a new one.
    pub wait: bool,
    /// Layers are kept under every policy of the live evictor, not only where it asks for that.
    pub layers: bool,
}

#[derive(Debug, Clone)]
struct Container {
    function: u32,
    /// Busy until then, all calls that wait for it served; idle since then.
    free_at_ms: f64,
    /// Has served: it was not made ahead of a call that has not come yet.
    used: bool,
    /// Its place among the busy ones of its function; none when idle.
    busy_at: Option<usize>,
}

type ContainerKey = Key<Container>;

#[derive(Debug, Clone)]
struct Served {
    /// Its own, layers below it not counted.
    mem_mb: f64,
    /// Its own, from the layer that it stands on.
    own_ms: f64,
    /// From nothing.
    start_ms: f64,
    run_ms: f64,
    busy: Vec<ContainerKey>,
    /// The one used last at the back.
    idle: VecDeque<ContainerKey>,
    last_use_ms: f64,
    history: History,
    cursor: Cursor,
    /// Its place in the list of functions that have something idle.
    idle_at: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Finished(ContainerKey),
    Expired(ContainerKey),
    Prewarm(u32),
    /// Nobody stood on this layer any more, a while ago.
    Bared(u32),
}

/// One server under one policy with one size of memory.
#[derive(Debug, Clone)]
pub struct Own {
    policy: Policy,
    options: Options,
    memory_mb: f64,
    used_mb: f64,
    asked_mb: f64,
    busy_mb: f64,
    clock: f64,
    functions: Vec<Served>,
    containers: Slab<Container>,
    layers: Arc<Layers>,
    /// By node of the layers.
    kept: Vec<Kept>,
    /// Bits of the time (never negative), order of scheduling, event.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    with_idle: Vec<u32>,
    future: Option<Arc<Future>>,
    /// Distinguishes the things of this run from those of another.
    seed: u64,
    counts: Counts,
    victims: Vec<Victim>,
}

impl Own {
    pub fn new(
        functions: &[Function],
        policy: Policy,
        options: Options,
        memory_mb: f64,
        seed: u64,
        future: Option<Arc<Future>>,
        layers: Option<Arc<Layers>>,
    ) -> Self {
        assert!(
            future.is_some() || policy != Policy::Oracle,
            "the oracle is told the future"
        );
        let layers = layers.filter(|_| policy.keeps_layers(options));
        let layers = layers.unwrap_or_else(|| Arc::new(Layers::none(functions)));
        Self {
            policy,
            options,
            memory_mb,
            used_mb: 0.0,
            asked_mb: 0.0,
            busy_mb: 0.0,
            clock: 0.0,
            functions: functions
                .iter()
                .enumerate()
                .map(|(at, function)| Served::new(function, policy, layers.stand(at as u32)))
                .collect(),
            kept: (0..layers.len())
                .map(|_| Kept::absent(policy.evict()))
                .collect(),
            layers,
            containers: Slab::new(CONTAINERS_MAX),
            events: BinaryHeap::new(),
            scheduled: 0,
            with_idle: Vec::new(),
            future,
            seed: seed.rotate_left(40),
            counts: Counts::new(functions.len()),
            victims: Vec::new(),
        }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The most memory that was asked for so far: with as much as that, everything goes as here.
    pub fn asked_mb(&self) -> f64 {
        self.asked_mb
    }

    /// From now on. What is in use stays in use.
    pub fn set_memory_mb(&mut self, memory_mb: f64) {
        self.memory_mb = memory_mb;
    }

    /// Who was evicted on behalf of the last call.
    pub fn victims(&self) -> &[Victim] {
        &self.victims
    }

    /// One call.
    pub fn call(&mut self, arrival: Arrival) -> Outcome {
        let Arrival {
            t_ms: now,
            function,
        } = arrival;
        self.victims.clear();
        self.advance(now);
        let served = &mut self.functions[function as usize];
        served.last_use_ms = now;
        served.history.arrived(&Use {
            now: time(now),
            busy: served.busy.len() as u32,
            clock: self.clock,
        });
        let (outcome, added_ms) = self.serve(function, now);
        self.counts.count(function as usize, outcome);
        self.counts.added_ms += added_ms;
        outcome
    }

    fn serve(&mut self, function: u32, now: f64) -> (Outcome, f64) {
        let Served {
            start_ms,
            own_ms,
            run_ms,
            ..
        } = self.functions[function as usize];
        if let Some(container) = self.functions[function as usize].idle.back().copied() {
            self.occupy(container, now, run_ms);
            return (Outcome::Hit, 0.0);
        }
        let missing = self.missing(function);
        let takes_ms = own_ms + missing.start_ms;
        if let Some(waited) = self.wait(function, now, takes_ms) {
            return (Outcome::Hit, waited);
        }
        self.want_stack(function, now);
        if !self.make_room(function, now) {
            return match self.wait(function, now, f64::INFINITY) {
                Some(waited) => (Outcome::Hit, waited),
                None => (Outcome::Dropped, DROP_RETRY_MS + start_ms),
            };
        }
        let Some(container) = self.add(function, now) else {
            return (Outcome::Dropped, DROP_RETRY_MS + start_ms);
        };
        self.counts.layer_starts += u64::from(missing.some_there);
        self.occupy(container, now, takes_ms + run_ms);
        (Outcome::Missed, takes_ms)
    }

    /// Waits for the busy container that is free first, if that is within `patience_ms`, and if
    /// calls may wait at all.
    fn wait(&mut self, function: u32, now: f64, patience_ms: f64) -> Option<f64> {
        if !self.options.wait {
            return None;
        }
        let free_at = |key: &&ContainerKey| self.containers.get(**key).expect("busy").free_at_ms;
        let served = &self.functions[function as usize];
        let first = served
            .busy
            .iter()
            .min_by(|a, b| free_at(a).total_cmp(&free_at(b)));
        let (key, run_ms) = (*first?, served.run_ms);
        let container = self.containers.get_mut(key).expect("busy");
        let waited = container.free_at_ms - now;
        if waited >= patience_ms {
            return None;
        }
        container.free_at_ms += run_ms;
        let free_at_ms = container.free_at_ms;
        self.counts.exec_ms += run_ms;
        self.schedule(free_at_ms, Event::Finished(key));
        self.used(function, now);
        Some(waited)
    }

    // Time passes.

    fn schedule(&mut self, at_ms: f64, event: Event) {
        self.scheduled += 1;
        self.events
            .push(Reverse((at_ms.to_bits(), self.scheduled, event)));
    }

    fn advance(&mut self, now: f64) {
        while let Some(&Reverse((bits, _, event))) = self.events.peek() {
            let at = f64::from_bits(bits);
            if at > now {
                break;
            }
            self.events.pop();
            self.held_until(at);
            match event {
                Event::Finished(key) => self.finished(key, at),
                Event::Expired(key) => self.expired(key, at),
                Event::Prewarm(function) => self.prewarm(function, at),
                Event::Bared(node) => self.bared(node, at),
            }
        }
        self.held_until(now);
    }

    /// Memory was held until now as it is.
    fn held_until(&mut self, now: f64) {
        self.counts.mem_mb_ms += self.used_mb * (now - self.counts.until_ms);
        self.counts.until_ms = now;
    }

    fn finished(&mut self, key: ContainerKey, now: f64) {
        let Some(container) = self.containers.get_mut(key) else {
            return;
        };
        if container.free_at_ms > now {
            return; // Somebody waited for it.
        }
        let Some(place) = container.busy_at.take() else {
            return;
        };
        let function = container.function;
        let served = &mut self.functions[function as usize];
        served.busy.swap_remove(place);
        if let Some(moved) = served.busy.get(place) {
            self.containers.get_mut(*moved).expect("busy").busy_at = Some(place);
        }
        let busy = served.busy.len() as u32;
        served.history.released(busy, time(now));
        self.busy_mb -= served.mem_mb;
        self.hold_stack(function, false);
        self.set_idle(key, function, now);
    }

    fn set_idle(&mut self, key: ContainerKey, function: u32, now: f64) {
        if let Some(span) = self.keep_span(key) {
            self.schedule(now + ms(span), Event::Expired(key));
        }
        let served = &mut self.functions[function as usize];
        served.idle.push_back(key);
        if served.idle_at.is_none() {
            served.idle_at = Some(self.with_idle.len());
            self.with_idle.push(function);
        }
    }

    /// How long the policy keeps it, whether memory is short or not.
    fn keep_span(&self, key: ContainerKey) -> Option<Duration> {
        let container = self.containers.get(key)?;
        let stay = self.functions[container.function as usize].history.stay();
        if container.used {
            stay.used
        } else {
            stay.unused
        }
    }

    fn expired(&mut self, key: ContainerKey, now: f64) {
        let Some(container) = self.containers.get(key) else {
            return;
        };
        let (function, idle_since_ms) = (container.function, container.free_at_ms);
        if container.busy_at.is_some() {
            return;
        }
        let Some(span) = self.keep_span(key) else {
            return;
        };
        let ends_ms = idle_since_ms + ms(span);
        if ends_ms > now {
            // Used in between, or the policy has learned something.
            return self.schedule(ends_ms, Event::Expired(key));
        }
        self.counts.evicted(function as usize);
        self.remove(key, now);
        let served = &self.functions[function as usize];
        let after = served.history.stay().ready_after;
        if let Some(after) = after.filter(|_| served.idle.is_empty() && served.busy.is_empty()) {
            let at_ms = served.last_use_ms + ms(after);
            if at_ms > now {
                self.schedule(at_ms, Event::Prewarm(function));
            }
        }
    }

    /// Has a container ready before the call that is due, where nobody must go for it.
    fn prewarm(&mut self, function: u32, now: f64) {
        let served = &self.functions[function as usize];
        let is_there = !served.idle.is_empty() || !served.busy.is_empty();
        let needs_mb = served.mem_mb + self.missing(function).mem_mb;
        if is_there || !self.fits(needs_mb) {
            return;
        }
        if let Some(key) = self.add(function, now) {
            self.set_idle(key, function, now);
        }
    }

    // Containers.

    fn fits(&mut self, mem_mb: f64) -> bool {
        let asked_mb = self.used_mb + mem_mb;
        self.asked_mb = f64::max(self.asked_mb, asked_mb);
        asked_mb <= self.memory_mb
    }

    fn add(&mut self, function: u32, now: f64) -> Option<ContainerKey> {
        let container = Container {
            function,
            free_at_ms: now,
            used: false,
            busy_at: None,
        };
        let key = self.containers.insert(container).ok()?;
        self.used_mb += self.functions[function as usize].mem_mb;
        self.step_on(self.layers.stand(function).node);
        self.counts.peak_mem_mb = self.counts.peak_mem_mb.max(self.used_mb);
        self.counts.peak_pool = self.counts.peak_pool.max(self.containers.len());
        Some(key)
    }

    /// The container, idle or new, takes a call.
    fn occupy(&mut self, key: ContainerKey, now: f64, run_ms: f64) {
        let container = self.containers.get_mut(key).expect("chosen just now");
        let function = container.function;
        let served = &mut self.functions[function as usize];
        if served.idle.back() == Some(&key) {
            served.idle.pop_back();
        }
        container.free_at_ms = now + run_ms;
        container.used = true;
        container.busy_at = Some(served.busy.len());
        served.busy.push(key);
        self.busy_mb += served.mem_mb;
        self.hold_stack(function, true);
        self.counts.exec_ms += run_ms;
        self.schedule(now + run_ms, Event::Finished(key));
        self.used(function, now);
        self.perhaps_unlist(function);
    }

    fn used(&mut self, function: u32, now: f64) {
        let served = &mut self.functions[function as usize];
        served.history.used(&Use {
            now: time(now),
            busy: served.busy.len() as u32,
            clock: self.clock,
        });
    }

    fn perhaps_unlist(&mut self, function: u32) {
        let served = &mut self.functions[function as usize];
        if !served.idle.is_empty() {
            return;
        }
        let Some(place) = served.idle_at.take() else {
            return;
        };
        self.with_idle.swap_remove(place);
        if let Some(&moved) = self.with_idle.get(place) {
            self.functions[moved as usize].idle_at = Some(place);
        }
    }

    /// An idle container is no more.
    fn remove(&mut self, key: ContainerKey, now: f64) {
        let container = self
            .containers
            .remove(key)
            .expect("it was looked at just now");
        let function = container.function;
        let served = &mut self.functions[function as usize];
        let place = served.idle.iter().position(|idle| *idle == key);
        served
            .idle
            .remove(place.expect("only the idle are removed"));
        let left = served.idle.len() + served.busy.len();
        served.history.lost(left as u32);
        self.used_mb -= served.mem_mb;
        self.step_off(self.layers.stand(function).node, now);
        self.perhaps_unlist(function);
    }
}

impl Served {
    fn new(function: &Function, policy: Policy, stand: layers::Stand) -> Self {
        Self {
            mem_mb: stand.mem_mb,
            own_ms: stand.start_ms,
            start_ms: f64::max(function.cold_ms - function.warm_ms, 0.0),
            run_ms: function.warm_ms,
            busy: Vec::new(),
            idle: VecDeque::new(),
            last_use_ms: 0.0,
            history: policy.evict().history(),
            cursor: Cursor::default(),
            idle_at: None,
        }
    }

    /// As the live evictor sees it: the one idle for longest, `taken` of them gone.
    fn thing(&self, taken: usize, idle_since_ms: f64, now: f64, name: u64) -> Thing {
        Thing {
            rebuild: Duration::from_secs_f64(self.own_ms / 1e3),
            memory: Bytes::new((self.mem_mb * (1 << 20) as f64) as u64),
            level: (self.busy.len() + self.idle.len() - taken) as u32,
            last_use: time(idle_since_ms),
            now: time(now),
            name,
        }
    }
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn time(ms: f64) -> Time {
    Time::from_nanos((ms * 1e6) as u64)
}
