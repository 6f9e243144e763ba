//! Where the worker's own words go: the journal, syslog or standard error, without ever waiting.
//!
//! Every room speaks through the `log` facade; this is what hears it. Fields travel as key-values
//! (`call_id`, `function`, `instance`, and whatever else a line wants to carry), and a line an
//! operator may look for is named: `log::warn!(event = "limits-not-enforced"; "...")`, see
//! [`messages`].
//!
//! ```text
//!   log::info!(..) -> encode -> sink (non-blocking) -> out
//!                                 | full or away
//!                                 v
//!                              backlog (bounded) -> lost, counted, told when the sink is back
//! ```
//!
//! One lock around the sink: the loop thread says nearly everything, helper threads little, and
//! nobody waits for anything while holding it. [`pump`] offers the backlog again; the driver calls
//! it once a turn, which costs one atomic load while nothing waits.

#![forbid(unsafe_code)]

mod backlog;
mod journal;
mod lines;
pub mod messages;
mod sink;
mod stderr;
mod syslog;

pub use lines::Moment;
pub use messages::Message;

use backlog::Backlog;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{Stat, fstat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use sink::Sent;
use std::io::stderr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long [`Logger::flush`] may wait in all, when the worker ends.
const FLUSH_MAX: Duration = Duration::from_millis(500);
/// How long it waits between two attempts.
const FLUSH_STEP: Duration = Duration::from_millis(5);

/// `[log] target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Target {
    /// The journal where standard error is the journal, else standard error.
    #[default]
    Auto,
    Journal,
    Syslog,
    Stderr,
}

/// Why a target cannot be used.
#[derive(Debug)]
pub struct Error {
    target: Target,
    why: Errno,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match self.target {
            Target::Auto => "auto",
            Target::Journal => "journal",
            Target::Syslog => "syslog",
            Target::Stderr => "stderr",
        };
        write!(
            f,
            "log target {target}: {} (choose another [log] target)",
            self.why
        )
    }
}

impl core::error::Error for Error {}

/// Takes the log over, or, when called again, changes where it goes and how much of it.
pub fn configure(target: Target, level: LevelFilter) -> Result<(), Error> {
    let open = || {
        Sink::new(
            target,
            Path::new(journal::SOCKET),
            Path::new(syslog::SOCKET),
        )
        .map_err(|why| Error { target, why })
    };
    if let Some(logger) = LOGGER.get() {
        let is_other = logger.outlet().target != target;
        if is_other {
            let sink = open()?;
            logger.with_outlet(|outlet| outlet.change(target, sink));
        }
    } else {
        let sink = open()?;
        // Whoever installed a logger of its own (a test) keeps it.
        let _ = log::set_logger(LOGGER.get_or_init(|| Logger::new(target, sink)));
    }
    log::set_max_level(level);
    Ok(())
}

/// Offers waiting lines to the sink again. Cheap when none waits.
pub fn pump() {
    if let Some(logger) = LOGGER.get() {
        logger.pump();
    }
}

/// Whether lines go to the journal, with fields that can be looked for.
pub fn is_journal() -> bool {
    LOGGER
        .get()
        .is_some_and(|logger| matches!(logger.outlet().sink, Sink::Journal(_)))
}

/// Lines lost since the start, for the metrics.
pub fn lost_total() -> u64 {
    LOGGER
        .get()
        .map_or(0, |logger| logger.lost_total.load(Ordering::Relaxed))
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    outlet: Mutex<Outlet>,
    /// Something waits or a loss is still to be told.
    behind: AtomicBool,
    lost_total: AtomicU64,
}

/// The sink and what it has not taken yet.
struct Outlet {
    target: Target,
    sink: Sink,
    backlog: Backlog,
    scratch: Vec<u8>,
}

enum Sink {
    Journal(journal::Journal),
    Syslog(syslog::Syslog),
    Stderr(stderr::Stderr),
}

impl Sink {
    fn new(target: Target, journal: &Path, syslog: &Path) -> Result<Self, Errno> {
        let is_journal = fstat(stderr().as_fd()).is_ok_and(|stat| {
            std::env::var("JOURNAL_STREAM").is_ok_and(|stream| names_stream(&stream, &stat))
        });
        let lines = || {
            let prefix = if is_journal {
                stderr::Prefix::Level
            } else {
                stderr::Prefix::Time
            };
            stderr::Stderr::new(stderr().as_fd(), prefix).map(Self::Stderr)
        };
        match target {
            Target::Auto if is_journal => journal::Journal::new(journal).map(Self::Journal),
            Target::Journal => journal::Journal::new(journal).map(Self::Journal),
            Target::Syslog => syslog::Syslog::new(syslog).map(Self::Syslog),
            Target::Auto | Target::Stderr => lines(),
        }
    }

    fn encode(&self, record: &Record<'_>, at: Moment, out: &mut Vec<u8>) {
        match self {
            Self::Journal(_) => journal::encode(record, out),
            Self::Syslog(syslog) => syslog.encode(record, out),
            Self::Stderr(stderr) => stderr.encode(record, at, out),
        }
    }

    fn send(&self, bytes: &[u8]) -> Sent {
        match self {
            Self::Journal(journal) => journal.send(bytes),
            Self::Syslog(syslog) => syslog.send(bytes),
            Self::Stderr(stderr) => stderr.send(bytes),
        }
    }
}

/// Whether `JOURNAL_STREAM` (`device:inode`) names the file this is the status of.
fn names_stream(stream: &str, stat: &Stat) -> bool {
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

impl Outlet {
    const fn new(target: Target, sink: Sink) -> Self {
        Self {
            target,
            sink,
            backlog: Backlog::new(),
            scratch: Vec::new(),
        }
    }

    /// What waits was written for the old sink; what that does not take now is lost.
    fn change(&mut self, target: Target, sink: Sink) {
        self.drain();
        while self.backlog.front().is_some() {
            self.backlog.pop();
            self.backlog.count_lost();
        }
        (self.target, self.sink) = (target, sink);
        self.drain();
    }

    fn write(&mut self, record: &Record<'_>) {
        self.drain();
        self.scratch.clear();
        self.sink.encode(record, now(), &mut self.scratch);
        self.offer();
    }

    /// Sends what is in `scratch`, behind whatever waits already.
    fn offer(&mut self) {
        let behind = !self.backlog.is_empty() || self.backlog.lost() > 0;
        let sent = if behind {
            Sent::Later(0)
        } else {
            self.sink.send(&self.scratch)
        };
        match sent {
            Sent::Whole => {}
            // What does not fit is counted by the backlog itself.
            Sent::Later(taken) => {
                let _ = self.backlog.push(&self.scratch, taken);
            }
            Sent::Never => self.backlog.count_lost(),
        }
    }

    /// Sends what waits; when all of it is out, tells what was lost behind it.
    fn drain(&mut self) {
        while let Some(front) = self.backlog.front() {
            match self.sink.send(front) {
                Sent::Whole => self.backlog.pop(),
                Sent::Later(taken) => return self.backlog.took(taken),
                Sent::Never => {
                    self.backlog.pop();
                    self.backlog.count_lost();
                }
            }
        }
        self.tell_lost();
    }

    fn tell_lost(&mut self) {
        let lost = self.backlog.lost();
        if lost == 0 {
            return;
        }
        self.scratch.clear();
        let fields = [
            ("event", log::kv::Value::from("log-lines-lost")),
            ("lost", lost.into()),
        ];
        let text = format_args!("{lost} lines of the log were lost here: the sink did not keep up");
        let record = Record::builder()
            .level(Level::Warn)
            .args(text)
            .key_values(&fields)
            .build();
        self.sink.encode(&record, now(), &mut self.scratch);
        match self.sink.send(&self.scratch) {
            Sent::Whole => self.backlog.forget_lost(),
            Sent::Later(0) | Sent::Never => {}
            Sent::Later(taken) => {
                self.backlog.forget_lost();
                let _ = self.backlog.push(&self.scratch, taken);
            }
        }
    }

    fn is_behind(&self) -> bool {
        !self.backlog.is_empty() || self.backlog.lost() > 0
    }
}

fn now() -> Moment {
    let now = clock_gettime(ClockId::Realtime);
    Moment(Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32))
}

impl Logger {
    const fn new(target: Target, sink: Sink) -> Self {
        Self {
            outlet: Mutex::new(Outlet::new(target, sink)),
            behind: AtomicBool::new(false),
            lost_total: AtomicU64::new(0),
        }
    }

    /// A panic of another thread while it logged leaves nothing half done here.
    fn outlet(&self) -> MutexGuard<'_, Outlet> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pump(&self) {
        if self.behind.load(Ordering::Relaxed) {
            self.with_outlet(Outlet::drain);
        }
    }

    fn with_outlet(&self, act: impl FnOnce(&mut Outlet)) {
        let mut outlet = self.outlet();
        act(&mut outlet);
        self.lost_total
            .store(outlet.backlog.lost_total(), Ordering::Relaxed);
        self.behind.store(outlet.is_behind(), Ordering::Relaxed);
    }
}

impl Log for Logger {
    /// Of other people's crates only what is wrong.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ol") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.with_outlet(|outlet| outlet.write(record));
        }
    }

    /// For the end of the worker: waits a little for what waits.
    fn flush(&self) {
        let step = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(FLUSH_STEP.subsec_nanos()),
        };
        for _ in 0..FLUSH_MAX.as_millis() / FLUSH_STEP.as_millis() {
            self.pump();
            if !self.behind.load(Ordering::Relaxed) {
                return;
            }
            // An empty set of descriptors: a bounded pause, after the loop has ended.
            let _ = rustix::event::poll(&mut [], Some(&step));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn the_journal_is_recognised_by_device_and_inode() {
        let stat = fstat(std::io::stdin().as_fd()).unwrap();
        let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(names_stream(&stream, &stat));
        assert!(!names_stream(
            &format!("{}:{}", stat.st_dev, stat.st_ino + 1),
            &stat
        ));
        assert!(!names_stream("", &stat));
    }

    fn say(outlet: &mut Outlet, text: &str) {
        outlet.write(&Record::builder().args(format_args!("{text}")).build());
    }

    /// The MESSAGE of the next datagram.
    fn heard(journald: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let len = journald.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("MESSAGE="));
        line.unwrap().to_owned()
    }

    fn journal_at(path: &Path) -> Sink {
        Sink::Journal(journal::Journal::new(path).unwrap())
    }

    #[test]
    fn what_was_lost_is_told_where_it_is_missing() {
        let directory = std::env::temp_dir().join(format!("ol-outlet-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let mut outlet = Outlet::new(Target::Journal, journal_at(&path));
        let mut said = 0;
        while outlet.backlog.lost() < 3 {
            say(&mut outlet, &said.to_string());
            said += 1;
        }
        assert!(outlet.is_behind());
        let kept = said - 3;
        for n in 0..kept {
            outlet.drain();
            assert_eq!(heard(&journald), n.to_string());
        }
        outlet.drain();
        assert!(heard(&journald).starts_with("3 lines of the log were lost here"));
        assert!(!outlet.is_behind());
        say(&mut outlet, "after");
        assert_eq!(heard(&journald), "after");
        assert_eq!(outlet.backlog.lost_total(), 3);
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn lines_for_a_sink_that_was_changed_are_lost_and_told() {
        let directory = std::env::temp_dir().join(format!("ol-change-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (absent, path) = (directory.join("absent"), directory.join("socket"));
        let mut outlet = Outlet::new(Target::Journal, journal_at(&absent));
        say(&mut outlet, "nobody listens");
        let journald = UnixDatagram::bind(&path).unwrap();
        outlet.change(Target::Auto, journal_at(&path));
        assert!(heard(&journald).starts_with("1 lines of the log were lost here"));
        say(&mut outlet, "after");
        assert_eq!(heard(&journald), "after");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
