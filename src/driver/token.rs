//! Who a completion of `io` is for: one `u64` that says the kind of owner and which one.
//!
//! ```text
//! 63        32 31      24 23        0
//! +-----------+----------+-----------+
//! | generation|   kind   |   index   |
//! +-----------+----------+-----------+
//! ```
//!
//! The generation is that of the owner's key, so a completion for an owner that died meanwhile
//! finds nobody, which is an ordinary case.

use crate::base::Key;
use crate::io::Token;

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// The rooms of the driver that own descriptors, each with a slab of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Owner {
    /// Listening sockets: `front`.
    Listener = 1,
    /// Connections of clients: `front`.
    Client = 2,
    /// The worker's ends of the socketpairs that instances serve.
    Instance = 3,
    /// Pidfds of instances.
    InstanceExit = 4,
    /// Control sockets of zygotes.
    Zygote = 5,
    /// Pidfds of zygotes.
    ZygoteExit = 6,
    /// The signalfd.
    Signals = 7,
    /// Helper threads that finished something.
    Helper = 8,
    /// What instances print.
    Output = 9,
    /// Kernel notifications: cgroup.events, pressure.
    Kernel = 10,
    /// Helper threads of the package store.
    Depot = 11,
    /// Pidfds of installers.
    Errand = 12,
    /// Forks of processes that stand by: the key is their zygote's.
    Standby = 13,
}

impl Owner {
    const ALL: [Self; 13] = [
        Self::Listener,
        Self::Client,
        Self::Instance,
        Self::InstanceExit,
        Self::Zygote,
        Self::ZygoteExit,
        Self::Signals,
        Self::Helper,
        Self::Output,
        Self::Kernel,
        Self::Depot,
        Self::Errand,
        Self::Standby,
    ];

    /// The token of this owner's thing `key`.
    pub fn token<T>(self, key: Key<T>) -> Token {
        let packed = key.pack();
        let (generation, index) = ((packed >> 32) as u32, packed as u32);
        assert!(
            index <= INDEX_MASK,
            "slabs of the driver are bounded far below {INDEX_MASK}"
        );
        let low = ((self as u32) << INDEX_BITS) | index;
        Token((u64::from(generation) << 32) | u64::from(low))
    }

    /// Whose token this is, and the key; the caller knows which slab the owner's keys name.
    pub fn of<T>(token: Token) -> (Self, Key<T>) {
        let kind = ((token.0 as u32) >> INDEX_BITS) as usize;
        let owner = Self::ALL[kind
            .checked_sub(1)
            .expect("tokens are made by Owner::token only")];
        (
            owner,
            Key::new(token.0 as u32 & INDEX_MASK, (token.0 >> 32) as u32),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_owner_finds_its_key_again() {
        for owner in Owner::ALL {
            for key in [
                Key::<u8>::new(0, 0),
                Key::new(INDEX_MASK, u32::MAX),
                Key::new(3, 9),
            ] {
                assert_eq!(Owner::of(owner.token(key)), (owner, key));
            }
        }
    }
}
