//! The logs of functions: one bounded file each, rotated once, lines with time, stream, instance
//! and call.
//!
//! ```text
//!   loop ──Batch (lines as they were printed)──▶ helper: FunctionLogs::write
//!                                                  │
//!      logs/NAME.log    the newest lines ◀─────────┤
//!      logs/NAME.log.1  those before; replaced     │
//!                       when NAME.log has half     └──▶ the journal, where the worker's
//!                       the bound                       log goes there
//! ```
//!
//! The loop only collects: formatting and writing is done by helpers. A log that cannot be written
//! is counted and told once in a while, never the function's problem. The journal limits how much
//! a service may say, and what functions say counts as the worker's: so it gets no more of them
//! than leaves room for the worker, and is told how many it did not get.

use super::log::{self as sink, Moment};
use super::stretch::{PIECE_BYTES, piece};
use crate::base::{FunctionName, Key};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `tail` reads of one file at most.
const TAIL_BYTES_MAX: u64 = 4 << 20;
/// How many lines are lost between two complaints.
const COMPLAIN_EVERY: u64 = 1000;
/// Characters of a call's name.
pub const CALL_BYTES: usize = 18;
/// Lines of functions that the journal gets in a second, and at once after a silence.
const JOURNAL_LINES_PER_SECOND: u64 = 100;
const JOURNAL_LINES_AT_ONCE: u64 = 1000;

/// Through which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Out,
    Error,
}

impl Stream {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Error => "stderr",
        }
    }
}

/// Who printed.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub name: FunctionName,
    pub instance: Key<()>,
    pub stream: Stream,
    /// The call it had; output of an import belongs to the call that caused it.
    pub call: Option<[u8; CALL_BYTES]>,
}

impl Origin {
    fn call(&self) -> &str {
        let text = self.call.as_ref().map(|call| core::str::from_utf8(call));
        text.and_then(Result::ok).unwrap_or("-")
    }
}

/// Lines of one origin, each ended.
#[derive(Debug)]
struct Said {
    origin: Origin,
    at: Duration,
    text: Range<usize>,
}

/// What was printed and is not written yet.
#[derive(Debug, Default)]
pub struct Batch {
    text: Vec<u8>,
    said: Vec<Said>,
}

impl Batch {
    /// Adds whole lines.
    pub fn push(&mut self, origin: Origin, at: Duration, lines: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(lines);
        let text = start..self.text.len();
        self.said.push(Said { origin, at, text });
    }

    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Empties it, keeping no more room than `bytes_max`.
    pub fn clear(&mut self, bytes_max: usize) {
        self.text.clear();
        self.text.shrink_to(bytes_max);
        self.said.clear();
    }
}

/// How much of what functions print the journal gets: a bucket that fills as time passes.
#[derive(Debug, Default)]
struct Share {
    lines: u64,
    filled: Duration,
    left_out: u64,
}

impl Share {
    fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled);
        let more = since.as_millis() as u64 * JOURNAL_LINES_PER_SECOND / 1000;
        if more > 0 {
            self.lines = (self.lines + more).min(JOURNAL_LINES_AT_ONCE);
            self.filled = now;
        }
        if self.lines == 0 {
            self.left_out += 1;
            return false;
        }
        self.lines -= 1;
        true
    }
}

/// The logs of all functions.
#[derive(Debug)]
pub struct FunctionLogs {
    directory: PathBuf,
    lost: u64,
    share: Share,
}

/// Where the newest lines of a function are, and those before them.
pub fn files(directory: &Path, name: &FunctionName) -> [PathBuf; 2] {
    let newest = directory.join(format!("{name}.log"));
    let older = directory.join(format!("{name}.log.1"));
    [newest, older]
}

impl FunctionLogs {
    pub fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self {
            directory: directory.to_path_buf(),
            lost: 0,
            share: Share::default(),
        })
    }

    /// Writes what was printed, keeping `bytes_max` of each function; answers whose logs have
    /// grown. Blocks.
    pub fn write(&mut self, batch: &Batch, bytes_max: u64) -> Vec<FunctionName> {
        let mut texts: BTreeMap<FunctionName, Vec<u8>> = BTreeMap::new();
        let to_journal = sink::is_journal();
        for said in &batch.said {
            let text = texts.entry(said.origin.name).or_default();
            let (at, origin) = (Moment(said.at), &said.origin);
            for line in batch.text[said.text.clone()].split_inclusive(|byte| *byte == b'\n') {
                let (stream, instance) = (origin.stream.name(), origin.instance);
                let _ = write!(text, "{at} {stream} {instance} {} ", origin.call());
                text.extend_from_slice(line);
                if to_journal && self.share.take(said.at) {
                    tell_journal(origin, line);
                }
            }
        }
        let left_out = self.share.left_out;
        if left_out > 0 && self.share.lines > 0 {
            self.share.left_out = 0;
            log::warn!(
                event = "function-lines-left-out", lines = left_out;
                "{left_out} lines of functions are not in the journal (`ol logs NAME` has them)"
            );
        }
        for (name, text) in &texts {
            if let Err(error) = self.append(name, text, bytes_max) {
                self.lose(text, &error);
            }
        }
        texts.into_keys().collect()
    }

    fn append(&self, name: &FunctionName, text: &[u8], bytes_max: u64) -> io::Result<()> {
        let [newest, older] = files(&self.directory, name);
        // Several pieces, so that no batch makes a file longer than its half.
        for piece in pieces(text, (bytes_max / 4).max(1) as usize) {
            let mut file = File::options().create(true).append(true).open(&newest)?;
            file.write_all(piece)?;
            if file.metadata()?.len() >= bytes_max / 2 {
                fs::rename(&newest, &older)?;
            }
        }
        Ok(())
    }

    /// The function is gone, and so is what it printed.
    pub fn remove(&mut self, name: &FunctionName) {
        for file in files(&self.directory, name) {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::warn!("the log of {name} stays behind: {error}");
                }
                _ => {}
            }
        }
    }

    fn lose(&mut self, lines: &[u8], error: &dyn Display) {
        let count = lines_of(lines) as u64;
        let before = self.lost / COMPLAIN_EVERY;
        self.lost += count;
        if self.lost == count || self.lost / COMPLAIN_EVERY > before {
            log::warn!("{} lines of functions are lost: {error}", self.lost);
        }
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// A line of a function, with fields to look for.
fn tell_journal(origin: &Origin, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    log::info!(
        event = "function-output",
        function = origin.name.as_str(),
        instance = origin.instance.to_string().as_str(),
        call_id = origin.call(),
        stream = origin.stream.name();
        "{}", String::from_utf8_lossy(line)
    );
}

/// Whole lines, about `bytes` of them at a time.
fn pieces(text: &[u8], bytes: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let from = bytes.min(rest.len()) - 1;
        let end = rest[from..].iter().position(|byte| *byte == b'\n');
        let (piece, behind) = rest.split_at(end.map_or(rest.len(), |at| from + at + 1));
        rest = behind;
        Some(piece)
    })
}

/// The last `count` lines of a function's files, the newest file first in `files`. Blocks.
pub fn tail(files: &[PathBuf; 2], count: usize) -> io::Result<Vec<u8>> {
    tail_up_to(files, count, u64::MAX)
}

/// As `tail`, of the newest file only so many bytes.
fn tail_up_to(files: &[PathBuf; 2], count: usize, bytes: u64) -> io::Result<Vec<u8>> {
    let mut text = last_bytes(&files[0], bytes)?;
    if lines_of(&text) < count {
        let mut older = last_bytes(&files[1], u64::MAX)?;
        older.append(&mut text);
        text = older;
    }
    let extra = lines_of(&text).saturating_sub(count);
    let mut ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let start = match extra {
        0 => 0,
        extra => ends.nth(extra - 1).map_or(0, |(at, _)| at + 1),
    };
    Ok(text.split_off(start))
}

/// Reads a log from its end on, as it grows, through rotations.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// None: nobody has printed yet.
    file: Option<File>,
    /// The lines that were there when it was made.
    before: Vec<u8>,
}

impl Follower {
    /// Begins with the last `count` lines. Blocks.
    pub fn new(files: &[PathBuf; 2], count: usize) -> io::Result<Self> {
        let mut file = open(&files[0])?;
        let mut before = Vec::new();
        if let Some(file) = &mut file {
            // What is appended from here on is read by `read`.
            let end = file.seek(SeekFrom::End(0))?;
            before = tail_up_to(files, count, end)?;
        }
        Ok(Self {
            path: files[0].clone(),
            file,
            before,
        })
    }

    /// What has been appended since; empty: nothing. Blocks.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        if !self.before.is_empty() {
            let rest = self.before.split_off(self.before.len().min(PIECE_BYTES));
            return Ok(core::mem::replace(&mut self.before, rest));
        }
        loop {
            if let Some(file) = &mut self.file {
                let piece = piece(file)?;
                if !piece.is_empty() {
                    return Ok(piece);
                }
            }
            let Some(next) = open(&self.path)? else {
                return Ok(Vec::new());
            };
            if let Some(file) = &self.file
                && file.metadata()?.ino() == next.metadata()?.ino()
            {
                return Ok(Vec::new());
            }
            self.file = Some(next);
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

fn lines_of(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count() - 1
}

fn last_bytes(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let Some(mut file) = open(path)? else {
        return Ok(Vec::new());
    };
    let length = file.metadata()?.len().min(bytes);
    let skipped = length.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut text = Vec::new();
    file.take(length - skipped).read_to_end(&mut text)?;
    if skipped > 0 {
        // The first line is cut.
        let end = text
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        text.drain(..end);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bed(PathBuf);

    impl Bed {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ol-log-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn files(&self, name: &str) -> [PathBuf; 2] {
            files(&self.0, &FunctionName::new(name).unwrap())
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn print((logs, bytes_max): (&mut FunctionLogs, u64), stream: Stream, lines: &str) {
        let mut batch = Batch::default();
        let origin = Origin {
            name: FunctionName::new("f").unwrap(),
            instance: Key::new(3, 1),
            stream,
            call: Some(*b"deadbeef0000000001"),
        };
        batch.push(origin, Duration::from_secs(1), lines.as_bytes());
        assert_eq!(logs.write(&batch, bytes_max), [origin.name]);
    }

    #[test]
    fn lines_carry_their_origin_and_the_last_ones_are_told() {
        let bed = Bed::new("tail");
        let mut logs = FunctionLogs::open(&bed.0).unwrap();
        print((&mut logs, 1 << 20), Stream::Out, "one\ntwo\n");
        print((&mut logs, 1 << 20), Stream::Error, "three\n");
        let files = bed.files("f");
        let text = String::from_utf8(tail(&files, 2).unwrap()).unwrap();
        assert_eq!(
            text,
            "1970-01-01T00:00:01.000Z stdout 3.1 deadbeef0000000001 two\n\
             1970-01-01T00:00:01.000Z stderr 3.1 deadbeef0000000001 three\n"
        );
        assert_eq!(lines_of(&tail(&files, 100).unwrap()), 3);
        assert!(tail(&bed.files("g"), 5).unwrap().is_empty());
        logs.remove(&FunctionName::new("f").unwrap());
        assert!(tail(&files, 100).unwrap().is_empty());
    }

    #[test]
    fn the_bound_holds_and_the_newest_lines_stay() {
        let bed = Bed::new("bound");
        let bound = 8 * 1024;
        let mut logs = FunctionLogs::open(&bed.0).unwrap();
        let many = "early\n".repeat(1000);
        print((&mut logs, bound), Stream::Out, &many);
        for number in 0..1000 {
            print((&mut logs, bound), Stream::Out, &format!("line {number}\n"));
        }
        let files = bed.files("f");
        let sizes = files
            .iter()
            .map(|file| fs::metadata(file).map_or(0, |data| data.len()));
        let bytes: u64 = sizes.sum();
        assert!(bytes <= bound + bound / 2, "{bytes}");
        let text = String::from_utf8(tail(&files, 1).unwrap()).unwrap();
        assert!(text.ends_with("line 999\n"), "{text}");
    }

    #[test]
    fn a_follower_misses_nothing_when_the_log_is_rotated() {
        let bed = Bed::new("follow");
        let mut logs = FunctionLogs::open(&bed.0).unwrap();
        let early = Follower::new(&bed.files("f"), 10).unwrap();
        print((&mut logs, 2048), Stream::Out, "a\nb\nc\n");
        let late = Follower::new(&bed.files("f"), 2).unwrap();
        let mut followers = [(early, Vec::new()), (late, Vec::new())];
        for number in 0..50 {
            print((&mut logs, 2048), Stream::Out, &format!("{number}\n"));
            for (follower, seen) in &mut followers {
                loop {
                    let piece = follower.read().unwrap();
                    if piece.is_empty() {
                        break;
                    }
                    seen.extend(piece);
                }
            }
        }
        for ((_, seen), first) in followers.iter().zip(["a", "b"]) {
            let text = String::from_utf8(seen.clone()).unwrap();
            let mut words = text.lines().map(|line| line.rsplit(' ').next().unwrap());
            assert_eq!(words.next(), Some(first));
            let numbers: Vec<String> = words
                .skip_while(|word| *word != "0")
                .map(Into::into)
                .collect();
            let wanted: Vec<String> = (0..50).map(|number| number.to_string()).collect();
            assert_eq!(numbers, wanted);
        }
    }

    #[test]
    fn the_journal_gets_a_share() {
        let mut share = Share::default();
        let at = Duration::from_millis;
        let count = |share: &mut Share, now| (0..5000).filter(|_| share.take(now)).count() as u64;
        assert_eq!(count(&mut share, at(1_000_000)), JOURNAL_LINES_AT_ONCE);
        assert_eq!(share.left_out, 4000);
        assert_eq!(count(&mut share, at(1_001_000)), JOURNAL_LINES_PER_SECOND);
    }
}
