//! Who holds how much of what the machine has: memory, descriptors, processes.
//!
//! A `Charge` is a receipt: made by `take` only, destroyed by `give_back` only, held by the sandbox
//! it was made for. Memory is charged by an estimate at first and by what was measured afterwards,
//! so the sum may exceed the limit; the evictor then has something to do, and nothing is started
//! meanwhile. What dying sandboxes hold is still held, but known to be coming back.

use super::params::DESCRIPTORS_OF_A_SANDBOX;
use crate::base::Bytes;
use serde::{Deserialize, Serialize};

/// An amount of everything that is scarce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Amount {
    pub memory: Bytes,
    pub descriptors: u32,
    pub processes: u32,
    /// Places in the engine's own table of instances.
    pub instances: u32,
}

impl Amount {
    /// Its descriptors; a process, and one that it may start without the estimate being wrong.
    pub const fn of_instance(memory: Bytes) -> Self {
        Self {
            memory,
            descriptors: DESCRIPTORS_OF_A_SANDBOX,
            processes: 2,
            instances: 1,
        }
    }

    pub const fn of_zygote(memory: Bytes) -> Self {
        Self {
            instances: 0,
            ..Self::of_instance(memory)
        }
    }

    pub const fn of_memory(memory: Bytes) -> Self {
        Self {
            memory,
            descriptors: 0,
            processes: 0,
            instances: 0,
        }
    }

    pub const fn times(self, times: u32) -> Self {
        Self {
            memory: Bytes::new(self.memory.get().saturating_mul(times as u64)),
            descriptors: self.descriptors.saturating_mul(times),
            processes: self.processes.saturating_mul(times),
            instances: self.instances.saturating_mul(times),
        }
    }

    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// What of `self` `other` does not cover.
    pub fn beyond(self, other: Self) -> Self {
        Self {
            memory: self.memory - other.memory,
            descriptors: self.descriptors.saturating_sub(other.descriptors),
            processes: self.processes.saturating_sub(other.processes),
            instances: self.instances.saturating_sub(other.instances),
        }
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            memory: self.memory + other.memory,
            descriptors: self.descriptors.saturating_add(other.descriptors),
            processes: self.processes.saturating_add(other.processes),
            instances: self.instances.saturating_add(other.instances),
        }
    }
}

/// The receipt for what one sandbox holds. Cloned with the whole engine only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "what was taken must be given back"]
pub(super) struct Charge {
    amount: Amount,
    state: Holding,
}

/// What can be said about what a sandbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Holding {
    Working,
    /// Could be had back by an eviction.
    Idle,
    /// Is coming back: the sandbox was killed and has not exited.
    Leaving,
}

impl Charge {
    pub const fn memory(&self) -> Bytes {
        self.amount.memory
    }
}

/// The sums, and the limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ledger {
    limit: Amount,
    held: Amount,
    idle: Amount,
    leaving: Amount,
}

impl Ledger {
    pub const fn new(limit: Amount) -> Self {
        const NOTHING: Amount = Amount::of_memory(Bytes::ZERO);
        Self {
            limit,
            held: NOTHING,
            idle: NOTHING,
            leaving: NOTHING,
        }
    }

    pub fn set_limit(&mut self, limit: Amount) {
        self.limit = limit;
    }

    pub const fn limit(&self) -> Amount {
        self.limit
    }

    pub const fn held(&self) -> Amount {
        self.held
    }

    pub const fn idle(&self) -> Amount {
        self.idle
    }

    pub const fn leaving(&self) -> Amount {
        self.leaving
    }

    pub fn free(&self) -> Amount {
        self.limit.beyond(self.held)
    }

    /// What is free once those who are leaving have left.
    pub fn expected(&self) -> Amount {
        self.limit.plus(self.leaving).beyond(self.held)
    }

    /// A receipt for the amount, or nothing when it is not there.
    pub fn take(&mut self, amount: Amount) -> Option<Charge> {
        if !amount.beyond(self.free()).is_nothing() {
            return None;
        }
        self.held = self.held.plus(amount);
        Some(Charge {
            amount,
            state: Holding::Working,
        })
    }

    /// Corrects the memory of a charge to what was measured.
    pub fn measure(&mut self, charge: &mut Charge, memory: Bytes) {
        let state = charge.state;
        self.mark(charge, Holding::Working);
        self.held.memory = self.held.memory - charge.amount.memory + memory;
        charge.amount.memory = memory;
        self.mark(charge, state);
    }

    /// Tells what can be said about this charge from now on.
    pub fn mark(&mut self, charge: &mut Charge, state: Holding) {
        match charge.state {
            Holding::Working => {}
            Holding::Idle => self.idle = self.idle.beyond(charge.amount),
            Holding::Leaving => self.leaving = self.leaving.beyond(charge.amount),
        }
        charge.state = state;
        match state {
            Holding::Working => {}
            Holding::Idle => self.idle = self.idle.plus(charge.amount),
            Holding::Leaving => self.leaving = self.leaving.plus(charge.amount),
        }
    }

    pub fn give_back(&mut self, mut charge: Charge) {
        self.mark(&mut charge, Holding::Working);
        self.held = self.held.beyond(charge.amount);
    }

    /// Whether the sums are those of exactly these charges.
    pub fn balances<'a, I: Iterator<Item = &'a Charge>>(&self, charges: I) -> bool {
        let mut audit = Self::new(self.limit);
        for charge in charges {
            audit.held = audit.held.plus(charge.amount);
            match charge.state {
                Holding::Working => {}
                Holding::Idle => audit.idle = audit.idle.plus(charge.amount),
                Holding::Leaving => audit.leaving = audit.leaving.plus(charge.amount),
            }
        }
        (audit.held, audit.idle, audit.leaving) == (self.held, self.idle, self.leaving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_receipts(
            steps in prop::collection::vec((0_u8..4, 0_usize..16, 0_u64..40), 1..200),
        ) {
            let limit = Amount {
                memory: Bytes::new(100),
                descriptors: 40,
                processes: 20,
                instances: 9,
            };
            let mut ledger = Ledger::new(limit);
            let mut charges: Vec<Charge> = Vec::new();
            for (step, place, memory) in steps {
                let memory = Bytes::new(memory);
                match step {
                    0 => {
                        let free = ledger.free();
                        let amount = Amount::of_instance(memory);
                        let taken = ledger.take(amount);
                        prop_assert_eq!(taken.is_some(), amount.beyond(free).is_nothing());
                        charges.extend(taken);
                    }
                    _ if charges.is_empty() => {}
                    1 => {
                        let place = place % charges.len();
                        ledger.give_back(charges.swap_remove(place));
                    }
                    2 => {
                        let place = place % charges.len();
                        ledger.measure(&mut charges[place], memory);
                    }
                    _ => {
                        let states = [Holding::Working, Holding::Idle, Holding::Leaving];
                        let count = charges.len();
                        ledger.mark(&mut charges[place % count], states[place % 3]);
                    }
                }
                prop_assert!(ledger.balances(charges.iter()));
            }
            for charge in charges {
                ledger.give_back(charge);
            }
            prop_assert_eq!(ledger.held(), Amount::default());
            prop_assert_eq!(ledger.free(), limit);
        }
    }
}
