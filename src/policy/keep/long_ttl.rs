//! As `ttl`, with patience: two hours.
//!
//!     worth = time of the last use

use super::{Policy, Stay, Thing};
use crate::base::Duration;
use serde::{Deserialize, Serialize};

const TIME_TO_LIVE: Duration = Duration::from_hours(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LongTtl;

impl Policy for LongTtl {
    const NAME: &'static str = "long-ttl";
    const TITLE: &'static str = "LONG-TTL";

    fn worth(&self, thing: &Thing) -> f64 {
        thing.last_use.as_secs_f64()
    }

    fn stay(&self) -> Stay {
        Stay::for_span(TIME_TO_LIVE)
    }
}
