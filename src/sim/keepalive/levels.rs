//! Which container of its function a call wants, on a server with memory for all.
//!
//! Every run is warm and takes its time; a call that comes when `n - 1` of its function run wants
//! the n-th container. What is known beforehand ([`future`](super::own::future)) and the hit-ratio
//! [`curve`](super::curve) are both about those containers and their gaps. Memory is bounded by
//! functions and by the calls that run at once.

use crate::sim::trace::{Arrival, Function};
use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// Counts who runs.
#[derive(Debug, Default)]
pub struct Levels {
    warm_ms: Vec<f64>,
    busy: Vec<u32>,
    /// Bits of the time (never negative), function.
    running: BinaryHeap<Reverse<(u64, u32)>>,
}

/// A container is free again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Released {
    pub t_ms: f64,
    pub function: u32,
    /// From zero.
    pub level: u32,
}

impl Levels {
    pub fn new(functions: &[Function]) -> Self {
        Self {
            warm_ms: functions.iter().map(|function| function.warm_ms).collect(),
            busy: vec![0; functions.len()],
            running: BinaryHeap::new(),
        }
    }

    /// The next container that is free by this time, in the order of time.
    pub fn released(&mut self, by_ms: f64) -> Option<Released> {
        let &Reverse((bits, function)) = self.running.peek()?;
        let t_ms = f64::from_bits(bits);
        if t_ms > by_ms {
            return None;
        }
        self.running.pop();
        let busy = &mut self.busy[function as usize];
        *busy -= 1;
        let level = *busy;
        Some(Released {
            t_ms,
            function,
            level,
        })
    }

    /// The level, from zero, that the call wants. Whoever was released by then must have been taken
    /// out before.
    pub fn call(&mut self, arrival: Arrival) -> u32 {
        let Arrival { t_ms, function } = arrival;
        let at = function as usize;
        let end_ms = t_ms + self.warm_ms[at];
        self.running.push(Reverse((end_ms.to_bits(), function)));
        self.busy[at] += 1;
        self.busy[at] - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_overlap_want_containers_of_their_own() {
        let functions = [Function::plain("a", 10.0, 30.0, 20.0)];
        let mut levels = Levels::new(&functions);
        let mut seen = Vec::new();
        for t_ms in [0.0, 5.0, 20.0, 21.0, 100.0] {
            while let Some(released) = levels.released(t_ms) {
                assert!(released.t_ms <= t_ms);
            }
            seen.push(levels.call(Arrival { t_ms, function: 0 }));
        }
        assert_eq!(seen, [0, 1, 1, 2, 0]);
    }
}
