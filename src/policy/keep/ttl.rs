//! A time to live: nothing idle stays longer, whether its memory is needed or not.
//!
//! What public clouds do. When memory is short before that time, the least recently used goes.
//!
//!     worth = time of the last use

use super::{Policy, Stay, Thing};
use crate::base::Duration;
use serde::{Deserialize, Serialize};

const TIME_TO_LIVE: Duration = Duration::from_mins(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ttl;

impl Policy for Ttl {
    const NAME: &'static str = "ttl";
    const TITLE: &'static str = "TTL";

    fn worth(&self, thing: &Thing) -> f64 {
        thing.last_use.as_secs_f64()
    }

    fn stay(&self) -> Stay {
        Stay::for_span(TIME_TO_LIVE)
    }
}
