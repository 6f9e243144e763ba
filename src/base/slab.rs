//! A bounded slab with generational keys: the only way this project names things that die.
//!
//! Places are reused last in, first out (warm in the cache); a place's generation grows by one at
//! each removal, so a key from before never finds what lives there now.

use super::Key;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};
use serde::{Deserialize, Serialize};

/// At most `capacity` values; insertion into a full slab hands the value back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free_head: Option<u32>,
    len: usize,
    capacity: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Place<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Content<T> {
    Free { next: Option<u32> },
    Used(T),
}

impl<T> Slab<T> {
    pub const fn new(capacity: usize) -> Self {
        assert!(capacity <= u32::MAX as usize);
        Self {
            places: Vec::new(),
            free_head: None,
            len: 0,
            capacity,
        }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub const fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Stores the value, or hands it back when the slab is full.
    pub fn insert(&mut self, value: T) -> Result<Key<T>, T> {
        self.insert_with(|_| value)
    }

    /// As `insert`, for a value that wants to know its own key.
    pub fn insert_with<F: FnOnce(Key<T>) -> T>(&mut self, make: F) -> Result<Key<T>, T> {
        let Some(index) = self.free_head else {
            let key = Key::new(self.places.len() as u32, 0);
            let value = make(key);
            if self.places.len() == self.capacity {
                return Err(value);
            }
            self.places.push(Place {
                generation: 0,
                content: Content::Used(value),
            });
            self.len += 1;
            return Ok(key);
        };
        let place = &mut self.places[index as usize];
        let Content::Free { next } = place.content else {
            unreachable!("the free list links free places only")
        };
        let key = Key::new(index, place.generation);
        place.content = Content::Used(make(key));
        self.free_head = next;
        self.len += 1;
        Ok(key)
    }

    pub fn get(&self, key: Key<T>) -> Option<&T> {
        let place = self.places.get(key.index())?;
        match &place.content {
            Content::Used(value) if place.generation == key.generation() => Some(value),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let place = self.places.get_mut(key.index())?;
        match &mut place.content {
            Content::Used(value) if place.generation == key.generation() => Some(value),
            _ => None,
        }
    }

    pub fn contains(&self, key: Key<T>) -> bool {
        self.get(key).is_some()
    }

    /// The key of what lives at this place now.
    pub fn key_at(&self, index: u32) -> Option<Key<T>> {
        let place = self.places.get(index as usize)?;
        match place.content {
            Content::Used(_) => Some(Key::new(index, place.generation)),
            Content::Free { .. } => None,
        }
    }

    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        let place = &mut self.places[key.index()];
        place.generation = place.generation.wrapping_add(1);
        let free = Content::Free {
            next: self.free_head,
        };
        let Content::Used(value) = core::mem::replace(&mut place.content, free) else {
            unreachable!("get found a value here")
        };
        self.free_head = Some(key.index() as u32);
        self.len -= 1;
        Some(value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.places
            .iter()
            .enumerate()
            .filter_map(|(index, place)| match &place.content {
                Content::Used(value) => Some((Key::new(index as u32, place.generation), value)),
                Content::Free { .. } => None,
            })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key<T>, &mut T)> {
        self.places
            .iter_mut()
            .enumerate()
            .filter_map(|(index, place)| match &mut place.content {
                Content::Used(value) => Some((Key::new(index as u32, place.generation), value)),
                Content::Free { .. } => None,
            })
    }

    pub fn keys(&self) -> impl Iterator<Item = Key<T>> {
        self.iter().map(|(key, _)| key)
    }
}

impl<T> Index<Key<T>> for Slab<T> {
    type Output = T;

    /// Of something known to be alive; a stale key here is a bug.
    fn index(&self, key: Key<T>) -> &T {
        let found = self.get(key);
        found.expect("the key was proven live by whoever indexes with it")
    }
}

impl<T> IndexMut<Key<T>> for Slab<T> {
    fn index_mut(&mut self, key: Key<T>) -> &mut T {
        let found = self.get_mut(key);
        found.expect("the key was proven live by whoever indexes with it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::new(2);
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b').unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&'b'));
    }

    #[test]
    fn a_full_slab_hands_the_value_back() {
        let mut slab = Slab::new(1);
        let key = slab.insert('a').unwrap();
        assert_eq!(slab.insert('b'), Err('b'));
        assert!(slab.is_full());
        slab.remove(key);
        assert!(slab.insert('c').is_ok());
        assert_eq!(slab.len(), 1);
    }
}
