//! The trace a worker records: JSON lines, one event each.
//!
//! A line tells of a call, of a function or of a package; what a function costs stands nowhere, it
//! follows from all its calls. So the file is read twice: once for the functions (mean times, the
//! largest memory), once for the calls. Lines are written as calls end, hence not quite in order of
//! arrival: a bounded heap puts them in order, and what is later than that is refused.
//!
//! | of a function | is taken from |
//! |---|---|
//! | `warm_ms` | the mean `ms` of its warm calls, of all calls where none was warm |
//! | `cold_ms` | that and the mean `cold_ms` of its calls that were not warm |
//! | `mem_mb` | the largest seen |
//!
//! A worker tells times since 1970: such times count from the first call. What it folded to counts
//! or lost is known by number only, which a note says.
//!
//! Where nothing was seen, the mean over the other functions stands in, and a note says so.

use super::lexer::Lexer;
use super::{Arrival, FUNCTIONS_MAX, Function, Header, Package, TraceError, bytes, check_function};
use core::cmp::Reverse;
use serde::Deserialize;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

/// A line tells of one event; packages of a function are the longest thing in it.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;
/// So many calls may end between one's arrival and its own line.
const REORDERED_MAX: usize = 1 << 16;
/// Times from here on are dates, not offsets: thirty years in seconds.
const DATES_FROM_S: f64 = 1e9;
/// For a trace that has no memory figure at all.
const MEMORY_UNKNOWN_MB: f64 = 128.0;

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Line {
    Invocation(Invocation),
    Function {
        name: String,
        #[serde(default)]
        packages: Vec<String>,
        #[serde(default)]
        imports: Vec<String>,
    },
    Package {
        name: String,
        #[serde(default)]
        deps: Vec<String>,
        #[serde(default)]
        top: Vec<String>,
        #[serde(default)]
        import_ms: f64,
        #[serde(default)]
        mem_mb: f64,
    },
    /// Of calls that were folded.
    Counts(Invocation),
    Lost {
        #[serde(default)]
        calls: f64,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct Invocation {
    t: f64,
    function: String,
    #[serde(default)]
    start: String,
    #[serde(default)]
    ms: f64,
    #[serde(default)]
    cold_ms: Option<f64>,
    #[serde(default)]
    mem_mb: Option<f64>,
    /// More than one where calls were folded.
    #[serde(default = "one")]
    calls: f64,
}

fn one() -> f64 {
    1.0
}

/// Sums over the calls of one function.
#[derive(Debug, Default)]
struct Seen {
    warm: Mean,
    any: Mean,
    start: Mean,
    mem_mb: f64,
    packages: Vec<String>,
    imports: Vec<String>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn get(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

/// Stands between two lines of the second reading.
#[derive(Debug)]
pub struct Arrivals {
    lines: Lexer,
    index: BTreeMap<String, u32>,
    /// Taken off every time.
    origin_s: f64,
    /// Bits of the time (never negative), order in the file, function.
    waiting: BinaryHeap<Reverse<(u64, u64, u32)>>,
    read: u64,
    ended: bool,
}

pub fn open(
    path: &Path,
    first: bytes::Bytes,
) -> Result<(Header, Arrivals, bytes::Progress), TraceError> {
    let Survey {
        header,
        index,
        origin_s,
    } = survey(first)?;
    let (again, progress) = bytes::open(path)?;
    let mut lines = Lexer::new(again);
    if lines.byte()?.is_none() {
        return Err(
            TraceError::whole("a recorded trace is read twice").remedied("save it to a file first")
        );
    }
    let waiting = BinaryHeap::new();
    Ok((
        header,
        Arrivals {
            lines,
            index,
            origin_s,
            waiting,
            read: 0,
            ended: false,
        },
        progress,
    ))
}

/// What the first reading found.
struct Survey {
    header: Header,
    index: BTreeMap<String, u32>,
    origin_s: f64,
}

fn survey(first: bytes::Bytes) -> Result<Survey, TraceError> {
    let mut lines = Lexer::new(first);
    let mut seen: Vec<(String, Seen)> = Vec::new();
    let mut index = BTreeMap::new();
    let mut packages = Vec::new();
    let (mut others, mut missing) = (0_u64, 0.0);
    let mut first_s = f64::INFINITY;
    while let Some(line) = next_line(&mut lines)? {
        match line {
            Line::Invocation(call) => {
                let known = entry(&mut seen, &mut index, &call.function, &lines)?;
                known.count(&call);
                first_s = first_s.min(call.t);
            }
            Line::Counts(calls) => missing += calls.calls,
            Line::Lost { calls } => missing += calls,
            Line::Function {
                name,
                packages,
                imports,
            } => {
                let known = entry(&mut seen, &mut index, &name, &lines)?;
                known.packages = packages;
                known.imports = imports;
            }
            Line::Package {
                name,
                deps,
                top,
                import_ms,
                mem_mb,
            } => {
                packages.push(Package {
                    name,
                    deps,
                    top,
                    import_ms,
                    mem_mb,
                });
            }
            Line::Other => others += 1,
        }
    }
    let (functions, mut notes) = functions(seen);
    for function in &functions {
        check_function(function).map_err(TraceError::whole)?;
    }
    if others > 0 {
        notes.push(format!(
            "{others} lines tell of other events and were left out"
        ));
    }
    if missing > 0.0 {
        notes.push(format!(
            "{missing} calls are known by number only (folded or lost) and were left out"
        ));
    }
    let is_dated = first_s.is_finite() && first_s >= DATES_FROM_S;
    Ok(Survey {
        header: Header {
            functions,
            packages,
            notes,
        },
        index,
        origin_s: if is_dated { first_s } else { 0.0 },
    })
}

fn entry<'a>(
    seen: &'a mut Vec<(String, Seen)>,
    index: &mut BTreeMap<String, u32>,
    name: &str,
    lines: &Lexer,
) -> Result<&'a mut Seen, TraceError> {
    let known = index.get(name).copied();
    let at = match known {
        Some(at) => at as usize,
        None if seen.len() == FUNCTIONS_MAX => {
            return Err(lines.refuse(format!("more than {FUNCTIONS_MAX} functions")));
        }
        None => {
            index.insert(name.to_owned(), seen.len() as u32);
            seen.push((name.to_owned(), Seen::default()));
            seen.len() - 1
        }
    };
    Ok(&mut seen[at].1)
}

impl Seen {
    fn count(&mut self, call: &Invocation) {
        self.any.add(call.ms);
        if call.start == "warm" {
            self.warm.add(call.ms);
        } else if let Some(start_ms) = call.cold_ms {
            self.start.add(start_ms);
        }
        self.mem_mb = f64::max(self.mem_mb, call.mem_mb.unwrap_or(0.0));
    }
}

fn functions(seen: Vec<(String, Seen)>) -> (Vec<Function>, Vec<String>) {
    let mean = |values: Vec<f64>| {
        let count = values.len().max(1) as f64;
        values.iter().sum::<f64>() / count
    };
    let start_ms = mean(
        seen.iter()
            .filter_map(|(_, seen)| seen.start.get())
            .collect(),
    );
    let sized = seen
        .iter()
        .map(|(_, seen)| seen.mem_mb)
        .filter(|&mb| mb > 0.0);
    let mem_mb = mean(sized.collect());
    let mem_mb = if mem_mb > 0.0 {
        mem_mb
    } else {
        MEMORY_UNKNOWN_MB
    };
    let (mut startless, mut sizeless) = (0, 0);
    let functions = seen.into_iter().map(|(name, seen)| {
        startless += u32::from(seen.start.get().is_none());
        sizeless += u32::from(seen.mem_mb <= 0.0);
        let warm_ms = seen.warm.get().or(seen.any.get()).unwrap_or(0.0);
        Function {
            name,
            mem_mb: if seen.mem_mb > 0.0 {
                seen.mem_mb
            } else {
                mem_mb
            },
            cold_ms: warm_ms + seen.start.get().unwrap_or(start_ms),
            warm_ms,
            packages: seen.packages,
            imports: seen.imports,
        }
    });
    let functions: Vec<Function> = functions.collect();
    let mut notes = Vec::new();
    if startless > 0 {
        notes.push(format!(
            "{startless} functions without a recorded start get {start_ms:.0} ms"
        ));
    }
    if sizeless > 0 {
        notes.push(format!(
            "{sizeless} functions without a memory figure get {mem_mb:.0} MB"
        ));
    }
    (functions, notes)
}

/// The next line that is not blank.
fn next_line(lines: &mut Lexer) -> Result<Option<Line>, TraceError> {
    loop {
        let number = lines.line();
        let Some(text) = lines.text_line(LINE_BYTES_MAX)? else {
            return Ok(None);
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        let line: Line = serde_json::from_slice(&text)
            .map_err(|error| TraceError::at(number, format!("no line of a trace: {error}")))?;
        if let Line::Invocation(call) | Line::Counts(call) = &line {
            call.check().map_err(|why| TraceError::at(number, why))?;
        }
        return Ok(Some(line));
    }
}

impl Invocation {
    fn check(&self) -> Result<(), String> {
        let figures = [
            ("t", self.t),
            ("ms", self.ms),
            ("cold_ms", self.cold_ms.unwrap_or(0.0)),
            ("mem_mb", self.mem_mb.unwrap_or(0.0)),
            ("calls", self.calls),
        ];
        for (name, value) in figures {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("`{name}` is {value} (must not be negative)"));
            }
        }
        Ok(())
    }
}

impl Arrivals {
    pub fn line(&self) -> u64 {
        self.lines.line().saturating_sub(1)
    }

    pub fn next(&mut self) -> Result<Option<Arrival>, TraceError> {
        while !self.ended && self.waiting.len() < REORDERED_MAX {
            match next_line(&mut self.lines)? {
                Some(Line::Invocation(call)) => {
                    let Some(&function) = self.index.get(&call.function) else {
                        return Err(self.lines.refuse("the file changed while it was read"));
                    };
                    // Adding zero makes a negative zero positive: bits order only those.
                    let t_ms = (call.t - self.origin_s).max(0.0) * 1e3 + 0.0;
                    self.waiting
                        .push(Reverse((t_ms.to_bits(), self.read, function)));
                    self.read += 1;
                }
                Some(_) => {}
                None => self.ended = true,
            }
        }
        let next = self.waiting.pop();
        Ok(next.map(|Reverse((bits, _, function))| Arrival {
            t_ms: f64::from_bits(bits),
            function,
        }))
    }
}
