//! What was measured, small enough to be kept for every function: a mean that forgets, and a rate.

use crate::base::{Bytes, Duration, Time};
use serde::{Deserialize, Serialize};

/// Weight of a new sample once there are enough.
const SHARE: f64 = 0.125;
/// Until this many samples the mean is the plain one.
const PLAIN: u32 = 8;
/// What a rate counts in one go.
const WINDOW_NANOS: u64 = 1_000_000_000;
/// Weight of the newest window.
const WINDOW_SHARE: f64 = 0.25;

/// A mean duration: plain over the first samples, then forgetting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Mean {
    seconds: f64,
    samples: u32,
}

impl Mean {
    pub fn add(&mut self, sample: Duration) {
        let seconds = sample.as_nanos() as f64 * 1e-9;
        self.samples = self.samples.saturating_add(1);
        let share = if self.samples <= PLAIN {
            1.0 / f64::from(self.samples)
        } else {
            SHARE
        };
        self.seconds += (seconds - self.seconds) * share;
    }

    pub fn get(&self) -> Option<Duration> {
        (self.samples > 0).then(|| Duration::from_nanos((self.seconds * 1e9) as u64))
    }
}

/// What most of a kind hold: above the mean, for it follows those that hold more the sooner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Usual {
    bytes: f64,
    samples: u32,
}

/// Fewer samples say nothing.
const USUAL_SAMPLES_MIN: u32 = 4;
const MORE_SHARE: f64 = 0.25;
const LESS_SHARE: f64 = 0.0625;

impl Usual {
    pub fn add(&mut self, sample: Bytes) {
        let more = sample.get() as f64 - self.bytes;
        let share = match self.samples {
            0 => 1.0,
            _ if more > 0.0 => MORE_SHARE,
            _ => LESS_SHARE,
        };
        self.samples = self.samples.saturating_add(1);
        self.bytes += more * share;
    }

    pub fn get(&self) -> Option<Bytes> {
        (self.samples >= USUAL_SAMPLES_MIN).then(|| Bytes::new(self.bytes as u64))
    }
}

/// Events a second, counted in windows; a warm path pays one comparison and one addition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    /// Start of the window being counted.
    since: Time,
    count: u32,
    /// Of the windows before.
    per_second: f64,
}

impl Rate {
    pub fn add(&mut self, now: Time) {
        let windows = now.since(self.since).as_nanos() as u64 / WINDOW_NANOS;
        if windows > 0 {
            self.per_second = self.folded(windows);
            self.since = Time::from_nanos(self.since.as_nanos() + windows * WINDOW_NANOS);
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
    }

    pub fn per_second(&self, now: Time) -> f64 {
        let windows = now.since(self.since).as_nanos() as u64 / WINDOW_NANOS;
        if windows == 0 {
            return f64::max(self.per_second, f64::from(self.count));
        }
        self.folded(windows)
    }

    /// The rate once the present window and `windows - 1` empty ones are behind.
    fn folded(&self, windows: u64) -> f64 {
        let counted = self.per_second + (f64::from(self.count) - self.per_second) * WINDOW_SHARE;
        if windows == 1 {
            return counted;
        }
        counted * libm::pow(1.0 - WINDOW_SHARE, (windows - 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_starts_plain_and_then_forgets() {
        let mut mean = Mean::default();
        assert_eq!(mean.get(), None);
        mean.add(Duration::from_millis(10));
        mean.add(Duration::from_millis(30));
        assert_eq!(mean.get(), Some(Duration::from_millis(20)));
        for _ in 0..100 {
            mean.add(Duration::from_millis(50));
        }
        let settled = mean.get().unwrap();
        assert!(settled > Duration::from_millis(49), "{settled:?}");
    }

    #[test]
    fn a_rate_follows_and_decays() {
        let mut rate = Rate::default();
        for step in 0..2_000 {
            rate.add(Time::from_millis(step * 10));
        }
        let steady = rate.per_second(Time::from_millis(20_000));
        assert!((95.0..105.0).contains(&steady), "{steady}");
        let later = rate.per_second(Time::from_millis(60_000));
        assert!(later < 0.01, "{later}");
    }
}
