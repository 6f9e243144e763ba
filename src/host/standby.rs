//! A process forked ahead of the call it will serve, from a zygote that is used.
//!
//! ```text
//!   ordered --born--> waits --ordered away--> an Instance, alive at once
//!      \--lost           \--(its zygote goes, or it has ended)--> retired --reaped--> gone
//! ```
//!
//! Of a birth it has done what is the same for all functions, and it has copied the pages that
//! children write to: most of what a birth costs. It has a slot of its zygote's family, as an
//! instance has.

use super::cgroup::Group;
use super::death;
use super::family::Slot;
use super::instance::Instance;
use crate::sys::scm;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::process::{Signal, pidfd_send_signal};
use std::io;

#[derive(Debug)]
pub(super) struct Standby {
    slot: Slot,
    control: OwnedFd,
    process: Option<(i32, OwnedFd)>,
}

impl Standby {
    /// One that is being made; `control` is the worker's end.
    pub(super) fn new(slot: Slot, control: OwnedFd) -> Self {
        Self {
            slot,
            control,
            process: None,
        }
    }

    pub(super) fn born(&mut self, pid: i32, pidfd: OwnedFd) {
        self.process = Some((pid, pidfd));
    }

    pub(super) fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    pub(super) fn page(&self) -> BorrowedFd<'_> {
        self.slot.page()
    }

    pub(super) fn group(&self) -> &Group {
        &self.slot.group
    }

    /// Its order. Fails when it has ended.
    pub(super) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        scm::send(self.control.as_fd(), bytes, descriptors, true)
    }

    pub(super) fn is_born(&self) -> bool {
        self.process.is_some()
    }

    /// What is left of it.
    pub(super) fn into_parts(self) -> (Slot, Option<(i32, OwnedFd)>) {
        (self.slot, self.process)
    }

    /// Once it has its order; `connection` is the worker's end.
    pub(super) fn into_instance(self, id: u64, connection: OwnedFd) -> Instance {
        let process = self.process.expect("only who is born is given an order");
        Instance::alive(id, self.slot, connection, process)
    }

    /// It is not wanted any more.
    pub(super) fn kill(&self) {
        if let Some((_, pidfd)) = &self.process {
            // One that has ended is as good.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }

    /// Reaps it when it has ended. One that cannot be waited for is not there.
    pub(super) fn has_ended(&self) -> bool {
        let Some((_, pidfd)) = &self.process else {
            return true;
        };
        !matches!(death::of(pidfd.as_fd(), &self.slot.group), Ok(None))
    }
}
