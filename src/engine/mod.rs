//! The truth about functions, calls, instances, zygotes, memory: events in, effects out.
//! Imports base, policy.
//!
//! The worker is a value. It has no clock, no descriptor, no thread and no chance but its seed: it
//! is a function of (limits, parameters, seed, timed events). Whoever drives it tells what happened
//! (`Event`) and does what is asked (`Effect`); the live driver does it with system calls, the
//! simulator with a virtual clock.
//!
//! ```text
//!            event, now                       effects
//!  driver ---------------> handle(..) -----------------------> driver
//!                             |  one mutation
//!                             |  settle: who waits for memory, who must go, is the drain done
//!  agenda ---- now ------> expire(..)
//! ```
//!
//! The rooms of this house:
//! - `serve`: calls arrive, wait, are given, are answered;
//! - `start`: who may start, from what, who waits for memory and in what order;
//! - `finish`: instances die, for whatever reason, and what becomes of their calls;
//! - `deploy`: functions, versions, packages, configuration;
//! - `grow`: zygotes and the nodes they stand for; `forest` keeps the nodes;
//! - `evict`: who gives up memory, and why; `ledger` keeps the sums;
//! - `due`: everything that happens because time passed;
//! - `drain`: the end;
//! - `view`: what may be seen from outside; `invariants`: what must always hold.

#![forbid(unsafe_code)]

mod call;
mod deploy;
mod drain;
mod due;
mod effect;
mod event;
mod evict;
mod expect;
mod finish;
mod forest;
mod function;
mod grow;
mod instance;
mod invariants;
mod ledger;
mod measure;
mod note;
mod params;
mod plant;
mod record;
mod serve;
mod start;
#[cfg(test)]
#[path = "tests/tables.rs"]
mod tables;
mod view;
mod zygote;

pub use call::Call;
pub use effect::{Effect, Origin, Refusal, Start};
pub use event::{Event, Exit, ForkFault, Sandbox, Verdict, Wanted, ZygoteFault, ZygoteTree};
pub use forest::Phase;
pub use function::{Function, FunctionCounts};
pub use instance::{Instance, InstanceState};
pub use note::{End, Growth, Need, Note};
pub use params::{
    DESCRIPTORS_OF_A_SANDBOX, FunctionSettings, OnHangup, Packages, Params, ZygoteSettings,
};
pub use record::{Input, Recorder, Recording, SEGMENT_EVENTS, Segment};
pub use view::{Counts, FunctionView, InstanceView, NodeView, Pool, ZygoteView};
pub use zygote::{Zygote, ZygoteState};

use crate::base::{Agenda, Chain, IndexedHeap, Key, Limits, Links, Random, Slab, Table, Time};
use alloc::collections::VecDeque;
use forest::Forest;
use ledger::{Amount, Ledger};
use serde::{Deserialize, Serialize};

/// Given by whoever keeps the call's bytes.
pub type CallKey = Key<Call>;
/// Given by whoever keeps the functions' code.
pub type FunctionKey = Key<Function>;
/// Given by the engine.
pub type InstanceKey = Key<Instance>;
/// Given by the engine.
pub type ZygoteKey = Key<Zygote>;

/// The worker, as a value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Engine {
    limits: Limits,
    params: Params,
    random: Random,
    /// Of the latest event; never goes back.
    now: Time,

    calls: Table<Call>,
    functions: Table<Function>,
    instances: Slab<Instance>,
    zygotes: Slab<Zygote>,
    forest: Forest,
    ledger: Ledger,
    agenda: Agenda,

    /// Calls in their function's queue.
    queue_links: Links,
    /// Instances in their function's lists.
    instance_links: Links,
    /// Instances in their zygote's list of uncertain forks.
    fork_links: Links,
    /// Functions that wait for memory, the longest first.
    waiters: Chain,
    waiter_links: Links,

    /// Worth of what is idle, by slot of function or zygote. A number here may be too low, never
    /// too high.
    victims: IndexedHeap<f64>,
    /// Worth of the last victim.
    clock: f64,
    /// Part of their ceiling that functions turned out to use.
    usual_percent: f64,
    /// When worth that drifts with time was last made anew.
    drift_followed: Time,
    evictions_in_flight: u32,

    drain: Option<drain::Drain>,
    /// Something changed that `settle` has to look at.
    unsettled: bool,
    /// Less than the goal was free when the evictor looked last.
    short: bool,
    /// Zygotes that end as soon as nothing depends on them.
    retiring: u32,
    /// Instances that have much to import and are not done.
    importing: u32,
    counts: Counts,
    #[serde(skip)]
    effects: VecDeque<Effect>,
}

/// What is to be done now; the engine takes no further event until this is gone.
#[derive(Debug)]
#[must_use = "effects are the engine's only deeds"]
pub struct Effects<'a> {
    effects: &'a mut VecDeque<Effect>,
}

impl Iterator for Effects<'_> {
    type Item = Effect;

    fn next(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.effects.len(), Some(self.effects.len()))
    }
}

impl ExactSizeIterator for Effects<'_> {}

impl Engine {
    pub fn new(limits: Limits, params: Params, seed: u64) -> Self {
        let ledger = Ledger::new(limit_of(&limits, &params));
        Self {
            limits,
            params,
            random: Random::new(seed),
            now: Time::ZERO,
            calls: Table::new(limits.calls as usize),
            functions: Table::new(limits.functions as usize),
            instances: Slab::new(limits.instances as usize),
            zygotes: Slab::new(limits.zygotes as usize),
            forest: Forest::none(),
            ledger,
            agenda: Agenda::new(),
            queue_links: Links::new(),
            instance_links: Links::new(),
            fork_links: Links::new(),
            waiters: Chain::EMPTY,
            waiter_links: Links::new(),
            victims: IndexedHeap::new(),
            clock: 0.0,
            usual_percent: start::USUAL_PERCENT,
            drift_followed: Time::ZERO,
            evictions_in_flight: 0,
            drain: None,
            unsettled: false,
            short: false,
            retiring: 0,
            importing: 0,
            counts: Counts::default(),
            effects: VecDeque::new(),
        }
    }

    /// Something happened. Time that goes back counts as standing still.
    pub fn handle(&mut self, event: Event, now: Time) -> Effects<'_> {
        self.turn(now);
        self.dispatch(event);
        self.settle();
        Effects {
            effects: &mut self.effects,
        }
    }

    /// Time passed: does whatever is due by now.
    pub fn expire(&mut self, now: Time) -> Effects<'_> {
        self.turn(now);
        while let Some(slot) = self.agenda.pop_due(self.now) {
            self.due(slot);
        }
        self.settle();
        Effects {
            effects: &mut self.effects,
        }
    }

    /// When `expire` wants to be called; none: nothing will ever be due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.agenda.next_deadline()
    }

    fn turn(&mut self, now: Time) {
        self.now = Time::max(self.now, now);
        self.counts.events += 1;
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::CallArrived { call, function } => self.call_arrived(call, function),
            Event::CallHungUp { call } => self.call_hung_up(call),
            Event::Forked { instance } => self.forked(instance),
            Event::ForkFailed { instance, fault } => self.fork_failed(instance, fault),
            Event::Given { instance } => self.given(instance),
            Event::Answered {
                instance,
                call,
                verdict,
            } => self.answered(instance, call, verdict),
            Event::InstanceExited {
                instance,
                seen,
                exit,
            } => self.instance_exited(instance, seen, exit),
            Event::ZygoteReady { zygote } => self.zygote_ready(zygote),
            Event::ZygoteFailed { zygote, fault } => self.zygote_failed(zygote, fault),
            Event::ZygoteExited { zygote, exit } => self.zygote_exited(zygote, exit),
            Event::Frozen { sandbox } => self.frozen(sandbox),
            Event::Thawed { sandbox } => self.thawed(sandbox),
            Event::MemorySampled { sandbox, memory } => self.memory_sampled(sandbox, memory),
            Event::PressureRose { wanted } => self.pressure_rose(wanted),
            Event::InstallFinished { wanted, packages } => self.install_finished(wanted, *packages),
            Event::InstallFailed { wanted } => self.install_failed(wanted),
            Event::FunctionDeployed {
                function,
                version,
                settings,
            } => self.function_deployed(function, version, settings),
            Event::FunctionRemoved { function } => self.function_removed(function),
            Event::ConfigChanged { params } => self.config_changed(*params),
            Event::TreeChanged { tree } => self.tree_changed(*tree),
            Event::WeightsChanged { weights } => self.weights_changed(*weights),
            Event::DrainRequested { accept, deadline } => self.drain_requested(accept, deadline),
        }
    }

    /// What follows from a change, whatever it was. A warm call has nothing here.
    fn settle(&mut self) {
        if !self.unsettled {
            return;
        }
        self.unsettled = false;
        self.end_retiring();
        self.serve_waiters();
        self.evict_what_must_go();
        self.finish_drain();
    }

    fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }

    /// Somebody who is gone was named.
    fn stale(&mut self) {
        self.counts.stale += 1;
    }
}

fn limit_of(limits: &Limits, params: &Params) -> Amount {
    Amount {
        memory: params.memory,
        descriptors: params.descriptors,
        processes: params.processes,
        instances: limits.instances,
    }
}
