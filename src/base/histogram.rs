//! How often which value was met, in fixed memory: a histogram whose buckets grow with the value.
//!
//! ```text
//!   values 0..16        one bucket each
//!   then each doubling  16 equal buckets:  16 17 .. 31 | 32 34 .. 62 | 64 68 .. 124 | ...
//! ```
//! A value told back is off by at most one part in 32, over the whole range. Recording costs an
//! addition and allocates nothing; two histograms of the same kind can be added. Values are plain
//! numbers, durations are nanoseconds.

use super::Duration;
use alloc::boxed::Box;
use core::fmt;

const SUB_BITS: u32 = 4;
const SUBS: usize = 1 << SUB_BITS;
/// Values from here on are counted in the last bucket: five hours of nanoseconds.
const BITS_MAX: u32 = 44;
const BUCKETS: usize = SUBS * (1 + (BITS_MAX - SUB_BITS) as usize);

#[derive(Clone)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: Box::new([0; BUCKETS]),
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Everything below this is told apart.
    pub const VALUE_MAX: u64 = (1 << BITS_MAX) - 1;

    pub fn record(&mut self, value: u64) {
        self.buckets[bucket(value)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.max = self.max.max(value);
    }

    pub fn record_duration(&mut self, span: Duration) {
        self.record(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Of all values; saturates.
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest, exactly.
    pub const fn max(&self) -> u64 {
        self.max
    }

    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The value that `numerator` of `denominator` values do not exceed: the middle of its bucket.
    pub fn quantile(&self, numerator: u64, denominator: u64) -> u64 {
        assert!(
            numerator <= denominator && denominator > 0,
            "a part of the whole"
        );
        let product = u128::from(self.count) * u128::from(numerator);
        let rank = u64::try_from(product.div_ceil(u128::from(denominator))).unwrap_or(u64::MAX);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                let (low, high) = (lowest(index), lowest(index + 1) - 1);
                return (low + (high - low) / 2).min(self.max);
            }
        }
        self.max
    }

    /// How many values are below two to the power of `bits`; exact.
    pub fn below_power(&self, bits: u32) -> u64 {
        if bits >= BITS_MAX {
            return self.count;
        }
        self.buckets[..bucket(1 << bits)].iter().sum()
    }

    pub fn add(&mut self, other: &Self) {
        for (own, others) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *own += others;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
        self.max = self.max.max(other.max);
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, mean, max) = (self.count, self.mean(), self.max);
        write!(f, "Histogram({count} values, mean {mean}, max {max})")
    }
}

const fn bucket(value: u64) -> usize {
    if value < SUBS as u64 {
        return value as usize;
    }
    if value > Histogram::VALUE_MAX {
        return BUCKETS - 1;
    }
    let shift = u64::BITS - 1 - value.leading_zeros() - SUB_BITS;
    (shift as usize) * SUBS + (value >> shift) as usize
}

/// The lowest value of a bucket; one past the last is the end of the range.
const fn lowest(bucket: usize) -> u64 {
    if bucket < SUBS {
        return bucket as u64;
    }
    let shift = bucket / SUBS - 1;
    ((SUBS + bucket % SUBS) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use alloc::vec::Vec;

    #[test]
    fn buckets_cover_the_range_without_gaps() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(lowest(index)), index);
            assert_eq!(bucket(lowest(index + 1) - 1), index);
        }
        assert_eq!(lowest(BUCKETS), Histogram::VALUE_MAX + 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_near_the_true_ones() {
        let mut random = Random::new(5);
        let (mut histogram, mut values) = (Histogram::default(), Vec::new());
        for _ in 0..10_000 {
            let bits = random.below(40);
            let value = random.below(1 << bits);
            histogram.record(value);
            values.push(value);
        }
        values.sort_unstable();
        for (numerator, denominator) in [(0, 1), (1, 2), (9, 10), (99, 100), (1, 1)] {
            let rank = (values.len() as u64 * numerator)
                .div_ceil(denominator)
                .max(1);
            let exact = values[rank as usize - 1];
            let told = histogram.quantile(numerator, denominator);
            assert!(told.abs_diff(exact) <= exact / 32 + 1, "{told} for {exact}");
        }
        assert_eq!(histogram.max(), values[values.len() - 1]);
        assert_eq!(histogram.mean(), values.iter().sum::<u64>() / 10_000);
        let below = values.iter().filter(|value| **value < 1 << 20).count() as u64;
        assert_eq!(histogram.below_power(20), below);
        assert_eq!(histogram.below_power(63), 10_000);
    }

    #[test]
    fn an_empty_one_says_zero() {
        let histogram = Histogram::default();
        assert_eq!(
            (histogram.count(), histogram.mean(), histogram.max()),
            (0, 0, 0)
        );
        assert_eq!(histogram.quantile(99, 100), 0);
    }

    #[test]
    fn adding_is_recording_both() {
        let (mut one, mut other, mut both) = (
            Histogram::default(),
            Histogram::default(),
            Histogram::default(),
        );
        for value in 0..100 {
            if value % 3 == 0 {
                one.record(value * value);
            } else {
                other.record(value * value);
            }
            both.record(value * value);
        }
        one.add(&other);
        assert_eq!(one.quantile(1, 2), both.quantile(1, 2));
        assert_eq!(
            (one.count(), one.sum(), one.max()),
            (both.count(), both.sum(), both.max())
        );
    }
}
