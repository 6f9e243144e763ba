//! Sets of packages by number, a bit each: the one thing that fitting does millions of times is to
//! ask whether one set lies within another.

use alloc::boxed::Box;
use alloc::vec;

/// Packages of one workload, by their number in it. All sets of a workload are of one length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemSet(Box<[u64]>);

const BITS: usize = u64::BITS as usize;

impl ItemSet {
    /// Room for this many packages, none of them in it.
    pub fn new(items: usize) -> Self {
        Self(vec![0; items.div_ceil(BITS)].into_boxed_slice())
    }

    /// Those of `numbers` that are below `items`.
    pub fn of<I: IntoIterator<Item = u32>>(items: usize, numbers: I) -> Self {
        let mut set = Self::new(items);
        for number in numbers {
            if (number as usize) < items {
                set.insert(number as usize);
            }
        }
        set
    }

    pub fn insert(&mut self, item: usize) {
        self.0[item / BITS] |= 1 << (item % BITS);
    }

    pub fn remove(&mut self, item: usize) {
        self.0[item / BITS] &= !(1 << (item % BITS));
    }

    pub fn has(&self, item: usize) -> bool {
        self.0[item / BITS] >> (item % BITS) & 1 == 1
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether everything in it is in `other` too.
    pub fn is_within(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// Drops what is not in `other` too.
    pub fn keep(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine &= theirs;
        }
    }

    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.zipped(other, |mine, theirs| mine & theirs)
    }

    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.zipped(other, |mine, theirs| mine | theirs)
    }

    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.zipped(other, |mine, theirs| mine & !theirs)
    }

    fn zipped<F: Fn(u64, u64) -> u64>(&self, other: &Self, join: F) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(pairs.map(|(mine, theirs)| join(*mine, *theirs)).collect())
    }

    /// The numbers in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(place, word)| {
            let mut rest = *word;
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(place * BITS + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn sets_do_what_sets_do() {
        let set = |numbers: &[u32]| ItemSet::of(130, numbers.iter().copied());
        let (small, large) = (set(&[1, 64, 129]), set(&[0, 1, 64, 65, 129, 500]));
        assert!(small.is_within(&large) && !large.is_within(&small));
        assert_eq!(small.and(&large), small);
        assert_eq!(small.or(&large), large);
        assert_eq!(large.without(&small), set(&[0, 65]));
        assert_eq!(small.iter().collect::<Vec<_>>(), [1, 64, 129]);
        assert_eq!((small.len(), large.len()), (3, 5));
        assert!(ItemSet::new(0).is_empty() && !small.is_empty());
        assert!(small.has(64) && !small.has(63));
    }
}
