//! Greedy dual by size and frequency: the larder.
//!
//! What is used often, is dear to make again and takes little room stays longest; and since all
//! count from a clock that stands at the worth of the last thing thrown out, yesterday's favourite
//! is thrown out in the end.
//!
//!     worth = clock at the last use + uses * rebuild cost / memory
//!
//! Rejected: uses of the sandboxes alive only, as published: the past of a function is forgotten
//! whenever memory is short, which is when it is needed.

use super::{Policy, Thing, Use, Uses};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Gdsf(Uses);

impl Policy for Gdsf {
    const NAME: &'static str = "gdsf";
    const TITLE: &'static str = "GD";
    const HAS_CLOCK: bool = true;

    fn used(&mut self, used: &Use) {
        self.0.add(used);
    }

    fn lost(&mut self, left: u32) {
        self.0.lost(left);
    }

    fn worth(&self, thing: &Thing) -> f64 {
        self.0.clock + self.0.count * thing.rebuild_ms() / thing.megabytes()
    }
}
