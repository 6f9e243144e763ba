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
    Bad, Digest, Entry, Files, Image, Registry, Stamp, Trouble, Upload, Version,
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
    check_entry(image, &settings)?;
    Requirements::of(&image.path)?;
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

/// The files that a call may begin with, below the image; the first that is there is it. The
/// runtime's `handler` reads the names the same way.
fn entry_files(settings: &FunctionSettings) -> Vec<String> {
    let set = |name: &str| {
        let value = settings.environment.get(name);
        value.filter(|value| !value.is_empty())
    };
    let file = |module: &str| {
        let module = module.strip_suffix(".py").unwrap_or(module);
        format!("{}.py", module.replace('.', "/"))
    };
    let unnamed = match set("OL_ENTRY_FILE") {
        Some(named) => vec![named.clone()],
        None => ENTRY_FILES.map(str::to_owned).to_vec(),
    };
    let Some(entry) = set("OL_WSGI_ENTRY").or(set("OL_ASGI_ENTRY")) else {
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

fn check_entry(image: &Image, settings: &FunctionSettings) -> Result<(), Bad> {
    let entries = entry_files(settings);
    if entries.iter().any(|entry| is_there(&image.path, entry)) {
        return Ok(());
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
    pub fn run(self, registry: &Files) -> Result<(Version, Code), Bad> {
        let (version, image, settings) = registry.put(&self.name, self.upload, &settings)?;
        let found = registry.find(&self.name).map_err(Bad::Host)?;
        // Removed again at once by somebody else: as if it had been removed a moment later.
        let stamp = Stamp::Files(found.map(|found| found.stamp).unwrap_or_default());
        let code = code(image, settings, version.number, stamp)?;
        Ok((version, code))
    }
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

    /// New code arrived by an upload; the answer is none when there is no place for it.
    pub fn deployed(&mut self, name: &FunctionName, code: Code, now: Time) -> Option<FunctionKey> {
        if let Some(&key) = self.by_name.get(name) {
            let function = self
                .slab
                .get_mut(key.alike())
                .expect("names lead to living functions");
            function.version += 1;
            function.code = Some(code);
            function.checked = now;
            return Some(key);
        }
        let function = Function {
            name: *name,
            version: 1,
            code: Some(code),
            checked: now,
            looks: None,
            failures: 0,
            waiting: Vec::new(),
        };
        let key = self.slab.insert(function).ok()?.alike();
        self.by_name.insert(*name, key);
        Some(key)
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
mod tests {
    use super::*;
    use crate::base::Key;
    use std::fs;
    use std::path::PathBuf;

    const CALL: CallKey = Key::new(1, 1);
    const CACHE: Duration = Duration::from_secs(5);

    struct Bed {
        root: PathBuf,
        registry: Registry,
        functions: Functions,
    }

    impl Bed {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ol-fun-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let registry = Files::open(
                &root.join("registry"),
                &root.join("cache"),
                3,
                crate::host::unprivileged::Unprivileged::InProcess,
            )
            .unwrap();
            let functions = Functions::new(4, CACHE);
            Self {
                root,
                registry: Registry::Files(registry),
                functions,
            }
        }

        fn files(&self) -> &Files {
            self.registry.files().unwrap()
        }

        fn write(&self, name: &str, code: &str) {
            fs::write(self.root.join("registry").join(name), code).unwrap();
        }

        /// Looks a name up, doing the check at once where one is wanted.
        fn call(&mut self, name: &str, at: u64) -> Result<FunctionKey, Outcome> {
            let now = Time::from_millis(at);
            match self
                .functions
                .lookup(&FunctionName::new(name).unwrap(), CALL, now)
            {
                Lookup::Known(key) => Ok(key),
                Lookup::Check(check) => {
                    let checked = check.run(&self.registry);
                    let resolved = self.functions.checked(checked, now);
                    assert_eq!(resolved.calls, [CALL]);
                    Err(resolved.outcome)
                }
                other => panic!("{other:?}"),
            }
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn an_unknown_name_leaves_nothing() {
        let mut bed = Bed::new("unknown");
        for round in 0..10 {
            let outcome = bed.call("nobody", round).unwrap_err();
            assert!(matches!(outcome, Outcome::Absent { was_known: false }));
        }
        assert!(bed.functions.slab.is_empty() && bed.functions.by_name.is_empty());
    }

    #[test]
    fn code_is_looked_at_once_a_while_and_changes_are_found() {
        let mut bed = Bed::new("fresh");
        bed.write("x.py", "one");
        assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
        let key = bed.call("x", 10).unwrap();
        bed.write("x.py", "other");
        assert_eq!(bed.call("x", 4_000).unwrap(), key);
        assert!(matches!(bed.call("x", 6_000), Err(Outcome::Deployed)));
        assert_eq!(bed.functions.get(key).unwrap().version, 2);
        assert!(matches!(bed.call("x", 20_000), Err(Outcome::Unchanged)));
    }

    #[test]
    fn broken_code_keeps_the_old_one_serving() {
        let mut bed = Bed::new("broken");
        bed.write("x.zip", "PK\x03\x04 no zip");
        assert!(matches!(bed.call("x", 0), Err(Outcome::Unusable(_))));
        assert!(bed.functions.slab.is_empty());
        fs::remove_file(bed.root.join("registry/x.zip")).unwrap();
        bed.write("x.py", "one");
        assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
        bed.write("x.py", "\u{1}\u{2}");
        let Err(Outcome::Kept(why)) = bed.call("x", 6_000) else {
            panic!()
        };
        assert!(why.contains("can be deployed"), "{why}");
        assert!(bed.call("x", 6_001).is_ok());
    }

    #[test]
    fn what_nobody_could_look_for_is_not_called_absent() {
        let mut bed = Bed::new("unlooked");
        bed.write("x.py", "one");
        let name = FunctionName::new("x").unwrap();
        let Lookup::Check(check) = bed.functions.lookup(&name, CALL, Time::ZERO) else {
            panic!()
        };
        let resolved = bed.functions.unchecked(&check);
        assert!(matches!(resolved.outcome, Outcome::Unlooked));
        assert_eq!(resolved.calls, [CALL]);
        assert!(bed.functions.slab.is_empty());
        assert!(matches!(bed.call("x", 1), Err(Outcome::Deployed)));
    }

    #[test]
    fn a_function_that_went_is_gone_and_its_name_free() {
        let mut bed = Bed::new("gone");
        bed.write("x.py", "one");
        assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
        let old = bed.call("x", 1).unwrap();
        fs::remove_file(bed.root.join("registry/x.py")).unwrap();
        let outcome = bed.call("x", 6_000).unwrap_err();
        assert!(matches!(outcome, Outcome::Absent { was_known: true }));
        bed.write("x.py", "two");
        assert!(matches!(bed.call("x", 6_001), Err(Outcome::Deployed)));
        assert_ne!(bed.call("x", 6_002).unwrap(), old);
        bed.functions.retired(old);
        assert_eq!(bed.functions.slab.len(), 1);
    }

    #[test]
    fn a_look_from_before_an_upload_does_not_undo_it() {
        let mut bed = Bed::new("race");
        bed.write("x.py", "one");
        assert!(matches!(bed.call("x", 0), Err(Outcome::Deployed)));
        let name = FunctionName::new("x").unwrap();
        let late = Time::from_millis(9_000);
        bed.write("x.py", "by hand");
        let Lookup::Check(check) = bed.functions.lookup(&name, CALL, late) else {
            panic!()
        };
        let looked = check.run(&bed.registry);
        let mut upload = bed.files().incoming(1).unwrap();
        std::io::Write::write_all(&mut upload.file, b"uploaded").unwrap();
        let (_, code) = Put { name, upload }.run(bed.files()).unwrap();
        let digest = code.image.digest;
        let key = bed.functions.deployed(&name, code, late).unwrap();
        assert!(matches!(
            bed.functions.checked(looked, late).outcome,
            Outcome::Unchanged
        ));
        let code = bed.functions.get(key).unwrap().code.as_ref().unwrap();
        assert_eq!(code.image.digest, digest);
    }

    #[test]
    fn code_without_an_entry_is_refused() {
        let bed = Bed::new("entry");
        let directory = bed.root.join("registry/x");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("other.py"), "").unwrap();
        let found = |bed: &Bed| {
            let name = FunctionName::new("x").unwrap();
            let found = bed.files().find(&name).unwrap().unwrap();
            let loaded = bed.files().load(&found, &settings);
            loaded.map_err(|bad| bad.to_string())
        };
        let all = "f.py or app.py or main.py is missing";
        assert!(found(&bed).unwrap_err().contains(all));
        let settle = |variable: &str, value: &str| {
            let text = format!("[environment]\n{variable} = \"{value}\"");
            fs::write(directory.join("ol.toml"), text).unwrap();
        };
        for entry in ["other:app", "other.py:app", "other", "other.app"] {
            settle("OL_WSGI_ENTRY", entry);
            assert!(found(&bed).is_ok(), "{entry}");
        }
        for entry in ["app", ":app", "third:app"] {
            settle("OL_WSGI_ENTRY", entry);
            assert!(found(&bed).is_err(), "{entry}");
        }
        fs::write(directory.join("main.py"), "").unwrap();
        for (entry, is_found) in [("app", true), (":app", true), ("third:app", false)] {
            settle("OL_WSGI_ENTRY", entry);
            assert_eq!(found(&bed).is_ok(), is_found, "{entry}");
        }
        settle("OL_ENTRY_FILE", "third.py");
        assert!(found(&bed).is_err());
        settle("OL_ENTRY_FILE", "");
        assert!(found(&bed).is_ok());
        fs::write(directory.join("ol.toml"), "zigote = true").unwrap();
        assert!(found(&bed).unwrap_err().contains("did you mean zygote"));
    }
}
