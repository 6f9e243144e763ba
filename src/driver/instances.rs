//! Instances as the driver has them: made, watched, killed, buried.
//!
//! ```text
//!   Fork ──▶ line ──Forked──▶ alive ──(relay: calls and answers)──▶ pidfd ──▶ reaped
//!                                                                              │
//!                    InstanceExited ◀── its connection was read to the end ◀───┘
//! ```
//!
//! An instance that has exited may have answered a moment before: its end is told only after
//! everything it said was heard. Whether user code met a call is read from the page it shares.

use super::outputs::{self, OutputKeys};
use super::stats::{Counted, Timed};
use super::token::Owner;
use super::worker::Worker;
use crate::base::{Table, Time};
use crate::engine::{CallKey, Event, Exit, ForkFault, FunctionKey, InstanceKey, Origin};
use crate::host::death::Cause;
use crate::host::instance::{Instance, Network, Order};
use crate::host::memory::Walked;
use crate::host::sandboxes::FamilyKey;
use crate::io::{Handle, Interest};
use crate::wire::AnswerDecoder;
use rustix::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Buffers kept for frames that go out.
const SPARE_BUFFERS_MAX: usize = 64;
/// A buffer that grew beyond this is not kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// How often a page is looked at while nobody knows whether user code has its first call.
pub(super) const SEEN_EVERY: Duration = Duration::from_millis(20);
/// Open files of an instance.
const OPEN_FILES: u64 = 1024;

/// One instance.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) family: FamilyKey,
    pub(super) instance: Instance,
    pub(super) function: FunctionKey,
    /// `numpy,pandas`, or `ROOT`; none for a fresh interpreter.
    pub(super) origin: Option<Rc<str>>,
    pub(super) asked: Time,
    pub(super) connection: Option<Handle>,
    exit: Option<Handle>,
    pub(super) outputs: OutputKeys,
    pub(super) decoder: AnswerDecoder,
    /// Frames that wait for the one before to leave.
    pub(super) out: Vec<u8>,
    pub(super) is_sending: bool,
    pub(super) is_receiving: bool,
    /// Not asked for more until the client has room.
    pub(super) is_paused: bool,
    pub(super) call: Option<CallKey>,
    /// The answer is out, user code goes on; what it is told when that ends.
    pub(super) is_busy: bool,
    /// Of the present call's body, some is still to be sent.
    pub(super) body_open: bool,
    /// Calls sent so far.
    pub(super) calls: u64,
    /// It has not answered its first call yet.
    pub(super) is_young: bool,
    /// It is among those whose memory is measured.
    pub(super) is_measured: bool,
    /// When it was chosen to make room.
    pub(super) evicted: Option<Time>,
    /// What it held then; 0 before the first measurement.
    pub(super) memory_bytes: u64,
    /// Since when that is known, where its page tables had to be walked for it.
    pub(super) walked: Option<(Walked, Time)>,
    /// The process is reaped; its connection may hold its last words.
    pub(super) ended: Option<Cause>,
}

impl Line {
    pub(super) fn pid(&self) -> Option<i32> {
        self.instance.pid()
    }
}

/// All of them, and what they share.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) table: Table<Line>,
    pub(super) spare: Vec<Vec<u8>>,
    /// How many are being born or in their first call.
    pub(super) young: usize,
    /// Those of whose first call it is not known whether user code has it.
    pub(super) unseen: Vec<InstanceKey>,
    pub(super) unseen_due: Time,
}

impl Lines {
    pub(super) fn new(instances_max: usize) -> Self {
        Self {
            table: Table::new(instances_max),
            spare: Vec::new(),
            young: 0,
            unseen: Vec::new(),
            unseen_due: Time::ZERO,
        }
    }

    pub(super) fn get_mut(&mut self, key: InstanceKey) -> Option<&mut Line> {
        self.table.get_mut(key.alike())
    }

    pub(super) fn get(&self, key: InstanceKey) -> Option<&Line> {
        self.table.get(key.alike())
    }

    /// User code has got its first call, or never will.
    pub(super) fn grown(&mut self, key: InstanceKey) {
        if let Some(line) = self.get_mut(key)
            && core::mem::take(&mut line.is_young)
        {
            self.young -= 1;
        }
    }

    pub(super) fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

pub(super) fn exit_of(cause: Cause) -> Exit {
    match cause {
        Cause::Exit(code) => Exit::Status(code as u8),
        Cause::Signal(number) => Exit::Signal(number as u8),
        Cause::OutOfMemory => Exit::OutOfMemory,
        Cause::Unborn => Exit::Status(crate::sys::zygote::BIRTH_FAILED as u8),
    }
}

// Birth.
impl Worker {
    /// Makes an instance; a call may be relayed to it at once.
    pub(super) fn fork(&mut self, key: InstanceKey, function: FunctionKey, origin: Origin) {
        if let Err(why) = self.try_fork(key, function, origin) {
            let instance = key.to_string();
            log::warn!(event = "fork-failed", instance = instance.as_str(); "no sandbox: {why}");
            self.told.push_back(Event::ForkFailed {
                instance: key,
                fault: ForkFault::Unprepared,
            });
        }
    }

    fn try_fork(
        &mut self,
        key: InstanceKey,
        function: FunctionKey,
        origin: Origin,
    ) -> Result<(), String> {
        let known = self.functions.get(function).ok_or("the function is gone")?;
        let code = known.code.as_ref().ok_or("the function has no code")?;
        let confinement = super::settings::confinement(&self.config, &code.settings);
        let (readers, [stdout, stderr]) = outputs::pipes().map_err(|error| error.to_string())?;
        let order = Order {
            id: Owner::Instance.token(key).0,
            code: &code.image.path,
            packages: if code.requirements.is_empty() {
                None
            } else {
                let view = self.depot.view_of(code.requirements.key());
                Some(view.ok_or("its packages are not installed")?)
            },
            environment: &code.environment,
            hostname: known.name.as_str(),
            limits: confinement.limits(),
            open_files: OPEN_FILES,
            scratch_bytes: confinement.scratch_bytes,
            network: match confinement.network {
                crate::config::words::Network::Host => Network::Host,
                crate::config::words::Network::Nothing => Network::Alone {
                    tenant: function.pack(),
                },
            },
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        };
        let name = known.name;
        let (family, instance, origin) = match origin {
            Origin::Fresh => {
                let (family, instance) = self
                    .sandboxes
                    .start_fresh(&order)
                    .map_err(|error| error.to_string())?;
                self.told.push_back(Event::Forked { instance: key });
                (family, instance, None)
            }
            Origin::Zygote { zygote, node } => {
                let nest = self.nests.get_mut(zygote).ok_or("its zygote is gone")?;
                let family = nest.family;
                let instance = self
                    .sandboxes
                    .fork(family, &mut nest.zygote, &order)
                    .map_err(|error| error.to_string())?;
                if instance.pid().is_some() {
                    // It stood by.
                    self.told.push_back(Event::Forked { instance: key });
                    self.stats.count(Counted::Standbys);
                }
                self.measure_zygote_soon(zygote);
                self.stand_by_soon(zygote);
                (family, instance, Some(self.nests.label(node)))
            }
        };
        let outputs = self.outputs.begin(key, name, readers, &mut self.io);
        self.draw_line(key, function, (family, instance), origin, outputs);
        Ok(())
    }

    /// The line to a new instance.
    fn draw_line(
        &mut self,
        key: InstanceKey,
        function: FunctionKey,
        (family, mut instance): (FamilyKey, Instance),
        origin: Option<Rc<str>>,
        outputs: OutputKeys,
    ) {
        let connection = instance.take_connection();
        let line = Line {
            family,
            function,
            origin,
            asked: self.now,
            connection: self.io.add(connection, Owner::Instance.token(key)).ok(),
            exit: None,
            outputs,
            decoder: AnswerDecoder::new(),
            out: Vec::new(),
            is_sending: false,
            is_receiving: false,
            is_paused: false,
            call: None,
            is_busy: false,
            body_open: false,
            calls: 0,
            is_young: true,
            is_measured: false,
            evicted: None,
            memory_bytes: 0,
            walked: None,
            ended: None,
            instance,
        };
        self.lines.young += 1;
        let inserted = self.lines.table.insert(key.alike(), line);
        assert!(
            inserted.is_ok(),
            "the engine names no more instances than it may"
        );
        self.watch_exit(key);
    }

    /// Meets the end of a process that lives.
    fn watch_exit(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        let Some(pidfd) = line.instance.pidfd() else {
            return;
        };
        let Ok(pidfd) = pidfd.try_clone_to_owned() else {
            return;
        };
        if let Ok(handle) = self.io.add(pidfd, Owner::InstanceExit.token(key)) {
            self.io.watch(handle, Interest::Readable);
            line.exit = Some(handle);
        }
    }

    /// Its zygote says that it lives.
    pub(super) fn instance_forked(&mut self, key: InstanceKey, pid: i32) -> bool {
        let Some(line) = self.lines.get_mut(key) else {
            return true;
        };
        if self.sandboxes.born(&mut line.instance, pid).is_err() {
            return false;
        }
        self.stats.record(Timed::Fork, self.now.since(line.asked));
        self.watch_exit(key);
        self.tell(Event::Forked { instance: key });
        true
    }

    /// There is no process and will be none.
    pub(super) fn instance_stillborn(&mut self, key: InstanceKey, fault: ForkFault) {
        if let Some(line) = self.lines.get_mut(key) {
            line.instance.stillborn();
            self.bury(key);
            self.tell(Event::ForkFailed {
                instance: key,
                fault,
            });
        }
    }

    /// Its zygote died before it answered.
    pub(super) fn instance_lost(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if self.sandboxes.search(line.family, &mut line.instance) {
            self.watch_exit(key);
            self.tell(Event::Forked { instance: key });
        } else {
            self.bury(key);
            self.tell(Event::ForkFailed {
                instance: key,
                fault: ForkFault::Lost,
            });
        }
    }

    /// Gives back what a dead one had.
    fn bury(&mut self, key: InstanceKey) {
        self.lines.grown(key);
        let Some(line) = self.lines.table.remove(key.alike()) else {
            return;
        };
        for handle in [line.connection, line.exit].into_iter().flatten() {
            self.io.close(handle);
        }
        self.lines.keep(line.out);
        if let Some(chosen) = line.evicted {
            self.stats.record(Timed::Evict, self.now.since(chosen));
        }
        self.sandboxes.bury(line.family, line.instance);
    }
}

// Death.
impl Worker {
    pub(super) fn kill(&mut self, key: InstanceKey) {
        if let Some(line) = self.lines.get_mut(key)
            && let Err(error) = line.instance.kill()
        {
            log::error!("an instance could not be killed: {error}");
        }
    }

    /// Its process may have ended.
    pub(super) fn exit_seen(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        match line.instance.ended() {
            Ok(Some(cause)) => {
                line.ended = Some(cause);
                self.finish(key);
            }
            Ok(None) => {
                if let Some(exit) = line.exit {
                    self.io.watch(exit, Interest::Readable);
                }
            }
            Err(error) => log::error!("an instance cannot be waited for: {error}"),
        }
    }

    /// Its connection is at its end.
    pub(super) fn line_closed(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        line.is_receiving = false;
        if let Some(connection) = line.connection.take() {
            self.io.close(connection);
        }
        if line.ended.is_some() {
            self.finish(key);
        } else if line.pid().is_some() {
            // Without its connection it is of no use, whatever it still does.
            self.closing
                .push((self.now + super::worker::CLOSING_GRACE, key));
        }
    }

    /// Those that closed their connection and did not end by themselves.
    pub(super) fn end_closed(&mut self) -> Option<Time> {
        while let Some(&(due, key)) = self.closing.first() {
            if due > self.now {
                return Some(due);
            }
            self.closing.remove(0);
            self.kill(key);
        }
        None
    }

    /// Tells of a death once everything that was said before it has been heard.
    fn finish(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        let Some(cause) = line.ended else { return };
        if line.call.is_some() && line.connection.is_some() {
            // The rest is in the socket; its end will be met.
            line.is_paused = false;
            return self.hear_more(key);
        }
        let exit = exit_of(cause);
        let seen = line.instance.seen().met(line.calls);
        if let Some(record) = line.call.and_then(|call| self.calls.get_mut(call)) {
            record.exit = Some(cause);
        }
        if cause == Cause::OutOfMemory {
            self.stats.count(Counted::OutOfMemory);
        }
        self.bury(key);
        self.tell(Event::InstanceExited {
            instance: key,
            seen,
            exit,
        });
    }

    /// Looks whether user code has its first call, where nobody knows. Returns when to look again.
    pub(super) fn look_for_seen(&mut self) -> Option<Time> {
        if self.lines.unseen.is_empty() {
            return None;
        }
        if self.lines.unseen_due > self.now {
            return Some(self.lines.unseen_due);
        }
        let mut seen = Vec::new();
        let table = &self.lines.table;
        self.lines
            .unseen
            .retain(|key| match table.get(key.alike()) {
                Some(line) if line.call.is_some() => {
                    let is_met = line.instance.seen().met(line.calls);
                    if is_met {
                        seen.push(*key);
                    }
                    !is_met
                }
                _ => false,
            });
        self.lines.unseen_due = self.now + SEEN_EVERY;
        for instance in seen {
            // Its start is over, however long its first call goes on.
            self.lines.grown(instance);
            self.tell(Event::Given { instance });
        }
        (!self.lines.unseen.is_empty()).then_some(self.lines.unseen_due)
    }
}
