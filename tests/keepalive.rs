//! The classic keep-alive model against the published simulator's answers and against a literal
//! transcription of its description, call for call.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

#[path = "keepalive/reference.rs"]
mod reference;
#[path = "keepalive/table.rs"]
mod table;

use olworker::sim::keepalive::classic::{Classic, Edition, Policy};
use olworker::sim::trace::{self, Arrival, Function};
use reference::Reference;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How many random traces are tried; `OLWORKER_KEEPALIVE_TRACES` widens it.
const TRACES: u64 = 1_500;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn policy(name: &str) -> Policy {
    Policy::ALL
        .into_iter()
        .find(|policy| policy.name() == name)
        .unwrap()
}

fn t1() -> (Vec<Function>, Vec<Arrival>) {
    let mut reader = trace::open(&data("keepalive-t1.json")).unwrap();
    let arrivals = reader.read_to_end().unwrap();
    (reader.header().functions.clone(), arrivals)
}

fn expected() -> Value {
    let text = std::fs::read_to_string(data("keepalive-t1.expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn by_function(functions: &[Function], cell: &Value, key: &str, count: impl Fn(usize) -> u64) {
    for (index, function) in functions.iter().enumerate() {
        let wanted = cell[key]
            .get(&function.name)
            .and_then(Value::as_u64)
            .unwrap_or(0);
        assert_eq!(count(index), wanted, "{key} of {}", function.name);
    }
}

#[test]
fn every_cell_and_letter_of_the_published_answers() {
    let (functions, arrivals) = t1();
    let mut cells = 0;
    for (key, cell) in expected().as_object().unwrap() {
        let (name, memory) = key.split_once('/').unwrap();
        if name == "RAND" {
            continue;
        }
        let memory = memory.parse().unwrap();
        let mut model = Classic::new(&functions, policy(name), Edition::Classic, memory, 0);
        let outcomes: String = arrivals
            .iter()
            .map(|&arrival| model.call(arrival).letter())
            .collect();
        assert_eq!(outcomes, cell["outcomes"].as_str().unwrap(), "{key}");
        let counts = model.counts();
        let total = counts.total();
        for (field, count) in [
            ("invocations", arrivals.len() as u64),
            ("hits", total.hits),
            ("cold_misses", total.misses),
            ("capacity_misses", total.drops),
            ("evictions", total.evictions),
            ("final_mem_used", model.used_mb() as u64),
            ("final_pool", model.pool_len() as u64),
            ("final_running", model.running_len() as u64),
            ("peak_mem", counts.peak_mem_mb as u64),
            ("peak_pool", counts.peak_pool as u64),
        ] {
            assert_eq!(Some(count), cell[field].as_u64(), "{key} {field}");
        }
        assert_eq!(Some(model.clock()), cell["clock"].as_f64(), "{key} clock");
        by_function(&functions, cell, "evictions_by_fn", |f| {
            counts.functions[f].evictions
        });
        by_function(&functions, cell, "dropped_by_fn", |f| {
            counts.functions[f].drops
        });
        cells += 1;
    }
    assert_eq!(cells, 24);
}

/// The published means over seeds 0 to 29, met exactly: the same dice fell the same way.
#[test]
fn the_random_policy_over_thirty_seeds() {
    let (functions, arrivals) = t1();
    let expected = expected();
    for memory in [2_000, 5_000, 20_000] {
        let cell = &expected[format!("RAND/{memory}")];
        let mut sums = [0_u64; 4];
        for seed in 0..30 {
            let mut model = Classic::new(
                &functions,
                Policy::Rand,
                Edition::Classic,
                f64::from(memory),
                seed,
            );
            for &arrival in &arrivals {
                model.call(arrival);
            }
            let total = model.counts().total();
            for (sum, count) in
                sums.iter_mut()
                    .zip([total.hits, total.misses, total.drops, total.evictions])
            {
                *sum += count;
            }
        }
        for (sum, field) in sums
            .iter()
            .zip(["hits", "cold_misses", "capacity_misses", "evictions"])
        {
            let mean = cell[field]["mean"].as_f64().unwrap();
            assert_eq!(*sum, (mean * 30.0).round() as u64, "{memory} {field}");
        }
    }
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Traces made to hurt: equal costs and sizes, calls at the same millisecond, calls that end just
/// when others begin, rhythms of minutes, silences of hours, functions that never fit.
fn random_trace(draw: &mut Draw) -> (Vec<Function>, Vec<Arrival>, f64) {
    let few = draw.below(2) == 0;
    let whole = draw.below(2) == 0;
    let sizes = [1.0, 10.0, 10.0, 50.0, 100.0, 128.5, 0.1, 700.0];
    let times = [0.0, 1.0, 5.0, 100.0, 400.0, 3_000.0, 70_000.0];
    let count = 1 + draw.below(if few { 4 } else { 24 });
    let functions: Vec<Function> = (0..count)
        .map(|index| {
            let mut mem_mb = draw.pick(&sizes);
            let warm_ms = draw.pick(&times);
            let mut cold_ms = warm_ms + draw.pick(&[0.0, 5.0, 100.0, 2_000.0]);
            if !whole {
                mem_mb += draw.below(100) as f64 / 7.0;
                cold_ms += draw.below(100) as f64 / 3.0;
            }
            if draw.below(12) == 0 {
                cold_ms = warm_ms / 2.0;
            }
            Function::plain(format!("f{index}"), mem_mb, cold_ms, warm_ms)
        })
        .collect();
    let steps: &[u64] = match draw.below(4) {
        0 => &[0, 0, 1, 5, 50],
        1 => &[0, 100, 1_000, 60_000],
        2 => &[0, 1, 60_000, 120_000, 600_000, 600_001, 1_200_000],
        _ => &[3_000, 60_000, 300_000, 7_200_000, 7_200_001, 14_400_000],
    };
    let total: f64 = functions.iter().map(|function| function.mem_mb).sum();
    let memory = total * draw.pick(&[0.2, 0.5, 0.8, 1.0, 1.5, 4.0, 50.0]);
    let memory = if whole { memory.ceil() } else { memory };
    let mut now = 0.0;
    let arrivals = (0..60 + draw.below(240))
        .map(|_| {
            let step = draw.pick(steps) as f64;
            now += if whole { step } else { step * 0.7 };
            let skew = 1 + draw.below(count);
            Arrival {
                t_ms: now,
                function: draw.below(skew) as u32,
            }
        })
        .collect();
    (functions, arrivals, memory)
}

#[test]
fn the_fast_model_is_the_literal_one_on_random_traces() {
    let traces = std::env::var("OLWORKER_KEEPALIVE_TRACES")
        .map_or(TRACES, |count| count.parse().expect("a number of traces"));
    for seed in 1..=traces {
        let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (functions, arrivals, memory) = random_trace(&mut draw);
        for policy in Policy::ALL {
            let (edition, miss_ms): (_, fn(&Function) -> f64) = if seed % 5 == 0 {
                (Edition::Course, |function| 3_000.0 + 1.2 * function.cold_ms)
            } else {
                (Edition::Classic, |function| function.cold_ms)
            };
            let mut literal = Reference::new(&functions, policy, miss_ms, memory, seed as u32);
            let mut fast = Classic::new(&functions, policy, edition, memory, seed as u32);
            let mut outcomes = String::new();
            for &arrival in &arrivals {
                literal.call(arrival);
                outcomes.push(fast.call(arrival).letter());
                let what = format!("{} of trace {seed}, {memory} MB", policy.name());
                assert_eq!(outcomes, literal.outcomes, "{what}");
                assert_eq!(fast.used_mb().to_bits(), literal.used.to_bits(), "{what}");
                assert_eq!(fast.clock().to_bits(), literal.clock.to_bits(), "{what}");
            }
            let counts = fast.counts();
            let evictions: Vec<u64> = counts.functions.iter().map(|f| f.evictions).collect();
            assert_eq!(evictions, literal.evictions);
            assert_eq!(counts.peak_mem_mb.to_bits(), literal.peak.to_bits());
            assert_eq!(counts.exec_ms.to_bits(), literal.exec_ms.to_bits());
        }
    }
}
