//! Amounts of memory. Configuration speaks of megabytes (of 2^20 bytes), the kernel of bytes.

use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Mul, Sub, SubAssign};
use serde::{Deserialize, Serialize};

const MEGABYTE: u64 = 1 << 20;

/// An amount of memory. Sums saturate; a difference below zero is zero.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Bytes(u64);

impl Bytes {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(u64::MAX);

    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn from_mb(megabytes: u64) -> Self {
        Self(megabytes.saturating_mul(MEGABYTE))
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub fn as_mb(self) -> f64 {
        self.0 as f64 / MEGABYTE as f64
    }

    /// This share of the amount, rounded down.
    #[must_use]
    pub const fn percent(self, percent: u32) -> Self {
        Self((self.0 / 100).saturating_mul(percent as u64))
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Bytes {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Mul<u64> for Bytes {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB", self.as_mb())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_neither_wrap_nor_go_below_zero() {
        assert_eq!(Bytes::MAX + Bytes::from_mb(1), Bytes::MAX);
        assert_eq!(Bytes::from_mb(1) - Bytes::from_mb(2), Bytes::ZERO);
        assert_eq!(Bytes::from_mb(200).percent(20), Bytes::from_mb(40));
        assert_eq!(
            alloc::format!("{}", Bytes::from_mb(3) + Bytes::new(1 << 19)),
            "3.5 MB"
        );
    }
}
