//! Rust source as this suite sees it: words and marks with their lines, comments apart, and what is
//! only compiled for tests told from what ships.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the project.
pub struct Source {
    /// From the project's root, with slashes.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
    pub comments: Vec<Comment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub line: usize,
    pub kind: Kind,
    /// Within `#[cfg(test)] mod x { .. }`, or a file of tests.
    pub in_test: bool,
    /// How many inline modules it is in.
    pub depth: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Word(String),
    Mark(char),
    Text(String),
}

pub struct Comment {
    pub line: usize,
    pub text: String,
}

impl Token {
    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }

    pub fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Mark(_) | Kind::Text(_) => None,
        }
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below the directory, by path.
pub fn files_below(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file below these directories.
pub fn sources(directories: &[&str]) -> Vec<Source> {
    let files = directories
        .iter()
        .flat_map(|directory| files_below(directory));
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| {
        let name = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        Source::new(name, fs::read_to_string(&path).unwrap())
    })
    .collect()
}

impl Source {
    pub fn new(path: String, text: String) -> Self {
        let mut scanner = Scanner {
            rest: &text,
            line: 1,
            tokens: Vec::new(),
            comments: Vec::new(),
        };
        scanner.run();
        let Scanner {
            mut tokens,
            comments,
            ..
        } = scanner;
        let all_test =
            path.ends_with("/tests.rs") || path.contains("/tests/") || !path.starts_with("src/");
        mark_modules(&mut tokens, all_test);
        Self {
            path,
            text,
            tokens,
            comments,
        }
    }

    /// `src/http/head.rs` belongs to `http`, `src/bin/ol.rs` to `bin`.
    pub fn room(&self) -> Option<&str> {
        let (room, rest) = self.path.strip_prefix("src/")?.split_once('/')?;
        (!rest.is_empty()).then_some(room)
    }

    /// How many names lead from the crate to the file's module.
    pub fn module_depth(&self) -> usize {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| *part != "mod")
            .count()
    }

    /// Every function with a body: name, first line, number of lines.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            let name = self.tokens.get(at + 1).and_then(Token::word);
            if let Some(name) = name.filter(|_| token.is_word("fn"))
                && let Some(end) = body_end(&self.tokens[at..])
            {
                found.push((name.to_owned(), token.line, end + 1 - token.line));
            }
        }
        found
    }
}

/// The line where the body that follows ends; none where a semicolon comes first.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for token in tokens {
        match token.kind {
            Kind::Mark('(' | '[') => round += 1,
            Kind::Mark(')' | ']') => round -= 1,
            Kind::Mark(';') if round == 0 && curly == 0 => return None,
            Kind::Mark('{') => curly += 1,
            Kind::Mark('}') => {
                curly -= 1;
                if curly == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

/// Finds the inline modules and, among them, those for tests.
fn mark_modules(tokens: &mut [Token], all_test: bool) {
    #[derive(Clone, Copy)]
    struct Block {
        is_module: bool,
        is_test: bool,
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut for_test_next = false;
    for at in 0..tokens.len() {
        let in_test = all_test || blocks.iter().any(|block| block.is_test);
        tokens[at].in_test = in_test;
        tokens[at].depth = blocks.iter().filter(|block| block.is_module).count();
        let said: Vec<_> = tokens[at..]
            .iter()
            .take(7)
            .map(|token| &token.kind)
            .collect();
        if let [
            Kind::Mark('#'),
            Kind::Mark('['),
            Kind::Word(cfg),
            Kind::Mark('('),
            Kind::Word(test),
            ..,
        ] = said[..]
        {
            for_test_next |= cfg == "cfg" && test == "test";
        }
        let is_module = at >= 2 && tokens[at - 2].is_word("mod");
        match tokens[at].kind {
            Kind::Mark('{') => {
                blocks.push(Block {
                    is_module,
                    is_test: for_test_next,
                });
                for_test_next = false;
            }
            Kind::Mark('}') => {
                blocks.pop();
            }
            Kind::Mark(';') => for_test_next = false,
            _ => {}
        }
    }
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl Scanner<'_> {
    fn run(&mut self) {
        while let Some(c) = self.rest.chars().next() {
            if self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.comment(end);
            } else if self.rest.starts_with("/*") {
                let end = self.rest.find("*/").map_or(self.rest.len(), |at| at + 2);
                self.comment(end);
            } else if let Some((open, hashes)) = raw_string(self.rest) {
                let close = format!("\"{}", "#".repeat(hashes));
                let end = self.rest[open..].find(&close).expect("a raw string ends") + open;
                self.push(Kind::Text(self.rest[open..end].to_owned()));
                self.advance(end + close.len());
            } else if c == '"' || self.rest.starts_with("b\"") || self.rest.starts_with("c\"") {
                self.string(if c == '"' { 1 } else { 2 });
            } else if c == '\'' {
                self.character_or_lifetime();
            } else if c.is_alphanumeric() || c == '_' {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
                self.push(Kind::Word(self.rest[..end].to_owned()));
                self.advance(end);
            } else {
                if !c.is_whitespace() {
                    self.push(Kind::Mark(c));
                }
                self.advance(c.len_utf8());
            }
        }
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token {
            line: self.line,
            kind,
            in_test: false,
            depth: 0,
        });
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }

    fn comment(&mut self, end: usize) {
        self.comments.push(Comment {
            line: self.line,
            text: self.rest[..end].to_owned(),
        });
        self.advance(end);
    }

    fn string(&mut self, open: usize) {
        let bytes = self.rest.as_bytes();
        let mut end = open;
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.push(Kind::Text(self.rest[open..end].to_owned()));
        self.advance(end + 1);
    }

    /// `'a'` and `'\n'` are characters, `'a` is a lifetime.
    fn character_or_lifetime(&mut self) {
        let mut inner = self.rest[1..].char_indices();
        let first = inner.next().map_or('\'', |(_, c)| c);
        let after = 1 + first.len_utf8();
        if first == '\\' {
            let end = self.rest[after + 1..].find('\'').expect("a character ends") + after + 2;
            self.advance(end);
        } else if self.rest[after..].starts_with('\'') {
            self.advance(after + 1);
        } else {
            self.advance(1);
        }
    }
}

/// Where the text of `r"..."`, `r#"..."#`, `br"..."` begins, and how many hashes there are.
fn raw_string(rest: &str) -> Option<(usize, usize)> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let behind = rest.strip_prefix(prefix).unwrap_or_default();
        behind.starts_with('"') || behind.starts_with("#\"") || behind.starts_with("##")
    })?;
    let hashes = rest[prefix.len()..]
        .bytes()
        .take_while(|b| *b == b'#')
        .count();
    let open = prefix.len() + hashes;
    rest[open..].starts_with('"').then_some((open + 1, hashes))
}
