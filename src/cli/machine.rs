//! The machine, as configurations are read for it.

use crate::config::Machine;
use crate::host::service::groups;
use crate::sys::machine;
use std::fs;

/// Its RAM, or what the cgroup of this process leaves of it; its CPUs.
pub fn this() -> Machine {
    let ram = machine::ram_bytes();
    let limit = own_group().and_then(|group| machine::memory_limit_bytes(&group));
    Machine {
        ram_bytes: limit.map_or(ram, |limit| limit.min(ram)),
        cpus: machine::cpus(),
    }
}

fn own_group() -> Option<std::path::PathBuf> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    groups::locate(&cgroup, &mounts)
}
