//! RECORD: what a package says its files are, and whether they are.
//!
//! ```text
//! numpy/__init__.py,sha256=kvlKEgKOdiKQmmb3JyEuAHNfZxZmQWWGyZPzIb3vbmA,3021
//! numpy-1.26.4.dist-info/RECORD,,
//! ../../bin/f2py,sha256=...,216         some installers name scripts so
//! ```

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path};

/// Of one package.
pub(super) const FILES_MAX: usize = 200_000;
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// At once.
const READ_BYTES_MAX: usize = 64 << 10;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Paths below the package's directory, with the hash each must have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record(BTreeMap<String, Option<String>>);

impl Record {
    /// Blocks.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(path)?
            .take(RECORD_BYTES_MAX)
            .read_to_string(&mut text)?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (path, rest) = field(line).ok_or_else(|| bad("a line is malformed"))?;
            let hash = rest.split(',').next().unwrap_or("");
            let hash = hash.strip_prefix("sha256=").map(str::to_owned);
            if files.len() == FILES_MAX {
                return Err(bad("it has too many files"));
            }
            if let Some(path) = place(&path)? {
                files.insert(path, hash);
            }
        }
        Ok(Self(files))
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a file is what its line says; one without a hash is taken as it is. Blocks.
    pub(super) fn fits(&self, file: &File, path: &str) -> io::Result<bool> {
        match self.0.get(path) {
            Some(Some(hash)) => Ok(hash_of(file)? == *hash),
            Some(None) => Ok(true),
            None => Ok(false),
        }
    }

    /// What the whole package is known by.
    pub(super) fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (path, hash) in &self.0 {
            // Who installed it, and how, is no part of what it is.
            let of_installer = ["INSTALLER", "REQUESTED", "RECORD", "direct_url.json"];
            if of_installer
                .iter()
                .any(|name| path.ends_with(&format!(".dist-info/{name}")))
            {
                continue;
            }
            hasher.update(path);
            hasher.update(" ");
            hasher.update(hash.as_deref().unwrap_or(""));
            hasher.update("\n");
        }
        let digest: [u8; 32] = hasher.finalize().into();
        hex(&digest[..6])
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a path ends so.
pub(super) fn is_kind(path: &str, ending: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|found| found == ending)
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("RECORD: {why}"))
}

/// The first field of a line of CSV, and what is behind its comma.
fn field(line: &str) -> Option<(String, &str)> {
    let Some(quoted) = line.strip_prefix('"') else {
        let (path, rest) = line.split_once(',')?;
        return Some((path.to_owned(), rest));
    };
    let mut path = String::new();
    let mut rest = quoted;
    loop {
        let (part, behind) = rest.split_once('"')?;
        path.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                path.push('"');
                rest = more;
            }
            None => return Some((path, behind.strip_prefix(',')?)),
        }
    }
}

/// Where a file of the record lies below the directory; none for what is made anew.
fn place(path: &str) -> io::Result<Option<String>> {
    let path = path.strip_prefix("../../").unwrap_or(path);
    if is_kind(path, "pyc") || path.contains("__pycache__/") {
        return Ok(None);
    }
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if path.is_empty() || path.contains('\0') || !Path::new(path).components().all(plain) {
        return Err(bad(&format!("it names {path:?}, outside of the package")));
    }
    Ok(Some(path.to_owned()))
}

/// As RECORD writes it: base64 without padding, of the URL kind.
fn hash_of(mut file: &File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    // Most files are small, and read at once.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(READ_BYTES_MAX);
    let mut buffer = vec![0; length.saturating_add(1).min(READ_BYTES_MAX)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(base64(&hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for index in 0..=chunk.len() {
            let six = word >> (18 - 6 * index) & 0x3f;
            out.push(ALPHABET[six as usize] as char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_urls() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"f"), "Zg");
        assert_eq!(base64(b"fo"), "Zm8");
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "-__-");
    }

    #[test]
    fn records_are_read_and_kept_inside() {
        let text = "a/__init__.py,sha256=abc,3\n\"a/x,\"\"y\"\".py\",,\n../../bin/tool,sha256=d,1\n\
                    a/__pycache__/x.pyc,,\n";
        let record = Record::parse(text).unwrap();
        let paths: Vec<&str> = record.paths().collect();
        assert_eq!(paths, ["a/__init__.py", "a/x,\"y\".py", "bin/tool"]);
        for line in ["/etc/passwd,,", "../x,,", "a/../../../x,,", "\"a,,", "x"] {
            assert!(Record::parse(line).is_err(), "{line}");
        }
    }
}
