//! An image: one content of a function, unpacked once, read-only to whoever runs it.
//!
//! Images are named by what they contain, so two functions with the same code share one, and an
//! image is never changed: it is made in a directory of another name and renamed when it is whole.
//! A crash leaves only such half-made directories, which the next start removes.
//!
//! What joins an image later is its byte code: `__pycache__` directories made by an interpreter
//! that may do nothing else (`unprivileged`), once for each interpreter.

use super::super::unprivileged::{self, Unprivileged};
use super::Bounds;
use super::archive::{Bad, Format};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Byte code of an image: where it is, and that it is there for one interpreter.
const BYTE_CODE: &str = "__pycache__";
const COMPILED: &str = ".by-";
/// Files of one image that are compiled.
const COMPILED_MAX: usize = 4096;
/// Byte code of one file.
const BYTE_CODE_BYTES_MAX: u64 = 64 << 20;
/// Differs from one start of the machine to the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// During which one the images here were made.
const BOOT_MARK: &str = ".boot";
/// Half-made images begin with this; no digest does.
const UNFINISHED: &str = ".new-";

/// What a content is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of everything that is left to read.
    pub fn of(reader: &mut impl Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Self(hasher.finalize().into())),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// As people are shown it.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Code that can be given to an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    pub digest: Digest,
    /// The directory that becomes /handler.
    pub path: PathBuf,
}

/// What must be true of an image before anybody gets it.
pub type Check<'a, T> = &'a dyn Fn(&Image) -> Result<T, Bad>;

/// Where images are kept.
#[derive(Clone, Debug)]
pub(super) struct Images {
    directory: PathBuf,
    unprivileged: Unprivileged,
}

impl Images {
    /// Opens the store, removing what an earlier worker left half-made.
    ///
    /// Images are not synced, for they can be made again: those of before the machine went down may
    /// be hollow, and go.
    pub(super) fn open(directory: PathBuf, unprivileged: Unprivileged) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let boot = fs::read_to_string(BOOT_ID)?;
        let mark = directory.join(BOOT_MARK);
        if fs::read_to_string(&mark).ok().as_deref() != Some(boot.as_str()) {
            fs::remove_dir_all(&directory)?;
            fs::create_dir(&directory)?;
            fs::write(mark, boot)?;
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            directory,
            unprivileged,
        })
    }

    /// The image of an archive or a single file, and what `check` says of it; one that is refused
    /// is not kept.
    pub(super) fn of_file<T>(
        &self,
        mut file: File,
        check: Check<'_, T>,
    ) -> Result<(Image, T), Bad> {
        file.seek(SeekFrom::Start(0)).map_err(Bad::Host)?;
        let mut start = [0; 512];
        let known = read_start(&mut file, &mut start).map_err(Bad::Host)?;
        let Some(format) = Format::of(&start[..known]) else {
            return Err(Bad::Archive(
                "neither .tar.gz, .tar, .zip nor Python text (one of these can be deployed)".into(),
            ));
        };
        file.seek(SeekFrom::Start(0)).map_err(Bad::Host)?;
        let digest = Digest::of(&mut file).map_err(Bad::Host)?;
        let fill = |into: &Path| self.unprivileged.unpack(file, format, into);
        self.make(digest, fill, check)
    }

    /// The image of a directory as it is now: a copy, for the original may change at any time.
    pub(super) fn of_directory<T>(
        &self,
        original: &Path,
        check: Check<'_, T>,
    ) -> Result<(Image, T), Bad> {
        let mut tree = Tree {
            hasher: Sha256::new(),
            bytes: 0,
            entries: 0,
            files: Vec::new(),
        };
        tree.walk(original, Path::new(""))?;
        let digest = Digest(tree.hasher.finalize().into());
        let fill = |into: &Path| {
            for (path, kind) in &tree.files {
                copy_entry(original, into, path, *kind).map_err(Bad::Host)?;
            }
            Ok(())
        };
        self.make(digest, fill, check)
    }

    /// The image of this digest, made by `fill` unless it is there.
    fn make<T>(
        &self,
        digest: Digest,
        fill: impl FnOnce(&Path) -> Result<(), Bad>,
        check: Check<'_, T>,
    ) -> Result<(Image, T), Bad> {
        let path = self.directory.join(digest.to_string());
        if path.is_dir() {
            let image = Image { digest, path };
            let checked = check(&image)?;
            return Ok((image, checked));
        }
        let unfinished = Unfinished::new(&self.directory, digest).map_err(Bad::Host)?;
        fill(&unfinished.0)?;
        let checked = check(&Image {
            digest,
            path: unfinished.0.clone(),
        })?;
        let renamed = renameat_with(CWD, &unfinished.0, CWD, &path, RenameFlags::NOREPLACE);
        match renamed {
            // Somebody else made the same meanwhile; theirs is as good.
            Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => Ok((Image { digest, path }, checked)),
            Err(error) => Err(Bad::Host(error.into())),
        }
    }

    /// A file without a name, for what is fetched before it can be unpacked.
    pub(super) fn spool(&self) -> io::Result<File> {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let path = self.directory.join(format!("{UNFINISHED}{thread}-fetch"));
        let options = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .clone();
        let file = options.open(&path)?;
        fs::remove_file(path)?;
        Ok(file)
    }

    /// How many images there are, beside the mark.
    pub(super) fn count(&self) -> io::Result<usize> {
        Ok(fs::read_dir(&self.directory)?.count() - 1)
    }

    /// Removes every image but those named.
    pub(super) fn keep_only(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != BOOT_MARK && !wanted(&name.to_string_lossy()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Compiles the Python files of images.
#[derive(Clone, Debug)]
pub struct Compiler {
    pub interpreter: PathBuf,
    /// Where the interpreter is below; none: the root of this machine.
    pub root: Option<PathBuf>,
    /// Nobody's user and group id.
    pub id: u32,
}

impl Compiler {
    /// Byte code for an image, unless it is there. Blocks: the interpreter starts and ends.
    pub fn compile(&self, image: &Image) -> io::Result<()> {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        let inside = self
            .interpreter
            .strip_prefix("/")
            .unwrap_or(&self.interpreter);
        let program = fs::metadata(root.join(inside))?;
        let who = (
            program.ino(),
            program.len(),
            program.mtime(),
            program.mtime_nsec(),
        );
        let who = Digest::of(&mut format!("{} {who:?}", root.join(inside).display()).as_bytes())?;
        let mark = image
            .path
            .join(BYTE_CODE)
            .join(format!("{COMPILED}{}", who.short()));
        if mark.exists() {
            return Ok(());
        }
        let mut files = Vec::new();
        python_files(&image.path, Path::new(""), &mut files)?;
        let store = image.path.parent().unwrap_or(&image.path);
        let aside = Unfinished::new(store, image.digest)?;
        let list = Unfinished::new(&aside.0, image.digest)?;
        let into = aside.0.join("made");
        fs::create_dir(&into)?;
        let mut names = Vec::new();
        for file in &files {
            names.extend_from_slice(file.as_os_str().as_encoded_bytes());
            names.push(b'\n');
        }
        let list = list.0.join("list");
        fs::write(&list, names)?;
        let places = (image.path.as_path(), into.as_path());
        let tag = unprivileged::compile(
            self.id,
            &self.interpreter,
            self.root.as_deref(),
            places,
            &list,
        )?;
        let is_tag = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if tag.is_empty() || !tag.chars().all(is_tag) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for (number, file) in files.iter().enumerate() {
            let made = into.join(format!("{number}.pyc"));
            if let Some(code) = unprivileged::read_made(&made, BYTE_CODE_BYTES_MAX)? {
                keep_byte_code(&image.path.join(file), &tag, &code)?;
            }
        }
        make_directory(&image.path.join(BYTE_CODE))?;
        fs::write(mark, "")
    }
}

/// Every file that can be imported, with a name that fits on a line.
fn python_files(root: &Path, inner: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(inner))? {
        let entry = entry?;
        let path = inner.join(entry.file_name());
        let kind = entry.file_type()?;
        let is_python = path.extension().is_some_and(|ending| ending == "py");
        let text = path.to_str().unwrap_or("\n");
        if kind.is_dir() && entry.file_name() != BYTE_CODE {
            python_files(root, &path, files)?;
        } else if kind.is_file() && is_python && !text.contains('\n') && files.len() < COMPILED_MAX
        {
            files.push(path);
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// `lib/x.py` has it in `lib/__pycache__/x.TAG.pyc`, whole or not at all.
fn keep_byte_code(source: &Path, tag: &str, code: &[u8]) -> io::Result<()> {
    let (Some(parent), Some(stem)) = (source.parent(), source.file_stem()) else {
        return Ok(());
    };
    let directory = parent.join(BYTE_CODE);
    make_directory(&directory)?;
    let place = directory.join(format!("{}.{tag}.pyc", stem.to_string_lossy()));
    let aside = place.with_added_extension("new");
    fs::write(&aside, code)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o644))?;
    fs::rename(aside, place)
}

fn read_start(file: &mut File, start: &mut [u8]) -> io::Result<usize> {
    let mut known = 0;
    while known < start.len() {
        match file.read(&mut start[known..])? {
            0 => break,
            count => known += count,
        }
    }
    Ok(known)
}

/// A directory being filled; gone unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(directory: &Path, digest: Digest) -> io::Result<Self> {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let path = directory.join(format!("{UNFINISHED}{thread}-{digest}"));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File { executable: bool },
    Link,
}

/// What a directory holds, in an order that is the same everywhere.
struct Tree {
    hasher: Sha256,
    bytes: u64,
    entries: u64,
    files: Vec<(PathBuf, Kind)>,
}

impl Tree {
    fn walk(&mut self, root: &Path, inner: &Path) -> Result<(), Bad> {
        let entries = fs::read_dir(root.join(inner)).map_err(Bad::Host)?;
        let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
        let mut names = names.map_err(Bad::Host)?;
        names.sort_unstable();
        for name in names {
            if name == ".git" || name == "__pycache__" {
                continue;
            }
            self.take(root, &inner.join(name))?;
        }
        Ok(())
    }

    fn take(&mut self, root: &Path, path: &Path) -> Result<(), Bad> {
        let shown = path.display().to_string();
        let data = fs::symlink_metadata(root.join(path)).map_err(Bad::Host)?;
        self.entries += 1;
        self.bytes += data.len();
        let Bounds {
            bytes_max,
            entries_max,
        } = Bounds::DEFAULT;
        if self.entries > entries_max || self.bytes > bytes_max {
            return Err(Bad::Archive(format!(
                "more than {entries_max} files or {} MB",
                bytes_max >> 20
            )));
        }
        let kind = match data.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File {
                executable: data.mode() & 0o111 != 0,
            },
            kind if kind.is_symlink() => Kind::Link,
            _ => return Err(Bad::Archive(format!("device or pipe: {shown}"))),
        };
        self.hash(kind, &shown, root, path).map_err(Bad::Host)?;
        self.files.push((path.to_path_buf(), kind));
        if kind == Kind::Directory {
            self.walk(root, path)
        } else {
            Ok(())
        }
    }

    fn hash(&mut self, kind: Kind, shown: &str, root: &Path, path: &Path) -> io::Result<()> {
        let (letter, content) = match kind {
            Kind::Directory => ("d", String::new()),
            Kind::Link => ("l", fs::read_link(root.join(path))?.display().to_string()),
            Kind::File { executable } => {
                let digest = Digest::of(&mut File::open(root.join(path))?)?;
                (if executable { "x" } else { "f" }, digest.to_string())
            }
        };
        self.hasher
            .update(format!("{letter}\0{shown}\0{content}\0"));
        Ok(())
    }
}

fn copy_entry(from: &Path, to: &Path, path: &Path, kind: Kind) -> io::Result<()> {
    let (from, to) = (from.join(path), to.join(path));
    match kind {
        Kind::Directory => fs::create_dir(to),
        Kind::Link => std::os::unix::fs::symlink(fs::read_link(from)?, to),
        Kind::File { executable } => {
            fs::copy(from, &to)?;
            let mode = if executable { 0o755 } else { 0o644 };
            fs::set_permissions(to, fs::Permissions::from_mode(mode))
        }
    }
}
