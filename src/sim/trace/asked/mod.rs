//! What calls asked for: sets of packages with their costs, whoever wrote them down.
//!
//! Fitting a tree needs no times, only who wanted what how often. So a trace is read once, a line
//! at a time, and calls with equal sets are one: memory is bounded by functions and sets.
//!
//! | begins with | is |
//! |---|---|
//! | `{` and has `packages` and `calls` | a call list |
//! | `{` and has `packages` and `trials` | call lists in halves to train and to test with |
//! | a line `{.., "event": ..}` | what a worker recorded (`recorded`) |
//! | a line `{.., "type": ..}` | `dep-trace.json` of the original system |
//! | (a directory) | all its files, in the order of their names |
//!
//! Where a trace tells how calls started, those that found a warm instance are left out: no tree
//! would have served them. Packages are the same when their normalised names and versions are;
//! they keep the spelling that was read first.

mod functions;

use super::lexer::Lexer;
use super::recorded::{self, Line};
use super::{TraceError, bytes};
use crate::base::Package;
use crate::policy::fit::plan::TRACED_FACTOR;
use crate::policy::fit::{Catalog, Demand, Item, ItemSet, Workload};
use crate::policy::tree::Weight;
use functions::{Functions, Quick};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes of a call list, which is read as a whole.
const LIST_BYTES_MAX: u64 = 1 << 30;
/// Packages of all traces together.
const PACKAGES_MAX: usize = 1 << 16;
/// Packages of one call.
const CALL_PACKAGES_MAX: usize = 4_096;
/// Calls whose order is kept.
const SEQUENCE_MAX: usize = 1 << 24;
/// Files of a directory of traces.
const FILES_MAX: usize = 10_000;
/// Lines between two words of progress.
const PROGRESS_EVERY: u64 = 1 << 14;

const KNOWN: &str = "give a call list (JSON with `packages` and `calls`), a recorded trace, or the \
    original's dep-trace.json";

/// All packages that were named so far.
#[derive(Debug, Default)]
pub struct Asked {
    names: Vec<Package>,
    spellings: Vec<String>,
    known: Vec<bool>,
    items: Vec<Item>,
    index: BTreeMap<Package, u32>,
    families: BTreeMap<String, u32>,
    /// By package: what it said it needs, as it said it.
    deps: BTreeMap<u32, Vec<Package>>,
    profile: BTreeMap<Package, Cost>,
    /// What packages need, as a file told: for each some sets, the most common first.
    closures: BTreeMap<Package, Vec<Vec<Package>>>,
    /// What was assumed or left out, for a person to read.
    pub notes: Vec<String>,
}

/// Calls of one trace, by numbers of packages.
#[derive(Debug, Default)]
pub struct Calls {
    sets: Vec<(Vec<u32>, f64)>,
    sequence: Vec<u32>,
    /// From the first call to the last.
    pub seconds: f64,
}

impl Calls {
    /// Whether no call asked for any package.
    pub fn ask_for_nothing(&self) -> bool {
        self.sets.iter().all(|(set, _)| set.is_empty())
    }
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    import_ms: f64,
    mem_mb: f64,
}

/// Told how much of a file has been read.
pub type Progress<'a> = &'a mut dyn FnMut(Option<f64>);

#[derive(Deserialize)]
struct List {
    packages: Vec<Listed>,
    calls: Option<Vec<Vec<u32>>>,
    trials: Option<Vec<Trial>>,
}

#[derive(Deserialize)]
struct Trial {
    train: Vec<Vec<u32>>,
    test: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(alias = "import_ms")]
    ms: Option<f64>,
    mb: Option<f64>,
    /// Resident, not traced.
    mem_mb: Option<f64>,
}

/// A line of the original's dep-trace.json.
#[derive(Deserialize)]
struct Original {
    r#type: String,
    name: String,
    #[serde(default)]
    deps: Option<Vec<String>>,
}

/// What the beginning of a file tells.
enum Form {
    List,
    Recorded,
    Original,
}

impl Asked {
    pub fn new() -> Self {
        Self::default()
    }

    /// The packages, spelled as the trace spelled them.
    pub fn spellings(&self) -> &[String] {
        &self.spellings
    }

    /// Reads the calls of a trace of any form.
    pub fn read(&mut self, path: &Path, progress: Progress<'_>) -> Result<Calls, TraceError> {
        let mut functions = Functions::default();
        let mut listed = None;
        for file in files(path).map_err(|error| error.of(path))? {
            let read = self.read_file(&file, &mut functions, progress);
            listed = read.map_err(|error| error.of(&file))?;
            if listed.is_some() {
                break;
            }
        }
        Ok(match listed {
            Some(calls) => calls,
            None => self.folded(functions),
        })
    }

    /// Reads the halves of trials.
    pub fn read_trials(&mut self, path: &Path) -> Result<Vec<(Calls, Calls)>, TraceError> {
        self.trials(path).map_err(|error| error.of(path))
    }

    /// Reads costs that override those of traces.
    pub fn read_profile(&mut self, path: &Path) -> Result<usize, TraceError> {
        let profile = costs(path).map_err(|error| error.of(path))?;
        let count = profile.len();
        self.profile.extend(profile);
        Ok(count)
    }

    /// Reads what packages need: `{NAME: {VERSION: {"a==1,b==2": TIMES SEEN, ...}, ...}, ...}`.
    pub fn read_closures(&mut self, path: &Path) -> Result<usize, TraceError> {
        type Seen = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;
        let (bytes, _) = bytes::open(path).map_err(|error| error.of(path))?;
        let reader = std::io::BufReader::new(bytes.take(LIST_BYTES_MAX));
        let seen: Seen = serde_json::from_reader(reader).map_err(|error| {
            let why = format!("nothing that tells what packages need: {error}");
            let remedy = r#"write {"pandas": {"2.1.0": {"numpy==1.25.2,pandas==2.1.0": 1}}}"#;
            TraceError::at(error.line() as u64, why)
                .remedied(remedy)
                .of(path)
        })?;
        for (name, versions) in &seen {
            for (version, sets) in versions {
                let mut sets: Vec<(&String, f64)> = sets.iter().map(|(set, n)| (set, *n)).collect();
                sets.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
                let parse = |(set, _): (&String, f64)| set.split(',').map(Package::parse).collect();
                let package = Package::parse(&format!("{name}=={version}"));
                self.closures
                    .insert(package, sets.into_iter().map(parse).collect());
            }
        }
        Ok(self.closures.len())
    }

    /// What packages cost, as the profile says, else the traces, else a guess.
    pub fn catalog(&mut self) -> Catalog {
        let mut items = self.items.clone();
        let mut guessed = Vec::new();
        for (at, item) in items.iter_mut().enumerate() {
            let name = &self.names[at];
            let profiled = self.profile.get(name);
            let nameless = Package::parse(name.name());
            if let Some(cost) = profiled.or_else(|| self.profile.get(&nameless)) {
                (item.import_ms, item.mem_mb) = (cost.import_ms, cost.mem_mb);
            } else if !self.known[at] {
                item.import_ms = Weight::UNKNOWN.import.as_secs_f64() * 1e3;
                item.mem_mb = Weight::UNKNOWN.memory.as_mb() / TRACED_FACTOR;
                guessed.push(self.spellings[at].as_str());
            }
        }
        if !guessed.is_empty() {
            let some: Vec<&str> = guessed.iter().take(5).copied().collect();
            let more = if guessed.len() > some.len() {
                ", ..."
            } else {
                ""
            };
            let note = format!(
                "{} packages have no measured cost and get 10 ms, 2 MB: {}{more} \
                 (`--profile` or `ol pkg profile` tells)",
                guessed.len(),
                some.join(", "),
            );
            self.notes.push(note);
        }
        for (at, item) in items.iter_mut().enumerate() {
            item.closures = self.closures_of(at as u32);
        }
        Catalog { items }
    }

    /// The calls as sets of the catalog, which must be made after all traces were read.
    pub fn workload(&self, calls: &Calls) -> Workload {
        let demand = |(set, calls): &(Vec<u32>, f64)| Demand {
            set: ItemSet::of(self.items.len(), set.iter().copied()),
            calls: *calls,
        };
        Workload {
            demands: calls.sets.iter().map(demand).collect(),
            sequence: calls.sequence.clone(),
        }
    }

    fn trials(&mut self, path: &Path) -> Result<Vec<(Calls, Calls)>, TraceError> {
        let (bytes, _) = bytes::open(path)?;
        let list = list(bytes)?;
        let Some(trials) = list.trials else {
            let remedy = "give JSON with `packages` and `trials`, each with `train` and `test`";
            return Err(TraceError::whole("it has no `trials`").remedied(remedy));
        };
        if trials.is_empty() {
            return Err(TraceError::whole("its `trials` are empty"));
        }
        let numbers = self.listed(&list.packages)?;
        let both = |(at, trial): (usize, &Trial)| {
            let name = |half| format!("trial {at}, {half}");
            let train = self.calls(&trial.train, &numbers, &name("train"))?;
            Ok((train, self.calls(&trial.test, &numbers, &name("test"))?))
        };
        trials.iter().enumerate().map(both).collect()
    }

    /// A call list at once, a line format into `functions`.
    fn read_file(
        &mut self,
        path: &Path,
        functions: &mut Functions,
        progress: Progress<'_>,
    ) -> Result<Option<Calls>, TraceError> {
        let (bytes, read) = bytes::open(path)?;
        let (head, bytes) = bytes::with_head(bytes);
        match form(&head)? {
            Form::List => {
                let list = list(bytes)?;
                let Some(calls) = &list.calls else {
                    let why = match &list.trials {
                        Some(_) => "it has `trials` and no `calls`",
                        None => "it has no `calls`",
                    };
                    return Err(TraceError::whole(why).remedied(match &list.trials {
                        Some(_) => "`ol fit --evaluate FILE` reads trials",
                        None => KNOWN,
                    }));
                };
                let numbers = self.listed(&list.packages)?;
                return self.calls(calls, &numbers, "call list").map(Some);
            }
            Form::Recorded => {
                self.read_lines(bytes, |asked, text, line| {
                    if line % PROGRESS_EVERY == 0 {
                        progress(read.share());
                    }
                    asked.recorded(text, functions)
                })?;
            }
            Form::Original => self.read_original(bytes, functions)?,
        }
        Ok(None)
    }

    fn read_lines<F>(&mut self, bytes: bytes::Bytes, mut each: F) -> Result<(), TraceError>
    where
        F: FnMut(&mut Self, &[u8], u64) -> Result<(), String>,
    {
        let mut lines = Lexer::new(bytes);
        let mut refused: Option<TraceError> = None;
        loop {
            let number = lines.line();
            let Some(text) = lines.text_line(recorded::LINE_BYTES_MAX)? else {
                break;
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            if let Some(error) = refused {
                return Err(error);
            }
            let read = each(self, &text, number);
            refused = read.err().map(|why| TraceError::at(number, why));
        }
        match refused {
            // A worker may be writing it.
            Some(_) if lines.is_cut() => {
                self.notes
                    .push("the last line is cut off and left out".to_owned());
                Ok(())
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn recorded(&mut self, text: &[u8], functions: &mut Functions) -> Result<(), String> {
        let no_line = |error: serde_json::Error| format!("no line of a trace: {error}");
        if let Ok(quick) = serde_json::from_slice::<Quick<'_>>(text)
            && matches!(quick.event.as_deref(), Some("invocation" | "counts"))
        {
            return functions.recorded(&quick);
        }
        match serde_json::from_slice(text).map_err(no_line)? {
            Line::Function { name, packages, .. } => {
                let set = self.numbers(&packages)?;
                functions.function(&name, set)
            }
            Line::Package {
                name,
                deps,
                import_ms,
                mem_mb,
                ..
            } => {
                // The worker measures resident memory.
                let mem_mb = mem_mb / TRACED_FACTOR;
                let at = self.number(&name)?;
                self.cost(at, Cost { import_ms, mem_mb })?;
                let deps = deps.iter().map(|dep| Package::parse(dep));
                self.deps.insert(at, deps.collect());
                Ok(())
            }
            Line::Invocation(_) | Line::Counts(_) | Line::Lost { .. } | Line::Other => Ok(()),
        }
    }

    /// Functions there name what they ask for, packages what they need: closed when all is read.
    fn read_original(
        &mut self,
        bytes: bytes::Bytes,
        functions: &mut Functions,
    ) -> Result<(), TraceError> {
        self.read_lines(bytes, |asked, text, _| {
            let line: Original = serde_json::from_slice(text)
                .map_err(|error| format!("no line of a dep-trace: {error}"))?;
            let deps = line.deps.unwrap_or_default();
            match line.r#type.as_str() {
                "package" => {
                    let at = asked.number(&line.name)?;
                    let deps = deps.iter().map(|dep| Package::parse(dep));
                    asked.deps.insert(at, deps.collect());
                }
                "function" => {
                    let set = asked.numbers(&deps)?;
                    functions.function(&line.name, set)?;
                }
                "invocation" => functions.call(&line.name, 0, 1)?,
                _ => {}
            }
            Ok(())
        })?;
        for slot in &mut functions.slots {
            if let Some(set) = slot.set.take() {
                slot.set = Some(self.closed(&set));
            }
        }
        Ok(())
    }

    /// A set and all that its packages need.
    fn closed(&self, set: &[u32]) -> Vec<u32> {
        let mut closed: Vec<u32> = set.to_vec();
        let mut families: Vec<u32> = Vec::new();
        families.extend(set.iter().map(|at| self.items[*at as usize].family));
        let mut next = 0;
        while next < closed.len() && closed.len() < CALL_PACKAGES_MAX {
            let deps = self.deps.get(&closed[next]);
            for at in deps.into_iter().flatten().filter_map(|dep| self.find(dep)) {
                let family = self.items[at as usize].family;
                if !families.contains(&family) {
                    families.push(family);
                    closed.push(at);
                }
            }
            next += 1;
        }
        closed.sort_unstable();
        closed
    }

    /// As the file says, else as the trace does; none where nobody said what it needs.
    fn closures_of(&self, at: u32) -> Vec<Vec<u32>> {
        if let Some(told) = self.closures.get(&self.names[at as usize]) {
            let numbers = |set: &Vec<Package>| {
                let numbers = set.iter().map(|package| self.index.get(package).copied());
                numbers.collect::<Option<Vec<u32>>>()
            };
            return told.iter().filter_map(numbers).collect();
        }
        let deps = self.deps.get(&at);
        deps.map(|_| self.closed(&[at])).into_iter().collect()
    }

    /// The package itself, else one of its name.
    fn find(&self, package: &Package) -> Option<u32> {
        let exact = self.index.get(package).copied();
        exact.or_else(|| {
            let family = *self.families.get(package.name())?;
            let of_name = self.items.iter().position(|item| item.family == family)?;
            Some(of_name as u32)
        })
    }

    /// Functions to calls: by how they started where that is known, equal sets as one.
    fn folded(&mut self, functions: Functions) -> Calls {
        let cold = functions.slots.iter().map(|slot| slot.cold).sum::<u64>() > 0;
        let warm: u64 = functions.slots.iter().map(|slot| slot.warm).sum();
        if cold && warm > 0 {
            let note = format!("{warm} calls found a warm instance and are left out");
            self.notes.push(note);
        }
        let unknown = functions.slots.iter().filter(|slot| slot.set.is_none());
        let unknown = unknown.count();
        if unknown > 0 {
            let note = format!("{unknown} functions named no packages: their calls need none");
            self.notes.push(note);
        }
        let mut places: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        let mut calls = Calls {
            seconds: functions.seconds(),
            ..Calls::default()
        };
        let mut place_of = Vec::with_capacity(functions.slots.len());
        for slot in functions.slots {
            let count = if cold {
                slot.cold
            } else {
                slot.cold + slot.warm
            };
            if count == 0 {
                place_of.push(None);
                continue;
            }
            let next = calls.sets.len() as u32;
            let set = slot.set.unwrap_or_default();
            let place = *places.entry(set.clone()).or_insert(next);
            if place == next {
                calls.sets.push((set, 0.0));
            }
            calls.sets[place as usize].1 += count as f64;
            place_of.push(Some(place));
        }
        let cut = functions.sequence.len() == SEQUENCE_MAX;
        let kept = functions
            .sequence
            .iter()
            .filter(|seen| !cold || **seen & 1 == 1);
        let places = kept.filter_map(|seen| place_of[(*seen >> 1) as usize]);
        calls.sequence = places.collect();
        if cut {
            let note = format!("the order of calls is known of the first {SEQUENCE_MAX} only");
            self.notes.push(note);
        }
        calls
    }

    fn listed(&mut self, packages: &[Listed]) -> Result<Vec<u32>, TraceError> {
        let mut numbers = Vec::with_capacity(packages.len());
        for package in packages {
            let at = self.number(&package.name).map_err(TraceError::whole)?;
            if let Some(cost) = package.cost() {
                self.cost(at, cost).map_err(TraceError::whole)?;
            }
            numbers.push(at);
        }
        Ok(numbers)
    }

    fn calls(&self, calls: &[Vec<u32>], numbers: &[u32], what: &str) -> Result<Calls, TraceError> {
        let mut folded = Calls::default();
        let mut places: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        for (number, call) in calls.iter().enumerate() {
            let refuse = |why: String| TraceError::whole(format!("{what}, call {number}: {why}"));
            if call.len() > CALL_PACKAGES_MAX {
                return Err(refuse(format!("more than {CALL_PACKAGES_MAX} packages")));
            }
            let mut set = Vec::with_capacity(call.len());
            for place in call {
                let Some(at) = numbers.get(*place as usize) else {
                    let count = numbers.len();
                    return Err(refuse(format!("there is no package {place} of {count}")));
                };
                set.push(*at);
            }
            let set = self.without_rivals(set);
            let next = folded.sets.len() as u32;
            let place = *places.entry(set.clone()).or_insert(next);
            if place == next {
                folded.sets.push((set, 0.0));
            }
            folded.sets[place as usize].1 += 1.0;
            if folded.sequence.len() < SEQUENCE_MAX {
                folded.sequence.push(place);
            }
        }
        Ok(folded)
    }

    /// Sorted; of two versions of a package the first in order, as the worker has it.
    fn without_rivals(&self, mut set: Vec<u32>) -> Vec<u32> {
        let key = |at: &u32| (&self.names[*at as usize], *at);
        set.sort_by(|a, b| key(a).cmp(&key(b)));
        set.dedup_by_key(|at| self.items[*at as usize].family);
        set.sort_unstable();
        set
    }

    fn numbers(&mut self, packages: &[String]) -> Result<Vec<u32>, String> {
        if packages.len() > CALL_PACKAGES_MAX {
            return Err(format!(
                "a function with more than {CALL_PACKAGES_MAX} packages"
            ));
        }
        let numbers = packages.iter().map(|package| self.number(package));
        let set = numbers.collect::<Result<Vec<u32>, String>>()?;
        Ok(self.without_rivals(set))
    }

    fn number(&mut self, name: &str) -> Result<u32, String> {
        let package = Package::parse(name);
        if let Some(at) = self.index.get(&package) {
            return Ok(*at);
        }
        if package.name().is_empty() {
            return Err("a package without a name".to_owned());
        }
        if self.items.len() == PACKAGES_MAX {
            return Err(format!("more than {PACKAGES_MAX} packages"));
        }
        let at = self.items.len() as u32;
        let next = self.families.len() as u32;
        let family = *self
            .families
            .entry(package.name().to_owned())
            .or_insert(next);
        self.items.push(Item {
            import_ms: 0.0,
            mem_mb: 0.0,
            family,
            closures: Vec::new(),
        });
        self.names.push(package.clone());
        self.spellings.push(name.trim().to_owned());
        self.known.push(false);
        self.index.insert(package, at);
        Ok(at)
    }

    fn cost(&mut self, at: u32, cost: Cost) -> Result<(), String> {
        let Cost { import_ms, mem_mb } = cost;
        for (what, value) in [("import time", import_ms), ("memory", mem_mb)] {
            if !(value.is_finite() && value >= 0.0) {
                let name = &self.spellings[at as usize];
                return Err(format!(
                    "{name}: its {what} is {value} (must not be negative)"
                ));
            }
        }
        let item = &mut self.items[at as usize];
        (item.import_ms, item.mem_mb) = (import_ms, mem_mb);
        self.known[at as usize] = true;
        Ok(())
    }
}

impl Listed {
    fn cost(&self) -> Option<Cost> {
        let resident = self.mem_mb.map(|mb| mb / TRACED_FACTOR);
        let mem_mb = self.mb.or(resident);
        (self.ms.is_some() || mem_mb.is_some()).then(|| Cost {
            import_ms: self.ms.unwrap_or(0.0),
            mem_mb: mem_mb.unwrap_or(0.0),
        })
    }
}

/// A profile: lines of packages, a list of them, or an object by name.
fn costs(path: &Path) -> Result<BTreeMap<Package, Cost>, TraceError> {
    let mut scratch = Asked::new();
    let (bytes, _) = bytes::open(path)?;
    let (head, mut bytes) = bytes::with_head(bytes);
    if matches!(form(&head)?, Form::Recorded) {
        let mut nobody = Functions::default();
        scratch.read_lines(bytes, |scratch, text, _| {
            scratch.recorded(text, &mut nobody)
        })?;
    } else {
        let mut text = Vec::new();
        let read = bytes.by_ref().take(LIST_BYTES_MAX).read_to_end(&mut text);
        read.map_err(|error| TraceError::whole(error.to_string()))?;
        let listed = profile_list(&text).map_err(|why| {
            TraceError::whole(why)
                .remedied(r#"write {"packages": [{"name": "numpy", "ms": 46.1, "mb": 3.9}, ...]}"#)
        })?;
        scratch.listed(&listed)?;
    }
    let known = scratch.names.into_iter().zip(scratch.items);
    let known = known.zip(scratch.known).filter(|(_, known)| *known);
    Ok(known
        .map(|((name, item), _)| {
            let Item {
                import_ms, mem_mb, ..
            } = item;
            (name, Cost { import_ms, mem_mb })
        })
        .collect())
}

fn profile_list(text: &[u8]) -> Result<Vec<Listed>, String> {
    #[derive(Deserialize)]
    struct Packages {
        packages: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Costs {
        #[serde(alias = "import_ms")]
        ms: Option<f64>,
        mb: Option<f64>,
        mem_mb: Option<f64>,
    }
    let no_list = match serde_json::from_slice::<Packages>(text) {
        Ok(list) => return Ok(list.packages),
        Err(error) => error,
    };
    if let Ok(list) = serde_json::from_slice::<Vec<Listed>>(text) {
        return Ok(list);
    }
    let by_name: BTreeMap<String, Costs> =
        serde_json::from_slice(text).map_err(|_| format!("no profile: {no_list}"))?;
    let listed = by_name.into_iter().map(|(name, costs)| Listed {
        name,
        ms: costs.ms,
        mb: costs.mb,
        mem_mb: costs.mem_mb,
    });
    Ok(listed.collect())
}

fn list(bytes: bytes::Bytes) -> Result<List, TraceError> {
    let reader = std::io::BufReader::new(bytes.take(LIST_BYTES_MAX));
    serde_json::from_reader(reader).map_err(|error| {
        TraceError::at(error.line() as u64, format!("no call list: {error}")).remedied(KNOWN)
    })
}

fn form(head: &[u8]) -> Result<Form, TraceError> {
    let text = head.trim_ascii_start();
    if !text.is_empty() && !matches!(text[0], b'{' | b'[') {
        return Err(TraceError::at(1, "no known trace begins so").remedied(KNOWN));
    }
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or(text);
    let first: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(line);
    let has = |key: &str| {
        let value = first.as_ref().ok().and_then(|object| object.get(key));
        value.is_some_and(serde_json::Value::is_string)
    };
    Ok(if has("event") {
        Form::Recorded
    } else if has("type") {
        Form::Original
    } else {
        Form::List
    })
}

/// The file, or those of the directory.
fn files(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let unreadable =
        |error: std::io::Error| TraceError::whole(error.to_string()).remedied("make it readable");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if entry.path().is_file() && !hidden {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            let why = format!("more than {FILES_MAX} files");
            return Err(TraceError::whole(why).remedied("name one of them"));
        }
    }
    if files.is_empty() {
        let why = "there is no trace in this directory";
        return Err(
            TraceError::whole(why).remedied("`[trace] record = true` makes a worker record")
        );
    }
    files.sort();
    Ok(files)
}
