//! Reads a head byte by byte and remembers only where it stands.
//!
//! The quick way through a head is to parse it whole; this is the slow one, for heads that come in
//! pieces and for heads that are wrong. It looks at each byte once, however the bytes were cut, and
//! refuses at the first byte after which no head could be good: a client that stopped in the middle
//! of a bad head gets its answer, and a slow one costs nothing but its bytes.
//!
//! ```text
//!   Method ─ ' ' ─▶ TargetStart ─▶ Target ─ ' ' ─▶ Version ─▶ LineEnd ─ CR LF ─▶ LineStart
//!                                                                                 │  ▲  │
//!                                          Name ◀────────── a token byte ─────────┘  │  CR
//!                                            └── ':' ─▶ Value ─ CR ─▶ LineEnd ─ LF ──┘  ▼
//!                                                                            end ◀─ LF ─ LastLf
//! ```
//! The field lines of a trailer section are the same lines: they start at `LineStart`.

use super::characters::{is_blank, is_target, is_token, is_value};
use super::refusal::{Code, Refusal};
use super::{FIELDS_MAX, Limits};

/// Where in a head the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    MethodStart,
    Method,
    TargetStart,
    Target,
    /// So many bytes of `HTTP/1.x` have come.
    Version(u8),
    /// Behind the carriage return of a line.
    LineEnd,
    LineStart,
    Name,
    Value,
    /// Behind the carriage return of the empty line.
    LastLf,
}

/// What the bytes so far amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scanned {
    /// All of them belong to a head that has not ended.
    More,
    /// The head ends behind this many bytes of what was fed last.
    End(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    state: State,
    /// Bytes seen, those of all feeds together.
    seen: usize,
    target: usize,
    fields: usize,
}

const VERSION: &[u8; 7] = b"HTTP/1.";

impl Scan {
    /// Of a request head whose first byte is that of the request line; `before` bytes of empty
    /// lines count as part of it.
    pub(super) const fn request(before: usize) -> Self {
        Self {
            state: State::MethodStart,
            seen: before,
            target: 0,
            fields: 0,
        }
    }

    /// Of the trailer section behind a chunked body.
    pub(super) const fn trailers() -> Self {
        Self {
            state: State::LineStart,
            seen: 0,
            target: 0,
            fields: 0,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], limits: &Limits) -> Result<Scanned, Refusal> {
        for (index, byte) in bytes.iter().enumerate() {
            self.seen += 1;
            if self.seen > limits.head_bytes {
                return Err(self.too_large());
            }
            if self.state == State::LastLf {
                return match byte {
                    b'\n' => Ok(Scanned::End(index + 1)),
                    _ => Err(BARE_CR),
                };
            }
            self.state = self.next(*byte, limits)?;
        }
        Ok(Scanned::More)
    }

    /// The bytes seen last belong to a field's name.
    pub(super) fn is_in_name(&self) -> bool {
        self.state == State::Name
    }

    fn next(&mut self, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        match (self.state, byte) {
            (State::MethodStart | State::Method, byte) if is_token(byte) => Ok(State::Method),
            (State::Method, b' ') => Ok(State::TargetStart),
            (State::MethodStart | State::Method, _) => Err(BAD_METHOD),
            (State::TargetStart | State::Target, byte) if is_target(byte) => {
                self.target += 1;
                if self.target > limits.target_bytes {
                    return Err(URI_TOO_LONG);
                }
                Ok(State::Target)
            }
            (State::Target, b' ') => Ok(State::Version(0)),
            (State::TargetStart | State::Target, _) => Err(BAD_TARGET),
            (State::Version(index), byte) => Self::version(index, byte),
            (State::LineEnd, b'\n') => Ok(State::LineStart),
            (State::LineEnd | State::LastLf, _) => Err(BARE_CR),
            (State::LineStart, b'\r') => Ok(State::LastLf),
            (State::LineStart, byte) if is_token(byte) => {
                self.fields += 1;
                if self.fields > FIELDS_MAX {
                    return Err(TOO_MANY_FIELDS);
                }
                Ok(State::Name)
            }
            (State::LineStart, byte) if is_blank(byte) => Err(FOLDED),
            (State::Name, byte) if is_token(byte) => Ok(State::Name),
            (State::Name, b':') => Ok(State::Value),
            (State::Name, byte) if is_blank(byte) => Err(BLANK_BEFORE_COLON),
            (State::LineStart | State::Name, b'\n') => Err(BARE_LF),
            (State::LineStart | State::Name, _) => Err(BAD_NAME),
            (State::Value, byte) if is_value(byte) => Ok(State::Value),
            (State::Value, b'\r') => Ok(State::LineEnd),
            (State::Value, b'\n') => Err(BARE_LF),
            (State::Value, _) => Err(BAD_VALUE),
        }
    }

    fn version(index: u8, byte: u8) -> Result<State, Refusal> {
        let good = match VERSION.get(usize::from(index)) {
            Some(expected) => byte == *expected,
            None if usize::from(index) == VERSION.len() => byte.is_ascii_digit(),
            None if byte == b'\r' => return Ok(State::LineEnd),
            None if byte == b'\n' => return Err(BARE_LF),
            None => false,
        };
        if good {
            Ok(State::Version(index + 1))
        } else {
            Err(BAD_VERSION)
        }
    }

    /// A head that outgrows its limit within the target is blamed on the target.
    const fn too_large(&self) -> Refusal {
        match self.state {
            State::TargetStart | State::Target => URI_TOO_LONG,
            _ => HEAD_TOO_LARGE,
        }
    }
}

pub(super) const BARE_CR: Refusal = Refusal::bad("a carriage return without its line feed");
pub(super) const BARE_LF: Refusal = Refusal::bad("a line feed without its carriage return");
const BAD_METHOD: Refusal = Refusal::bad("the method is no token followed by one space");
const BAD_TARGET: Refusal = Refusal::bad("the request target has a character it may not have");
const BAD_VERSION: Refusal = Refusal::bad("the version is not HTTP/1.1 or HTTP/1.0");
const FOLDED: Refusal = Refusal::bad("a line of the head begins with a blank");
const BLANK_BEFORE_COLON: Refusal = Refusal::bad("a blank between a field's name and its colon");
const BAD_NAME: Refusal = Refusal::bad("a field's name is no token followed by a colon");
const BAD_VALUE: Refusal = Refusal::bad("a control character in a field's value");
const URI_TOO_LONG: Refusal = Refusal::new(Code::UriTooLong, "see [http] max_uri_kb");
const TOO_MANY_FIELDS: Refusal = Refusal::new(Code::HeadTooLarge, "too many header fields");
const HEAD_TOO_LARGE: Refusal = Refusal::new(Code::HeadTooLarge, "see [http] max_head_kb");
