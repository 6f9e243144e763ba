//! The only chance there is in the pure rooms and the simulators: a seeded generator.
//!
//! xoshiro256++ seeded through splitmix64: fast, small, the same numbers on every machine. Not for
//! secrets.

use serde::{Deserialize, Serialize};

/// A stream of numbers that its seed determines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    pub const fn new(seed: u64) -> Self {
        let mut seed = seed;
        let mut state = [0; 4];
        let mut place = 0;
        while place < state.len() {
            seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = seed;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            state[place] = mixed ^ (mixed >> 31);
            place += 1;
        }
        Self { state }
    }

    pub const fn next_u64(&mut self) -> u64 {
        let state = &mut self.state;
        let result = state[0]
            .wrapping_add(state[3])
            .rotate_left(23)
            .wrapping_add(state[0]);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// A number in `0..bound`; zero when `bound` is zero. The bias of the multiplication is below
    /// 2^-32 for the bounds met here.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True this often.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponentially distributed: the gaps of a Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(1.0 - self.unit())
    }

    /// Log-normally distributed, given the median and the deviation of the logarithm.
    pub fn log_normal(&mut self, median: f64, deviation: f64) -> f64 {
        let (first, second) = (1.0 - self.unit(), self.unit());
        let normal =
            libm::sqrt(-2.0 * libm::log(first)) * libm::cos(core::f64::consts::TAU * second);
        median * libm::exp(deviation * normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream() {
        let mut first = Random::new(42);
        let mut second = Random::new(42);
        let mut other = Random::new(43);
        let stream: [u64; 8] = core::array::from_fn(|_| first.next_u64());
        assert_eq!(stream, core::array::from_fn(|_| second.next_u64()));
        assert_ne!(stream, core::array::from_fn(|_| other.next_u64()));
    }

    #[test]
    fn means_are_where_they_should_be() {
        let mut random = Random::new(1);
        let count = 20_000;
        let mean = (0..count).map(|_| random.exponential(3.0)).sum::<f64>() / f64::from(count);
        assert!((mean - 3.0).abs() < 0.1, "{mean}");
        let below = (0..count).map(|_| random.below(10) as f64).sum::<f64>() / f64::from(count);
        assert!((below - 4.5).abs() < 0.1, "{below}");
        let mut logs: Vec<f64> = (0..count).map(|_| random.log_normal(5.0, 1.0)).collect();
        logs.sort_by(f64::total_cmp);
        assert!((logs[10_000] - 5.0).abs() < 0.2, "{}", logs[10_000]);
    }
}
