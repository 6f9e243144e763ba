//! What a function's entry file imports, read without running it.
//!
//! Hints (`# ol-import: numpy, pandas`) and the import statements of the file, by the first part of
//! each name. What is computed, or imported by what is imported, is not seen; what is named in a
//! string that looks like a statement is seen in vain. The trace tells it, nothing is decided by
//! it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Of the file, so much is looked at.
const BYTES_MAX: u64 = 1 << 20;
/// Names kept of one function.
const NAMES_MAX: usize = 256;

/// The modules that the file at `path` names. Blocks.
pub fn of(path: &Path) -> io::Result<Vec<String>> {
    let mut text = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?.take(BYTES_MAX).read_to_end(&mut text)?,
    };
    Ok(named(&String::from_utf8_lossy(&text)))
}

fn named(text: &str) -> Vec<String> {
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim();
        let list = if let Some(comment) = line.strip_prefix('#') {
            comment.trim_start().strip_prefix("ol-import:")
        } else if let Some(rest) = line.strip_prefix("from ") {
            rest.split_once(" import ").map(|(module, _)| module)
        } else {
            line.strip_prefix("import ")
        };
        let code = list.map(|list| list.split(['#', ';']).next().unwrap_or_default());
        let modules = code.into_iter().flat_map(|list| list.split(','));
        for module in modules {
            let module = module.split_whitespace().next().unwrap_or_default();
            let first = module.split('.').next().unwrap_or_default();
            if names.len() < NAMES_MAX && is_name(first) {
                names.insert(first.to_owned());
            }
        }
    }
    names.into_iter().collect()
}

fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    starts_well && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_and_hints_are_read() {
        let text = "# ol-import: numpy, pandas.core\n\
                    import json, os.path as path  # not this, nor this\n\
                    from . import sibling\n\
                    from .sibling import x\n\
                    from scipy.linalg import inv\n\
                    def f(event):\n    import six; return importlib\n\
                    # import nothing\n\
                    important = 1\n";
        let wanted = ["json", "numpy", "os", "pandas", "scipy", "six"];
        assert_eq!(named(text), wanted);
    }
}
