//! What is due when: one deadline at most for each thing that can have one.
//!
//! A thing with several deadlines (a function whose calls each have one) arms the earliest that it
//! knows and looks at its own lists when it fires; firing early costs a look, firing late is what
//! must not happen. So the agenda holds one entry a function and not one a call, and the path of a
//! warm call almost never touches it.

use super::{IndexedHeap, Time};
use serde::{Deserialize, Serialize};

/// Deadlines by slot; the owner numbers its things.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Agenda {
    deadlines: IndexedHeap<Time>,
}

impl Agenda {
    pub const fn new() -> Self {
        Self {
            deadlines: IndexedHeap::new(),
        }
    }

    /// Makes sure that `slot` fires no later than `at`.
    pub fn arm(&mut self, slot: u32, at: Time) {
        if self.deadlines.get(slot).is_none_or(|armed| at < armed) {
            self.deadlines.set(slot, at);
        }
    }

    /// Forgets the deadline of `slot`, if it has one.
    pub fn disarm(&mut self, slot: u32) {
        self.deadlines.remove(slot);
    }

    pub fn armed(&self, slot: u32) -> Option<Time> {
        self.deadlines.get(slot)
    }

    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| at)
    }

    /// One slot whose deadline has come; it is disarmed by this.
    pub fn pop_due(&mut self, now: Time) -> Option<u32> {
        let (at, slot) = self.deadlines.first()?;
        if at > now {
            return None;
        }
        self.deadlines.remove(slot);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_in_order_and_keeps_the_earliest() {
        let mut agenda = Agenda::new();
        agenda.arm(3, Time::from_millis(30));
        agenda.arm(1, Time::from_millis(20));
        agenda.arm(3, Time::from_millis(10));
        agenda.arm(3, Time::from_millis(40));
        assert_eq!(agenda.next_deadline(), Some(Time::from_millis(10)));
        assert_eq!(agenda.pop_due(Time::from_millis(9)), None);
        assert_eq!(agenda.pop_due(Time::from_millis(20)), Some(3));
        assert_eq!(agenda.pop_due(Time::from_millis(20)), Some(1));
        assert_eq!(agenda.next_deadline(), None);
    }
}
