//! Lists of things that live in a slab, without allocating: the links are kept beside the slab.
//!
//! A `Links` belongs to one kind of membership (say "an instance's place in its function"); any
//! number of `Chain`s share it, and a thing is in at most one of them at a time. Everything is
//! constant time; the owner says which chain a thing is in.
//!
//! ```text
//! Chain { first, last, len }
//!           |      +-----------------+
//!           v                        v
//!         [ 4 ] <-> [ 9 ] <-> ... [ 2 ]     Links, by place in the slab
//! ```

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const NONE: u32 = u32::MAX;

/// The ends of one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    first: u32,
    last: u32,
    len: u32,
}

/// The links of all lists of one kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Links {
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Link {
    previous: u32,
    next: u32,
}

impl Chain {
    pub const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
        len: 0,
    };

    pub const fn len(&self) -> u32 {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub const fn first(&self) -> Option<u32> {
        some(self.first)
    }

    pub const fn last(&self) -> Option<u32> {
        some(self.last)
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::EMPTY
    }
}

const fn some(index: u32) -> Option<u32> {
    if index == NONE { None } else { Some(index) }
}

impl Links {
    pub const fn new() -> Self {
        Self { links: Vec::new() }
    }

    pub fn push_first(&mut self, chain: &mut Chain, index: u32) {
        self.insert_between(chain, NONE, index, chain.first);
    }

    pub fn push_last(&mut self, chain: &mut Chain, index: u32) {
        self.insert_between(chain, chain.last, index, NONE);
    }

    /// Puts `index` behind `previous`, which is in this chain; in front of all when there is none.
    pub fn insert_after(&mut self, chain: &mut Chain, previous: Option<u32>, index: u32) {
        let (previous, next) = match previous {
            Some(previous) => (previous, self.links[previous as usize].next),
            None => (NONE, chain.first),
        };
        self.insert_between(chain, previous, index, next);
    }

    pub fn pop_first(&mut self, chain: &mut Chain) -> Option<u32> {
        let index = chain.first()?;
        self.remove(chain, index);
        Some(index)
    }

    /// Takes `index` out of this chain, which it must be in.
    pub fn remove(&mut self, chain: &mut Chain, index: u32) {
        let Link { previous, next } = self.links[index as usize];
        if let Some(previous) = some(previous) {
            self.links[previous as usize].next = next;
        } else {
            debug_assert_eq!(chain.first, index, "removed from the chain it is in");
            chain.first = next;
        }
        if let Some(next) = some(next) {
            self.links[next as usize].previous = previous;
        } else {
            debug_assert_eq!(chain.last, index, "removed from the chain it is in");
            chain.last = previous;
        }
        chain.len -= 1;
    }

    pub fn next(&self, index: u32) -> Option<u32> {
        some(self.links[index as usize].next)
    }

    pub fn previous(&self, index: u32) -> Option<u32> {
        some(self.links[index as usize].previous)
    }

    pub fn iter(&self, chain: &Chain) -> impl Iterator<Item = u32> {
        let mut at = chain.first();
        core::iter::from_fn(move || {
            let index = at?;
            at = self.next(index);
            Some(index)
        })
    }

    fn insert_between(&mut self, chain: &mut Chain, previous: u32, index: u32, next: u32) {
        let needed = index as usize + 1;
        if self.links.len() < needed {
            let unlinked = Link {
                previous: NONE,
                next: NONE,
            };
            self.links.resize(needed, unlinked);
        }
        self.links[index as usize] = Link { previous, next };
        match some(previous) {
            Some(previous) => self.links[previous as usize].next = index,
            None => chain.first = index,
        }
        match some(next) {
            Some(next) => self.links[next as usize].previous = index,
            None => chain.last = index,
        }
        chain.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;
    use alloc::collections::VecDeque;

    #[test]
    fn behaves_as_a_deque_would() {
        let mut random = Random::new(7);
        let mut links = Links::new();
        let mut chain = Chain::EMPTY;
        let mut model = VecDeque::new();
        for index in 0..2_000_u32 {
            match random.below(5) {
                0 | 1 => {
                    links.push_last(&mut chain, index);
                    model.push_back(index);
                }
                2 => {
                    links.push_first(&mut chain, index);
                    model.push_front(index);
                }
                3 => assert_eq!(links.pop_first(&mut chain), model.pop_front()),
                _ if model.is_empty() => {}
                _ => {
                    let place = random.below(model.len() as u64) as usize;
                    let taken = model.remove(place).unwrap();
                    links.remove(&mut chain, taken);
                    let before = place.checked_sub(1).map(|place| model[place]);
                    if random.below(2) == 0 {
                        links.insert_after(&mut chain, before, taken);
                        model.insert(place, taken);
                    }
                }
            }
            assert_eq!(chain.len() as usize, model.len());
            assert_eq!(chain.last(), model.back().copied());
            assert!(links.iter(&chain).eq(model.iter().copied()));
        }
    }
}
