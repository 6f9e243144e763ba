//! Where an interpreter lives, and what of the host a sandbox needs for it.

use core::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// Links followed from the configured path to the program.
const LINKS_MAX: usize = 16;

/// What sandboxes have of their own: nothing of the host is seen below.
const COVERED: &[&str] = &[
    "/tmp",
    "/host",
    "/proc",
    "/dev",
    "/handler",
    "/packages",
    "/olworker",
];

/// Prints, one a line: version, then the directories the standard library comes from.
const QUESTION: &str = "import sys; print('%d.%d' % sys.version_info[:2]); \
                        print(sys.base_prefix); print(sys.base_exec_prefix)";

/// An interpreter of the host, or of a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    program: PathBuf,
    /// `3.11`; empty when it cannot be asked (it lives in another root file system).
    version: String,
    prefixes: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// Why it cannot serve.
#[derive(Debug)]
pub enum InterpreterError {
    Missing {
        program: PathBuf,
        error: io::Error,
    },
    /// It ran and said something else than asked.
    NotPython {
        program: PathBuf,
        said: String,
    },
    TooOld {
        program: PathBuf,
        version: String,
    },
    /// It is below a directory that each sandbox has of its own.
    Covered {
        program: PathBuf,
        path: PathBuf,
    },
    /// Others than its owner may not read what it needs.
    Closed {
        program: PathBuf,
        path: PathBuf,
    },
}

impl fmt::Display for InterpreterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program, error } => write!(
                f,
                "interpreter {}: {error} (install it, or name another in [runtimes.python] \
                 interpreter)",
                program.display()
            ),
            Self::NotPython { program, said } => write!(
                f,
                "interpreter {}: it did not answer like Python 3 (name the program itself, not a \
                 wrapper): {said}",
                program.display()
            ),
            Self::TooOld { program, version } => write!(
                f,
                "interpreter {}: it is Python {version}, but 3.9 or newer is needed (name another \
                 in [runtimes.python] interpreter)",
                program.display()
            ),
            Self::Covered { program, path } => write!(
                f,
                "interpreter {}: {} is below a directory that sandboxes have of their own (move it \
                 elsewhere)",
                program.display(),
                path.display()
            ),
            Self::Closed { program, path } => write!(
                f,
                "interpreter {}: sandboxes run without rights and may not read {} (chmod o+rx it)",
                program.display(),
                path.display()
            ),
        }
    }
}

impl core::error::Error for InterpreterError {}

impl Interpreter {
    /// Runs it once to ask where its library is. What lies under /usr comes with the base; the rest
    /// is brought along, and may lie below directories that only root may enter.
    pub fn on_host(program: &Path) -> Result<Self, InterpreterError> {
        let missing = |error| InterpreterError::Missing {
            program: program.into(),
            error,
        };
        let output = Command::new(program)
            .args(["-I", "-S", "-B", "-c", QUESTION])
            .env_clear()
            .output()
            .map_err(missing)?;
        let said = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        let &[version, prefix, exec_prefix] = &lines[..] else {
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            return Err(InterpreterError::NotPython {
                program: program.into(),
                said,
            });
        };
        check_version(program, version)?;
        let mut links = Vec::new();
        let real = follow_links(program, &mut links).map_err(missing)?;
        let mut wanted = vec![PathBuf::from(prefix), PathBuf::from(exec_prefix)];
        // A virtual environment is a directory with this file beside bin/.
        let environment = program.parent().and_then(Path::parent).map(Path::to_owned);
        wanted.extend(environment.filter(|path| path.join("pyvenv.cfg").exists()));
        wanted.extend(
            real.parent()
                .filter(|_| !wanted.iter().any(|p| real.starts_with(p)))
                .map(Path::to_owned),
        );
        let mut prefixes: Vec<PathBuf> = Vec::new();
        for path in wanted {
            let path = fs::canonicalize(&path).map_err(missing)?;
            if !path.starts_with("/usr") && !prefixes.iter().any(|known| path.starts_with(known)) {
                prefixes.push(path);
            }
        }
        let on_the_way = links.iter().map(|(path, _)| path);
        for path in prefixes.iter().chain(on_the_way).chain([&real]) {
            if COVERED.iter().any(|own| path.starts_with(own)) {
                let path = path.clone();
                return Err(InterpreterError::Covered {
                    program: program.into(),
                    path,
                });
            }
        }
        for path in prefixes.iter().chain([&real]) {
            let mode = fs::metadata(path).map_err(missing)?.permissions().mode();
            if mode & 0o005 != 0o005 {
                let path = path.clone();
                return Err(InterpreterError::Closed {
                    program: program.into(),
                    path,
                });
            }
        }
        links.retain(|(path, _)| {
            !path.starts_with("/usr") && !prefixes.iter().any(|known| path.starts_with(known))
        });
        Ok(Self {
            program: program.into(),
            version: version.into(),
            prefixes,
            links,
        })
    }

    /// One that is inside another root file system: it must be there, and is not asked.
    pub fn in_rootfs(program: &Path, rootfs: &Path) -> Result<Self, InterpreterError> {
        let missing = |error| InterpreterError::Missing {
            program: program.into(),
            error,
        };
        let inside = rootfs.join(program.strip_prefix("/").unwrap_or(program));
        fs::symlink_metadata(&inside).map_err(missing)?;
        let (prefixes, links) = (Vec::new(), Vec::new());
        Ok(Self {
            program: program.into(),
            version: String::new(),
            prefixes,
            links,
        })
    }

    /// The path it is run by, inside and outside.
    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// Directories to bring along, none under /usr.
    pub fn prefixes(&self) -> &[PathBuf] {
        &self.prefixes
    }

    /// Links on the way from its path to the program, outside of what is there anyway.
    pub fn links(&self) -> &[(PathBuf, PathBuf)] {
        &self.links
    }
}

fn check_version(program: &Path, version: &str) -> Result<(), InterpreterError> {
    let numbers: Vec<u32> = version
        .split('.')
        .filter_map(|number| number.parse().ok())
        .collect();
    match numbers[..] {
        [3, minor] if minor >= 9 => Ok(()),
        [_, _] => Err(InterpreterError::TooOld {
            program: program.into(),
            version: version.into(),
        }),
        _ => Err(InterpreterError::NotPython {
            program: program.into(),
            said: version.into(),
        }),
    }
}

/// The program itself; on the way each link of the last component is noted.
fn follow_links(program: &Path, links: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<PathBuf> {
    let mut here = normal(program);
    for _ in 0..LINKS_MAX {
        if !fs::symlink_metadata(&here)?.is_symlink() {
            return fs::canonicalize(&here);
        }
        let link = fs::read_link(&here)?;
        let parent = here.parent().unwrap_or(Path::new("/"));
        let next = normal(&parent.join(&link));
        links.push((here, next.clone()));
        here = next;
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) if !name.as_bytes().is_empty() => out.push(name),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let check = |version| check_version(Path::new("/p"), version);
        assert!(check("3.9").is_ok() && check("3.13").is_ok());
        assert!(matches!(check("3.8"), Err(InterpreterError::TooOld { .. })));
        assert!(matches!(check("2.7"), Err(InterpreterError::TooOld { .. })));
        assert!(matches!(
            check("hello"),
            Err(InterpreterError::NotPython { .. })
        ));
    }

    #[test]
    fn paths_become_normal() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(normal(Path::new("/../a//b/")), Path::new("/a/b"));
    }

    #[test]
    fn a_wrapper_is_told_apart_from_python() {
        let error = Interpreter::on_host(Path::new("/bin/echo")).unwrap_err();
        assert!(
            matches!(error, InterpreterError::NotPython { .. }),
            "{error}"
        );
        let error = Interpreter::on_host(Path::new("/nowhere/python")).unwrap_err();
        assert!(matches!(error, InterpreterError::Missing { .. }), "{error}");
    }
}
