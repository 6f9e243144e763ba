//! The arrival statistics behind the classic HIST policy.
//!
//! Owns, for one function, 240 one-minute bins of the gaps between its arrivals and the running
//! mean and variance of the bin number. From them comes the pre-warm window, with the original's
//! arithmetic in the original's order: its comparisons decide outcomes.

const MINUTE_MS: f64 = 60_000.0;
const BINS: usize = 240;
const HEAD_SHARE: f64 = 0.05;
const HEAD_MARGIN: f64 = 0.9;
/// A function is predictable when the variance of its bin numbers is at most this often the mean.
const DISPERSION_MAX: f64 = 2.0;
const SAMPLES_MIN: u32 = 2;

#[derive(Debug, Clone)]
pub struct Gaps {
    last_seen_ms: f64,
    samples: u32,
    mean: f64,
    squares: f64,
    bins: Box<[u32; BINS]>,
}

impl Gaps {
    /// The first arrival only registers.
    pub fn first(now_ms: f64) -> Self {
        let bins = Box::new([0; BINS]);
        Self {
            last_seen_ms: now_ms,
            samples: 0,
            mean: 0.0,
            squares: 0.0,
            bins,
        }
    }

    pub fn arrived(&mut self, now_ms: f64) {
        let bin = ((now_ms - self.last_seen_ms) / MINUTE_MS).floor();
        self.last_seen_ms = now_ms;
        if bin >= BINS as f64 {
            return;
        }
        self.bins[bin as usize] += 1;
        self.samples += 1;
        let before = bin - self.mean;
        self.mean += before / f64::from(self.samples);
        self.squares += before * (bin - self.mean);
    }

    /// How long after an arrival a container is wanted again; zero: at once, or nobody knows.
    pub fn prewarm_ms(&self) -> f64 {
        if !self.is_predictable() {
            return 0.0;
        }
        let mut sum = 0;
        let first = self.bins.iter().position(|&count| {
            sum += count;
            f64::from(sum) / f64::from(self.samples) > HEAD_SHARE
        });
        let head = first.expect("there are samples").saturating_sub(1);
        HEAD_MARGIN * head as f64 * MINUTE_MS
    }

    fn is_predictable(&self) -> bool {
        let variance = self.squares / f64::from(self.samples);
        self.samples >= SAMPLES_MIN && (self.mean == 0.0 || variance / self.mean <= DISPERSION_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(minutes: &[f64]) -> Gaps {
        let mut now = 0.0;
        let mut gaps = Gaps::first(now);
        for gap in minutes {
            now += gap * MINUTE_MS;
            gaps.arrived(now);
        }
        gaps
    }

    #[test]
    fn a_steady_rhythm_is_prewarmed_for_a_bin_early() {
        assert_eq!(after(&[10.0]).prewarm_ms().to_bits(), 0_f64.to_bits());
        assert_eq!(
            after(&[10.0, 10.5]).prewarm_ms().to_bits(),
            (0.9 * 9.0 * MINUTE_MS).to_bits()
        );
        assert_eq!(after(&[0.5, 0.5]).prewarm_ms().to_bits(), 0_f64.to_bits());
    }

    #[test]
    fn long_gaps_are_no_samples_and_wild_ones_no_rhythm() {
        let gaps = after(&[10.0, 240.0, 10.0]);
        assert_eq!(gaps.samples, 2);
        assert!(gaps.prewarm_ms() > 0.0);
        assert_eq!(
            after(&[1.0, 200.0, 1.0]).prewarm_ms().to_bits(),
            0_f64.to_bits()
        );
    }
}
