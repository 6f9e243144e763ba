//! A binary heap in an array whose arrangement among equals is part of its contract.
//!
//! Owns the pool order of the classic model. Which of several equal containers is reused or evicted
//! follows from where it stands in the array, and the model rebuilds the whole heap several times a
//! call, which moves equals about although the heap was valid. Both must be kept to the letter; the
//! rebuilding need not be paid for. Rebuilding sinks every inner node, and sinking a node that is
//! strictly smaller than both its children puts it back where it was. So the heap remembers which
//! nodes may be *unsettled* (not strictly smaller than a child) and a rebuild visits only those:
//! the ones whose priority was changed, and the equals.
//!
//! ```text
//! settled  --set, remove, a neighbour moves-->  unsettled  --heapify (sink)-->  settled
//!                                                    ^------ an equal child ------'
//! ```
//!
//! An item that sinks passes smaller ones first and its equals after them. Passing equals changes
//! who stands where but no priority, so it cannot unsettle anybody: that part is a bare rotation.

const WORD_BITS: usize = u64::BITS as usize;

/// Items are small numbers given by the owner; an item is in the heap at most once.
#[derive(Debug, Default, Clone)]
pub struct Heap {
    /// By place.
    priority: Vec<f64>,
    /// By place.
    item: Vec<u32>,
    /// By item; meaningless for an item that is not in the heap.
    place: Vec<u32>,
    /// One bit a place: set where an inner node may not be strictly smaller than both its children.
    unsettled: Vec<u64>,
}

impl Heap {
    pub fn len(&self) -> usize {
        self.item.len()
    }

    /// Items in array order.
    pub fn items(&self) -> &[u32] {
        &self.item
    }

    pub fn place(&self, item: u32) -> u32 {
        self.place[item as usize]
    }

    pub fn priority(&self, item: u32) -> f64 {
        self.priority[self.place(item) as usize]
    }

    /// Appends, and climbs while strictly smaller than the parent.
    pub fn push(&mut self, item: u32, priority: f64) {
        let mut hole = self.item.len();
        self.item.push(item);
        self.priority.push(priority);
        if self.place.len() <= item as usize {
            self.place.resize(item as usize + 1, 0);
        }
        if self.unsettled.len() * WORD_BITS <= hole {
            self.unsettled.push(0);
        }
        while hole > 0 {
            let parent = (hole - 1) / 2;
            if priority >= self.priority[parent] {
                break;
            }
            self.shift(parent, hole);
            hole = parent;
        }
        self.put(hole, item, priority);
        self.refresh_upward(self.item.len() - 1);
    }

    /// The smallest; the last of the array sinks from the root in its stead.
    pub fn pop(&mut self) -> Option<(u32, f64)> {
        let last = self.item.pop()?;
        let last_priority = self.priority.pop().expect("as long as `item`");
        let len = self.item.len();
        if len == 0 {
            self.unsettled[0] = 0;
            return Some((last, last_priority));
        }
        self.refresh((len - 1) / 2);
        let top = (self.item[0], self.priority[0]);
        self.put(0, last, last_priority);
        self.sink(0);
        Some(top)
    }

    /// Takes an item out of the array; all behind it move up by one place. The heap is invalid
    /// until the next `heapify`.
    pub fn remove(&mut self, item: u32) {
        let gone = self.place(item) as usize;
        self.item.remove(gone);
        self.priority.remove(gone);
        for place in gone..self.item.len() {
            self.place[self.item[place] as usize] = place as u32;
        }
        for place in gone.saturating_sub(2) / 2..=self.item.len() / 2 {
            self.refresh(place);
        }
    }

    /// Gives an item another priority where it stands. The heap is invalid until `heapify`.
    pub fn set(&mut self, item: u32, priority: f64) {
        let place = self.place(item) as usize;
        if self.priority[place].to_bits() == priority.to_bits() {
            return;
        }
        self.priority[place] = priority;
        if 2 * place + 1 < self.item.len() {
            self.mark(place, true);
        }
        if place > 0 {
            self.mark((place - 1) / 2, true);
        }
    }

    /// As `set`, for every item. The heap is invalid until `heapify`.
    pub fn set_all<F: Fn(u32, f64) -> f64>(&mut self, priority: F) {
        for (old, &item) in self.priority.iter_mut().zip(&self.item) {
            *old = priority(item, *old);
        }
        for place in 0..self.item.len() / 2 {
            self.refresh(place);
        }
    }

    /// Sinks every unsettled inner node, the last first.
    pub fn heapify(&mut self) {
        for word in (0..self.unsettled.len()).rev() {
            // A sink unsettles nodes behind itself (for the next time) and its parent (for now).
            let mut below = u64::MAX;
            loop {
                let waiting = self.unsettled[word] & below;
                if waiting == 0 {
                    break;
                }
                let bit = WORD_BITS - 1 - waiting.leading_zeros() as usize;
                self.sink(word * WORD_BITS + bit);
                below = (1 << bit) - 1;
            }
        }
    }

    /// Lets the item at `start`, whose subtrees are valid heaps, sink to its place.
    fn sink(&mut self, start: usize) {
        let (item, priority) = (self.item[start], self.priority[start]);
        let hole = self.pass_smaller(start, priority);
        let stop = self.pass_equals(hole, priority);
        if stop != start {
            self.item[stop] = item;
            self.place[item as usize] = stop as u32;
        }
    }

    /// Moves up everybody on the way who is strictly smaller; answers where the hole is then. The
    /// hole has the priority of who sinks already.
    fn pass_smaller(&mut self, start: usize, priority: f64) -> usize {
        let mut hole = start;
        // Whether the one last moved up, into the parent of the hole, equals its other child.
        let mut equal = false;
        let mut moved = f64::NEG_INFINITY;
        while let Some((child, smallest, equals)) = self.smaller_child(hole) {
            if smallest >= priority {
                break;
            }
            if hole != start {
                self.mark((hole - 1) / 2, equal || moved >= smallest);
            }
            self.shift(child, hole);
            (hole, equal, moved) = (child, equals, smallest);
        }
        if hole != start {
            self.mark((hole - 1) / 2, equal);
            self.priority[hole] = priority;
            if start > 0 {
                self.mark((start - 1) / 2, true);
            }
        }
        hole
    }

    /// Moves up everybody on the way who is equal. No priority changes below the hole.
    fn pass_equals(&mut self, start: usize, priority: f64) -> usize {
        let mut hole = start;
        while let Some((child, smallest, _)) = self.smaller_child(hole) {
            if priority < smallest {
                break;
            }
            let item = self.item[child];
            self.item[hole] = item;
            self.place[item as usize] = hole as u32;
            hole = child;
        }
        self.mark(start, hole != start);
        hole
    }

    /// The left child if it is strictly smaller than the right one, else the right; its priority;
    /// whether both are equal.
    fn smaller_child(&self, node: usize) -> Option<(usize, f64, bool)> {
        let left = 2 * node + 1;
        match self.priority.get(left..)? {
            [first, second, ..] if first >= second => Some((left + 1, *second, first <= second)),
            [first, ..] => Some((left, *first, false)),
            [] => None,
        }
    }

    /// Refreshes a place and its ancestors up to the root.
    fn refresh_upward(&mut self, from: usize) {
        let mut node = from;
        while node > 0 {
            node = (node - 1) / 2;
            self.refresh(node);
        }
    }

    fn shift(&mut self, from: usize, to: usize) {
        self.put(to, self.item[from], self.priority[from]);
    }

    fn put(&mut self, place: usize, item: u32, priority: f64) {
        self.item[place] = item;
        self.priority[place] = priority;
        self.place[item as usize] = place as u32;
    }

    fn refresh(&mut self, node: usize) {
        let children = self.smaller_child(node);
        self.mark(
            node,
            children.is_some_and(|(_, smallest, _)| self.priority[node] >= smallest),
        );
    }

    fn mark(&mut self, node: usize, unsettled: bool) {
        let word = &mut self.unsettled[node / WORD_BITS];
        let bit = node % WORD_BITS;
        *word = (*word & !(1 << bit)) | (u64::from(unsettled) << bit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rebuild as the model tells it: every inner node, the last first; to a leaf and back up.
    fn rebuild(array: &mut [(f64, u32)]) {
        for start in (0..array.len() / 2).rev() {
            let moved = array[start];
            let mut hole = start;
            while 2 * hole + 1 < array.len() {
                let left = 2 * hole + 1;
                let right = left + 1;
                let take_right = right < array.len() && array[left].0 >= array[right].0;
                let child = if take_right { right } else { left };
                array[hole] = array[child];
                hole = child;
            }
            while hole > start && moved.0 < array[(hole - 1) / 2].0 {
                array[hole] = array[(hole - 1) / 2];
                hole = (hole - 1) / 2;
            }
            array[hole] = moved;
        }
    }

    fn array(heap: &Heap) -> Vec<(f64, u32)> {
        heap.items()
            .iter()
            .map(|&item| (heap.priority(item), item))
            .collect()
    }

    /// A small generator for tests.
    fn draw(state: &mut u64, below: u64) -> u64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % below
    }

    #[test]
    fn a_lazy_rebuild_arranges_equals_as_a_whole_one_does() {
        for seed in 0..400 {
            let mut state = seed;
            let kinds = 1 + draw(&mut state, 12);
            let mut heap = Heap::default();
            let mut next = 0;
            for _ in 0..200 {
                match draw(&mut state, 8) {
                    0..3 => {
                        heap.push(next, draw(&mut state, kinds) as f64);
                        next += 1;
                    }
                    3 => drop(heap.pop()),
                    4 if heap.len() > 0 => {
                        let place = draw(&mut state, heap.len() as u64) as usize;
                        heap.remove(heap.items()[place]);
                    }
                    5 => heap.set_all(|item, old| old - f64::from(item % 3)),
                    _ if heap.len() > 0 => {
                        let place = draw(&mut state, heap.len() as u64) as usize;
                        heap.set(heap.items()[place], draw(&mut state, kinds) as f64);
                    }
                    _ => {}
                }
                for _ in 0..=draw(&mut state, 2) {
                    let mut whole = array(&heap);
                    rebuild(&mut whole);
                    heap.heapify();
                    assert_eq!(array(&heap), whole, "seed {seed}");
                }
            }
        }
    }
}
