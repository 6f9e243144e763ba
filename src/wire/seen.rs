//! The page an instance shares with the worker: how far user code has come.
//!
//! The worker makes one anonymous file for each instance, keeps it mapped, and passes it on; the
//! instance writes three words without telling anybody. After a death they answer whether the call
//! may be tried elsewhere, at a timeout since when user code has had it. The peer is hostile: every
//! value is possible, and a lie hurts only its own call.
//!
//! ```text
//!   0           8             16      24
//!   | calls u64 | since ns u64 | phase u64 | unused
//! ```

/// Size of the file.
pub const SEEN_BYTES: usize = 4096;

/// The words at the head of the page, as the worker read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Calls handed to user code since the instance began: the n-th call has been seen when this
    /// is n or more.
    pub calls: u64,
    /// When the newest of them was, by the machine's monotonic clock.
    pub since_ns: u64,
    pub phase: Phase,
}

/// Where the instance is. Goes up only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// The process does not run the runtime yet.
    #[default]
    Unborn = 0,
    /// The function's code is being imported.
    Importing = 1,
    /// It takes calls.
    Serving = 2,
}

impl Seen {
    /// The number of bytes that matter.
    pub const WORDS_BYTES: usize = 24;

    pub const fn decode(words: [u64; 3]) -> Self {
        let phase = match words[2] {
            0 => Phase::Unborn,
            1 => Phase::Importing,
            _ => Phase::Serving,
        };
        Self {
            calls: words[0],
            since_ns: words[1],
            phase,
        }
    }

    /// Has user code met the `number`-th call (from 1) that was sent to this instance?
    pub const fn met(self, number: u64) -> bool {
        self.calls >= number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_page_has_seen_nothing() {
        let seen = Seen::decode([0; 3]);
        assert_eq!(seen, Seen::default());
        assert!(!seen.met(1));
    }

    #[test]
    fn a_call_is_met_once_it_is_counted() {
        let seen = Seen::decode([2, 77, 2]);
        assert!(seen.met(1) && seen.met(2) && !seen.met(3));
        assert_eq!(seen.phase, Phase::Serving);
    }
}
