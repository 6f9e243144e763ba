//! By the histogram of gaps: let go, and have one ready again just before the next call.
//!
//! The baker who writes down when customers come: most functions are called by a clock, a person or
//! another function, and their gaps repeat. From a histogram of gaps in minutes: let the sandbox go
//! when the next call is far, have one ready just before the first usual gap is over (head), keep
//! it until the last usual gap is over (tail). Where gaps do not repeat, keep for a fixed time.
//!
//!     worth = time of the last use, when memory is short before that
//!
//! This is the hybrid policy of the Azure Functions work: head is the 5th percentile rounded down,
//! tail the 99th rounded up, with a margin of a tenth each; a histogram is believed while the
//! coefficient of variation of its bin counts is at least two and not more than half of the gaps
//! are beyond its four hours. Rejected: the index of dispersion in the place of the former, as the
//! keep-alive simulators that followed have it (it believes a histogram of two); time series models
//! for the gaps beyond (they need more history than most functions ever have).

use super::{Policy, Stay, Thing, Use};
use crate::base::{Duration, Time};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One bin a minute, four hours.
const BINS: usize = 240;
const BIN: Duration = Duration::from_mins(1);
/// Kept this long where the histogram says nothing: its range.
const KEEP_UNKNOWN: Duration = Duration::from_hours(4);
/// Let go this long after a call when the next one is far.
const GRACE: Duration = Duration::from_mins(1);
const SAMPLES_MIN: u64 = 4;
const HEAD_SHARE: f64 = 0.05;
const TAIL_SHARE: f64 = 0.99;
/// Of the bin counts.
const VARIATION_MIN: f64 = 2.0;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hist {
    /// None before the first gap.
    bins: Vec<u32>,
    samples: u64,
    /// Gaps beyond the last bin.
    beyond: u64,
    /// Of the bin counts.
    squares: f64,
    last: Option<Time>,
    stay: Stayed,
}

/// What the bins say, made anew with each gap: it is asked for more often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum Stayed {
    #[default]
    Unknown,
    /// From head to tail, in bins.
    Repeats { head: u32, tail: u32 },
}

impl Policy for Hist {
    const NAME: &'static str = "hist";
    const TITLE: &'static str = "HIST";

    fn arrived(&mut self, call: &Use) {
        if let Some(last) = self.last.replace(call.now) {
            self.record(call.now.since(last));
        }
    }

    fn worth(&self, thing: &Thing) -> f64 {
        thing.last_use.as_secs_f64()
    }

    fn stay(&self) -> Stay {
        let Stayed::Repeats { head, tail } = self.stay else {
            return Stay::for_span(KEEP_UNKNOWN);
        };
        let keep = BIN * tail / 10 * 11;
        let ready_after = BIN * head / 10 * 9;
        if ready_after <= GRACE {
            return Stay::for_span(keep);
        }
        Stay {
            used: Some(GRACE),
            unused: Some(keep.saturating_sub(ready_after)),
            ready_after: Some(ready_after),
        }
    }
}

impl Hist {
    fn record(&mut self, gap: Duration) {
        let bin = (gap.as_nanos() / BIN.as_nanos()) as usize;
        if bin >= BINS {
            self.beyond += 1;
        } else {
            self.bins.resize(BINS, 0);
            let count = &mut self.bins[bin];
            self.squares += 2.0 * f64::from(*count) + 1.0;
            *count = count.saturating_add(1);
            self.samples += 1;
        }
        self.stay = self.read();
    }

    fn read(&self) -> Stayed {
        if self.samples < SAMPLES_MIN || self.beyond > self.samples || !self.is_uneven() {
            return Stayed::Unknown;
        }
        Stayed::Repeats {
            head: self.percentile(HEAD_SHARE),
            tail: self.percentile(TAIL_SHARE) + 1,
        }
    }

    /// Whether some bins are much fuller than others: deviation over mean of their counts.
    fn is_uneven(&self) -> bool {
        let mean = self.samples as f64 / BINS as f64;
        let variance = self.squares / BINS as f64 - mean * mean;
        variance >= VARIATION_MIN * VARIATION_MIN * mean * mean
    }

    /// The first bin at which this share of the gaps is exceeded.
    fn percentile(&self, share: f64) -> u32 {
        let wanted = share * self.samples as f64;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after_gaps(minutes: &[u64]) -> Stay {
        let mut hist = Hist::default();
        let mut now = Time::ZERO;
        for gap in [0].iter().chain(minutes) {
            now = now + Duration::from_mins(*gap);
            hist.arrived(&Use {
                now,
                busy: 0,
                clock: 0.0,
            });
        }
        hist.stay()
    }

    #[test]
    fn a_clock_is_recognised() {
        let stay = after_gaps(&[30, 30, 30, 31, 30]);
        assert_eq!(stay.ready_after, Some(Duration::from_mins(27)));
        assert_eq!(stay.used, Some(GRACE));
        let until = Duration::from_mins(27) + stay.unused.unwrap();
        assert_eq!(until, Duration::from_mins(32) / 10 * 11);
    }

    #[test]
    fn frequent_calls_keep_what_there_is() {
        let stay = after_gaps(&[0, 0, 0, 1, 0]);
        assert_eq!(stay.ready_after, None);
        assert!(stay.used < Some(Duration::from_mins(5)));
    }

    #[test]
    fn what_does_not_repeat_is_kept_for_a_fixed_time() {
        let wild: Vec<u64> = (0..120).map(|call| call * 2 % 240).collect();
        for gaps in [
            &[][..],
            &[7],
            &[1_000; 6],
            &[30, 30, 30, 30, 900, 900, 900, 900, 900],
            &wild,
        ] {
            assert_eq!(after_gaps(gaps), Stay::for_span(KEEP_UNKNOWN), "{gaps:?}");
        }
    }
}
