//! A heap whose members can be found again: the smallest key first, any member's key changed or
//! removed in logarithmic time.
//!
//! Members are small dense numbers ("slots"), so finding one is an array access. The heap is
//! four-ary: half the levels of a binary one, and the four children share a cache line. Ties break
//! by slot, so that the order is a function of the contents, never of history.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const ARITY: usize = 4;
const ABSENT: u32 = u32::MAX;

/// Slots ordered by key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IndexedHeap<K> {
    entries: Vec<Entry<K>>,
    /// Where each slot's entry is; `ABSENT` when it has none.
    positions: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
struct Entry<K> {
    key: K,
    slot: u32,
}

impl<K: Copy + PartialOrd> IndexedHeap<K> {
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            positions: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, slot: u32) -> Option<K> {
        self.position(slot)
            .map(|position| self.entries[position].key)
    }

    pub fn contains(&self, slot: u32) -> bool {
        self.position(slot).is_some()
    }

    /// The smallest key and its slot.
    pub fn first(&self) -> Option<(K, u32)> {
        self.entries.first().map(|entry| (entry.key, entry.slot))
    }

    /// Gives `slot` this key, whatever it had before. Keys must be comparable (no NaN).
    pub fn set(&mut self, slot: u32, key: K) {
        let entry = Entry { key, slot };
        if let Some(position) = self.position(slot) {
            self.entries[position] = entry;
            let position = self.climb(position);
            self.sink(position);
            return;
        }
        if self.positions.len() <= slot as usize {
            self.positions.resize(slot as usize + 1, ABSENT);
        }
        self.positions[slot as usize] = self.entries.len() as u32;
        self.entries.push(entry);
        self.climb(self.entries.len() - 1);
    }

    pub fn remove(&mut self, slot: u32) -> Option<K> {
        let position = self.position(slot)?;
        self.positions[slot as usize] = ABSENT;
        let removed = self.entries.swap_remove(position);
        if position < self.entries.len() {
            self.positions[self.entries[position].slot as usize] = position as u32;
            let position = self.climb(position);
            self.sink(position);
        }
        Some(removed.key)
    }

    pub fn pop(&mut self) -> Option<(K, u32)> {
        let first = self.first()?;
        self.remove(first.1);
        Some(first)
    }

    pub fn iter(&self) -> impl Iterator<Item = (K, u32)> {
        self.entries.iter().map(|entry| (entry.key, entry.slot))
    }

    fn position(&self, slot: u32) -> Option<usize> {
        match self.positions.get(slot as usize) {
            Some(&position) if position != ABSENT => Some(position as usize),
            _ => None,
        }
    }

    fn climb(&mut self, mut position: usize) -> usize {
        let entry = self.entries[position];
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if entry >= self.entries[parent] {
                break;
            }
            self.place(position, self.entries[parent]);
            position = parent;
        }
        self.place(position, entry);
        position
    }

    fn sink(&mut self, mut position: usize) {
        let entry = self.entries[position];
        loop {
            let first = position * ARITY + 1;
            let last = usize::min(first + ARITY, self.entries.len());
            let Some(smallest) = (first..last).reduce(|best, child| {
                if self.entries[child] < self.entries[best] {
                    child
                } else {
                    best
                }
            }) else {
                break;
            };
            if self.entries[smallest] >= entry {
                break;
            }
            self.place(position, self.entries[smallest]);
            position = smallest;
        }
        self.place(position, entry);
    }

    fn place(&mut self, position: usize, entry: Entry<K>) {
        self.entries[position] = entry;
        self.positions[entry.slot as usize] = position as u32;
    }
}

impl<K: Copy + PartialOrd> Default for IndexedHeap<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use alloc::collections::BTreeMap;

    #[test]
    fn behaves_as_a_sorted_map_would() {
        let mut random = Random::new(11);
        let mut heap = IndexedHeap::new();
        let mut model = BTreeMap::new();
        for _ in 0..20_000 {
            let slot = random.below(64) as u32;
            match random.below(4) {
                0 | 1 => {
                    let key = random.below(32);
                    heap.set(slot, key);
                    model.insert(slot, key);
                }
                2 => assert_eq!(heap.remove(slot), model.remove(&slot)),
                _ => {
                    let smallest = model.iter().map(|(slot, key)| (*key, *slot)).min();
                    assert_eq!(heap.pop(), smallest);
                    smallest.map(|(_, slot)| model.remove(&slot));
                }
            }
            assert_eq!(heap.len(), model.len());
            assert_eq!(heap.get(slot), model.get(&slot).copied());
        }
    }
}
