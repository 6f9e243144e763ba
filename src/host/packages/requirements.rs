//! What a function asks for, as people write it: `requirements.txt` and `# ol-install:` lines.
//!
//! Read completely before anything is done about it: what is not a requirement of a named package
//! (PEP 508) is refused by name, and so are options other than `-r` of a file beside it and
//! `--hash`. Addresses and paths are refused: what is installed comes from the configured indexes.
//! Versions and markers are only looked at as far as their letters go; what they mean is the
//! installer's business.

use super::super::code::Bad;
use crate::base::Package;
use crate::base::packages::normalised;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path};

/// Of one file.
const BYTES_MAX: u64 = 1 << 20;
/// Of all files together.
const REQUIREMENTS_MAX: usize = 2_000;
/// Of one requirement, hashes apart.
const REQUIREMENT_BYTES_MAX: usize = 1_000;
/// Files that `-r` leads to.
const FILES_MAX: usize = 32;
/// Lines of an entry file in which `# ol-install:` is looked for.
const HEAD_LINES: usize = 50;
/// Where `# ol-install:` lines may stand.
const ENTRY_FILES: [&str; 3] = ["f.py", "app.py", "main.py"];
const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];
const HASHES: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// One line, its blanks and comments gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// As the installer reads it, without hashes.
    text: String,
    /// Normalised.
    name: String,
    is_pinned: bool,
    /// `sha256:...`; one of them must fit.
    hashes: Vec<String>,
}

/// Everything one function asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requirements {
    /// Sorted, each once.
    all: Vec<Requirement>,
}

/// What a set of requirements is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequirementsKey([u8; 16]);

impl std::fmt::Display for RequirementsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for RequirementsKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 16];
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = &text[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl Requirement {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name, and its version where exactly one will do.
    pub fn package(&self) -> Package {
        let pin = self.text.split(';').next().unwrap_or("").split_once("==");
        let version = pin.map(|(_, version)| version.trim_start_matches('=').trim());
        match version.filter(|_| self.is_pinned) {
            Some(version) => Package::parse(&format!("{}=={version}", self.name)),
            None => Package::parse(&self.name),
        }
    }

    pub fn hashes(&self) -> &[String] {
        &self.hashes
    }
}

impl Requirements {
    /// Of the code in this directory. Blocks.
    pub fn of(image: &Path) -> Result<Self, Bad> {
        let mut reader = Reader {
            image,
            files: 0,
            found: Vec::new(),
        };
        if let Some(text) = read(&image.join("requirements.txt")).map_err(Bad::Host)? {
            reader.file(Path::new("requirements.txt"), &text)?;
        }
        for name in ENTRY_FILES {
            if let Some(text) = read(&image.join(name)).map_err(Bad::Host)? {
                reader.head(name, &text)?;
            }
        }
        Self::checked(reader.found).map_err(Bad::Archive)
    }

    /// Of words as they are typed: one requirement each.
    pub fn of_words<'a, I: IntoIterator<Item = &'a str>>(words: I) -> Result<Self, String> {
        let all: Result<Vec<_>, _> = words.into_iter().map(requirement).collect();
        Self::checked(all?)
    }

    fn checked(mut all: Vec<Requirement>) -> Result<Self, String> {
        all.sort();
        all.dedup();
        if all.len() > REQUIREMENTS_MAX {
            return Err(format!("more than {REQUIREMENTS_MAX} requirements"));
        }
        let has_hashes = all.iter().any(|one| !one.hashes.is_empty());
        let lacking = all
            .iter()
            .find(|one| one.hashes.is_empty() || !one.is_pinned);
        if let Some(lacking) = lacking.filter(|_| has_hashes) {
            return Err(format!(
                "requirement {}: where one has a --hash, all need one, and an exact version \
                 (`pip-compile --generate-hashes` writes such a file)",
                lacking.text
            ));
        }
        Ok(Self { all })
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Requirement> {
        self.all.iter()
    }

    /// Whether every file is named by its hash.
    pub fn has_hashes(&self) -> bool {
        self.all.iter().any(|one| !one.hashes.is_empty())
    }

    /// What the installer is given, without hashes.
    pub fn text(&self) -> String {
        self.all.iter().fold(String::new(), |mut text, one| {
            text.push_str(&one.text);
            text.push('\n');
            text
        })
    }

    /// The same requirements have the same key, however they were written.
    pub fn key(&self) -> RequirementsKey {
        let mut hasher = Sha256::new();
        for one in &self.all {
            hasher.update(&one.text);
            for hash in &one.hashes {
                hasher.update(" ");
                hasher.update(hash);
            }
            hasher.update("\n");
        }
        let digest = hasher.finalize();
        RequirementsKey(digest[..16].try_into().expect("a digest has 32 bytes"))
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Reads the files of one function.
struct Reader<'a> {
    image: &'a Path,
    files: usize,
    found: Vec<Requirement>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, text: &str) -> Result<(), Bad> {
        let place = |why: String| Bad::Archive(format!("{}: {why}", path.display()));
        if text.len() as u64 > BYTES_MAX {
            return Err(place(format!("longer than {} KB", BYTES_MAX / 1024)));
        }
        for line in joined_lines(text) {
            let line = without_comment(&line).trim();
            if line.is_empty() {
                continue;
            }
            match included(line).map_err(place)? {
                Some(other) => self.include(path, &other)?,
                None => self.found.push(requirement(line).map_err(place)?),
            }
            if self.found.len() > REQUIREMENTS_MAX {
                return Err(place(format!("more than {REQUIREMENTS_MAX} requirements")));
            }
        }
        Ok(())
    }

    /// `-r other.txt`, named from where the file lies that says so.
    fn include(&mut self, from: &Path, other: &str) -> Result<(), Bad> {
        let bad = |why: &str| Bad::Archive(format!("{}: -r {other}: {why}", from.display()));
        let path = Path::new(other);
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if other.contains("://") || !path.components().all(is_plain) {
            return Err(bad("only files of the same upload can be included"));
        }
        self.files += 1;
        if self.files > FILES_MAX {
            return Err(bad("too many files are included, or one includes itself"));
        }
        let path = from.parent().unwrap_or(Path::new("")).join(path);
        let whole = self.image.join(&path);
        match (fs::canonicalize(&whole), fs::canonicalize(self.image)) {
            (Ok(real), Ok(image)) if real.starts_with(&image) => {}
            _ => return Err(bad("there is no such file in the upload")),
        }
        let text = read(&whole).map_err(Bad::Host)?;
        self.file(&path, &text.ok_or_else(|| bad("there is no such file"))?)
    }

    /// `# ol-install: a, b>=1,<2` at the head of an entry file.
    fn head(&mut self, name: &str, text: &str) -> Result<(), Bad> {
        for line in text.lines().take(HEAD_LINES) {
            let list = line
                .trim_start()
                .strip_prefix('#')
                .and_then(|rest| rest.trim_start().strip_prefix("ol-install:"));
            for word in list.map(listed).unwrap_or_default() {
                let found = requirement(&word)
                    .map_err(|why| Bad::Archive(format!("{name}: ol-install: {why}")))?;
                self.found.push(found);
            }
        }
        Ok(())
    }
}

/// Lines that end in a backslash go on in the next.
fn joined_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        // A comment ends where its line does, whatever stands last in it.
        let is_comment = line.trim_start().starts_with('#');
        match line.trim_end().strip_suffix('\\') {
            Some(part) if !is_comment => {
                open.push_str(part);
                open.push(' ');
            }
            _ => {
                open.push_str(line);
                lines.push(core::mem::take(&mut open));
            }
        }
    }
    lines.push(open);
    lines
}

/// A `#` begins a comment at the start of a line or behind a blank.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        if letter == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = letter;
    }
    line
}

/// The parts of a list: a comma also parts the bounds of a version, and extras.
fn listed(list: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut depth = 0;
    for part in without_comment(list).split(',') {
        let part = part.trim();
        let goes_on = depth > 0 || part.starts_with(['<', '>', '=', '!', '~']);
        match words.last_mut() {
            Some(last) if goes_on => {
                last.push(',');
                last.push_str(part);
            }
            _ => words.push(part.to_owned()),
        }
        let opened = part.matches(['[', '(']).count();
        depth = (depth + opened).saturating_sub(part.matches([']', ')']).count());
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What a line includes; an error for every other option.
fn included(line: &str) -> Result<Option<String>, String> {
    if !line.starts_with('-') {
        return Ok(None);
    }
    let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
    let (option, rest) = line.split_at(end);
    let value = rest.trim_start_matches(['=', ' ', '\t']).trim();
    if matches!(option, "-r" | "--requirement") && !value.is_empty() {
        return Ok(Some(value.to_owned()));
    }
    // Whatever follows an option may be a password.
    Err(format!(
        "option {option} is not taken (only -r FILE and --hash are; indexes are set in the \
         worker's configuration, [packages])"
    ))
}

/// One requirement: `name[extras] versions ; marker --hash=...`.
fn requirement(line: &str) -> Result<Requirement, String> {
    let (text, hashes) = split_hashes(line)?;
    if text.len() > REQUIREMENT_BYTES_MAX {
        return Err(format!(
            "a requirement is longer than {REQUIREMENT_BYTES_MAX} bytes"
        ));
    }
    let shown: String = text.chars().take(80).collect();
    let bad = |why: &str| format!("{shown:?}: {why}");
    let is_address = ["://", " @ ", "@ "].iter().any(|mark| text.contains(mark));
    let has_path = text
        .split(';')
        .next()
        .is_some_and(|it| it.contains(['/', '\\']));
    if is_address || has_path || text.starts_with('.') {
        let kind = "addresses and paths are not taken (name a package of the index, and a version)";
        // It may hold a password.
        return Err(if is_address {
            format!("a requirement: {kind}")
        } else {
            bad(kind)
        });
    }
    let (specification, marker) = match text.split_once(';') {
        Some((specification, marker)) => (specification.trim(), Some(marker.trim())),
        None => (text.trim(), None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = specification
        .find(|c| !is_name(c))
        .unwrap_or(specification.len());
    let (name, rest) = specification.split_at(end);
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !ends_well(name.chars().next()) || !ends_well(name.chars().last()) {
        return Err(bad("this is no name of a package"));
    }
    let (extras, versions) =
        extras(rest.trim()).ok_or_else(|| bad("its [extras] are malformed"))?;
    let versions = versions_of(versions)
        .ok_or_else(|| bad("its version is malformed (name==1.2, name>=1,<2)"))?;
    let mut written = name.to_owned();
    if !extras.is_empty() {
        let _ = write!(written, "[{}]", extras.join(","));
    }
    written.push_str(&versions.join(","));
    if let Some(marker) = marker {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " _.'\"<>=!~()+*-,".contains(c);
        if marker.is_empty() || !marker.chars().all(is_plain) {
            return Err(bad("its marker is malformed (; python_version < \"3.12\")"));
        }
        let _ = write!(written, " ; {marker}");
    }
    let is_pinned =
        versions.len() == 1 && versions[0].starts_with("==") && !versions[0].ends_with('*');
    Ok(Requirement {
        text: written,
        name: normalised(name),
        is_pinned,
        hashes,
    })
}

/// What stands before the first ` --`, and the hashes behind it.
fn split_hashes(line: &str) -> Result<(&str, Vec<String>), String> {
    let line = line.trim();
    let Some(at) = line.find(" --").or_else(|| line.find("\t--")) else {
        return Ok((line, Vec::new()));
    };
    let mut hashes = Vec::new();
    let mut words = line[at..].split_whitespace();
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, value),
            None => (word, words.next().unwrap_or("")),
        };
        if option != "--hash" {
            return Err(format!("option {option} is not taken (only --hash is)"));
        }
        let (kind, digits) = value.split_once(':').unwrap_or((value, ""));
        let is_known = HASHES
            .iter()
            .any(|(name, length)| *name == kind && digits.len() == *length);
        if !is_known || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!(
                "--hash={value} is no hash (sha256: and 64 hexadecimal digits)"
            ));
        }
        hashes.push(value.to_ascii_lowercase());
    }
    hashes.sort();
    Ok((line[..at].trim(), hashes))
}

/// `[a, b]` at the start of what follows a name.
fn extras(rest: &str) -> Option<(Vec<String>, &str)> {
    let Some(list) = rest.strip_prefix('[') else {
        return Some((Vec::new(), rest));
    };
    let (list, rest) = list.split_once(']')?;
    let mut extras = Vec::new();
    for extra in list
        .split(',')
        .map(str::trim)
        .filter(|extra| !extra.is_empty())
    {
        if !extra
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        {
            return None;
        }
        extras.push(normalised(extra));
    }
    extras.sort();
    Some((extras, rest.trim()))
}

/// `>=1, <2`, in parentheses or not.
fn versions_of(text: &str) -> Option<Vec<String>> {
    let text = match text.strip_prefix('(') {
        Some(inner) => inner.strip_suffix(')')?,
        None => text,
    };
    if text.trim().is_empty() {
        return Some(Vec::new());
    }
    text.split(',')
        .map(|bound| {
            let bound = bound.trim();
            let operator = OPERATORS.iter().find(|one| bound.starts_with(**one))?;
            let version = bound[operator.len()..].trim();
            let is_version = |b: u8| b.is_ascii_alphanumeric() || b".+!*_-".contains(&b);
            let plain = !version.is_empty() && version.bytes().all(is_version);
            plain.then(|| format!("{operator}{version}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Result<String, String> {
        requirement(line).map(|found| found.text)
    }

    #[test]
    fn requirements_are_read_as_people_write_them() {
        for (line, read) in [
            ("numpy", "numpy"),
            ("Flask_Login >= 1, <3", "Flask_Login>=1,<3"),
            ("pandas == 2.2.1", "pandas==2.2.1"),
            ("pandas (>=2)", "pandas>=2"),
            (
                "requests[socks, Use_Chardet]==2.31.0 ; python_version > '3.8'",
                "requests[socks,use-chardet]==2.31.0 ; python_version > '3.8'",
            ),
            ("six==1.*", "six==1.*"),
            ("torch==2.0+cpu", "torch==2.0+cpu"),
            (
                "x~=1.4;sys_platform=='linux'",
                "x~=1.4 ; sys_platform=='linux'",
            ),
        ] {
            assert_eq!(text(line).as_deref(), Ok(read), "{line}");
        }
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        for line in [
            "../../x",
            "./x.whl",
            "/etc/passwd",
            "..",
            "x @ https://user:secret@example.org/x.whl",
            "git+https://user:secret@example.org/x",
            "x y",
            "x==",
            "x[a",
            "-x",
            "x==1;",
            "x==1; os_name == `id`",
            "x --index-url=https://user:secret@example.org",
            "x --hash=md5:00",
            "x\u{e9}",
        ] {
            let why = text(line).unwrap_err();
            assert!(!why.contains("secret"), "{line}: {why}");
        }
    }

    #[test]
    fn a_file_has_comments_continuations_includes_and_hashes() {
        let root = std::env::temp_dir().join(format!("ol-requirements-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("more")).unwrap();
        let digits = "0".repeat(64);
        fs::write(
            root.join("requirements.txt"),
            "# comment \\\nnumpy==1.26.4 # why\n\npandas\\\n  >=2\n-r more/a.txt\n",
        )
        .unwrap();
        fs::write(root.join("more/a.txt"), "six\n--requirement=b.txt").unwrap();
        fs::write(root.join("more/b.txt"), "six\n").unwrap();
        fs::write(
            root.join("f.py"),
            "# ol-install: flask, attrs>=20,<30, x[a,b]==1\n",
        )
        .unwrap();
        let read = Requirements::of(&root).unwrap();
        let names: Vec<&str> = read.iter().map(Requirement::name).collect();
        assert_eq!(names, ["attrs", "flask", "numpy", "pandas", "six", "x"]);
        let again = [
            "six",
            "pandas>=2",
            "flask",
            "numpy==1.26.4",
            "x[b,a]==1",
            "attrs>=20,<30",
        ];
        assert_eq!(Requirements::of_words(again).unwrap().key(), read.key());
        for (bad, why) in [
            ("-r ../x", "same upload"),
            ("-r requirements.txt", "includes itself"),
            ("-r more/none.txt", "no such file"),
            (
                "--index-url https://u:secret@h/",
                "--index-url is not taken",
            ),
            ("-e .", "-e is not taken"),
            (&format!("x==1 --hash=sha256:{digits}\nsix"), "all need one"),
        ] {
            fs::write(root.join("requirements.txt"), bad).unwrap();
            let said = Requirements::of(&root).unwrap_err().to_string();
            assert!(
                said.contains(why) && !said.contains("secret"),
                "{bad}: {said}"
            );
        }
        fs::remove_file(root.join("f.py")).unwrap();
        let hashed = format!("x==1 \\\n --hash=sha256:{digits} --hash sha256:{digits}\n");
        fs::write(root.join("requirements.txt"), hashed).unwrap();
        let read = Requirements::of(&root).unwrap();
        assert!(read.has_hashes() && read.iter().next().unwrap().hashes().len() == 2);
        fs::remove_dir_all(&root).unwrap();
    }
}
