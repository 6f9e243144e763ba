//! Which sets to hold ready: facility location.
//!
//! Think of depots and customers: a customer is served by the best depot that can serve him at all,
//! so a second depot nearby adds little. Rows are calls with weights, candidates are package sets
//! with a value; a row is worth its weight times the highest value among the chosen candidates that
//! serve it. That is monotone and submodular: gains only fall as more is chosen. So the greedy
//! choice is within 1 - 1/e of the best there is (in practice within some percent, see [`bound`]),
//! and a gain reckoned earlier is a bound on the gain now, so few are reckoned again.
//!
//! Rejected: exchanging chosen candidates afterwards. It gains some permille on the calls that were
//! seen and loses more than that on others.
//!
//! [`bound`]: Cover::bound

use super::set::ItemSet;
use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};

/// Steps of the search for a low upper bound.
const BOUND_STEPS: usize = 200;

/// Rows and candidates.
#[derive(Debug, Clone, Default)]
pub struct Cover {
    pub weights: Vec<f64>,
    pub candidates: Vec<Candidate>,
}

/// A set that a node could have.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub set: ItemSet,
    /// What it saves one call.
    pub value: f64,
    /// Rows that may start from it, ascending.
    pub rows: Vec<u32>,
}

/// What a candidate was found to gain, once: the most first, then the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain(pub f64, pub Reverse<usize>);

impl Eq for Gain {}

impl Ord for Gain {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_gain = self.0.total_cmp(&other.0);
        by_gain.then_with(|| self.1.cmp(&other.1))
    }
}

impl PartialOrd for Gain {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Cover {
    /// What this candidate adds where rows have these values already.
    pub fn gain(&self, candidate: usize, values: &[f64]) -> f64 {
        let candidate = &self.candidates[candidate];
        let mut gain = 0.0;
        for row in &candidate.rows {
            let more = candidate.value - values[*row as usize];
            if more > 0.0 {
                gain += self.weights[*row as usize] * more;
            }
        }
        gain
    }

    pub fn take(&self, candidate: usize, values: &mut [f64]) {
        let candidate = &self.candidates[candidate];
        for row in &candidate.rows {
            let value = &mut values[*row as usize];
            *value = f64::max(*value, candidate.value);
        }
    }

    /// What each row has from these.
    pub fn values(&self, chosen: &[usize]) -> Vec<f64> {
        let mut values = vec![0.0; self.weights.len()];
        for candidate in chosen {
            self.take(*candidate, &mut values);
        }
        values
    }

    pub fn worth(&self, chosen: &[usize]) -> f64 {
        let values = self.values(chosen);
        let each = values.iter().zip(&self.weights);
        each.map(|(value, weight)| value * weight).sum()
    }

    /// The candidate that gains most, again and again.
    pub fn greedy(&self, count: usize) -> Vec<usize> {
        let mut values = vec![0.0; self.weights.len()];
        let mut chosen = Vec::new();
        let mut heap: BinaryHeap<Gain> = (0..self.candidates.len())
            .map(|at| Gain(self.gain(at, &values), Reverse(at)))
            .collect();
        while chosen.len() < count {
            let Some(Gain(_, Reverse(at))) = heap.pop() else {
                break;
            };
            let now = Gain(self.gain(at, &values), Reverse(at));
            if now.0 <= 0.0 {
                continue;
            }
            if heap.peek().is_some_and(|next| *next > now) {
                heap.push(now);
                continue;
            }
            self.take(at, &mut values);
            chosen.push(at);
        }
        chosen
    }

    /// No choice of so many candidates is worth more than this.
    ///
    /// For any prices of rows the best choice is worth at most the sum of all prices and, for the
    /// `count` candidates that gain most above them, those gains (the dual of the linear program).
    /// Prices begin at what a good choice gives each row and follow the subgradient.
    pub fn bound(&self, count: usize, chosen: &[usize]) -> f64 {
        let mut prices = self.values(chosen);
        let worth: f64 = self.worth(chosen);
        let mut best = f64::INFINITY;
        let mut step = 1.0;
        for _ in 0..BOUND_STEPS {
            let mut gains: Vec<Gain> = (0..self.candidates.len())
                .map(|at| Gain(self.gain(at, &prices), Reverse(at)))
                .collect();
            gains.sort_unstable_by(|a, b| b.cmp(a));
            gains.truncate(count);
            let priced: f64 = prices.iter().zip(&self.weights).map(|(p, w)| p * w).sum();
            let value = priced + gains.iter().map(|gain| gain.0).sum::<f64>();
            if value < best {
                best = value;
            } else {
                step *= 0.95;
            }
            if value <= worth {
                break;
            }
            let mut served = vec![0.0; prices.len()];
            for Gain(_, Reverse(at)) in &gains {
                let candidate = &self.candidates[*at];
                for row in candidate.rows.iter().map(|row| *row as usize) {
                    served[row] += f64::from(candidate.value > prices[row]);
                }
            }
            let slope = |row: usize| 1.0 - served[row];
            let length: f64 = (0..prices.len())
                .map(|row| self.weights[row] * slope(row) * slope(row))
                .sum();
            if length <= 0.0 {
                break;
            }
            let scale = step * (value - worth) / length;
            for (row, price) in prices.iter_mut().enumerate() {
                *price = f64::max(*price - scale * slope(row), 0.0);
            }
        }
        f64::max(best, worth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    fn cover(random: &mut Random, rows: usize, candidates: usize) -> Cover {
        let weights = (0..rows).map(|_| 1.0 + random.below(9) as f64).collect();
        let candidate = |_| Candidate {
            set: ItemSet::new(1),
            value: 1.0 + random.below(100) as f64,
            rows: (0..rows as u32).filter(|_| random.chance(0.3)).collect(),
        };
        Cover {
            weights,
            candidates: (0..candidates).map(candidate).collect(),
        }
    }

    /// The best there is, by trying all.
    fn best(cover: &Cover, count: usize, from: usize, chosen: &mut Vec<usize>) -> f64 {
        let mut most = cover.worth(chosen);
        if count > 0 {
            for at in from..cover.candidates.len() {
                chosen.push(at);
                most = f64::max(most, best(cover, count - 1, at + 1, chosen));
                chosen.pop();
            }
        }
        most
    }

    #[test]
    fn the_choice_is_near_the_best_and_the_bound_above_it() {
        let mut random = Random::new(7);
        for _ in 0..20 {
            let cover = cover(&mut random, 12, 10);
            let optimum = best(&cover, 3, 0, &mut Vec::new());
            let chosen = cover.greedy(3);
            let greedy = cover.worth(&chosen);
            assert!(greedy >= 0.63 * optimum, "{greedy} of {optimum}");
            let bound = cover.bound(3, &chosen);
            assert!(bound >= optimum - 1e-9, "{bound} below {optimum}");
            assert!(bound <= 1.2 * optimum, "{bound} far above {optimum}");
        }
    }

    #[test]
    fn greedy_takes_what_gains_most_then() {
        let candidate = |value, rows: &[u32]| Candidate {
            set: ItemSet::new(1),
            value,
            rows: rows.to_vec(),
        };
        let cover = Cover {
            weights: vec![1.0, 1.0, 1.0],
            candidates: vec![
                candidate(10.0, &[0, 1]),
                candidate(9.0, &[0, 1]),
                candidate(3.0, &[2]),
            ],
        };
        assert_eq!(cover.greedy(3), [0, 2], "the second adds nothing");
    }
}
