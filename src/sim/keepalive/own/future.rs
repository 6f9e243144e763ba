//! What a clairvoyant would know: when each container of each function is wanted.
//!
//! Calls are played once on a server with memory for all, every run warm: a call that comes when
//! `n - 1` of its function run wants the n-th container. Those moments, by function and level, are
//! the future. One number a call is held, which is why only the oracle and the bound have it.
//!
//! The same play gives the gaps over which containers would have to be kept, hence the [`bound`]:
//! keeping a container over a gap takes memory times length out of what the whole trace has to
//! offer, and saves a start. Filling that offer with the gaps that save most for their memory-time
//! (as if memory could be moved in time), and dropping calls where their memory-time is worth more
//! than the price of a drop, saves at least as much as any policy that starts on demand can.
//!
//! [`bound`]: Future::bound

use crate::sim::keepalive::levels::Levels;
use crate::sim::keepalive::report::{Counts, DROP_RETRY_MS};
use crate::sim::trace::{Arrival, Function};

/// Levels beyond this are not told apart: their calls all start.
const LEVELS_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub struct Future {
    functions: Vec<Wanted>,
    /// Gaps that could be bridged, the most saving for its memory-time first.
    gaps: Vec<Gap>,
    run_ms: f64,
    starts_ms: f64,
    /// Memory-time that the calls themselves take.
    running_mb_ms: f64,
    length_ms: f64,
}

#[derive(Debug, Default, Clone)]
struct Wanted {
    calls: u64,
    /// By level: the moments.
    levels: Vec<Vec<f64>>,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    function: u32,
    mb_ms: f64,
    saved_ms: f64,
}

/// How far a reader of the future has come, by level.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    at: Vec<usize>,
}

impl Future {
    pub fn of(functions: &[Function], arrivals: &[Arrival]) -> Self {
        let mut future = Self {
            functions: vec![Wanted::default(); functions.len()],
            ..Self::default()
        };
        // By function and level: since when free.
        let mut released: Vec<Vec<f64>> = vec![Vec::new(); functions.len()];
        let mut levels = Levels::new(functions);
        for &arrival in arrivals {
            let Arrival { t_ms, function } = arrival;
            while let Some(free) = levels.released(t_ms) {
                released[free.function as usize][free.level as usize] = free.t_ms;
            }
            let (at, level) = (function as usize, levels.call(arrival) as usize);
            let Function {
                mem_mb,
                cold_ms,
                warm_ms,
                ..
            } = functions[at];
            let start_ms = f64::max(cold_ms - warm_ms, 0.0);
            future.run_ms += warm_ms;
            future.functions[at].calls += 1;
            future.starts_ms += start_ms;
            future.running_mb_ms += mem_mb * warm_ms;
            future.length_ms = f64::max(future.length_ms, t_ms + warm_ms);
            if let Some(since_ms) = released[at].get(level) {
                let mb_ms = mem_mb * (t_ms - since_ms);
                future.gaps.push(Gap {
                    function,
                    mb_ms,
                    saved_ms: start_ms,
                });
            } else {
                released[at].push(f64::INFINITY);
            }
            future.wanted(at, level, t_ms);
        }
        future
            .gaps
            .sort_by(|a, b| (b.saved_ms * a.mb_ms).total_cmp(&(a.saved_ms * b.mb_ms)));
        if let Some(first) = arrivals.first() {
            future.length_ms -= first.t_ms;
        }
        future
    }

    fn wanted(&mut self, function: usize, level: usize, t_ms: f64) {
        let levels = &mut self.functions[function].levels;
        if level >= LEVELS_MAX {
            return;
        }
        if levels.len() <= level {
            levels.push(Vec::new());
        }
        levels[level].push(t_ms);
    }

    /// When the n-th container (n from 1) is wanted after `now`; infinite if never. `now` must not
    /// go back for the same cursor.
    pub fn next(&self, function: u32, level: u32, now_ms: f64, cursor: &mut Cursor) -> f64 {
        let level = level as usize;
        let Some(moments) = self.functions[function as usize].levels.get(level - 1) else {
            return f64::INFINITY;
        };
        if cursor.at.len() < level {
            cursor.at.resize(level, 0);
        }
        let at = &mut cursor.at[level - 1];
        while moments.get(*at).is_some_and(|&moment| moment <= now_ms) {
            *at += 1;
        }
        moments.get(*at).copied().unwrap_or(f64::INFINITY)
    }

    /// When the function is called next.
    pub fn next_call(&self, function: u32, now_ms: f64, cursor: &mut Cursor) -> f64 {
        let levels = self.functions[function as usize].levels.len() as u32;
        let moments = (1..=levels).map(|level| self.next(function, level, now_ms, cursor));
        moments.fold(f64::INFINITY, f64::min)
    }

    /// What no policy that starts on demand can go below, in the form of counts. A gap that is
    /// bridged in part counts as a miss and saves its part; calls that are dropped count as misses,
    /// what they add is counted.
    pub fn bound(&self, functions: &[Function], memory_mb: f64) -> Counts {
        let mut counts = Counts::new(functions.len());
        for (wanted, counts) in self.functions.iter().zip(&mut counts.functions) {
            counts.misses = wanted.calls;
        }
        let mut offer = Offer::new(self, functions, memory_mb);
        let mut saved_ms = 0.0;
        for gap in &self.gaps {
            let share = offer.take(gap.mb_ms, gap.saved_ms);
            saved_ms += gap.saved_ms * share;
            if share < 1.0 {
                break;
            }
            let counts = &mut counts.functions[gap.function as usize];
            counts.hits += 1;
            counts.misses -= 1;
        }
        counts.exec_ms = self.run_ms + self.starts_ms - saved_ms;
        counts.added_ms = self.starts_ms - saved_ms + offer.paid_ms;
        counts
    }
}

/// Memory-time: what is free, and what can be had by dropping calls, those that take most of it for
/// a drop's price first.
struct Offer {
    free_mb_ms: f64,
    /// What dropping all calls of a function frees, and the price of a unit of it; the dearest
    /// first.
    drops: Vec<(f64, f64)>,
    paid_ms: f64,
}

impl Offer {
    fn new(future: &Future, functions: &[Function], memory_mb: f64) -> Self {
        let mut drops: Vec<(f64, f64)> = Vec::new();
        for (function, wanted) in functions.iter().zip(&future.functions) {
            let mb_ms = function.mem_mb * function.warm_ms;
            if mb_ms > 0.0 && wanted.calls > 0 {
                drops.push((mb_ms * wanted.calls as f64, DROP_RETRY_MS / mb_ms));
            }
        }
        drops.sort_by(|a, b| b.1.total_cmp(&a.1));
        let free_mb_ms = memory_mb * future.length_ms - future.running_mb_ms;
        let mut offer = Self {
            free_mb_ms: f64::max(free_mb_ms, 0.0),
            drops,
            paid_ms: 0.0,
        };
        // Not everybody can run: that much has to be dropped.
        offer.buy(-f64::min(free_mb_ms, 0.0), f64::INFINITY);
        offer
    }

    /// Takes memory-time that is worth so much; the share of it that was there to take.
    fn take(&mut self, mb_ms: f64, worth_ms: f64) -> f64 {
        if mb_ms <= 0.0 {
            return 1.0;
        }
        let free = f64::min(mb_ms, self.free_mb_ms);
        self.free_mb_ms -= free;
        let bought = self.buy(mb_ms - free, worth_ms / mb_ms);
        f64::min((free + bought) / mb_ms, 1.0)
    }

    /// Buys at prices below this one.
    fn buy(&mut self, mb_ms: f64, price_max: f64) -> f64 {
        let mut bought = 0.0;
        while bought < mb_ms {
            let Some((left, price)) = self.drops.last_mut().filter(|drop| drop.1 < price_max)
            else {
                break;
            };
            let part = f64::min(*left, mb_ms - bought);
            self.paid_ms += part * *price;
            bought += part;
            *left -= part;
            if *left <= 0.0 {
                self.drops.pop();
            }
        }
        bought
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(times: &[(f64, u32)]) -> Vec<Arrival> {
        times
            .iter()
            .map(|&(t_ms, function)| Arrival { t_ms, function })
            .collect()
    }

    #[test]
    fn the_moments_are_told_by_level() {
        let functions = [Function::plain("a", 10.0, 30.0, 20.0)];
        let future = Future::of(
            &functions,
            &calls(&[(0.0, 0), (5.0, 0), (30.0, 0), (90.0, 0)]),
        );
        let mut cursor = Cursor::default();
        // Never is the largest number.
        let mut next = |level, now| future.next(0, level, now, &mut cursor) as u64;
        assert_eq!(
            [next(1, 0.0), next(1, 31.0), next(1, 90.0)],
            [30, 90, u64::MAX]
        );
        assert_eq!(
            [next(2, 1.0), next(2, 5.0), next(3, 0.0)],
            [5, u64::MAX, u64::MAX]
        );
    }

    #[test]
    fn the_bound_keeps_what_saves_most_for_its_memory_time() {
        let functions = [
            Function::plain("a", 10.0, 110.0, 10.0),
            Function::plain("b", 10.0, 20.0, 10.0),
        ];
        let trace = calls(&[(0.0, 0), (20.0, 1), (100.0, 0), (190.0, 1)]);
        let future = Future::of(&functions, &trace);
        // 200 ms; runs take 400 MB ms; a's gap takes 900 MB ms and saves 100, b's 1600 for 10.
        let added = |memory_mb: f64| future.bound(&functions, memory_mb).added_ms;
        assert!((added(100.0) - 110.0).abs() < 1e-9);
        assert!((added(6.5) - 120.0).abs() < 1e-9);
        assert!((added(2.0) - 220.0).abs() < 1e-9);
        assert!((added(4.25) - 170.0).abs() < 1e-9, "half of a's gap");
        assert_eq!(future.bound(&functions, 6.5).total().hits, 1);
    }
}
