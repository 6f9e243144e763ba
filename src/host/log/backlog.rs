//! What the sink would not take at once, in order, bounded; beyond the bound it is counted.
//!
//! ```text
//!            sink says later            no room
//!   record ------------------> waiting ---------> lost (a number)
//!                                 |                 |
//!                  sink takes it  v                 v  said once the sink works again
//! ```
//!
//! The newest lines are the ones given up: what is kept stays without gaps, and the one line
//! that tells of the gap stands exactly where the gap is.

use std::collections::VecDeque;

/// Lines that may wait.
pub const LINES_MAX: usize = 1024;
/// Bytes that may wait.
pub const BYTES_MAX: usize = 2 << 20;

/// Encoded records in the order they were said.
#[derive(Debug)]
pub struct Backlog {
    waiting: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// How much of the first one a stream has already taken.
    taken: usize,
    lost: u64,
    lost_total: u64,
}

impl Backlog {
    pub const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            taken: 0,
            lost: 0,
            lost_total: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lines given up since `forget_lost`.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Lines given up since the start.
    pub fn lost_total(&self) -> u64 {
        self.lost_total
    }

    /// Keeps a record of which the sink already took `taken` bytes, or counts it.
    pub fn push(&mut self, record: &[u8], taken: usize) -> Kept {
        let full = self.waiting.len() == LINES_MAX || self.bytes + record.len() > BYTES_MAX;
        // Once a line is lost all later ones are, until the gap has been told.
        if full || self.lost > 0 {
            self.count_lost();
            return Kept::Lost;
        }
        debug_assert!(
            taken == 0 || self.is_empty(),
            "only the first line can be under way"
        );
        self.bytes += record.len();
        self.taken += taken;
        self.waiting.push_back(record.into());
        Kept::Waiting
    }

    /// What is to be written next.
    pub fn front(&self) -> Option<&[u8]> {
        self.waiting.front().map(|record| &record[self.taken..])
    }

    /// The sink took this much of `front`.
    pub fn took(&mut self, bytes: usize) {
        self.taken += bytes;
    }

    /// The sink took all of `front`, or never will.
    pub fn pop(&mut self) {
        if let Some(record) = self.waiting.pop_front() {
            self.bytes -= record.len();
            self.taken = 0;
        }
    }

    pub fn forget_lost(&mut self) {
        self.lost = 0;
    }

    /// For a line that left the queue but reached nobody.
    pub fn count_lost(&mut self) {
        self.lost += 1;
        self.lost_total += 1;
    }
}

/// What became of a pushed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    Waiting,
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_lines_are_counted_and_order_is_kept() {
        let mut backlog = Backlog::new();
        for n in 0..LINES_MAX {
            assert_eq!(backlog.push(n.to_string().as_bytes(), 0), Kept::Waiting);
        }
        assert_eq!(backlog.push(b"too many", 0), Kept::Lost);
        assert_eq!(backlog.front(), Some(&b"0"[..]));
        backlog.pop();
        // There is room again, but the gap has not been told: no line may slip in before it.
        assert_eq!(backlog.push(b"after the gap", 0), Kept::Lost);
        assert_eq!(backlog.lost(), 2);
        for n in 1..LINES_MAX {
            assert_eq!(backlog.front(), Some(n.to_string().as_bytes()));
            backlog.pop();
        }
        assert!(backlog.is_empty());
        backlog.forget_lost();
        assert_eq!(backlog.push(b"told", 0), Kept::Waiting);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut backlog = Backlog::new();
        assert_eq!(backlog.push(&vec![b'x'; BYTES_MAX], 0), Kept::Waiting);
        assert_eq!(backlog.push(b"y", 0), Kept::Lost);
    }

    #[test]
    fn a_line_taken_in_part_goes_on_where_it_stopped() {
        let mut backlog = Backlog::new();
        assert_eq!(backlog.push(b"abcdef", 2), Kept::Waiting);
        assert_eq!(backlog.front(), Some(&b"cdef"[..]));
        backlog.took(3);
        assert_eq!(backlog.front(), Some(&b"f"[..]));
        backlog.pop();
        assert_eq!(backlog.push(b"next", 0), Kept::Waiting);
        assert_eq!(backlog.front(), Some(&b"next"[..]));
    }
}
