//! The client that measures: it calls functions of a worker and tells how long that took.
//!
//! One thread, one `io`, as many connections as there are clients; each has at most one call under
//! way. What is called when is a [`Schedule`], what came of it a [`Tally`]:
//!
//! ```text
//!  Schedule --next--> Call(function, due) --> an idle connection --> answer --> Tally
//!     |-- NotBefore(time)  the loop sleeps until then
//!     '-- Over             calls under way are waited for, then the run is over
//! ```
//!
//! Latency counts from the moment a call was *due*. In a closed loop that is when a client became
//! free. In an open loop it is when the schedule says, whether or not a connection was free then: a
//! worker that stalls is charged for every call that would have come meanwhile (what is known as
//! coordinated omission does not happen).
//!
//! Memory is fixed before the first call: nothing here grows with the number of calls. Imports
//! base, sys and io, as the worker does: a measurement should not be limited by its own client.

#![forbid(unsafe_code)]

mod names;
mod reply;
mod run;
mod schedule;
mod tally;
mod target;

pub use names::Names;
pub use reply::{Reader, Reply, Start};
pub use run::{CLIENTS_MAX, Run, Setup, Stopped};
pub use schedule::{Choice, Next, Pace, Schedule};
pub use tally::{Failed, Tally};
pub use target::Target;
