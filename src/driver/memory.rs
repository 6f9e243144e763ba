//! What sandboxes hold: measured while they run and once after, told to the engine.
//!
//! Where the kernel counts (a memory controller), its number is read; where it does not, helpers
//! add up the proportional sets of the processes, and this is also how a limit is watched over
//! that nobody enforces: a sandbox found above it is killed for it. Nothing is measured of a
//! sandbox that has done nothing since it was measured last, so an idle worker never wakes for
//! this.

use super::settings;
use super::worker::{Done, Worker};
use crate::base::{Bytes, Time};
use crate::engine::{Event, InstanceKey, Sandbox};
use crate::host::death::Cause;
use crate::host::memory;
use std::time::Duration;

/// How often running sandboxes are measured.
const EVERY: Duration = Duration::from_millis(200);
/// Sandboxes measured in one round; the others come in the next.
const AT_ONCE: usize = 64;

/// Who is to be measured, and when.
#[derive(Debug, Default)]
pub(super) struct Meter {
    wanted: Vec<InstanceKey>,
    due: Time,
}

impl Meter {
    /// It runs: it is measured from now on, until it has been idle at a measurement.
    pub(super) fn want(&mut self, key: InstanceKey, now: Time) {
        if self.wanted.is_empty() {
            self.due = now + EVERY;
        }
        self.wanted.push(key);
    }
}

impl Worker {
    /// Measures those whose turn it is. Returns when to come again.
    pub(super) fn measure(&mut self) -> Option<Time> {
        if self.meter.wanted.is_empty() {
            return None;
        }
        if self.meter.due > self.now {
            return Some(self.meter.due);
        }
        let count = self.meter.wanted.len().min(AT_ONCE);
        let round: Vec<InstanceKey> = self.meter.wanted.drain(..count).collect();
        for key in round {
            if self.measure_one(key) {
                self.meter.wanted.push(key);
            }
        }
        self.meter.due = self.now + EVERY;
        (!self.meter.wanted.is_empty()).then_some(self.meter.due)
    }

    /// True: it still runs and is to be measured again.
    fn measure_one(&mut self, key: InstanceKey) -> bool {
        let Some(line) = self.lines.get_mut(key) else {
            return false;
        };
        let runs = line.call.is_some();
        line.is_measured = runs;
        let group = line.instance.group();
        match group.memory_bytes() {
            Ok(Some(bytes)) => self.measured(key, bytes),
            Ok(None) => {
                if let Ok(pids) = group.pids() {
                    let job = move || {
                        let held = pids.iter().filter_map(|pid| memory::of_process(*pid).ok());
                        Done::Memory(key, held.sum())
                    };
                    // Too much to do: this measurement is left out.
                    let _ = self.helpers.submit(job);
                }
            }
            Err(error) => log::debug!("a sandbox cannot be measured: {error}"),
        }
        runs
    }

    pub(super) fn measured(&mut self, key: InstanceKey, bytes: u64) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        line.memory_bytes = bytes;
        let code = self
            .functions
            .get(line.function)
            .and_then(|known| known.code.as_ref());
        let Some(code) = code else { return };
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
        self.tell(Event::MemorySampled {
            sandbox: Sandbox::Instance(key),
            memory: Bytes::new(bytes),
        });
    }
}
