//! The registry of files: a directory that people and uploads put functions into.
//!
//! An upload is written aside, unpacked (which is its check), synced, kept as a version, and only
//! then renamed to its place: a crash at any byte leaves the old code or the new code. Two waits
//! for the disk, the file's and its directory's, are what that takes; the version's copy is synced
//! later, and its name tells whether it is whole. Where a name has several entries (`NAME.py`
//! beside `NAME.zip`: put there by hand, or by an upload that died between its rename and the
//! removal of the other), the newest one counts.

use crate::base::FunctionName;

use super::super::unprivileged::Unprivileged;
use super::archive::{Bad, Format};
use super::image::{Check, Digest, Image, Images};
use rustix::fs::{CWD, Timespec, Timestamps, futimens, renameat};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

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
    publish: Arc<Mutex<()>>,
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
            publish: Arc::default(),
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
        let mut newest: Option<Found> = None;
        for ending in ENDINGS {
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
    ) -> Result<(Version, Image, T), Bad> {
        let file = upload.file.try_clone().map_err(Bad::Host)?;
        let (image, checked) = self.images.of_file(file, check)?;
        upload.file.seek(SeekFrom::Start(0)).map_err(Bad::Host)?;
        let ending = ending_of(&mut upload.file).map_err(Bad::Host)?;
        // What serves must be whole on the disk before it is found there.
        upload.file.sync_data().map_err(Bad::Host)?;
        let _one_at_a_time = self.publish.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self
            .keep(name, &upload, image.digest, ending)
            .map_err(Bad::Host)?;
        self.publish(name, &upload, ending).map_err(Bad::Host)?;
        self.forget_old(name).map_err(Bad::Host)?;
        Ok((version, image, checked))
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

    /// Uploads the kept version again: the newest but one, or the one named. The answer is none
    /// when there is no such version.
    pub fn rollback(
        &self,
        name: &FunctionName,
        number: Option<u64>,
    ) -> Result<Option<Version>, Bad> {
        let _one_at_a_time = self.publish.lock().unwrap_or_else(PoisonError::into_inner);
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
        self.forget_old(name).map_err(Bad::Host)?;
        Ok(Some(again))
    }

    /// Removes the function and its versions; false when there is none.
    pub fn delete(&self, name: &FunctionName) -> io::Result<bool> {
        let _one_at_a_time = self.publish.lock().unwrap_or_else(PoisonError::into_inner);
        let mut existed = false;
        for ending in ENDINGS {
            existed |= self.discard(&self.directory.join(format!("{name}{ending}")))?;
        }
        existed |= self.discard(&self.versions_directory(name))?;
        sync_directory(&self.directory)?;
        Ok(existed)
    }

    /// Every function, by name.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let names = self.names()?;
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            listed.extend(self.get(&name)?);
        }
        Ok(listed)
    }

    fn names(&self) -> io::Result<Vec<FunctionName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str() else {
                continue;
            };
            let is_directory = entry.file_type()?.is_dir();
            let ending = ENDINGS
                .into_iter()
                .find(|e| text.ends_with(e) && e.is_empty() == is_directory);
            let Some(ending) = ending else { continue };
            if let Some(name) = FunctionName::new(&text[..text.len() - ending.len()]) {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// One function's row.
    pub fn get(&self, name: &FunctionName) -> io::Result<Option<Listed>> {
        Ok(self.find(name)?.map(|found| Listed {
            name: *name,
            bytes: found.stamp.0.iter().map(|file| file.1).sum(),
            modified_secs: found.modified.0,
        }))
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
    /// one step.
    fn publish(&self, name: &FunctionName, upload: &Upload, ending: &str) -> io::Result<()> {
        self.make_newest(name, &upload.file)?;
        let place = self.directory.join(format!("{name}{ending}"));
        fs::rename(&upload.path, &place)?;
        sync_directory(&self.directory)?;
        for other in ENDINGS.into_iter().filter(|other| *other != ending) {
            self.discard(&self.directory.join(format!("{name}{other}")))?;
        }
        Ok(())
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

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_data()
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
        files.push((data.ino(), data.len(), modified.0, modified.1));
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
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let Some((number, rest)) = name.split_once('-') else {
        return Ok(None);
    };
    let Some((digest, ending)) = rest.split_once('.') else {
        return Ok(None);
    };
    let known = ENDINGS
        .iter()
        .any(|known| known.strip_prefix('.') == Some(ending));
    let (Ok(number), true) = (number.parse(), known) else {
        return Ok(None);
    };
    let data = fs::metadata(&path)?;
    Ok(Some(Version {
        number,
        digest: digest.to_owned(),
        bytes: data.len(),
        uploaded_secs: data.mtime(),
        path,
    }))
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
mod tests {
    use super::*;
    use std::io::Write;

    struct Bed {
        root: PathBuf,
        files: Files,
        next: std::cell::Cell<u64>,
    }

    fn name(text: &str) -> FunctionName {
        FunctionName::new(text).unwrap()
    }

    impl Bed {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ol-reg-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let files = Files::open(
                &root.join("registry"),
                &root.join("cache"),
                3,
                Unprivileged::InProcess,
            )
            .unwrap();
            Self {
                root,
                files,
                next: std::cell::Cell::new(0),
            }
        }

        fn put(&self, name: &str, code: &str) -> Version {
            self.next.set(self.next.get() + 1);
            let mut upload = self.files.incoming(self.next.get()).unwrap();
            upload.file.write_all(code.as_bytes()).unwrap();
            self.files
                .put(&self::name(name), upload, &|_| Ok(()))
                .unwrap()
                .0
        }

        fn code(&self, name: &str) -> Option<String> {
            let found = self.files.find(&self::name(name)).unwrap()?;
            let (image, ()) = self.files.load(&found, &|_| Ok(())).unwrap();
            Some(fs::read_to_string(image.path.join("f.py")).unwrap())
        }

        fn incoming_count(&self) -> usize {
            fs::read_dir(self.root.join("registry").join(INCOMING))
                .unwrap()
                .count()
        }
    }

    impl Drop for Bed {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn uploads_become_versions_and_go_back() {
        let bed = Bed::new("versions");
        assert_eq!(bed.code("x"), None);
        for number in 1..=5 {
            assert_eq!(bed.put("x", &format!("v{number}")).number, number);
            assert_eq!(bed.code("x"), Some(format!("v{number}")));
        }
        let name = &name("x");
        let numbers = |bed: &Bed| -> Vec<u64> {
            bed.files
                .versions(name)
                .unwrap()
                .iter()
                .map(|v| v.number)
                .collect()
        };
        assert_eq!(numbers(&bed), [5, 4, 3]);
        assert_eq!(bed.files.rollback(name, None).unwrap().unwrap().number, 6);
        assert_eq!(bed.code("x"), Some("v4".into()));
        assert_eq!(bed.files.rollback(name, Some(1)).unwrap(), None);
        assert_eq!(numbers(&bed), [6, 5, 4]);
        assert_eq!(bed.incoming_count(), 0);
    }

    #[test]
    fn a_version_that_did_not_reach_the_disk_is_not_served() {
        let bed = Bed::new("damaged");
        let first = bed.put("x", "one");
        bed.put("x", "two");
        first.settle().unwrap();
        fs::write(&first.path, "").unwrap();
        let refused = bed.files.rollback(&name("x"), None).unwrap_err();
        assert!(
            refused.to_string().contains("version 1 was damaged"),
            "{refused}"
        );
        assert_eq!(bed.code("x"), Some("two".into()));
        assert_eq!(bed.incoming_count(), 0);
    }

    #[test]
    fn the_newest_entry_counts_and_edits_do_not_reach_versions() {
        let bed = Bed::new("newest");
        bed.put("x", "uploaded");
        let by_hand = bed.root.join("registry/x");
        fs::create_dir(&by_hand).unwrap();
        fs::write(by_hand.join("f.py"), "by hand").unwrap();
        // By somebody whose clock is ahead: the next upload must count all the same.
        let ahead = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 33);
        File::open(&by_hand).unwrap().set_modified(ahead).unwrap();
        assert_eq!(bed.code("x"), Some("by hand".into()));
        bed.put("x", "again");
        assert_eq!(bed.code("x"), Some("again".into()));
        assert!(!by_hand.exists());
        fs::write(bed.root.join("registry/x.py"), "edited in place").unwrap();
        assert_eq!(bed.code("x"), Some("edited in place".into()));
        bed.files.rollback(&name("x"), Some(2)).unwrap().unwrap();
        assert_eq!(bed.code("x"), Some("again".into()));
    }

    #[test]
    fn a_changed_directory_has_another_stamp_and_image() {
        let bed = Bed::new("directory");
        let by_hand = bed.root.join("registry/x");
        fs::create_dir_all(by_hand.join("__pycache__")).unwrap();
        fs::write(by_hand.join("f.py"), "one").unwrap();
        let name = &name("x");
        let first = bed.files.find(name).unwrap().unwrap();
        assert_eq!(bed.files.find(name).unwrap().unwrap().stamp, first.stamp);
        let load = |found: &Found| bed.files.load(found, &|_| Ok(())).unwrap().0;
        let image = load(&first);
        fs::write(by_hand.join("f.py"), "other").unwrap();
        let second = bed.files.find(name).unwrap().unwrap();
        assert_ne!(second.stamp, first.stamp);
        assert_ne!(load(&second).digest, image.digest);
        assert_eq!(fs::read_to_string(image.path.join("f.py")).unwrap(), "one");
    }

    #[test]
    fn a_refused_upload_leaves_nothing_behind() {
        let bed = Bed::new("refused");
        let mut upload = bed.files.incoming(1).unwrap();
        upload.file.write_all(b"\x7fELF\x01\x02").unwrap();
        let name = &name("x");
        assert!(matches!(
            bed.files.put(name, upload, &|_| Ok(())),
            Err(Bad::Archive(_))
        ));
        let mut upload = bed.files.incoming(2).unwrap();
        upload.file.write_all(b"print()").unwrap();
        let refuse = |_: &Image| -> Result<(), Bad> { Err(Bad::Archive("no".into())) };
        assert!(bed.files.put(name, upload, &refuse).is_err());
        assert_eq!(bed.files.list().unwrap(), []);
        assert_eq!(bed.files.images.count().unwrap(), 0);
        assert_eq!(bed.incoming_count(), 0);
    }

    #[test]
    fn deleting_leaves_nothing_and_lists_are_sorted() {
        let bed = Bed::new("delete");
        bed.put("b", "1");
        bed.put("a", "2");
        fs::write(bed.root.join("registry/notes.txt"), "no function").unwrap();
        let names: Vec<_> = bed
            .files
            .list()
            .unwrap()
            .iter()
            .map(|row| row.name.to_string())
            .collect();
        assert_eq!(names, ["a", "b"]);
        assert!(bed.files.delete(&name("a")).unwrap());
        assert!(!bed.files.delete(&name("a")).unwrap());
        assert_eq!(bed.code("a"), None);
        assert_eq!(bed.files.versions(&name("a")).unwrap(), []);
    }
}
