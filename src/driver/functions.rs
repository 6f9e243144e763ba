//! The functions that were called or deployed since the start: their code, and how fresh it is.
//!
//! ```text
//!            lookup                loaded                cache_ms passed, lookup
//!   unknown --------> looked for -------> known, fresh -----------------------> checked
//!      ^                 | absent           ^   ^                               |  |  |
//!      +-----------------+                  |   +------- same, or failed -------+  |  |
//!                                           +----------- loaded: next version -----+  |
//!   retiring <----------------------------------------------- absent ------------------+
//! ```
//!
//! The registry is a disk or a server, so helpers look at it; calls that need an answer wait here
//! meanwhile: those that could do without no longer than a moment, and not at all while it fails.
//! A name that is not in the registry leaves nothing behind.

use crate::base::{FunctionName, Slab, Time};
use crate::config::function::{self, FunctionSettings};
use crate::engine::{CallKey, FunctionKey};
use crate::host::code::{
    Bad, Digest, Entry, Files, Image, Placed, Registry, Stamp, Trouble, Upload, Version,
};
use crate::host::imports;
use crate::host::packages::Requirements;
use crate::wire::text::TextList;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a call that could go on with what is known waits for the registry to say whether that
/// is the newest. A disk answers at once, a server within this, or it is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// While the registry fails, what is known counts as fresh for twice as long each time, up to this.
const DOUBLINGS_MAX: u32 = 5;

/// What every instance finds in its environment; the function's own settings come behind.
const ENVIRONMENT: [&str; 5] = [
    "PATH=/usr/local/bin:/usr/bin:/bin",
    "HOME=/tmp",
    "TMPDIR=/tmp",
    "LANG=C.UTF-8",
    "PYTHONUNBUFFERED=1",
];

/// What instances of one version run.
#[derive(Clone, Debug)]
pub struct Code {
    pub image: Image,
    pub settings: Arc<FunctionSettings>,
    /// All the environment its instances get.
    pub environment: TextList,
    /// The packages it asks for.
    pub requirements: Arc<Requirements>,
    /// What its entry file imports, as far as reading it tells.
    pub imports: Arc<[String]>,
    /// As the registry numbers its uploads; 0 when it was put there by hand.
    pub version: u64,
    stamp: Stamp,
}

/// One function.
#[derive(Debug)]
pub struct Function {
    pub name: FunctionName,
    /// Counts from 1 with each change of the code.
    pub version: u32,
    /// None until it was found for the first time.
    pub code: Option<Code>,
    /// The last change of the registry that it was told of.
    change: u64,
    checked: Time,
    /// Since when somebody looks.
    looks: Option<Time>,
    /// Looks that came to nothing since the last that did not.
    failures: u32,
    waiting: Vec<CallKey>,
}

/// What a call for a name meets.
#[derive(Debug)]
#[must_use]
pub enum Lookup {
    /// Go on with this one.
    Known(FunctionKey),
    /// The call waits; this has to be done by a helper, and its result told to `checked`.
    Check(Check),
    /// Go on with this one; the look is done besides, for calls to come.
    Beside(FunctionKey, Check),
    /// The call waits for a check that is under way.
    Waits,
    /// There is no place for one more function.
    Full,
}

/// A look at the registry, to be done by a helper.
#[derive(Clone, Debug)]
pub struct Check {
    function: FunctionKey,
    name: FunctionName,
    version: u32,
    known: Option<(Stamp, Digest)>,
}

/// What a look at the registry found.
#[derive(Debug)]
pub struct Checked {
    pub function: FunctionKey,
    /// The version it was looked at for: an upload that came meanwhile is newer than the look.
    version: u32,
    found: Finding,
}

#[derive(Debug)]
enum Finding {
    Absent,
    /// Nobody could look.
    Nothing,
    Same,
    /// The same content under another stamp.
    Restamped(Stamp),
    Code(Box<Code>),
    Bad(String),
    /// It cannot be said what is there.
    Unreachable(String),
}

/// What to do after a check, with the calls that waited for it.
#[derive(Debug)]
#[must_use]
pub struct Resolved {
    pub calls: Vec<CallKey>,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// Go on with what is known.
    Unchanged,
    /// There is a new version: tell the engine, then go on.
    Deployed,
    /// It cannot be checked now, for this reason; go on with what is known.
    Kept(String),
    /// There is no such function; an engine that knows it is told so.
    Absent { was_known: bool },
    /// There is code, but it cannot be run, for this reason.
    Unusable(String),
    /// Nobody could look, and nothing is known.
    Unlooked,
    /// It cannot be said whether there is such a function, for this reason.
    Unreachable(String),
}

impl Check {
    pub fn function(&self) -> FunctionKey {
        self.function
    }

    /// Looks. Blocks: for helpers.
    pub fn run(self, registry: &Registry) -> Checked {
        let stamp = self.known.as_ref().map(|(stamp, _)| stamp);
        let found = match registry.load(&self.name, stamp, &settings) {
            Ok(Entry::Absent) => Finding::Absent,
            Ok(Entry::Same) => Finding::Same,
            Ok(Entry::Code(loaded)) => match self.known {
                Some((_, digest)) if loaded.is(digest) => Finding::Restamped(loaded.stamp),
                _ => match code(loaded.image, loaded.checked, loaded.version, loaded.stamp) {
                    Ok(code) => Finding::Code(Box::new(code)),
                    Err(bad) => Finding::Bad(bad.to_string()),
                },
            },
            Err(Trouble::Bad(bad)) => Finding::Bad(bad.to_string()),
            Err(Trouble::Registry(error)) => Finding::Unreachable(error.to_string()),
        };
        Checked {
            function: self.function,
            version: self.version,
            found,
        }
    }
}

/// The code of an entry. Blocks: for helpers.
pub fn load(registry: &Registry, name: &FunctionName) -> Result<Option<Code>, Trouble> {
    match registry.load(name, None, &settings)? {
        Entry::Absent | Entry::Same => Ok(None),
        Entry::Code(loaded) => {
            let code = code(loaded.image, loaded.checked, loaded.version, loaded.stamp);
            code.map(Some).map_err(Trouble::Bad)
        }
    }
}

fn code(image: Image, settings: FunctionSettings, version: u64, stamp: Stamp) -> Result<Code, Bad> {
    let requirements = Arc::new(Requirements::of(&image.path)?);
    let entry = image.path.join(entry_file(&image.path, &settings));
    let imports = imports::of(&entry).map_err(Bad::Host)?;
    let own = settings
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let all: Vec<String> = ENVIRONMENT
        .iter()
        .map(|&text| text.to_owned())
        .chain(own)
        .collect();
    let environment = TextList::collect(all.iter().map(String::as_bytes))
        .map_err(|_| Bad::Archive("a variable of [environment] holds a NUL".to_owned()))?;
    Ok(Code {
        image,
        settings: Arc::new(settings),
        environment,
        requirements,
        imports: imports.into(),
        version,
        stamp,
    })
}

/// What an image says of itself; refused when it has no entry or says nonsense. Blocks.
pub fn settings(image: &Image) -> Result<FunctionSettings, Bad> {
    let toml = settings_text(image, function::FILE)?;
    let yaml = settings_text(image, function::YAML_FILE)?;
    let settings = match (toml, yaml) {
        (Some(_), Some(_)) => {
            let both = (function::FILE, function::YAML_FILE);
            let why = format!(
                "{} and {} are both there (keep one of them)",
                both.0, both.1
            );
            return Err(Bad::Archive(why));
        }
        (Some(text), None) => FunctionSettings::parse(&text),
        (None, Some(text)) => FunctionSettings::parse_yaml(&text),
        (None, None) => Ok(FunctionSettings::default()),
    };
    let settings = settings.map_err(|all| Bad::Archive(all.join("; ")))?;
    let requirements = Requirements::of(&image.path)?;
    check_entry(image, &settings, &requirements)?;
    Ok(settings)
}

fn settings_text(image: &Image, name: &str) -> Result<Option<String>, Bad> {
    let file = match File::open(image.path.join(name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Bad::Host)?,
    };
    let mut text = String::new();
    file.take(function::FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|_| Bad::Archive(format!("{name} is no UTF-8 text")))?;
    if text.len() as u64 > function::FILE_BYTES_MAX {
        let limit = function::FILE_BYTES_MAX / 1024;
        return Err(Bad::Archive(format!("{name} exceeds {limit} KB")));
    }
    Ok(Some(text))
}

/// What is looked for where no file is named, as the runtime does.
const ENTRY_FILES: [&str; 3] = ["f.py", "app.py", "main.py"];

fn set<'a>(settings: &'a FunctionSettings, name: &str) -> Option<&'a str> {
    let value = settings.environment.get(name)?;
    (!value.is_empty()).then_some(value.as_str())
}

/// What OL_WSGI_ENTRY or OL_ASGI_ENTRY names.
fn application(settings: &FunctionSettings) -> Option<&str> {
    set(settings, "OL_WSGI_ENTRY").or(set(settings, "OL_ASGI_ENTRY"))
}

/// The files that a call may begin with, below the image; the first that is there is it. The
/// runtime's `handler` reads the names the same way.
fn entry_files(settings: &FunctionSettings) -> Vec<String> {
    let file = |module: &str| {
        let module = module.strip_suffix(".py").unwrap_or(module);
        format!("{}.py", module.replace('.', "/"))
    };
    let unnamed = match set(settings, "OL_ENTRY_FILE") {
        Some(named) => vec![named.to_owned()],
        None => ENTRY_FILES.map(str::to_owned).to_vec(),
    };
    let Some(entry) = application(settings) else {
        return unnamed;
    };
    match entry.split_once(':') {
        Some(("", _)) => unnamed,
        Some((module, _)) => vec![file(module)],
        // A module, a name in a module, or a name in the file that is not named.
        None => core::iter::once(file(entry))
            .chain(entry.rsplit_once('.').map(|(module, _)| file(module)))
            .chain(unnamed)
            .collect(),
    }
}

fn is_there(image: &Path, entry: &str) -> bool {
    let package = image.join(entry.trim_end_matches(".py"));
    image.join(entry).is_file() || package.join("__init__.py").is_file()
}

/// The one a call begins with; when none is there, the one that was to be.
fn entry_file(image: &Path, settings: &FunctionSettings) -> String {
    let mut files = entry_files(settings);
    let found = files.iter().position(|entry| is_there(image, entry));
    files.swap_remove(found.unwrap_or(0))
}

/// A module that a package may bring: `module:name`, which the runtime imports from wherever it is.
/// Which modules a package brings is only known once it is installed.
fn module_elsewhere(settings: &FunctionSettings) -> Option<&str> {
    let (module, _) = application(settings)?.split_once(':')?;
    let is_file = Path::new(module)
        .extension()
        .is_some_and(|ending| ending == "py");
    (!module.is_empty() && !is_file).then_some(module)
}

fn check_entry(
    image: &Image,
    settings: &FunctionSettings,
    requirements: &Requirements,
) -> Result<(), Bad> {
    let entries = entry_files(settings);
    if entries.iter().any(|entry| is_there(&image.path, entry)) {
        return Ok(());
    }
    if let Some(module) = module_elsewhere(settings) {
        if !requirements.is_empty() {
            return Ok(());
        }
        let files = entries.join(" or ");
        return Err(Bad::Archive(format!(
            "no entry: {files} is missing, and no package is asked for that could bring {module} \
             (name it in requirements.txt)"
        )));
    }
    Err(Bad::Archive(format!(
        "no entry file: {} is missing (name another with OL_ENTRY_FILE in [environment], {})",
        entries.join(" or "),
        function::FILE
    )))
}

/// An upload to be made a function's code, by a helper.
#[derive(Debug)]
pub struct Put {
    pub name: FunctionName,
    pub upload: Upload,
}

impl Put {
    /// Unpacks, checks, keeps, publishes. Blocks: for helpers.
    /// Answers which change of the registry it was, too.
    pub fn run(self, registry: &Files) -> Result<(Version, Code, u64), Bad> {
        let placed = registry.put(&self.name, self.upload, &settings)?;
        let Placed { version, image, .. } = placed;
        let stamp = Stamp::Files(placed.stamp);
        let code = code(image, placed.checked, version.number, stamp)?;
        Ok((version, code, placed.change))
    }
}

/// What became of an upload among the functions that are known.
#[derive(Debug)]
#[must_use]
pub enum Deployed {
    /// New calls get it.
    Newest(FunctionKey),
    /// A later one was heard of before.
    Outdone,
    /// There is no place for one more function.
    Full,
}

/// Every function known, by name and by key.
#[derive(Debug)]
pub struct Functions {
    slab: Slab<Function>,
    by_name: BTreeMap<FunctionName, FunctionKey>,
    /// Of whom calls wait for a look though they could do without, and how long.
    patience: VecDeque<(Time, FunctionKey)>,
    /// How long a look at the registry counts as fresh.
    cache: Duration,
}

impl Functions {
    pub fn new(functions_max: usize, cache: Duration) -> Self {
        Self {
            slab: Slab::new(functions_max),
            by_name: BTreeMap::new(),
            patience: VecDeque::new(),
            cache,
        }
    }

    pub fn set_cache(&mut self, cache: Duration) {
        self.cache = cache;
    }

    pub fn get(&self, key: FunctionKey) -> Option<&Function> {
        self.slab.get(key.alike())
    }

    pub fn named(&self, name: &FunctionName) -> Option<&Function> {
        self.get(*self.by_name.get(name)?)
    }

    /// How many names are known.
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// Every function known now.
    pub fn keys(&self) -> Vec<FunctionKey> {
        self.by_name.values().copied().collect()
    }

    /// The function of this name, for the call.
    pub fn lookup(&mut self, name: &FunctionName, call: CallKey, now: Time) -> Lookup {
        let Some(&key) = self.by_name.get(name) else {
            return self.look_for(name, call, now);
        };
        let function = self
            .slab
            .get_mut(key.alike())
            .expect("names lead to living functions");
        let fresh_for = self.cache * (1 << function.failures.min(DOUBLINGS_MAX));
        if function.code.is_some() && now.since(function.checked) < fresh_for {
            return Lookup::Known(key);
        }
        // While the registry fails nobody waits for it who can do without.
        let waits = function.code.is_none() || function.failures == 0;
        if waits {
            function.waiting.push(call);
        }
        if function.looks.is_some() {
            return if waits {
                Lookup::Waits
            } else {
                Lookup::Known(key)
            };
        }
        function.looks = Some(now);
        let known = function.code.as_ref();
        let check = Check {
            function: key,
            name: *name,
            version: function.version,
            known: known.map(|code| (code.stamp.clone(), code.image.digest)),
        };
        if !waits {
            return Lookup::Beside(key, check);
        }
        if known.is_some() {
            self.patience.push_back((now + PATIENCE, key));
        }
        Lookup::Check(check)
    }

    /// The next function whose calls have waited for the registry long enough: they go on with what
    /// is known. Answers when to come again where there is none.
    pub fn impatient(&mut self, now: Time) -> Result<(FunctionKey, Vec<CallKey>), Option<Time>> {
        while let Some(&(due, key)) = self.patience.front() {
            if due > now {
                return Err(Some(due));
            }
            self.patience.pop_front();
            let Some(function) = self.slab.get_mut(key.alike()) else {
                continue;
            };
            let looks_long = function.looks.is_some_and(|since| since + PATIENCE <= now);
            if looks_long && function.code.is_some() {
                // Those who come until it answers do not wait at all.
                function.failures = function.failures.max(1);
                return Ok((key, core::mem::take(&mut function.waiting)));
            }
        }
        Err(None)
    }

    fn look_for(&mut self, name: &FunctionName, call: CallKey, now: Time) -> Lookup {
        let function = Function {
            name: *name,
            version: 0,
            code: None,
            change: 0,
            checked: Time::ZERO,
            looks: Some(now),
            failures: 0,
            waiting: vec![call],
        };
        let Ok(key) = self.slab.insert(function) else {
            return Lookup::Full;
        };
        self.by_name.insert(*name, key.alike());
        Lookup::Check(Check {
            function: key.alike(),
            name: *name,
            version: 0,
            known: None,
        })
    }

    /// No helper takes the check now: its calls go on with what is known, if anything is.
    pub fn unchecked(&mut self, check: &Check) -> Resolved {
        let found = match check.known {
            Some(_) => Finding::Same,
            None => Finding::Nothing,
        };
        let (function, version) = (check.function, check.version);
        let checked = Checked {
            function,
            version,
            found,
        };
        self.checked(checked, Time::ZERO)
    }

    /// A helper has looked.
    pub fn checked(&mut self, checked: Checked, now: Time) -> Resolved {
        let key = checked.function;
        let Some(function) = self.slab.get_mut(key.alike()) else {
            return Resolved {
                calls: Vec::new(),
                outcome: Outcome::Unchanged,
            };
        };
        function.looks = None;
        function.checked = now;
        function.failures = match checked.found {
            Finding::Unreachable(_) => function.failures.saturating_add(1),
            _ => 0,
        };
        let calls = std::mem::take(&mut function.waiting);
        let was_known = function.code.is_some();
        let outcome = match checked.found {
            _ if checked.version != function.version => Outcome::Unchanged,
            Finding::Same => Outcome::Unchanged,
            Finding::Restamped(stamp) => {
                if let Some(code) = &mut function.code {
                    code.stamp = stamp;
                }
                Outcome::Unchanged
            }
            Finding::Code(code) => {
                function.version += 1;
                function.code = Some(*code);
                Outcome::Deployed
            }
            Finding::Bad(why) | Finding::Unreachable(why) if was_known => Outcome::Kept(why),
            Finding::Unreachable(why) => {
                self.forget(key);
                self.retired(key);
                Outcome::Unreachable(why)
            }
            Finding::Bad(why) => {
                self.forget(key);
                self.retired(key);
                Outcome::Unusable(why)
            }
            Finding::Nothing if was_known => Outcome::Unchanged,
            Finding::Nothing => {
                self.forget(key);
                self.retired(key);
                Outcome::Unlooked
            }
            Finding::Absent => {
                self.forget(key);
                if !was_known {
                    self.retired(key);
                }
                Outcome::Absent { was_known }
            }
        };
        Resolved { calls, outcome }
    }

    /// New code arrived by an upload, which was this change of the registry.
    pub fn deployed(
        &mut self,
        name: &FunctionName,
        code: Code,
        change: u64,
        now: Time,
    ) -> Deployed {
        if let Some(&key) = self.by_name.get(name) {
            let function = self
                .slab
                .get_mut(key.alike())
                .expect("names lead to living functions");
            // Helpers end in any order.
            if change < function.change {
                return Deployed::Outdone;
            }
            function.version += 1;
            function.code = Some(code);
            function.change = change;
            function.checked = now;
            return Deployed::Newest(key);
        }
        let function = Function {
            name: *name,
            version: 1,
            code: Some(code),
            change,
            checked: now,
            looks: None,
            failures: 0,
            waiting: Vec::new(),
        };
        let Ok(key) = self.slab.insert(function) else {
            return Deployed::Full;
        };
        self.by_name.insert(*name, key.alike());
        Deployed::Newest(key.alike())
    }

    /// The function was removed: its name is free, its key lives until `retired`.
    pub fn removed(&mut self, name: &FunctionName) -> Option<FunctionKey> {
        self.by_name.remove(name)
    }

    fn forget(&mut self, key: FunctionKey) {
        let name = self.slab.get(key.alike()).map(|function| function.name);
        if let Some(name) = name
            && self.by_name.get(&name) == Some(&key)
        {
            self.by_name.remove(&name);
        }
    }

    /// Nothing of it is left: its key may be given away.
    pub fn retired(&mut self, key: FunctionKey) {
        self.slab.remove(key.alike());
    }
}

#[cfg(test)]
mod tests;
