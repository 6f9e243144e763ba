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
//!
//! Where there are many equals (RAND has ten priorities for all) most of a rebuild is such
//! rotations, and there is a shortcut. A node leads on to its smaller child if that is its equal;
//! so equals stand in *chains*, and sinking all nodes of a chain, the lowest first, turns the chain
//! round. A rebuild of a valid heap turns every chain round, and a second one turns them back. So
//! a rebuild of a heap in which nothing changed is only remembered (`turned`), and one of a heap in
//! which a few priorities were set meanwhile visits the chains that those touch: for all others
//! the two rebuilds cancel out.
//!
//! ```text
//! upright --heapify--> turned --heapify--> upright
//!                        | set: chains touched are turned round now and must sink
//!                        v
//!                      turned, some must sink --heapify (sink those)--> upright
//! ```

/// With fewer unsettled nodes than this it is cheaper to sink them than to keep count of chains.
const TURN_MIN: u32 = if cfg!(test) { 2 } else { 32 };
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
    /// Something changed since the last rebuild.
    changed: bool,
    /// Every chain is to be read the other way round, but for those that must sink.
    turned: bool,
    /// One bit a place: to be sunk by the next rebuild, though `turned`.
    must_sink: Vec<u64>,
    /// The chain in hand: reused, so that nothing is allocated.
    chain: Chain,
}

/// Where a chain of equals begins and how it goes on, from above.
type Chain = Vec<u32>;

impl Heap {
    pub fn len(&self) -> usize {
        self.item.len()
    }

    /// Items in no particular order.
    pub fn items(&self) -> &[u32] {
        &self.item
    }

    /// Where in the array the item stands.
    pub fn place(&self, item: u32) -> u32 {
        let place = self.place[item as usize];
        if !self.turned || is_set(&self.must_sink, place as usize) {
            return place;
        }
        let (mut above, mut below) = (0, 0);
        let mut node = place as usize;
        while let Some(parent) = self.leads_here(node) {
            (node, above) = (parent, above + 1);
        }
        let mut node = place as usize;
        while let Some(child) = self.leads_to(node) {
            (node, below) = (child, below + 1);
        }
        // As far from the one end as it stands from the other.
        let mut node = place as usize;
        for _ in below..above {
            node = (node - 1) / 2;
        }
        for _ in above..below {
            node = self.leads_to(node).expect("it was just gone down");
        }
        node as u32
    }

    /// Equals have one priority, wherever in their chain they stand.
    pub fn priority(&self, item: u32) -> f64 {
        self.priority[self.place[item as usize] as usize]
    }

    /// The smaller child, if it is an equal, and need not sink: who must is in no chain any more.
    fn leads_to(&self, node: usize) -> Option<usize> {
        let (child, smallest, _) = self.smaller_child(node)?;
        // Nobody who need not sink has a child that is smaller.
        let is_equal = smallest <= self.priority[node];
        (is_equal && !is_set(&self.must_sink, child)).then_some(child)
    }

    /// The parent, if it leads to this node, and need not sink.
    fn leads_here(&self, node: usize) -> Option<usize> {
        let parent = node.checked_sub(1)? / 2;
        let leads = !is_set(&self.must_sink, parent) && self.leads_to(parent) == Some(node);
        leads.then_some(parent)
    }

    /// Takes the chain of a node that need not sink in hand.
    fn find_chain(&mut self, node: usize) {
        let top = core::iter::successors(Some(node), |&node| self.leads_here(node));
        let mut next = top.last();
        self.chain.clear();
        while let Some(node) = next {
            self.chain.push(node as u32);
            next = self.leads_to(node);
        }
    }

    /// Turns the chain in hand round, from this link on.
    fn turn_round(&mut self, from: usize) {
        let chain = &self.chain[from..];
        for (&upper, &lower) in chain.iter().zip(chain.iter().rev()).take(chain.len() / 2) {
            self.item.swap(upper as usize, lower as usize);
            self.place[self.item[upper as usize] as usize] = upper;
            self.place[self.item[lower as usize] as usize] = lower;
        }
    }

    /// Makes the array what it is said to be, for who moves about in it.
    fn settle(&mut self) {
        if core::mem::take(&mut self.turned) {
            self.turn_all();
        }
    }

    fn turn_all(&mut self) {
        debug_assert!(
            self.must_sink.iter().all(|&word| word == 0),
            "priorities were set; a rebuild comes next"
        );
        for word in 0..self.unsettled.len() {
            let mut waiting = self.unsettled[word];
            while waiting != 0 {
                let node = word * WORD_BITS + waiting.trailing_zeros() as usize;
                waiting &= waiting - 1;
                if self.leads_here(node).is_none() {
                    self.find_chain(node);
                    self.turn_round(0);
                }
            }
        }
    }

    /// While `turned`: the chain of this node is told apart from the others. What of it is behind
    /// `now` the rebuild has passed already, as a chain of its own; the rest must sink.
    fn expose(&mut self, node: usize, now: usize) {
        if is_set(&self.must_sink, node) {
            return;
        }
        self.find_chain(node);
        self.turn_round(0);
        let passed = self.chain.partition_point(|&place| place as usize <= now);
        self.turn_round(passed);
        for &place in &self.chain[..passed] {
            put(&mut self.must_sink, place as usize, true);
        }
    }

    /// Appends, and climbs while strictly smaller than the parent.
    pub fn push(&mut self, item: u32, priority: f64) {
        self.settle();
        self.changed = true;
        let mut hole = self.item.len();
        self.item.push(item);
        self.priority.push(priority);
        if self.place.len() <= item as usize {
            self.place.resize(item as usize + 1, 0);
        }
        if self.unsettled.len() * WORD_BITS <= hole {
            self.unsettled.push(0);
            self.must_sink.push(0);
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
        self.settle();
        self.changed = true;
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
        self.settle();
        self.changed = true;
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
        self.changed = true;
        if self.turned {
            self.expose(place, usize::MAX);
            if place > 0 {
                self.expose((place - 1) / 2, usize::MAX);
            }
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
        self.settle();
        self.changed = true;
        for (old, &item) in self.priority.iter_mut().zip(&self.item) {
            *old = priority(item, *old);
        }
        for place in 0..self.item.len() / 2 {
            self.refresh(place);
        }
    }

    /// Sinks every inner node, the last first, or does what comes to the same.
    pub fn heapify(&mut self) {
        if !core::mem::take(&mut self.changed) && (self.turned || self.has_many_equals()) {
            self.turned = !self.turned;
        } else if core::mem::take(&mut self.turned) {
            self.sink_exposed();
        } else {
            self.sink_unsettled();
        }
    }

    /// As `heapify`, for who rebuilds again before anything changes: two such rebuilds cancel out.
    pub fn heapify_for_now(&mut self) {
        if self.changed {
            self.heapify();
        } else {
            self.turned = !self.turned;
        }
    }

    fn has_many_equals(&self) -> bool {
        let unsettled = self.unsettled.iter().map(|word| word.count_ones());
        unsettled.sum::<u32>() >= TURN_MIN
    }

    /// The second of two rebuilds, after which all other chains are as they were before the first.
    fn sink_exposed(&mut self) {
        for word in (0..self.must_sink.len()).rev() {
            while self.must_sink[word] != 0 {
                let bit = WORD_BITS - 1 - self.must_sink[word].leading_zeros() as usize;
                let node = word * WORD_BITS + bit;
                let child = self.smaller_child(node);
                if node > 0 && child.is_some_and(|(_, smallest, _)| smallest < self.priority[node])
                {
                    // Its place gets a smaller priority, which concerns whoever is above.
                    self.expose((node - 1) / 2, node);
                }
                put(&mut self.must_sink, node, false);
                if child.is_some() {
                    self.sink(node);
                }
            }
        }
    }

    fn sink_unsettled(&mut self) {
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
        put(&mut self.unsettled, node, unsettled);
    }
}

fn is_set(bits: &[u64], at: usize) -> bool {
    bits[at / WORD_BITS] & (1 << (at % WORD_BITS)) != 0
}

fn put(bits: &mut [u64], at: usize, set: bool) {
    // Mostly it is so already, and what is not written need not be waited for by who reads next.
    if is_set(bits, at) != set {
        bits[at / WORD_BITS] ^= 1 << (at % WORD_BITS);
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
        let mut array = vec![(0.0, u32::MAX); heap.len()];
        for &item in heap.items() {
            array[heap.place(item) as usize] = (heap.priority(item), item);
        }
        assert!(array.iter().all(|(_, item)| *item != u32::MAX));
        array
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
        for seed in 0..1_200 {
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
                        // As for all containers of a function.
                        for _ in 0..draw(&mut state, 4) {
                            let place = draw(&mut state, heap.len() as u64) as usize;
                            heap.set(heap.items()[place], draw(&mut state, kinds) as f64);
                        }
                    }
                    _ => {}
                }
                for _ in 0..=draw(&mut state, 2) {
                    let mut whole = array(&heap);
                    rebuild(&mut whole);
                    if draw(&mut state, 3) == 0 {
                        heap.heapify_for_now();
                    } else {
                        heap.heapify();
                    }
                    assert_eq!(array(&heap), whole, "seed {seed}");
                }
            }
        }
    }
}
