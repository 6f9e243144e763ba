//! What a single crate has no compiler-made walls for: who imports whom, where `unsafe` may live,
//! which calls have a better replacement, how long things may get, what lies in the root.
//!
//! Each rule answers with all its offences at once: file, line, what is wrong, what to do instead.

mod source;

use source::{Kind, Source, Token, root, sources};
use std::fmt::Write as _;
use std::fs;

/// The rooms and whom they may import. `ARCHITECTURE.md` shows the same table.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("policy", &["base"]),
    ("engine", &["base", "policy"]),
    ("http", &["base"]),
    ("wire", &["base"]),
    ("sys", &["base", "wire"]),
    ("io", &["base", "sys"]),
    ("host", &["base", "wire", "sys"]),
    ("config", &["base", "policy"]),
    (
        "driver",
        &[
            "base", "policy", "engine", "http", "wire", "sys", "io", "host", "config",
        ],
    ),
    ("sim", &["base", "policy", "engine", "config"]),
    ("bench", &["base", "sys", "io"]),
    (
        "cli",
        &[
            "base", "policy", "engine", "http", "wire", "sys", "io", "host", "config", "driver",
            "sim", "bench",
        ],
    ),
    ("bin", &["cli"]),
];

/// Rooms that are also compiled without std, and the crates they may use.
const PURE: &[&str] = &["base", "policy", "engine", "http", "wire"];
const PURE_CRATES: &[&str] = &["core", "alloc", "libm", "httparse", "serde", "proptest"];

/// Calls and types with a better replacement, and the places that provide it.
const BANNED: &[Banned] = &[
    Banned {
        what: &["Instant", "::", "now"],
        instead: "take `now: Time` as an argument; sys::clock reads the clock",
        but_in: &["src/sys/clock.rs"],
    },
    Banned {
        what: &["SystemTime", "::", "now"],
        instead: "use sys::clock",
        but_in: &["src/sys/clock.rs"],
    },
    Banned {
        what: &["thread", "::", "sleep"],
        instead: "set a deadline in the agenda",
        but_in: &[],
    },
    Banned {
        what: &["thread", "::", "spawn"],
        instead: "use host::helper, which names and bounds its threads",
        but_in: &["src/host/helper.rs"],
    },
    Banned {
        what: &["HashMap"],
        instead: "use BTreeMap or base::Slab",
        but_in: &[],
    },
    Banned {
        what: &["HashSet"],
        instead: "use BTreeSet or base::Slab",
        but_in: &[],
    },
    Banned {
        what: &["println", "!"],
        instead: "use the log",
        but_in: &["src/cli/"],
    },
    Banned {
        what: &["print", "!"],
        instead: "use the log",
        but_in: &["src/cli/"],
    },
    Banned {
        what: &["eprintln", "!"],
        instead: "use the log",
        but_in: &["src/cli/"],
    },
    Banned {
        what: &["eprint", "!"],
        instead: "use the log",
        but_in: &["src/cli/"],
    },
    Banned {
        what: &[".", "unwrap", "("],
        instead: "handle it, or state the proof with expect()",
        but_in: &[],
    },
    Banned {
        what: &["static", "mut"],
        instead: "pass it as an argument",
        but_in: &[],
    },
    Banned {
        what: &["process", "::", "exit"],
        instead: "return an ExitCode",
        but_in: &["src/cli/"],
    },
    Banned {
        what: &["#", "[", "allow"],
        instead: "use #[expect(.., reason = \"..\")]",
        but_in: &[],
    },
    Banned {
        what: &["Rc", "<", "RefCell"],
        instead: "keep it in a Slab and pass its Key",
        but_in: &[],
    },
];

struct Banned {
    what: &'static [&'static str],
    instead: &'static str,
    but_in: &'static [&'static str],
}

const FILE_LINES_MAX: usize = 850;
/// Tests are lists of cases: read from one end to the other, not lived in.
const TEST_FILE_LINES_MAX: usize = 1100;
const LINE_CHARS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 80;
const TEST_FUNCTION_LINES_MAX: usize = 100;

/// What may lie in the root; hidden files of editors and what git ignores are nobody's business.
const ROOT: &[&str] = &[
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "BENCHMARKS.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "clippy.toml",
    "default-ol",
    "etc",
    "runtimes",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "scripts",
    "src",
    "systemd",
    "target",
    "tests",
];

fn report(rule: &str, offences: &[String]) {
    let mut text = String::new();
    for offence in offences {
        let _ = writeln!(text, "  {offence}");
    }
    assert!(offences.is_empty(), "{rule}:\n{text}");
}

fn for_each(sources: &[Source], rule: fn(&Source) -> Vec<String>) -> Vec<String> {
    sources.iter().flat_map(rule).collect()
}

// Imports.

#[test]
fn rooms_import_only_whom_they_may() {
    report("imports", &for_each(&sources(&["src"]), imports));
}

fn imports(source: &Source) -> Vec<String> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "{}: {room} is no room of this project",
            source.path
        )];
    };
    let mut offences = Vec::new();
    for (line, other) in rooms_named(source) {
        if other != room && !allowed.contains(&other.as_str()) {
            offences.push(format!(
                "{}:{line}: {room} imports {other} (it may import: {})",
                source.path,
                if allowed.is_empty() {
                    "nothing".to_owned()
                } else {
                    allowed.join(", ")
                },
            ));
        }
    }
    offences
}

/// Every room that is named by a path from the crate's root.
fn rooms_named(source: &Source) -> Vec<(usize, String)> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        let from_root = match token.word() {
            Some("crate") => Some(at + 1),
            Some("olworker") if source.room() == Some("bin") => Some(at + 1),
            Some("super") => climbs_to_root(source, at),
            _ => None,
        };
        if let Some(next) = from_root.filter(|next| is_path(tokens, *next)) {
            let names = first_names(&tokens[next + 2..]);
            found.extend(names.into_iter().filter(|(_, name)| is_room(name)));
        }
        at += 1;
    }
    found
}

fn is_room(name: &str) -> bool {
    ROOMS.iter().any(|(room, _)| *room == name)
}

fn is_path(tokens: &[Token], at: usize) -> bool {
    tokens.len() > at + 2 && tokens[at].is_mark(':') && tokens[at + 1].is_mark(':')
}

/// For the first `super` of a chain that ends at the crate's root: where the chain ends.
fn climbs_to_root(source: &Source, at: usize) -> Option<usize> {
    let tokens = &source.tokens;
    if at >= 3 && is_path(tokens, at - 2) && tokens[at - 3].is_word("super") {
        return None;
    }
    let (mut climbed, mut end) = (1, at + 1);
    while is_path(tokens, end) && tokens[end + 2].is_word("super") {
        climbed += 1;
        end += 3;
    }
    (climbed == source.module_depth() + tokens[at].depth).then_some(end)
}

/// `base::Key` names base; `{base::Key, io}` names base and io.
fn first_names(tokens: &[Token]) -> Vec<(usize, String)> {
    if !tokens[0].is_mark('{') {
        return tokens[0]
            .word()
            .map(|word| (tokens[0].line, word.to_owned()))
            .into_iter()
            .collect();
    }
    let mut names = Vec::new();
    let (mut depth, mut at_start) = (0, false);
    for token in tokens {
        match &token.kind {
            Kind::Mark('{') => {
                depth += 1;
                at_start = depth == 1;
            }
            Kind::Mark('}') => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            Kind::Mark(',') => at_start = depth == 1,
            Kind::Word(word) if at_start => {
                names.push((token.line, word.clone()));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn the_documented_table_is_the_one_that_holds() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (room, allowed) in ROOMS {
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{room}` |")));
        let row = row.unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {room}"));
        let written = row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        let held = if allowed.is_empty() {
            "-".to_owned()
        } else {
            allowed.join(", ")
        };
        assert_eq!(written, held, "ARCHITECTURE.md, row of {room}");
    }
}

#[test]
fn pure_rooms_use_no_other_crates() {
    report("pure rooms", &for_each(&sources(&["src"]), foreign_crates));
}

fn foreign_crates(source: &Source) -> Vec<String> {
    if !source.room().is_some_and(|room| PURE.contains(&room)) {
        return Vec::new();
    }
    let dependencies = dependencies();
    let is_foreign = |word: &str| {
        !PURE_CRATES.contains(&word) && (word == "std" || dependencies.iter().any(|d| d == word))
    };
    let tokens = &source.tokens;
    let mut offences = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(word) = token.word().filter(|word| is_foreign(word)) else {
            continue;
        };
        let begins_path = !(at > 0 && tokens[at - 1].is_mark(':'));
        // What is compiled for tests only may use std.
        if begins_path && is_path(tokens, at + 1) && !token.in_test {
            offences.push(format!(
                "{}:{}: {word}:: in a pure room (these may use {})",
                source.path,
                token.line,
                PURE_CRATES.join(", ")
            ));
        }
    }
    offences
}

/// The crates of Cargo.toml, as paths spell them.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, rest) = manifest.split_once("[dependencies]").unwrap();
    let (section, _) = rest.split_once("\n[").unwrap();
    let names = section.lines().filter(|line| !line.starts_with('#'));
    names
        .filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_")))
        .collect()
}

// Unsafe.

#[test]
fn unsafe_lives_in_sys() {
    // What ships; a test that counts allocations has to be an allocator.
    report("unsafe", &for_each(&sources(&["src"]), unsafe_elsewhere));
}

fn unsafe_elsewhere(source: &Source) -> Vec<String> {
    if source.room() == Some("sys") {
        return Vec::new();
    }
    let found = source.tokens.iter().filter(|token| token.is_word("unsafe"));
    let offence = |token: &Token| format!("{}:{}: unsafe outside src/sys", source.path, token.line);
    let mut offences: Vec<_> = found.map(offence).collect();
    let is_head = source
        .room()
        .is_some_and(|room| source.path == format!("src/{room}/mod.rs"));
    if is_head && !source.text.contains("#![forbid(unsafe_code)]") {
        offences.push(format!(
            "{}: begin the room with #![forbid(unsafe_code)]",
            source.path
        ));
    }
    offences
}

// Words.

#[test]
fn banned_calls_are_not_used() {
    report("banned", &for_each(&sources(&["src"]), banned));
}

fn banned(source: &Source) -> Vec<String> {
    let mut offences = Vec::new();
    for banned in BANNED {
        if banned
            .but_in
            .iter()
            .any(|place| source.path.starts_with(place))
        {
            continue;
        }
        let wanted = spelled(banned.what);
        let found = source.tokens.windows(wanted.len()).filter(|tokens| {
            !tokens[0].in_test
                && tokens
                    .iter()
                    .zip(&wanted)
                    .all(|(token, kind)| token.kind == *kind)
        });
        offences.extend(found.map(|tokens| {
            let what = banned.what.concat();
            format!(
                "{}:{}: {what}: {}",
                source.path, tokens[0].line, banned.instead
            )
        }));
    }
    offences
}

/// `["a", "::", "b"]` as tokens.
fn spelled(what: &[&str]) -> Vec<Kind> {
    let spell = |part: &&str| -> Vec<Kind> {
        if part.chars().all(|c| c.is_alphanumeric() || c == '_') {
            vec![Kind::Word((*part).to_owned())]
        } else {
            part.chars().map(Kind::Mark).collect()
        }
    };
    what.iter().flat_map(spell).collect()
}

#[test]
fn nothing_is_left_for_later() {
    report(
        "unfinished",
        &for_each(&sources(&["src", "tests", "benches"]), unfinished),
    );
}

fn unfinished(source: &Source) -> Vec<String> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let left = |text: &str| marks.iter().any(|mark| text.contains(mark));
    let found = source.comments.iter().filter(|comment| left(&comment.text));
    found
        .map(|comment| format!("{}:{}: do it now or drop it", source.path, comment.line))
        .collect()
}

// Sizes.

#[test]
fn nothing_is_too_long() {
    let sources = sources(&["src", "tests", "benches"]);
    let mut offences = for_each(&sources, too_long);
    for directory in ["scripts", "runtimes", "tests", ".ci"] {
        for path in source::files_below(directory) {
            // Scripts; recorded data may be as wide as it likes.
            let is_script = path.extension().is_none_or(|extension| extension == "py");
            if let Some(text) = fs::read_to_string(&path).ok().filter(|_| is_script) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                offences.extend(long_lines(name, &text));
            }
        }
    }
    report("too long", &offences);
}

fn too_long(source: &Source) -> Vec<String> {
    let mut offences = long_lines(&source.path, &source.text);
    let lines = source.text.lines().count();
    let is_test = source.path.starts_with("tests/");
    let (file_max, function_max) = if is_test {
        (TEST_FILE_LINES_MAX, TEST_FUNCTION_LINES_MAX)
    } else {
        (FILE_LINES_MAX, FUNCTION_LINES_MAX)
    };
    if lines > file_max {
        offences.push(format!(
            "{}: {lines} lines (at most {file_max})",
            source.path
        ));
    }
    for (name, line, lines) in source.functions() {
        if lines > function_max {
            let path = &source.path;
            offences.push(format!(
                "{path}:{line}: fn {name} has {lines} lines (at most {function_max})"
            ));
        }
    }
    offences
}

fn long_lines(path: &str, text: &str) -> Vec<String> {
    let long = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.chars().count() > LINE_CHARS_MAX);
    let offence = |(at, line): (usize, &str)| {
        format!(
            "{path}:{}: {} characters (at most {LINE_CHARS_MAX})",
            at + 1,
            line.chars().count()
        )
    };
    long.map(offence).collect()
}

// Places.

#[test]
fn the_root_holds_only_what_belongs_there() {
    let names = fs::read_dir(root()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strangers = names.filter(|name| !name.starts_with('.') && !ROOT.contains(&name.as_str()));
    let offences: Vec<_> = strangers
        .map(|name| format!("{name}: where does it belong?"))
        .collect();
    report("root", &offences);
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let homes = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
    ];
    let mut offences = Vec::new();
    for directory in ROOT
        .iter()
        .filter(|name| !["target", "default-ol"].contains(*name))
    {
        let path = root().join(directory);
        let files = if path.is_dir() {
            source::files_below(directory)
        } else {
            vec![path]
        };
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            for (at, line) in text.lines().enumerate() {
                if homes.iter().any(|home| line.contains(home)) {
                    offences.push(format!("{}:{}: {line}", file.display(), at + 1));
                }
            }
        }
    }
    report("paths of one machine", &offences);
}

// Events.

#[test]
fn each_named_event_is_in_the_table_of_messages() {
    report("events", &for_each(&sources(&["src"]), unknown_events));
}

/// `log::warn!(event = "name"; ..)` must name a message of that level.
fn unknown_events(source: &Source) -> Vec<String> {
    let mut offences = Vec::new();
    for (name, level, line) in events(source) {
        let complaint = match olworker::host::log::messages::find(&name) {
            None => "is not in src/host/log/messages.rs".to_owned(),
            Some(message) if message.level.as_str().eq_ignore_ascii_case(&level) => continue,
            Some(message) => format!("is said as {level} but listed as {}", message.level),
        };
        offences.push(format!("{}:{line}: event {name} {complaint}", source.path));
    }
    offences
}

/// Name, level and line of each event in a log macro that ships.
fn events(source: &Source) -> Vec<(String, String, usize)> {
    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
    let tokens = &source.tokens;
    let mut found = Vec::new();
    for (at, window) in tokens.windows(3).enumerate() {
        let [word, equals, text] = window else {
            continue;
        };
        let Kind::Text(name) = &text.kind else {
            continue;
        };
        if !word.is_word("event") || !equals.is_mark('=') || word.in_test {
            continue;
        }
        let before = tokens[..at].windows(2).rev().find_map(|pair| {
            let level = pair[0].word().filter(|word| LEVELS.contains(word))?;
            pair[1].is_mark('!').then(|| level.to_owned())
        });
        found.push((name.clone(), before.unwrap_or_default(), word.line));
    }
    found
}

// The rules themselves: each must catch what it is for.

fn in_file(path: &str, text: &str) -> Source {
    Source::new(path.to_owned(), text.to_owned())
}

#[test]
fn the_import_rule_sees_every_way_to_name_a_room() {
    let count = |path: &str, text: &str| imports(&in_file(path, text)).len();
    assert_eq!(count("src/http/head.rs", "use crate::base::Key;"), 0);
    assert_eq!(count("src/http/head.rs", "use crate::io::Io;"), 1);
    assert_eq!(count("src/http/head.rs", "fn f(io: &crate::io::Io) {}"), 1);
    assert_eq!(
        count(
            "src/http/head.rs",
            "use crate::{base::{Key, io}, host, sys::x};"
        ),
        2
    );
    assert_eq!(count("src/http/head.rs", "use super::super::io::Io;"), 1);
    assert_eq!(count("src/http/mod.rs", "use super::io::Io;"), 1);
    assert_eq!(
        count("src/http/head.rs", "mod tests { use super::io::Io; }"),
        0
    );
    assert_eq!(
        count(
            "src/http/head.rs",
            "mod tests { use super::super::super::io::Io; }"
        ),
        1
    );
    assert_eq!(
        count(
            "src/http/head.rs",
            "// use crate::io\nconst S: &str = \"crate::io::x\";"
        ),
        0
    );
    assert_eq!(
        count("src/bin/ol.rs", "fn main() { olworker::driver::run() }"),
        1
    );
    assert_eq!(count("src/drawer/mod.rs", ""), 1);
}

#[test]
fn the_other_rules_see_what_they_are_for() {
    let path = "src/http/mod.rs";
    let shipped = "fn f() { x.unwrap(); Instant::now(); let m = HashMap::new(); }";
    assert_eq!(banned(&in_file(path, shipped)).len(), 3);
    let tested = "#[cfg(test)] mod tests { fn f() { x.unwrap(); } } fn g() { y.unwrap() }";
    assert_eq!(banned(&in_file(path, tested)).len(), 1);
    assert_eq!(
        banned(&in_file(
            path,
            "let s = r#\"x.unwrap()\"#; 'a'; &'a str; '\\''"
        ))
        .len(),
        0
    );
    assert_eq!(
        foreign_crates(&in_file(path, "use std::fs; use core::fmt;")).len(),
        1
    );
    assert_eq!(
        foreign_crates(&in_file(path, "fn f() { log::info!(\"\"); libc::x() }")).len(),
        2
    );
    let forbidding = "#![forbid(unsafe_code)]\nfn f() { unsafe { x() } }";
    assert_eq!(unsafe_elsewhere(&in_file(path, forbidding)).len(), 1);
    assert_eq!(unsafe_elsewhere(&in_file(path, "")).len(), 1);
    assert_eq!(
        unfinished(&in_file(path, concat!("// TO", "DO: later"))).len(),
        1
    );
    let long = format!(
        "fn f() {{\n{}}}\nfn g();",
        "x;\n".repeat(TEST_FUNCTION_LINES_MAX)
    );
    assert_eq!(too_long(&in_file(path, &long)).len(), 1);
    assert_eq!(too_long(&in_file(path, &"x".repeat(101))).len(), 1);
    assert_eq!(
        too_long(&in_file(path, &"x\n".repeat(TEST_FILE_LINES_MAX + 1))).len(),
        1
    );
    let said = "fn f() { log::warn!(event = \"worker-ready\"; \"\"); }";
    assert_eq!(
        unknown_events(&in_file(path, said)).len(),
        1,
        "it is an info"
    );
    assert_eq!(
        unknown_events(&in_file(path, &said.replace("warn", "info"))).len(),
        0
    );
    assert_eq!(
        unknown_events(&in_file(path, &said.replace("ready", "steady"))).len(),
        1
    );
}
