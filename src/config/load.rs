//! Files to a configuration: which are read, in which order, and what is wrong with reading them.
//!
//! The main file, then its drop-ins (`FILE.d/*.toml`, by name), then `-o`; last the tree file that
//! all these name. Every file is bounded.

use super::meaning::{Home, Machine, TreeTyped};
use super::problem::{Origin, Problem};
use super::read::{Loaded, SourceFile, Sources, read};
use super::tree::{self, Tree};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// Bytes of one configuration file; an inline tree is the only long thing in one.
const FILE_BYTES_MAX: u64 = tree::FILE_BYTES_MAX;
/// Drop-ins read.
const DROP_INS_MAX: usize = 1000;

/// What was asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `--config`; else `DIR/config.toml`, else the installed file, else the defaults.
    pub file: Option<PathBuf>,
    /// `--dir`: a worker of one's own.
    pub directory: Option<PathBuf>,
    /// `-o`, in order.
    pub overrides: Vec<String>,
    /// Absolute; relative paths of all these are below it.
    pub working_directory: PathBuf,
}

impl Request {
    pub fn home(&self) -> Home {
        match &self.directory {
            Some(directory) => {
                let joined = self.working_directory.join(directory);
                Home::directory(&joined.components().collect::<PathBuf>())
            }
            None => Home::installed(),
        }
    }

    /// The main file, and whether it must exist.
    pub fn main_file(&self) -> (PathBuf, bool) {
        match (&self.file, &self.directory) {
            (Some(file), _) => (
                self.working_directory.join(file).components().collect(),
                true,
            ),
            (None, Some(_)) => (self.home().configuration.join("config.toml"), true),
            (None, None) => (self.home().configuration.join("olworker.toml"), false),
        }
    }
}

/// Reads everything that a request names.
pub fn load(request: &Request, machine: Machine) -> Result<Loaded, Vec<Problem>> {
    let (main, must_exist) = request.main_file();
    let mut problems = Vec::new();
    let mut sources = Sources {
        files: Vec::new(),
        overrides: request.overrides.clone(),
        working_directory: request.working_directory.clone(),
    };
    match text(&main, FILE_BYTES_MAX) {
        Ok(text) => sources.files.push(SourceFile {
            path: main.clone(),
            text,
        }),
        Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => {}
        Err(error) => problems.push(unreadable(&main, &error, request)),
    }
    match drop_ins(&main) {
        Ok(paths) => {
            for path in paths {
                match text(&path, FILE_BYTES_MAX) {
                    Ok(text) => sources.files.push(SourceFile { path, text }),
                    Err(error) => problems.push(unreadable(&path, &error, request)),
                }
            }
        }
        Err(problem) => problems.push(problem),
    }
    let mut home = request.home();
    if let (Some(_), None, Some(beside)) = (&request.file, &request.directory, main.parent()) {
        home.configuration = beside.to_path_buf();
    }
    if home.configuration.to_str().is_none() {
        let why = "a path that is no UTF-8 text";
        problems.push(Problem::of_file(
            &home.configuration,
            why,
            "rename the directory",
        ));
        return Err(problems);
    }
    match read(&sources, home, machine) {
        Ok(mut loaded) => {
            problems.extend(read_tree(&mut loaded).err().unwrap_or_default());
            if problems.is_empty() {
                Ok(loaded)
            } else {
                Err(problems)
            }
        }
        Err(further) => {
            problems.extend(further);
            Err(problems)
        }
    }
}

/// Files of the directory that belongs to `main`, in the order of their names.
fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut directory = main.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let refused = |error: io::Error| {
        Problem::of_file(
            &directory,
            error.to_string(),
            "make it readable, or remove it",
        )
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(refused(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(refused)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && !hidden
        {
            paths.push(path);
        }
        if paths.len() > DROP_INS_MAX {
            let why = format!("more than {DROP_INS_MAX} files");
            return Err(Problem::of_file(&directory, why, "join some of them"));
        }
    }
    paths.sort();
    Ok(paths)
}

/// The tree that the configuration names, where that is a file.
fn read_tree(loaded: &mut Loaded) -> Result<(), Vec<Problem>> {
    let source = &mut loaded.config.features.import_cache_tree;
    let (path, must_exist) = match &source.typed {
        TreeTyped::File(path) => (path, true),
        TreeTyped::Default(path) => (path, false),
        TreeTyped::Inline | TreeTyped::Empty => return Ok(()),
    };
    let key = "features.import_cache_tree";
    let origin = loaded.origins.of(key);
    match text(path, tree::FILE_BYTES_MAX) {
        Ok(text) => {
            let of_file = |wrong: tree::Wrong| {
                let (node, why) = (wrong.node_name(), &wrong.why);
                Problem::of_file(path, format!("{node}: {why}"), &wrong.remedy)
            };
            source.tree = Tree::from_json(&text)
                .map_err(|wrong| wrong.into_iter().map(of_file).collect::<Vec<_>>())?;
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => {
            if origin != Origin::BuiltIn {
                let why = format!("{}: there is no such file: a bare root", path.display());
                let remedy = "write the tree, or \"\" for a bare root";
                loaded.warnings.push(Problem::at(&origin, key, why, remedy));
            }
            Ok(())
        }
        Err(error) => {
            let why = format!("{}: {}", path.display(), said(&error));
            let remedy = "name a file that can be read, or \"\" for a bare root";
            Err(vec![Problem::at(&origin, key, why, remedy)])
        }
    }
}

/// A whole file as text.
fn text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData.into())
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        ErrorKind::PermissionDenied => "may not be read".to_owned(),
        ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        ErrorKind::FileTooLarge => format!("is longer than {} MB", FILE_BYTES_MAX >> 20),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn unreadable(path: &Path, error: &io::Error, request: &Request) -> Problem {
    let remedy = match (&request.file, &request.directory, error.kind()) {
        (None, Some(directory), ErrorKind::NotFound) => {
            format!("`ol worker init -p {}` makes one", directory.display())
        }
        (_, _, ErrorKind::NotFound) => "name a file that exists".to_owned(),
        (_, _, ErrorKind::PermissionDenied) => "run as root, or make it readable".to_owned(),
        _ => "name a configuration file".to_owned(),
    };
    Problem::of_file(path, said(error), &remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A directory of its own for a test, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("olworker-load-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).expect("a temporary directory");
            Self(path)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("below the scratch")).expect("a directory");
            fs::write(path, text).expect("a file");
            self
        }

        fn load(&self, overrides: &[&str]) -> Result<Loaded, Vec<String>> {
            let request = Request {
                directory: Some(PathBuf::from(".")),
                overrides: overrides.iter().map(ToString::to_string).collect(),
                working_directory: self.0.clone(),
                ..Request::default()
            };
            let machine = Machine {
                ram_bytes: 8 << 30,
                cpus: 2,
            };
            load(&request, machine).map_err(|problems| {
                let scratch = self.0.display().to_string();
                problems
                    .iter()
                    .map(|p| p.to_string().replace(&scratch, "DIR"))
                    .collect()
            })
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }

    #[test]
    fn later_sources_win() {
        let scratch = Scratch::new("order");
        scratch
            .write(
                "config.toml",
                "[limits]\nruntime_sec = 1\nprocs = 1\nqueue = 1\n",
            )
            .write(
                "config.toml.d/20-b.toml",
                "[limits]\nruntime_sec = 3\nprocs = 3\n",
            )
            .write("config.toml.d/10-a.toml", "[limits]\nruntime_sec = 2\n")
            .write("config.toml.d/30-c.toml.off", "not read")
            .write("config.toml.d/.40.toml", "not read");
        let loaded = scratch
            .load(&["limits.procs=4"])
            .expect("a good configuration");
        let limits = &loaded.config.limits;
        assert_eq!(
            (limits.runtime, limits.procs, limits.queue),
            (Duration::from_secs(3), 4, 1)
        );
        let origin = loaded.origins.of("limits.runtime_sec").to_string();
        assert!(origin.ends_with("config.toml.d/20-b.toml:2"), "{origin}");
    }

    #[test]
    fn errors_name_the_drop_in() {
        let scratch = Scratch::new("drop-in");
        scratch
            .write("config.toml", "[limits]\nprocs = 0\n")
            .write("config.toml.d/a.toml", "\n[limits]\nproc = 5\n")
            .write("config.toml.d/b.toml", [0xff, 0xfe]);
        assert_eq!(
            scratch
                .load(&["http.tcp=:80"])
                .expect_err("a bad configuration"),
            [
                "DIR/config.toml.d/b.toml: is not UTF-8 text (name a configuration file)",
                "DIR/config.toml:2: limits.procs: 0 is out of range (give 1..32768)",
                "DIR/config.toml.d/a.toml:3: limits.proc: unknown key (did you mean limits.procs?)",
                "-o: http.tcp: \":80\" is no address with a port (write 0.0.0.0:80 for every \
                 interface, 127.0.0.1:80 for this machine)",
            ]
        );
    }

    #[test]
    fn the_tree_is_read_where_it_is_named() {
        let scratch = Scratch::new("tree");
        scratch.write("config.toml", "");
        let bare = scratch.load(&[]).expect("no tree is needed");
        assert!(bare.config.features.import_cache_tree.tree.is_bare());

        scratch.write(
            "config.toml",
            "[features]\nimport_cache_tree = 'tree.json'\n",
        );
        let typed = scratch.load(&[]).expect("the usual place may be empty");
        let warning = typed.warnings[0].to_string();
        assert!(
            warning.contains("/tree.json: there is no such file: a bare root"),
            "{warning}"
        );

        scratch.write("tree.json", r#"{"children": [{"packages": ["numpy"]}]}"#);
        let found = scratch
            .load(&[])
            .expect("the tree beside the configuration");
        assert_eq!(found.config.features.import_cache_tree.tree.count(), 2);

        let problems = scratch
            .load(&["features.import_cache_tree=./x.json"])
            .expect_err("absent");
        assert_eq!(
            problems,
            [
                "-o: features.import_cache_tree: DIR/x.json: there is no such file \
              (name a file that can be read, or \"\" for a bare root)"
            ]
        );
        scratch.write("tree.json", "{");
        let problems = scratch.load(&[]).expect_err("no tree");
        assert!(
            problems[0].starts_with("DIR/tree.json: the root: no JSON: EOF"),
            "{problems:?}"
        );
        let empty = scratch
            .load(&["features.import_cache_tree="])
            .expect("nothing is read");
        assert_eq!(
            empty.config.features.import_cache_tree.typed,
            TreeTyped::Empty
        );
    }

    #[test]
    fn a_directory_without_configuration_says_how_to_get_one() {
        let scratch = Scratch::new("absent");
        let problems = scratch.load(&[]).expect_err("nothing there");
        assert_eq!(
            problems,
            ["DIR/config.toml: there is no such file (`ol worker init -p .` makes one)"]
        );
        scratch.write("config.toml/x", "");
        let problems = scratch.load(&[]).expect_err("a directory");
        assert_eq!(
            problems,
            ["DIR/config.toml: is a directory (name a configuration file)"]
        );
    }
}
