//! When the next call of a function is due, from the gaps between its calls.
//!
//! The baker who writes down when customers come: most functions are called by a clock, a person or
//! another function, and their gaps repeat. From a histogram of gaps in minutes: let the sandbox go
//! before the first usual gap is over (head), have one ready just before, keep it until the last
//! usual gap is over (tail). Where gaps do not repeat, keep for a fixed time.
//!
//! Head is the 5th percentile, tail the 99th; both get a margin of a tenth. Gaps count as repeating
//! while the bins' variance is at most twice their mean. Rejected: time series models; they need
//! more history than most functions ever have.

use crate::base::{Duration, Time};
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One bin a minute, four hours.
const BINS: usize = 240;
const BIN: Duration = Duration::from_mins(1);
/// Kept this long where the histogram says nothing.
pub const KEEP_UNKNOWN: Duration = Duration::from_hours(2);
const SAMPLES_MIN: u32 = 2;

/// The gaps of one function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    bins: Vec<u32>,
    samples: u32,
    mean: f64,
    squares: f64,
    last: Option<Time>,
}

/// What to do about a function's sandbox after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Have one ready this long after the last call; none: just keep the one there is.
    pub ready_after: Option<Duration>,
    /// Keep it until this long after the last call.
    pub keep_for: Duration,
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            bins: vec![0; BINS],
            samples: 0,
            mean: 0.0,
            squares: 0.0,
            last: None,
        }
    }

    /// A call arrived.
    pub fn record(&mut self, now: Time) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let bin = (now.since(last).as_nanos() / BIN.as_nanos()) as usize;
        if bin >= BINS {
            return;
        }
        self.bins[bin] = self.bins[bin].saturating_add(1);
        self.samples = self.samples.saturating_add(1);
        let delta = bin as f64 - self.mean;
        self.mean += delta / f64::from(self.samples);
        self.squares += delta * (bin as f64 - self.mean);
    }

    pub fn last(&self) -> Option<Time> {
        self.last
    }

    /// What the gaps say.
    #[must_use]
    pub fn forecast(&self) -> Forecast {
        if !self.repeats() {
            return Forecast {
                ready_after: None,
                keep_for: KEEP_UNKNOWN,
            };
        }
        let (head, tail) = (self.percentile(0.05), self.percentile(0.99) + 1);
        let ready_after = (head > 0).then(|| BIN * head / 10 * 9);
        Forecast {
            ready_after,
            keep_for: BIN * tail / 10 * 11,
        }
    }

    fn repeats(&self) -> bool {
        if self.samples < SAMPLES_MIN {
            return false;
        }
        let variance = self.squares / f64::from(self.samples);
        self.mean == 0.0 || variance / self.mean <= 2.0
    }

    /// The first bin at which this share of the gaps is exceeded.
    fn percentile(&self, share: f64) -> u32 {
        let wanted = share * f64::from(self.samples);
        let mut seen = 0_u64;
        for (bin, count) in self.bins.iter().enumerate() {
            seen += u64::from(*count);
            if seen as f64 > wanted {
                return bin as u32;
            }
        }
        BINS as u32
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_gaps(minutes: &[u64]) -> Forecast {
        let mut histogram = Histogram::new();
        let mut now = 0;
        histogram.record(Time::from_millis(now));
        for gap in minutes {
            now += gap * 60_000;
            histogram.record(Time::from_millis(now));
        }
        histogram.forecast()
    }

    #[test]
    fn a_clock_is_recognised() {
        let forecast = after_gaps(&[30, 30, 30, 31, 30]);
        assert_eq!(forecast.ready_after, Some(Duration::from_mins(27)));
        assert_eq!(forecast.keep_for, Duration::from_mins(32) / 10 * 11);
    }

    #[test]
    fn frequent_calls_keep_what_there_is() {
        let forecast = after_gaps(&[0, 0, 0, 1, 0]);
        assert_eq!(forecast.ready_after, None);
        assert!(forecast.keep_for < Duration::from_mins(5));
    }

    #[test]
    fn what_does_not_repeat_is_kept_for_a_fixed_time() {
        for gaps in [&[][..], &[7], &[1, 200, 3, 90], &[1_000, 1_000, 1_000]] {
            let forecast = after_gaps(gaps);
            assert_eq!(forecast.ready_after, None);
            assert_eq!(forecast.keep_for, KEEP_UNKNOWN);
        }
    }
}
