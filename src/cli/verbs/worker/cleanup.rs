//! `ol worker force-cleanup`: whatever a worker left behind goes, whether or not it still lives.
//!
//! A worker that does not end by itself is killed; the processes of its sandboxes are found by the
//! cgroup that carries its pid, so that nobody else's are hit. Groups of other workers that died
//! are cleared as well: nobody else will.

use super::super::super::definition::Context;
use super::super::super::failure::Failure;
use super::super::super::output::Done;
use super::super::super::pid_file::Owner;
use super::{Place, step};
use crate::base::Duration;
use crate::host::service::groups;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    let killed = match place.owner()? {
        Owner::Nobody | Owner::Dead(_) => None,
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
    for group in left_behind(killed) {
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

/// The groups of workers that are dead; the one that was killed may be a zombie still.
fn left_behind(killed: Option<u32>) -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(root) = groups::locate("0::/", &mountinfo) else {
        return Vec::new();
    };
    let lives = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
    let is_left = |group: &Path| {
        let name = group
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let number = name
            .strip_prefix(GROUP_PREFIX)
            .and_then(|pid| pid.parse::<u32>().ok());
        number.is_some_and(|number| Some(number) == killed || !lives(number))
    };
    let mut found = Vec::new();
    let mut open = vec![(root, 0)];
    let mut seen = 0;
    while let Some((group, level)) = open.pop() {
        seen += 1;
        if is_left(&group) {
            found.push(group);
        } else if level < LEVELS_MAX && seen < GROUPS_MAX {
            // A group that goes away while it is looked at has nothing left.
            let children = groups::children(&group).unwrap_or_default();
            open.extend(children.into_iter().map(|child| (child, level + 1)));
        }
    }
    found
}
