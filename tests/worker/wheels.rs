//! Wheels made here: what an index would have, in a directory.

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A wheel to be.
pub struct Wheel<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// Path and text.
    pub files: &'a [(&'a str, &'a str)],
    pub requires: &'a [&'a str],
    /// What `entry_points.txt` says.
    pub entry_points: &'a str,
    /// A file whose line in RECORD is of another content.
    pub lies_about: Option<&'a str>,
}

impl<'a> Wheel<'a> {
    pub fn new(name: &'a str, version: &'a str, files: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            name,
            version,
            files,
            requires: &[],
            entry_points: "",
            lies_about: None,
        }
    }

    /// Writes it into a directory; its sha256.
    pub fn write(&self, directory: &Path) -> String {
        std::fs::create_dir_all(directory).unwrap();
        let info = format!("{}-{}.dist-info", self.name, self.version);
        let mut metadata = format!(
            "Metadata-Version: 2.1\nName: {}\nVersion: {}\n",
            self.name, self.version
        );
        for required in self.requires {
            writeln!(metadata, "Requires-Dist: {required}").unwrap();
            // pip ignores what an extra requires that is not announced.
            if let Some((_, extra)) = required.split_once("extra == '") {
                let extra = extra.trim_end_matches('\'');
                writeln!(metadata, "Provides-Extra: {extra}").unwrap();
            }
        }
        let wheel =
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let mut files: Vec<(String, String)> = Vec::new();
        for (path, text) in self.files {
            files.push(((*path).to_owned(), (*text).to_owned()));
        }
        files.push((format!("{info}/METADATA"), metadata));
        files.push((format!("{info}/WHEEL"), wheel.to_owned()));
        if !self.entry_points.is_empty() {
            files.push((
                format!("{info}/entry_points.txt"),
                self.entry_points.to_owned(),
            ));
        }
        let mut record = String::new();
        for (path, text) in &files {
            let is_lie = self.lies_about == Some(path);
            let hashed = if is_lie { "something else" } else { text };
            let hash = record_hash(hashed.as_bytes());
            writeln!(record, "{path},sha256={hash},{}", hashed.len()).unwrap();
        }
        writeln!(record, "{info}/RECORD,,").unwrap();
        files.push((format!("{info}/RECORD"), record));
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (path, text) in &files {
            writer
                .start_file(path, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        let name = format!("{}-{}-py3-none-any.whl", self.name, self.version);
        File::create(directory.join(name))
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        sha256(&bytes)
    }
}

/// What a build runs, and no machine has.
pub const COMPILER: &str = "a-compiler-that-is-not-there";

/// A build that runs a compiler that is not there, and ends as that of setuptools does then.
pub fn missing_compiler() -> String {
    format!(
        "if not shutil.which({COMPILER:?}):\n        \
             sys.exit(\"error: command {COMPILER:?} failed: No such file or directory\")"
    )
}

/// Writes a source distribution; its build does this, as the body of a function of Python.
pub fn write_source(directory: &Path, name: &str, build: &str) {
    std::fs::create_dir_all(directory).unwrap();
    let project = format!(
        "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n\
         [project]\nname = \"{name}\"\nversion = \"1.0\"\n"
    );
    let backend = format!("import shutil, sys, time\ndef build_wheel(*_, **__):\n    {build}\n");
    let metadata = format!("Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n");
    let file = File::create(directory.join(format!("{name}-1.0.tar.gz"))).unwrap();
    let packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut archive = tar::Builder::new(packed);
    for (path, text) in [
        ("PKG-INFO", metadata),
        ("pyproject.toml", project),
        ("backend.py", backend),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        let path = format!("{name}-1.0/{path}");
        archive
            .append_data(&mut header, path, text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

/// In hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// As RECORD has it.
pub fn record_hash(bytes: &[u8]) -> String {
    base64(&Sha256::digest(bytes))
}

fn base64(bytes: &[u8]) -> String {
    let bit = |at: usize| {
        bytes
            .get(at / 8)
            .is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
    };
    let digit =
        |start: usize| (start..start + 6).fold(0, |six, at| six << 1 | usize::from(bit(at)));
    (0..bytes.len() * 8)
        .step_by(6)
        .map(|start| ALPHABET[digit(start)] as char)
        .collect()
}

/// A directory of this test's own.
pub fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("olworker-wheels-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}
