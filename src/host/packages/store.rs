//! The store: packages side by side in many versions, and the views that functions are given.
//!
//! ```text
//!   installed in work/ --adopt: checked, made root's--> renamed into store/ --facts--> an entry
//!   entries --compose: hard links in work/--> renamed into views/ --> mounted as /packages
//! ```
//!
//! An entry is its directory and its facts; one without the other was not finished, and goes at the
//! next start. Nothing waits for a disk when a package is added: what the machine's crash could
//! have damaged is told by the boot it was added in, and checked against its RECORD once after the
//! next boot; `settle` has the disk catch up meanwhile.
//!
//! A view is one directory like any virtual environment's, made of hard links: whatever works there
//! works here (namespaces, data files, metadata, entry points), an import costs the same however
//! many packages there are, and all views share the pages of a file in memory. Whoever has a
//! [`View`] holds it, from before it is looked for: only what nobody holds is ever removed.

use super::record::hex;
use super::requirements::RequirementsKey;
use super::unpacked::Unpacked;
use crate::base::Package;
use crate::base::packages::normalised;
use crate::host::helper::spread;
use crate::sys::clock;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Of a file of facts, or of a set.
const FACTS_BYTES_MAX: u64 = 4 << 20;
const DEPTH_MAX: usize = 64;
/// Where a view lists its `.pth` files, for the runtime.
const PATHS_FILE: &str = ".ol-pth";

/// `numpy-1.26.4-0a1b2c3d4e5f`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryId(String);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a package: kept beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Normalised.
    pub name: String,
    pub version: String,
    /// Of its RECORD.
    pub digest: String,
    /// What it is imported as.
    pub modules: Vec<String>,
    /// Names of packages it needs.
    pub requires: Vec<String>,
    /// Its `.pth` files.
    #[serde(default)]
    pub paths: Vec<String>,
    pub bytes: u64,
    pub files: u64,
    pub added_secs: u64,
    /// Its bytecode lies beside its source.
    #[serde(default)]
    pub compiled: bool,
    /// The boot it was added in, until the disk has it.
    #[serde(default)]
    pub boot: Option<String>,
    #[serde(default)]
    pub profile: Option<Profile>,
}

/// What importing a package was found to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Its own imports, those it depends on loaded before: the median.
    pub import_ms: f64,
    /// Private memory the imports add.
    pub private_mb: f64,
    /// Memory the imports add that files back and others share.
    pub shared_mb: f64,
    /// Threads its imports leave behind.
    pub threads: u32,
    /// Descriptors its imports leave open.
    pub open_files: u32,
    /// A fork of an interpreter that has imported it works.
    pub forks: bool,
    /// Why its zygotes would be of no use, else empty.
    #[serde(default)]
    pub why: String,
    /// So it is for zygotes that import what needs it.
    #[serde(default)]
    pub spreads: bool,
    /// Modules of its own that its import loads.
    #[serde(default)]
    pub imports: Vec<String>,
}

/// One installed package.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub id: EntryId,
    pub facts: Facts,
}

impl Entry {
    /// What these facts are about.
    pub fn of(facts: Facts) -> Self {
        let id = format!("{}-{}-{}", facts.name, facts.version, facts.digest);
        Self {
            id: EntryId(id),
            facts,
        }
    }

    /// Its name and version.
    pub fn package(&self) -> Package {
        Package::parse(&format!("{}=={}", self.facts.name, self.facts.version))
    }
}

/// What some requirements came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    pub requirements: String,
    pub packages: Vec<EntryId>,
}

/// A directory to be mounted as /packages; there as long as anybody has this.
#[derive(Debug, Clone)]
pub struct View {
    pub path: PathBuf,
    _held: Arc<()>,
}

/// The views that somebody has, by their names.
type Held = BTreeMap<String, Weak<()>>;

/// The packages of one interpreter.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// Locked while a view is taken up, and while one that nobody has is taken away.
    held: Arc<Mutex<Held>>,
}

impl Store {
    /// Opens it, clears what was under way, and lists what it holds. Blocks.
    pub fn open(directory: &Path, tag: &str) -> io::Result<(Self, Vec<Entry>)> {
        let store = Self {
            root: directory.join(tag),
            held: Arc::default(),
        };
        if store.work().exists() {
            fs::remove_dir_all(store.work())?;
        }
        for part in ["store", "views", "sets", "work"] {
            fs::create_dir_all(store.root.join(part))?;
        }
        let entries = store.list()?;
        Ok((store, entries))
    }

    /// Where installs are under way.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub fn directory_of(&self, id: &EntryId) -> PathBuf {
        self.root.join("store").join(&id.0)
    }

    fn facts_of(&self, id: &EntryId) -> PathBuf {
        self.root.join("store").join(format!("{id}.json"))
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let boot = boot_id();
        let mut entries = Vec::new();
        let mut orphans = BTreeSet::new();
        for found in fs::read_dir(self.root.join("store"))? {
            let name = found?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = name.strip_suffix(".json") {
                let entry = read_json::<Facts>(&self.root.join("store").join(name))
                    .map(Entry::of)
                    .filter(|entry| entry.id.0 == id);
                match entry.filter(|entry| self.is_whole(entry, &boot)) {
                    Some(entry) => entries.push(entry),
                    None => fs::remove_file(self.root.join("store").join(name))?,
                }
            } else {
                orphans.insert(name.to_owned());
            }
        }
        for entry in &entries {
            orphans.remove(&entry.id.0);
        }
        for orphan in orphans {
            remove(&self.root.join("store").join(orphan))?;
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    fn is_whole(&self, entry: &Entry, boot: &str) -> bool {
        let directory = self.directory_of(&entry.id);
        match &entry.facts.boot {
            Some(added) if added != boot => Unpacked::is_intact(&directory).unwrap_or(false),
            _ => directory.is_dir(),
        }
    }

    /// Takes what an installer left in `target`: it must be one package, of this name. Blocks.
    pub fn adopt(&self, target: &Path, name: &str) -> io::Result<Entry> {
        let unpacked = Unpacked::adopt(target)?;
        if normalised(&unpacked.name) != name {
            let why = format!("{} was installed where {name} was wanted", unpacked.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let entry = Entry::of(Facts {
            name: normalised(&unpacked.name),
            version: unpacked.version,
            digest: unpacked.digest,
            modules: unpacked.modules,
            requires: unpacked.requires,
            paths: unpacked.paths,
            bytes: unpacked.bytes,
            files: unpacked.files,
            added_secs: clock::wall().as_secs(),
            compiled: false,
            boot: Some(boot_id()),
            profile: None,
        });
        match fs::rename(target, self.directory_of(&entry.id)) {
            // It was there already: the same files, by its digest.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => remove(target)?,
            other => other?,
        }
        match read_json::<Facts>(&self.facts_of(&entry.id)) {
            Some(facts) => Ok(Entry::of(facts)),
            None => self.keep_facts(&entry).map(|()| entry),
        }
    }

    /// Blocks.
    pub fn keep_facts(&self, entry: &Entry) -> io::Result<()> {
        self.write_json(&self.facts_of(&entry.id), &entry.facts)
    }

    /// Has the disk catch up with everything that was added. Blocks.
    pub fn settle(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.root, flags, Mode::empty())?;
        Ok(rustix::fs::syncfs(&directory)?)
    }

    /// The view of these packages, made unless it is there. Blocks.
    pub fn compose(&self, entries: &[Entry]) -> io::Result<View> {
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        let mut hasher = Sha256::new();
        for entry in &entries {
            hasher.update(&entry.id.0);
            hasher.update("\n");
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let name = hex(&digest[..10]);
        let view = self.hold(&name);
        if view.path.is_dir() {
            return Ok(view);
        }
        let unfinished = self.unfinished(&format!("view-{name}"))?;
        self.link(entries.iter().copied(), &unfinished)?;
        let paths: Vec<&str> = entries
            .iter()
            .flat_map(|entry| &entry.facts.paths)
            .map(String::as_str)
            .collect();
        if !paths.is_empty() {
            fs::write(unfinished.join(PATHS_FILE), paths.join("\n"))?;
        }
        match fs::rename(&unfinished, &view.path) {
            // Somebody else made the same meanwhile.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => remove(&unfinished)?,
            other => other?,
        }
        Ok(view)
    }

    /// From here on the view of this name stays, if it is there.
    fn hold(&self, name: &str) -> View {
        let mut held = self.held();
        let known = held.get(name).and_then(Weak::upgrade);
        let pin = known.unwrap_or_else(|| {
            let pin = Arc::default();
            held.insert(name.to_owned(), Arc::downgrade(&pin));
            pin
        });
        View {
            path: self.root.join("views").join(name),
            _held: pin,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Whoever panicked had added or removed one name, or not.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a directory hold the files of these. Blocks.
    pub fn link<'a>(
        &self,
        mut entries: impl Iterator<Item = &'a Entry>,
        into: &Path,
    ) -> io::Result<()> {
        let mut plan = Plan::default();
        entries.try_for_each(|entry| plan.add(&self.directory_of(&entry.id), into, 0))?;
        plan.carry_out()
    }

    /// Adds what an entry has got since the view was made: its bytecode. Blocks.
    pub fn refresh(&self, view: &View, id: &EntryId) -> io::Result<()> {
        let mut plan = Plan::default();
        plan.add(&self.directory_of(id), &view.path, 0)?;
        plan.carry_out()
    }

    /// Moves compiled files from `from`, which has the shape of the entry, into it. Blocks.
    pub fn add_bytecode(&self, entry: &mut Entry, from: &Path) -> io::Result<()> {
        let into = self.directory_of(&entry.id);
        super::unpacked::take_bytecode(from, &into)?;
        entry.facts.compiled = true;
        self.keep_facts(entry)
    }

    /// Blocks.
    pub fn set(&self, key: RequirementsKey) -> Option<Set> {
        read_json(&self.root.join("sets").join(format!("{key}.json")))
    }

    /// Blocks.
    pub fn keep_set(&self, key: RequirementsKey, set: &Set) -> io::Result<()> {
        self.write_json(&self.root.join("sets").join(format!("{key}.json")), set)
    }

    /// Removes an entry that nobody uses, and the sets that name it. Blocks.
    pub fn remove(&self, id: &EntryId) -> io::Result<()> {
        for found in fs::read_dir(self.root.join("sets"))? {
            let path = found?.path();
            let names_it = read_json::<Set>(&path).is_none_or(|set| set.packages.contains(id));
            if names_it {
                fs::remove_file(path)?;
            }
        }
        // The facts first: a directory without them is no entry.
        match fs::remove_file(self.facts_of(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        remove(&self.directory_of(id))
    }

    /// Removes every view that nobody has. Blocks.
    pub fn drop_views(&self) -> io::Result<()> {
        for found in fs::read_dir(self.root.join("views"))? {
            let name = found?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(taken) = self.take_view(name)? {
                remove(&taken)?;
            }
        }
        Ok(())
    }

    /// Where a view went that nobody has.
    fn take_view(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let mut held = self.held();
        if held.get(name).is_some_and(|pin| pin.strong_count() > 0) {
            return Ok(None);
        }
        held.remove(name);
        // All of it at once: whoever takes it up next finds none, and makes it anew.
        let taken = self.unfinished("gone")?;
        match fs::rename(self.root.join("views").join(name), &taken) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Some(taken)),
        }
    }

    /// Empties the installer's cache when it has grown too large. Blocks; nobody may be using it.
    pub fn bound_cache(&self, bytes_max: u64) -> io::Result<()> {
        let cache = self.work().join("cache");
        if cache.is_dir() && size_of(&cache, DEPTH_MAX)? > bytes_max {
            fs::remove_dir_all(cache)?;
        }
        Ok(())
    }

    /// A new empty directory in work.
    pub fn unfinished(&self, name: &str) -> io::Result<PathBuf> {
        for number in 0..u32::MAX {
            let path = self.work().join(format!("{name}.{number}"));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(path),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        let directory = self.unfinished("facts")?;
        let draft = directory.join("draft");
        fs::write(&draft, serde_json::to_vec(value)?)?;
        fs::rename(&draft, path)?;
        fs::remove_dir(directory)
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let size = fs::metadata(path).ok()?.len();
    if size > FACTS_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Files and directories, if they are there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What the files below a directory take; those that have other names elsewhere take nothing.
fn size_of(directory: &Path, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    for found in fs::read_dir(directory)? {
        let found = found?;
        let metadata = found.metadata()?;
        if metadata.is_dir() && depth > 0 {
            bytes += size_of(&found.path(), depth - 1)?;
        } else if metadata.is_file() && metadata.nlink() == 1 {
            bytes += metadata.size();
        }
    }
    Ok(bytes)
}

/// What a directory of links is to hold.
#[derive(Default)]
struct Plan {
    /// Directories, those with as many above them together.
    levels: Vec<Vec<PathBuf>>,
    links: Vec<(PathBuf, PathBuf)>,
}

impl Plan {
    /// Adds every file of `from`, in its place below `into`, which has `level` above it.
    fn add(&mut self, from: &Path, into: &Path, level: usize) -> io::Result<()> {
        if level == DEPTH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for found in fs::read_dir(from)? {
            let found = found?;
            let place = into.join(found.file_name());
            if found.file_type()?.is_dir() {
                self.add(&found.path(), &place, level + 1)?;
                if self.levels.len() <= level {
                    self.levels.resize_with(level + 1, Vec::new);
                }
                self.levels[level].push(place);
            } else {
                self.links.push((found.path(), place));
            }
        }
        Ok(())
    }

    /// Making a directory costs as much as many links.
    fn carry_out(self) -> io::Result<()> {
        for mut level in self.levels {
            level.sort_unstable();
            level.dedup();
            spread(&level, |place| match fs::create_dir(place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            })?;
        }
        spread(&self.links, |(from, place)| link(from, place))
    }
}

/// Gives a file another name; what has it already stays.
fn link(from: &Path, place: &Path) -> io::Result<()> {
    match rustix::fs::linkat(CWD, from, CWD, place, AtFlags::empty()) {
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        // More links than the file system counts.
        Err(Errno::MLINK) => fs::copy(from, place).map(|_| ()),
        Err(error) => Err(error.into()),
    }
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Bed(PathBuf);

    impl Bed {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ol-store-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            Self(root)
        }

        fn open(&self) -> (Store, Vec<Entry>) {
            Store::open(&self.0, "python3-x").unwrap()
        }
    }

    /// What an installer would leave: one package with one module.
    fn installed(store: &Store, name: &str, version: &str) -> PathBuf {
        let target = store.unfinished("target").unwrap();
        let info = target.join(format!("{name}-{version}.dist-info"));
        fs::create_dir(&info).unwrap();
        fs::write(target.join(format!("{name}.py")), "").unwrap();
        let metadata = format!("Name: {name}\nVersion: {version}\n\n");
        fs::write(info.join("METADATA"), metadata).unwrap();
        let empty = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
        let record = format!(
            "{name}.py,sha256={empty},0\n{name}-{version}.dist-info/METADATA,,\n\
             {name}-{version}.dist-info/RECORD,,\n"
        );
        fs::write(info.join("RECORD"), record).unwrap();
        target
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_store_is_found_again_and_what_was_not_finished_is_not() {
        let bed = Bed::new("again");
        let (store, entries) = bed.open();
        assert!(entries.is_empty());
        let one = store
            .adopt(&installed(&store, "one", "1.0"), "one")
            .unwrap();
        let two = store
            .adopt(&installed(&store, "one", "2.0"), "one")
            .unwrap();
        assert!(
            store.adopt(&installed(&store, "x", "1"), "one").is_err(),
            "another package"
        );
        let set = Set {
            requirements: "one\n".to_owned(),
            packages: vec![two.id.clone()],
        };
        let key: RequirementsKey = "0".repeat(32).parse().unwrap();
        store.keep_set(key, &set).unwrap();
        // Killed between its two steps: a directory without facts, and facts without a directory.
        fs::create_dir(store.root.join("store/half-1-00")).unwrap();
        fs::write(store.facts_of(&EntryId("gone-1-00".to_owned())), "{}").unwrap();
        let (store, entries) = bed.open();
        assert_eq!(entries, [one.clone(), two.clone()]);
        assert!(!store.root.join("store/half-1-00").exists());
        assert_eq!(store.set(key), Some(set));
        store.remove(&two.id).unwrap();
        assert_eq!(store.set(key), None, "a set without its packages is none");
        assert_eq!(bed.open().1, [one]);
    }

    #[test]
    fn what_another_boot_added_is_checked_once() {
        let bed = Bed::new("boot");
        let (store, _) = bed.open();
        let mut whole = store
            .adopt(&installed(&store, "one", "1.0"), "one")
            .unwrap();
        let mut harmed = store
            .adopt(&installed(&store, "two", "1.0"), "two")
            .unwrap();
        for entry in [&mut whole, &mut harmed] {
            entry.facts.boot = Some("another".to_owned());
            store.keep_facts(entry).unwrap();
        }
        fs::write(store.directory_of(&harmed.id).join("two.py"), "torn").unwrap();
        let (_, entries) = bed.open();
        assert_eq!(entries, [whole]);
        assert!(!store.directory_of(&harmed.id).exists());
    }

    #[test]
    fn a_view_holds_its_packages_and_no_other() {
        let bed = Bed::new("view");
        let (store, _) = bed.open();
        let one = store
            .adopt(&installed(&store, "one", "1.0"), "one")
            .unwrap();
        let two = store
            .adopt(&installed(&store, "two", "1.0"), "two")
            .unwrap();
        let both = store.compose(&[two.clone(), one.clone()]).unwrap();
        let alone = store.compose(core::slice::from_ref(&one)).unwrap();
        let again = store.compose(&[one, two]).unwrap();
        assert_eq!(again.path, both.path, "made once");
        let has = |view: &View, name: &str| view.path.join(name).is_file();
        assert!(has(&both, "one.py") && has(&both, "two.py"));
        assert!(has(&alone, "one.py") && !has(&alone, "two.py"));
        let path = both.path.clone();
        drop(both);
        store.drop_views().unwrap();
        assert!(alone.path.exists() && path.exists(), "it is held twice");
        drop(again);
        store.drop_views().unwrap();
        assert!(alone.path.exists() && !path.exists());
        assert!(store.work().read_dir().unwrap().next().is_none());
    }

    #[test]
    fn a_view_is_there_for_whoever_took_it_up_while_others_are_removed() {
        const ROUNDS: usize = 300;
        let bed = Bed::new("held");
        let (store, _) = bed.open();
        let entry = store
            .adopt(&installed(&store, "one", "1.0"), "one")
            .unwrap();
        let is_over = AtomicBool::new(false);
        let remove = || {
            while !is_over.load(Ordering::Relaxed) {
                store.drop_views().unwrap();
            }
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .spawn_scoped(scope, remove)
                .unwrap();
            let is_kept = |view: &View| {
                // Time for a removal that has listed it already.
                std::thread::yield_now();
                view.path.join("one.py").is_file()
            };
            let entries = core::slice::from_ref(&entry);
            let lost = (0..ROUNDS).find(|_| !store.compose(entries).is_ok_and(|it| is_kept(&it)));
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(lost, None, "a view was removed under its holder");
        });
    }
}
