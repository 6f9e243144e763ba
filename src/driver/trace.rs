//! Calls as they end, on their way to the recorded trace.
//!
//! ```text
//!   a call ends ──▶ filling ──half full, or a second old──▶ helper: TraceFiles::append
//!                      ▲                                        │
//!                      └──────────── spare (empty) ◀────────────┘
//! ```
//!
//! Two buffers, made once: what a call costs here is a copy of some hundred bytes. Where both are
//! full (the disk does not keep up) calls are counted as lost, and the trace says so.

use super::calls::Call;
use super::front::Client;
use super::instances::Line;
use super::streams::Source;
use super::worker::{Done, Worker};
use crate::base::{Duration, Time};
use crate::config::Config;
use crate::engine::{FunctionKey, InstanceKey, Start};
use crate::host::stretch::{Stretch, Stretches};
use crate::host::trace::{self, Bounds, Entry, Function, TraceFiles};
use crate::http::{Code, Problem};
use crate::sys::clock;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Entries of one buffer.
const ENTRIES_MAX: usize = 8192;
/// A buffer is written when it holds so many, or when its first entry is so old.
const ENTRIES_ENOUGH: usize = ENTRIES_MAX / 2;
const WRITE_AFTER: Duration = Duration::from_secs(1);
/// When the helpers had no time for it, it is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// Clients that may wait at once for what is being written.
const WAITING_MAX: usize = 16;

/// What a helper wrote.
#[derive(Debug)]
pub(super) struct Written {
    buffer: Vec<Entry>,
    result: io::Result<u32>,
    stretches: Vec<Stretch>,
}

/// The buffers between the loop and the trace.
#[derive(Debug)]
pub(super) struct Recorder {
    files: Option<Arc<Mutex<TraceFiles>>>,
    bounds: Bounds,
    filling: Vec<Entry>,
    /// None: a helper has it.
    spare: Option<Vec<Entry>>,
    lost: u64,
    due: Time,
    /// Clients that want the trace with everything up to now in it.
    waiting: Vec<Client>,
    failures: u64,
}

fn bounds(config: &Config) -> Bounds {
    Bounds {
        keep_days: config.trace.keep_days,
        max_bytes: config.trace.max_bytes,
    }
}

fn lock(files: &Mutex<TraceFiles>) -> MutexGuard<'_, TraceFiles> {
    // Whoever panicked left at worst half a line, which the next start cuts off.
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(config: &Config) -> io::Result<Option<Arc<Mutex<TraceFiles>>>> {
    if !config.trace.record {
        return Ok(None);
    }
    let files = TraceFiles::open(&config.home.traces(), bounds(config))?;
    Ok(Some(Arc::new(Mutex::new(files))))
}

impl Recorder {
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let files = open(config)?;
        let room = if files.is_some() { ENTRIES_MAX } else { 0 };
        Ok(Self {
            files,
            bounds: bounds(config),
            filling: Vec::with_capacity(room),
            spare: Some(Vec::with_capacity(room)),
            lost: 0,
            due: Time::ZERO,
            waiting: Vec::new(),
            failures: 0,
        })
    }

    /// `[trace]` was changed.
    pub(super) fn configure(&mut self, config: &Config) -> io::Result<()> {
        self.bounds = bounds(config);
        if !config.trace.record {
            self.files = None;
        } else if self.files.is_none() {
            self.files = open(config)?;
            self.filling.reserve_exact(ENTRIES_MAX);
        }
        Ok(())
    }

    pub(super) fn push(&mut self, entry: Entry, now: Time) {
        if self.files.is_none() {
            return;
        }
        if self.filling.is_empty() {
            self.due = now + WRITE_AFTER;
        }
        if self.filling.len() == ENTRIES_MAX {
            self.lost += 1;
            return;
        }
        self.filling.push(entry);
    }

    fn is_due(&self, now: Time) -> bool {
        let has_some = !self.filling.is_empty() || self.lost > 0;
        let is_time = self.filling.len() >= ENTRIES_ENOUGH || now >= self.due;
        self.spare.is_some() && (has_some && is_time || !self.waiting.is_empty())
    }

    fn next_due(&self) -> Option<Time> {
        (self.spare.is_some() && !self.filling.is_empty()).then_some(self.due)
    }

    /// Writes what is left; the loop has ended.
    pub(super) fn close(&mut self) {
        if let Some(files) = &self.files {
            let written = lock(files).append(&self.filling, self.lost, clock::wall());
            if let Err(error) = written {
                log::warn!("the last calls are not in the trace: {error}");
            }
        }
    }
}

/// A span as the trace keeps it.
fn micros(span: Duration) -> u32 {
    span.as_micros().min(u32::MAX.into()) as u32
}

/// Of what a call took since it was given to its instance: the start, and user code. The page that
/// says when user code got it is the instance's to write: nothing it says leads out of the span.
fn parts(given: Time, asked: Time, now: Time, start: Start, line: Option<&Line>) -> (u32, u32) {
    if start == Start::Warm {
        return (0, micros(now.since(given)));
    }
    let seen = line.map(|line| line.instance.seen());
    let met = seen.filter(|seen| line.is_some_and(|line| seen.met(line.calls)));
    let since = met.map_or(now, |seen| Time::from_nanos(seen.since_ns));
    let since = since.max(asked).min(now);
    (micros(since.since(asked)), micros(now.since(since)))
}

impl Worker {
    /// What the trace keeps of a call that an instance had.
    pub(super) fn sample(&self, call: &Call, key: InstanceKey) -> Entry {
        let line = self.lines.get(key);
        let known = line.and_then(|line| self.functions.get(line.function));
        let known = known.or_else(|| self.functions.named(&call.function));
        let code = known.and_then(|function| function.code.as_ref());
        let asked = line.map_or(call.given, |line| line.asked);
        let (cold_us, ran_us) = parts(call.given, asked, self.now, call.start, line);
        Entry::Call(trace::Call {
            at: self.wall.saturating_sub(self.now.since(call.arrived)),
            function: call.function,
            version: code.map_or(0, |code| code.version),
            start: call.start.name(),
            status: call.status,
            queued_us: micros(call.given.since(call.arrived)),
            cold_us,
            ran_us,
            mem_bytes: line.map_or(0, |line| line.memory_bytes),
        })
    }

    /// What a function asks for is known, or known better.
    pub(super) fn record_function(&mut self, key: FunctionKey) {
        let Some(function) = self.functions.get(key) else {
            return;
        };
        let Some(code) = &function.code else { return };
        let entry = Entry::Function(Box::new(Function {
            name: function.name,
            packages: self.depot.packages_of(&code.requirements),
            imports: code.imports.to_vec(),
        }));
        self.trace.push(entry, self.now);
    }

    /// A package of the store, once it was profiled; again after each start.
    pub(super) fn record_package(&mut self, package: trace::Package) {
        self.trace.push(Entry::Package(Box::new(package)), self.now);
    }

    /// Hands what is to be written to a helper. Returns when to come again.
    pub(super) fn write_trace(&mut self) -> Option<Time> {
        let trace = &mut self.trace;
        let files = trace.files.as_ref()?;
        if !trace.is_due(self.now) {
            return trace.next_due();
        }
        if self.helpers.is_full() {
            return Some(self.now + RETRY_AFTER);
        }
        let spare = trace.spare.take().expect("is_due looked");
        let mut buffer = core::mem::replace(&mut trace.filling, spare);
        let lost = core::mem::take(&mut trace.lost);
        let (files, wall, bounds) = (Arc::clone(files), self.wall, trace.bounds);
        let job = move || {
            let mut files = lock(&files);
            files.set_bounds(bounds);
            let result = files.append(&buffer, lost, wall);
            buffer.clear();
            Done::Trace(Written {
                buffer,
                result,
                stretches: files.stretches(),
            })
        };
        let submitted = self.helpers.submit(job);
        assert!(submitted.is_ok(), "the helpers had room a moment ago");
        trace.next_due()
    }

    pub(super) fn trace_written(&mut self, written: Written) {
        let trace = &mut self.trace;
        trace.spare = Some(written.buffer);
        match written.result {
            Ok(0) => {}
            Ok(folded) => log::warn!(
                event = "trace-folded";
                "{folded} parts of the trace were folded to counts: it exceeds [trace] max_mb"
            ),
            Err(error) => {
                trace.failures += 1;
                if trace.failures.is_power_of_two() {
                    log::error!("calls cannot be recorded: {error}");
                }
            }
        }
        for client in core::mem::take(&mut trace.waiting) {
            let source = Source::Trace(Stretches::new(written.stretches.clone()));
            self.begin_stream(client, source);
        }
    }

    /// Streams the whole trace, once what is in memory has joined it.
    pub(super) fn show_trace(&mut self, client: Client) {
        if self.trace.files.is_none() {
            let detail = "this worker records no trace ([trace] record = true makes it)";
            return self.refuse(client, &Problem::new(Code::NotFound, detail));
        }
        if self.trace.waiting.len() == WAITING_MAX {
            let detail = "as many readers of the trace as there may be";
            return self.refuse(client, &Problem::new(Code::Overloaded, detail));
        }
        self.trace.waiting.push(client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::FunctionName;

    fn entry() -> Entry {
        Entry::Call(trace::Call {
            at: Duration::from_secs(1),
            function: FunctionName::new("f").unwrap(),
            version: 1,
            start: "warm",
            status: 200,
            queued_us: 0,
            cold_us: 0,
            ran_us: 0,
            mem_bytes: 0,
        })
    }

    #[test]
    fn a_full_buffer_grows_no_more_and_counts_what_is_lost() {
        let mut config = Config::defaults(
            crate::config::Home::installed(),
            crate::config::Machine::UNKNOWN,
        );
        let root = std::env::temp_dir().join(format!("ol-recorder-{}", std::process::id()));
        config.home.state.clone_from(&root);
        let mut recorder = Recorder::new(&config).unwrap();
        let place = recorder.filling.as_ptr();
        for _ in 0..ENTRIES_MAX + 3 {
            recorder.push(entry(), Time::ZERO);
        }
        assert_eq!(recorder.lost, 3);
        assert_eq!(recorder.filling.as_ptr(), place);
        assert!(recorder.is_due(Time::ZERO));
        recorder.close();
        let all = std::fs::read_dir(config.home.traces()).unwrap().count();
        assert_eq!(all, 1);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_warm_call_has_no_start_and_a_liar_gains_none() {
        let at = Time::from_millis;
        assert_eq!(parts(at(5), at(1), at(9), Start::Warm, None), (0, 4_000));
        // User code never said that it got the call.
        assert_eq!(parts(at(5), at(2), at(9), Start::Zygote, None), (7_000, 0));
    }
}
