//! Where the parts of an installation are: the two programs, the library that zygotes load, the
//! runtimes.
//!
//! ```text
//! beside the executable          target/release/{ol,olworker,libolworker.so,deps/libolworker.so}
//! the source tree                runtimes/, of the tree the executable lies in or was built from
//! installed                      /usr/lib/olworker/{olworker,libolworker.so,runtimes/}
//! ```
//!
//! An executable below /usr is installed: nothing of a source tree is ever looked at for it, since
//! whoever owns the directory it was once built in would then own the worker.

use std::path::{Path, PathBuf};

const INSTALLED: &str = "/usr/lib/olworker";
const LIBRARY: &str = "libolworker.so";
/// The tree this was compiled in; it may be gone.
const BUILT_FROM: &str = env!("CARGO_MANIFEST_DIR");
/// How far above an executable its source tree may begin: target/TRIPLE/release/deps.
const LEVELS_MAX: usize = 5;

/// A part that is nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub part: &'static str,
    pub looked_at: Vec<PathBuf>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let looked_at: Vec<String> = self
            .looked_at
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        write!(
            f,
            "{} is at none of {} (build all of it with cargo build, or install it)",
            self.part,
            looked_at.join(", ")
        )
    }
}

/// Finds the parts that belong to one executable.
#[derive(Clone, Debug)]
pub struct Places {
    executable: PathBuf,
}

impl Places {
    /// Of the running program.
    pub fn of_this_program() -> std::io::Result<Self> {
        let link = std::fs::read_link("/proc/self/exe")?;
        Ok(Self::of(&link))
    }

    /// Of the program at this path, as /proc names it.
    pub fn of(executable: &Path) -> Self {
        // A program that was replaced while it runs: what is there now is the newer one.
        let text = executable
            .to_str()
            .and_then(|text| text.strip_suffix(" (deleted)"));
        Self {
            executable: text.map_or_else(|| executable.to_path_buf(), PathBuf::from),
        }
    }

    /// The daemon.
    pub fn worker(&self) -> Result<PathBuf, Missing> {
        let mut places = self.beside("olworker");
        places.push(Path::new(INSTALLED).join("olworker"));
        if self.is_installed() {
            places.extend(["/usr/bin/olworker", "/usr/sbin/olworker"].map(PathBuf::from));
        }
        first("olworker", places, Path::is_file)
    }

    /// What a zygote loads into its interpreter.
    pub fn library(&self) -> Result<PathBuf, Missing> {
        let mut places = Vec::new();
        if let (Some(directory), false) = (self.executable.parent(), self.is_installed()) {
            // Cargo puts it here whenever it builds it, but one level up only where it was asked
            // for by name: what lies there may be missing, or older than the program.
            places.push(directory.join("deps").join(LIBRARY));
        }
        places.extend(self.beside(LIBRARY));
        places.push(Path::new(INSTALLED).join(LIBRARY));
        first(LIBRARY, places, Path::is_file)
    }

    /// The directory with `python/` and others.
    pub fn runtimes(&self) -> Result<PathBuf, Missing> {
        let mut places = self.beside("runtimes");
        if !self.is_installed() {
            let trees = self.executable.ancestors().skip(2).take(LEVELS_MAX);
            let trees = trees.filter(|tree| tree.join("Cargo.toml").is_file());
            places.extend(trees.map(|tree| tree.join("runtimes")));
            places.push(Path::new(BUILT_FROM).join("runtimes"));
        }
        places.push(Path::new(INSTALLED).join("runtimes"));
        first("runtimes/python", places, |place| {
            place.join("python").is_dir()
        })
    }

    /// In the executable's directory; test programs are one below it.
    fn beside(&self, name: &str) -> Vec<PathBuf> {
        let mut places = Vec::new();
        if let Some(directory) = self.executable.parent() {
            places.push(directory.join(name));
            if let (Some(outer), true) = (directory.parent(), directory.ends_with("deps")) {
                places.push(outer.join(name));
            }
        }
        places
    }

    fn is_installed(&self) -> bool {
        let local = self.executable.starts_with("/usr/src")
            || self.executable.starts_with("/usr/local/src");
        self.executable.starts_with("/usr") && !local
    }
}

fn first(
    part: &'static str,
    mut places: Vec<PathBuf>,
    fits: impl Fn(&Path) -> bool,
) -> Result<PathBuf, Missing> {
    if let Some(index) = places.iter().position(|place| fits(place)) {
        return Ok(places.swap_remove(index));
    }
    places.dedup();
    Err(Missing {
        part,
        looked_at: places,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[&str]) -> Self {
            let name = format!("olworker-places-{name}-{}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for file in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
                fs::write(path, "").expect("a file");
            }
            Self(root)
        }

        fn places(&self, executable: &str) -> Places {
            Places::of(&self.0.join(executable))
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }

    #[test]
    fn a_build_finds_its_parts_and_its_tree() {
        let tree = Tree::new(
            "build",
            &[
                "Cargo.toml",
                "runtimes/python/serve.py",
                "target/release/olworker",
                "target/release/libolworker.so",
            ],
        );
        for executable in [
            "target/release/ol",
            "target/release/deps/cli-1",
            "target/release/ol (deleted)",
        ] {
            let places = tree.places(executable);
            assert_eq!(
                places.worker().unwrap(),
                tree.0.join("target/release/olworker")
            );
            assert_eq!(
                places.library().unwrap(),
                tree.0.join("target/release/libolworker.so")
            );
            assert_eq!(places.runtimes().unwrap(), tree.0.join("runtimes"));
        }
    }

    #[test]
    fn the_library_of_this_build_is_taken_not_one_that_was_left() {
        let old = "target/debug/libolworker.so";
        let new = "target/debug/deps/libolworker.so";
        let tree = Tree::new("newest", &["target/debug/olworker", old, new]);
        for executable in ["target/debug/olworker", "target/debug/deps/cli-1"] {
            let found = tree.places(executable).library().unwrap();
            assert_eq!(found, tree.0.join(new));
        }
        fs::remove_file(tree.0.join(old)).unwrap();
        let found = tree.places("target/debug/ol").library().unwrap();
        assert_eq!(found, tree.0.join(new));
    }

    #[test]
    fn what_lies_beside_wins() {
        let tree = Tree::new(
            "beside",
            &[
                "Cargo.toml",
                "runtimes/python/x",
                "bin/runtimes/python/x",
                "bin/olworker",
            ],
        );
        let places = tree.places("bin/ol");
        assert_eq!(places.runtimes().unwrap(), tree.0.join("bin/runtimes"));
        assert_eq!(places.worker().unwrap(), tree.0.join("bin/olworker"));
    }

    #[test]
    fn an_installed_program_never_looks_at_a_source_tree() {
        let places = Places::of(Path::new("/usr/bin/no-such-ol"));
        if let Err(missing) = places.runtimes() {
            assert!(
                missing
                    .looked_at
                    .iter()
                    .all(|path| path.starts_with("/usr")),
                "{missing}"
            );
        }
        assert!(places.is_installed());
        assert!(!Places::of(Path::new("/usr/src/olworker/target/release/ol")).is_installed());
    }

    #[test]
    fn what_is_nowhere_is_told_with_where_it_was_looked_for() {
        let tree = Tree::new("nowhere", &["bin/ol"]);
        let missing = tree.places("bin/ol").library().expect_err("there is none");
        let text = missing.to_string();
        assert!(
            text.contains("bin/libolworker.so, /usr/lib/olworker/libolworker.so"),
            "{text}"
        );
    }
}
