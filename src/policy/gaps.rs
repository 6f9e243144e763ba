//! How soon a thing is wanted again, from how long it was not wanted before.
//!
//! The taxi rank: a driver who has waited ten minutes asks not how often fares come on the whole,
//! but how often one came soon after such a wait. So the gaps between uses are counted in a
//! histogram, and the question is put to what is left of it behind the present age: over which
//! stretch of further waiting are there the most uses for the time waited?
//!
//! That quotient, uses expected within the best stretch over time expected to be waited, is
//! [`Gaps::rate`]. (It is the index of Gittins, which ranks in the best order things of which one
//! can be waited for at a time; keeping many in a limited memory is near to that.) For uses at
//! random it is their rate whatever the age; for a timer it rises towards the next tick; for a
//! thing that comes in bursts it falls fast, once a burst is over.
//!
//! Rejected: a mean gap, smoothed (blind to the age: a timer of an hour looks like an hourly coin);
//! hit density with a fixed horizon (the horizon is one more number that nobody can set).

use crate::base::Duration;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Bins to the doubling of a gap: a timer is seen as one within a quarter of its period.
const FINENESS: u32 = 4;
const OCTAVES: u32 = 30;
const BINS: usize = (FINENESS * OCTAVES) as usize;
/// The unit of gaps: 2^20 ns, about a millisecond. The last bin ends after about twelve days.
const UNIT_SHIFT: u32 = 20;
/// What is known of a thing before anything is: so many uses, spread evenly over all bins, which
/// makes the rate fall as one over the age.
const PRIOR_USES: f64 = 0.25;
/// A stretch is at least this share of the age: shorter ones find accidents of few samples.
const STRETCH_MIN: f64 = 0.5;
/// Fewer gaps than this tell nothing of most gaps.
const SAMPLES_MIN: f64 = 4.0;
/// Beyond so many uses the old ones begin to fade, so that habits may change.
const USES_MAX: f64 = 128.0;

/// The gaps between the uses of one thing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Gaps {
    /// By bin; none before the first use.
    counts: Vec<f32>,
    sum: f64,
}

impl Gaps {
    pub const fn new() -> Self {
        Self {
            counts: Vec::new(),
            sum: 0.0,
        }
    }

    /// It was wanted again after this long.
    pub fn record(&mut self, gap: Duration) {
        self.counts.resize(BINS, 0.0);
        self.counts[bin(gap)] += 1.0;
        self.sum += 1.0;
        if self.sum > USES_MAX {
            self.counts.iter_mut().for_each(|count| *count *= 0.5);
            self.sum *= 0.5;
        }
    }

    /// Uses a second, over the best stretch of further waiting, for what has waited this long.
    #[must_use]
    pub fn rate(&self, age: Duration) -> f64 {
        let first = bin(age);
        let age = units(age);
        let prior = PRIOR_USES / BINS as f64;
        let share = ((edge(first + 1) - age) / (edge(first + 1) - edge(first))).clamp(0.0, 1.0);
        let mass = |bin: usize| prior + self.counts.get(bin).map_or(0.0, |&count| f64::from(count));
        let mut left = mass(first) * share;
        left += (first + 1..BINS).map(mass).sum::<f64>();
        let (mut uses, mut waited, mut best) = (0.0, 0.0, 0.0);
        for at in first..BINS {
            let (from, to) = (f64::max(edge(at), age), edge(at + 1));
            let here = if at == first {
                mass(at) * share
            } else {
                mass(at)
            };
            uses += here;
            left -= here;
            waited += here * ((from + to) * 0.5 - age);
            if to - age >= age * STRETCH_MIN {
                best = f64::max(best, uses / (waited + left * (to - age)));
            }
        }
        best * 1e9 / (1_u64 << UNIT_SHIFT) as f64
    }

    /// By which age this share of the gaps that were seen was over; none while few were seen.
    #[must_use]
    pub fn over_by(&self, share: f64) -> Option<Duration> {
        if self.sum < SAMPLES_MIN {
            return None;
        }
        let mut seen = 0.0;
        let last = self.counts.iter().position(|&count| {
            seen += f64::from(count);
            seen >= share * self.sum
        });
        let nanos = edge(last? + 1) * (1_u64 << UNIT_SHIFT) as f64;
        Some(Duration::from_nanos(nanos as u64))
    }

    /// Until which age the rate is about what it is at this one.
    #[must_use]
    pub fn same_until(age: Duration) -> Duration {
        let nanos = edge(bin(age) + 1) * (1_u64 << UNIT_SHIFT) as f64;
        Duration::from_nanos(nanos as u64)
    }
}

fn units(gap: Duration) -> f64 {
    gap.as_nanos() as f64 / (1_u64 << UNIT_SHIFT) as f64
}

/// Octave and the two bits below its leading one.
fn bin(gap: Duration) -> usize {
    let units = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX) >> UNIT_SHIFT;
    if units < u64::from(FINENESS) {
        return units as usize;
    }
    let octave = u64::BITS - 1 - units.leading_zeros();
    let fine = (units >> (octave - 2)) & u64::from(FINENESS - 1);
    usize::min(
        (octave - 1) as usize * FINENESS as usize + fine as usize,
        BINS - 1,
    )
}

/// Where a bin begins, in units.
fn edge(bin: usize) -> f64 {
    let (octave, fine) = (bin as u32 / FINENESS, bin as u32 % FINENESS);
    if octave == 0 {
        return f64::from(fine);
    }
    (u64::from(FINENESS + fine) << (octave - 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    #[test]
    fn bins_meet_at_their_edges() {
        for at in 0..BINS {
            let begins = Duration::from_nanos((edge(at) as u64) << UNIT_SHIFT);
            assert_eq!(bin(begins), at);
            if at > 0 {
                let before = begins.saturating_sub(Duration::from_nanos(1));
                assert_eq!(bin(before), at - 1);
            }
        }
        assert_eq!(bin(Duration::MAX), BINS - 1);
    }

    fn after(gaps: impl Iterator<Item = Duration>) -> Gaps {
        let mut known = Gaps::new();
        gaps.for_each(|gap| known.record(gap));
        known
    }

    #[test]
    fn calls_at_random_have_one_rate_at_any_age() {
        let mut random = Random::new(3);
        let known = after((0..120).map(|_| Duration::from_secs_f64(random.exponential(10.0))));
        for age in [1, 3, 10] {
            let rate = known.rate(Duration::from_secs(age));
            assert!((0.07..0.2).contains(&rate), "{rate} a second at {age} s");
        }
    }

    #[test]
    fn a_timer_is_worth_more_the_nearer_its_tick() {
        let known = after((0..20).map(|_| Duration::from_mins(10)));
        let rate = |secs| known.rate(Duration::from_secs(secs));
        assert!(rate(1) < rate(300) && rate(300) < rate(500));
        assert!(rate(500) > 3.0 * rate(1));
        assert!(rate(3_000) < rate(1), "it did not come");
    }

    #[test]
    fn after_a_burst_the_rate_falls() {
        let gap =
            |call: u64| Duration::from_millis(if call.is_multiple_of(20) { 600_000 } else { 50 });
        let known = after((0..60).map(gap));
        assert!(known.rate(Duration::ZERO) > 10.0);
        assert!(known.rate(Duration::from_secs(1)) < 0.1);
    }

    #[test]
    fn most_gaps_are_over_by_the_end_of_their_bin() {
        let known = after((1..=20).map(|gap| Duration::from_secs(if gap == 7 { 900 } else { 3 })));
        let by = |share| known.over_by(share).unwrap().as_secs_f64();
        assert!((3.0..4.0).contains(&by(0.95)), "{}", by(0.95));
        assert!((900.0..1_200.0).contains(&by(0.96)), "{}", by(0.96));
        assert_eq!(after([Duration::ZERO; 3].into_iter()).over_by(0.5), None);
    }

    #[test]
    fn of_the_unknown_the_recent_is_worth_more() {
        let unknown = Gaps::new();
        let rate = |secs| unknown.rate(Duration::from_secs(secs));
        assert!(rate(1) > rate(10) && rate(10) > rate(1_000) && rate(1_000) > 0.0);
    }

    #[test]
    fn there_is_a_rate_at_every_age() {
        let known = after([Duration::MAX, Duration::ZERO].into_iter());
        for at in 0..BINS + 8 {
            let age =
                Duration::from_nanos((edge(at.min(BINS)) as u64) << UNIT_SHIFT) * (1 + at as u32);
            let rate = known.rate(age);
            assert!(rate.is_finite() && rate >= 0.0, "{rate} at {age:?}");
        }
    }
}
