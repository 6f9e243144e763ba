//! Freezing and thawing of what is idle.
//!
//! Freezing takes the kernel some milliseconds and nobody waits for it: the group is asked now and
//! looked at again. Thawing is done when its call returns.

use super::worker::Worker;
use crate::base::Time;
use crate::engine::{Event, Sandbox};
use crate::host::cgroup::Group;
use std::time::Duration;

/// How often a group that was asked to freeze is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Worker {
    pub(super) fn group_of(&mut self, sandbox: Sandbox) -> Option<&mut Group> {
        match sandbox {
            Sandbox::Instance(key) => Some(self.lines.get_mut(key)?.instance.group()),
            Sandbox::Zygote(key) => Some(self.nests.get_mut(key)?.zygote.group_mut()),
        }
    }

    pub(super) fn freeze(&mut self, sandbox: Sandbox) {
        let asked = self.group_of(sandbox).map(Group::freeze);
        match asked {
            Some(Ok(())) => self.freezing.push(sandbox),
            Some(Err(error)) => log::warn!("a sandbox cannot be frozen: {error}"),
            None => {}
        }
    }

    pub(super) fn thaw(&mut self, sandbox: Sandbox) {
        self.freezing.retain(|other| *other != sandbox);
        match self.group_of(sandbox).map(Group::thaw) {
            Some(Ok(())) => self.told.push_back(Event::Thawed { sandbox }),
            Some(Err(error)) => log::error!("a sandbox cannot be thawed: {error}"),
            None => {}
        }
    }

    /// Tells of those that are frozen by now. Returns when to look again.
    pub(super) fn look_for_frozen(&mut self) -> Option<Time> {
        if self.freezing.is_empty() {
            return None;
        }
        let asked = core::mem::take(&mut self.freezing);
        let mut frozen = Vec::new();
        for sandbox in asked {
            match self.group_of(sandbox).map(|group| group.state()) {
                Some(Ok(state)) if state.frozen => frozen.push(sandbox),
                Some(Ok(_)) => self.freezing.push(sandbox),
                Some(Err(_)) | None => {}
            }
        }
        for sandbox in frozen {
            self.tell(Event::Frozen { sandbox });
        }
        (!self.freezing.is_empty()).then(|| self.now + LOOK_EVERY)
    }
}
