//! `ol worker force-cleanup`: whatever a worker left behind goes, whether or not it still lives.
//!
//! A worker that does not end by itself is killed; the processes of its sandboxes are found by the
//! cgroup that carries its pid, so that nobody else's are hit.

use super::super::super::definition::Context;
use super::super::super::failure::Failure;
use super::super::super::output::Done;
use super::super::super::pid_file::{self, Owner};
use super::{Place, step};
use crate::base::Duration;
use crate::host::service::groups;
use std::fs;
use std::io;
use std::path::PathBuf;

/// How long a killed worker may take to be gone.
const GONE: Duration = Duration::from_secs(10);
/// Groups looked at, and levels: more than any machine has.
const GROUPS_MAX: usize = 100_000;
const LEVELS_MAX: usize = 32;
/// How a worker calls the group it makes for itself, before its pid.
const GROUP_PREFIX: &str = "olworker-";

pub fn run(context: &Context, place: &Place) -> Done {
    let mut cleared = 0;
    let socket = place.socket();
    let pid = match place.owner()? {
        Owner::Nobody => None,
        Owner::Dead(pid) => pid,
        Owner::Lives(running) => {
            let pid = running.pid;
            let failed = |error: io::Error| {
                Failure::failed(format!("worker {pid}"), error.to_string(), "try again")
            };
            running.kill().map_err(failed)?;
            if !running.ends_within(GONE).map_err(failed)? {
                let why = "it is still there after it was killed";
                let remedy = "it hangs in the kernel: see dmesg";
                return Err(Failure::failed(format!("worker {pid}"), why, remedy));
            }
            cleared += 1;
            step(context, &format!("worker {pid}: killed"))?;
            Some(pid)
        }
    };
    for group in left_behind(pid) {
        groups::end(&group).map_err(|error| {
            Failure::of_path(&group, &error, "end its processes and remove it by hand")
        })?;
        cleared += 1;
        step(
            context,
            &format!("{}: its processes killed, removed", group.display()),
        )?;
    }
    for path in [socket, place.home.pid_file(), place.home.effective_file()] {
        // What is not there cannot be removed, but a read-only disk would say so first.
        if fs::symlink_metadata(&path).is_err() {
            continue;
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                cleared += 1;
                step(context, &format!("{}: removed", path.display()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::of_path(&path, &error, "remove it by hand")),
        }
    }
    if cleared == 0 {
        step(
            context,
            &format!("{}: nothing was left behind", place.typed.display()),
        )?;
    }
    Ok(())
}

/// The groups that carry the pid of a worker, unless somebody else has it by now.
fn left_behind(pid: Option<u32>) -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = groups::locate("0::/", &mountinfo);
    let (Some(pid), Some(root)) = (pid, root) else {
        return Vec::new();
    };
    if pid_file::lives(pid) {
        return Vec::new();
    }
    let name = format!("{GROUP_PREFIX}{pid}");
    let mut found = Vec::new();
    let mut open = vec![(root, 0)];
    let mut seen = 0;
    while let Some((group, level)) = open.pop() {
        seen += 1;
        if group.file_name().is_some_and(|file| file == name.as_str()) {
            found.push(group);
        } else if level < LEVELS_MAX && seen < GROUPS_MAX {
            // A group that goes away while it is looked at has nothing left.
            let children = groups::children(&group).unwrap_or_default();
            open.extend(children.into_iter().map(|child| (child, level + 1)));
        }
    }
    found
}
