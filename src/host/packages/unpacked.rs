//! One package as an installer left it: read, checked against its RECORD, made ours.

use super::record::{FILES_MAX, Record, is_kind};
use crate::base::packages::normalised;
use crate::host::helper::spread;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::process::{getegid, geteuid};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of a mode, those that say who may do what.
const MODE_BITS: u32 = 0o7777;
const METADATA_BYTES_MAX: u64 = 8 << 20;
const DEPTH_MAX: usize = 64;
/// Top-level modules of one package that are remembered.
const MODULES_MAX: usize = 4_096;
/// Private helpers come with the module that needs them.
const NOT_MODULES: [&str; 6] = ["tests", "test", "docs", "doc", "examples", "benchmarks"];

/// What a package says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unpacked {
    /// As it spells it.
    pub name: String,
    pub version: String,
    pub digest: String,
    /// Modules that can be imported.
    pub modules: Vec<String>,
    /// Normalised names of what it requires, extras apart.
    pub requires: Vec<String>,
    /// `.pth` files at its top.
    pub paths: Vec<String>,
    pub bytes: u64,
    pub files: u64,
}

fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Unpacked {
    /// Reads what lies in `root`. Every file is checked, and removed when the RECORD does not name
    /// it; what remains is the worker's, and nobody else's to write. Blocks.
    pub(super) fn adopt(root: &Path) -> io::Result<Self> {
        if !fs::symlink_metadata(root)?.is_dir() {
            return Err(bad("what was installed is no directory".to_owned()));
        }
        let info = dist_info(root)?;
        let record = Record::read(&root.join(&info).join("RECORD"))?;
        let mut unpacked = Self {
            digest: record.digest(),
            ..Self::default()
        };
        let mut walk = Walk {
            root,
            record: &record,
            files: Vec::new(),
        };
        walk.directory(&mut String::new(), DEPTH_MAX)?;
        let files = walk.files;
        let bytes = AtomicU64::new(0);
        spread(&files, |path| {
            bytes.fetch_add(adopt_file(root, path, &record)?, Ordering::Relaxed);
            Ok::<(), io::Error>(())
        })?;
        unpacked.bytes = bytes.into_inner();
        unpacked.files = files.len() as u64;
        let seen: BTreeSet<&str> = files.iter().map(String::as_str).collect();
        let missing = record.paths().find(|path| !seen.contains(path));
        if let Some(missing) = missing {
            return Err(bad(format!("its RECORD names {missing}, which is missing")));
        }
        unpacked.read_metadata(&root.join(&info))?;
        let listed = fs::read_to_string(root.join(&info).join("top_level.txt"));
        unpacked.modules = modules(&listed.unwrap_or_default(), &record);
        let is_path = |path: &&str| is_kind(path, "pth") && !path.contains('/');
        unpacked.paths = record.paths().filter(is_path).map(str::to_owned).collect();
        Ok(unpacked)
    }

    /// Whether what was adopted once is still as it was. Blocks.
    pub(super) fn is_intact(root: &Path) -> io::Result<bool> {
        let record = Record::read(&root.join(dist_info(root)?).join("RECORD"))?;
        for path in record.paths() {
            if !record.fits(&fs::File::open(root.join(path))?, path)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_metadata(&mut self, info: &Path) -> io::Result<()> {
        let mut text = String::new();
        fs::File::open(info.join("METADATA"))?
            .take(METADATA_BYTES_MAX)
            .read_to_string(&mut text)?;
        let head = text.split("\n\n").next().unwrap_or("");
        for line in head.lines() {
            let Some((field, value)) = line.split_once(':') else {
                continue;
            };
            match field.to_ascii_lowercase().as_str() {
                "name" => value.trim().clone_into(&mut self.name),
                "version" => value.trim().clone_into(&mut self.version),
                "requires-dist" => self.requires.extend(required(value)),
                _ => {}
            }
        }
        self.requires.sort();
        self.requires.dedup();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+!".contains(c);
        let good = |text: &str| !text.is_empty() && text.chars().all(is_plain);
        if !good(&self.name) || !good(&self.version) || self.version.starts_with('.') {
            return Err(bad("its METADATA names no package".to_owned()));
        }
        Ok(())
    }
}

/// `numpy>=1.26 ; python_version < "3.12"`; none for what only an extra wants.
fn required(value: &str) -> Option<String> {
    let (specification, marker) = value.split_once(';').unwrap_or((value, ""));
    if marker
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word == "extra")
    {
        return None;
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let name = specification.trim().split(|c| !is_name(c)).next()?;
    (!name.is_empty()).then(|| normalised(name))
}

/// The directory in which a package says what it is.
pub(super) fn dist_info(root: &Path) -> io::Result<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| is_kind(name, "dist-info")) {
            found.push(name.to_owned());
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        count => Err(bad(format!("{count} packages where one was installed"))),
    }
}

/// Checks a file that the RECORD names, and makes it the worker's; its size.
fn adopt_file(root: &Path, path: &str, record: &Record) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(root.join(path), flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() || !record.fits(&file, path)? {
        return Err(bad(format!("{path} is not what its RECORD says")));
    }
    rustix::fs::fchown(&file, Some(geteuid()), Some(getegid()))?;
    let mode = if found.mode() & 0o100 == 0 {
        0o644
    } else {
        0o755
    };
    if found.mode() & MODE_BITS != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    Ok(found.size())
}

/// Finds the files of a package, and removes what is none.
struct Walk<'a> {
    root: &'a Path,
    record: &'a Record,
    files: Vec<String>,
}

impl Walk<'_> {
    /// `below` is the path from the root, with a slash behind it. True when anything is left in it.
    fn directory(&mut self, below: &mut String, depth: usize) -> io::Result<bool> {
        if depth == 0 {
            return Err(bad(format!("it is deeper than {DEPTH_MAX} directories")));
        }
        let directory = self.root.join(&*below);
        let mut is_used = false;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name
                .to_str()
                .ok_or_else(|| bad("a name is no UTF-8".to_owned()))?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            let length = below.len();
            below.push_str(name);
            if kind.is_dir() {
                below.push('/');
                let used = name != "__pycache__" && self.directory(below, depth - 1)?;
                if !used {
                    fs::remove_dir_all(&path)?;
                }
                is_used |= used;
            } else if kind.is_file() && self.record.has(below) {
                if self.files.len() == FILES_MAX {
                    return Err(bad("it has too many files".to_owned()));
                }
                self.files.push(below.clone());
                is_used = true;
            } else {
                fs::remove_file(&path)?;
            }
            below.truncate(length);
        }
        take(&directory, 0o755)?;
        Ok(is_used)
    }
}

/// Moves `.pyc` files from a directory of the same shape beside their sources: what else lies in it
/// is left there. Blocks.
pub(super) fn take_bytecode(from: &Path, into: &Path) -> io::Result<()> {
    let mut open = vec![(from.to_path_buf(), into.to_path_buf(), DEPTH_MAX)];
    while let Some((from, into, depth)) = open.pop() {
        for found in fs::read_dir(&from)? {
            let found = found?;
            let (name, kind) = (found.file_name(), found.file_type()?);
            let place = into.join(&name);
            if kind.is_dir() && depth > 0 {
                let exists = fs::symlink_metadata(&place).is_ok_and(|place| place.is_dir());
                if name == "__pycache__" && into.is_dir() {
                    fs::create_dir_all(&place)?;
                    take(&place, 0o755)?;
                } else if !exists {
                    continue;
                }
                open.push((found.path(), place, depth - 1));
            } else if kind.is_file() && into.ends_with("__pycache__") && is_bytecode(&name) {
                take(&found.path(), 0o644)?;
                fs::rename(found.path(), place)?;
            }
        }
    }
    Ok(())
}

fn is_bytecode(name: &std::ffi::OsStr) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending == "pyc")
}

/// Makes a file the worker's own. Its mode last: a change of owner takes bits away.
fn take(path: &Path, mode: u32) -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    rustix::fs::chownat(
        CWD,
        path,
        Some(user),
        Some(group),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The modules of a package: its builder's list where there is one, else the first parts of paths.
fn modules(listed: &str, record: &Record) -> Vec<String> {
    let mut modules: BTreeSet<&str> = listed.split_whitespace().collect();
    if modules.is_empty() {
        modules = record.paths().filter_map(module_of_path).collect();
    }
    let is_module = |name: &&str| {
        !name.starts_with('_')
            && !NOT_MODULES.contains(name)
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let mut kept: Vec<String> = Vec::new();
    for name in modules.into_iter().filter(is_module).take(MODULES_MAX) {
        kept.push(name.to_owned());
    }
    kept
}

/// `numpy/__init__.py`, `six.py` and `fast.cpython-311-x86_64-linux-gnu.so` are modules.
fn module_of_path(path: &str) -> Option<&str> {
    match path.split_once('/') {
        Some((directory, "__init__.py")) => Some(directory),
        Some((directory, file)) if file.starts_with("__init__.") => Some(directory),
        None if is_kind(path, "py") => path.strip_suffix(".py"),
        None if is_kind(path, "so") => path.split('.').next(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("ol-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("yaml/__init__.py", "");
        write("stray.py", "");
        write("yaml/__pycache__/x.pyc", "");
        write("_yaml.py", "");
        write(
            "PyYAML-6.0.dist-info/METADATA",
            "Name: PyYAML\nVersion: 6.0\nRequires-Dist: Six_Pack (>=1)\n\
             Requires-Dist: docs; extra == 'doc'\n\nName: body\n",
        );
        let empty = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
        write(
            "PyYAML-6.0.dist-info/RECORD",
            &format!(
                "yaml/__init__.py,sha256={empty},0\n_yaml.py,sha256={empty},0\n\
                 PyYAML-6.0.dist-info/METADATA,,\nPyYAML-6.0.dist-info/RECORD,,\n"
            ),
        );
        root
    }

    #[test]
    fn a_package_is_read_and_strays_go() {
        let root = package("unpacked");
        let read = Unpacked::adopt(&root).unwrap();
        assert_eq!((&*read.name, &*read.version), ("PyYAML", "6.0"));
        assert_eq!(read.modules, ["yaml"]);
        assert_eq!(read.requires, ["six-pack"]);
        assert!(!root.join("stray.py").exists() && !root.join("yaml/__pycache__").exists());
        assert!(Unpacked::is_intact(&root).unwrap());
        fs::write(root.join("yaml/__init__.py"), "changed").unwrap();
        assert!(!Unpacked::is_intact(&root).unwrap());
        assert!(
            Unpacked::adopt(&root)
                .unwrap_err()
                .to_string()
                .contains("not what its RECORD")
        );
        fs::remove_file(root.join("yaml/__init__.py")).unwrap();
        assert!(
            Unpacked::adopt(&root)
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
        fs::remove_dir_all(&root).unwrap();
    }
}
