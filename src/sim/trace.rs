//! Call traces for every simulator: who is called when, and what a start of each function costs.
//!
//! Owns the vocabulary ([`Function`], [`Arrival`]) and the reading: [`open`] looks at the content
//! of a path (never at its name), reads what must be known before the first call (the [`Header`])
//! and then hands out arrivals in order, a batch at a time, so that memory is bounded by functions
//! and not by calls. Whatever a [`Reader`] hands out has been checked: times are finite, never
//! negative, never decreasing; every index names a function. A bad trace, also one that has no call
//! at all, is refused with line and reason.
//!
//! | begins with | is |
//! |---|---|
//! | `{` and has `functions` and `events` | a plain trace, see [`json`] |
//! | a line `{.., "event": ..}` | what a worker recorded, see [`recorded`] |
//! | `app,func,end_timestamp,duration` | Azure Functions 2021, see [`azure`] |
//! | (a directory) | Azure Functions 2019, see [`azure`] |
//!
//! Every file may be compressed with gzip.
//!
//! ```text
//! path --open--> Reader { header } --read--> batch, batch, ... --> end | refused (line, reason)
//! ```

#![forbid(unsafe_code)]

pub mod asked;
mod azure;
mod bytes;
pub mod generate;
mod json;
mod lexer;
mod recorded;
#[cfg(test)]
mod tests;

use bytes::Progress;
use core::fmt;
use std::path::{Path, PathBuf};

/// A trace with more functions than this is refused: every simulated worker has tables of them.
pub const FUNCTIONS_MAX: usize = 1 << 20;

/// Times beyond this (three centuries) are mistakes of whoever wrote the trace: most are another
/// unit.
const MS_MAX: f64 = 1e13;
/// Sizes beyond this are, too.
const MB_MAX: f64 = 1e9;

/// One function, with what its calls cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub name: String,
    pub mem_mb: f64,
    /// How long a call takes that must start an instance first, the start included.
    pub cold_ms: f64,
    /// How long a call takes on an instance that is there.
    pub warm_ms: f64,
    /// Its whole requirement set where the trace knows it, as the trace spells it.
    pub packages: Vec<String>,
    /// What it really imports, where the trace knows it.
    pub imports: Vec<String>,
}

impl Function {
    /// A function of which only the costs are known.
    pub fn plain(name: impl Into<String>, mem_mb: f64, cold_ms: f64, warm_ms: f64) -> Self {
        let (packages, imports) = (Vec::new(), Vec::new());
        Self {
            name: name.into(),
            mem_mb,
            cold_ms,
            warm_ms,
            packages,
            imports,
        }
    }
}

/// One package as a recorded trace profiles it.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    pub name: String,
    pub deps: Vec<String>,
    pub top: Vec<String>,
    pub import_ms: f64,
    pub mem_mb: f64,
}

/// One call, when it comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    pub t_ms: f64,
    pub function: u32,
}

/// What is known before the first arrival.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    pub functions: Vec<Function>,
    pub packages: Vec<Package>,
    /// What the reader had to assume or leave out, for a person to read.
    pub notes: Vec<String>,
}

/// Why a trace is refused, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceError {
    path: PathBuf,
    line: Option<u64>,
    why: String,
    remedy: &'static str,
}

impl TraceError {
    pub(crate) fn at(line: u64, why: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            ..Self::whole(why)
        }
    }

    /// Of no line in particular.
    pub(crate) fn whole(why: impl Into<String>) -> Self {
        Self {
            path: PathBuf::new(),
            line: None,
            why: why.into(),
            remedy: "correct the trace",
        }
    }

    pub(crate) fn remedied(self, remedy: &'static str) -> Self {
        Self { remedy, ..self }
    }

    /// Names the path, unless one nearer to the error is named already.
    fn of(mut self, path: &Path) -> Self {
        if self.path.as_os_str().is_empty() {
            self.path = path.to_path_buf();
        }
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line where that is known, and the reason.
    pub fn why(&self) -> String {
        match self.line {
            Some(line) => format!("line {line}: {}", self.why),
            None => self.why.clone(),
        }
    }

    pub fn remedy(&self) -> &'static str {
        self.remedy
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({})",
            self.path.display(),
            self.why(),
            self.remedy
        )
    }
}

impl core::error::Error for TraceError {}

/// An open trace, before its first or between two arrivals.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    header: Header,
    source: Source,
    checked: Checked,
    progress: Progress,
}

#[derive(Debug)]
enum Source {
    Json(json::Arrivals),
    Recorded(recorded::Arrivals),
    Azure(Box<azure::Arrivals>),
    Memory(std::vec::IntoIter<Arrival>),
    Generated(generate::Arrivals),
}

/// What has been seen of the order of arrivals.
#[derive(Debug, Default)]
struct Checked {
    arrivals: u64,
    last_ms: f64,
}

impl Checked {
    fn check(&mut self, arrival: Arrival, functions: usize) -> Result<(), TraceError> {
        let number = self.arrivals + 1;
        let Arrival { t_ms, function } = arrival;
        if !t_ms.is_finite() || t_ms < 0.0 {
            let why = format!("call {number}: the time {t_ms} ms is negative or no number");
            return Err(TraceError::whole(why));
        }
        if t_ms > MS_MAX {
            let why = format!("call {number}: the time {t_ms:e} ms is beyond {MS_MAX:e} ms");
            return Err(TraceError::whole(why).remedied("give times in milliseconds"));
        }
        if function as usize >= functions {
            let why = format!("call {number}: there is no function {function} among {functions}");
            return Err(TraceError::whole(why));
        }
        if t_ms < self.last_ms {
            let before = self.last_ms;
            let why = format!(
                "call {number} at {t_ms} ms is earlier than the one before it at {before} ms"
            );
            return Err(TraceError::whole(why).remedied("sort the trace by time"));
        }
        self.arrivals = number;
        self.last_ms = t_ms;
        Ok(())
    }
}

impl Reader {
    /// A trace that is in memory already.
    pub fn from_memory(name: &str, header: Header, arrivals: Vec<Arrival>) -> Self {
        Self::new(
            Path::new(name),
            header,
            Source::Memory(arrivals.into_iter()),
        )
    }

    /// A made-up trace; the plan must be one that can be made up (`Plan::refusal`).
    pub fn generated(plan: &generate::Plan) -> Self {
        let (header, arrivals) = generate::generate(plan);
        let name = format!("{}-{}", plan.kind.name(), plan.seed);
        Self::new(Path::new(&name), header, Source::Generated(arrivals))
    }

    fn new(path: &Path, header: Header, source: Source) -> Self {
        let (checked, progress) = (Checked::default(), Progress::default());
        Self {
            path: path.to_path_buf(),
            header,
            source,
            checked,
            progress,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How much of the file has been read, between zero and one, where that is known.
    pub fn progress(&self) -> Option<f64> {
        self.progress.share()
    }

    /// How many arrivals were handed out.
    pub fn arrivals(&self) -> u64 {
        self.checked.arrivals
    }

    /// Appends up to `limit` arrivals; `false` when the trace has come to its end.
    pub fn read(&mut self, into: &mut Vec<Arrival>, limit: usize) -> Result<bool, TraceError> {
        let functions = self.header.functions.len();
        for _ in 0..limit {
            let next = self.source.next().map_err(|error| error.of(&self.path))?;
            let Some(arrival) = next else {
                self.refuse_empty()?;
                return Ok(false);
            };
            let checked = self.checked.check(arrival, functions);
            checked.map_err(|error| self.source.locate(error).of(&self.path))?;
            into.push(arrival);
        }
        Ok(true)
    }

    /// A file that ends before its first call would give a table of zeros that says nothing.
    fn refuse_empty(&self) -> Result<(), TraceError> {
        let made_up = matches!(self.source, Source::Memory(_) | Source::Generated(_));
        if made_up || self.checked.arrivals > 0 {
            return Ok(());
        }
        Err(self.source.locate(no_calls()).of(&self.path))
    }

    /// All that is left, for whoever must know the future.
    pub fn read_to_end(&mut self) -> Result<Vec<Arrival>, TraceError> {
        let mut arrivals = Vec::new();
        while self.read(&mut arrivals, 1 << 16)? {}
        Ok(arrivals)
    }
}

impl Source {
    fn next(&mut self) -> Result<Option<Arrival>, TraceError> {
        match self {
            Self::Json(arrivals) => arrivals.next(),
            Self::Recorded(arrivals) => arrivals.next(),
            Self::Azure(arrivals) => arrivals.next(),
            Self::Memory(arrivals) => Ok(arrivals.next()),
            Self::Generated(arrivals) => Ok(arrivals.next()),
        }
    }

    /// Says where reading has come to.
    fn locate(&self, error: TraceError) -> TraceError {
        let line = match self {
            Self::Json(arrivals) => Some(arrivals.line()),
            Self::Recorded(arrivals) => Some(arrivals.line()),
            Self::Azure(_) | Self::Memory(_) | Self::Generated(_) => None,
        };
        TraceError { line, ..error }
    }
}

/// Opens a trace of any known format, told by its content.
pub fn open(path: &Path) -> Result<Reader, TraceError> {
    open_kind(path).map_err(|error| error.of(path))
}

fn open_kind(path: &Path) -> Result<Reader, TraceError> {
    if path.is_dir() {
        return open_directory(path);
    }
    let (bytes, progress) = bytes::open(path)?;
    let (head, bytes) = bytes::with_head(bytes);
    let (header, source, progress) = match kind(&head) {
        Some(Kind::Json) => {
            let (header, arrivals, progress) = json::open(path, bytes, progress)?;
            (header, Source::Json(arrivals), progress)
        }
        Some(Kind::Recorded) => {
            let (header, arrivals, progress) = recorded::open(path, bytes)?;
            (header, Source::Recorded(arrivals), progress)
        }
        Some(Kind::Azure2021) => {
            let (header, arrivals) = azure::read_2021(path)?;
            if arrivals.is_empty() {
                return Err(no_calls());
            }
            return Ok(Reader {
                path: path.into(),
                ..Reader::from_memory("", header, arrivals)
            });
        }
        None => return Err(TraceError::at(1, "no known trace begins so").remedied(KNOWN)),
    };
    Ok(Reader {
        progress,
        ..Reader::new(path, header, source)
    })
}

fn no_calls() -> TraceError {
    TraceError::whole("the trace ends without a single call").remedied("give a trace with calls")
}

const KNOWN: &str = "give JSON with `functions` and `events`, a recorded trace, a directory of \
    Azure Functions 2019 files, or the Azure Functions file of 2021";

fn open_directory(path: &Path) -> Result<Reader, TraceError> {
    if !azure::is_directory_of_it(path) {
        let why = "is a directory without `invocations_per_function_md.anon.d*.csv` files";
        return Err(TraceError::whole(why).remedied(KNOWN));
    }
    let (header, arrivals) = azure::open(path)?;
    Ok(Reader::new(path, header, Source::Azure(Box::new(arrivals))))
}

/// What a file can be.
enum Kind {
    Json,
    Recorded,
    Azure2021,
}

fn kind(head: &[u8]) -> Option<Kind> {
    let text = head.trim_ascii_start();
    if text.starts_with(azure::HEAD_2021.as_bytes()) {
        return Some(Kind::Azure2021);
    }
    // A truncated gzip stream may yield nothing: the JSON reader says what is wrong.
    if !text.is_empty() && text[0] != b'{' {
        return None;
    }
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or(text);
    let first: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(line);
    match first {
        Ok(object)
            if object
                .get("event")
                .is_some_and(serde_json::Value::is_string) =>
        {
            Some(Kind::Recorded)
        }
        _ => Some(Kind::Json),
    }
}

/// Costs that no simulator can use are refused where they are read.
fn check_function(function: &Function) -> Result<(), String> {
    let Function {
        name,
        mem_mb,
        cold_ms,
        warm_ms,
        ..
    } = function;
    if !(*mem_mb > 0.0 && *mem_mb <= MB_MAX) {
        return Err(format!(
            "function `{name}`: {} MB of memory (must be above zero, at most {MB_MAX:e})",
            short(*mem_mb)
        ));
    }
    for (what, ms) in [("cold", *cold_ms), ("warm", *warm_ms)] {
        if !(0.0..=MS_MAX).contains(&ms) {
            return Err(format!(
                "function `{name}`: its {what} run takes {} ms (must not be negative, at most \
                 {MS_MAX:e})",
                short(ms)
            ));
        }
    }
    Ok(())
}

/// A number that may have hundreds of digits.
fn short(value: f64) -> String {
    if value.abs() < 1e9 {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}
