//! What a key of the configuration is: its name, what may be typed for it, where that goes.
//!
//! A key knows the place of its value in [`Config`] (a lens), so that one table both reads a file
//! and writes it back. `put` refuses with a reason and a remedy; `get` answers exactly what `put`
//! would take.

use super::meaning::{Base, Config, KB, MB, RegistryUrl, TreeTyped};
use super::problem::quoted;
use super::tree::Tree;
use super::typed::Typed;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug)]
pub struct Key {
    /// `section.name`, as `-o` takes it.
    pub name: &'static str,
    pub kind: Kind,
    pub reload: Reload,
    /// What it does, in a sentence or two.
    pub about: &'static str,
}

/// Whether a reload takes a changed value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    AtOnce,
    /// What it governs is made once, when the worker starts.
    Restart,
}

/// Where a value is in the configuration.
pub type Lens<T> = fn(&mut Config) -> &mut T;

#[derive(Debug)]
pub enum Kind {
    Number(Number),
    Flag(Lens<bool>),
    Word(Word),
    Text(Text),
    List(Lens<Vec<String>>),
    Tree,
}

#[derive(Debug)]
pub struct Number {
    pub unit: Unit,
    pub min: u64,
    pub max: u64,
    /// What 0 says, where it says something of its own; `min` then holds for other values.
    pub zero: Option<&'static str>,
    pub store: Store,
}

/// What a number is of, in the configuration as it is typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Count,
    Percent,
    Kilobytes,
    Megabytes,
    Milliseconds,
    Seconds,
    Days,
}

/// How a number is kept.
#[derive(Clone, Copy, Debug)]
pub enum Store {
    /// Bytes for sizes, else as typed.
    Plain(Lens<u64>),
    /// As `Plain`; `None` for 0.
    Optional(Lens<Option<u64>>),
    Id(Lens<u32>),
    Span(Lens<Duration>),
    /// `None` for 0.
    OptionalSpan(Lens<Option<Duration>>),
}

/// One word of a few.
#[derive(Debug)]
pub struct Word {
    pub words: &'static [&'static str],
    pub put: fn(&mut Config, usize),
    pub get: fn(&Config) -> usize,
}

#[derive(Debug)]
pub enum Text {
    /// Taken from the directory of the file it stands in.
    Path(Lens<PathBuf>),
    /// A path; empty: none.
    OptionalPath(Lens<Option<PathBuf>>),
    /// Absolute as typed: it is a path in another root.
    AbsolutePath(Lens<PathBuf>),
    /// `host:port`; empty: none.
    Address(Lens<Option<SocketAddr>>),
    /// Empty: none.
    Url(Lens<Option<String>>),
    Registry(Lens<RegistryUrl>),
    Base(Lens<Base>),
}

/// Why a value is not taken, and what to type instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub why: String,
    pub remedy: String,
}

impl Refused {
    pub fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

impl Unit {
    /// How much of what is stored one of what is typed is.
    const fn scale(self) -> u64 {
        match self {
            Self::Kilobytes => KB,
            Self::Megabytes => MB,
            Self::Count | Self::Percent | Self::Milliseconds | Self::Seconds | Self::Days => 1,
        }
    }

    /// As it stands behind a number; nothing for a count.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Percent => " %",
            Self::Kilobytes => " KB",
            Self::Megabytes => " MB",
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::Days => " days",
        }
    }

    fn span(self, number: u64) -> Duration {
        match self {
            Self::Milliseconds => Duration::from_millis(number),
            _ => Duration::from_secs(number),
        }
    }

    fn of_span(self, span: Duration) -> u64 {
        match self {
            Self::Milliseconds => span.as_millis() as u64,
            _ => span.as_secs(),
        }
    }
}

impl Key {
    pub fn section(&self) -> &'static str {
        self.split().0
    }

    /// The name within its section.
    pub fn leaf(&self) -> &'static str {
        self.split().1
    }

    fn split(&self) -> (&'static str, &'static str) {
        self.name
            .rsplit_once('.')
            .expect("every name in the table has a section")
    }

    /// Whether a value is of this key's type, whatever its content.
    pub fn takes(&self, typed: &Typed) -> bool {
        match (&self.kind, typed) {
            (Kind::Number(_), Typed::Integer(_))
            | (Kind::Flag(_), Typed::Flag(_))
            | (Kind::Word(_) | Kind::Text(_) | Kind::Tree | Kind::List(_), Typed::Text(_))
            | (Kind::Tree, Typed::Table(_)) => true,
            (Kind::List(_), Typed::List(items)) => {
                items.iter().all(|item| matches!(item, Typed::Text(_)))
            }
            _ => false,
        }
    }

    /// What may be typed, as it stands in texts.
    pub fn range(&self) -> String {
        match &self.kind {
            Kind::Number(number) => number.range(),
            Kind::Flag(_) => "true or false".to_owned(),
            Kind::Word(word) => listed(word.words),
            Kind::Text(Text::Path(_)) => "a path".to_owned(),
            Kind::Text(Text::OptionalPath(_)) => "a path, or \"\" for none".to_owned(),
            Kind::Text(Text::AbsolutePath(_)) => "an absolute path".to_owned(),
            Kind::Text(Text::Address(_)) => "ADDRESS:PORT, or \"\" for none".to_owned(),
            Kind::Text(Text::Url(_)) => "a URL, or \"\" for what the machine says".to_owned(),
            Kind::Text(Text::Registry(_)) => {
                "a directory, or a URL: file, http, https, s3".to_owned()
            }
            Kind::Text(Text::Base(_)) => "\"host\", or the path of a root file system".to_owned(),
            Kind::List(_) => "a list of strings".to_owned(),
            Kind::Tree => "a path, a table, a JSON string, or \"\" for none".to_owned(),
        }
    }

    /// Takes a value; relative paths are below `beside`.
    pub fn put(&self, config: &mut Config, typed: &Typed, beside: &Path) -> Result<(), Refused> {
        if !self.takes(typed) {
            let why = format!("{} where {} belongs", typed.kind(), self.noun());
            return Err(Refused::new(why, format!("give {}", self.range())));
        }
        match (&self.kind, typed) {
            (Kind::Number(number), Typed::Integer(value)) => number.put(config, value),
            (Kind::Flag(lens), Typed::Flag(value)) => {
                *lens(config) = *value;
                Ok(())
            }
            (Kind::Word(word), Typed::Text(text)) => word.put_text(config, text),
            (Kind::Text(kind), Typed::Text(text)) => kind.put(config, text, beside),
            (Kind::List(lens), typed) => {
                *lens(config) = typed.texts();
                Ok(())
            }
            (Kind::Tree, typed) => put_tree(config, typed, beside),
            _ => unreachable!("`takes` let it through"),
        }
    }

    /// The value, as it would be typed. The lens wants `&mut`; nothing is changed.
    pub fn get(&self, config: &mut Config) -> Typed {
        match &self.kind {
            Kind::Number(number) => Typed::Integer(number.get(config).to_string()),
            Kind::Flag(lens) => Typed::Flag(*lens(config)),
            Kind::Word(word) => Typed::Text(word.words[(word.get)(config)].to_owned()),
            Kind::Text(kind) => Typed::Text(kind.get(config)),
            Kind::List(lens) => {
                Typed::List(lens(config).iter().cloned().map(Typed::Text).collect())
            }
            Kind::Tree => Typed::Text(get_tree(config)),
        }
    }

    fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::Number(_) => "a whole number",
            Kind::Flag(_) => "true or false",
            Kind::Word(_) | Kind::Text(_) => "a string",
            Kind::List(_) => "a list of strings",
            Kind::Tree => "a path, table or JSON string",
        }
    }
}

impl Number {
    pub fn range(&self) -> String {
        let range = format!("{}..{}{}", self.min, self.max, self.unit.word());
        match self.zero {
            Some(meaning) => format!("{range}, or 0: {meaning}"),
            None => range,
        }
    }

    fn put(&self, config: &mut Config, typed: &str) -> Result<(), Refused> {
        let in_range = |number: &u64| {
            (*number == 0 && self.zero.is_some()) || (self.min..=self.max).contains(number)
        };
        let Some(number) = typed.parse().ok().filter(in_range) else {
            let why = format!("{typed} is out of range");
            return Err(Refused::new(why, format!("give {}", self.range())));
        };
        let scaled = number * self.unit.scale();
        match self.store {
            Store::Plain(lens) => *lens(config) = scaled,
            Store::Optional(lens) => *lens(config) = (number > 0).then_some(scaled),
            Store::Id(lens) => *lens(config) = number as u32,
            Store::Span(lens) => *lens(config) = self.unit.span(number),
            Store::OptionalSpan(lens) => {
                *lens(config) = (number > 0).then(|| self.unit.span(number));
            }
        }
        Ok(())
    }

    fn get(&self, config: &mut Config) -> u64 {
        match self.store {
            Store::Plain(lens) => *lens(config) / self.unit.scale(),
            Store::Optional(lens) => lens(config).map_or(0, |value| value / self.unit.scale()),
            Store::Id(lens) => u64::from(*lens(config)),
            Store::Span(lens) => self.unit.of_span(*lens(config)),
            Store::OptionalSpan(lens) => lens(config).map_or(0, |span| self.unit.of_span(span)),
        }
    }
}

impl Word {
    fn put_text(&self, config: &mut Config, text: &str) -> Result<(), Refused> {
        let Some(index) = self.words.iter().position(|word| *word == text) else {
            let why = format!("{} is none of its words", quoted(text));
            return Err(Refused::new(why, format!("give {}", listed(self.words))));
        };
        (self.put)(config, index);
        Ok(())
    }
}

/// `"a", "b" or "c"`.
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

impl Text {
    fn put(&self, config: &mut Config, text: &str, beside: &Path) -> Result<(), Refused> {
        match self {
            Self::Path(lens) => *lens(config) = path(text, beside)?,
            Self::OptionalPath(lens) => {
                *lens(config) = if text.is_empty() {
                    None
                } else {
                    Some(path(text, beside)?)
                }
            }
            Self::AbsolutePath(lens) => {
                if !text.starts_with('/') {
                    let why = format!("{} is no absolute path", quoted(text));
                    return Err(Refused::new(why, "begin it with /; PATH is not searched"));
                }
                *lens(config) = path(text, Path::new("/"))?;
            }
            Self::Address(lens) => {
                *lens(config) = if text.is_empty() {
                    None
                } else {
                    Some(address(text)?)
                }
            }
            Self::Url(lens) => *lens(config) = url(text)?,
            Self::Registry(lens) => *lens(config) = registry(text, beside)?,
            Self::Base(lens) => {
                *lens(config) = match text {
                    "host" => Base::Host,
                    text => Base::Rootfs(path(text, beside)?),
                }
            }
        }
        Ok(())
    }

    fn get(&self, config: &mut Config) -> String {
        match self {
            Self::Path(lens) | Self::AbsolutePath(lens) => shown(lens(config)),
            Self::OptionalPath(lens) => lens(config).as_deref().map_or_else(String::new, shown),
            Self::Address(lens) => {
                lens(config).map_or_else(String::new, |address| address.to_string())
            }
            Self::Url(lens) => lens(config).clone().unwrap_or_default(),
            Self::Registry(lens) => match lens(config) {
                RegistryUrl::Files(directory) => format!("file://{}", shown(directory)),
                RegistryUrl::Web(url) | RegistryUrl::S3(url) => url.clone(),
            },
            Self::Base(lens) => match lens(config) {
                Base::Host => "host".to_owned(),
                Base::Rootfs(directory) => shown(directory),
            },
        }
    }
}

fn shown(path: &Path) -> String {
    path.to_str()
        .expect("every path of a configuration was found to be text")
        .to_owned()
}

fn path(text: &str, beside: &Path) -> Result<PathBuf, Refused> {
    if text.is_empty() {
        return Err(Refused::new("an empty path", "give a path"));
    }
    if text.contains('\0') {
        let why = format!("{} holds a NUL byte", quoted(text));
        return Err(Refused::new(why, "give a path"));
    }
    let joined = beside.join(text);
    if joined.to_str().is_none() {
        let why = format!(
            "{} is below a directory whose name is no text",
            quoted(text)
        );
        return Err(Refused::new(why, "give an absolute path"));
    }
    // `a/./b` and `a//b` are `a/b`; `..` stays, because it may cross a symbolic link.
    Ok(joined.components().collect())
}

fn address(text: &str) -> Result<SocketAddr, Refused> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric.parse().map_err(|_| {
        let remedy = match text.strip_prefix([':', '*']) {
            Some(rest) => {
                let port = rest.trim_start_matches(':');
                format!(
                    "write 0.0.0.0:{port} for every interface, 127.0.0.1:{port} for this machine"
                )
            }
            None => "write ADDRESS:PORT in numbers, as 127.0.0.1:5000 or [::1]:5000".to_owned(),
        };
        Refused::new(
            format!("{} is no address with a port", quoted(text)),
            remedy,
        )
    })
}

fn url(text: &str) -> Result<Option<String>, Refused> {
    if text.is_empty() {
        return Ok(None);
    }
    let known = ["http://", "https://", "file://"];
    let rest = known.iter().find_map(|scheme| text.strip_prefix(scheme));
    if rest.is_none_or(str::is_empty) || text.contains(|c: char| c.is_control() || c == ' ') {
        let why = format!("{} is no URL", quoted(text));
        return Err(Refused::new(
            why,
            "write http://, https:// or file:// and the rest",
        ));
    }
    Ok(Some(text.to_owned()))
}

fn registry(text: &str, beside: &Path) -> Result<RegistryUrl, Refused> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(RegistryUrl::Files(path(text, beside)?));
    };
    let web = |made: fn(String) -> RegistryUrl| {
        if rest.is_empty() || rest.contains(|c: char| c.is_control() || c == ' ') {
            let why = format!("{} is no URL", quoted(text));
            return Err(Refused::new(
                why,
                "write host and path behind ://, blanks as %20",
            ));
        }
        Ok(made(text.to_owned()))
    };
    match scheme {
        "file" if rest.starts_with('/') => Ok(RegistryUrl::Files(path(rest, Path::new("/"))?)),
        "file" => Err(Refused::new(
            format!("{} names a host", quoted(text)),
            "write file:///path with three slashes, or the path alone",
        )),
        "http" | "https" => web(RegistryUrl::Web),
        "s3" => web(RegistryUrl::S3),
        _ => Err(Refused::new(
            format!("no registry speaks {}", quoted(scheme)),
            "write a directory, or a URL with file, http, https or s3",
        )),
    }
}

/// A path is only noted here; the file is read when the whole configuration is known.
fn put_tree(config: &mut Config, typed: &Typed, beside: &Path) -> Result<(), Refused> {
    let default = config.home.configuration.join("tree.json");
    let source = &mut config.features.import_cache_tree;
    let inline = match typed {
        Typed::Text(text) if text.trim().is_empty() => {
            (source.typed, source.tree) = (TreeTyped::Empty, Tree::bare());
            return Ok(());
        }
        Typed::Text(text) if text.trim_start().starts_with(['{', '[']) => Tree::from_json(text),
        Typed::Text(text) => {
            let file = path(text, beside)?;
            let is_default = file == default;
            source.typed = if is_default {
                TreeTyped::Default(file)
            } else {
                TreeTyped::File(file)
            };
            source.tree = Tree::bare();
            return Ok(());
        }
        typed => Tree::from_value(typed.to_json()),
    };
    source.tree = inline.map_err(|wrong| {
        let first = &wrong[0];
        let more = match wrong.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        let why = format!("{}: {}{more}", first.node_name(), first.why);
        Refused::new(why, &first.remedy)
    })?;
    source.typed = TreeTyped::Inline;
    Ok(())
}

fn get_tree(config: &Config) -> String {
    let source = &config.features.import_cache_tree;
    match &source.typed {
        TreeTyped::Default(file) | TreeTyped::File(file) => shown(file),
        TreeTyped::Inline => source.tree.to_json(),
        TreeTyped::Empty => String::new(),
    }
}
