//! Sources to a configuration: files in their order, then what the command line overrides.
//!
//! ```text
//! text --parse--> table --walk--> assignments --put--> Config --contradictions--> Loaded
//! ```
//!
//! Pure: texts come in, a configuration or all that is wrong with them goes out. Reading goes on
//! behind a problem, so that one run tells everything; only a file with wrong syntax is left aside,
//! because what it says is not known. Serde's derived readers stop at the first error: that is why
//! the walk is by hand.

use super::contradictions;
use super::key::Key;
use super::keys::{self, KEYS, SECTIONS};
use super::meaning::{Config, Home, Machine};
use super::nearest::nearest;
use super::problem::{Origin, Place, Problem, quoted};
use super::syntax;
use super::typed::Typed;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Problems told of one run.
const PROBLEMS_MAX: usize = 100;

/// What a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Later wins.
    pub files: Vec<SourceFile>,
    /// `a.b=value`, each; they win over files.
    pub overrides: Vec<String>,
    /// Relative paths of overrides are below it.
    pub working_directory: PathBuf,
}

#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    pub text: String,
}

/// A configuration that holds, and where each value of it was typed.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub origins: Origins,
    /// What is odd but can be run.
    pub warnings: Vec<Problem>,
}

/// Where the value of each key comes from; built-in where it is not listed.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    pub fn of(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or(Origin::BuiltIn)
    }
}

/// Reads everything; tree files are left to the caller.
pub fn read(sources: &Sources, home: Home, machine: Machine) -> Result<Loaded, Vec<Problem>> {
    let mut reading = Reading {
        config: Config::defaults(home, machine),
        origins: Origins::default(),
        problems: Vec::new(),
    };
    for (order, file) in sources.files.iter().enumerate() {
        reading.file(order, file);
    }
    for (order, text) in sources.overrides.iter().enumerate() {
        reading.an_override(&Origin::Override(order), text, &sources.working_directory);
    }
    reading.finish(machine)
}

struct Reading {
    config: Config,
    origins: Origins,
    problems: Vec<Problem>,
}

/// The source that is being walked.
struct Source<'a> {
    /// With its line to be filled in.
    origin: Origin,
    text: &'a str,
    beside: &'a Path,
}

impl Source<'_> {
    fn at(&self, offset: usize) -> Origin {
        match &self.origin {
            Origin::File { order, path, .. } => Origin::File {
                order: *order,
                path: Arc::clone(path),
                line: syntax::line_at(self.text, offset),
            },
            origin => origin.clone(),
        }
    }
}

impl Reading {
    fn finish(mut self, machine: Machine) -> Result<Loaded, Vec<Problem>> {
        if self.config.pool.mem_bytes == 0 {
            self.config.pool.mem_bytes = machine.pool_bytes();
        }
        let found = contradictions::find(&self.config, &self.origins, machine);
        self.problems.extend(found.problems);
        if self.problems.is_empty() {
            let (config, origins) = (self.config, self.origins);
            return Ok(Loaded {
                config,
                origins,
                warnings: found.warnings,
            });
        }
        // By source and line; those of a source as a whole stay where they were found.
        self.problems.sort_by_key(|problem| match &problem.place {
            Place::Typed(origin) => Some(origin.clone()),
            Place::File(_) => None,
        });
        self.problems.truncate(PROBLEMS_MAX);
        Err(self.problems)
    }

    fn file(&mut self, order: usize, file: &SourceFile) {
        let path: Arc<Path> = Arc::from(file.path.as_path());
        let source = Source {
            origin: Origin::File {
                order,
                path,
                line: 1,
            },
            text: &file.text,
            beside: file.path.parent().unwrap_or(Path::new("/")),
        };
        let readable = syntax::readable(&file.text);
        if !readable.broken {
            let table = DeTable::parse(&readable.text).expect("it was found readable");
            self.table(&source, "", table.get_ref());
        }
        for error in readable.errors {
            self.problems.push(Problem {
                place: Place::Typed(source.at(error.offset)),
                key: error.key,
                why: error.why,
                remedy: error.remedy,
            });
        }
    }

    /// Every entry of a table whose full name is `prefix`.
    fn table(&mut self, source: &Source<'_>, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let full = match prefix {
                "" => name.get_ref().to_string(),
                prefix => format!("{prefix}.{}", name.get_ref()),
            };
            self.entry(source, &full, name.span().start, value);
        }
    }

    fn entry(
        &mut self,
        source: &Source<'_>,
        full: &str,
        offset: usize,
        value: &Spanned<DeValue<'_>>,
    ) {
        if self.problems.len() >= PROBLEMS_MAX {
            // Enough is wrong; each further one would cost a count of lines.
            return;
        }
        let origin = source.at(offset);
        if let Some(key) = keys::find(full) {
            let typed = Typed::read(value.get_ref());
            return self.put(key, &typed, origin, source.beside);
        }
        match (keys::is_section(full), value.get_ref()) {
            (true, DeValue::Table(table)) => self.table(source, full, table),
            (true, _) => {
                let remedy = format!("write [{full}] and its keys below it");
                self.problems
                    .push(Problem::at(&origin, full, "a section, not a key", &remedy));
            }
            (false, value) => {
                let is_section = matches!(value, DeValue::Table(_));
                self.problems.push(unknown(&origin, full, is_section));
            }
        }
    }

    fn put(&mut self, key: &'static Key, typed: &Typed, origin: Origin, beside: &Path) {
        match key.put(&mut self.config, typed, beside) {
            Ok(()) => {
                self.origins.0.insert(key.name, origin);
            }
            Err(refused) => {
                self.problems
                    .push(Problem::at(&origin, key.name, refused.why, &refused.remedy));
            }
        }
    }

    /// `a.b=value`: TOML where it is TOML of the key's type, else a string as it stands.
    fn an_override(&mut self, origin: &Origin, text: &str, beside: &Path) {
        let Some((name, value)) = text.split_once('=') else {
            let why = format!("{} has no =", quoted(text));
            let problem = Problem::at(origin, text, why, "write -o section.key=value");
            return self.problems.push(problem);
        };
        let name = name.trim();
        let parsed = DeValue::parse(value).ok();
        let Some(key) = keys::find(name) else {
            return self.section_override(origin, name, parsed.as_ref(), beside);
        };
        let typed = parsed.map(|value| Typed::read(value.get_ref()));
        let typed = typed.filter(|typed| key.takes(typed));
        let typed = typed.unwrap_or_else(|| Typed::Text(value.to_owned()));
        self.put(key, &typed, origin.clone(), beside);
    }

    /// `limits={mem_mb = 64, procs = 8}`: a whole section in one.
    fn section_override(
        &mut self,
        origin: &Origin,
        name: &str,
        value: Option<&Spanned<DeValue<'_>>>,
        beside: &Path,
    ) {
        let source = Source {
            origin: origin.clone(),
            text: "",
            beside,
        };
        match (keys::is_section(name), value.map(Spanned::get_ref)) {
            (true, Some(DeValue::Table(table))) => self.table(&source, name, table),
            (true, _) => {
                let remedy = format!("write -o {name}.KEY=VALUE");
                self.problems
                    .push(Problem::at(origin, name, "a section, not a key", &remedy));
            }
            (false, _) => self.problems.push(unknown(origin, name, false)),
        }
    }
}

/// An unknown name, with the known one that was meant.
fn unknown(origin: &Origin, full: &str, is_section: bool) -> Problem {
    let (section, leaf) = full.rsplit_once('.').unwrap_or(("", full));
    let in_section = KEYS.iter().filter(|key| key.section() == section);
    let sections_below = SECTIONS.iter().map(|(name, _)| *name);
    let sections_below = sections_below.filter_map(|name| match section {
        "" => Some(
            name.split('.')
                .next()
                .expect("split gives one part at least"),
        ),
        section => name.strip_prefix(section)?.strip_prefix('.'),
    });
    let near = nearest(leaf, in_section.map(Key::leaf).chain(sections_below));
    let elsewhere = || {
        let same = KEYS.iter().filter(|key| key.leaf() == leaf);
        let names: Vec<&str> = same.map(|key| key.name).collect();
        (!names.is_empty()).then(|| names.join(" or "))
    };
    let full_near = || nearest(full, KEYS.iter().map(|key| key.name)).map(str::to_owned);
    let remedy = match (near, section) {
        (Some(near), "") => format!("did you mean [{near}]?"),
        (Some(near), section) => format!("did you mean {section}.{near}?"),
        (None, _) => match elsewhere().or_else(full_near) {
            Some(name) => format!("did you mean {name}?"),
            None => "man olworker.toml lists every key".to_owned(),
        },
    };
    let why = if is_section {
        "unknown section"
    } else {
        "unknown key"
    };
    Problem::at(origin, full, why, &remedy)
}
