//! Which Python interpreters there are, and of which version.

use super::pid_file::ends_within;
use crate::config::meaning::{Base, Config};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// An interpreter, and its version or why it tells none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interpreter {
    pub path: PathBuf,
    pub configured: bool,
    pub version: Result<String, String>,
}

/// Where distributions and administrators put them.
const DIRECTORIES: [&str; 2] = ["/usr/bin", "/usr/local/bin"];
/// The oldest that the runtime speaks.
const OLDEST: (u32, u32) = (3, 9);
/// Answers with implementation and version, nothing else.
const PROGRAM: &str = "import sys; print(sys.implementation.name, sys.version.split()[0])";

/// The configured one first, then every other one of the host.
pub fn find(config: &Config, within: Duration) -> Vec<Interpreter> {
    let configured = &config.runtimes.python.interpreter;
    let first = match &config.sandbox.base {
        Base::Host => Interpreter {
            path: configured.clone(),
            configured: true,
            version: version(configured, within),
        },
        Base::Rootfs(root) => in_root(root, configured),
    };
    let known = [configured.canonicalize(), first.path.canonicalize()];
    let known: Vec<PathBuf> = known.into_iter().flatten().collect();
    let others = on_host().into_iter().filter(|path| !known.contains(path));
    let others = others.map(|path| {
        let version = version(&path, within);
        Interpreter {
            path,
            configured: false,
            version,
        }
    });
    std::iter::once(first).chain(others).collect()
}

/// Of another root only the file is looked at: running it is the sandbox's business.
fn in_root(root: &Path, interpreter: &Path) -> Interpreter {
    let path = root.join(interpreter.strip_prefix("/").unwrap_or(interpreter));
    let version = match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => Err("it is a directory".to_owned()),
        Ok(_) => Ok("in another root, not run".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Interpreter {
        path,
        configured: true,
        version,
    }
}

/// Each once, however many links lead to it.
fn on_host() -> BTreeSet<PathBuf> {
    let entries = DIRECTORIES
        .iter()
        .filter_map(|directory| fs::read_dir(directory).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let named = paths.filter(|path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let rest = name.strip_prefix("python3");
        rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    });
    named.filter_map(|path| path.canonicalize().ok()).collect()
}

/// Runs it, isolated from site and environment, and hears its version.
fn version(path: &Path, within: Duration) -> Result<String, String> {
    let said = run(path, within).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is none (install python3, or set \
                                    runtimes.python.interpreter)"
            .to_owned(),
        _ => error.to_string(),
    })?;
    let (implementation, version) = said.trim().split_once(' ').unwrap_or(("", said.trim()));
    if implementation != "cpython" {
        return Err(format!("{implementation} {version}: no CPython"));
    }
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if number < OLDEST {
        return Err(format!("{version}: older than {}.{}", OLDEST.0, OLDEST.1));
    }
    Ok(version.to_owned())
}

fn run(path: &Path, within: Duration) -> io::Result<String> {
    let mut child = Command::new(path)
        .args(["-I", "-S", "-c", PROGRAM])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let ended = ends_within(&handle, within);
    if !matches!(ended, Ok(true)) {
        child.kill()?;
    }
    let status = child.wait()?;
    ended?;
    let mut said = String::new();
    // What it says is a line; one that says more is none of ours.
    let stdout = child.stdout.take().expect("it is piped");
    stdout.take(1024).read_to_string(&mut said)?;
    if status.success() {
        Ok(said)
    } else {
        Err(io::Error::other(format!("it failed: {status}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by another process: were the file open for writing here, a child that some other
    /// test forks meanwhile would hold it open too, and it could not be run (ETXTBSY).
    fn script(name: &str, text: &str) -> PathBuf {
        let name = format!("olworker-interpreter-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let written = Command::new("sh")
            .args([
                "-c",
                "printf '%s' \"$2\" > \"$1\" && chmod 755 \"$1\"",
                "sh",
            ])
            .arg(&path)
            .arg(text)
            .status();
        assert!(written.unwrap().success());
        path
    }

    #[test]
    fn what_an_interpreter_says_is_judged() {
        let long = Duration::from_secs(20);
        for (name, text, expected) in [
            ("good", "#!/bin/sh\necho cpython 3.11.2\n", Ok("3.11.2")),
            (
                "old",
                "#!/bin/sh\necho cpython 3.8.1\n",
                Err("3.8.1: older than 3.9"),
            ),
            (
                "other",
                "#!/bin/sh\necho pypy 3.11.2\n",
                Err("pypy 3.11.2: no CPython"),
            ),
            (
                "fails",
                "#!/bin/sh\nexit 3\n",
                Err("it failed: exit status: 3"),
            ),
        ] {
            let path = script(name, text);
            let version = version(&path, long);
            fs::remove_file(&path).unwrap();
            assert_eq!(
                version.as_deref().map_err(String::as_str),
                expected,
                "{name}"
            );
        }
        let missing = version(Path::new("/nonexistent/python3"), long).unwrap_err();
        assert!(missing.starts_with("there is none"), "{missing}");
    }

    #[test]
    fn one_that_hangs_is_killed() {
        let path = script("hangs", "#!/bin/sh\nexec sleep 1000\n");
        let version = version(&path, Duration::from_millis(50));
        fs::remove_file(&path).unwrap();
        assert!(version.is_err());
    }
}
