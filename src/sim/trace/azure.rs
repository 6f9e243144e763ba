//! The public traces of Azure Functions, 2019 (a directory of CSV files) and 2021 (one file).
//!
//! **2019.** `invocations_per_function_md.anon.dNN.csv` counts the calls of each function in each
//! of a day's 1440 minutes; `function_durations_percentiles.anon.dNN.csv` and
//! `app_memory_percentiles.anon.dNN.csv` tell what they cost. Days follow one another in the order
//! of their names; costs are those of the first day that tells them. What is assumed:
//!
//! | figure | is |
//! |---|---|
//! | `warm_ms`, `cold_ms` | the average and the largest duration |
//! | `mem_mb` | the average of the application, shared evenly by its functions |
//! | calls of a minute | evenly apart, behind a delay that each function has of its own |
//!
//! The delay, a fixed share of the gap, keeps functions that are called once a minute from all
//! coming at the stroke of it, and a timer's calls a minute apart. Functions without a duration or
//! a memory figure are left out and counted in a note. Held at a time: the functions, and one day's
//! cells that are not zero.
//!
//! **2021.** `app,func,end_timestamp,duration` in seconds, a line a call. It knows neither memory
//! nor starts; constants stand in, and a note says so. It is sorted by arrival in memory.

use super::lexer::Lexer;
use super::{Arrival, FUNCTIONS_MAX, Function, Header, TraceError, bytes};
use crate::base::Random;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

const MINUTES: usize = 1_440;
const MINUTE_MS: f64 = 60_000.0;
const DAY_MS: f64 = 86_400_000.0;
const LINE_BYTES_MAX: usize = 1 << 16;
/// A minute in which a function is called more often is no record of calls.
const CALLS_A_MINUTE_MAX: u32 = 1 << 22;
/// 2021: calls held for sorting.
const CALLS_MAX: usize = 1 << 26;
const MEMORY_UNKNOWN_MB: f64 = 170.0;
const START_UNKNOWN_MS: f64 = 1_000.0;

pub const HEAD_2021: &str = "app,func,end_timestamp,duration";
const INVOCATIONS: &str = "invocations_per_function_md.anon.d";
const DURATIONS: &str = "function_durations_percentiles.anon.d";
const MEMORY: &str = "app_memory_percentiles.anon.d";

/// Owner, application, function: as hashed in the files.
type Id = (String, String, String);

/// A cell of a day's table that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    minute: u16,
    function: u32,
    calls: u32,
}

/// Stands between two minutes.
#[derive(Debug)]
pub struct Arrivals {
    days: std::vec::IntoIter<PathBuf>,
    index: BTreeMap<Id, u32>,
    /// Where in the first gap of a minute each function's calls begin, 0 to 1.
    phases: Vec<f64>,
    day: usize,
    cells: std::iter::Peekable<std::vec::IntoIter<Cell>>,
    /// The arrivals of a minute, the last first.
    minute: Vec<Arrival>,
}

/// Whether a directory holds a 2019 trace.
pub fn is_directory_of_it(path: &Path) -> bool {
    path.is_dir() && files(path, INVOCATIONS).is_ok_and(|days| !days.is_empty())
}

pub fn open(path: &Path) -> Result<(Header, Arrivals), TraceError> {
    let days = files(path, INVOCATIONS)?;
    let durations = costs(
        &files(path, DURATIONS)?,
        &["HashOwner", "HashApp", "HashFunction"],
    )?;
    let memory = costs(&files(path, MEMORY)?, &["HashOwner", "HashApp"])?;
    let mut named: BTreeMap<Id, u32> = BTreeMap::new();
    let mut order = Vec::new();
    for day in &days {
        survey(day, &mut named, &mut order)?;
    }
    let mut siblings: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for (owner, app, _) in &order {
        *siblings.entry((owner, app)).or_default() += 1.0;
    }
    let mut functions = Vec::new();
    let mut index = BTreeMap::new();
    for id in &order {
        let (owner, app, name) = id;
        let ran = durations.get(&vec![owner.clone(), app.clone(), name.clone()]);
        let took = memory.get(&vec![owner.clone(), app.clone()]);
        if let (Some(ran), Some(took)) = (ran, took) {
            let mem_mb = took.average / siblings[&(owner.as_str(), app.as_str())];
            if mem_mb > 0.0 && ran.average >= 0.0 {
                let cold_ms = f64::max(ran.largest, ran.average);
                index.insert(id.clone(), functions.len() as u32);
                functions.push(Function::plain(name, mem_mb, cold_ms, ran.average));
            }
        }
    }
    let left_out = order.len() - functions.len();
    let mut random = Random::new(2019);
    let phases = functions.iter().map(|_| random.unit()).collect();
    let mut header = Header {
        functions,
        ..Header::default()
    };
    if left_out > 0 {
        header.notes.push(format!(
            "{left_out} functions without duration or memory were left out"
        ));
    }
    let cells = Vec::new().into_iter().peekable();
    let days = days.into_iter();
    let minute = Vec::new();
    Ok((
        header,
        Arrivals {
            days,
            index,
            phases,
            day: 0,
            cells,
            minute,
        },
    ))
}

/// The files of a kind, in the order of their days.
fn files(path: &Path, prefix: &str) -> Result<Vec<PathBuf>, TraceError> {
    let cannot = |error: std::io::Error| TraceError::whole(format!("cannot be listed: {error}"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let table = name.trim_end_matches(".gz").strip_suffix(".csv");
        if table.is_some_and(|table| table.starts_with(prefix)) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A CSV file, its header read. No field of these files is quoted.
struct Table {
    lines: Lexer,
    columns: Vec<String>,
    path: PathBuf,
}

impl Table {
    fn open(path: &Path) -> Result<Self, TraceError> {
        let (bytes, _) = bytes::open(path).map_err(|error| error.of(path))?;
        let mut table = Self {
            lines: Lexer::new(bytes),
            columns: Vec::new(),
            path: path.into(),
        };
        table.columns = table.row()?.ok_or_else(|| table.refuse("it is empty"))?;
        Ok(table)
    }

    fn row(&mut self) -> Result<Option<Vec<String>>, TraceError> {
        let line = self
            .lines
            .text_line(LINE_BYTES_MAX)
            .map_err(|error| error.of(&self.path))?;
        let Some(line) = line else { return Ok(None) };
        let text = core::str::from_utf8(&line).map_err(|_| self.refuse("is no UTF-8"))?;
        Ok(Some(
            text.trim_end().split(',').map(str::to_owned).collect(),
        ))
    }

    /// The row just read stands in the line before the one that comes.
    fn refuse(&self, why: impl Into<String>) -> TraceError {
        TraceError::at(self.lines.line().saturating_sub(1), why).of(&self.path)
    }

    fn column(&self, name: &str) -> Result<usize, TraceError> {
        let found = self.columns.iter().position(|column| column == name);
        found.ok_or_else(|| self.refuse(format!("there is no column `{name}`")))
    }

    fn number(&self, row: &[String], column: usize) -> Result<f64, TraceError> {
        let field = row.get(column).map_or("", String::as_str);
        match field.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.refuse(format!("`{field}` in column {} is no number", column + 1))),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    average: f64,
    largest: f64,
}

/// What each key costs, told by the first file that does.
fn costs(paths: &[PathBuf], keys: &[&str]) -> Result<BTreeMap<Vec<String>, Cost>, TraceError> {
    let mut costs = BTreeMap::new();
    for path in paths {
        let mut table = Table::open(path)?;
        let keys = keys
            .iter()
            .map(|key| table.column(key))
            .collect::<Result<Vec<_>, _>>()?;
        let average = match table.column("Average") {
            Ok(column) => column,
            Err(_) => table.column("AverageAllocatedMb")?,
        };
        let largest = table.column("Maximum").unwrap_or(average);
        while let Some(row) = table.row()? {
            let key: Vec<String> = keys
                .iter()
                .map(|&at| row.get(at).cloned().unwrap_or_default())
                .collect();
            let cost = Cost {
                average: table.number(&row, average)?,
                largest: table.number(&row, largest)?,
            };
            costs.entry(key).or_insert(cost);
        }
    }
    Ok(costs)
}

fn id(table: &Table, row: &[String]) -> Result<Id, TraceError> {
    let field = |name| Ok(row.get(table.column(name)?).cloned().unwrap_or_default());
    Ok((
        field("HashOwner")?,
        field("HashApp")?,
        field("HashFunction")?,
    ))
}

/// Which functions a day calls, in the order of the file.
fn survey(
    day: &Path,
    named: &mut BTreeMap<Id, u32>,
    order: &mut Vec<Id>,
) -> Result<(), TraceError> {
    let mut table = Table::open(day)?;
    table.column("1440")?;
    while let Some(row) = table.row()? {
        if let Entry::Vacant(vacant) = named.entry(id(&table, &row)?) {
            if order.len() == FUNCTIONS_MAX {
                return Err(table.refuse(format!("more than {FUNCTIONS_MAX} functions")));
            }
            order.push(vacant.key().clone());
            vacant.insert(order.len() as u32);
        }
    }
    Ok(())
}

impl Arrivals {
    pub fn next(&mut self) -> Result<Option<Arrival>, TraceError> {
        loop {
            if let Some(arrival) = self.minute.pop() {
                return Ok(Some(arrival));
            }
            if self.cells.peek().is_some() {
                self.fill_minute();
                continue;
            }
            let Some(day) = self.days.next() else {
                return Ok(None);
            };
            let mut cells = self.read_day(&day)?;
            cells.sort_unstable();
            self.cells = cells.into_iter().peekable();
            self.day += 1;
        }
    }

    fn fill_minute(&mut self) {
        let Some(&Cell { minute, .. }) = self.cells.peek() else {
            return;
        };
        let start_ms = (self.day - 1) as f64 * DAY_MS + f64::from(minute) * MINUTE_MS;
        while let Some(cell) = self.cells.next_if(|cell| cell.minute == minute) {
            let gap_ms = MINUTE_MS / f64::from(cell.calls);
            let phase = self.phases[cell.function as usize];
            for call in 0..cell.calls {
                let t_ms = (start_ms + (f64::from(call) + phase) * gap_ms).floor();
                self.minute.push(Arrival {
                    t_ms,
                    function: cell.function,
                });
            }
        }
        self.minute.sort_by(|a, b| {
            b.t_ms
                .total_cmp(&a.t_ms)
                .then_with(|| b.function.cmp(&a.function))
        });
    }

    fn read_day(&self, day: &Path) -> Result<Vec<Cell>, TraceError> {
        let mut table = Table::open(day)?;
        let first = table.column("1")?;
        let mut cells = Vec::new();
        while let Some(row) = table.row()? {
            let Some(&function) = self.index.get(&id(&table, &row)?) else {
                continue;
            };
            for minute in 0..MINUTES {
                let field = row.get(first + minute).map_or("", String::as_str);
                match field.parse::<u32>() {
                    Ok(0) => {}
                    Ok(calls) if calls <= CALLS_A_MINUTE_MAX => {
                        cells.push(Cell {
                            minute: minute as u16,
                            function,
                            calls,
                        });
                    }
                    _ => {
                        let why = format!("`{field}` in minute {} is no count", minute + 1);
                        return Err(table.refuse(why));
                    }
                }
            }
        }
        Ok(cells)
    }
}

/// The trace of 2021, whole.
pub fn read_2021(path: &Path) -> Result<(Header, Vec<Arrival>), TraceError> {
    let mut table = Table::open(path)?;
    let [app, func] = [table.column("app")?, table.column("func")?];
    let [end, duration] = [table.column("end_timestamp")?, table.column("duration")?];
    let mut index: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut sums: Vec<(String, f64, f64)> = Vec::new();
    let mut arrivals: Vec<Arrival> = Vec::new();
    while let Some(row) = table.row()? {
        let field = |at: usize| row.get(at).cloned().unwrap_or_default();
        let ran_ms = table.number(&row, duration)? * 1e3;
        let t_ms = table.number(&row, end)? * 1e3 - ran_ms;
        if ran_ms < 0.0 {
            return Err(table.refuse("the duration is negative"));
        }
        if arrivals.len() == CALLS_MAX {
            return Err(table.refuse(format!("more than {CALLS_MAX} calls")));
        }
        let function = *index.entry((field(app), field(func))).or_insert_with(|| {
            sums.push((field(func), 0.0, 0.0));
            sums.len() as u32 - 1
        });
        let sum = &mut sums[function as usize];
        sum.1 += ran_ms;
        sum.2 += 1.0;
        arrivals.push(Arrival { t_ms, function });
    }
    let first_ms = arrivals
        .iter()
        .map(|arrival| arrival.t_ms)
        .fold(f64::INFINITY, f64::min);
    for arrival in &mut arrivals {
        arrival.t_ms -= first_ms;
    }
    arrivals.sort_by(|a, b| a.t_ms.total_cmp(&b.t_ms));
    let functions = sums
        .into_iter()
        .map(|(name, sum, count)| {
            let warm_ms = sum / count;
            Function::plain(name, MEMORY_UNKNOWN_MB, warm_ms + START_UNKNOWN_MS, warm_ms)
        })
        .collect();
    let notes = vec![format!(
        "this trace knows neither memory nor starts: {MEMORY_UNKNOWN_MB} MB and \
         {START_UNKNOWN_MS} ms are assumed for every function"
    )];
    Ok((
        Header {
            functions,
            notes,
            ..Header::default()
        },
        arrivals,
    ))
}
