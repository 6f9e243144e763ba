//! The worker as a service: its conversation with the service manager, its place in the cgroup
//! tree.
//!
//! Neither needs systemd. Without one, [`Manager`] speaks to nobody and [`Delegation`] makes a
//! group of its own.

mod delegation;
pub mod groups;
mod manager;

pub use delegation::{Delegation, Error, Ground, Survey, Unenforced};
pub use groups::{Controller, Controllers};
pub use manager::Manager;
