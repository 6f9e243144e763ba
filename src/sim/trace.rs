//! Call traces for every simulator: who is called when, and what a start of each function costs.
//!
//! Owns the vocabulary ([`Function`], [`Arrival`]) and the reading: [`open`] looks at the content of
//! a path (never at its name), reads what must be known before the first call (the [`Header`]) and
//! then hands out arrivals in order, a batch at a time, so that memory is bounded by functions and
//! not by calls. Whatever a [`Reader`] hands out has been checked: times are finite, never negative,
//! never decreasing; every index names a function. A bad trace is refused with line and reason.
//!
//! ```text
//! path --open--> Reader { header } --read--> batch, batch, ... --> end | refused (line, reason)
//! ```

#![forbid(unsafe_code)]

pub mod generate;
mod json;
mod lexer;

use core::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A trace with more functions than this is refused: every simulated worker has tables of them.
pub const FUNCTIONS_MAX: usize = 1 << 20;

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

/// Why a trace is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceError {
    path: PathBuf,
    line: Option<u64>,
    why: String,
}

impl TraceError {
    pub(crate) fn at(line: u64, why: impl Into<String>) -> Self {
        Self {
            path: PathBuf::new(),
            line: Some(line),
            why: why.into(),
        }
    }

    pub(crate) fn whole(why: impl Into<String>) -> Self {
        Self {
            path: PathBuf::new(),
            line: None,
            why: why.into(),
        }
    }

    fn of(mut self, path: &Path) -> Self {
        if self.path.as_os_str().is_empty() {
            self.path = path.to_path_buf();
        }
        self
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.why)
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
}

#[derive(Debug)]
enum Source {
    Json(json::Arrivals),
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
    fn check(&mut self, arrival: Arrival, functions: usize) -> Result<(), String> {
        let number = self.arrivals + 1;
        let Arrival { t_ms, function } = arrival;
        if !t_ms.is_finite() || t_ms < 0.0 {
            return Err(format!(
                "call {number}: the time {t_ms} ms is negative or no number"
            ));
        }
        if function as usize >= functions {
            return Err(format!(
                "call {number}: there is no function {function} (0 to {functions} less one)"
            ));
        }
        if t_ms < self.last_ms {
            return Err(format!(
                "call {number} at {t_ms} ms is earlier than the one before it at {} ms (sort the trace)",
                self.last_ms
            ));
        }
        self.arrivals = number;
        self.last_ms = t_ms;
        Ok(())
    }
}

impl Reader {
    /// A trace that is in memory already: what the generators make.
    pub fn from_memory(name: &str, header: Header, arrivals: Vec<Arrival>) -> Self {
        let source = Source::Memory(arrivals.into_iter());
        Self {
            path: PathBuf::from(name),
            header,
            source,
            checked: Checked::default(),
        }
    }

    /// A made-up trace; the plan must be one that can be made up (`Plan::refusal`).
    pub fn generated(plan: &generate::Plan) -> Self {
        let (header, arrivals) = generate::generate(plan);
        let path = PathBuf::from(format!("{}-{}", plan.kind.name(), plan.seed));
        let source = Source::Generated(arrivals);
        Self {
            path,
            header,
            source,
            checked: Checked::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many arrivals were handed out.
    pub fn arrivals(&self) -> u64 {
        self.checked.arrivals
    }

    /// Appends up to `limit` arrivals; `false` when the trace has come to its end.
    pub fn read(&mut self, into: &mut Vec<Arrival>, limit: usize) -> Result<bool, TraceError> {
        let functions = self.header.functions.len();
        for _ in 0..limit {
            let next = match &mut self.source {
                Source::Json(arrivals) => arrivals.next().map_err(|error| error.of(&self.path))?,
                Source::Memory(arrivals) => arrivals.next(),
                Source::Generated(arrivals) => arrivals.next(),
            };
            let Some(arrival) = next else {
                return Ok(false);
            };
            self.checked
                .check(arrival, functions)
                .map_err(|why| self.source.refuse(why).of(&self.path))?;
            into.push(arrival);
        }
        Ok(true)
    }

    /// All that is left, for whoever must know the future.
    pub fn read_to_end(&mut self) -> Result<Vec<Arrival>, TraceError> {
        let mut arrivals = Vec::new();
        while self.read(&mut arrivals, 1 << 16)? {}
        Ok(arrivals)
    }
}

impl Source {
    fn refuse(&self, why: String) -> TraceError {
        match self {
            Self::Json(arrivals) => TraceError::at(arrivals.line(), why),
            Self::Memory(_) | Self::Generated(_) => TraceError::whole(why),
        }
    }
}

/// Opens a trace of any known format, told by its content.
pub fn open(path: &Path) -> Result<Reader, TraceError> {
    open_kind(path).map_err(|error| error.of(path))
}

fn open_kind(path: &Path) -> Result<Reader, TraceError> {
    let (header, arrivals) = json::open(path)?;
    Ok(Reader {
        path: path.to_path_buf(),
        header,
        source: Source::Json(arrivals),
        checked: Checked::default(),
    })
}

/// The bytes of a file, decompressed where it begins as gzip does.
fn bytes_of(path: &Path) -> Result<Box<dyn Read + Send>, TraceError> {
    let cannot = |error: std::io::Error| TraceError::whole(format!("cannot be opened: {error}"));
    let mut file = File::open(path).map_err(cannot)?;
    let mut magic = [0_u8; 2];
    let mut have = 0;
    while have < magic.len() {
        match file.read(&mut magic[have..]).map_err(cannot)? {
            0 => break,
            more => have += more,
        }
    }
    file.seek(SeekFrom::Start(0)).map_err(cannot)?;
    if have == 2 && magic == [0x1f, 0x8b] {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(
            BufReader::new(file),
        )));
    }
    Ok(Box::new(file))
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
    if !(mem_mb.is_finite() && *mem_mb > 0.0) {
        return Err(format!(
            "function `{name}`: {mem_mb} MB of memory (must be above zero)"
        ));
    }
    for (what, ms) in [("cold", *cold_ms), ("warm", *warm_ms)] {
        if !(ms.is_finite() && ms >= 0.0) {
            return Err(format!(
                "function `{name}`: its {what} run takes {ms} ms (must not be negative)"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A file of its own for each test, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, content: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("ol-trace-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    fn read(name: &str, content: &[u8]) -> Result<(Header, Vec<Arrival>), String> {
        let file = Scratch::new(name, content);
        let mut reader = open(&file.0).map_err(|error| error.to_string())?;
        let arrivals = reader.read_to_end().map_err(|error| error.to_string())?;
        Ok((reader.header().clone(), arrivals))
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    const GOOD: &str = r#"{"name": "x", "functions": [["a", 10, 20.5, 5], ["b", 1, 2, 2]],
        "mems": [1], "events": [[0, 1], [0, 0], [7.25, 1]], "end": {}}"#;

    #[test]
    fn the_order_of_keys_and_compression_change_nothing() {
        let turned = r#"{"events": [[0, 1], [0, 0], [7.25, 1]],
            "functions": [["a", 10, 20.5, 5], ["b", 1, 2, 2]]}"#;
        let plain = read("plain", GOOD.as_bytes()).unwrap();
        assert_eq!(plain.0.functions[0], Function::plain("a", 10.0, 20.5, 5.0));
        assert_eq!(
            plain.1[2],
            Arrival {
                t_ms: 7.25,
                function: 1
            }
        );
        assert_eq!(read("turned", turned.as_bytes()).unwrap(), plain);
        assert_eq!(read("gzip", &gzip(GOOD.as_bytes())).unwrap(), plain);
        assert_eq!(
            read("gzip-turned", &gzip(turned.as_bytes())).unwrap(),
            plain
        );
    }

    #[test]
    fn bad_traces_are_refused_with_line_and_reason() {
        let functions = r#"{"functions": [["a", 10, 20, 5]], "events": ["#;
        for (name, tail, reason) in [
            (
                "unsorted",
                "\n[5, 0],\n[4, 0]]}",
                "line 3: call 2 at 4 ms is earlier",
            ),
            (
                "negative",
                "\n[-5, 0]]}",
                "line 2: call 1: the time -5 ms is negative",
            ),
            ("nan", "\n[NaN, 0]]}", "line 2: NaN is no number"),
            (
                "index",
                "\n[5, 1]]}",
                "line 2: call 1: there is no function 1",
            ),
            ("fraction", "[5, 0.5]]}", "line 1: `0.5` is no index"),
            ("below", "[5, -1]]}", "line 1: `-1` is no index"),
            ("cut", "[5, 0]", "line 1: the file ends where"),
            ("open", "[5, 0]]", "line 1: the file ends where"),
            ("pair", "[5]]}", "line 1: found `]` where `,`"),
            ("tail", "]} 7", "line 1: something follows"),
        ] {
            let error = read(name, format!("{functions}{tail}").as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{name}: {error}");
        }
        for (name, whole, reason) in [
            ("empty", "", "the file ends"),
            ("lone", r#"{"functions": []}"#, "no `events` list"),
            ("bare", r#"{"events": []}"#, "no `functions` list"),
            (
                "light",
                r#"{"functions": [["a", 0, 1, 1]], "events": []}"#,
                "0 MB of memory",
            ),
            (
                "quick",
                r#"{"functions": [["a", 1, -1, 1]], "events": []}"#,
                "cold run takes -1 ms",
            ),
        ] {
            let error = read(name, whole.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }

    #[test]
    fn a_truncated_gzip_stream_is_refused() {
        let whole = gzip(GOOD.as_bytes());
        for len in [3, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
            let error = read("truncated", &whole[..len]).unwrap_err();
            assert!(
                error.contains("gzip stream ends in the middle"),
                "{len}: {error}"
            );
        }
    }
}
