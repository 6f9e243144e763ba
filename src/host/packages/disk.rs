//! What an errand has written to the disk: looked at from time to time, since a directory has no
//! bound of its own.
//!
//! A file takes a block at least, so that a bound of bytes is one of files, too; several names of
//! one file are one file. Where an errand works in a cache that others have filled, only what has
//! changed since it began is its own.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// As `st_blocks` counts.
const COUNTED_IN: u64 = 512;
/// What a file takes that holds nothing.
const FILE_BYTES_MIN: u64 = 4096;

/// Where an errand writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub place: PathBuf,
    /// What has not changed since then (seconds since 1970) is not counted.
    pub since_secs: u64,
}

/// What was written, counted until it is more than `bytes_max`. Blocks.
pub fn written(all: &[Written], bytes_max: u64) -> u64 {
    let mut count = Count {
        bytes: 0,
        bytes_max,
        linked: BTreeSet::new(),
    };
    for one in all {
        count.below(&one.place, one.since_secs);
    }
    count.bytes
}

struct Count {
    bytes: u64,
    bytes_max: u64,
    /// Files with several names that were counted.
    linked: BTreeSet<(u64, u64)>,
}

impl Count {
    fn below(&mut self, place: &Path, since_secs: u64) {
        let mut open = vec![place.to_path_buf()];
        while let Some(directory) = open.pop() {
            if self.bytes > self.bytes_max {
                return;
            }
            let found = match fs::read_dir(&directory) {
                Ok(found) => found,
                Err(error) => {
                    self.unseen(&error);
                    continue;
                }
            };
            for entry in found.flatten() {
                match entry.metadata() {
                    Ok(it) if it.is_dir() => {
                        self.add(&it, since_secs);
                        open.push(entry.path());
                    }
                    Ok(it) => self.add(&it, since_secs),
                    Err(error) => self.unseen(&error),
                }
            }
        }
    }

    fn add(&mut self, found: &Metadata, since_secs: u64) {
        if u64::try_from(found.ctime()).unwrap_or(0) < since_secs {
            return;
        }
        let has_names = !found.is_dir() && found.nlink() > 1;
        if !has_names || self.linked.insert((found.dev(), found.ino())) {
            let bytes = (found.blocks() * COUNTED_IN).max(FILE_BYTES_MIN);
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// What is gone is gone, and what may not be looked into may be somebody's way to work; what
    /// lies too deep to be named is there to hide.
    fn unseen(&mut self, error: &io::Error) {
        let is_usual = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];
        if !is_usual.contains(&error.kind()) {
            self.bytes = u64::MAX;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn files_are_counted_once_and_from_a_moment_on() {
        let root = std::env::temp_dir().join(format!("ol-written-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("below")).unwrap();
        let count = |since_secs, bytes_max| {
            let place = root.clone();
            written(&[Written { place, since_secs }], bytes_max)
        };
        let before = count(0, u64::MAX);
        fs::write(root.join("below/large"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(root.join("below/large"), root.join("again")).unwrap();
        let with_one = count(0, u64::MAX);
        assert!(with_one >= before + (1 << 20), "{before} {with_one}");
        assert!(with_one < before + (2 << 20), "{before} {with_one}");
        for number in 0..100 {
            fs::write(root.join(format!("empty{number}")), "").unwrap();
        }
        let with_many = count(0, u64::MAX);
        assert_eq!(with_many, with_one + 100 * FILE_BYTES_MIN);
        assert_eq!(count(clock::wall().as_secs() + 60, u64::MAX), 0);
        let name = "d".repeat(200);
        // Each time one more is put around all: no path leads to the innermost any more.
        for _ in 0..30 {
            fs::create_dir(root.join("around")).unwrap();
            fs::rename(root.join("below"), root.join("around").join(&name)).unwrap();
            fs::rename(root.join("around"), root.join("below")).unwrap();
        }
        assert_eq!(count(0, 1 << 40), u64::MAX);
        fs::remove_dir_all(root).unwrap();
    }
}
