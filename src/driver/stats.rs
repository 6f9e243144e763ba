//! What the worker measures of itself, as `/stats` (JSON) and `/metrics` (Prometheus text) tell it.
//!
//! Memory is fixed and recording allocates nothing: a [`Histogram`] for each thing timed, a number
//! for each thing counted. What is true at the moment of asking (connections, memory, calls in
//! flight) is not kept here but given when it is rendered, as [`Gauge`]s.

use super::front::Counters;
use crate::base::{Duration, Histogram};
use crate::http::json;
use crate::http::refusal::TABLE;
use std::io::Write;

/// A thing that takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timed {
    /// From a call's arrival to the end of its answer.
    Call,
    /// From a call's arrival until an instance took it.
    Queue,
    /// From an instance taking a call to the end of its answer.
    Relay,
    /// From asking for an instance to the first answer it gave.
    Cold,
    /// From asking a zygote for a fork to its answer.
    Fork,
    /// From starting a zygote until it can fork.
    Zygote,
    Install,
    /// From choosing a victim until its memory is free.
    Evict,
    /// One turn of the worker's loop, without the sleep.
    Turn,
}

impl Timed {
    pub const ALL: [Self; 9] = [
        Self::Call,
        Self::Queue,
        Self::Relay,
        Self::Cold,
        Self::Fork,
        Self::Zygote,
        Self::Install,
        Self::Evict,
        Self::Turn,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Queue => "queue",
            Self::Relay => "relay",
            Self::Cold => "cold",
            Self::Fork => "fork",
            Self::Zygote => "zygote",
            Self::Install => "install",
            Self::Evict => "evict",
            Self::Turn => "turn",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Call => "From a call's arrival to the end of its answer.",
            Self::Queue => "From a call's arrival until an instance took it.",
            Self::Relay => "From an instance taking a call to the end of its answer.",
            Self::Cold => "From asking for an instance to its first answer.",
            Self::Fork => "From asking a zygote for a fork to its answer.",
            Self::Zygote => "From starting a zygote until it can fork.",
            Self::Install => "Installing the packages of a function.",
            Self::Evict => "From choosing a victim until its memory is free.",
            Self::Turn => "One turn of the worker's loop, without the sleep.",
        }
    }
}

/// A thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    WarmStarts,
    ZygoteStarts,
    FreshStarts,
    /// Of the starts from zygotes, those by a process that stood by.
    Standbys,
    /// Functions whose calls waited for a zygote that was being made.
    ZygoteWaits,
    /// Calls tried a second time because their instance died before user code saw them.
    Retries,
    Evictions,
    ZygoteFailures,
    Installs,
    OutOfMemory,
}

impl Counted {
    pub const ALL: [Self; 10] = [
        Self::WarmStarts,
        Self::ZygoteStarts,
        Self::FreshStarts,
        Self::Standbys,
        Self::ZygoteWaits,
        Self::Retries,
        Self::Evictions,
        Self::ZygoteFailures,
        Self::Installs,
        Self::OutOfMemory,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::WarmStarts => "warm_starts",
            Self::ZygoteStarts => "zygote_starts",
            Self::FreshStarts => "fresh_starts",
            Self::Standbys => "standby_starts",
            Self::ZygoteWaits => "zygote_waits",
            Self::Retries => "retries",
            Self::Evictions => "evictions",
            Self::ZygoteFailures => "zygote_failures",
            Self::Installs => "installs",
            Self::OutOfMemory => "out_of_memory",
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::WarmStarts => "Calls answered by an instance that was there.",
            Self::Standbys => "Instances that a process forked ahead became.",
            Self::ZygoteWaits => "Times that calls waited for a zygote that was being made.",
            Self::ZygoteStarts => "Calls answered by an instance forked from a zygote.",
            Self::FreshStarts => "Calls answered by an instance started from nothing.",
            Self::Retries => "Calls tried again, their instance having died before user code ran.",
            Self::Evictions => "Sandboxes killed to make room.",
            Self::ZygoteFailures => "Zygotes that died or could not be started.",
            Self::Installs => "Package installations.",
            Self::OutOfMemory => "Sandboxes killed for using more memory than they may.",
        }
    }
}

/// Something that is true now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gauge<'a> {
    /// Lower case, words joined by `_`, the unit last.
    pub name: &'a str,
    pub help: &'a str,
    pub value: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Stats {
    timed: [Histogram; Timed::ALL.len()],
    counted: [u64; Counted::ALL.len()],
}

impl Stats {
    pub fn record(&mut self, what: Timed, span: Duration) {
        self.timed[what as usize].record_duration(span);
    }

    pub fn count(&mut self, what: Counted) {
        self.counted[what as usize] += 1;
    }

    pub fn timed(&self, what: Timed) -> &Histogram {
        &self.timed[what as usize]
    }

    pub fn counted(&self, what: Counted) -> u64 {
        self.counted[what as usize]
    }

    /// The JSON object of `/stats`: for each thing timed `NAME.cnt`, `NAME.ms-avg`, `NAME.p50`,
    /// `.p90`, `.p99`, `.max` (milliseconds), then what is counted, then what is true now.
    pub fn render_json(&self, out: &mut Vec<u8>, front: &Counters, gauges: &[Gauge<'_>]) {
        let mut object = Object::begin(out);
        for what in Timed::ALL {
            let histogram = self.timed(what);
            object.number(what.name(), "cnt", histogram.count());
            object.milliseconds(what.name(), "ms-avg", histogram.mean());
            for (name, percent) in [("p50", 50), ("p90", 90), ("p99", 99)] {
                object.milliseconds(what.name(), name, histogram.quantile(percent, 100));
            }
            object.milliseconds(what.name(), "max", histogram.max());
        }
        for what in Counted::ALL {
            object.number(what.name(), "cnt", self.counted(what));
        }
        for (name, _, value) in of_clients(front) {
            object.number(name, "cnt", value);
        }
        for (row, count) in TABLE.iter().zip(front.refused) {
            object.number("refused", row.name, count);
        }
        for gauge in gauges {
            object.number(gauge.name, "now", gauge.value);
        }
        object.end();
    }

    /// The text of `/metrics`: Prometheus exposition format 0.0.4.
    pub fn render_metrics(&self, out: &mut Vec<u8>, front: &Counters, gauges: &[Gauge<'_>]) {
        for what in Timed::ALL {
            histogram(out, what, self.timed(what));
        }
        for what in Counted::ALL {
            counter(out, what.name(), what.help(), self.counted(what));
        }
        for (name, help, value) in of_clients(front) {
            counter(out, name, help, value);
        }
        family(
            out,
            "refused_total",
            "counter",
            "Requests refused by the worker, by reason.",
        );
        for (row, count) in TABLE.iter().zip(front.refused) {
            put(
                out,
                format_args!("{PREFIX}refused_total{{code=\"{}\"}} {count}\n", row.name),
            );
        }
        for gauge in gauges {
            family(out, gauge.name, "gauge", gauge.help);
            put(
                out,
                format_args!("{PREFIX}{} {}\n", gauge.name, gauge.value),
            );
        }
    }
}

/// The media type of what `render_metrics` makes.
pub const METRICS_TYPE: &[u8] = b"text/plain; version=0.0.4; charset=utf-8";

const PREFIX: &str = "olworker_";

/// The front's counters, but for the refusals.
fn of_clients(front: &Counters) -> [(&'static str, &'static str, u64); 9] {
    [
        ("connections", "Connections accepted.", front.accepted),
        ("connections_closed", "Connections closed.", front.closed),
        (
            "turned_away",
            "Connections closed at once: too many.",
            front.turned_away,
        ),
        (
            "accept_failures",
            "Times accepting failed.",
            front.accept_failures,
        ),
        ("requests", "Requests with a good head.", front.requests),
        (
            "client_timeouts",
            "Clients too slow to send or read.",
            front.timeouts,
        ),
        (
            "hang_ups",
            "Clients that left before their answer.",
            front.hang_ups,
        ),
        (
            "received_bytes",
            "Bytes received from clients.",
            front.bytes_received,
        ),
        ("sent_bytes", "Bytes sent to clients.", front.bytes_sent),
    ]
}

/// A JSON object of numbers, one member a line.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            is_first: true,
        }
    }

    fn key(&mut self, group: &str, name: &str) {
        let comma = if self.is_first { "" } else { "," };
        self.is_first = false;
        put(self.out, format_args!("{comma}\n  \"{group}.{name}\": "));
    }

    fn number(&mut self, group: &str, name: &str, value: u64) {
        self.key(group, name);
        json::number(self.out, value);
    }

    fn milliseconds(&mut self, group: &str, name: &str, nanos: u64) {
        self.key(group, name);
        decimal(self.out, nanos, 1_000_000, 6);
    }

    fn end(self) {
        self.out.extend_from_slice(b"\n}\n");
    }
}

fn family(out: &mut Vec<u8>, name: &str, kind: &str, help: &str) {
    put(
        out,
        format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"),
    );
}

fn counter(out: &mut Vec<u8>, name: &str, help: &str, value: u64) {
    let total = format_args!("{name}_total").to_string();
    family(out, &total, "counter", help);
    put(out, format_args!("{PREFIX}{total} {value}\n"));
}

/// Cumulative buckets at powers of two, where the histogram is exact: 16 us to 34 s.
fn histogram(out: &mut Vec<u8>, what: Timed, histogram: &Histogram) {
    const POWERS: core::ops::RangeInclusive<u32> = 14..=35;
    const NANOS_PER_SECOND: u64 = 1_000_000_000;
    let name = what.name();
    family(
        out,
        &format_args!("{name}_seconds").to_string(),
        "histogram",
        what.help(),
    );
    for power in POWERS {
        put(out, format_args!("{PREFIX}{name}_seconds_bucket{{le=\""));
        decimal(out, 1 << power, NANOS_PER_SECOND, 9);
        put(out, format_args!("\"}} {}\n", histogram.below_power(power)));
    }
    let count = histogram.count();
    put(
        out,
        format_args!("{PREFIX}{name}_seconds_bucket{{le=\"+Inf\"}} {count}\n"),
    );
    put(out, format_args!("{PREFIX}{name}_seconds_sum "));
    decimal(out, histogram.sum(), NANOS_PER_SECOND, 9);
    put(
        out,
        format_args!("\n{PREFIX}{name}_seconds_count {count}\n"),
    );
}

/// `value / unit` with `places` decimals, exactly, trailing zeros left out.
fn decimal(out: &mut Vec<u8>, value: u64, unit: u64, places: usize) {
    json::number(out, value / unit);
    let rest = value % unit;
    if rest > 0 {
        put(out, format_args!(".{rest:0places$}"));
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

fn put(out: &mut Vec<u8>, text: core::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Code;
    use std::collections::BTreeMap;

    fn sample() -> (Stats, Counters) {
        let mut stats = Stats::default();
        for millis in 1..=100 {
            stats.record(Timed::Call, Duration::from_millis(millis));
        }
        stats.count(Counted::Retries);
        let mut front = Counters {
            requests: 7,
            ..Counters::default()
        };
        front.refused[Code::NotFound as usize] = 3;
        (stats, front)
    }

    const GAUGES: [Gauge<'static>; 1] = [Gauge {
        name: "memory_bytes",
        help: "Charged to sandboxes.",
        value: 42,
    }];

    #[test]
    fn every_thing_has_its_place() {
        for (index, what) in Timed::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, index);
        }
        for (index, what) in Counted::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, index);
        }
    }

    #[test]
    fn the_json_has_the_promised_names() {
        let (stats, front) = sample();
        let mut out = Vec::new();
        stats.render_json(&mut out, &front, &GAUGES);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["call.cnt"], 100);
        assert_eq!(json["call.ms-avg"], 50.5);
        assert_eq!(json["call.max"], 100);
        for (name, low, high) in [("p50", 48., 52.), ("p90", 87., 93.), ("p99", 96., 100.)] {
            let value = json[format!("call.{name}")].as_f64().unwrap();
            assert!((low..=high).contains(&value), "{name} {value}");
        }
        assert_eq!(json["fork.cnt"], 0);
        assert_eq!(json["fork.p99"], 0);
        assert_eq!(json["retries.cnt"], 1);
        assert_eq!(json["requests.cnt"], 7);
        assert_eq!(json["refused.not-found"], 3);
        assert_eq!(json["memory_bytes.now"], 42);
    }

    /// Follows the exposition format: each sample belongs to a family declared before it, each
    /// family is declared once, buckets grow and end with all.
    #[test]
    fn the_metrics_are_well_formed() {
        let (stats, front) = sample();
        let mut out = Vec::new();
        stats.render_metrics(&mut out, &front, &GAUGES);
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with('\n'));
        let mut kinds = BTreeMap::new();
        let mut buckets: BTreeMap<String, Vec<(f64, u64)>> = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(
                    kinds.insert(name, kind).is_none(),
                    "{name} is declared twice"
                );
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let value: f64 = value.parse().unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| {
                        name.strip_suffix(end)
                            .filter(|name| kinds.contains_key(name))
                    })
                    .unwrap_or(name);
                assert!(kinds.contains_key(family), "{line}");
                if let Some(edge) = labels.strip_prefix("le=\"") {
                    let edge = edge.strip_suffix("\"}").unwrap().parse().unwrap();
                    buckets
                        .entry(family.to_owned())
                        .or_default()
                        .push((edge, value as u64));
                }
            }
        }
        assert_eq!(buckets.len(), Timed::ALL.len());
        for buckets in buckets.values() {
            assert!(buckets.is_sorted() && buckets.is_sorted_by_key(|(_, count)| *count));
            assert!(buckets.last().unwrap().0.is_infinite());
        }
        assert_eq!(buckets["olworker_call_seconds"].last().unwrap().1, 100);
        for line in [
            "olworker_call_seconds_sum 5.05",
            "olworker_call_seconds_bucket{le=\"0.000016384\"} 0",
            "olworker_refused_total{code=\"not-found\"} 3",
            "olworker_retries_total 1",
            "olworker_memory_bytes 42",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}");
        }
    }
}
