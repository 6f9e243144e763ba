//! What a keep-alive simulation counts, and the figures that follow from the counts.
//!
//! Owns the vocabulary all models share: what became of a call, who was evicted for it, and the
//! sums.

use crate::sim::trace::Function;

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An idle container served it.
    Hit,
    /// A container was started for it.
    Missed,
    /// There was no room for it.
    Dropped,
}

impl Outcome {
    pub const fn letter(self) -> char {
        match self {
            Self::Hit => 'h',
            Self::Missed => 'm',
            Self::Dropped => 'd',
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Missed => "miss",
            Self::Dropped => "drop",
        }
    }
}

/// A caller who is turned away comes back after this long (`Retry-After: 1`) and is then charged a
/// start like anybody: what a dropped call adds to latency. Any charge is a convention; one below a
/// start would make dropping look like serving.
pub const DROP_RETRY_MS: f64 = 1_000.0;

/// A container that had to go, and what it was thought to be worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Victim {
    pub who: Who,
    pub priority: f64,
}

/// What it is that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A container of this function.
    Function(u32),
    /// A layer that functions share, by its node.
    Layer(u32),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FunctionCounts {
    pub hits: u64,
    pub misses: u64,
    pub drops: u64,
    pub evictions: u64,
}

impl FunctionCounts {
    pub fn served(&self) -> u64 {
        self.hits + self.misses
    }
}

/// The sums of one simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    pub functions: Vec<FunctionCounts>,
    /// How long calls ran, starts included.
    pub exec_ms: f64,
    /// What callers waited beyond a warm call, all calls together.
    pub added_ms: f64,
    pub peak_mem_mb: f64,
    pub peak_pool: usize,
    /// Memory held, times how long.
    pub mem_mb_ms: f64,
    /// Until when that is counted.
    pub until_ms: f64,
    /// Misses that began from layers which were there.
    pub layer_starts: u64,
    /// Layers that went, evicted or expired.
    pub layer_evictions: u64,
}

impl Counts {
    pub fn new(functions: usize) -> Self {
        let functions = vec![FunctionCounts::default(); functions];
        Self {
            functions,
            exec_ms: 0.0,
            added_ms: 0.0,
            peak_mem_mb: 0.0,
            peak_pool: 0,
            mem_mb_ms: 0.0,
            until_ms: 0.0,
            layer_starts: 0,
            layer_evictions: 0,
        }
    }

    /// Over the time from zero to the last call.
    pub fn mean_mem_mb(&self) -> f64 {
        if self.until_ms > 0.0 {
            self.mem_mb_ms / self.until_ms
        } else {
            0.0
        }
    }

    pub fn count(&mut self, function: usize, outcome: Outcome) {
        let counts = &mut self.functions[function];
        match outcome {
            Outcome::Hit => counts.hits += 1,
            Outcome::Missed => counts.misses += 1,
            Outcome::Dropped => counts.drops += 1,
        }
    }

    pub fn evicted(&mut self, function: usize) {
        self.functions[function].evictions += 1;
    }

    pub fn total(&self) -> FunctionCounts {
        let mut total = FunctionCounts::default();
        for counts in &self.functions {
            total.hits += counts.hits;
            total.misses += counts.misses;
            total.drops += counts.drops;
            total.evictions += counts.evictions;
        }
        total
    }

    /// By how much starts lengthen the calls, each function weighted by its served calls:
    /// `(cold - warm) * misses / (accesses * warm)`. A function without a warm run time has no
    /// such share and is left out.
    pub fn exec_increase(&self, functions: &[Function]) -> f64 {
        self.weighted(functions, |function, counts| {
            let longer_ms = (function.cold_ms - function.warm_ms) * counts.misses as f64;
            longer_ms / (counts.served() as f64 * function.warm_ms)
        })
    }

    /// The same as the published figures have it, warm and cold in each other's place:
    /// `warm * misses / (accesses * (cold - warm))`.
    pub fn paper_increase(&self, functions: &[Function]) -> f64 {
        self.weighted(functions, |function, counts| {
            let cost_ms = function.cold_ms - function.warm_ms;
            function.warm_ms * counts.misses as f64 / (counts.served() as f64 * cost_ms)
        })
    }

    fn weighted<F>(&self, functions: &[Function], share: F) -> f64
    where
        F: Fn(&Function, &FunctionCounts) -> f64,
    {
        let mut sum = 0.0;
        let mut accesses = 0.0;
        for (function, counts) in functions.iter().zip(&self.functions) {
            let served = counts.served() as f64;
            accesses += served;
            let increase = share(function, counts);
            if served > 0.0 && increase.is_finite() {
                sum += increase * served;
            }
        }
        if accesses > 0.0 { sum / accesses } else { 0.0 }
    }
}

/// The figures of one cell, the mean over its runs where it was run with several seeds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    pub runs: usize,
    pub invocations: f64,
    pub hits: f64,
    pub misses: f64,
    pub drops: f64,
    pub evictions: f64,
    pub exec_ms: f64,
    pub exec_increase: f64,
    pub paper_increase: f64,
    /// The largest of any run.
    pub peak_mem_mb: f64,
    pub mean_mem_mb: f64,
    pub layer_starts: f64,
    pub layer_evictions: f64,
    /// What a call waits beyond a warm one.
    pub added_ms: f64,
    pub functions: Vec<FunctionSummary>,
}

/// Means for one function.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FunctionSummary {
    pub hits: f64,
    pub misses: f64,
    pub drops: f64,
    pub evictions: f64,
}

impl Summary {
    pub fn of<'a, I>(functions: &[Function], runs: I) -> Self
    where
        I: ExactSizeIterator<Item = &'a Counts>,
    {
        let share = 1.0 / runs.len().max(1) as f64;
        let mut mean = Self {
            runs: runs.len(),
            ..Self::default()
        };
        mean.functions
            .resize(functions.len(), FunctionSummary::default());
        let mut added_ms = 0.0;
        for counts in runs {
            mean.exec_ms += counts.exec_ms * share;
            mean.exec_increase += counts.exec_increase(functions) * share;
            mean.paper_increase += counts.paper_increase(functions) * share;
            mean.peak_mem_mb = mean.peak_mem_mb.max(counts.peak_mem_mb);
            mean.mean_mem_mb += counts.mean_mem_mb() * share;
            mean.layer_starts += counts.layer_starts as f64 * share;
            mean.layer_evictions += counts.layer_evictions as f64 * share;
            added_ms += counts.added_ms * share;
            for (mean, counts) in mean.functions.iter_mut().zip(&counts.functions) {
                mean.hits += counts.hits as f64;
                mean.misses += counts.misses as f64;
                mean.drops += counts.drops as f64;
                mean.evictions += counts.evictions as f64;
            }
        }
        // Sums of whole numbers are divided last: a mean of equals is exactly theirs.
        let runs = mean.runs.max(1) as f64;
        for function in &mut mean.functions {
            mean.hits += function.hits;
            mean.misses += function.misses;
            mean.drops += function.drops;
            mean.evictions += function.evictions;
            for sum in function.fields_mut() {
                *sum /= runs;
            }
        }
        for sum in [
            &mut mean.hits,
            &mut mean.misses,
            &mut mean.drops,
            &mut mean.evictions,
        ] {
            *sum /= runs;
        }
        mean.invocations = mean.hits + mean.misses + mean.drops;
        mean.added_ms = if mean.invocations > 0.0 {
            added_ms / mean.invocations
        } else {
            0.0
        };
        mean
    }

    /// Misses among the served calls.
    pub fn cold_percent(&self) -> f64 {
        percent(self.misses, self.hits + self.misses)
    }

    /// Drops among all calls.
    pub fn dropped_percent(&self) -> f64 {
        percent(self.drops, self.invocations)
    }
}

impl FunctionSummary {
    fn fields_mut(&mut self) -> [&mut f64; 4] {
        [
            &mut self.hits,
            &mut self.misses,
            &mut self.drops,
            &mut self.evictions,
        ]
    }
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        100.0 * part / whole
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increases_are_weighted_by_served_calls() {
        let functions = [
            Function::plain("a", 1.0, 30.0, 10.0),
            Function::plain("b", 1.0, 5.0, 5.0),
        ];
        let mut counts = Counts::new(2);
        for outcome in [
            Outcome::Missed,
            Outcome::Hit,
            Outcome::Hit,
            Outcome::Dropped,
        ] {
            counts.count(0, outcome);
        }
        counts.count(1, Outcome::Missed);
        // a: 20 * 1 / (3 * 10) over three of four accesses; b adds nothing.
        assert!((counts.exec_increase(&functions) - 0.5).abs() < 1e-12);
        // a: 10 * 1 / (3 * 20); b has no cost to divide by.
        assert!((counts.paper_increase(&functions) - 0.125).abs() < 1e-12);
        assert_eq!(counts.total().drops, 1);
    }
}
