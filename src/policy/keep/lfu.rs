//! Least frequently used: the favourites stay.
//!
//!     worth = uses

use super::{Policy, Thing, Use, Uses};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Lfu(Uses);

impl Policy for Lfu {
    const NAME: &'static str = "lfu";
    const TITLE: &'static str = "FREQ";

    fn used(&mut self, used: &Use) {
        self.0.add(used);
    }

    fn lost(&mut self, left: u32) {
        self.0.lost(left);
    }

    fn worth(&self, _thing: &Thing) -> f64 {
        self.0.count
    }
}
