//! At random: what every other policy must be better than.
//!
//!     worth = a number that is the same until the thing is used again

use super::{Policy, Thing, Use};
use crate::base::Random;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rand {
    uses: u64,
}

impl Policy for Rand {
    const NAME: &'static str = "rand";
    const TITLE: &'static str = "RAND";

    fn used(&mut self, _used: &Use) {
        self.uses += 1;
    }

    fn worth(&self, thing: &Thing) -> f64 {
        Random::new(thing.name ^ self.uses.rotate_left(32)).unit()
    }
}
