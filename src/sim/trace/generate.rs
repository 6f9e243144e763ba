//! Made-up traces: functions with plausible costs, called by processes one can name.
//!
//! Owns the processes. Each function has one of its own and the next call of each waits in a heap,
//! so a trace of any length takes the memory of its functions. The seed determines everything.
//!
//! | kind | a function is called |
//! |---|---|
//! | poisson | at random, each at its own rate (log-normal over functions) |
//! | periodic | by a timer of its own, a little late |
//! | bursty | in bursts, the calls of which overlap |
//! | zipf | at random, the k-th at a rate proportional to 1/k |
//! | mixed | by one of the first three; what a machine full of strangers sees |
//!
//! Costs are drawn log-normally about what public figures of function platforms show: 170 MB,
//! 300 ms a call, 900 ms more for the first.

use super::{Arrival, FUNCTIONS_MAX, Function, Header};
use crate::base::Random;
use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// How the calls of a made-up trace come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Poisson,
    Periodic,
    Bursty,
    Zipf,
    Mixed,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Poisson,
        Self::Periodic,
        Self::Bursty,
        Self::Zipf,
        Self::Mixed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Periodic => "periodic",
            Self::Bursty => "bursty",
            Self::Zipf => "zipf",
            Self::Mixed => "mixed",
        }
    }
}

/// What to make up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    pub kind: Kind,
    pub functions: usize,
    /// Calls a second, all functions together.
    pub rate: f64,
    pub length_ms: f64,
    pub seed: u64,
}

impl Plan {
    /// Why this cannot be made up.
    pub fn refusal(&self) -> Option<String> {
        if self.functions == 0 || self.functions > FUNCTIONS_MAX {
            return Some(format!(
                "{} functions (1 to {FUNCTIONS_MAX})",
                self.functions
            ));
        }
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Some(format!("{} calls a second (must be above zero)", self.rate));
        }
        if !(self.length_ms.is_finite() && self.length_ms > 0.0) {
            return Some(format!(
                "a length of {} ms (must be above zero)",
                self.length_ms
            ));
        }
        None
    }
}

const BURST_CALLS_MEAN: f64 = 20.0;
/// Calls of a burst come this much faster than they are served.
const BURST_OVERLAP: f64 = 4.0;
/// A timer fires at most this share of its period late.
const TIMER_LATE: f64 = 0.02;
/// How unlike the rates of functions are: the deviation of their logarithm.
const RATE_DEVIATION: f64 = 1.5;
const SHORTEST_GAP_MS: f64 = 1e-3;

#[derive(Debug, Clone)]
enum Process {
    Poisson { gap_ms: f64 },
    Periodic { period_ms: f64, due_ms: f64 },
    Bursty { pause_ms: f64, gap_ms: f64 },
}

/// The calls of a plan, in order of time.
#[derive(Debug, Clone)]
pub struct Arrivals {
    processes: Vec<Process>,
    /// Bits of the time of the next call, function.
    next: BinaryHeap<Reverse<(u64, u32)>>,
    length_ms: f64,
    random: Random,
}

/// The functions of a plan and their calls.
pub fn generate(plan: &Plan) -> (Header, Arrivals) {
    let mut random = Random::new(plan.seed);
    let functions: Vec<Function> = (0..plan.functions)
        .map(|index| function(index, &mut random))
        .collect();
    let rates = rates(plan, &mut random);
    let mut processes = Vec::new();
    let mut next = BinaryHeap::new();
    for (index, (function, gap_ms)) in functions.iter().zip(rates).enumerate() {
        let mut process = process(plan.kind, function, gap_ms, &mut random);
        let first = process.next(0.0, &mut random);
        processes.push(process);
        next.push(Reverse((first.to_bits(), index as u32)));
    }
    let header = Header {
        functions,
        ..Header::default()
    };
    (
        header,
        Arrivals {
            processes,
            next,
            length_ms: plan.length_ms,
            random,
        },
    )
}

fn function(index: usize, random: &mut Random) -> Function {
    let mem_mb = random.log_normal(170.0, 0.6).clamp(16.0, 1_536.0).round();
    let warm_ms = random.log_normal(300.0, 1.2).clamp(1.0, 60_000.0).round();
    let start_ms = random.log_normal(900.0, 0.8).clamp(20.0, 20_000.0).round();
    Function::plain(format!("f{index:04}"), mem_mb, warm_ms + start_ms, warm_ms)
}

/// The mean gap between the calls of each function.
fn rates(plan: &Plan, random: &mut Random) -> Vec<f64> {
    let weights: Vec<f64> = (0..plan.functions)
        .map(|index| match plan.kind {
            Kind::Zipf => 1.0 / (index + 1) as f64,
            _ => random.log_normal(1.0, RATE_DEVIATION),
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    let gap_ms = |weight: &f64| 1_000.0 * sum / (weight * plan.rate);
    weights.iter().map(gap_ms).collect()
}

fn process(kind: Kind, function: &Function, gap_ms: f64, random: &mut Random) -> Process {
    let kind = match (kind, random.below(3)) {
        (Kind::Zipf, _) | (Kind::Mixed, 0) => Kind::Poisson,
        (Kind::Mixed, 1) => Kind::Periodic,
        (Kind::Mixed, _) => Kind::Bursty,
        (kind, _) => kind,
    };
    match kind {
        Kind::Periodic => Process::Periodic {
            period_ms: gap_ms,
            due_ms: -gap_ms * random.unit(),
        },
        Kind::Bursty => Process::Bursty {
            pause_ms: gap_ms * BURST_CALLS_MEAN,
            gap_ms: f64::max(function.warm_ms / BURST_OVERLAP, 1.0),
        },
        _ => Process::Poisson { gap_ms },
    }
}

impl Process {
    fn next(&mut self, now_ms: f64, random: &mut Random) -> f64 {
        let at = match self {
            Self::Poisson { gap_ms } => now_ms + random.exponential(*gap_ms),
            Self::Periodic { period_ms, due_ms } => {
                *due_ms += *period_ms;
                *due_ms + *period_ms * TIMER_LATE * random.unit()
            }
            Self::Bursty { pause_ms, gap_ms } => {
                let mean = if random.chance(1.0 / BURST_CALLS_MEAN) {
                    *pause_ms
                } else {
                    *gap_ms
                };
                now_ms + random.exponential(mean)
            }
        };
        f64::max(at, now_ms + SHORTEST_GAP_MS)
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    /// Whole milliseconds, as recorded traces mostly have.
    fn next(&mut self) -> Option<Arrival> {
        let Reverse((bits, function)) = self.next.pop()?;
        let at_ms = f64::from_bits(bits);
        if at_ms >= self.length_ms {
            return None;
        }
        let next_ms = self.processes[function as usize].next(at_ms, &mut self.random);
        self.next.push(Reverse((next_ms.to_bits(), function)));
        Some(Arrival {
            t_ms: at_ms.floor(),
            function,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kind: Kind, seed: u64) -> Plan {
        Plan {
            kind,
            functions: 30,
            rate: 5.0,
            length_ms: 3_600_000.0,
            seed,
        }
    }

    #[test]
    fn a_seed_determines_the_trace_and_the_rate_is_met() {
        for kind in Kind::ALL {
            let (header, arrivals) = generate(&plan(kind, 7));
            let arrivals: Vec<Arrival> = arrivals.collect();
            let (same_header, same) = generate(&plan(kind, 7));
            assert_eq!(header, same_header);
            assert!(arrivals.iter().copied().eq(same));
            assert!(!arrivals.iter().copied().eq(generate(&plan(kind, 8)).1));
            assert!(arrivals.is_sorted_by(|a, b| a.t_ms <= b.t_ms));
            let count = arrivals.len();
            assert!(
                (9_000..27_000).contains(&count),
                "{kind:?}: {count} calls, 18000 wanted"
            );
        }
    }

    #[test]
    fn costs_are_usable() {
        let (header, _) = generate(&plan(Kind::Mixed, 1));
        for function in &header.functions {
            assert!(function.mem_mb >= 16.0 && function.cold_ms > function.warm_ms);
        }
    }
}
