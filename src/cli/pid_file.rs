//! Who runs a directory: a file with a pid in it, locked for as long as that process lives.
//!
//! ```text
//!   no file             nobody
//!   file, not locked    nobody: its owner died
//!   file, locked        the pid in it; it cannot have been given to anybody else meanwhile
//! ```

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tries to lock a file that others remove at the same time.
const TRIES_MAX: usize = 100;

/// The file of this process, locked; removed at its end.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

/// The process that runs a directory.
#[derive(Debug)]
pub struct Running {
    pub pid: u32,
    handle: OwnedFd,
}

#[derive(Debug)]
pub enum Owner {
    Nobody,
    /// Nobody any more; this was its pid.
    Dead(Option<u32>),
    Lives(Running),
}

impl PidFile {
    /// Makes this process the owner; `Err(Some(pid))` where another one is.
    pub fn take(path: &Path) -> io::Result<Result<Self, Option<u32>>> {
        for _ in 0..TRIES_MAX {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(Err(pid_in(&mut file)?)),
                other => other?,
            }
            if !is_still(path, &file)? {
                continue;
            }
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            return Ok(Ok(Self {
                path: path.to_path_buf(),
                file,
            }));
        }
        Err(io::Error::other("it is made and removed all the time"))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Only ours: somebody may have put another one there.
        if is_still(&self.path, &self.file).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the path still names the open file.
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    let (open, named) = (file.metadata()?, fs::metadata(path));
    Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())))
}

fn pid_in(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    // Twenty digits are more than any pid has.
    file.take(20).read_to_string(&mut text)?;
    Ok(text.trim().parse().ok())
}

/// Who owns the directory of this file.
pub fn owner(path: &Path) -> io::Result<Owner> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Nobody),
        Err(error) => return Err(error),
    };
    let pid = pid_in(&mut file)?;
    if !is_locked(&file)? {
        return Ok(Owner::Dead(pid));
    }
    let Some(number) = pid else {
        return Err(io::Error::other("it is locked, and no pid is in it"));
    };
    let raw = i32::try_from(number).ok().and_then(Pid::from_raw);
    let raw = raw.ok_or_else(|| io::Error::other("what is in it is no pid"))?;
    match pidfd_open(raw, PidfdFlags::empty()) {
        // The lock is held still: whoever wrote its pid lives, so the pid is nobody else's.
        Ok(handle) if is_locked(&file)? => Ok(Owner::Lives(Running {
            pid: number,
            handle,
        })),
        Ok(_) | Err(Errno::SRCH) => Ok(Owner::Dead(pid)),
        Err(error) => Err(error.into()),
    }
}

fn is_locked(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            flock(file, FlockOperation::Unlock)?;
            Ok(false)
        }
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

impl Running {
    /// Has it drain and end.
    pub fn terminate(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, Signal::TERM)?)
    }

    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, Signal::KILL)?)
    }

    /// Waits for its end; false when it lives on after this time.
    pub fn ends_within(&self, wait: Duration) -> io::Result<bool> {
        ends_within(&self.handle, wait)
    }
}

/// Whether there is a process with this pid that has not ended: a zombie has.
pub fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let handle = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match handle {
        Some(Ok(handle)) => !ends_within(&handle, Duration::ZERO).unwrap_or(false),
        Some(Err(error)) => error != Errno::SRCH,
        None => false,
    }
}

/// Waits for the end of a process; false when it lives on after this time.
pub fn ends_within(handle: &OwnedFd, wait: Duration) -> io::Result<bool> {
    let wait = Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    let mut watched = [PollFd::new(handle, PollFlags::IN)];
    match poll(&mut watched, Some(&wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("olworker-pid-{name}-{}", std::process::id()))
    }

    #[test]
    fn the_owner_is_whoever_holds_the_lock() {
        let path = path("owner");
        assert!(matches!(owner(&path).unwrap(), Owner::Nobody));
        let ours = PidFile::take(&path).unwrap().unwrap();
        let Owner::Lives(running) = owner(&path).unwrap() else {
            panic!("it is locked");
        };
        assert_eq!(running.pid, std::process::id());
        assert!(!running.ends_within(Duration::ZERO).unwrap());
        let other = PidFile::take(&path).unwrap();
        assert_eq!(other.expect_err("it is taken"), Some(std::process::id()));
        drop(ours);
        assert!(matches!(owner(&path).unwrap(), Owner::Nobody));
    }

    #[test]
    fn a_zombie_does_not_live() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(ends_within(&handle, Duration::from_mins(1)).unwrap());
        assert!(!lives(child.id()), "it ended and nobody has waited for it");
        child.wait().unwrap();
        assert!(!lives(child.id()));
        assert!(lives(std::process::id()));
    }

    #[test]
    fn a_file_that_nobody_locks_is_a_dead_one_s() {
        let path = path("dead");
        fs::write(&path, "1\n").unwrap();
        assert!(matches!(owner(&path).unwrap(), Owner::Dead(Some(1))));
        let ours = PidFile::take(&path).unwrap().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
        drop(ours);
        assert!(!path.exists());
    }
}
