//! Configurations nobody would write: whatever comes, there is an answer and no panic.
//!
//! A plain test tries a fixed number of inputs; `OLWORKER_FUZZ_SECS=600` goes on for that long and
//! `OLWORKER_FUZZ_SEED` begins elsewhere. An input that fails is printed as it would be typed.

use olworker::config::keys::KEYS;
use olworker::config::meaning::Home;
use olworker::config::read::{SourceFile, Sources, read};
use olworker::config::tree::Tree;
use olworker::config::{Machine, render};
use std::fs;
use std::io::Write as _;
use std::panic;
use std::path::{Path, PathBuf};

/// Inputs that every run tries.
const INPUTS: u64 = 2000;
/// An input is cut there.
const BYTES_MAX: usize = 20_000;

const MACHINE: Machine = Machine {
    ram_bytes: 8 << 30,
    cpus: 2,
};

/// A small generator of its own: the same seed gives the same inputs for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// What TOML, JSON and this configuration are made of.
const TOKENS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "[[",
    "]]",
    "=",
    ",",
    ".",
    ":",
    "#",
    "\n",
    "\r\n",
    "\"",
    "'",
    "'''",
    "\"\"\"",
    "\\",
    "\\u0000",
    "\\U0010FFFF",
    "true",
    "false",
    "inf",
    "nan",
    "-",
    "+",
    "_",
    "0",
    "1e400",
    "0x",
    "18446744073709551616",
    "-9223372036854775809",
    "2026-01-01T00:00:00Z",
    "{\"packages\":",
    "\"children\":[",
    "null",
    "numpy==1.26.4",
    "import_cache_tree = ",
    "é",
    "\u{feff}",
    "\0",
    "\u{1b}[2J",
    "\u{2028}",
    "host",
    "file://",
    "s3://",
    "127.0.0.1:5000",
    "",
];

fn corpus() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config");
    let entries = fs::read_dir(&directory).expect("the cases are part of the source");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    let tomls = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "toml"));
    let mut corpus: Vec<String> = tomls
        .map(|path| fs::read_to_string(path).expect("a case is text"))
        .collect();
    corpus.push(render::shipped());
    corpus
}

/// One change of a text, at places that keep it text.
fn mutate(text: &mut String, corpus: &[String], random: &mut Random) {
    let place = |text: &String, random: &mut Random| {
        let at = random.below(text.len() + 1);
        (0..=at)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .expect("0 is one")
    };
    let at = place(text, random);
    match random.below(8) {
        0 => text.insert_str(at, random.pick(TOKENS)),
        1 => {
            let end = place(text, random);
            text.replace_range(at.min(end)..at.max(end), "");
        }
        2 => {
            let key = &KEYS[random.below(KEYS.len())];
            let token = random.pick(TOKENS);
            text.insert_str(at, &format!("\n{} = {token}\n", key.name));
        }
        3 => {
            let other = &corpus[random.below(corpus.len())];
            let from = place(other, random);
            text.insert_str(at, &other[from..]);
        }
        4 => text.insert_str(at, &random.pick(TOKENS).repeat(random.below(200))),
        5 => {
            let section = KEYS[random.below(KEYS.len())].section();
            text.insert_str(at, &format!("\n[{section}]\n"));
        }
        6 => text.insert(
            at,
            char::from_u32(random.next() as u32 % 0x11_0000).unwrap_or('\u{0}'),
        ),
        _ => text.truncate(at),
    }
    if text.len() > BYTES_MAX {
        let cut = (0..=BYTES_MAX)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .expect("0 is one");
        text.truncate(cut);
    }
}

fn sources(text: &str, is_override: bool) -> Sources {
    let mut sources = Sources {
        working_directory: PathBuf::from("/srv"),
        ..Sources::default()
    };
    if is_override {
        sources.overrides.push(text.to_owned());
    } else {
        let path = PathBuf::from("/etc/olworker/olworker.toml");
        sources.files.push(SourceFile {
            path,
            text: text.to_owned(),
        });
    }
    sources
}

/// What must hold of any text.
fn judge(text: &str, is_override: bool) {
    match read(&sources(text, is_override), Home::installed(), MACHINE) {
        Ok(loaded) => {
            let again = render::toml(&loaded.config, "again");
            let again = read(&sources(&again, false), Home::installed(), MACHINE);
            let again = again.map_err(|problems| problems[0].to_string());
            assert_eq!(again.map(|loaded| loaded.config), Ok(loaded.config));
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                let line = problem.to_string();
                assert!(!line.contains(char::is_control), "{line:?}");
                assert!(line.ends_with(')'), "{line}");
                assert!(line.len() < 4000, "{} bytes", line.len());
            }
        }
    }
    if let Ok(tree) = Tree::from_json(text) {
        assert_eq!(Tree::from_json(&tree.to_json()), Ok(tree.clone()));
        assert_eq!(tree.shape().len(), tree.count());
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn any_text_has_an_answer() {
    let corpus = corpus();
    let seed = from_environment("OLWORKER_FUZZ_SEED").unwrap_or(1).max(1);
    let seconds = from_environment("OLWORKER_FUZZ_SECS").unwrap_or(0);
    let begin = olworker::sys::clock::now();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut tried = 0;
    while tried < INPUTS || olworker::sys::clock::now().since(begin).as_secs() < seconds {
        let mut text = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(6) {
            mutate(&mut text, &corpus, &mut random);
        }
        let is_override = random.below(4) == 0;
        let judged = panic::catch_unwind(|| judge(&text, is_override));
        assert!(
            judged.is_ok(),
            "after {tried} inputs (override: {is_override}): {text:?}"
        );
        tried += 1;
    }
    if seconds > 0 {
        writeln!(std::io::stderr(), "{tried} inputs in {seconds} s").expect("stderr");
    }
}
