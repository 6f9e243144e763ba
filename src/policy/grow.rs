//! When the zygote tree should have more of something.
//!
//! A node that forks most of the time keeps callers waiting in its socket: it gets a second zygote,
//! as a shop with one busy till opens another, and only that node, never the whole tree. What cold
//! starts import again and again, of one function or of many that are called once, though the tree
//! knows nothing of it, gets a node (`dynamic_zygotes`), below the best that there is.

use crate::base::Duration;

/// Share of time a zygote may spend forking before it gets company. Forks come in bursts: the mean
/// wait in its socket is then about half a fork.
const UTILISATION_MAX: f64 = 0.3;
/// A node is worth having when it saves at least this at each cold start,
const SAVING_MIN: Duration = Duration::from_millis(20);
/// and there have been as many.
const COLD_STARTS_MIN: u64 = 3;
/// Nodes that may be added to a tree.
pub const GROWN_MAX: u32 = 256;

/// Share of the time that each of the node's zygotes spends forking.
#[must_use]
pub fn utilisation(forks_per_second: f64, fork: Duration, zygotes: usize) -> f64 {
    forks_per_second * fork.as_secs_f64() / usize::max(zygotes, 1) as f64
}

#[must_use]
pub fn is_saturated(utilisation: f64) -> bool {
    utilisation > UTILISATION_MAX
}

/// Whether a node that has what a cold start imports by itself would be worth its memory.
#[must_use]
pub fn is_dear(residual: Duration) -> bool {
    residual >= SAVING_MIN
}

/// Whether what so many cold starts imported by themselves deserves a node.
#[must_use]
pub fn deserves_node(cold_starts: u64, grown: u32) -> bool {
    cold_starts >= COLD_STARTS_MIN && grown < GROWN_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_replicated_when_it_forks_a_third_of_the_time() {
        let fork = Duration::from_millis(2);
        assert!(!is_saturated(utilisation(100.0, fork, 1)));
        assert!(is_saturated(utilisation(200.0, fork, 1)));
        assert!(!is_saturated(utilisation(200.0, fork, 2)));
    }

    #[test]
    fn a_node_is_added_for_what_is_dear_and_repeated() {
        assert!(is_dear(Duration::from_millis(250)));
        assert!(!is_dear(Duration::from_millis(1)));
        assert!(deserves_node(3, 0));
        assert!(!deserves_node(2, 0));
        assert!(!deserves_node(3, GROWN_MAX));
    }
}
