//! Running a program, and a directory of its own for each test.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

pub const OL: &str = env!("CARGO_BIN_EXE_ol");
pub const OLWORKER: &str = env!("CARGO_BIN_EXE_olworker");

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// It went well and had nothing to complain about.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        self.stdout
    }

    /// It failed with this code, and said so in exactly one line.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        let mut lines = self.stderr.lines();
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("nothing on stderr: {self:?}"));
        assert_eq!(lines.next(), None, "more than one line: {self:?}");
        assert!(
            line.ends_with(')') && line.contains(" ("),
            "no remedy: {line}"
        );
        line.to_owned()
    }
}

/// A directory that is gone with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("olworker-cli-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory of its own");
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the scratch")).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    }

    /// A command that runs here, with an environment of its own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(Stdio::null());
        command
    }

    pub fn run<W: AsRef<OsStr>>(&self, program: &str, words: &[W]) -> Ended {
        ended(self.command(program).args(words))
    }

    pub fn ol(&self, words: &[&str]) -> Ended {
        self.run(OL, words)
    }

    pub fn olworker(&self, words: &[&str]) -> Ended {
        self.run(OLWORKER, words)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && !std::thread::panicking()
        {
            panic!("{}: {error}", self.0.display());
        }
    }
}

pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("the program was built");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    Ended {
        code: output.status.code().expect("it was not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// As `ended`, with something on stdin.
pub fn fed(command: &mut Command, input: &[u8]) -> Ended {
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program was built");
    let mut stdin = child.stdin.take().expect("it is piped");
    // Whoever does not read its input to the end is judged by its output.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    Ended {
        code: output.status.code().expect("it was not killed"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Whether the test can be what it needs to be; says why not.
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        writeln!(std::io::stderr(), "SKIP: {what} needs root").expect("stderr");
    }
    root
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
