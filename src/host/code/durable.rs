//! Names of a directory, brought to the disk once for all who wait for it.
//!
//! Whoever has changed a name waits for a sync that began after the change. While one is under way
//! others gather, and the next one is for all of them: their number does not matter to the disk.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The names of one directory.
#[derive(Debug)]
pub(super) struct Names {
    directory: PathBuf,
    state: Mutex<State>,
    ended: Condvar,
}

/// Syncs are numbered from 1.
#[derive(Debug, Default)]
struct State {
    begun: u64,
    ended: u64,
    /// The last that failed. Its error is told to this process only once, so it is kept.
    failed: Option<(u64, io::ErrorKind)>,
}

impl Names {
    pub(super) fn of(directory: PathBuf) -> Self {
        Self {
            directory,
            state: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// Whatever was named, renamed or removed before is so for good. Blocks.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.sync_by(&|| File::open(&self.directory)?.sync_data())
    }

    fn sync_by(&self, work: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        // One that is under way may have passed what was changed.
        let wanted = state.begun + 1;
        while state.ended < wanted {
            if state.begun > state.ended {
                let woken = self.ended.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.begun += 1;
            drop(state);
            let done = work();
            state = self.lock();
            state.ended = state.begun;
            if let Err(error) = done {
                state.failed = Some((state.ended, error.kind()));
            }
            self.ended.notify_all();
        }
        match state.failed {
            Some((number, kind)) if number >= wanted => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    /// Syncs of a disk that is slow once.
    struct Disk {
        syncs: AtomicU32,
        begins: mpsc::Sender<()>,
        goes_on: Mutex<mpsc::Receiver<()>>,
    }

    impl Disk {
        /// The first waits for leave, and fails.
        fn sync(&self) -> io::Result<()> {
            if self.syncs.fetch_add(1, Ordering::SeqCst) > 0 {
                return Ok(());
            }
            self.begins.send(()).unwrap();
            self.goes_on.lock().unwrap().recv().unwrap();
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn those_who_come_during_a_sync_wait_for_another_one() {
        let names = &Names::of(PathBuf::new());
        let (begins, begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let disk = &Disk {
            syncs: AtomicU32::new(0),
            begins,
            goes_on: Mutex::new(goes_on),
        };
        let sync = move || names.sync_by(&|| disk.sync());
        std::thread::scope(|scope| {
            let first = scope.spawn(sync);
            begun.recv().unwrap();
            let others: Vec<_> = (0..8).map(|_| scope.spawn(sync)).collect();
            go_on.send(()).unwrap();
            let failed = first.join().unwrap().unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
            for other in others {
                other.join().unwrap().unwrap();
            }
        });
        let syncs = disk.syncs.load(Ordering::SeqCst);
        assert!((2..=9).contains(&syncs), "{syncs}");
    }

    #[test]
    fn a_failure_is_told_to_all_who_waited_for_that_sync() {
        let names = Names::of(PathBuf::new());
        let full = || Err(io::ErrorKind::StorageFull.into());
        assert!(names.sync_by(&full).is_err());
        assert!(names.sync_by(&|| Ok(())).is_ok());
        // Two gather behind one that is under way; theirs fails, whoever of them does it.
        let (begins, begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel::<()>();
        let (begins, goes_on) = (Mutex::new(begins), Mutex::new(goes_on));
        let slow = || {
            begins.lock().unwrap().send(()).unwrap();
            goes_on.lock().unwrap().recv().unwrap();
            Ok(())
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| names.sync_by(&slow));
            begun.recv().unwrap();
            let others: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| names.sync_by(&full)))
                .collect();
            go_on.send(()).unwrap();
            first.join().unwrap().unwrap();
            for other in others {
                assert!(other.join().unwrap().is_err());
            }
        });
    }
}
