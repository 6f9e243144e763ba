//! What is said of wrong configurations, word for word.
//!
//! Each `tests/data/config/NAME.toml` is read for a machine with 8 GB; what is wrong with it, a
//! line a problem, must be what stands in `NAME.txt` beside it. `OLWORKER_WRITE=1` writes those
//! files anew, for a person to judge in the diff.

use olworker::config::{Machine, Request, load};
use std::fs;
use std::path::{Path, PathBuf};

const MACHINE: Machine = Machine {
    ram_bytes: 8 << 30,
    cpus: 2,
};

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let entries = fs::read_dir(&directory).expect("the cases are part of the source");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut cases: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    cases.sort();
    cases
}

/// The lines that would be told, with the directory left out of paths.
fn told(case: &Path) -> String {
    let request = Request {
        file: Some(case.to_path_buf()),
        working_directory: PathBuf::from("/"),
        ..Request::default()
    };
    let problems = match load(&request, MACHINE) {
        Ok(loaded) => panic!("{} is taken: {:?}", case.display(), loaded.warnings),
        Err(problems) => problems,
    };
    let directory = format!("{}/", case.parent().expect("a case has a place").display());
    let line = |problem: &olworker::config::Problem| format!("{problem}\n");
    problems
        .iter()
        .map(line)
        .collect::<String>()
        .replace(&directory, "")
}

#[test]
fn every_wrong_file_is_told_as_expected() {
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let mut different = Vec::new();
    for case in &cases {
        let (expected, told) = (case.with_extension("txt"), told(case));
        if std::env::var_os("OLWORKER_WRITE").is_some() {
            fs::write(&expected, &told).expect("the source tree can be written");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if told != expected {
            let name = case.file_name().expect("a case has a name").display();
            different.push(format!("{name}\n--- expected\n{expected}--- told\n{told}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn every_problem_is_one_line_with_a_place_and_a_remedy() {
    for case in cases() {
        for line in told(&case).lines() {
            assert!(line.contains(": "), "{line}");
            assert!(line.ends_with(')') && line.contains(" ("), "{line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}
