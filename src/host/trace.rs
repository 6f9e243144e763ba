//! The recorded trace on disk: one JSON line for each call, for simulators, fitting and replays.
//!
//! ```text
//!   traces/2026-11-28.000007.jsonl         a segment: calls, and the functions and packages in it
//!   traces/2026-11-27.000006.counts.jsonl  an old one, folded: how often each function was called
//! ```
//!
//! A segment ends with its day, or when it holds its share of the bound. Each stands for itself:
//! before a function's first call in it comes what the function asks for, so one that is lost takes
//! nothing along. Above `max_mb` the oldest segment is folded to counts, which is said in the log
//! and in the trace; folded ones that are still too much, and those older than `keep_days`, go.
//!
//! Everything here blocks: helpers do it. A worker that died in the middle of a line leaves half of
//! it, which the next one cuts off.

use super::log::Moment;
use super::stretch::Stretch;
use crate::base::FunctionName;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// So many segments fill the bound: what is folded at once is a small part of the whole.
const SEGMENTS_OF_BOUND: u64 = 8;
/// Of the bound, what folded segments may take.
const FOLDED_SHARE: u64 = 4;
/// No line that was written here is longer.
const LINE_BYTES_MAX: u64 = 1 << 20;
const DAY: Duration = Duration::from_hours(24);
/// Behind the names of segments.
const ENDING: &str = ".jsonl";
const FOLDED_ENDING: &str = ".counts.jsonl";
const UNFINISHED_ENDING: &str = ".new";

/// One call that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// When it arrived, since 1970.
    pub at: Duration,
    pub function: FunctionName,
    /// As the registry numbers it; 0 for code that somebody put there by hand.
    pub version: u64,
    /// `warm`, `zygote` or `fresh`.
    pub start: &'static str,
    /// Of its answer.
    pub status: u16,
    pub queued_us: u32,
    /// From asking for a sandbox until user code had the call; 0 where one was there.
    pub cold_us: u32,
    /// In user code.
    pub ran_us: u32,
    /// What its sandbox held when it was measured last; 0 before that.
    pub mem_bytes: u64,
}

/// What a function asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    pub name: FunctionName,
    /// `numpy==1.26.4`, dependencies included as far as they are known.
    pub packages: Vec<String>,
    pub imports: Vec<String>,
}

/// A package of the store, as it was profiled.
#[derive(Clone, PartialEq, Debug)]
pub struct Package {
    /// `numpy==1.26.4`.
    pub name: String,
    pub deps: Vec<String>,
    /// Its top-level modules.
    pub top: Vec<String>,
    pub import_ms: f64,
    pub mem_mb: f64,
}

/// One thing to be recorded.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    Call(Call),
    Function(Box<Function>),
    Package(Box<Package>),
}

/// `[trace]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub keep_days: u64,
    pub max_bytes: u64,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// `2026-11-28`.
    day: String,
    is_folded: bool,
    bytes: u64,
}

impl Segment {
    fn file_name(&self) -> String {
        let ending = if self.is_folded {
            FOLDED_ENDING
        } else {
            ENDING
        };
        format!("{}.{:06}{ending}", self.day, self.number)
    }

    /// None: a file of somebody else.
    fn of(name: &str, bytes: u64) -> Option<Self> {
        let stem = name.strip_suffix(ENDING)?;
        let (stem, is_folded) = match stem.strip_suffix(".counts") {
            Some(stem) => (stem, true),
            None => (stem, false),
        };
        let (day, number) = stem.split_once('.')?;
        Some(Self {
            number: number.parse().ok()?,
            day: day.to_owned(),
            is_folded,
            bytes,
        })
    }
}

/// The recorded trace of one worker.
#[derive(Debug)]
pub struct TraceFiles {
    directory: PathBuf,
    bounds: Bounds,
    /// Oldest first; the last one is written to while `file` is there.
    segments: VecDeque<Segment>,
    file: Option<File>,
    /// Functions of which the present segment tells.
    noted: BTreeSet<FunctionName>,
    functions: BTreeMap<FunctionName, Vec<u8>>,
    packages: BTreeMap<String, Vec<u8>>,
    text: Vec<u8>,
}

impl TraceFiles {
    /// Opens the record of an earlier worker, or begins one.
    pub fn open(directory: &Path, bounds: Bounds) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(UNFINISHED_ENDING) {
                fs::remove_file(entry.path())?;
            } else {
                segments.extend(Segment::of(&name, entry.metadata()?.len()));
            }
        }
        // Of a segment that was folded and not yet removed, the folded one comes first and counts.
        segments.sort_by_key(|segment| (segment.number, !segment.is_folded));
        let mut files = Self {
            directory: directory.to_path_buf(),
            bounds,
            segments: VecDeque::new(),
            file: None,
            noted: BTreeSet::new(),
            functions: BTreeMap::new(),
            packages: BTreeMap::new(),
            text: Vec::new(),
        };
        for segment in segments {
            if files
                .segments
                .back()
                .is_some_and(|last| last.number == segment.number)
            {
                fs::remove_file(files.path(&segment))?;
            } else {
                files.segments.push_back(segment);
            }
        }
        files.mend_last()?;
        Ok(files)
    }

    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Writes entries, and `lost` for calls that there was no place for. Returns how many segments
    /// had to be folded.
    pub fn append(&mut self, entries: &[Entry], lost: u64, now: Duration) -> io::Result<u32> {
        if entries.is_empty() && lost == 0 {
            return Ok(0);
        }
        self.text.clear();
        let day = day_of(now);
        let begun = self.segments.back().filter(|_| self.file.is_some());
        let share = self.bounds.max_bytes / SEGMENTS_OF_BOUND;
        if begun.is_none_or(|segment| segment.day != day || segment.bytes >= share) {
            self.begin_segment(day)?;
        }
        for entry in entries {
            self.put(entry);
        }
        if lost > 0 {
            let _ = writeln!(
                self.text,
                r#"{{"t":{},"event":"lost","calls":{lost}}}"#,
                Seconds(now)
            );
        }
        let file = self.file.as_mut().expect("a segment was begun above");
        let segment = self.segments.back_mut();
        let segment = segment.expect("a file belongs to a segment");
        if let Err(error) = file.write_all(&self.text) {
            // Half a line in the middle would spoil what comes behind it.
            file.set_len(segment.bytes)?;
            return Err(error);
        }
        segment.bytes += self.text.len() as u64;
        self.keep_bounds(now)
    }

    /// Everything recorded, oldest first.
    pub fn stretches(&self) -> Vec<Stretch> {
        let stretch = |segment: &Segment| Stretch {
            path: self.path(segment),
            bytes: segment.bytes,
        };
        self.segments.iter().map(stretch).collect()
    }

    fn path(&self, segment: &Segment) -> PathBuf {
        self.directory.join(segment.file_name())
    }

    fn begin_segment(&mut self, day: String) -> io::Result<()> {
        let segment = Segment {
            number: self.segments.back().map_or(1, |last| last.number + 1),
            day,
            is_folded: false,
            bytes: 0,
        };
        let path = self.path(&segment);
        self.file = Some(
            File::options()
                .append(true)
                .create(true)
                .truncate(false)
                .open(path)?,
        );
        self.segments.push_back(segment);
        self.noted.clear();
        for line in self.packages.values() {
            self.text.extend_from_slice(line);
        }
        Ok(())
    }

    fn put(&mut self, entry: &Entry) {
        match entry {
            Entry::Call(call) => {
                if self.noted.insert(call.function)
                    && let Some(line) = self.functions.get(&call.function)
                {
                    self.text.extend_from_slice(line);
                }
                write_call(call, &mut self.text);
            }
            Entry::Function(function) => {
                let line = function_line(function);
                if self.functions.get(&function.name) != Some(&line) {
                    self.noted.remove(&function.name);
                    self.functions.insert(function.name, line);
                }
            }
            Entry::Package(package) => {
                let line = package_line(package);
                self.text.extend_from_slice(&line);
                self.packages.insert(package.name.clone(), line);
            }
        }
    }

    /// Cuts off what a worker that died did not finish.
    fn mend_last(&mut self) -> io::Result<()> {
        let Some(last) = self
            .segments
            .back()
            .filter(|last| !last.is_folded && last.bytes > 0)
        else {
            return Ok(());
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(self.path(last))?;
        let tail = last.bytes.min(LINE_BYTES_MAX);
        file.seek(SeekFrom::Start(last.bytes - tail))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let end = text.iter().rposition(|byte| *byte == b'\n');
        let whole = last.bytes - tail + end.map_or(0, |at| at as u64 + 1);
        if whole < last.bytes {
            file.set_len(whole)?;
            if let Some(last) = self.segments.back_mut() {
                last.bytes = whole;
            }
        }
        Ok(())
    }

    fn keep_bounds(&mut self, now: Duration) -> io::Result<u32> {
        let oldest = day_of(now.saturating_sub(DAY * self.bounds.keep_days as u32));
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.day < oldest)
        {
            self.remove_oldest()?;
        }
        let mut folded = 0;
        while self.bytes(|_| true) > self.bounds.max_bytes {
            // The last one is being written.
            let detailed = self.segments.len().saturating_sub(1);
            let next = (0..detailed).find(|&index| !self.segments[index].is_folded);
            let Some(index) = next else { break };
            self.fold(index)?;
            folded += 1;
        }
        while self.bytes(|segment| segment.is_folded) > self.bounds.max_bytes / FOLDED_SHARE {
            self.remove_oldest()?;
        }
        Ok(folded)
    }

    fn bytes(&self, counts: impl Fn(&Segment) -> bool) -> u64 {
        let counted = self.segments.iter().filter(|segment| counts(segment));
        counted.map(|segment| segment.bytes).sum()
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        if let Some(segment) = self.segments.pop_front() {
            fs::remove_file(self.path(&segment))?;
        }
        if self.segments.is_empty() {
            self.file = None;
        }
        Ok(())
    }

    /// Replaces a segment by how often each function was called in it.
    fn fold(&mut self, index: usize) -> io::Result<()> {
        let segment = &self.segments[index];
        let detailed = self.path(segment);
        let text = folded(BufReader::new(File::open(&detailed)?))?;
        let segment = &mut self.segments[index];
        segment.is_folded = true;
        segment.bytes = text.len() as u64;
        let segment = &self.segments[index];
        let place = self.path(segment);
        let aside = place.with_added_extension(&UNFINISHED_ENDING[1..]);
        fs::write(&aside, &text)?;
        fs::rename(&aside, &place)?;
        fs::remove_file(detailed)
    }
}

/// `2026-11-28`.
fn day_of(at: Duration) -> String {
    let mut text = Moment(at).to_string();
    text.truncate("2026-11-28".len());
    text
}

/// Seconds since 1970, to the microsecond.
struct Seconds(Duration);

impl core::fmt::Display for Seconds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

/// Microseconds as milliseconds.
struct Millis(u32);

impl core::fmt::Display for Millis {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

fn write_call(call: &Call, out: &mut Vec<u8>) {
    // Names of functions need no escapes.
    let _ = write!(
        out,
        r#"{{"t":{},"event":"invocation","function":"{}","version":{},"start":"{}""#,
        Seconds(call.at),
        call.function,
        call.version,
        call.start,
    );
    let _ = writeln!(
        out,
        r#","ms":{},"queue_ms":{},"cold_ms":{},"mem_mb":{:.1},"status":{}}}"#,
        Millis(call.ran_us),
        Millis(call.queued_us),
        Millis(call.cold_us),
        call.mem_bytes as f64 / f64::from(1 << 20),
        call.status,
    );
}

fn function_line(function: &Function) -> Vec<u8> {
    let value = serde_json::json!({
        "event": "function",
        "name": function.name.as_str(),
        "packages": function.packages,
        "imports": function.imports,
    });
    format!("{value}\n").into_bytes()
}

fn package_line(package: &Package) -> Vec<u8> {
    let value = serde_json::json!({
        "event": "package",
        "name": package.name,
        "deps": package.deps,
        "top": package.top,
        "import_ms": package.import_ms,
        "mem_mb": package.mem_mb,
    });
    format!("{value}\n").into_bytes()
}

/// A line as it is read again to be folded.
#[derive(Deserialize)]
struct Line<'a> {
    event: &'a str,
    #[serde(default)]
    t: f64,
    #[serde(default)]
    function: &'a str,
    #[serde(default)]
    start: &'a str,
    #[serde(default)]
    ms: f64,
    #[serde(default)]
    cold_ms: f64,
    #[serde(default)]
    mem_mb: f64,
}

/// What is left of one function's calls.
#[derive(Default)]
struct Count {
    first: f64,
    last: f64,
    warm: u64,
    zygote: u64,
    fresh: u64,
    ms: f64,
    cold_ms: f64,
    mem_mb: f64,
}

impl Count {
    fn add(&mut self, line: &Line<'_>) {
        if self.calls() == 0 {
            self.first = line.t;
        }
        self.first = self.first.min(line.t);
        self.last = self.last.max(line.t);
        match line.start {
            "warm" => self.warm += 1,
            "zygote" => self.zygote += 1,
            _ => self.fresh += 1,
        }
        self.ms += line.ms;
        self.cold_ms += line.cold_ms;
        self.mem_mb = self.mem_mb.max(line.mem_mb);
    }

    fn calls(&self) -> u64 {
        self.warm + self.zygote + self.fresh
    }

    fn line(&self, function: &str) -> String {
        let mean = |sum: f64, count: u64| (sum / count.max(1) as f64 * 1e3).round() / 1e3;
        let value = serde_json::json!({
            "t": self.first,
            "event": "counts",
            "function": function,
            "until": self.last,
            "calls": self.calls(),
            "warm": self.warm,
            "zygote": self.zygote,
            "fresh": self.fresh,
            "ms": mean(self.ms, self.calls()),
            "cold_ms": mean(self.cold_ms, self.zygote + self.fresh),
            "mem_mb": self.mem_mb,
        });
        format!("{value}\n")
    }
}

/// The folded text of a segment. What cannot be understood is left out.
fn folded(mut segment: impl BufRead) -> io::Result<Vec<u8>> {
    let mut others = Vec::new();
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let mut text = Vec::new();
    loop {
        text.clear();
        let count = (&mut segment)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut text)?;
        if count == 0 {
            break;
        }
        match serde_json::from_slice::<Line<'_>>(&text) {
            Ok(line) if line.event == "invocation" => {
                if let Some(known) = counts.get_mut(line.function) {
                    known.add(&line);
                } else {
                    let mut count = Count::default();
                    count.add(&line);
                    counts.insert(line.function.to_owned(), count);
                }
            }
            Ok(_) => others.extend_from_slice(&text),
            // A function's line has names that are no plain strings only where nobody wrote it.
            Err(_) if text.starts_with(b"{\"event\"") => others.extend_from_slice(&text),
            Err(_) => {}
        }
    }
    for (function, count) in &counts {
        others.extend_from_slice(count.line(function).as_bytes());
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bed(PathBuf);

    impl Bed {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ol-trace-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn open(&self, max_bytes: u64) -> TraceFiles {
            let bounds = Bounds {
                keep_days: 2,
                max_bytes,
            };
            TraceFiles::open(&self.0, bounds).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> = names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort_unstable();
            names
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn text(files: &TraceFiles) -> String {
        let parts = files.stretches();
        let read = |part: &Stretch| {
            let text = fs::read_to_string(&part.path).unwrap();
            text[..part.bytes as usize].to_owned()
        };
        parts.iter().map(read).collect()
    }

    fn name(text: &str) -> FunctionName {
        FunctionName::new(text).unwrap()
    }

    fn call(at: Duration) -> Entry {
        Entry::Call(Call {
            at,
            function: name("f"),
            version: 3,
            start: "zygote",
            status: 200,
            queued_us: 1_500,
            cold_us: 20_250,
            ran_us: 7,
            mem_bytes: 3 << 19,
        })
    }

    fn function(packages: &[&str]) -> Entry {
        Entry::Function(Box::new(Function {
            name: name("f"),
            packages: packages.iter().map(|&text| text.to_owned()).collect(),
            imports: vec!["json".to_owned()],
        }))
    }

    const NOON: Duration = Duration::from_hours(490_091);

    #[test]
    fn a_call_is_one_line_behind_what_its_function_asks_for() {
        let bed = Bed::new("line");
        let mut files = bed.open(1 << 20);
        let at = NOON + Duration::from_micros(1_250);
        let entries = [function(&["numpy==1.26.4"]), call(at), call(at)];
        assert_eq!(files.append(&entries, 2, NOON).unwrap(), 0);
        let all = text(&files);
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(
            lines[0],
            r#"{"event":"function","name":"f","packages":["numpy==1.26.4"],"imports":["json"]}"#
        );
        let wanted = [
            r#"{"t":1764327600.001250,"event":"invocation","function":"f","version":3,"#,
            r#""start":"zygote","ms":0.007,"queue_ms":1.500,"cold_ms":20.250,"#,
            r#""mem_mb":1.5,"status":200}"#,
        ]
        .concat();
        assert_eq!((lines[1], lines[2]), (wanted.as_str(), wanted.as_str()));
        assert!(lines[3].contains(r#""event":"lost","calls":2"#));
        // Nothing new is told of it until it changes.
        files
            .append(&[function(&["numpy==1.26.4"]), call(at)], 0, NOON)
            .unwrap();
        files
            .append(&[function(&["six==1.16.0"]), call(at)], 0, NOON)
            .unwrap();
        assert_eq!(text(&files).matches(r#""event":"function""#).count(), 2);
    }

    #[test]
    fn each_day_has_a_file_that_stands_for_itself_and_old_ones_go() {
        let bed = Bed::new("days");
        let mut files = bed.open(1 << 20);
        let package = Entry::Package(Box::new(Package {
            name: "six==1.16.0".into(),
            deps: Vec::new(),
            top: vec!["six".into()],
            import_ms: 1.25,
            mem_mb: 0.5,
        }));
        files.append(&[function(&[]), package], 0, NOON).unwrap();
        for day in 0..4 {
            let now = NOON + DAY * day;
            files.append(&[call(now)], 0, now).unwrap();
        }
        let names = bed.names();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[2].starts_with("2025-12-01."));
        let last = fs::read_to_string(bed.0.join(&names[2])).unwrap();
        let events: Vec<&str> = last
            .lines()
            .map(|line| {
                let from = line.find(r#""event":""#).unwrap() + 9;
                line[from..].split('"').next().unwrap()
            })
            .collect();
        assert_eq!(events, ["package", "function", "invocation"]);
    }

    #[test]
    fn half_a_line_is_cut_off_and_a_new_worker_goes_on() {
        let bed = Bed::new("torn");
        bed.open(1 << 20).append(&[call(NOON)], 0, NOON).unwrap();
        let path = bed.0.join(&bed.names()[0]);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"t\":17643").unwrap();
        fs::write(bed.0.join("2025-11-28.000001.counts.jsonl.new"), "half").unwrap();
        let mut files = bed.open(1 << 20);
        files.append(&[call(NOON)], 0, NOON).unwrap();
        assert_eq!(text(&files).lines().count(), 2);
        assert_eq!(bed.names().len(), 2);
    }

    #[test]
    fn above_the_bound_the_oldest_calls_are_counts() {
        let bed = Bed::new("fold");
        let bound = 64 << 10;
        let mut files = bed.open(bound);
        let batch = vec![call(NOON); 20];
        let mut folded = 0;
        files.append(&[function(&["a"])], 0, NOON).unwrap();
        for _ in 0..100 {
            folded += files.append(&batch, 0, NOON).unwrap();
            assert!(files.bytes(|_| true) <= bound + 10_000);
        }
        assert!(folded > 0);
        let all = text(&files);
        let mut calls = 0;
        for line in all.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            match value["event"].as_str().unwrap() {
                "invocation" => calls += 1,
                "counts" => {
                    calls += value["calls"].as_u64().unwrap();
                    assert_eq!(value["cold_ms"], 20.25);
                }
                _ => {}
            }
        }
        assert_eq!(calls, 2000);
        let again = bed.open(bound);
        assert_eq!(text(&again), all);
    }
}
