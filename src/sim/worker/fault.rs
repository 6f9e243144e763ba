//! The harm that a made-up world does: how often, and how much.
//!
//! Harm ends with the arrivals: whatever is broken by then must mend itself, or be given up, while
//! everything drains.

use crate::base::Duration;

/// Chances are for each occasion; none of them is certain, else nothing would ever succeed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// A fork fails.
    pub fork_fails: f64,
    /// A fork takes a hundred times as long.
    pub fork_slow: f64,
    /// The answer to a fork is lost; the process is there, or is not.
    pub fork_lost: f64,
    /// A call never comes back.
    pub answer_lost: f64,
    /// The answer overtakes the word that the process exists.
    pub overtakes: f64,
    /// An instance dies at some moment within `lifetime`.
    pub instance_dies: f64,
    pub instance_lifetime: Duration,
    /// A zygote fails to import.
    pub zygote_fails: f64,
    /// A zygote dies at some moment within `zygote_lifetime`: the kernel found it too large.
    pub zygote_dies: f64,
    pub zygote_lifetime: Duration,
    /// An import started a thread.
    pub zygote_has_threads: f64,
    pub install_fails: f64,
    /// A client hangs up, within a second.
    pub hangs_up: f64,
    /// At a call, the machine is found short of memory.
    pub pressure: f64,
    /// At a call, the clock is found to have gone back a while.
    pub clock_jumps: f64,
    /// At a call, its function is deployed anew.
    pub redeploys: f64,
    /// At the end of a call, the instance is found unfit.
    pub unfit: f64,
}

impl Faults {
    /// Enough of everything that a day has thousands of each.
    pub const MANY: Self = Self {
        fork_fails: 0.02,
        fork_slow: 0.02,
        fork_lost: 0.01,
        answer_lost: 0.000_5,
        overtakes: 0.1,
        instance_dies: 0.3,
        instance_lifetime: Duration::from_mins(5),
        zygote_fails: 0.05,
        zygote_dies: 0.3,
        zygote_lifetime: Duration::from_mins(20),
        zygote_has_threads: 0.001,
        install_fails: 0.05,
        hangs_up: 0.01,
        pressure: 0.000_1,
        clock_jumps: 0.000_1,
        redeploys: 0.000_2,
        unfit: 0.002,
    };
}
