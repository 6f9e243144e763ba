//! What a function says of itself: `ol.toml` beside its code, or `ol.yaml`, as functions made for
//! the original have it.
//!
//! Reading never fails with half a setting: either every key is known, of its type and within its
//! bounds, or the upload is refused with everything that is wrong. What a function leaves unsaid is
//! the worker's configuration, which may change: so unsaid stays `None` here.

use super::meaning::MB;
use super::words::{Network, OnHangup};
use super::yaml;
use std::collections::BTreeMap;
use std::time::Duration;
use toml::{Table, Value};

/// The file's name in an image.
pub const FILE: &str = "ol.toml";
/// The other notation's. Its keys may be written with `-` for `_`, and limits at the top.
pub const YAML_FILE: &str = "ol.yaml";
/// Longest file that is read.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Problems told of one file.
const PROBLEMS_MAX: usize = 20;

/// What a function asks for; `None` and empty: as the worker is configured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FunctionSettings {
    pub mem_bytes: Option<u64>,
    pub procs: Option<u64>,
    pub cpu_percent: Option<u64>,
    pub runtime: Option<Duration>,
    pub max_instances: Option<u64>,
    pub queue: Option<u64>,
    pub on_hangup: Option<OnHangup>,
    pub network: Option<Network>,
    pub reuse_sandbox: Option<bool>,
    pub zygote: Option<bool>,
    pub environment: BTreeMap<String, String>,
    /// Methods that may call it; empty: any.
    pub methods: Vec<String>,
}

/// One number of `[limits]`: its name, its bounds, where it goes.
struct Limit {
    name: &'static str,
    min: i64,
    max: i64,
    put: fn(&mut FunctionSettings, u64),
}

const LIMITS: [Limit; 6] = [
    Limit {
        name: "mem_mb",
        min: 16,
        max: 1 << 20,
        put: |to, mb| to.mem_bytes = Some(mb * MB),
    },
    Limit {
        name: "procs",
        min: 1,
        max: 32_768,
        put: |to, count| to.procs = Some(count),
    },
    Limit {
        name: "cpu_percent",
        min: 1,
        max: 100_000,
        put: |to, percent| to.cpu_percent = Some(percent),
    },
    Limit {
        name: "runtime_sec",
        min: 1,
        max: 86_400,
        put: |to, seconds| to.runtime = Some(Duration::from_secs(seconds)),
    },
    Limit {
        name: "max_instances",
        min: 1,
        max: 100_000,
        put: |to, count| to.max_instances = Some(count),
    },
    Limit {
        name: "queue",
        min: 0,
        max: 65_536,
        put: |to, count| to.queue = Some(count),
    },
];

const TOP: [&str; 7] = [
    "limits",
    "environment",
    "triggers",
    "on_hangup",
    "reuse_sandbox",
    "zygote",
    "network",
];

/// Methods are tokens of RFC 9110; `*` is any.
fn is_method(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.len() <= 32 && text.bytes().all(tchar)
}

impl FunctionSettings {
    /// Reads `ol.toml`, or tells all that is wrong with it, a sentence each.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                let error: toml::de::Error = error;
                let at = error.span().map_or(0, |span| span.start);
                let line = text[..at.min(text.len())].split('\n').count();
                return Err(vec![format!("{FILE}:{line}: {}", error.message())]);
            }
        };
        Self::from_table(FILE, &table)
    }

    /// Reads `ol.yaml`, likewise.
    pub fn parse_yaml(text: &str) -> Result<Self, Vec<String>> {
        let table = yaml::parse(text)
            .map_err(|problem| vec![format!("{YAML_FILE}:{}: {}", problem.line, problem.why)])?;
        let mut result = Table::new();
        for (key, value) in table {
            let (key, value) = in_toml(&key, value);
            if !LIMITS.iter().any(|limit| limit.name == key) {
                result.insert(key, value);
                continue;
            }
            let section = result
                .entry("limits")
                .or_insert_with(|| Table::new().into());
            if let Value::Table(limits) = section {
                limits.insert(key, value);
            }
        }
        Self::from_table(YAML_FILE, &result)
    }

    fn from_table(file: &'static str, table: &Table) -> Result<Self, Vec<String>> {
        let mut reader = Reader {
            file,
            settings: Self::default(),
            problems: Vec::new(),
        };
        for (key, value) in table {
            reader.top(key, value);
        }
        if reader.problems.is_empty() {
            return Ok(reader.settings);
        }
        reader.problems.truncate(PROBLEMS_MAX);
        Err(reader.problems)
    }
}

/// A key of YAML, and those below it, as TOML spells them; names of variables are their own.
fn in_toml(key: &str, value: Value) -> (String, Value) {
    let value = match value {
        Value::Table(table) if key != "environment" => {
            let renamed = table.into_iter().map(|(key, value)| in_toml(&key, value));
            Value::Table(renamed.collect())
        }
        value => value,
    };
    (key.replace('-', "_"), value)
}

struct Reader {
    file: &'static str,
    settings: FunctionSettings,
    problems: Vec<String>,
}

impl Reader {
    fn bad(&mut self, key: &str, why: &str) {
        self.problems.push(format!("{}: {key}: {why}", self.file));
    }

    fn unknown(&mut self, key: &str, known: &[&str]) {
        let leaf = key.rsplit('.').next().unwrap_or(key);
        let hint = match super::nearest::nearest(leaf, known.iter().copied()) {
            Some(near) => format!("unknown key (did you mean {near}?)"),
            None => format!("unknown key (known here: {})", known.join(", ")),
        };
        self.bad(key, &hint);
    }

    fn top(&mut self, key: &str, value: &Value) {
        match (key, value) {
            ("limits", Value::Table(table)) => table.iter().for_each(|(k, v)| self.limit(k, v)),
            ("environment", Value::Table(table)) => {
                table.iter().for_each(|(k, v)| self.variable(k, v));
            }
            ("triggers", Value::Table(table)) => {
                table.iter().for_each(|(k, v)| self.trigger(k, v));
            }
            ("limits" | "environment" | "triggers", _) => {
                self.bad(key, "a section (write its keys below it)");
            }
            ("on_hangup", value) => self.on_hangup("on_hangup", value),
            ("network", value) => match value.as_str().and_then(word(Network::ALL, Network::WORDS))
            {
                Some(network) => self.settings.network = Some(network),
                None => self.bad(key, "\"host\" or \"none\""),
            },
            ("reuse_sandbox", Value::Boolean(flag)) => self.settings.reuse_sandbox = Some(*flag),
            ("zygote", Value::Boolean(flag)) => self.settings.zygote = Some(*flag),
            ("reuse_sandbox" | "zygote", _) => self.bad(key, "true or false"),
            _ => self.unknown(key, &TOP),
        }
    }

    fn on_hangup(&mut self, key: &str, value: &Value) {
        match value
            .as_str()
            .and_then(word(OnHangup::ALL, OnHangup::WORDS))
        {
            Some(on_hangup) => self.settings.on_hangup = Some(on_hangup),
            None => self.bad(key, "\"finish\" or \"kill\""),
        }
    }

    fn limit(&mut self, name: &str, value: &Value) {
        let full = format!("limits.{name}");
        if name == "on_hangup" {
            return self.on_hangup(&full, value);
        }
        let Some(limit) = LIMITS.iter().find(|limit| limit.name == name) else {
            return self.unknown(&full, &LIMITS.each_ref().map(|limit| limit.name));
        };
        match value.as_integer() {
            Some(number) if (limit.min..=limit.max).contains(&number) => {
                (limit.put)(&mut self.settings, number as u64);
            }
            _ => {
                let range = format!("a whole number from {} to {}", limit.min, limit.max);
                self.bad(&full, &range);
            }
        }
    }

    fn variable(&mut self, name: &str, value: &Value) {
        let full = format!("environment.{name}");
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
            _ => return self.bad(&full, "a string"),
        };
        if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
            return self.bad(&full, "no name of a variable (no '=', no NUL)");
        }
        self.settings.environment.insert(name.to_owned(), text);
    }

    fn trigger(&mut self, kind: &str, value: &Value) {
        if kind != "http" {
            return self.unknown(&format!("triggers.{kind}"), &["http"]);
        }
        let Some(list) = value.as_array() else {
            return self.bad("triggers.http", "a list (write [[triggers.http]])");
        };
        for entry in list {
            let Some(table) = entry.as_table() else {
                self.bad(
                    "triggers.http",
                    "a list of tables (write [[triggers.http]])",
                );
                continue;
            };
            for (key, value) in table {
                match (key.as_str(), value.as_str()) {
                    ("method", Some(method)) if is_method(method) => {
                        self.settings.methods.push(method.to_ascii_uppercase());
                    }
                    ("method", _) => self.bad("triggers.http.method", "a method, such as \"GET\""),
                    _ => self.unknown(&format!("triggers.http.{key}"), &["method"]),
                }
            }
        }
        if self.settings.methods.iter().any(|method| method == "*") {
            self.settings.methods.clear();
        }
    }
}

/// The variant whose word this is.
fn word<T: Copy>(all: &[T], words: &[&str]) -> impl Fn(&str) -> Option<T> {
    move |text| {
        words
            .iter()
            .position(|word| *word == text)
            .map(|index| all[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        FunctionSettings::parse(text).unwrap_err().join("\n")
    }

    #[test]
    fn every_key_is_read() {
        let settings = FunctionSettings::parse(
            r#"
            on_hangup = "kill"
            reuse_sandbox = false
            zygote = false
            network = "none"
            [limits]
            mem_mb = 64
            procs = 4
            cpu_percent = 50
            runtime_sec = 3
            max_instances = 2
            queue = 0
            [environment]
            A = "x"
            B = 7
            [[triggers.http]]
            method = "get"
            [[triggers.http]]
            method = "POST"
            "#,
        )
        .unwrap();
        assert_eq!(
            settings,
            FunctionSettings {
                mem_bytes: Some(64 * MB),
                procs: Some(4),
                cpu_percent: Some(50),
                runtime: Some(Duration::from_secs(3)),
                max_instances: Some(2),
                queue: Some(0),
                on_hangup: Some(OnHangup::Kill),
                network: Some(Network::Nothing),
                reuse_sandbox: Some(false),
                zygote: Some(false),
                environment: [("A", "x"), ("B", "7")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .into(),
                methods: vec!["GET".into(), "POST".into()],
            }
        );
    }

    #[test]
    fn nothing_said_is_nothing_set() {
        assert_eq!(
            FunctionSettings::parse("").unwrap(),
            FunctionSettings::default()
        );
        let any = FunctionSettings::parse("[[triggers.http]]\nmethod = \"*\"").unwrap();
        assert_eq!(any, FunctionSettings::default());
    }

    #[test]
    fn everything_wrong_is_told_with_the_nearest_key() {
        let text = "zygot = true\n[limits]\nmem_mbs = 3\nprocs = \"many\"\nruntime_sec = 0\n";
        let problems = problems(text);
        for part in [
            "zygot: unknown key (did you mean zygote?)",
            "limits.mem_mbs: unknown key (did you mean mem_mb?)",
            "limits.procs: a whole number from 1 to 32768",
            "limits.runtime_sec: a whole number from 1 to 86400",
        ] {
            assert!(problems.contains(part), "{part} in {problems}");
        }
    }

    #[test]
    fn the_originals_notation_is_read() {
        let text = "mem-mb: 64\ntriggers:\n  http:\n    - method: put\nlimits:\n  runtime-sec: 3\n\
                    environment:\n  A-B: 1\n";
        let settings = FunctionSettings::parse_yaml(text).unwrap();
        assert_eq!(settings.mem_bytes, Some(64 * MB));
        assert_eq!(settings.runtime, Some(Duration::from_secs(3)));
        assert_eq!(settings.methods, ["PUT"]);
        assert_eq!(settings.environment["A-B"], "1");
        let problems = |text| FunctionSettings::parse_yaml(text).unwrap_err().join("\n");
        let cron = problems("triggers:\n  cron:\n    - schedule: '* * * * *'\n");
        assert_eq!(
            cron,
            "ol.yaml: triggers.cron: unknown key (known here: http)"
        );
        assert!(problems("mem_mbs: 64").contains("ol.yaml: mem_mbs: unknown key"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert!(
            problems("a = 1\nb = = 2\n").starts_with("ol.toml:2: "),
            "{}",
            problems("b = = 2")
        );
    }
}
