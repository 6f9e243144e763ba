//! The loop: completions to events to the engine, its effects to the rooms that do them.
//!
//! ```text
//!   io.wait ──▶ front ──▶ requests ──┐                       ┌──▶ front (answers)
//!           ──▶ instances, zygotes ──┼──▶ tell ──▶ engine ──▶│──▶ instances, zygotes
//!           ──▶ helpers, signals ────┘     ▲                 └──▶ helpers, log
//!                                          └── what could not be done ──┘
//! ```
//!
//! The clock is read once a turn. Events are told one at a time: the effects of one are done before
//! the next is told, and what fails while doing them is told after that. The parts of this type's
//! work are in the files named after them: `requests`, `answers`, `effects`, `service`, ...

use super::admin::{LogReader, LogText};
use super::calls::Calls;
use super::depot::Depot;
use super::flight::Flight;
use super::front::Front;
use super::functions::{Checked, Functions};
use super::instances::Lines;
use super::memory::Meter;
use super::outputs::{Logged, Outputs};
use super::registry::Uploads;
use super::stats::{Stats, Timed};
use super::streams::{Piece, Streams};
use super::token::Owner;
use super::trace::{Recorder, Written};
use super::zygotes::Nests;
use crate::base::{Duration, Time};
use crate::config::load::Request;
use crate::config::{Config, Machine};
use crate::engine::{Effect, Engine, Event, InstanceKey, Sandbox};
use crate::host::code::{Compiler, Registry};
use crate::host::helper::Helpers;
use crate::host::log as sink;
use crate::host::memory::Walked;
use crate::host::sandboxes::Sandboxes;
use crate::host::service::Manager;
use crate::io::{BackEnd, Completion, Handle, Interest, Io};
use crate::sys::clock;
use std::collections::VecDeque;

/// What an instance without a connection gets to end by itself, so that its own exit is told.
pub(super) const CLOSING_GRACE: Duration = Duration::from_millis(100);

/// How often it is seen whether processes that stood by and were killed have ended.
const REAP_EVERY: Duration = Duration::from_millis(5);

/// Of `Owner::Helper`: which of them finished something.
pub(super) const HELPERS: u32 = 0;
pub(super) const FETCHERS: u32 = 1;

/// Something a helper finished.
#[derive(Debug)]
pub(super) enum Done {
    Checked(Checked),
    Registry(super::registry::Done),
    Log(LogReader, std::io::Result<Option<LogText>>),
    Logged(Logged),
    Memory(Sandbox, u64, Option<Walked>),
    Piece(Piece),
    Trace(Written),
    Recorded(super::flight::Written),
}

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Serving,
    /// Until everything is answered, or this moment.
    Draining {
        deadline: Time,
        /// When nothing was left to answer; open connections get a little longer.
        quiet: Option<Time>,
    },
    Ended,
}

/// What the worker was started as; a reload starts from it again.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) request: Request,
    pub(super) machine: Machine,
    /// This process's limit of open descriptors.
    pub(super) descriptors: u64,
    pub(super) sockets_are_passed: bool,
    pub(super) listening: String,
    pub(super) back_end: BackEnd,
    /// What `/status` says about limits: which are enforced, and why others are not.
    pub(super) limits: serde_json::Value,
    pub(super) started: Time,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) config: Config,
    pub(super) origin: Origin,
    pub(super) phase: Phase,
    pub(super) now: Time,
    /// Since 1970, at the same moment.
    pub(super) wall: Duration,

    pub(super) io: Io,
    pub(super) front: Front,
    pub(super) engine: Engine,
    pub(super) flight: Flight,
    pub(super) manager: Manager,
    pub(super) helpers: Helpers<Done>,
    /// One thread for what nobody waits for.
    pub(super) idlers: Helpers<()>,
    pub(super) compiler: Compiler,
    pub(super) registry: Registry,
    /// For a registry on the web: they may wait for a server.
    pub(super) fetchers: Option<Helpers<Done>>,
    pub(super) fetchers_done: Option<Handle>,
    pub(super) token: Option<String>,

    pub(super) sandboxes: Sandboxes,
    pub(super) lines: Lines,
    pub(super) nests: Nests,
    pub(super) outputs: Outputs,
    pub(super) depot: Depot,
    pub(super) meter: Meter,
    /// Instances without a connection, and when they are killed if they have not ended.
    pub(super) closing: Vec<(Time, InstanceKey)>,
    /// Asked to freeze.
    pub(super) freezing: Vec<Sandbox>,

    pub(super) functions: Functions,
    pub(super) calls: Calls,
    pub(super) uploads: Uploads,
    pub(super) stats: Stats,
    pub(super) streams: Streams,
    pub(super) trace: Recorder,

    pub(super) signals: Handle,
    pub(super) helpers_done: Handle,
    pub(super) watchdog_due: Time,
    pub(super) status_due: Time,
    pub(super) status_told: String,
    pub(super) tree_generation: u32,

    /// Told to the engine as soon as the effects of the one before are done.
    pub(super) told: VecDeque<Event>,
    pub(super) is_telling: bool,
    pub(super) effects: Vec<Effect>,
    pub(super) completions: Vec<Completion>,
    pub(super) done: Vec<Done>,
}

impl Worker {
    /// Turns until the worker has ended.
    pub(super) fn run(&mut self) -> std::io::Result<()> {
        while self.phase != Phase::Ended {
            let due = self.between_turns();
            if self.phase == Phase::Ended {
                break;
            }
            let timeout = due.map(|due| due.since(self.now));
            let turned = clock::now().since(self.now);
            self.stats.record(Timed::Turn, turned);
            self.io.wait(timeout, &mut self.completions)?;
            self.turn();
        }
        Ok(())
    }

    /// Ready: whoever started the worker may know.
    pub(super) fn begin(&mut self) {
        self.tell_tree();
        self.dump_tree();
        let status = self.status();
        self.manager.ready(&status);
    }

    /// The last words.
    pub(super) fn end(&mut self) {
        self.dump_tree();
        self.trace.close();
        self.outputs.close();
    }

    /// Ends every sandbox that is left.
    pub(super) fn close(mut self) -> std::io::Result<()> {
        self.idlers.give_up();
        self.sandboxes.close()
    }

    /// What is done once a turn, before sleeping; the moment at which to wake.
    fn between_turns(&mut self) -> Option<Time> {
        let looks = [
            self.look_for_seen(),
            self.look_for_frozen(),
            self.end_closed(),
            self.outputs.resume(self.now, &mut self.io),
            self.measure(),
            self.retry_streams(),
            self.go_on_without_look(),
            self.write_trace(),
            self.write_logs(),
            self.watch_errands(),
            self.keep_depot(),
        ];
        self.stand_by();
        self.front.flush(&mut self.io);
        let service = [self.report(), self.drained(), self.make_spares()];
        let rooms = [self.front.next_deadline(), self.engine.next_deadline()];
        sink::pump();
        service
            .into_iter()
            .chain(looks)
            .chain(rooms)
            .flatten()
            .min()
    }

    /// Makes and cleans spares of cgroups, behind everything that somebody waits for.
    fn make_spares(&mut self) -> Option<Time> {
        let reaped = self.sandboxes.reap().then(|| self.now + REAP_EVERY);
        let refilled = match self.sandboxes.refill() {
            Ok(more) => more.then_some(self.now),
            Err(error) => {
                log::error!("no spare sandboxes: {error}");
                None
            }
        };
        refilled.or(reaped)
    }

    /// Everything that has happened, and everything that is due.
    fn turn(&mut self) {
        self.now = clock::now();
        self.wall = clock::wall();
        self.front.set_time(self.now, self.wall.as_secs());
        let mut completions = core::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            self.completed(completion);
        }
        self.completions = completions;
        self.front.expire(&mut self.io);
        if self
            .engine
            .next_deadline()
            .is_some_and(|due| due <= self.now)
        {
            self.expire();
        }
        while let Some(event) = self.front.next_event() {
            self.front_event(event);
        }
        self.front.flush(&mut self.io);
    }

    fn completed(&mut self, Completion { token, what }: Completion) {
        let (owner, key) = Owner::of::<()>(token);
        match owner {
            Owner::Listener | Owner::Client => self.front.completed(token, what, &mut self.io),
            Owner::Signals => {
                self.signalled();
                self.io.watch(self.signals, Interest::Readable);
            }
            Owner::Helper => {
                self.helped();
                let watched = match self.fetchers_done {
                    Some(fetchers) if key.index() == FETCHERS as usize => fetchers,
                    _ => self.helpers_done,
                };
                self.io.watch(watched, Interest::Readable);
            }
            Owner::Instance => self.line_completed(key.alike(), what),
            Owner::InstanceExit => self.exit_seen(key.alike()),
            Owner::Zygote => self.zygote_speaks(key.alike()),
            Owner::ZygoteExit => self.zygote_exit_seen(key.alike()),
            Owner::Output => {
                let clocks = (self.now, self.wall);
                self.outputs.completed(key, what, clocks, &mut self.io);
            }
            Owner::Depot => self.depot_helped(),
            Owner::Errand => self.errand_exit_seen(key),
            Owner::Kernel => self.pressed(),
            Owner::Standby => unreachable!("nothing of theirs is watched"),
        }
    }

    /// Helpers have finished something.
    fn helped(&mut self) {
        let mut done = core::mem::take(&mut self.done);
        self.helpers.collect(&mut done);
        if let Some(fetchers) = &mut self.fetchers {
            fetchers.collect(&mut done);
        }
        self.idlers.collect(&mut Vec::new());
        for done in done.drain(..) {
            match done {
                Done::Checked(checked) => {
                    let function = checked.function;
                    let resolved = self.functions.checked(checked, self.now);
                    self.resolved(function, resolved);
                }
                Done::Registry(done) => self.registry_done(done),
                Done::Log(reader, read) => self.log_read(reader, read),
                Done::Logged(logged) => self.logged(logged),
                Done::Memory(sandbox, bytes, walked) => self.measured(sandbox, bytes, walked),
                Done::Piece(piece) => self.piece_read(piece),
                Done::Trace(written) => self.trace_written(written),
                Done::Recorded(written) => self.recorded(written),
            }
        }
        self.done = done;
    }

    /// Tells the engine what happened and does what it says. What is told while doing that waits
    /// its turn: the engine meets one event at a time.
    pub(super) fn tell(&mut self, event: Event) {
        self.told.push_back(event);
        self.hear_engine();
    }

    pub(super) fn hear_engine(&mut self) {
        if self.is_telling {
            return;
        }
        self.is_telling = true;
        while let Some(event) = self.told.pop_front() {
            self.flight.event(&self.engine, &event, self.now);
            self.effects.extend(self.engine.handle(event, self.now));
            self.perform();
        }
        self.is_telling = false;
    }

    /// Time passed for the engine.
    fn expire(&mut self) {
        self.flight.expiry(&self.engine, self.now);
        self.effects.extend(self.engine.expire(self.now));
        self.is_telling = true;
        self.perform();
        self.is_telling = false;
        self.hear_engine();
    }

    /// Does what the engine said, in its order.
    fn perform(&mut self) {
        let mut effects = core::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.do_effect(effect);
        }
        self.effects = effects;
    }
}
