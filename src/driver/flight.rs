//! What the engine was told lately, on disk when somebody wants to know or the worker panics.
//!
//! ```text
//!   event ──▶ two segments in memory ──SIGUSR2──▶ a copy ──▶ helper: recordings/TIME-asked.json
//!             (`engine::record`)     ──panic────▶ hook: recordings/TIME-panic.json
//! ```
//!
//! `ol sim worker --replay FILE` plays such a file again: the same engine, the same effects. Keys,
//! times and sizes are in it, and names of packages; nothing of a call's head or body.
//!
//! The loop pays a copy of each event, and of the engine once a segment; files are written by a
//! helper. After a panic there is no loop any more, so the hook writes by itself.

use super::worker::{Done, Worker};
use crate::base::Time;
use crate::config::Config;
use crate::engine::{Engine, Event, Recorder, Recording, SEGMENT_EVENTS};
use crate::sys::clock;
use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Files that are kept; the oldest goes first.
const FILES_MAX: usize = 8;
const EXTENSION: &str = "json";

/// The recorder of this worker, which its panic hook knows as well.
#[derive(Debug)]
pub(super) struct Flight {
    recorder: Arc<Mutex<Recorder>>,
    directory: PathBuf,
    /// A helper is writing one.
    is_writing: bool,
}

/// What a helper wrote.
#[derive(Debug)]
pub(super) struct Written(io::Result<PathBuf>);

fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    // It is held for one push, which leaves nothing half done.
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flight {
    /// From now on a panic leaves a recording behind.
    pub(super) fn begin(engine: &Engine, config: &Config) -> Self {
        let flight = Self::into_directory(engine, config.home.recordings());
        flight.watch_for_panic();
        flight
    }

    fn into_directory(engine: &Engine, directory: PathBuf) -> Self {
        Self {
            recorder: Arc::new(Mutex::new(Recorder::new(engine, SEGMENT_EVENTS))),
            directory,
            is_writing: false,
        }
    }

    /// Before the engine is told.
    pub(super) fn event(&self, engine: &Engine, event: &Event, now: Time) {
        lock(&self.recorder).event(engine, event, now);
    }

    /// Before time passes for the engine.
    pub(super) fn expiry(&self, engine: &Engine, now: Time) {
        lock(&self.recorder).expiry(engine, now);
    }

    fn watch_for_panic(&self) {
        let (recorder, directory) = (Arc::clone(&self.recorder), self.directory.clone());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            before(panic);
            let recording = match recorder.try_lock() {
                Ok(recorder) => recorder.recording(),
                Err(TryLockError::Poisoned(recorder)) => recorder.into_inner().recording(),
                // The panic is one of the recorder's own, and this thread holds it.
                Err(TryLockError::WouldBlock) => return,
            };
            match write(&directory, "panic", &recording) {
                Ok(path) => log::error!("what led to the panic is in {}", path.display()),
                Err(error) => log::error!("no recording: {}: {error}", directory.display()),
            }
            log::logger().flush();
        }));
    }
}

impl Worker {
    /// Somebody wants to know what happened lately.
    pub(super) fn record_was_asked(&mut self) {
        if self.flight.is_writing {
            log::warn!("a recording is being written already");
            return;
        }
        let recording = lock(&self.flight.recorder).recording();
        let directory = self.flight.directory.clone();
        let job = move || Done::Recorded(Written(write(&directory, "asked", &recording)));
        match self.helpers.submit(job) {
            Ok(()) => self.flight.is_writing = true,
            Err(_) => log::error!("no recording: too much waits for a helper (ask again)"),
        }
    }

    pub(super) fn recorded(&mut self, Written(written): Written) {
        self.flight.is_writing = false;
        match written {
            Ok(path) => log::info!(
                "what happened lately is in {0} (ol sim worker --replay {0})",
                path.display()
            ),
            Err(error) => {
                let directory = self.flight.directory.display();
                log::error!("no recording: {directory}: {error}");
            }
        }
    }
}

/// Writes a new file, readable by root only, and removes the oldest beyond the bound.
fn write(directory: &Path, why: &str, recording: &Recording) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let stamp = clock::wall().as_millis();
    let path = directory.join(format!("{stamp:014}-{why}.{EXTENSION}"));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600);
    let mut file = BufWriter::new(file.open(&path)?);
    serde_json::to_writer(&mut file, recording)?;
    file.flush()?;
    remove_oldest(directory)?;
    Ok(path)
}

/// Names begin with the time, so their order is that of age.
fn remove_oldest(directory: &Path) -> io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            files.push(path);
        }
    }
    files.sort();
    let surplus = files.len().saturating_sub(FILES_MAX);
    files.iter().take(surplus).try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Bytes, Key, Limits};
    use crate::engine::Params;

    #[test]
    fn files_are_written_whole_and_the_oldest_go() {
        let directory = std::env::temp_dir().join(format!("ol-flight-{}", std::process::id()));
        let mut engine = Engine::new(Limits::TINY, Params::new(Bytes::from_mb(64)), 1);
        let mut recorder = Recorder::new(&engine, 4);
        for number in 0..6 {
            let now = Time::from_millis(number);
            let event = Event::CallArrived {
                call: Key::new(number as u32, 0),
                function: Key::new(0, 0),
            };
            recorder.event(&engine, &event, now);
            drop(engine.handle(event, now));
        }
        let mut written = Vec::new();
        for _ in 0..FILES_MAX + 3 {
            let path = loop {
                match write(&directory, "asked", &recorder.recording()) {
                    // Two in one millisecond.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    path => break path.unwrap(),
                }
            };
            written.push(path);
        }
        let kept = fs::read_dir(&directory).unwrap().count();
        assert_eq!(kept, FILES_MAX);
        let last = fs::read_to_string(written.last().unwrap()).unwrap();
        let read: Recording = serde_json::from_str(&last).unwrap();
        assert_eq!(read.segments.len(), 2);
        assert_eq!(read.segments[1].inputs.len(), 2);
        fs::remove_dir_all(&directory).unwrap();
    }

    /// The hook is the whole process's, so this test runs itself once more, and that one panics.
    #[test]
    fn a_panic_leaves_a_recording_behind() {
        const DIRECTORY: &str = "OLWORKER_TEST_PANIC_INTO";
        if let Some(directory) = std::env::var_os(DIRECTORY) {
            let mut engine = Engine::new(Limits::TINY, Params::new(Bytes::from_mb(64)), 1);
            let flight = Flight::into_directory(&engine, directory.into());
            flight.watch_for_panic();
            flight.expiry(&engine, Time::from_millis(5));
            drop(engine.expire(Time::from_millis(5)));
            panic!("as wanted");
        }
        let directory = std::env::temp_dir().join(format!("ol-panic-{}", std::process::id()));
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let name = "driver::flight::tests::a_panic_leaves_a_recording_behind";
        let ended = again.args(["--exact", name]).env(DIRECTORY, &directory);
        assert!(!ended.output().unwrap().status.success());
        let files: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        let path = files[0].as_ref().unwrap().path();
        assert!(path.to_string_lossy().ends_with("-panic.json"));
        let read: Recording = serde_json::from_reader(fs::File::open(path).unwrap()).unwrap();
        assert_eq!(read.segments[0].inputs.len(), 1);
        fs::remove_dir_all(&directory).unwrap();
    }
}
