//! The part of YAML that settings are written in: `ol.yaml` of functions that were made for the
//! original.
//!
//! Block and flow mappings and sequences, plain and quoted scalars, comments. What makes YAML hard
//! to bound or to guess (anchors, aliases, tags, block scalars, several documents, keys that are
//! no plain names) is refused with its line; so is a key that comes twice. The result is what
//! `ol.toml` would have been read into, a key without a value being left out.
//!
//! ```text
//!   text ── lines (number, indent, text) ── block(indent) ──▶ mapping | sequence | scalar
//! ```

use toml::{Table, Value};

/// Mappings and sequences within each other.
const DEPTH_MAX: usize = 16;

/// What is wrong, and in which line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub line: usize,
    pub why: String,
}

fn bad<T>(line: usize, why: impl Into<String>) -> Result<T, Problem> {
    Err(Problem {
        line,
        why: why.into(),
    })
}

/// A line with something on it.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

/// Reads a document whose outermost level is a mapping, or empty.
pub fn parse(text: &str) -> Result<Table, Problem> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let inner = line.trim_start_matches(' ');
        let kept = without_comment(inner).trim_end();
        if kept.is_empty() || (kept == "---" && lines.is_empty()) {
            continue;
        }
        if kept.starts_with('\t') {
            return bad(number, "a tab at the beginning (indent with blanks)");
        }
        if line.starts_with("---") || line.starts_with("...") || line.starts_with('%') {
            return bad(number, "one document without directives is expected");
        }
        lines.push(Line {
            number,
            indent: line.len() - inner.len(),
            text: kept,
        });
    }
    let mut parser = Parser { lines, at: 0 };
    let Some(first) = parser.peek() else {
        return Ok(Table::new());
    };
    let value = parser.block(first.indent, 0)?;
    if let Some(left) = parser.peek() {
        return bad(
            left.number,
            "it stands further left than what it belongs to",
        );
    }
    match value {
        Some(Value::Table(table)) => Ok(table),
        _ => bad(first.number, "`key: value` is expected"),
    }
}

/// Up to a `#` that begins a comment: at the start or behind a blank, outside of quotes.
fn without_comment(text: &str) -> &str {
    let (mut quote, mut before) = (None, ' ');
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match quote {
            Some('"') if c == '\\' => {
                characters.next();
            }
            Some(open) if c == open => quote = None,
            None if c == '#' && matches!(before, ' ' | '\t') => return &text[..at],
            // A quote within a word is a letter.
            None if matches!(c, '"' | '\'') && !before.is_alphanumeric() => quote = Some(c),
            Some(_) | None => {}
        }
        before = c;
    }
    text
}

struct Parser<'a> {
    lines: Vec<Line<'a>>,
    at: usize,
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Line<'a>> {
        self.lines.get(self.at).copied()
    }

    /// Everything that begins at this indent. None: a value that says nothing.
    fn block(&mut self, indent: usize, depth: usize) -> Result<Option<Value>, Problem> {
        let Some(line) = self.peek() else {
            return Ok(None);
        };
        if depth == DEPTH_MAX {
            return bad(line.number, format!("nested more than {DEPTH_MAX} deep"));
        }
        if is_item(line.text) {
            return self.sequence(indent, depth).map(Some);
        }
        if split_key(line)?.is_some() {
            return self.mapping(indent, depth).map(Some);
        }
        self.at += 1;
        scalar_or_flow(line.text, line.number)
    }

    fn sequence(&mut self, indent: usize, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        while let Some(line) = self.peek() {
            if line.indent != indent || !is_item(line.text) {
                break;
            }
            let rest = line.text[1..].trim_start();
            let item = if rest.is_empty() {
                self.at += 1;
                self.nested(indent, depth)?
            } else {
                // What follows the dash is a block of its own, further right.
                let inner = indent + line.text.len() - rest.len();
                self.lines[self.at] = Line {
                    indent: inner,
                    text: rest,
                    ..line
                };
                self.block(inner, depth + 1)?
            };
            items.extend(item);
        }
        self.check_end(indent)?;
        Ok(Value::Array(items))
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Result<Value, Problem> {
        let mut table = Table::new();
        while let Some(line) = self.peek() {
            if line.indent != indent || is_item(line.text) {
                break;
            }
            let Some((key, rest)) = split_key(line)? else {
                return bad(line.number, "`key: value` is expected");
            };
            self.at += 1;
            let value = if rest.is_empty() {
                self.value_below(indent, depth)?
            } else {
                scalar_or_flow(rest, line.number)?
            };
            insert(&mut table, key, value, line.number)?;
        }
        self.check_end(indent)?;
        Ok(Value::Table(table))
    }

    /// Of a key: further right, or a sequence right below it.
    fn value_below(&mut self, indent: usize, depth: usize) -> Result<Option<Value>, Problem> {
        match self.peek() {
            Some(line) if line.indent == indent && is_item(line.text) => {
                self.block(indent, depth + 1)
            }
            _ => self.nested(indent, depth),
        }
    }

    fn nested(&mut self, indent: usize, depth: usize) -> Result<Option<Value>, Problem> {
        match self.peek() {
            Some(line) if line.indent > indent => self.block(line.indent, depth + 1),
            _ => Ok(None),
        }
    }

    fn check_end(&self, indent: usize) -> Result<(), Problem> {
        match self.peek() {
            Some(line) if line.indent > indent => {
                bad(line.number, "it stands further right than its neighbours")
            }
            _ => Ok(()),
        }
    }
}

fn insert(
    table: &mut Table,
    key: String,
    value: Option<Value>,
    line: usize,
) -> Result<(), Problem> {
    if table.contains_key(&key) {
        return bad(line, format!("{key} comes twice"));
    }
    if let Some(value) = value {
        table.insert(key, value);
    }
    Ok(())
}

/// `key: rest` apart; none when the line is no such thing.
fn split_key(line: Line<'_>) -> Result<Option<(String, &str)>, Problem> {
    let text = line.text;
    if text.starts_with(['"', '\'']) {
        let (key, rest) = quoted(text, line.number)?;
        let rest = rest.trim_start();
        return Ok(rest.strip_prefix(':').map(|rest| (key, rest.trim_start())));
    }
    let end = text
        .find(": ")
        .or_else(|| text.ends_with(':').then(|| text.len() - 1));
    let Some(end) = end else { return Ok(None) };
    let key = text[..end].trim_end();
    if key.starts_with(['{', '[']) {
        return Ok(None);
    }
    refuse_special(key, line.number)?;
    Ok(Some((key.to_owned(), text[end + 1..].trim_start())))
}

fn refuse_special(text: &str, line: usize) -> Result<(), Problem> {
    let what = match text.chars().next() {
        Some('&' | '*') => "anchors and aliases",
        Some('!') => "tags",
        Some('|' | '>') => "block scalars",
        Some('?') => "keys of this kind",
        Some('@' | '`' | '%') => "words that begin so",
        _ => return Ok(()),
    };
    bad(
        line,
        format!("{what} are not read (put it in quotes, or write ol.toml)"),
    )
}

/// A value that stands on one line.
fn scalar_or_flow(text: &str, line: usize) -> Result<Option<Value>, Problem> {
    let (value, rest) = flow(text, line, 0)?;
    if rest.trim().is_empty() {
        Ok(value)
    } else {
        bad(line, format!("unexpected: {}", shown(rest)))
    }
}

fn shown(text: &str) -> String {
    text.trim().chars().take(40).collect()
}

/// A value and what stands behind it. At depth 0 a plain scalar reaches to the end of the line.
fn flow(text: &str, line: usize, depth: usize) -> Result<(Option<Value>, &str), Problem> {
    let text = text.trim_start();
    if depth == DEPTH_MAX {
        return bad(line, format!("nested more than {DEPTH_MAX} deep"));
    }
    match text.chars().next() {
        Some('[') => flow_sequence(&text[1..], line, depth),
        Some('{') => flow_mapping(&text[1..], line, depth),
        Some('"' | '\'') => {
            let (value, rest) = quoted(text, line)?;
            Ok((Some(Value::String(value)), rest))
        }
        _ => {
            let end = match depth {
                0 => text.len(),
                _ => text.find([',', ']', '}']).unwrap_or(text.len()),
            };
            let (plain, rest) = text.split_at(end);
            refuse_special(plain, line)?;
            Ok((plain_scalar(plain.trim_end()), rest))
        }
    }
}

fn flow_sequence(
    mut text: &str,
    line: usize,
    depth: usize,
) -> Result<(Option<Value>, &str), Problem> {
    let mut items = Vec::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix(']') {
            return Ok((Some(Value::Array(items)), rest));
        }
        let (item, rest) = flow(text, line, depth + 1)?;
        items.extend(item);
        text = after_item(rest, ']', line)?;
    }
}

fn flow_mapping(
    mut text: &str,
    line: usize,
    depth: usize,
) -> Result<(Option<Value>, &str), Problem> {
    let mut table = Table::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((Some(Value::Table(table)), rest));
        }
        let (key, rest) = if text.starts_with(['"', '\'']) {
            quoted(text, line)?
        } else {
            let end = text.find([':', ',', '}', '{', '[']).unwrap_or(text.len());
            refuse_special(text, line)?;
            (text[..end].trim_end().to_owned(), &text[end..])
        };
        let Some(rest) = rest.trim_start().strip_prefix(':') else {
            return bad(line, "`{key: value}` must be closed on its line");
        };
        let (value, rest) = flow(rest, line, depth + 1)?;
        insert(&mut table, key, value, line)?;
        text = after_item(rest, '}', line)?;
    }
}

/// Behind an item comes another, or the end, which stays.
fn after_item(rest: &str, close: char, line: usize) -> Result<&str, Problem> {
    let rest = rest.trim_start();
    if rest.starts_with(close) {
        return Ok(rest);
    }
    match rest.strip_prefix(',') {
        Some(rest) => Ok(rest),
        None => bad(line, format!("`{close}` or a comma is missing")),
    }
}

/// A quoted scalar and what stands behind it.
fn quoted(text: &str, line: usize) -> Result<(String, &str), Problem> {
    let mut characters = text.char_indices();
    let (_, quote) = characters.next().expect("it begins with a quote");
    let mut value = String::new();
    while let Some((at, c)) = characters.next() {
        if c == '\\' && quote == '"' {
            value.push(escape(&mut characters, line)?);
        } else if c != quote {
            value.push(c);
        } else if quote == '\'' && text[at + 1..].starts_with('\'') {
            characters.next();
            value.push('\'');
        } else {
            return Ok((value, &text[at + 1..]));
        }
    }
    bad(line, format!("{quote} is not closed on its line"))
}

fn escape(characters: &mut core::str::CharIndices<'_>, line: usize) -> Result<char, Problem> {
    let digits = match characters.next().map(|(_, c)| c) {
        Some(c @ ('"' | '\\' | '/' | ' ')) => return Ok(c),
        Some('n') => return Ok('\n'),
        Some('t') => return Ok('\t'),
        Some('r') => return Ok('\r'),
        Some('0') => return Ok('\0'),
        Some('e') => return Ok('\u{1b}'),
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        _ => return bad(line, "an unknown escape behind \\"),
    };
    let code: String = characters.take(digits).map(|(_, c)| c).collect();
    let code = u32::from_str_radix(&code, 16)
        .ok()
        .filter(|_| code.len() == digits);
    code.and_then(char::from_u32)
        .map_or_else(|| bad(line, "no character has this number"), Ok)
}

/// As the core schema of YAML 1.2 reads it. None: null.
fn plain_scalar(text: &str) -> Option<Value> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return None,
        "true" | "True" | "TRUE" => return Some(Value::Boolean(true)),
        "false" | "False" | "FALSE" => return Some(Value::Boolean(false)),
        _ => {}
    }
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    if text.chars().all(is_number) && text.contains(|c: char| c.is_ascii_digit()) {
        if let Ok(number) = text.parse() {
            return Some(Value::Integer(number));
        }
        if let Ok(number) = text.parse() {
            return Some(Value::Float(number));
        }
    }
    Some(Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(yaml: &str, toml: &str) {
        let wanted: Table = toml.parse().unwrap();
        assert_eq!(parse(yaml).unwrap(), wanted, "{yaml}");
    }

    #[test]
    fn settings_are_read_as_their_toml() {
        same("", "");
        same("---\n# nothing\n", "");
        same(
            "triggers:\n  http:\n    - method: PUT\n    - method: \"*\" # any\nenvironment:\n  \
             A: \"x # y\"\n  B: it's 1\n  C: 'it''s'\n  D:\n  URL: http://h:1/a#b\n",
            "[[triggers.http]]\nmethod = 'PUT'\n[[triggers.http]]\nmethod = '*'\n[environment]\n\
             A = 'x # y'\nB = \"it's 1\"\nC = \"it's\"\nURL = 'http://h:1/a#b'\n",
        );
        // A sequence may stand right below its key.
        same(
            "a:\n- b: 1\n  c: true\n-\n  b: 2.5\n",
            "a = [{b = 1, c = true}, {b = 2.5}]",
        );
        same(
            "a: {b: [1, x y, \"q\\u0041\"], 'c': {}}\nd: []\n",
            "d = []\n[a]\nb = [1, 'x y', 'qA']\nc = {}",
        );
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_line() {
        for (text, line, why) in [
            ("a: &x 1\nb: *x\n", 1, "anchors and aliases"),
            ("a: 1\nb: *x\n", 2, "anchors and aliases"),
            ("a: !!str 1\n", 1, "tags"),
            ("a: |\n  text\n", 1, "block scalars"),
            ("a: 1\n\tb: 2\n", 2, "a tab"),
            ("a: 1\na: 2\n", 2, "comes twice"),
            ("a: 1\n---\nb: 2\n", 2, "one document"),
            ("a:\n    b: 1\n  c: 2\n", 3, "further right"),
            ("  a: 1\nb: 2\n", 2, "further left"),
            ("a: 1\n  b: 2\n", 2, "further right"),
            ("a: \"open\n", 1, "not closed"),
            ("a: {b: 1\n", 1, "`}` or a comma"),
            ("a: [1, 2\n", 1, "`]` or a comma"),
            ("a: [1] 2\n", 1, "unexpected"),
            ("just words\n", 1, "`key: value`"),
            ("- 1\n", 1, "`key: value`"),
            ("a: 1\nwords\n", 2, "`key: value`"),
        ] {
            let problem = parse(text).expect_err(text);
            assert_eq!(problem.line, line, "{text}: {problem:?}");
            assert!(problem.why.contains(why), "{text}: {problem:?}");
        }
        let deep = format!("a: {}1{}", "[".repeat(5000), "]".repeat(5000));
        assert!(parse(&deep).unwrap_err().why.contains("nested"));
        let steps: String = (0..5000).map(|depth| " ".repeat(depth) + "a:\n").collect();
        assert!(parse(&steps).unwrap_err().why.contains("nested"));
    }

    proptest! {
        #[test]
        fn no_text_does_harm(text in "[-a:# \n\"'\\[\\]{},|&0-9\\\\]{0,80}") {
            let _ = parse(&text);
        }
    }
}
