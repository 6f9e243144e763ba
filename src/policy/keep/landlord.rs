//! Landlord: everybody pays the same rent for each megabyte.
//!
//! A tenant moves in with a credit of what it takes to have it again; rent is taken from all
//! alike, and who has nothing left goes. Instead of taking from all, the clock of what was taken
//! so far goes up, and credits are counted from it.
//!
//!     worth = clock at the last use + rebuild cost / memory

use super::{Policy, Thing, Use};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Landlord {
    clock: f64,
}

impl Policy for Landlord {
    const NAME: &'static str = "landlord";
    const TITLE: &'static str = "LND";
    const HAS_CLOCK: bool = true;

    fn used(&mut self, used: &Use) {
        self.clock = used.clock;
    }

    fn worth(&self, thing: &Thing) -> f64 {
        self.clock + thing.rebuild_ms() / thing.megabytes()
    }
}
