//! A key names a thing that may die: an index into a slab, and the generation of that place.
//!
//! A stale key (the thing died meanwhile, its place was given away) is an ordinary value one can
//! meet: looking it up gives `None`. Packed into a `u64` it travels as a token of `io`.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names one `T` for its whole life, and nothing after it.
pub struct Key<T> {
    index: u32,
    generation: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    pub const fn new(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation,
            kind: PhantomData,
        }
    }

    pub const fn index(self) -> usize {
        self.index as usize
    }

    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Generation above, index below.
    pub const fn pack(self) -> u64 {
        ((self.generation as u64) << 32) | self.index as u64
    }

    /// The same place and generation, as the name of another kind of thing: for two rooms that keep
    /// what belongs together under one name.
    pub const fn alike<U>(self) -> Key<U> {
        Key::new(self.index, self.generation)
    }

    pub const fn unpack(packed: u64) -> Self {
        Self::new(packed as u32, (packed >> 32) as u32)
    }

    /// The same place under the name another room has for what it keeps there.
    pub const fn rename<U>(self) -> Key<U> {
        Key::new(self.index, self.generation)
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.pack() == other.pack()
    }
}

impl<T> Eq for Key<T> {}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.pack().cmp(&other.pack())
    }
}

impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pack().hash(state);
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<T> fmt::Display for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl<T> Serialize for Key<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.pack())
    }
}

impl<'de, T> Deserialize<'de> for Key<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::unpack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_its_own_inverse() {
        for key in [
            Key::<u8>::new(0, 0),
            Key::new(7, 9),
            Key::new(u32::MAX, u32::MAX - 1),
        ] {
            assert_eq!(Key::unpack(key.pack()), key);
        }
    }
}
