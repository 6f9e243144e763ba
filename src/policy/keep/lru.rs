//! Least recently used: what was not needed for longest will not be needed soonest.
//!
//!     worth = time of the last use

use super::{Policy, Thing};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lru;

impl Policy for Lru {
    const NAME: &'static str = "lru";
    const TITLE: &'static str = "LRU";

    fn worth(&self, thing: &Thing) -> f64 {
        thing.last_use.as_secs_f64()
    }
}
