//! The written cases of `tests/data/http`, and what the decoder makes of bytes.

use olworker::http::{Decoder, Head, Limits, Step};
use std::fmt;
use std::path::Path;

/// The limits that the cases are written for.
pub fn limits() -> Limits {
    Limits::new(4096, 1024, 1000)
}

/// One item of an outcome.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    Request {
        method: String,
        target: String,
        body: Vec<u8>,
    },
    Refused(String),
    More,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request {
                method,
                target,
                body,
            } => {
                write!(f, "{method} {target} \"{}\"", body.escape_ascii())
            }
            Self::Refused(code) => f.write_str(code),
            Self::More => f.write_str("more"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    /// File and line.
    pub place: String,
    pub bytes: Vec<u8>,
    pub outcome: Vec<Item>,
}

/// All written cases.
pub fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("the cases are there")
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "cases")
        })
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).expect("a file of cases is text");
    let name = file.file_name().expect("it has a name").to_string_lossy();
    let mut cases = Vec::new();
    let mut wrap = (String::new(), String::new());
    for (index, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (left, right) = line
            .split_once('⇒')
            .unwrap_or_else(|| panic!("{place}: no ⇒"));
        let (left, right) = (left.trim(), right.trim());
        if let Some(template) = left.strip_prefix("wrap ") {
            wrap = (template.to_owned(), right.to_owned());
            continue;
        }
        let bytes = unescape(&wrap.0.replacen('$', left, 1), &place);
        let outcome = match right.strip_prefix("ok") {
            Some(body) => format!("{}{body}", wrap.1),
            None => right.to_owned(),
        };
        let outcome = outcome
            .split(" ; ")
            .map(|item| parse_item(item.trim(), &place))
            .collect();
        cases.push(Case {
            place,
            bytes,
            outcome,
        });
    }
    cases
}

fn parse_item(text: &str, place: &str) -> Item {
    if text == "more" {
        return Item::More;
    }
    let Some((method, rest)) = text.split_once(' ') else {
        return Item::Refused(text.to_owned());
    };
    // A body begins with a quote behind a blank; targets have no blanks.
    let (target, body) = match rest.split_once(' ') {
        Some((target, body)) => (
            target,
            body.strip_prefix('"').and_then(|b| b.strip_suffix('"')),
        ),
        None => (rest, Some("")),
    };
    let body = body.unwrap_or_else(|| panic!("{place}: a body is in quotes"));
    let as_text = |text| String::from_utf8(unescape(text, place)).expect("methods and targets");
    Item::Request {
        method: as_text(method),
        target: as_text(target),
        body: unescape(body, place),
    }
}

fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        rest = &escape[1..];
        match escape.as_bytes()[0] {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b's' => bytes.push(b' '),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let byte = u8::from_str_radix(&rest[..2], 16);
                bytes.push(byte.unwrap_or_else(|_| panic!("{place}: two digits behind \\x")));
                rest = &rest[2..];
            }
            b'{' => {
                let (repeated, behind) = rest.split_once('}').expect("a repetition ends");
                let (piece, count) = repeated.rsplit_once('*').expect("a repetition has a count");
                let count = count.parse().expect("a count is a number");
                bytes.extend_from_slice(&unescape(piece, place).repeat(count));
                rest = behind;
            }
            other => panic!("{place}: \\{} is no escape", other as char),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What the decoder makes of bytes that come in these pieces.
pub fn decode<'a, I: IntoIterator<Item = &'a [u8]>>(pieces: I, limits: &Limits) -> Vec<Item> {
    let (mut decoder, mut head) = (Decoder::default(), Head::default());
    let mut outcome = Vec::new();
    let mut open: Option<(String, String, Vec<u8>)> = None;
    for mut piece in pieces {
        loop {
            match decoder.step(&mut piece, &mut head, limits) {
                Step::NeedMore => break,
                Step::Head => {
                    assert!(open.is_none(), "one request at a time");
                    open = Some((
                        head.method_token().to_owned(),
                        head.target().to_owned(),
                        Vec::new(),
                    ));
                }
                Step::Body(data) => {
                    assert!(!data.is_empty(), "a piece of a body is something");
                    open.as_mut()
                        .expect("a body follows a head")
                        .2
                        .extend_from_slice(data);
                }
                Step::End => {
                    let (method, target, body) = open.take().expect("an end follows a head");
                    outcome.push(Item::Request {
                        method,
                        target,
                        body,
                    });
                }
                Step::Refuse(refusal) => {
                    outcome.push(Item::Refused(refusal.code.name().to_owned()));
                    return outcome;
                }
            }
        }
        assert!(piece.is_empty(), "needing more means having used all");
    }
    if !decoder.is_between() || outcome.is_empty() {
        outcome.push(Item::More);
    }
    outcome
}
