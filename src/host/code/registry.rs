//! The registry of files: a directory that people and uploads put functions into.
//!
//! An upload is written aside, unpacked (which is its check), synced, kept as a version, and only
//! then renamed to its place: a crash at any byte leaves the old code or the new code. Two waits
//! for the disk, the file's and its directory's, are what that takes; the second is shared by all
//! who wait for it (`durable`). The version's copy is synced later, and its name tells whether it
//! is whole. Where a name has several entries (`NAME.py` beside `NAME.zip`: put there by hand, or
//! by an upload that died between its rename and the removal of the other), the newest one counts.

use crate::base::FunctionName;

use super::super::unprivileged::Unprivileged;
use super::archive::{Bad, Format};
use super::durable::Names;
use super::image::{Check, Digest, Image, Images};
use rustix::fs::{CWD, Timespec, Timestamps, futimens, renameat};
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Endings of entries, in the order in which equals are preferred; a directory has none.
const ENDINGS: [&str; 6] = [".tar.gz", ".tgz", ".tar", ".zip", ".py", ""];
/// Our own directories in the registry; `~` is in no function's name.
const VERSIONS: &str = "~versions";
pub(super) const INCOMING: &str = "~incoming";

/// More images than twice the functions and these are tidied at start.
const IMAGES_SPARE: usize = 64;
/// Of a digest, in the names of versions.
const SHORT_DIGEST_CHARS: usize = 12;

/// How one knows, without reading it, that an entry is what it was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileStamp(Vec<(u64, u64, i64, i64)>);

impl FileStamp {
    fn of_file(data: &fs::Metadata) -> Self {
        Self(vec![(
            data.ino(),
            data.len(),
            data.mtime(),
            data.mtime_nsec(),
        )])
    }
}

/// An entry of the registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub path: PathBuf,
    pub stamp: FileStamp,
    is_directory: bool,
    modified: (i64, i64),
}

/// One row of a listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    pub name: FunctionName,
    pub bytes: u64,
    pub modified_secs: i64,
    /// Of the newest upload that is kept, if any.
    pub version: Option<u64>,
}

/// An upload that has become a function's code.
#[derive(Debug)]
pub struct Placed<T> {
    pub version: Version,
    pub image: Image,
    pub checked: T,
    pub stamp: FileStamp,
    /// Changes of this registry are numbered in their order: who hears of two knows the later one.
    pub change: u64,
}

/// A kept upload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub number: u64,
    /// The first part of its digest.
    pub digest: String,
    pub bytes: u64,
    pub uploaded_secs: i64,
    path: PathBuf,
}

impl Version {
    /// Brings it to the disk. Blocks.
    pub fn settle(&self) -> io::Result<()> {
        match File::open(&self.path) {
            // Others came since, and it was forgotten.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => file?.sync_data(),
        }
    }
}

/// The registry of one directory. Clones share one lock for what changes it.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
    images: Images,
    keep_versions: usize,
    /// Held while a name gets other code; counts the changes.
    changes: Arc<Mutex<u64>>,
    names: Arc<Names>,
}

impl Files {
    /// Opens (and where needed makes) the registry, removing uploads that never arrived.
    pub fn open(
        directory: &Path,
        cache: &Path,
        keep_versions: usize,
        unprivileged: Unprivileged,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let incoming = directory.join(INCOMING);
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&incoming)?,
        }
        let files = Self {
            directory: directory.to_path_buf(),
            images: Images::open(cache.join("code"), unprivileged)?,
            keep_versions: keep_versions.max(1),
            changes: Arc::default(),
            names: Arc::new(Names::of(directory.to_path_buf())),
        };
        files.tidy()?;
        Ok(files)
    }

    /// Where images have piled up, only those of the newest uploads stay; any other is made again
    /// when it is wanted.
    fn tidy(&self) -> io::Result<()> {
        let names = self.names()?;
        if self.images.count()? <= 2 * names.len() + IMAGES_SPARE {
            return Ok(());
        }
        let mut digests = BTreeSet::new();
        for name in &names {
            digests.extend(self.versions(name)?.into_iter().next().map(|v| v.digest));
        }
        self.images.keep_only(&|image| {
            image
                .get(..SHORT_DIGEST_CHARS)
                .is_some_and(|short| digests.contains(short))
        })
    }

    /// The entry of this name, if any.
    pub fn find(&self, name: &FunctionName) -> io::Result<Option<Found>> {
        self.find_among(name, u8::MAX)
    }

    /// The same where it is known which entries there may be.
    fn find_among(&self, name: &FunctionName, bits: u8) -> io::Result<Option<Found>> {
        let mut newest: Option<Found> = None;
        for (bit, ending) in ENDINGS.into_iter().enumerate() {
            if bits & (1 << bit) == 0 {
                continue;
            }
            let Some(found) = look(self.directory.join(format!("{name}{ending}")), ending)? else {
                continue;
            };
            if newest
                .as_ref()
                .is_none_or(|other| other.modified < found.modified)
            {
                newest = Some(found);
            }
        }
        Ok(newest)
    }

    /// The image of an entry, made unless it is there, and what `check` says of it.
    pub fn load<T>(&self, found: &Found, check: Check<'_, T>) -> Result<(Image, T), Bad> {
        if found.is_directory {
            return self.images.of_directory(&found.path, check);
        }
        let file = File::open(&found.path).map_err(Bad::Host)?;
        self.images.of_file(file, check)
    }

    /// A place for the bytes of an upload; `number` is the caller's own, unique among those under
    /// way.
    pub fn incoming(&self, number: u64) -> io::Result<Upload> {
        let path = self.directory.join(INCOMING).join(number.to_string());
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Upload { path, file })
    }

    /// Makes an upload the function's code. `check` sees the image first and may refuse it.
    pub fn put<T>(
        &self,
        name: &FunctionName,
        mut upload: Upload,
        check: Check<'_, T>,
    ) -> Result<Placed<T>, Bad> {
        let file = upload.file.try_clone().map_err(Bad::Host)?;
        let (image, checked) = self.images.of_file(file, check)?;
        let (version, stamp, change) = self
            .place(name, &mut upload, image.digest)
            .map_err(Bad::Host)?;
        Ok(Placed {
            version,
            image,
            checked,
            stamp,
            change,
        })
    }

    fn place(
        &self,
        name: &FunctionName,
        upload: &mut Upload,
        digest: Digest,
    ) -> io::Result<(Version, FileStamp, u64)> {
        upload.file.seek(SeekFrom::Start(0))?;
        let ending = ending_of(&mut upload.file)?;
        // What serves must be whole on the disk before it is found there.
        upload.file.sync_data()?;
        let mut changes = self.changing();
        let version = self.keep(name, upload, digest, ending)?;
        let stamp = self.publish(name, upload, ending)?;
        *changes += 1;
        let change = *changes;
        drop(changes);
        self.settle(name, ending)?;
        Ok((version, stamp, change))
    }

    fn changing(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploads kept of this name, newest first.
    pub fn versions(&self, name: &FunctionName) -> io::Result<Vec<Version>> {
        let mut versions = Vec::new();
        let entries = match fs::read_dir(self.versions_directory(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(versions),
            entries => entries?,
        };
        for entry in entries {
            versions.extend(version_of(entry?.path())?);
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version.number));
        Ok(versions)
    }

    /// The number of the newest kept upload with this content; 0 where there is none.
    pub fn version_of(&self, name: &FunctionName, image: &Image) -> io::Result<u64> {
        let digest = image.digest.short();
        let versions = self.versions(name)?;
        let same = versions.iter().find(|version| version.digest == digest);
        Ok(same.map_or(0, |version| version.number))
    }

    /// Uploads the kept version again: the newest but one, or the one named; and which change that
    /// was. The answer is none when there is no such version.
    pub fn rollback(
        &self,
        name: &FunctionName,
        number: Option<u64>,
    ) -> Result<Option<(Version, u64)>, Bad> {
        let mut changes = self.changing();
        let versions = self.versions(name).map_err(Bad::Host)?;
        let wanted = match number {
            Some(number) => versions.iter().find(|version| version.number == number),
            None => versions.get(1),
        };
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let newest = versions.first().map_or(0, |version| version.number);
        let again = Version {
            number: newest + 1,
            path: renumbered(&wanted.path, newest + 1),
            ..wanted.clone()
        };
        let ending = ENDINGS
            .into_iter()
            .find(|ending| !ending.is_empty() && has_ending(&wanted.path, ending))
            .expect("version_of takes no other files");
        let copy = self.copy_of(name, wanted)?;
        fs::hard_link(&wanted.path, &again.path).map_err(Bad::Host)?;
        self.publish(name, &copy, ending).map_err(Bad::Host)?;
        *changes += 1;
        let change = *changes;
        drop(changes);
        self.settle(name, ending).map_err(Bad::Host)?;
        Ok(Some((again, change)))
    }

    /// Removes the function and its versions; false when there is none.
    pub fn delete(&self, name: &FunctionName) -> io::Result<bool> {
        let mut changes = self.changing();
        let mut existed = false;
        for ending in ENDINGS {
            existed |= self.discard(&self.directory.join(format!("{name}{ending}")))?;
        }
        existed |= self.discard(&self.versions_directory(name))?;
        *changes += 1;
        drop(changes);
        self.names.sync()?;
        Ok(existed)
    }

    /// Every function, to be read piece by piece.
    pub fn list(&self) -> io::Result<Rows> {
        Ok(Rows {
            files: self.clone(),
            left: self.entries()?.into_iter(),
        })
    }

    fn names(&self) -> io::Result<Vec<FunctionName>> {
        Ok(self.entries()?.into_keys().collect())
    }

    /// Every name with what it has: a bit for each of `ENDINGS`.
    fn entries(&self) -> io::Result<BTreeMap<FunctionName, u8>> {
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str() else {
                continue;
            };
            // What a link leads to is seen when it is looked at.
            let kind = entry.file_type()?;
            let ending = ENDINGS.into_iter().position(|ending| {
                let may_be = kind.is_symlink() || ending.is_empty() == kind.is_dir();
                may_be && text.ends_with(ending)
            });
            let Some(bit) = ending else { continue };
            if let Some(name) = FunctionName::new(&text[..text.len() - ENDINGS[bit].len()]) {
                *entries.entry(name).or_default() |= 1 << bit;
            }
        }
        Ok(entries)
    }

    /// One function's row.
    pub fn get(&self, name: &FunctionName) -> io::Result<Option<Listed>> {
        let found = self.find(name)?;
        found.map(|found| self.row(name, &found)).transpose()
    }

    fn row(&self, name: &FunctionName, found: &Found) -> io::Result<Listed> {
        Ok(Listed {
            name: *name,
            bytes: found.stamp.0.iter().map(|file| file.1).sum(),
            modified_secs: found.modified.0,
            version: self.newest_version(name)?,
        })
    }

    /// The highest number of a kept upload. Nothing is looked at but names.
    fn newest_version(&self, name: &FunctionName) -> io::Result<Option<u64>> {
        let entries = match fs::read_dir(self.versions_directory(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut newest = None;
        for entry in entries {
            let number = version_name(&entry?.file_name().to_string_lossy()).map(|(n, _)| n);
            newest = newest.max(number);
        }
        Ok(newest)
    }

    fn versions_directory(&self, name: &FunctionName) -> PathBuf {
        self.directory.join(VERSIONS).join(name.as_str())
    }

    /// Keeps a copy of an upload: people edit files in place, and that must not reach it. It may
    /// reach the disk later (`Version::settle`): nobody serves from it.
    fn keep(
        &self,
        name: &FunctionName,
        upload: &Upload,
        digest: Digest,
        ending: &str,
    ) -> io::Result<Version> {
        let directory = self.versions_directory(name);
        fs::create_dir_all(&directory)?;
        let versions = self.versions(name)?;
        let number = versions.first().map_or(0, |version| version.number) + 1;
        let path = directory.join(format!("{number:06}-{}{ending}", digest.short()));
        // Whole or not there: a name that ends so is no version.
        let aside = path.with_added_extension("new");
        fs::copy(&upload.path, &aside)?;
        renameat(CWD, &aside, CWD, &path)?;
        let data = upload.file.metadata()?;
        Ok(Version {
            number,
            digest: digest.short(),
            bytes: data.len(),
            uploaded_secs: data.mtime(),
            path,
        })
    }

    /// What a kept version holds, on its way to be published.
    fn copy_of(&self, name: &FunctionName, version: &Version) -> Result<Upload, Bad> {
        let path = self.directory.join(INCOMING).join(format!("again-{name}"));
        fs::copy(&version.path, &path).map_err(Bad::Host)?;
        let mut copy = Upload {
            file: File::options()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(Bad::Host)?,
            path,
        };
        let digest = Digest::of(&mut copy.file).map_err(Bad::Host)?;
        if digest.short() != version.digest {
            return Err(Bad::Archive(format!(
                "version {} was damaged when the machine went down (deploy that code again)",
                version.number
            )));
        }
        copy.file.sync_data().map_err(Bad::Host)?;
        Ok(copy)
    }

    /// Puts a file that is on the disk at the function's place: newer than whatever is there, in
    /// one step. It is there for good once it is settled.
    fn publish(&self, name: &FunctionName, upload: &Upload, ending: &str) -> io::Result<FileStamp> {
        self.make_newest(name, &upload.file)?;
        let stamp = FileStamp::of_file(&upload.file.metadata()?);
        let place = self.directory.join(format!("{name}{ending}"));
        fs::rename(&upload.path, &place)?;
        Ok(stamp)
    }

    /// Waits until the disk has what was published, and only then removes what it replaced. Where
    /// something newer came meanwhile, that one's turn to remove is still to come.
    fn settle(&self, name: &FunctionName, ending: &str) -> io::Result<()> {
        self.names.sync()?;
        let _one_at_a_time = self.changing();
        let place = self.directory.join(format!("{name}{ending}"));
        if self.find(name)?.is_some_and(|found| found.path == place) {
            for other in ENDINGS.into_iter().filter(|other| *other != ending) {
                self.discard(&self.directory.join(format!("{name}{other}")))?;
            }
        }
        self.forget_old(name)
    }

    /// A file that is not newer than the present entry (which claims to be from the future, or came
    /// within the same tick of the kernel's clock) is made so.
    fn make_newest(&self, name: &FunctionName, file: &File) -> io::Result<()> {
        let data = file.metadata()?;
        let present = self.find(name)?.map_or((0, 0), |found| found.modified);
        if present < (data.mtime(), data.mtime_nsec()) {
            return Ok(());
        }
        let (tv_sec, tv_nsec) = match present {
            (secs, 999_999_999) => (secs + 1, 0),
            (secs, nanos) => (secs, nanos + 1),
        };
        let time = Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        Ok(futimens(file, &times)?)
    }

    /// Away with a file or directory, out of sight in one step; false when there was none.
    fn discard(&self, path: &Path) -> io::Result<bool> {
        let data = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            data => data?,
        };
        if !data.is_dir() {
            fs::remove_file(path)?;
            return Ok(true);
        }
        let aside = self
            .directory
            .join(INCOMING)
            .join(format!("gone-{}", data.ino()));
        fs::rename(path, &aside)?;
        fs::remove_dir_all(aside)?;
        Ok(true)
    }

    fn forget_old(&self, name: &FunctionName) -> io::Result<()> {
        for version in self.versions(name)?.into_iter().skip(self.keep_versions) {
            fs::remove_file(version.path)?;
        }
        Ok(())
    }
}

/// Every function, by name, looked at as the rows are read.
#[derive(Debug)]
pub struct Rows {
    files: Files,
    left: btree_map::IntoIter<FunctionName, u8>,
}

impl Rows {
    /// At most so many; none at the end. Blocks.
    pub fn next(&mut self, rows_max: usize) -> io::Result<Vec<Listed>> {
        let mut rows = Vec::new();
        while rows.len() < rows_max {
            let Some((name, bits)) = self.left.next() else {
                break;
            };
            // Gone meanwhile, or a link to nothing.
            let Some(found) = self.files.find_among(&name, bits)? else {
                continue;
            };
            rows.push(self.files.row(&name, &found)?);
        }
        Ok(rows)
    }
}

/// Bytes of an upload on their way; gone unless it was put.
#[derive(Debug)]
pub struct Upload {
    path: PathBuf,
    pub file: File,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn ending_of(file: &mut File) -> io::Result<&'static str> {
    use std::io::Read;
    let mut start = Vec::new();
    file.take(512).read_to_end(&mut start)?;
    Ok(match Format::of(&start) {
        Some(Format::TarGz) => ".tar.gz",
        Some(Format::Tar) => ".tar",
        Some(Format::Zip) => ".zip",
        Some(Format::Python) | None => ".py",
    })
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .ends_with(ending.as_bytes())
}

/// An entry of the wanted kind at this path, if there is one.
fn look(path: PathBuf, ending: &str) -> io::Result<Option<Found>> {
    let data = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        data => data?,
    };
    if data.is_dir() != ending.is_empty() {
        return Ok(None);
    }
    let mut files = Vec::new();
    let mut modified = (data.mtime(), data.mtime_nsec());
    if data.is_dir() {
        stamp_directory(&path, &mut files, &mut modified)?;
    } else {
        files = FileStamp::of_file(&data).0;
    }
    Ok(Some(Found {
        is_directory: data.is_dir(),
        path,
        stamp: FileStamp(files),
        modified,
    }))
}

/// Stamps of everything below; a directory of more files than a function may have stops early.
fn stamp_directory(
    path: &Path,
    files: &mut Vec<(u64, u64, i64, i64)>,
    modified: &mut (i64, i64),
) -> io::Result<()> {
    let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if name == ".git" || name == "__pycache__" {
            continue;
        }
        let data = entry.metadata()?;
        *modified = (*modified).max((data.mtime(), data.mtime_nsec()));
        files.push((data.ino(), data.len(), data.mtime(), data.mtime_nsec()));
        if files.len() as u64 > super::Bounds::DEFAULT.entries_max {
            return Ok(());
        }
        if data.is_dir() {
            stamp_directory(&entry.path(), files, modified)?;
        }
    }
    Ok(())
}

fn version_of(path: PathBuf) -> io::Result<Option<Version>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((number, digest)) = version_name(&name) else {
        return Ok(None);
    };
    let digest = digest.to_owned();
    let data = match fs::metadata(&path) {
        // Forgotten meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        data => data?,
    };
    Ok(Some(Version {
        number,
        digest,
        bytes: data.len(),
        uploaded_secs: data.mtime(),
        path,
    }))
}

/// `000007-DIGEST.zip`: its number and its digest.
fn version_name(name: &str) -> Option<(u64, &str)> {
    let (number, rest) = name.split_once('-')?;
    let (digest, ending) = rest.split_once('.')?;
    let is_known = |known: &&str| known.strip_prefix('.') == Some(ending);
    ENDINGS.iter().find(|known| is_known(known))?;
    Some((number.parse().ok()?, digest))
}

fn renumbered(path: &Path, number: u64) -> PathBuf {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let rest = name.split_once('-').map_or("", |(_, rest)| rest);
    path.with_file_name(format!("{number:06}-{rest}"))
}

#[cfg(test)]
mod tests;
