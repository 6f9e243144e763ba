//! What a simulated worker did: for people, and as JSON for programs.

use crate::base::histogram::Histogram;
use crate::base::{Bytes, Duration, Time};
use crate::engine::{CallKey, Counts, End, Engine, InstanceKey, Note, Refusal, Sandbox, Start};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Everything that was counted.
#[derive(Debug, Clone)]
pub struct Report {
    begin: Time,
    end: Time,
    pub functions: Vec<FunctionReport>,
    /// From the arrival until user code had the call.
    pub wait: Histogram,
    pub wait_cold: Histogram,
    /// By name of the refusal.
    pub refused: BTreeMap<&'static str, u64>,
    pub abandoned: u64,
    /// Why sandboxes ended, those that ended by themselves not among them.
    pub ends: BTreeMap<&'static str, u64>,
    pub replicated: u64,
    pub nodes_added: u64,
    pub reclaimed: u64,
    pub memory_peak: Bytes,
    /// Bytes times nanoseconds.
    memory_time: u128,
    memory_last: (Time, Bytes),
    counts: Counts,
    /// Who has which call, by the call's place.
    holders: Vec<Option<InstanceKey>>,
}

/// One function's part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionReport {
    pub arrived: u64,
    pub warm: u64,
    pub zygote: u64,
    pub fresh: u64,
    pub refused: u64,
    pub evictions: u64,
    pub wait_sum: Duration,
    pub wait_max: Duration,
}

impl FunctionReport {
    pub const fn answered(&self) -> u64 {
        self.warm + self.zygote + self.fresh
    }
}

impl Report {
    pub fn new(functions: usize, begin: Time) -> Self {
        Self {
            begin,
            end: begin,
            functions: vec![FunctionReport::default(); functions],
            wait: Histogram::default(),
            wait_cold: Histogram::default(),
            refused: BTreeMap::new(),
            abandoned: 0,
            ends: BTreeMap::new(),
            replicated: 0,
            nodes_added: 0,
            reclaimed: 0,
            memory_peak: Bytes::ZERO,
            memory_time: 0,
            memory_last: (begin, Bytes::ZERO),
            counts: Counts::default(),
            holders: Vec::new(),
        }
    }

    pub(super) fn arrived(&mut self, function: u32) {
        self.functions[function as usize].arrived += 1;
    }

    pub(super) fn given(&mut self, call: CallKey, to: InstanceKey) {
        if self.holders.len() <= call.index() {
            self.holders.resize(call.index() + 1, None);
        }
        self.holders[call.index()] = Some(to);
    }

    pub(super) fn holder(&self, call: CallKey) -> Option<InstanceKey> {
        self.holders.get(call.index()).copied().flatten()
    }

    pub(super) fn answered(&mut self, function: u32, start: Start, waited: Duration) {
        let known = &mut self.functions[function as usize];
        match start {
            Start::Warm => known.warm += 1,
            Start::Zygote => known.zygote += 1,
            Start::Fresh => known.fresh += 1,
        }
        known.wait_sum += waited;
        known.wait_max = Duration::max(known.wait_max, waited);
        self.wait.record_duration(waited);
        if start != Start::Warm {
            self.wait_cold.record_duration(waited);
        }
    }

    pub(super) fn refused(&mut self, function: u32, reason: Refusal) {
        self.functions[function as usize].refused += 1;
        *self.refused.entry(name_of(reason)).or_default() += 1;
    }

    pub(super) fn abandoned(&mut self) {
        self.abandoned += 1;
    }

    pub(super) fn reclaimed(&mut self, _: Sandbox) {
        self.reclaimed += 1;
    }

    pub(super) fn noted(&mut self, note: &Note) {
        match note {
            Note::Evicted {
                function: Some(function),
                ..
            } => self.functions[function.index()].evictions += 1,
            Note::InstanceEnded { why, .. } | Note::ZygoteEnded { why, .. } => {
                if let Some(name) = name_of_end(*why) {
                    *self.ends.entry(name).or_default() += 1;
                }
            }
            Note::Replicated { .. } => self.replicated += 1,
            Note::NodeAdded { .. } => self.nodes_added += 1,
            _ => {}
        }
    }

    /// Sandboxes that ended for this reason.
    pub fn ended(&self, why: End) -> u64 {
        let known = name_of_end(why).and_then(|name| self.ends.get(name));
        known.copied().unwrap_or(0)
    }

    /// So much is held from now on.
    pub(super) fn held(&mut self, now: Time, memory: Bytes) {
        let (since, before) = self.memory_last;
        self.memory_time += u128::from(before.get()) * now.since(since).as_nanos();
        self.memory_last = (now, memory);
        self.memory_peak = Bytes::max(self.memory_peak, memory);
    }

    pub(super) fn close(&mut self, engine: &Engine, now: Time) {
        self.held(now, self.memory_last.1);
        self.end = now;
        self.counts = engine.counts();
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn total<F: Fn(&FunctionReport) -> u64>(&self, of: F) -> u64 {
        self.functions.iter().map(of).sum()
    }

    pub fn memory_mean(&self) -> Bytes {
        let span = self.end.since(self.begin).as_nanos();
        let mean = self.memory_time.checked_div(span).unwrap_or(0);
        Bytes::new(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The whole as one object.
    pub fn to_json(&self, trace: &str, policy: &str, seed: u64) -> Value {
        let counts = self.counts;
        let refused: Map<String, Value> = self
            .refused
            .iter()
            .map(|(name, count)| ((*name).to_string(), json!(count)))
            .collect();
        json!({
            "trace": trace,
            "policy": policy,
            "seed": seed,
            "seconds": self.end.since(self.begin).as_secs_f64(),
            "calls": counts.arrived,
            "answered": counts.answered,
            "starts": {
                "warm": self.total(|f| f.warm),
                "zygote": self.total(|f| f.zygote),
                "fresh": self.total(|f| f.fresh),
            },
            "wait_ms": quantiles(&self.wait),
            "wait_cold_ms": quantiles(&self.wait_cold),
            "refused": refused,
            "hung_up": self.abandoned,
            "retried": counts.retried,
            "timed_out": counts.timed_out,
            "evictions": counts.evicted,
            "yielded": self.ended(End::Yielded),
            "expired": self.ended(End::Expired) + self.ended(End::Surplus),
            "frozen": counts.frozen,
            "forks": counts.forks,
            "forks_failed": counts.forks_failed,
            "zygotes_started": counts.zygotes_started,
            "zygotes_failed": counts.zygotes_failed,
            "mem_mb": { "mean": tenths(self.memory_mean().as_mb()),
                "peak": tenths(self.memory_peak.as_mb()) },
            "events": counts.events,
        })
    }

    /// One function as one object.
    pub fn function_to_json(&self, index: usize, name: &str) -> Value {
        let known = &self.functions[index];
        let answered = u32::try_from(known.answered()).unwrap_or(u32::MAX);
        let mean = known.wait_sum.checked_div(answered).unwrap_or_default();
        json!({
            "function": name,
            "calls": known.arrived,
            "starts": { "warm": known.warm, "zygote": known.zygote, "fresh": known.fresh },
            "refused": known.refused,
            "evictions": known.evictions,
            "wait_ms": { "mean": thousandths(mean), "max": thousandths(known.wait_max) },
        })
    }
}

fn quantiles(histogram: &Histogram) -> Value {
    let of = |numerator, denominator| {
        let nanos = histogram.quantile(numerator, denominator);
        thousandths(Duration::from_nanos(nanos))
    };
    json!({
        "mean": thousandths(Duration::from_nanos(histogram.mean())),
        "p50": of(1, 2),
        "p90": of(9, 10),
        "p99": of(99, 100),
        "max": thousandths(Duration::from_nanos(histogram.max())),
    })
}

/// Milliseconds, to the microsecond.
fn thousandths(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

const fn name_of_end(why: End) -> Option<&'static str> {
    Some(match why {
        End::ByItself(_) => return None,
        End::Evicted => "evicted",
        End::TimedOut => "timed-out",
        End::StartTimedOut => "start-timed-out",
        End::LostZygote => "lost-zygote",
        End::HungUp => "hung-up",
        End::Unfit => "unfit",
        End::Yielded => "yielded",
        End::OverMemory => "over-memory",
        End::Outdated => "outdated",
        End::Surplus => "surplus",
        End::Expired => "expired",
        End::Rotated => "rotated",
        End::Uprooted => "uprooted",
        End::Drained => "drained",
    })
}

/// As the worker answers it.
pub const fn name_of(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NoSuchFunction => "no-such-function",
        Refusal::TooManyCalls => "too-many-calls",
        Refusal::Overloaded => "overloaded",
        Refusal::Draining => "draining",
        Refusal::InstallFailed => "install-failed",
        Refusal::StartTimedOut => "import-failed",
        Refusal::SandboxDied | Refusal::ForkFailed => "sandbox-died",
        Refusal::CallTimedOut => "call-timed-out",
    }
}
