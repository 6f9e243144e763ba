//! Several packages that one run of uv has installed into one directory, taken apart again.
//!
//! ```text
//!   cache/archive-v0/ID/   numpy/ numpy.libs/ numpy-2.4.6.dist-info/     each wheel by itself
//!   target/                all of them: other names of the same files
//!        --whose each name at its top is, by the wheels--> a directory each
//! ```
//!
//! A wheel may hold what it likes, files of another package included, and in one directory the
//! last one wins: its own RECORD would be believed for somebody else's name. So what lies there is
//! taken apart by what each wheel holds, as uv has unpacked it in its cache, and not by what the
//! directory says of itself. Where two wheels have the same name at their top (namespace packages
//! do), neither is taken; where one could have written anywhere, nothing is. What is not taken is
//! installed again, by itself: it is in the cache.

use super::record::{Record, is_kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What uv calls the place of unpacked wheels in its cache, a version behind it.
const UNPACKED: &str = "archive-v";
/// Where programs of packages are put.
const PROGRAMS: &str = "bin";
/// Of what a wheel wants to have elsewhere, only this has a place of its own.
const SCRIPTS: &str = "scripts";

/// One package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// As its `.dist-info` has them.
    pub name: String,
    pub version: String,
    /// Of its own; none when it cannot be told from another.
    pub directory: Option<PathBuf>,
}

fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// What each package of `target` has there.
struct Parts {
    /// Names at the top, and programs, by `.dist-info`.
    all: BTreeMap<String, BTreeSet<String>>,
}

/// What lies in `target`; every package that has its names for itself is moved into a directory
/// below `room`. An error: none can be told from the others; none: the cache does not look as it is
/// known to. Blocks.
pub(super) fn take_apart(
    target: &Path,
    cache: &Path,
    room: &Path,
) -> io::Result<Option<Vec<Part>>> {
    let Some(parts) = Parts::of(target, cache)? else {
        return Ok(None);
    };
    let mut all = Vec::new();
    for (number, (info, names)) in parts.all.iter().enumerate() {
        let known = info.trim_end_matches(".dist-info").split_once('-');
        let (name, version) = known.unwrap_or((info, ""));
        let mut part = Part {
            name: name.to_owned(),
            version: version.to_owned(),
            directory: None,
        };
        if !parts.has_for_itself(info) {
            all.push(part);
            continue;
        }
        let directory = room.join(format!("part.{number}"));
        fs::create_dir(&directory)?;
        for name in names {
            if is_program(name) {
                fs::create_dir_all(directory.join(PROGRAMS))?;
            }
            fs::rename(target.join(name), directory.join(name))?;
        }
        part.directory = Some(directory);
        all.push(part);
    }
    Ok(Some(all))
}

impl Parts {
    fn of(target: &Path, cache: &Path) -> io::Result<Option<Self>> {
        let mut all = BTreeMap::new();
        for name in names(target)? {
            if is_kind(&name, "dist-info") {
                all.insert(name, BTreeSet::new());
            }
        }
        for place in names(cache)? {
            if place.starts_with(UNPACKED) {
                for wheel in names(&cache.join(&place))? {
                    add_wheel(&mut all, target, &cache.join(&place).join(wheel))?;
                }
            }
        }
        for (info, names) in &mut all {
            if names.is_empty() {
                log::debug!("the wheel of {info} is not in the cache");
                return Ok(None);
            }
            let record = Record::read(&target.join(info).join("RECORD"))?;
            let programs = record.paths().filter(|path| is_program(path));
            names.extend(programs.map(str::to_owned));
        }
        Ok(Some(Self { all }))
    }

    fn has_for_itself(&self, info: &str) -> bool {
        let others = self.all.iter().filter(|(other, _)| *other != info);
        let own = &self.all[info];
        others
            .map(|(_, names)| names)
            .all(|names| names.is_disjoint(own))
    }
}

/// Adds what lies at the top of a wheel, if it is the one that was installed.
fn add_wheel(
    all: &mut BTreeMap<String, BTreeSet<String>>,
    target: &Path,
    wheel: &Path,
) -> io::Result<()> {
    let found = names(wheel)?;
    let infos: Vec<&String> = found
        .iter()
        .filter(|name| is_kind(name, "dist-info"))
        .collect();
    let installed = infos.iter().find(|info| {
        let file = Path::new(info).join("METADATA");
        all.contains_key(**info) && is_same(&target.join(&file), &wheel.join(&file))
    });
    let Some(installed) = installed.map(|info| (*info).clone()) else {
        return Ok(());
    };
    if infos.len() > 1 {
        let all: Vec<&str> = infos.iter().map(|info| info.as_str()).collect();
        return Err(bad(format!("one wheel is of {}", all.join(" and "))));
    }
    let mut own = BTreeSet::new();
    for name in &found {
        if is_kind(name, "data") {
            let parts = names(&wheel.join(name))?;
            if parts.iter().any(|part| part != SCRIPTS) {
                return Err(bad(format!("the wheel of {installed} has files elsewhere")));
            }
        } else if name == PROGRAMS {
            return Err(bad(format!("the wheel of {installed} has a module {name}")));
        } else {
            own.insert(name.clone());
        }
    }
    all.insert(installed, own);
    Ok(())
}

fn is_program(path: &str) -> bool {
    path.strip_prefix(PROGRAMS)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Whether these are names of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::symlink_metadata(one), fs::symlink_metadata(other)) {
        (Ok(one), Ok(other)) => {
            one.is_file() && one.ino() == other.ino() && one.dev() == other.dev()
        }
        _ => false,
    }
}

/// What a directory holds; nothing when it is none.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let name = entry?.file_name().into_string();
        all.push(name.map_err(|_| bad("a name is no UTF-8".to_owned()))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    struct Bed(PathBuf);

    impl Bed {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ol-joint-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            for part in ["target/bin", "cache/archive-v7", "room"] {
                fs::create_dir_all(root.join(part)).unwrap();
            }
            fs::write(root.join("cache/archive-v7/.lock"), "").unwrap();
            Self(root)
        }

        /// As uv would: unpacked in the cache, the same files in the target, RECORD written anew.
        fn install(&self, name: &str, files: &[&str], programs: &[&str]) {
            let wheel = self.0.join("cache/archive-v7").join(name);
            let target = self.0.join("target");
            let info = format!("{name}-1.0.dist-info");
            let metadata = format!("{info}/METADATA");
            let mut record = String::new();
            for file in files.iter().copied().chain([metadata.as_str()]) {
                for root in [&wheel, &target] {
                    fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
                }
                fs::write(wheel.join(file), name).unwrap();
                if !file.contains(".data/") {
                    let _ = fs::remove_file(target.join(file));
                    fs::hard_link(wheel.join(file), target.join(file)).unwrap();
                    writeln!(record, "{file},,").unwrap();
                }
            }
            for program in programs {
                fs::write(target.join("bin").join(program), name).unwrap();
                writeln!(record, "../../bin/{program},,").unwrap();
            }
            fs::write(target.join(info).join("RECORD"), record).unwrap();
        }

        fn take_apart(&self) -> io::Result<Option<Vec<Part>>> {
            let [target, cache, room] = ["target", "cache", "room"].map(|it| self.0.join(it));
            take_apart(&target, &cache, &room)
        }

        fn names(&self) -> Vec<String> {
            let parts = self.take_apart().unwrap().unwrap();
            let taken = parts.into_iter().filter(|part| part.directory.is_some());
            taken.map(|part| part.name).collect()
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_gets_what_its_wheel_holds() {
        let bed = Bed::new("each");
        bed.install("one", &["one/__init__.py", "one.libs/x.so"], &["run"]);
        bed.install("two", &["two.py", "two-1.0.data/scripts/tool"], &["tool"]);
        // Left of an earlier run: another file of that name.
        let old = bed.0.join("cache/archive-v7/old/two-1.0.dist-info");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("METADATA"), "two").unwrap();
        fs::write(bed.0.join("cache/archive-v7/old/stray.py"), "").unwrap();
        let parts = bed.take_apart().unwrap().unwrap();
        let found: Vec<(&str, Vec<String>)> = parts
            .iter()
            .map(|part| {
                assert_eq!(part.version, "1.0");
                let mut found = names(part.directory.as_ref().unwrap()).unwrap();
                found.sort();
                (part.name.as_str(), found)
            })
            .collect();
        let texts = |all: &[&str]| {
            all.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let one = texts(&["bin", "one", "one-1.0.dist-info", "one.libs"]);
        let two = texts(&["bin", "two-1.0.dist-info", "two.py"]);
        assert_eq!(found, [("one", one), ("two", two)]);
        let one = parts[0].directory.as_ref().unwrap();
        assert!(one.join("bin/run").is_file());
        assert!(!one.join("bin/tool").exists());
    }

    #[test]
    fn what_two_have_is_neither_s() {
        let bed = Bed::new("two");
        bed.install("one", &["space/one.py"], &[]);
        bed.install("two", &["space/two.py"], &[]);
        bed.install("three", &["three.py"], &["run"]);
        bed.install("four", &["four.py"], &["run"]);
        bed.install("five", &["five.py"], &["walk"]);
        assert_eq!(bed.names(), ["five"]);
    }

    #[test]
    fn a_wheel_that_may_have_written_anywhere_spoils_all() {
        type Wheel<'a> = (&'a str, &'a [&'a str]);
        let wheels: [Wheel<'_>; 4] = [
            ("poser", &["other-1.0.dist-info/RECORD"]),
            ("mover", &["mover-1.0.data/purelib/other/__init__.py"]),
            ("runner", &["bin/run"]),
            ("thief", &["other-1.0.dist-info/METADATA", "other.py"]),
        ];
        for (name, files) in wheels {
            let bed = Bed::new(name);
            bed.install("other", &["other.py"], &["run"]);
            assert_eq!(bed.names(), ["other"], "alone");
            let bed = Bed::new(name);
            bed.install("other", &["other.py"], &["run"]);
            bed.install(name, files, &[]);
            let why = bed.take_apart().unwrap_err().to_string();
            assert!(why.contains(name), "{why}");
        }
        // Not by uv: nothing says whose the files are.
        let bed = Bed::new("copied");
        bed.install("one", &["one.py"], &[]);
        let file = bed.0.join("target/one-1.0.dist-info/METADATA");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "one").unwrap();
        assert_eq!(bed.take_apart().unwrap(), None);
    }
}
