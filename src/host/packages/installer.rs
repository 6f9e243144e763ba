//! Errands: one installer's run, in a sandbox of its own.
//!
//! ```text
//!   Resolve   requirements -> exact versions     by uv, or pip where there is no uv
//!   Fetch     exact versions -> their files      likewise
//!   Install   both at once                       by uv
//!   Tool      uv itself, by pip                  once a machine, when uv is nowhere
//!   Compile   one package -> its bytecode        by the interpreter of functions
//!   Profile   one package -> what importing does
//!
//!   prepare (helper) --> a sandbox runs it --> finish (helper)
//! ```
//!
//! Wheels are only unpacked, nobody's code runs, so those errands share a cache. What has to be
//! built runs its author's code: that errand sees nothing but a directory of its own.

use super::joint::take_apart;
use super::machine::{LINKS, Sources};
use super::requirements::Requirements;
use super::store::{Entry, Store};
use super::unpacked::dist_info;
use rustix::fs::{Gid, Uid, chown};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Of what an installer said, the end is kept.
const SAID_BYTES_MAX: u64 = 4096;
const SAID_LINES_MAX: usize = 20;
/// Of the list of versions, or of a profile.
const RESULT_BYTES_MAX: u64 = 4 << 20;
/// The mount an errand may write to.
const OWN: &str = "/host";
/// Where the tool's directory is mounted.
const TOOL: &str = "/handler";
/// uv says this when only a source distribution would do.
const NEEDS_BUILD: [&str; 3] = [
    "building from source is disabled",
    "no usable wheels",
    "no wheels",
];

/// What installers say when a build was begun and failed.
const BUILD_RAN: [&str; 3] = [
    "build backend returned an error",
    "Failed building wheel",
    "subprocess-exited-with-error",
];

/// Who installs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// A program on its own, wherever it lies.
    Uv { program: PathBuf },
    /// The module of the interpreter of functions.
    Pip,
}

impl std::fmt::Display for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uv { program } => write!(f, "uv ({})", program.display()),
            Self::Pip => f.write_str("pip of the configured interpreter"),
        }
    }
}

impl Tool {
    /// uv on the path, or where it was put by an errand before. Blocks.
    pub fn uv(path: Option<&str>, own: &Path) -> Option<Self> {
        let on_path = path
            .unwrap_or("")
            .split(':')
            .map(|place| Path::new(place).join("uv"));
        let mut places = on_path.chain([own.join("uv")]);
        let program = places.find_map(|place| {
            let real = fs::canonicalize(&place).ok()?;
            is_program(&real).then_some(real)
        })?;
        Some(Self::Uv { program })
    }
}

/// A program and no script: scripts need what a sandbox does not have.
fn is_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    let is_executable =
        fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 1 != 0);
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    is_executable && read.is_ok() && &magic == b"\x7fELF"
}

/// From where, and whether anything may be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Wheels in the configured directories: no index is asked.
    Links,
    /// What lies in these directories, built.
    LinksBuilt,
    Wheels,
    Builds,
}

impl Mode {
    /// Whether code of packages may run.
    pub fn builds(self) -> bool {
        matches!(self, Self::LinksBuilt | Self::Builds)
    }

    /// Whether only the configured directories are looked at.
    fn is_of_links(self) -> bool {
        matches!(self, Self::Links | Self::LinksBuilt)
    }

    /// The first to try.
    pub fn first(sources: &Sources) -> Self {
        if sources.has_directories() {
            Self::Links
        } else {
            Self::Wheels
        }
    }

    /// The same places, but wheels only.
    #[must_use]
    pub fn without_builds(self) -> Self {
        if self.is_of_links() {
            Self::Links
        } else {
            Self::Wheels
        }
    }

    /// What to try after this one failed, saying this.
    pub fn next(self, said: &str) -> Option<Self> {
        let needs_build = NEEDS_BUILD.iter().any(|words| said.contains(words));
        match self {
            // What lies in the directories is meant, even where an index has a wheel of that name.
            Self::Links if needs_build => Some(Self::LinksBuilt),
            Self::Links => Some(Self::Wheels),
            // What the build needs may be in an index; a build that ran has failed for good.
            Self::LinksBuilt => {
                let ran = BUILD_RAN.iter().any(|words| said.contains(words));
                (!ran).then_some(Self::Builds)
            }
            Self::Wheels => needs_build.then_some(Self::Builds),
            Self::Builds => None,
        }
    }
}

/// One exact version, and the hashes its file may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pinned {
    /// Normalised.
    pub name: String,
    pub version: String,
    pub hashes: Vec<String>,
}

impl std::fmt::Display for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=={}", self.name, self.version)
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Errand {
    Tool,
    Resolve {
        requirements: Requirements,
        mode: Mode,
    },
    /// Several at once only by uv, and without builds.
    Fetch {
        packages: Vec<Pinned>,
        mode: Mode,
    },
    /// Whatever these come to, but for what is there in the version that would be taken.
    Install {
        requirements: Requirements,
        mode: Mode,
        there: Vec<Entry>,
    },
    Compile {
        entry: Entry,
    },
    /// `needs`: what it depends on, in the order of their imports.
    Profile {
        entry: Entry,
        needs: Vec<Entry>,
    },
}

impl Errand {
    /// Whether code of strangers may run in it.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Tool => false,
            Self::Compile { .. } | Self::Profile { .. } => true,
            _ => self.mode().is_some_and(Mode::builds),
        }
    }

    /// From where it takes packages, if it does.
    pub fn mode(&self) -> Option<Mode> {
        match self {
            Self::Resolve { mode, .. } | Self::Fetch { mode, .. } | Self::Install { mode, .. } => {
                Some(*mode)
            }
            _ => None,
        }
    }

    pub fn wants_network(&self) -> bool {
        !matches!(self, Self::Compile { .. } | Self::Profile { .. })
    }
}

/// A mount of an errand's sandbox.
#[derive(Debug)]
pub struct Mount {
    pub place: CString,
    pub source: PathBuf,
    pub is_writable: bool,
}

/// An errand ready to be run.
#[derive(Debug)]
pub struct Installing {
    /// Its directory on the host.
    pub directory: PathBuf,
    /// The cache that it works in together with others.
    pub shared_cache: Option<PathBuf>,
    pub mounts: Vec<Mount>,
    pub program: CString,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// stdout and stderr.
    pub log: File,
}

/// What prepares errands.
#[derive(Debug, Clone)]
pub struct Agent {
    pub store: Store,
    pub tool: Tool,
    /// Where uv is put when it has to be fetched.
    pub own_tool: PathBuf,
    pub interpreter: PathBuf,
    pub sources: Sources,
}

/// Paths as the sandbox sees them.
struct Inside {
    /// The errand's own directory.
    own: String,
    cache: &'static str,
}

impl Inside {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.own)
    }
}

impl Agent {
    /// Makes the directory of an errand; `owner` is the host's id of whoever runs in its sandbox.
    /// Blocks.
    pub fn prepare(&self, errand: &Errand, owner: u32) -> io::Result<Installing> {
        let directory = self.store.unfinished("errand")?;
        let name = directory
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (shared, inside) = if errand.is_private() {
            let own = OWN.to_owned();
            (
                directory.clone(),
                Inside {
                    own,
                    cache: "/host/cache",
                },
            )
        } else {
            let own = format!("{OWN}/{name}");
            (
                self.store.work(),
                Inside {
                    own,
                    cache: "/host/cache",
                },
            )
        };
        for made in ["target", "cache"].map(|name| directory.join(name)) {
            fs::create_dir(&made)?;
            give(&made, owner)?;
        }
        if let Errand::Install { there, .. } = errand {
            for entry in there {
                self.pretend(entry, &directory.join("target"), owner)?;
            }
        }
        give(&directory, owner)?;
        let cache = shared.join("cache");
        fs::create_dir_all(&cache)?;
        give(&cache, owner)?;
        let mounts = self.mounts(errand, &shared, &directory)?;
        let arguments = self.arguments(errand, &directory, &inside)?;
        let environment = self.environment(errand, &directory, &inside)?;
        let text = |text: &String| CString::new(text.as_bytes()).map_err(io::Error::from);
        Ok(Installing {
            log: File::options()
                .create(true)
                .append(true)
                .read(true)
                .open(directory.join("said"))?,
            mounts,
            program: text(&arguments[0])?,
            arguments: arguments.iter().map(text).collect::<Result<_, _>>()?,
            environment: environment.iter().map(text).collect::<Result<_, _>>()?,
            shared_cache: (!errand.is_private()).then_some(cache),
            directory,
        })
    }

    /// Has an installer find a package in its target that is in the store: only what it looks at.
    fn pretend(&self, entry: &Entry, target: &Path, owner: u32) -> io::Result<()> {
        let stored = self.store.directory_of(&entry.id);
        let info = dist_info(&stored)?;
        let place = target.join(&info);
        fs::create_dir(&place)?;
        fs::hard_link(stored.join(&info).join("METADATA"), place.join("METADATA"))?;
        let record = format!("{info}/METADATA,,\n{info}/RECORD,,\n");
        fs::write(place.join("RECORD"), record)?;
        give(&place.join("RECORD"), owner)?;
        give(&place, owner)
    }

    /// What an errand sees: `shared` as its own, where packages come from, who installs, what it
    /// works on.
    fn mounts(&self, errand: &Errand, shared: &Path, directory: &Path) -> io::Result<Vec<Mount>> {
        let mut mounts = vec![mount(OWN, shared, true)?];
        if errand.wants_network() {
            fs::create_dir_all(shared.join("links"))?;
            for (number, source) in self.sources.directories.iter().enumerate() {
                fs::create_dir_all(shared.join(format!("links/{number}")))?;
                mounts.push(mount(&format!("{LINKS}/{number}"), source, false)?);
            }
        }
        if let Tool::Uv { program } = &self.tool {
            mounts.push(mount(
                TOOL,
                program.parent().unwrap_or(Path::new("/")),
                false,
            )?);
        }
        match errand {
            Errand::Compile { entry } => {
                mounts.push(mount(
                    "/packages",
                    &self.store.directory_of(&entry.id),
                    false,
                )?);
            }
            Errand::Profile { entry, needs } => {
                let seen = directory.join("packages");
                fs::create_dir(&seen)?;
                self.store
                    .link(core::iter::once(entry).chain(needs), &seen)?;
                mounts.push(mount("/packages", &seen, false)?);
            }
            _ => {}
        }
        Ok(mounts)
    }

    fn arguments(&self, errand: &Errand, host: &Path, inside: &Inside) -> io::Result<Vec<String>> {
        let asked = host.join("requirements.txt");
        Ok(match errand {
            Errand::Tool => {
                fs::write(asked, "uv\n")?;
                self.installing(&Tool::Pip, Mode::Wheels, &["--no-deps"], inside)
            }
            Errand::Resolve { requirements, mode } => {
                fs::write(asked, requirements.text())?;
                self.resolving(*mode, inside)
            }
            Errand::Fetch { packages, mode } => {
                let line = |one: &Pinned| {
                    let hashes = one.hashes.iter().map(|hash| format!(" --hash={hash}"));
                    format!("{one}{}\n", hashes.collect::<String>())
                };
                fs::write(asked, packages.iter().map(line).collect::<String>())?;
                let has_hashes = packages.iter().any(|one| !one.hashes.is_empty());
                let more: &[&str] = if has_hashes {
                    &["--no-deps", "--require-hashes"]
                } else {
                    &["--no-deps"]
                };
                self.installing(&self.tool, *mode, more, inside)
            }
            Errand::Install {
                requirements, mode, ..
            } => {
                fs::write(asked, requirements.text())?;
                self.installing(&self.tool, *mode, &["--upgrade"], inside)
            }
            Errand::Compile { .. } => {
                let own = inside.path("target");
                self.python(&["/olworker/bytecode.py", "/packages", &own])
            }
            Errand::Profile { entry, needs } => {
                let names = |entries: &mut dyn Iterator<Item = &Entry>| {
                    let modules = entries.flat_map(|entry| &entry.facts.modules);
                    modules.map(String::as_str).collect::<Vec<_>>().join(",")
                };
                let own = names(&mut core::iter::once(entry));
                let needs = names(&mut needs.iter());
                self.python(&["/olworker/profile.py", &inside.path("result"), &needs, &own])
            }
        })
    }

    /// A script of ours, by the interpreter of functions.
    fn python(&self, words: &[&str]) -> Vec<String> {
        let interpreter = self.interpreter.display().to_string();
        let fixed = ["-I", "-S", "-B", "-X", "utf8"];
        core::iter::once(interpreter.as_str())
            .chain(fixed)
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    fn resolving(&self, mode: Mode, inside: &Inside) -> Vec<String> {
        let python = self.interpreter.display().to_string();
        let (asked, result) = (inside.path("requirements.txt"), inside.path("versions"));
        let line: Vec<&str> = match &self.tool {
            Tool::Pip => vec![
                &python,
                "-m",
                "pip",
                "install",
                "--dry-run",
                "--ignore-installed",
                "--report",
                &result,
                "-r",
                &asked,
            ],
            Tool::Uv { .. } => vec![
                "/handler/uv",
                "pip",
                "compile",
                "--no-header",
                "--no-annotate",
                "--python",
                &python,
                "-o",
                &result,
                &asked,
            ],
        };
        self.completed(line, &self.tool, mode)
    }

    fn installing(&self, tool: &Tool, mode: Mode, more: &[&str], inside: &Inside) -> Vec<String> {
        let python = self.interpreter.display().to_string();
        let (asked, target) = (inside.path("requirements.txt"), inside.path("target"));
        let mut line: Vec<&str> = match tool {
            Tool::Pip => vec![&python, "-m", "pip", "install", "--no-compile"],
            Tool::Uv { .. } => vec!["/handler/uv", "pip", "install", "--python", &python],
        };
        line.extend(["--target", &target, "-r", &asked]);
        line.extend(more);
        self.completed(line, tool, mode)
    }

    /// With what a mode adds.
    fn completed(&self, mut line: Vec<&str>, tool: &Tool, mode: Mode) -> Vec<String> {
        line.extend(building(tool, mode));
        if self.sources.asks_no_index(mode.is_of_links()) {
            line.push("--no-index");
        }
        line.into_iter().map(str::to_owned).collect()
    }

    fn environment(
        &self,
        errand: &Errand,
        host: &Path,
        inside: &Inside,
    ) -> io::Result<Vec<String>> {
        let fixed = [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "HOME=/tmp",
            "TMPDIR=/tmp",
            "LANG=C.UTF-8",
            "NO_COLOR=1",
            "UV_NO_PROGRESS=1",
            "UV_NO_CONFIG=1",
            // Costs nothing, and tells whose each file is.
            "UV_LINK_MODE=hardlink",
            "UV_PYTHON_DOWNLOADS=never",
            "PIP_NO_INPUT=1",
            "PIP_DISABLE_PIP_VERSION_CHECK=1",
            "PIP_NO_COLOR=1",
            "PIP_ROOT_USER_ACTION=ignore",
            "PIP_CONFIG_FILE=/dev/null",
        ];
        let mut all: Vec<String> = fixed.map(str::to_owned).to_vec();
        if !errand.wants_network() {
            return Ok(all);
        }
        let links_only = errand.mode().is_some_and(Mode::is_of_links);
        all.push(format!("UV_CACHE_DIR={}", inside.cache));
        all.push(format!("PIP_CACHE_DIR={}/pip", inside.cache));
        let told = self.sources.environment(links_only);
        all.extend(
            told.into_iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        if let Some(certificates) = &self.sources.certificates {
            // Wherever it lies, the sandbox has a copy.
            fs::copy(certificates, host.join("authorities.pem"))?;
            fs::set_permissions(
                host.join("authorities.pem"),
                fs::Permissions::from_mode(0o644),
            )?;
            let path = inside.path("authorities.pem");
            all.extend(["SSL_CERT_FILE", "PIP_CERT"].map(|name| format!("{name}={path}")));
        }
        Ok(all)
    }

    /// The exact versions an installer came to. Blocks.
    pub fn versions(&self, directory: &Path) -> io::Result<Vec<(String, String)>> {
        let text = read(&directory.join("versions"), RESULT_BYTES_MAX)?;
        if self.tool == Tool::Pip {
            return reported(&text);
        }
        let lines = text
            .lines()
            .map(|line| line.split(['#', ';', ' ']).next().unwrap_or(""));
        lines
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let (name, version) = line
                    .split_once("==")
                    .ok_or_else(|| bad(format!("the installer came to {line:?}")))?;
                Ok((
                    crate::base::packages::normalised(name),
                    version.trim().to_owned(),
                ))
            })
            .collect()
    }

    /// Takes in what an errand has installed together, and names what could not be told apart or is
    /// not what it says. None: this uv does not say whose a file is. Blocks.
    pub fn adopt_all(
        &self,
        errand: &Errand,
        directory: &Path,
    ) -> io::Result<Option<(Vec<Entry>, Vec<Pinned>)>> {
        let (target, cache) = (directory.join("target"), self.store.work().join("cache"));
        if let Errand::Install { there, .. } = errand {
            for entry in there {
                let info = dist_info(&self.store.directory_of(&entry.id))?;
                match fs::remove_dir_all(target.join(info)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    // Gone where the installer has put another version in its place.
                    _ => {}
                }
            }
        }
        let Some(parts) = take_apart(&target, &cache, directory)? else {
            return Ok(None);
        };
        let (mut entries, mut others) = (Vec::new(), Vec::new());
        for part in parts {
            let name = crate::base::packages::normalised(&part.name);
            match part.directory.map(|own| self.store.adopt(&own, &name)) {
                Some(Ok(entry)) => entries.push(entry),
                not => {
                    log::debug!("{name} is not taken from a joint install: {not:?}");
                    others.push(Pinned {
                        name,
                        version: part.version,
                        hashes: Vec::new(),
                    });
                }
            }
        }
        Ok(Some((entries, others)))
    }

    /// Keeps the uv that an errand has fetched. Blocks.
    pub fn keep_tool(&self, directory: &Path) -> io::Result<Tool> {
        let fetched = directory.join("target/bin/uv");
        if !is_program(&fetched) {
            return Err(bad("the package uv holds no program".to_owned()));
        }
        fs::create_dir_all(&self.own_tool)?;
        let draft = self.own_tool.join(format!("uv.{}", std::process::id()));
        fs::copy(&fetched, &draft)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?;
        let program = self.own_tool.join("uv");
        fs::rename(draft, &program)?;
        Ok(Tool::Uv { program })
    }

    /// What a profile errand found. Blocks.
    pub fn profile(&self, directory: &Path) -> io::Result<super::store::Profile> {
        let text = read(&directory.join("result"), RESULT_BYTES_MAX)?;
        serde_json::from_str(&text).map_err(|error| bad(format!("its profile: {error}")))
    }
}

fn building(tool: &Tool, mode: Mode) -> &'static [&'static str] {
    match (mode, tool) {
        (mode, _) if mode.builds() => &[],
        (_, Tool::Pip) => &["--only-binary", ":all:"],
        (_, Tool::Uv { .. }) => &["--no-build"],
    }
}

fn bad(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads a file that strangers wrote: a link is not followed.
fn read(path: &Path, bytes_max: u64) -> io::Result<String> {
    let flags = rustix::fs::OFlags::RDONLY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::NONBLOCK
        | rustix::fs::OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// pip's report.
fn reported(text: &str) -> io::Result<Vec<(String, String)>> {
    let report: serde_json::Value = serde_json::from_str(text)?;
    let installs = report["install"].as_array();
    installs
        .into_iter()
        .flatten()
        .map(|install| {
            let text = |key: &str| install["metadata"][key].as_str().map(str::to_owned);
            match (text("name"), text("version")) {
                (Some(name), Some(version)) => {
                    Ok((crate::base::packages::normalised(&name), version))
                }
                _ => Err(bad("pip's report names no package".to_owned())),
            }
        })
        .collect()
}

fn mount(place: &str, source: &Path, is_writable: bool) -> io::Result<Mount> {
    Ok(Mount {
        place: CString::new(place)?,
        source: source.to_path_buf(),
        is_writable,
    })
}

fn give(path: &Path, owner: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
    Ok(chown(path.as_os_str().as_bytes(), Some(uid), Some(gid))?)
}

/// The end of what an errand said, without passwords. Blocks.
pub fn last_lines(log: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = log.seek(SeekFrom::End(0)).unwrap_or(0);
    let start = length.saturating_sub(SAID_BYTES_MAX);
    let read = log
        .seek(SeekFrom::Start(start))
        .and_then(|_| log.take(SAID_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let kept = &lines[lines.len().saturating_sub(SAID_LINES_MAX)..];
    without_passwords(&kept.join("\n"))
}

/// `https://user:secret@host/` becomes `https://***@host/`.
fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let end = behind.find(|c: char| c.is_whitespace() || "/?#'\"`".contains(c));
        let authority = &behind[..end.unwrap_or(behind.len())];
        rest = match authority.rfind('@') {
            Some(place) => {
                out.push_str("***");
                &behind[place..]
            }
            None => behind,
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_repeated() {
        for (said, kept) in [
            (
                "no https://u:p@h/simple/ here",
                "no https://***@h/simple/ here",
            ),
            ("https://h/a@b http://t@h", "https://h/a@b http://***@h"),
            ("none", "none"),
            ("`https://u:p@@h`", "`https://***@h`"),
        ] {
            assert_eq!(without_passwords(said), kept);
        }
    }

    #[test]
    fn a_build_is_tried_only_where_one_is_needed() {
        let needs = "hint: ... because building from source is disabled for all packages";
        assert_eq!(Mode::Wheels.next(needs), Some(Mode::Builds));
        assert_eq!(
            Mode::Wheels.next("was not found in the package registry"),
            None
        );
        assert_eq!(Mode::Links.next("whatever"), Some(Mode::Wheels));
        assert_eq!(Mode::Links.next(needs), Some(Mode::LinksBuilt));
        let no_backend = "Failed to resolve requirements from `build-system.requires`";
        assert_eq!(Mode::LinksBuilt.next(no_backend), Some(Mode::Builds));
        let failed = "The build backend returned an error";
        assert_eq!(Mode::LinksBuilt.next(failed), None);
        assert_eq!(Mode::Builds.next(needs), None);
    }

    #[test]
    fn a_report_of_pip_is_read() {
        let text = r#"{"install": [{"metadata": {"name": "Six_x", "version": "1.0"}}]}"#;
        assert_eq!(
            reported(text).unwrap(),
            [("six-x".to_owned(), "1.0".to_owned())]
        );
        assert!(reported(r#"{"install": [{}]}"#).is_err());
    }
}
