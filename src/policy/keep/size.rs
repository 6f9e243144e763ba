//! By size: many small ones rather than one large one.
//!
//!     worth = clock at the last use + uses / memory

use super::{Policy, Thing, Use, Uses};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Size(Uses);

impl Policy for Size {
    const NAME: &'static str = "size";
    const TITLE: &'static str = "SIZE";
    const HAS_CLOCK: bool = true;

    fn used(&mut self, used: &Use) {
        self.0.add(used);
    }

    fn lost(&mut self, left: u32) {
        self.0.lost(left);
    }

    fn worth(&self, thing: &Thing) -> f64 {
        self.0.clock + self.0.count / thing.megabytes()
    }
}
