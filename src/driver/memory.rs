//! What sandboxes hold: measured while they run and once after, told to the engine. And the
//! kernel's word that the machine is short of memory.
//!
//! Where the kernel counts (a memory controller), its number is read; where it does not, helpers
//! add up the proportional sets of the processes, and this is also how a limit is watched over
//! that nobody enforces: a sandbox found above it is killed for it. Nothing is measured of a
//! sandbox that has done nothing since it was measured last, so an idle worker never wakes for
//! this.
//!
//! ```text
//!   a call is given, a zygote is ready or forks ──▶ its turn comes ──▶ MemorySampled
//!   frozen, asked to give back ───────────────────────────────────────▶ MemorySampled
//!   pressure trigger ─────────────────────────────────────────────────▶ PressureRose
//! ```

use super::settings;
use super::token::Owner;
use super::worker::{Done, Worker};
use crate::base::{Bytes, Key, Time};
use crate::engine::{Event, InstanceKey, Sandbox, ZygoteKey};
use crate::host::cgroup::{Account, Group};
use crate::host::death::Cause;
use crate::host::memory::{self, Walked};
use crate::host::pressure;
use crate::io::{Handle, Interest, Io};
use std::path::Path;
use std::time::Duration;

/// How often running sandboxes are measured.
const EVERY: Duration = Duration::from_millis(200);
/// Zygotes seldom: they change little, and while one is measured it cannot fork.
const ZYGOTES_EVERY: Duration = Duration::from_secs(2);
/// What page tables said is believed this long though no page came or went: siblings that come and
/// go share in them too.
const WALK_EVERY: Duration = Duration::from_secs(10);
/// Sandboxes measured in one round; the others come in the next. As much work may wait for helpers
/// before they are given more of this kind: calls wait for theirs.
const AT_ONCE: usize = 32;
/// However much waits: what nobody else limits is found above its limit.
const AT_LEAST: usize = 4;
/// What a frozen sandbox is asked to give back.
const RECLAIM_BYTES: u64 = 64 << 20;
/// Of the pool, what goes each time that the kernel says that memory is short.
const PRESSURE_PERCENT: u32 = 5;

/// Who is to be measured, and when.
#[derive(Debug, Default)]
pub(super) struct Meter {
    instances: Round<InstanceKey>,
    zygotes: Round<ZygoteKey>,
    pressure: Option<Handle>,
}

#[derive(Debug)]
struct Round<T> {
    wanted: Vec<T>,
    due: Time,
}

impl<T> Default for Round<T> {
    fn default() -> Self {
        Self {
            wanted: Vec::new(),
            due: Time::ZERO,
        }
    }
}

impl<T> Round<T> {
    fn want(&mut self, key: T, now: Time, every: Duration) {
        if self.wanted.is_empty() {
            self.due = now + every;
        }
        self.wanted.push(key);
    }

    /// Those whose turn it is, so many at most.
    fn turn(&mut self, now: Time, every: Duration, most: usize) -> Vec<T> {
        if self.wanted.is_empty() || self.due > now {
            return Vec::new();
        }
        self.due = now + every;
        let count = self.wanted.len().min(most);
        self.wanted.drain(..count).collect()
    }

    fn deadline(&self) -> Option<Time> {
        (!self.wanted.is_empty()).then_some(self.due)
    }
}

impl Meter {
    /// It runs: it is measured from now on, until it has been idle at a measurement.
    pub(super) fn want(&mut self, key: InstanceKey, now: Time) {
        self.instances.want(key, now, EVERY);
    }

    /// Listens to what the kernel says of memory, where it says anything.
    pub(super) fn watch_pressure(&mut self, group: &Path, io: &mut Io) {
        let trigger = match pressure::trigger(group) {
            Ok(trigger) => trigger,
            Err(error) => return log::debug!("no pressure is told of: {error}"),
        };
        let token = Owner::Kernel.token(Key::<()>::new(0, 0));
        if let Ok(handle) = io.add(trigger, token) {
            io.watch(handle, Interest::Priority);
            self.pressure = Some(handle);
        }
    }
}

impl Worker {
    /// Measures those whose turn it is. Returns when to come again.
    pub(super) fn measure(&mut self) -> Option<Time> {
        let most = self.most_at_once();
        for key in self.meter.instances.turn(self.now, EVERY, most) {
            if self.measure_instance(key) {
                self.meter.instances.wanted.push(key);
            }
        }
        let most = self.most_at_once();
        for key in self.meter.zygotes.turn(self.now, ZYGOTES_EVERY, most) {
            self.measure_zygote(key);
        }
        let deadlines = [
            self.meter.instances.deadline(),
            self.meter.zygotes.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn most_at_once(&self) -> usize {
        usize::max(AT_ONCE.saturating_sub(self.helpers.under_way()), AT_LEAST)
    }

    /// True: it still runs and is to be measured again.
    fn measure_instance(&mut self, key: InstanceKey) -> bool {
        let Some(line) = self.lines.get_mut(key) else {
            return false;
        };
        let runs = line.call.is_some();
        line.is_measured = runs;
        self.measure_sandbox(Sandbox::Instance(key));
        runs
    }

    /// It has changed: it is measured when its turn comes.
    pub(super) fn measure_zygote_soon(&mut self, key: ZygoteKey) {
        if let Some(nest) = self.nests.get_mut(key)
            && !core::mem::replace(&mut nest.is_measured, true)
        {
            self.meter.zygotes.want(key, self.now, ZYGOTES_EVERY);
        }
    }

    fn measure_zygote(&mut self, key: ZygoteKey) {
        if let Some(nest) = self.nests.get_mut(key) {
            nest.is_measured = false;
            self.measure_sandbox(Sandbox::Zygote(key));
        }
    }

    fn measure_sandbox(&mut self, sandbox: Sandbox) {
        let asked = match sandbox {
            Sandbox::Instance(key) => self.lines.get_mut(key).map(|line| {
                let group: &Group = line.instance.group();
                ask(core::iter::once(group))
            }),
            Sandbox::Zygote(key) => self.nests.get(key).map(|nest| {
                let groups = nest.zygote.standby_groups();
                ask(core::iter::once(nest.zygote.group()).chain(groups))
            }),
        };
        match asked {
            Some(Ok((bytes, pids))) if pids.is_empty() => self.measured(sandbox, bytes, None),
            Some(Ok((bytes, pids))) => {
                let before = self.walked_lately(sandbox);
                let job = move || {
                    let walked = memory::of_processes(&pids, before);
                    Done::Memory(sandbox, bytes + walked.held, Some(walked))
                };
                // Too much to do: this measurement is left out.
                let _ = self.helpers.submit(job);
            }
            Some(Err(error)) => log::debug!("a sandbox cannot be measured: {error}"),
            None => {}
        }
    }

    fn walked_lately(&self, sandbox: Sandbox) -> Option<Walked> {
        let Sandbox::Instance(key) = sandbox else {
            return None;
        };
        let (walked, at) = self.lines.get(key)?.walked?;
        (self.now < at + WALK_EVERY).then_some(walked)
    }

    /// A helper has the kernel take back what a frozen sandbox does not need, and measures.
    pub(super) fn reclaim(&mut self, sandbox: Sandbox) {
        let account = self.group_of(sandbox).map(|group| group.account());
        let account = match account {
            Some(Ok(Some(account))) => account,
            Some(Err(error)) => return log::debug!("nothing was reclaimed: {error}"),
            Some(Ok(None)) | None => return,
        };
        let job = move || Done::Memory(sandbox, reclaimed(&account), None);
        // Too much to do: it keeps what it has, and goes when its turn comes.
        let _ = self.helpers.submit(job);
    }

    pub(super) fn measured(&mut self, sandbox: Sandbox, bytes: u64, walked: Option<Walked>) {
        // A group that is gone, or whose processes are, holds nothing that could be told.
        if bytes == 0 {
            return;
        }
        if let Sandbox::Instance(key) = sandbox
            && !self.instance_measured(key, bytes, walked)
        {
            return;
        }
        self.tell(Event::MemorySampled {
            sandbox,
            memory: Bytes::new(bytes),
        });
    }

    /// False: it is gone.
    fn instance_measured(&mut self, key: InstanceKey, bytes: u64, walked: Option<Walked>) -> bool {
        let now = self.now;
        let Some(line) = self.lines.get_mut(key) else {
            return false;
        };
        line.memory_bytes = bytes;
        // As before: since when that is known does not change.
        if line.walked.map(|(before, _)| before) != walked {
            line.walked = walked.map(|walked| (walked, now));
        }
        let code = self
            .functions
            .get(line.function)
            .and_then(|known| known.code.as_ref());
        let Some(code) = code else { return false };
        let limit = settings::confinement(&self.config, &code.settings).mem_bytes;
        if bytes > limit {
            log::warn!(
                event = "over-memory", instance = key.to_string().as_str();
                "a sandbox holds {} MB, its limit is {} MB: killed", bytes >> 20, limit >> 20
            );
            if let Some(record) = line.call.and_then(|call| self.calls.get_mut(call)) {
                record.exit = Some(Cause::OutOfMemory);
            }
        }
        true
    }

    /// The kernel says that tasks wait for memory.
    pub(super) fn pressed(&mut self) {
        let wanted = self.engine.pool().memory_limit.percent(PRESSURE_PERCENT);
        log::info!(
            event = "memory-pressure";
            "the machine is short of memory: idle sandboxes of {:.0} MB go", wanted.as_mb()
        );
        self.tell(Event::PressureRose { wanted });
        if let Some(handle) = self.meter.pressure {
            self.io.watch(handle, Interest::Priority);
        }
    }
}

/// What groups hold: as the kernel counts it, and the processes to be asked where it does not.
fn ask<'a>(groups: impl Iterator<Item = &'a Group>) -> std::io::Result<(u64, Vec<i32>)> {
    let mut bytes = 0;
    let mut pids = Vec::new();
    for group in groups {
        match group.memory_bytes()? {
            Some(counted) => bytes += counted,
            None => pids.extend(group.pids()?),
        }
    }
    Ok((bytes, pids))
}

/// What is held after the kernel took back what it could. Blocks.
fn reclaimed(account: &Account) -> u64 {
    if let Err(error) = account.reclaim(RECLAIM_BYTES) {
        log::debug!("nothing was reclaimed: {error}");
    }
    account.memory_bytes().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_some_at_a_time_and_an_empty_one_never_wakes() {
        let mut round = Round::default();
        assert_eq!(round.deadline(), None);
        let at = Time::from_millis;
        for key in 0..=AT_ONCE {
            round.want(key, at(0), EVERY);
        }
        assert!(round.turn(at(199), EVERY, AT_ONCE).is_empty());
        assert_eq!(round.turn(at(200), EVERY, AT_ONCE).len(), AT_ONCE);
        assert_eq!(round.deadline(), Some(at(400)));
        assert!(
            round.turn(at(400), EVERY, 0).is_empty(),
            "it is left for the next"
        );
        assert_eq!(round.turn(at(600), EVERY, AT_ONCE), [AT_ONCE]);
        assert_eq!(round.deadline(), None);
    }
}
