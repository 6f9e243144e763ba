//! Errands that run are watched: what takes too long, holds too much memory or writes too much is
//! killed, and whoever waits for it is told which limit that was.
//!
//! The kernel bounds a directory nowhere, so what was written there is counted from time to time:
//! by one look at all that run, the next a while after it. Those that share a cache share what came
//! into it.

use super::Told as DepotTold;
use super::errands::{Job, Stage};
use crate::base::{Key, Time};
use crate::driver::worker::Worker;
use crate::host::memory;
use crate::host::packages::{Written, written};
use std::time::Duration;

/// How often their memory is measured where the kernel does not count it.
const MEASURED_EVERY: Duration = Duration::from_millis(250);
/// From the end of one look at what they have written to the next, and from the first start. Most
/// installs are over by then, and need not be slowed by a look at each of their files.
const LOOKED_EVERY: Duration = Duration::from_secs(2);

/// When what is measured next.
#[derive(Debug, Default)]
pub(super) struct Due {
    memory: Time,
    disk: Time,
    is_looking: bool,
}

/// What a helper has measured.
#[derive(Debug)]
pub(in crate::driver) enum Told {
    Memory(Key<Job>, u64),
    Disk(Vec<Writers>),
}

/// Errands that write to the same places.
#[derive(Debug, Default)]
pub(in crate::driver) struct Writers {
    jobs: Vec<Key<Job>>,
    places: Vec<Written>,
    bytes_max: u64,
    bytes: u64,
}

impl Due {
    /// The first of some begins.
    pub(super) fn begin(&mut self, now: Time) {
        self.disk = now + LOOKED_EVERY;
    }
}

impl Worker {
    /// Kills what takes too long or too much. Returns when to look again.
    pub(in crate::driver) fn watch_errands(&mut self) -> Option<Time> {
        if !self.depot.errands.is_running() {
            return None;
        }
        let deadline = self.end_late_errands();
        if self.depot.errands.due.memory <= self.now {
            self.depot.errands.due.memory = self.now + MEASURED_EVERY;
            self.measure_errands();
        }
        if self.depot.errands.due.disk <= self.now && !self.depot.errands.due.is_looking {
            self.look_at_what_was_written();
        }
        let due = &self.depot.errands.due;
        let looks = if due.is_looking { Time::MAX } else { due.disk };
        Some(deadline.min(due.memory).min(looks))
    }

    pub(super) fn watch_told(&mut self, told: Told) {
        match told {
            Told::Memory(key, bytes) => {
                let limit = self.config.packages.installer_mem_bytes;
                if bytes > limit {
                    self.depot.errands.kill(key, over_memory(limit));
                }
            }
            Told::Disk(all) => {
                self.depot.errands.due.is_looking = false;
                self.depot.errands.due.disk = self.now + LOOKED_EVERY;
                let limit = self.config.packages.installer_disk_bytes;
                for writers in all.iter().filter(|it| it.bytes > it.bytes_max) {
                    for key in &writers.jobs {
                        self.depot.errands.kill(*key, over_disk(limit));
                    }
                }
            }
        }
    }

    /// The next deadline.
    fn end_late_errands(&mut self) -> Time {
        let mut next = Time::MAX;
        let mut late = Vec::new();
        for (key, job) in self.depot.errands.running() {
            if job.deadline <= self.now {
                late.push(key);
            } else {
                next = next.min(job.deadline);
            }
        }
        let seconds = self.config.packages.installer_timeout.as_secs();
        for key in late {
            let why = format!("it took longer than {seconds} seconds ([packages] installer_sec)");
            self.depot.errands.kill(key, why);
        }
        next
    }

    fn measure_errands(&mut self) {
        let depot = &mut self.depot;
        for (key, job) in depot.errands.running() {
            let Stage::Running { running, .. } = &job.stage else {
                continue;
            };
            if let Ok(None) = running.group().memory_bytes()
                && let Ok(pids) = running.group().pids()
            {
                let measure = move || {
                    let held = pids
                        .iter()
                        .filter_map(|pid| memory::of_process(*pid).ok())
                        .sum();
                    DepotTold::Watch(Told::Memory(key, held))
                };
                // Too much to do: this measurement is left out.
                let _ = depot.helpers.submit(measure);
            }
        }
    }

    fn look_at_what_was_written(&mut self) {
        let limit = self.config.packages.installer_disk_bytes;
        let mut all: Vec<Writers> = Vec::new();
        let mut shared = Writers::default();
        let mut cache: Option<Written> = None;
        for (key, job) in self.depot.errands.running() {
            let Stage::Running { installing, .. } = &job.stage else {
                continue;
            };
            let own = Written {
                place: installing.directory.clone(),
                since_secs: 0,
            };
            let Some(place) = &installing.shared_cache else {
                all.push(Writers {
                    jobs: vec![key],
                    places: vec![own],
                    bytes_max: limit,
                    bytes: 0,
                });
                continue;
            };
            shared.jobs.push(key);
            shared.places.push(own);
            shared.bytes_max = shared.bytes_max.saturating_add(limit);
            let since_secs = cache.map_or(job.begun_secs, |it| it.since_secs.min(job.begun_secs));
            cache = Some(Written {
                place: place.clone(),
                since_secs,
            });
        }
        if let Some(cache) = cache {
            shared.places.push(cache);
            all.push(shared);
        }
        let look = move || {
            for writers in &mut all {
                writers.bytes = written(&writers.places, writers.bytes_max);
            }
            DepotTold::Watch(Told::Disk(all))
        };
        let is_looking = self.depot.help(look).is_ok();
        self.depot.errands.due.is_looking = is_looking;
        self.depot.errands.due.disk = self.now + LOOKED_EVERY;
    }
}

fn over_memory(limit: u64) -> String {
    format!(
        "it held more than {} MB ([packages] installer_mem_mb)",
        limit >> 20
    )
}

fn over_disk(limit: u64) -> String {
    format!(
        "it wrote more than {} MB ([packages] installer_disk_mb)",
        limit >> 20
    )
}
