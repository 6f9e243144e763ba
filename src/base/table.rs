//! A bounded table of things that somebody else named: the mirror of a slab that lives elsewhere.
//!
//! The owner of the slab decides when a place is given away; until then the mirror may keep what it
//! knows under the same key. Meeting a key of an earlier life is ordinary and finds nothing;
//! storing into a place that still holds another life means that its owner gave it away too early.

use super::Key;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};
use serde::{Deserialize, Serialize};

/// At most `capacity` places; grows as indices are met.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table<T> {
    places: Vec<Option<Entry<T>>>,
    len: usize,
    capacity: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry<T> {
    generation: u32,
    value: T,
}

impl<T> Table<T> {
    pub const fn new(capacity: usize) -> Self {
        assert!(capacity <= u32::MAX as usize);
        Self {
            places: Vec::new(),
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

    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Stores the value under `key`, or hands it back when the key lies beyond the capacity.
    ///
    /// Panics when the place is taken: whoever names things here gave a living one's place away.
    pub fn insert(&mut self, key: Key<T>, value: T) -> Result<(), T> {
        if key.index() >= self.capacity {
            return Err(value);
        }
        if key.index() >= self.places.len() {
            self.places.resize_with(key.index() + 1, || None);
        }
        let place = &mut self.places[key.index()];
        assert!(
            place.is_none(),
            "the place of {key} was given away while something lives there"
        );
        *place = Some(Entry {
            generation: key.generation(),
            value,
        });
        self.len += 1;
        Ok(())
    }

    pub fn get(&self, key: Key<T>) -> Option<&T> {
        match self.places.get(key.index()) {
            Some(Some(entry)) if entry.generation == key.generation() => Some(&entry.value),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        match self.places.get_mut(key.index()) {
            Some(Some(entry)) if entry.generation == key.generation() => Some(&mut entry.value),
            _ => None,
        }
    }

    pub fn contains(&self, key: Key<T>) -> bool {
        self.get(key).is_some()
    }

    /// The key of what lives at this place now.
    pub fn key_at(&self, index: u32) -> Option<Key<T>> {
        match self.places.get(index as usize) {
            Some(Some(entry)) => Some(Key::new(index, entry.generation)),
            _ => None,
        }
    }

    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        self.get(key)?;
        self.len -= 1;
        self.places[key.index()].take().map(|entry| entry.value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let entry = place.as_ref()?;
            Some((Key::new(index as u32, entry.generation), &entry.value))
        })
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key<T>, &mut T)> {
        self.places
            .iter_mut()
            .enumerate()
            .filter_map(|(index, place)| {
                let entry = place.as_mut()?;
                Some((Key::new(index as u32, entry.generation), &mut entry.value))
            })
    }

    pub fn keys(&self) -> impl Iterator<Item = Key<T>> {
        self.iter().map(|(key, _)| key)
    }
}

impl<T> Index<Key<T>> for Table<T> {
    type Output = T;

    /// Of something known to be alive; a stale key here is a bug.
    fn index(&self, key: Key<T>) -> &T {
        let found = self.get(key);
        found.expect("the key was proven live by whoever indexes with it")
    }
}

impl<T> IndexMut<Key<T>> for Table<T> {
    fn index_mut(&mut self, key: Key<T>) -> &mut T {
        let found = self.get_mut(key);
        found.expect("the key was proven live by whoever indexes with it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_life_of_the_same_place_is_somebody_else() {
        let mut table = Table::new(2);
        table.insert(Key::new(1, 4), 'a').unwrap();
        assert_eq!(table.get(Key::new(1, 4)), Some(&'a'));
        assert_eq!(table.get(Key::new(1, 5)), None);
        assert_eq!(table.remove(Key::new(1, 3)), None);
        assert_eq!(table.remove(Key::new(1, 4)), Some('a'));
        table.insert(Key::new(1, 5), 'b').unwrap();
        assert_eq!(table.key_at(1), Some(Key::new(1, 5)));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_key_beyond_the_capacity_is_handed_back() {
        let mut table = Table::new(2);
        assert_eq!(table.insert(Key::new(2, 0), 'a'), Err('a'));
    }

    #[test]
    #[should_panic(expected = "given away")]
    fn a_taken_place_is_a_bug() {
        let mut table = Table::new(2);
        table.insert(Key::new(0, 0), 'a').unwrap();
        let _ = table.insert(Key::new(0, 1), 'b');
    }
}
