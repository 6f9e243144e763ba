//! Many functions of one content: one file, and a hard link to it for each name.
//!
//! 65,536 functions that differ only in what they are called need neither 65,536 files nor as many
//! uploads. To everybody else each is an ordinary entry `NAME.py`: it is listed, called, replaced
//! and removed like any other. Who edits one of them in place edits all; uploads replace.

use super::registry::INCOMING;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Names that are made between two reports.
const REPORT_EVERY: u32 = 1024;

/// Gives every name this code; answers how many did not have it already. `report` is told now and
/// then how far it is.
///
/// The directory is a registry's; a worker that serves from it may run.
pub fn put_names(
    directory: &Path,
    code: &[u8],
    names: impl Iterator<Item = String>,
    report: &mut dyn FnMut(u32),
) -> io::Result<u32> {
    let mut source = Source::new(directory, code);
    let (mut made, mut seen) = (0, 0);
    for name in names {
        let place = directory.join(format!("{name}.py"));
        if !source.is_at(&place)? {
            source.link(&place)?;
            made += 1;
        }
        seen += 1;
        if seen % REPORT_EVERY == 0 {
            report(seen);
        }
    }
    if made > 0 {
        File::open(directory)?.sync_data()?;
    }
    Ok(made)
}

/// The file that names are linked to, once it is needed; its own name is removed in the end.
struct Source<'a> {
    directory: &'a Path,
    code: &'a [u8],
    file: Option<(PathBuf, u64)>,
    /// A file that was found to hold this code.
    same: Option<u64>,
    number: u32,
}

impl<'a> Source<'a> {
    fn new(directory: &'a Path, code: &'a [u8]) -> Self {
        Self {
            directory,
            code,
            file: None,
            same: None,
            number: 0,
        }
    }

    /// Whether the file at this place holds the code already.
    fn is_at(&mut self, place: &Path) -> io::Result<bool> {
        let data = match fs::symlink_metadata(place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            data => data?,
        };
        if self.same == Some(data.ino()) {
            return Ok(true);
        }
        let is_same =
            data.is_file() && data.len() == self.code.len() as u64 && fs::read(place)? == self.code;
        if is_same {
            self.same = Some(data.ino());
        }
        Ok(is_same)
    }

    fn link(&mut self, place: &Path) -> io::Result<()> {
        let path = match &self.file {
            Some((path, _)) => path.clone(),
            None => self.make()?,
        };
        match rustix::fs::link(&path, place) {
            Ok(()) => Ok(()),
            // Something else is there: away with it in one step.
            Err(Errno::EXIST) => {
                let beside = self.aside();
                rustix::fs::link(&path, &beside)?;
                fs::rename(&beside, place)
            }
            // As many names as a file may have; or a worker that started just now tidied up.
            Err(Errno::MLINK | Errno::NOENT) => {
                self.forget();
                let path = self.make()?;
                Ok(rustix::fs::link(&path, place)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn make(&mut self) -> io::Result<PathBuf> {
        fs::create_dir_all(self.directory.join(INCOMING))?;
        let path = self.aside();
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        let number = file.metadata()?.ino();
        self.file = Some((path.clone(), number));
        file.write_all(self.code)?;
        file.sync_data()?;
        Ok(path)
    }

    /// A path that is nobody else's, where whatever is left behind is removed some day.
    fn aside(&mut self) -> PathBuf {
        self.number += 1;
        let (pid, number) = (std::process::id(), self.number);
        let name = format!("names-{pid}-{number}");
        self.directory.join(INCOMING).join(name)
    }

    fn forget(&mut self) {
        if let Some((path, number)) = self.file.take() {
            self.same = Some(number);
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_one_file_and_are_replaced_one_by_one() {
        let root = std::env::temp_dir().join(format!("ol-names-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        let names = || (0..3000).map(|number| format!("f-{number}"));
        fs::write(root.join("f-7.py"), "mine").unwrap();
        let mut reports = Vec::new();
        let made = put_names(&root, b"one", names(), &mut |seen| reports.push(seen)).unwrap();
        assert_eq!((made, reports), (3000, vec![1024, 2048]));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 3001);
        let data = fs::metadata(root.join("f-2999.py")).unwrap();
        assert_eq!(data.nlink(), 3000);
        fs::remove_file(root.join("f-1.py")).unwrap();
        fs::remove_file(root.join("f-2.py")).unwrap();
        fs::write(root.join("f-2.py"), "two").unwrap();
        assert_eq!(put_names(&root, b"one", names(), &mut |_| {}).unwrap(), 2);
        assert_eq!(fs::read(root.join("f-2.py")).unwrap(), b"one");
        assert_eq!(put_names(&root, b"one", names(), &mut |_| {}).unwrap(), 0);
        assert_eq!(
            put_names(&root, b"two", names(), &mut |_| {}).unwrap(),
            3000
        );
        assert_eq!(fs::read_dir(&root).unwrap().count(), 3001);
        assert_eq!(fs::read_dir(root.join(INCOMING)).unwrap().count(), 0);
        fs::remove_dir_all(&root).unwrap();
    }
}
