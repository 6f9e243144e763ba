//! The logs of functions: one bounded file each, rotated once, lines with time, instance and call.
//!
//! ```text
//!   logs/NAME.log     the newest lines
//!   logs/NAME.log.1   those before; replaced when NAME.log has reached half of the bound
//! ```
//!
//! Appending goes to the page cache and never waits for the disk. A log that cannot be written is
//! counted and told once in a while, never the function's problem.

use super::log::Moment;
use crate::base::{FunctionName, Key};
use crate::sys::clock;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What `tail` reads of one file at most.
const TAIL_BYTES_MAX: u64 = 4 << 20;
/// How many lines are lost between two complaints.
const COMPLAIN_EVERY: u64 = 1000;

/// Who printed.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a, T> {
    pub instance: Key<T>,
    /// The call it had; output of an import belongs to the call that caused it.
    pub call: Option<&'a str>,
}

/// The logs of all functions.
#[derive(Debug)]
pub struct FunctionLogs {
    directory: PathBuf,
    /// Of one function, both files.
    bytes_max: u64,
    lost: u64,
    text: Vec<u8>,
}

impl FunctionLogs {
    pub fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self {
            directory: directory.to_path_buf(),
            bytes_max,
            lost: 0,
            text: Vec::new(),
        })
    }

    pub fn set_bound(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Where the newest lines of a function are, and those before them.
    pub fn files(&self, name: &FunctionName) -> [PathBuf; 2] {
        let newest = self.directory.join(format!("{name}.log"));
        let older = self.directory.join(format!("{name}.log.1"));
        [newest, older]
    }

    /// Appends lines, each ended.
    pub fn append<T>(&mut self, name: &FunctionName, origin: &Origin<'_, T>, lines: &[u8]) {
        let now = Moment(clock::wall());
        let call = origin.call.unwrap_or("-");
        self.text.clear();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let _ = write!(self.text, "{now} {} {call} ", origin.instance);
            self.text.extend_from_slice(line);
        }
        if let Err(error) = self.write(name) {
            self.lose(lines, &error);
        }
    }

    fn write(&mut self, name: &FunctionName) -> io::Result<()> {
        let [newest, older] = self.files(name);
        let mut file = File::options().create(true).append(true).open(&newest)?;
        file.write_all(&self.text)?;
        if file.metadata()?.len() >= self.bytes_max / 2 {
            fs::rename(newest, older)?;
        }
        Ok(())
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

/// The last `count` lines of a function's files, the newest file first in `files`. Blocks.
pub fn tail(files: &[PathBuf; 2], count: usize) -> io::Result<Vec<u8>> {
    let mut text = last_bytes(&files[0])?;
    if lines_of(&text) < count {
        let mut older = last_bytes(&files[1])?;
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

fn lines_of(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count() - 1
}

fn last_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(TAIL_BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut text = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut text)?;
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
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn origin() -> Origin<'static, u8> {
        Origin {
            instance: Key::new(3, 1),
            call: Some("c1"),
        }
    }

    #[test]
    fn lines_carry_their_origin_and_the_last_ones_are_told() {
        let bed = Bed::new("tail");
        let mut logs = FunctionLogs::open(&bed.0, 1 << 20).unwrap();
        let name = FunctionName::new("f").unwrap();
        logs.append(&name, &origin(), b"one\ntwo\n");
        logs.append(&name, &origin(), b"three\n");
        let files = logs.files(&name);
        let text = String::from_utf8(tail(&files, 2).unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with(" 3.1 c1 two") && lines[1].ends_with(" 3.1 c1 three"));
        assert_eq!(lines_of(&tail(&files, 100).unwrap()), 3);
        let nobody = logs.files(&FunctionName::new("g").unwrap());
        assert!(tail(&nobody, 5).unwrap().is_empty());
    }

    #[test]
    fn the_bound_holds_and_the_newest_lines_stay() {
        let bed = Bed::new("bound");
        let mut logs = FunctionLogs::open(&bed.0, 8 * 1024).unwrap();
        let name = FunctionName::new("f").unwrap();
        for number in 0..1000 {
            logs.append(&name, &origin(), format!("line {number}\n").as_bytes());
        }
        let files = logs.files(&name);
        let bytes: u64 = files
            .iter()
            .filter_map(|file| Some(fs::metadata(file).ok()?.len()))
            .sum();
        assert!(bytes <= 8 * 1024 + 200, "{bytes}");
        let text = String::from_utf8(tail(&files, 1).unwrap()).unwrap();
        assert!(text.ends_with("line 999\n"), "{text}");
    }
}
