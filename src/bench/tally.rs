//! What came of the calls: counts and one histogram, of fixed size.

use super::reply::{Reply, Start};
use crate::base::{Duration, Histogram};
use core::fmt;
use std::collections::BTreeMap;

/// Bytes of the first failure's body that are kept for a person to read.
pub const BODY_KEPT_BYTES: usize = 2048;

/// Why a call has no good answer. There are as many kinds as there are statuses, and these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Failed {
    Status(u16),
    /// The connection ended before the answer did.
    Broken,
    /// What came is no HTTP answer.
    Malformed,
    /// No answer in the longest time a call may take.
    TimedOut,
    /// Due within the time of the run, and not sent until its end: the rate was not held.
    Unsent,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Broken => f.write_str("broken"),
            Self::Malformed => f.write_str("malformed"),
            Self::TimedOut => f.write_str("timed-out"),
            Self::Unsent => f.write_str("unsent"),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Of answers with a status below 400, in nanoseconds from when the call was due.
    pub latency: Histogram,
    pub warm: u64,
    pub zygote: u64,
    pub fresh: u64,
    pub failures: BTreeMap<Failed, u64>,
    /// The first refusal: function, status, and the beginning of its body.
    pub first_refusal: Option<(u32, u16, Vec<u8>)>,
}

impl Tally {
    pub fn successes(&self) -> u64 {
        self.latency.count()
    }

    pub fn errors(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Whether more than one call of a hundred failed.
    pub fn is_bad(&self) -> bool {
        let (errors, all) = (self.errors(), self.errors() + self.successes());
        errors.saturating_mul(100) > all
    }

    pub(super) fn answered(&mut self, function: u32, reply: &mut Reply, took: Duration) {
        if reply.status >= 400 {
            self.failed(Failed::Status(reply.status), 1);
            if self.first_refusal.is_none() {
                let body = core::mem::take(&mut reply.body);
                self.first_refusal = Some((function, reply.status, body));
            }
            return;
        }
        self.latency.record_duration(took);
        match reply.start {
            Some(Start::Warm) => self.warm += 1,
            Some(Start::Zygote) => self.zygote += 1,
            Some(Start::Fresh) => self.fresh += 1,
            None => {}
        }
    }

    pub(super) fn failed(&mut self, why: Failed, count: u64) {
        if count > 0 {
            *self.failures.entry(why).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_fail() {
        let mut tally = Tally::default();
        assert!(!tally.is_bad());
        for _ in 0..99 {
            let mut reply = Reply::of(200, Some(Start::Warm));
            tally.answered(0, &mut reply, Duration::from_millis(1));
        }
        tally.answered(7, &mut Reply::of(503, None), Duration::from_millis(1));
        assert!(!tally.is_bad());
        tally.failed(Failed::Broken, 1);
        assert!(tally.is_bad());
        assert_eq!((tally.successes(), tally.errors(), tally.warm), (99, 2, 99));
        assert_eq!(tally.first_refusal, Some((7, 503, Vec::new())));
        let kinds: Vec<_> = tally.failures.keys().map(ToString::to_string).collect();
        assert_eq!(kinds, ["503", "broken"]);
    }
}
