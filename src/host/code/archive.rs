//! Unpacking what strangers packed: `.tar.gz`, `.tar`, `.zip`, or one `.py`, told by content.
//!
//! Nothing in an archive is believed. Every file is opened below one directory with
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, so no name and no link made earlier leads outside;
//! links may point only to what is inside; devices, pipes, hard links and set-id bits are not
//! taken. Memory is constant (entries are streamed, long names are bounded), and bytes, entries
//! and depth are counted against [`Bounds`] while they are written, not by what headers claim.
//!
//! Reading the formats is the tar and zip crates' part; making files is wholly ours.

use super::python_text;
use flate2::read::MultiGzDecoder;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, unlinkat};
use rustix::io::Errno;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

/// How much one archive may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub bytes_max: u64,
    pub entries_max: u64,
}

impl Bounds {
    pub const DEFAULT: Self = Self {
        bytes_max: 512 << 20,
        entries_max: 20_000,
    };
}

/// The longest path of an entry, in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// The deepest directory of an entry.
const DEPTH_MAX: usize = 48;
/// What is copied at once.
const COPY_BYTES: usize = 64 * 1024;
/// Longest extension records of a tar (pax headers, GNU long names) that are looked at.
const EXTENSION_BYTES_MAX: u64 = 64 * 1024;

/// What the bytes of an upload are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    TarGz,
    Tar,
    Zip,
    /// One Python file, to become `f.py`.
    Python,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::TarGz, Self::Tar, Self::Zip, Self::Python];

    /// The ending under which the registry keeps it.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::TarGz => "tar.gz",
            Self::Tar => "tar",
            Self::Zip => "zip",
            Self::Python => "py",
        }
    }

    /// Told by the first bytes (at least 262 of them where there are as many).
    pub fn of(start: &[u8]) -> Option<Self> {
        if start.starts_with(&[0x1f, 0x8b]) {
            return Some(Self::TarGz);
        }
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
            return Some(Self::Zip);
        }
        if start.get(257..262) == Some(b"ustar") {
            return Some(Self::Tar);
        }
        python_text::may_begin_with(start).then_some(Self::Python)
    }
}

/// Why an upload cannot be a function, in words for the person who uploaded it.
#[derive(Debug)]
pub enum Bad {
    /// The archive is at fault.
    Archive(String),
    /// This machine is: no space, no memory.
    Host(io::Error),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(why) => f.write_str(why),
            Self::Host(error) => write!(f, "cannot unpack: {error}"),
        }
    }
}

fn bad<T>(why: impl Into<String>) -> Result<T, Bad> {
    Err(Bad::Archive(why.into()))
}

/// A name as it may be shown: bounded, with no control characters.
fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(&path[..path.len().min(80)]);
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Unpacks `file` below the empty directory `into`.
pub fn unpack(mut file: File, format: Format, into: &Path, bounds: Bounds) -> Result<(), Bad> {
    let root = openat(
        CWD,
        into,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| Bad::Host(error.into()))?;
    let mut target = Target {
        root,
        bounds,
        bytes: 0,
        entries: 0,
    };
    file.seek(SeekFrom::Start(0)).map_err(Bad::Host)?;
    match format {
        Format::TarGz => target.take_tar(MultiGzDecoder::new(BufReader::new(file))),
        Format::Tar => target.take_tar(BufReader::new(file)),
        Format::Zip => target.take_zip(file),
        Format::Python => target.take_python(file),
    }?;
    if target.entries == 0 {
        return bad("the archive is empty");
    }
    Ok(())
}

/// The directory that is filled, and what it cost so far.
struct Target {
    root: OwnedFd,
    bounds: Bounds,
    bytes: u64,
    entries: u64,
}

/// The name of an entry as a relative path of plain components, or why not.
fn inner_path(name: &[u8]) -> Result<PathBuf, Bad> {
    use std::os::unix::ffi::OsStrExt;
    if name.len() > PATH_BYTES_MAX {
        return bad(format!(
            "a name is longer than {PATH_BYTES_MAX} bytes: {}...",
            shown(name)
        ));
    }
    if name.contains(&0) {
        return bad(format!("a name contains a NUL byte: {}", shown(name)));
    }
    if core::str::from_utf8(name).is_err() {
        return bad(format!("a name is no UTF-8 text: {}", shown(name)));
    }
    let mut path = PathBuf::new();
    for component in Path::new(std::ffi::OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => {
                return bad(format!("absolute name in the archive: {}", shown(name)));
            }
            Component::ParentDir => {
                return bad(format!("a name leads outside the archive: {}", shown(name)));
            }
        }
    }
    if path.components().count() > DEPTH_MAX {
        return bad(format!(
            "more than {DEPTH_MAX} directories deep: {}",
            shown(name)
        ));
    }
    Ok(path)
}

/// Does a link at `at` with this text stay inside?
fn link_stays_inside(at: &Path, text: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let mut depth = at.components().count() as isize - 1;
    for component in Path::new(std::ffi::OsStr::from_bytes(text)).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

impl Target {
    fn count_entry(&mut self) -> Result<(), Bad> {
        self.entries += 1;
        if self.entries > self.bounds.entries_max {
            return bad(format!("more than {} entries", self.bounds.entries_max));
        }
        Ok(())
    }

    fn too_much<T>(&self) -> Result<T, Bad> {
        let limit = self.bounds.bytes_max >> 20;
        bad(format!("more than {limit} MB when unpacked"))
    }

    fn take_tar(&mut self, reader: impl Read) -> Result<(), Bad> {
        let mut archive = tar::Archive::new(reader);
        let damaged = |error: io::Error| Bad::Archive(format!("damaged tar archive: {error}"));
        // Raw: extension records come as entries of their own, so that their size can be bounded
        // before anything is read into memory.
        let entries = archive.entries().map_err(damaged)?.raw(true);
        let mut next = Extension::default();
        for entry in entries {
            let mut entry = entry.map_err(damaged)?;
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                continue;
            }
            if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
                if entry.size() > EXTENSION_BYTES_MAX {
                    return bad(format!("a header of {} bytes", entry.size()));
                }
                let mut text = Vec::new();
                entry.read_to_end(&mut text).map_err(damaged)?;
                next.take(kind, &text)?;
                continue;
            }
            let extension = std::mem::take(&mut next);
            let name = extension
                .path
                .unwrap_or_else(|| entry.path_bytes().into_owned());
            let link = extension
                .link
                .or_else(|| entry.link_name_bytes().map(Into::into));
            self.take_tar_entry(&mut entry, kind, &name, link.as_deref())?;
        }
        Ok(())
    }

    fn take_tar_entry(
        &mut self,
        entry: &mut impl TarEntry,
        kind: tar::EntryType,
        name: &[u8],
        link: Option<&[u8]>,
    ) -> Result<(), Bad> {
        let path = inner_path(name)?;
        match kind {
            tar::EntryType::Directory => self.put_directory(&path),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                if entry.claimed() > self.bounds.bytes_max {
                    return self.too_much();
                }
                let executable = entry.mode() & 0o111 != 0;
                self.put_file(&path, executable, entry)
            }
            tar::EntryType::Symlink => self.put_link(&path, link.unwrap_or_default()),
            tar::EntryType::Link => bad(format!("hard link in the archive: {}", shown(name))),
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                bad(format!("device or pipe in the archive: {}", shown(name)))
            }
            _ => bad(format!(
                "an entry of an unknown kind in the archive: {}",
                shown(name)
            )),
        }
    }

    fn take_zip(&mut self, file: File) -> Result<(), Bad> {
        let damaged = |error: zip::result::ZipError| match error {
            zip::result::ZipError::Io(error) if error.raw_os_error().is_some() => Bad::Host(error),
            error => Bad::Archive(format!("damaged zip archive: {error}")),
        };
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        if archive.len() as u64 > self.bounds.entries_max {
            return bad(format!("more than {} entries", self.bounds.entries_max));
        }
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(damaged)?;
            let name = entry.name_raw().to_vec();
            let path = inner_path(&name)?;
            let mode = entry.unix_mode().unwrap_or(0o644);
            match mode & 0o170_000 {
                0o040_000 => self.put_directory(&path)?,
                0o120_000 => {
                    let mut text = Vec::new();
                    (&mut entry)
                        .take(PATH_BYTES_MAX as u64 + 1)
                        .read_to_end(&mut text)
                        .map_err(|error| Bad::Archive(format!("damaged zip archive: {error}")))?;
                    self.put_link(&path, &text)?;
                }
                0 | 0o100_000 if name.ends_with(b"/") => self.put_directory(&path)?,
                0 | 0o100_000 => self.put_file(&path, mode & 0o111 != 0, &mut entry)?,
                _ => return bad(format!("device or pipe in the archive: {}", shown(&name))),
            }
        }
        Ok(())
    }

    fn take_python(&mut self, mut file: File) -> Result<(), Bad> {
        if let Some(fault) = python_text::fault(&mut file).map_err(Bad::Host)? {
            return bad(format!("no Python text: {fault}"));
        }
        file.seek(SeekFrom::Start(0)).map_err(Bad::Host)?;
        self.put_file(Path::new("f.py"), false, &mut file)
    }

    fn put_directory(&mut self, path: &Path) -> Result<(), Bad> {
        self.count_entry()?;
        self.open_directory(path).map(drop)
    }

    fn put_file(
        &mut self,
        path: &Path,
        executable: bool,
        content: &mut dyn Read,
    ) -> Result<(), Bad> {
        self.count_entry()?;
        let (parent, name) = self.open_parent(path)?;
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let mut file = File::from(create(parent.as_fd(), name, mode)?);
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return bad(format!("damaged archive: {error}")),
            };
            self.bytes += count as u64;
            if self.bytes > self.bounds.bytes_max {
                return self.too_much();
            }
            file.write_all(&buffer[..count]).map_err(Bad::Host)?;
        }
    }

    fn put_link(&mut self, path: &Path, text: &[u8]) -> Result<(), Bad> {
        use std::os::unix::ffi::OsStrExt;
        self.count_entry()?;
        let at = path.as_os_str().as_bytes();
        if text.is_empty() || text.contains(&0) || !link_stays_inside(path, text) {
            return bad(format!("a link leads outside the archive: {}", shown(at)));
        }
        let (parent, name) = self.open_parent(path)?;
        replace(parent.as_fd(), name, || {
            rustix::fs::symlinkat(text, &parent, name)
        })
    }

    /// The directory that `path` is in (made where it is missing), and the last name.
    fn open_parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a Path), Bad> {
        let Some(name) = path.file_name() else {
            return bad("an entry without a name");
        };
        let parent = self.open_directory(path.parent().unwrap_or(Path::new("")))?;
        Ok((parent, Path::new(name)))
    }

    fn open_directory(&self, path: &Path) -> Result<OwnedFd, Bad> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone().map_err(Bad::Host);
        }
        match self.open_beneath(path) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|error| directory_error(path, error)),
        }
        let mut so_far = PathBuf::new();
        for component in path.components() {
            let parent = self.open_directory_at(&so_far)?;
            match mkdirat(&parent, component.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => so_far.push(component),
                Err(error) => return Err(Bad::Host(error.into())),
            }
        }
        self.open_directory_at(path)
    }

    fn open_directory_at(&self, path: &Path) -> Result<OwnedFd, Bad> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        self.open_beneath(path)
            .map_err(|error| directory_error(path, error))
    }

    fn open_beneath(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path, flags, Mode::empty(), inside)
    }
}

fn directory_error(path: &Path, error: Errno) -> Bad {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV => Bad::Archive(format!(
            "{}: not a directory in the archive",
            path.display()
        )),
        Errno::NAMETOOLONG => Bad::Archive(format!("{}...: name too long", path.display())),
        error => Bad::Host(error.into()),
    }
}

/// A new file, never through a link; an entry that comes twice replaces the first one.
fn create(parent: BorrowedFd<'_>, name: &Path, mode: Mode) -> Result<OwnedFd, Bad> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut made = None;
    replace(parent, name, || {
        made = Some(openat(parent, name, flags, mode)?);
        Ok(())
    })?;
    Ok(made.expect("replace answers Ok only after its action did"))
}

fn replace(
    parent: BorrowedFd<'_>,
    name: &Path,
    mut action: impl FnMut() -> Result<(), Errno>,
) -> Result<(), Bad> {
    let first = action();
    if first == Err(Errno::EXIST) {
        return match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => action().map_err(|error| Bad::Host(error.into())),
            Err(Errno::ISDIR) => bad(format!("{}: both file and directory", name.display())),
            Err(error) => Err(Bad::Host(error.into())),
        };
    }
    match first {
        Err(Errno::NAMETOOLONG) => bad("a name is too long for this file system"),
        other => other.map_err(|error| Bad::Host(error.into())),
    }
}

/// What an entry must tell besides its bytes; lets the tar crate's type stay out of signatures.
trait TarEntry: Read + Sized {
    fn mode(&self) -> u32;
    /// How long its header says that it is.
    fn claimed(&self) -> u64;
}

impl<R: Read> TarEntry for tar::Entry<'_, R> {
    fn mode(&self) -> u32 {
        self.header().mode().unwrap_or(0o644)
    }

    fn claimed(&self) -> u64 {
        self.size()
    }
}

/// What extension records said of the next entry.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extension {
    fn take(&mut self, kind: tar::EntryType, text: &[u8]) -> Result<(), Bad> {
        let name = || {
            Some(
                text.split(|byte| *byte == 0)
                    .next()
                    .unwrap_or_default()
                    .to_vec(),
            )
        };
        if kind.is_gnu_longname() {
            self.path = name();
        } else if kind.is_gnu_longlink() {
            self.link = name();
        } else {
            for record in tar::PaxExtensions::new(text) {
                let Ok(record) = record else {
                    return bad("damaged pax header");
                };
                match record.key_bytes() {
                    b"path" => self.path = Some(record.value_bytes().to_vec()),
                    b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                    // A size that differs from the header's would move every later entry.
                    b"size" => return bad("a file of more than 8 GB, or a disguised one"),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory of this test's own, gone when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ol-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("out")).unwrap();
            Self(path)
        }

        fn unpack(&self, bytes: &[u8], bounds: Bounds) -> Result<(), String> {
            let file = self.0.join("upload");
            fs::write(&file, bytes).unwrap();
            let format = Format::of(&bytes[..bytes.len().min(512)]).ok_or("unknown format")?;
            unpack(
                File::open(file).unwrap(),
                format,
                &self.0.join("out"),
                bounds,
            )
            .map_err(|why| why.to_string())
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.0.join("out").join(name)).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Entries as they are, without the checks of a well-meaning builder.
    fn tar_of(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, link, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o6755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    use tar::EntryType as Kind;

    #[test]
    fn good_archives_arrive_whole() {
        let scratch = Scratch::new("good");
        let tar = tar_of(&[
            ("./", Kind::Directory, "", b""),
            ("./f.py", Kind::Regular, "", b"def f(e): return 1"),
            ("lib/deep/a.txt", Kind::Regular, "", b"hello"),
            ("lib/link", Kind::Symlink, "deep/../deep/a.txt", b""),
            ("f.py", Kind::Regular, "", b"second wins"),
        ]);
        scratch.unpack(&gzip(&tar), Bounds::DEFAULT).unwrap();
        assert_eq!(scratch.read("f.py"), "second wins");
        assert_eq!(scratch.read("lib/link"), "hello");
        let mode = fs::metadata(scratch.0.join("out/lib/deep/a.txt")).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o7777,
            0o755
        );
    }

    #[test]
    fn zip_and_python_files_are_known_by_content() {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        writer.start_file("pkg/f.py", options).unwrap();
        writer.write_all(b"zipped").unwrap();
        let zip = writer.finish().unwrap().into_inner();
        let scratch = Scratch::new("zip");
        scratch.unpack(&zip, Bounds::DEFAULT).unwrap();
        assert_eq!(scratch.read("pkg/f.py"), "zipped");

        let scratch = Scratch::new("py");
        scratch
            .unpack("def f(e): return 'é'".as_bytes(), Bounds::DEFAULT)
            .unwrap();
        assert_eq!(scratch.read("f.py"), "def f(e): return 'é'");
        assert_eq!(Format::of(b"\x7fELF\x02\x01"), None);
        assert_eq!(Format::of(b""), None);
    }

    #[test]
    fn what_leads_outside_or_is_no_file_is_refused_with_its_reason() {
        let cases: [(&str, Kind, &str, &str); 10] = [
            ("../evil", Kind::Regular, "", "leads outside"),
            ("a/../../evil", Kind::Regular, "", "leads outside"),
            ("/etc/evil", Kind::Regular, "", "absolute name"),
            ("shadow", Kind::Symlink, "/etc/shadow", "link leads outside"),
            ("a/up", Kind::Symlink, "../../x", "link leads outside"),
            ("hard", Kind::Link, "f.py", "hard link"),
            ("dev", Kind::Char, "", "device or pipe"),
            ("disk", Kind::Block, "", "device or pipe"),
            ("pipe", Kind::Fifo, "", "device or pipe"),
            ("odd", Kind::GNUSparse, "", "unknown kind"),
        ];
        for (name, kind, link, why) in cases {
            let scratch = Scratch::new("bad");
            let error = scratch
                .unpack(&tar_of(&[(name, kind, link, b"")]), Bounds::DEFAULT)
                .expect_err(name);
            assert!(error.contains(why), "{name}: {error}");
            assert!(!scratch.0.join("evil").exists());
        }
    }

    #[test]
    fn a_link_made_first_is_not_followed_by_a_later_file() {
        let scratch = Scratch::new("follow");
        let tar = tar_of(&[
            ("dir/x", Kind::Regular, "", b""),
            ("alias", Kind::Symlink, "dir", b""),
            ("alias/y", Kind::Regular, "", b"through"),
        ]);
        let error = scratch.unpack(&tar, Bounds::DEFAULT).unwrap_err();
        assert!(error.contains("not a directory in the archive"), "{error}");
        assert!(!scratch.0.join("out/dir/y").exists());
    }

    #[test]
    fn bombs_stop_at_the_bounds() {
        let zeros = vec![0; 3 << 20];
        let bounds = Bounds {
            bytes_max: 2 << 20,
            entries_max: 3,
        };
        let scratch = Scratch::new("bomb");
        let bomb = gzip(&tar_of(&[("zeros", Kind::Regular, "", &zeros)]));
        assert!(bomb.len() < 64 * 1024);
        assert!(
            scratch
                .unpack(&bomb, bounds)
                .unwrap_err()
                .contains("more than 2 MB")
        );

        let many: Vec<_> = ["a", "b", "c", "d"]
            .map(|n| (n, Kind::Regular, "", &b""[..]))
            .into();
        let scratch = Scratch::new("many");
        assert!(
            scratch
                .unpack(&tar_of(&many), bounds)
                .unwrap_err()
                .contains("more than 3")
        );

        let mut header = tar::Header::new_gnu();
        header.set_entry_type(Kind::GNULongName);
        header.set_size(5 << 30);
        header.set_cksum();
        let scratch = Scratch::new("long");
        let error = scratch
            .unpack(header.as_bytes(), Bounds::DEFAULT)
            .unwrap_err();
        assert!(error.contains("a header of 5368709120 bytes"), "{error}");
    }

    #[test]
    fn empty_and_cut_archives_are_refused() {
        let scratch = Scratch::new("empty");
        let empty = gzip(&[0; 1024]);
        assert!(
            scratch
                .unpack(&empty, Bounds::DEFAULT)
                .unwrap_err()
                .contains("empty")
        );
        let whole = gzip(&tar_of(&[("f.py", Kind::Regular, "", &[b'x'; 4000])]));
        let scratch = Scratch::new("cut");
        let error = scratch
            .unpack(&whole[..whole.len() / 2], Bounds::DEFAULT)
            .unwrap_err();
        assert!(error.contains("damaged"), "{error}");
    }
}
