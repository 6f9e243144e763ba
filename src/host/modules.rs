//! What a package is called when it is imported: `scikit-learn` is `sklearn`.
//!
//! An installed package says so itself: `top_level.txt` where its builder wrote one, else the first
//! parts of the paths in its RECORD. One that is not installed is guessed by its name.

use crate::base::packages::normalised;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules of what lies in one directory.
#[derive(Debug)]
pub struct Modules {
    directory: PathBuf,
    /// By normalised name, as last read.
    known: BTreeMap<String, Vec<String>>,
}

impl Modules {
    pub fn of(directory: &Path) -> Self {
        Self {
            directory: directory.to_path_buf(),
            known: BTreeMap::new(),
        }
    }

    /// What to import for a package. Reads the directory again when the name is new.
    pub fn named(&mut self, package: &str) -> Vec<String> {
        if !self.known.contains_key(package) {
            self.read();
        }
        match self.known.get(package) {
            Some(modules) => modules.clone(),
            None => vec![package.replace('-', "_")],
        }
    }

    /// Whether the package lies in the directory.
    pub fn has(&mut self, package: &str) -> bool {
        if !self.known.contains_key(package) {
            self.read();
        }
        self.known.contains_key(package)
    }

    fn read(&mut self) {
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let Some(stem) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".dist-info"))
            else {
                continue;
            };
            let package = stem.rsplit_once('-').map_or(stem, |(name, _)| name);
            let modules = top_level(&entry.path());
            if !modules.is_empty() {
                self.known.insert(normalised(package), modules);
            }
        }
    }
}

fn top_level(info: &Path) -> Vec<String> {
    let listed = fs::read_to_string(info.join("top_level.txt")).unwrap_or_default();
    let mut modules: Vec<String> = listed.split_whitespace().map(str::to_owned).collect();
    if modules.is_empty() {
        let record = fs::read_to_string(info.join("RECORD")).unwrap_or_default();
        let found: BTreeSet<&str> = record.lines().filter_map(module_of_path).collect();
        modules = found.into_iter().map(str::to_owned).collect();
    }
    // Private helpers come with the module that needs them.
    modules.retain(|module| is_name(module) && !module.starts_with('_'));
    modules
}

/// `numpy/__init__.py,sha256=...,...` and `six.py,...` are modules; scripts and metadata are not.
fn module_of_path(line: &str) -> Option<&str> {
    let path = line.split(',').next()?;
    match path.split_once('/') {
        Some((directory, "__init__.py")) => Some(directory),
        Some(_) => None,
        None => path.strip_suffix(".py"),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_says_its_modules_and_others_are_guessed() {
        let root = std::env::temp_dir().join(format!("ol-modules-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "scikit_learn-1.4.dist-info/top_level.txt",
            "sklearn\n_private\n",
        );
        write(
            "PyYAML-6.0.dist-info/RECORD",
            "yaml/__init__.py,sha256=x,1\nyaml/a.py,,\n_yaml/__init__.py,,\n../bin/y,,\n",
        );
        let mut modules = Modules::of(&root);
        assert_eq!(modules.named("scikit-learn"), ["sklearn"]);
        assert_eq!(modules.named("pyyaml"), ["yaml"]);
        assert_eq!(modules.named("some-thing"), ["some_thing"]);
        assert!(modules.has("pyyaml") && !modules.has("some-thing"));
        fs::remove_dir_all(&root).unwrap();
    }
}
