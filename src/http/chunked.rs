//! Takes the chunked coding off a body: RFC 9112 section 7.1, to the letter.
//!
//! ```text
//!   Size ─ digits, extensions ─ CR ▶ SizeLf ─ LF ─┬─ size > 0 ─▶ Data ─▶ DataCr ─▶ DataLf ─▶ Size
//!                                                 └─ size = 0 ─▶ Trailers ─▶ end
//!   extensions:  *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )
//! ```
//! What every server ignores (extensions, trailers) is where two servers disagree, so it is read by
//! the grammar, thrown away, and bounded: for one body so many bytes of each.

use super::Limits;
use super::characters::{is_blank, is_quoted, is_token, is_value};
use super::head::BODY_TOO_LARGE;
use super::refusal::{Code, Refusal};
use super::route::hex;
use super::scan::{BARE_CR, Scan, Scanned};

/// Bytes of chunk extensions, and of leading zeros, in one body.
pub const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// Digits of a size that are free of charge: no length of 64 bits needs more.
const SIZE_DIGITS: usize = 16;

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many digits of the size have come.
    Size(usize),
    /// Blanks that a semicolon must follow.
    BeforeExtension,
    ExtensionStart,
    ExtensionName,
    /// Blanks that an equals sign or a semicolon must follow.
    AfterName,
    ExtensionValueStart,
    ExtensionToken,
    Quoted,
    QuotedPair,
    AfterQuoted,
    SizeLf,
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailers(Trailers),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chunked {
    state: State,
    /// The size of the chunk whose first line is being read.
    size: u64,
    /// Bytes of data so far.
    data: u64,
    overhead: usize,
}

/// What the front of the input turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    NeedMore,
    Data(&'a [u8]),
    End,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Size(0),
            size: 0,
            data: 0,
            overhead: 0,
        }
    }

    pub(super) fn step<'a>(
        &mut self,
        input: &mut &'a [u8],
        limits: &Limits,
    ) -> Result<Part<'a>, Refusal> {
        loop {
            if input.is_empty() {
                return Ok(Part::NeedMore);
            }
            match &mut self.state {
                State::Data { left } => {
                    let count = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    let (data, rest) = input.split_at(count);
                    *input = rest;
                    *left -= count as u64;
                    if *left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Part::Data(data));
                }
                State::Trailers(trailers) => {
                    let byte = &input[..1];
                    *input = &input[1..];
                    if trailers.take(byte, limits)? {
                        return Ok(Part::End);
                    }
                }
                state => {
                    let byte = input[0];
                    *input = &input[1..];
                    let state = *state;
                    self.state = self.next(state, byte, limits)?;
                }
            }
        }
    }

    fn next(&mut self, state: State, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        match (state, byte) {
            (State::Size(digits), _) => self.size(digits, byte),
            (State::SizeLf, b'\n') => Ok(self.line_ended(limits)?),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.size = 0;
                Ok(State::Size(0))
            }
            (State::SizeLf, _) => Err(BARE_CR),
            (State::DataCr | State::DataLf, _) => {
                Err(Refusal::bad("a chunk is longer than its size says"))
            }
            (state, byte) => {
                self.overhead += 1;
                if self.overhead > EXTENSION_BYTES_MAX {
                    return Err(TOO_MUCH_OVERHEAD);
                }
                extension(state, byte)
            }
        }
    }

    fn size(&mut self, digits: usize, byte: u8) -> Result<State, Refusal> {
        if let Some(digit) = hex(byte) {
            if self.size >> 60 != 0 {
                return Err(Refusal::bad("a chunk's size is beyond all numbers"));
            }
            self.size = self.size << 4 | u64::from(digit);
            if digits >= SIZE_DIGITS {
                self.overhead += 1;
            }
            return if self.overhead > EXTENSION_BYTES_MAX {
                Err(TOO_MUCH_OVERHEAD)
            } else {
                Ok(State::Size(digits.saturating_add(1)))
            };
        }
        if digits == 0 {
            return Err(Refusal::bad("a chunk's size is no hexadecimal number"));
        }
        end_of_word(byte).ok_or(Refusal::bad("a chunk's size is no hexadecimal number"))
    }

    fn line_ended(&mut self, limits: &Limits) -> Result<State, Refusal> {
        if self.size == 0 {
            return Ok(State::Trailers(Trailers::new()));
        }
        if self.size > limits.body_bytes.saturating_sub(self.data) {
            return Err(BODY_TOO_LARGE);
        }
        self.data += self.size;
        Ok(State::Data { left: self.size })
    }
}

/// The trailer section: read and thrown away, but for names that would change the framing or the
/// destination of a request that is being served already.
#[derive(Clone, Copy, Debug)]
struct Trailers {
    scan: Scan,
    name: [u8; Self::NAME_BYTES_MAX],
    /// Bytes of the name so far; longer names are none of those looked for.
    length: usize,
}

impl Trailers {
    const FORBIDDEN: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
    const NAME_BYTES_MAX: usize = 17;

    const fn new() -> Self {
        Self {
            scan: Scan::trailers(),
            name: [0; Self::NAME_BYTES_MAX],
            length: 0,
        }
    }

    /// Takes one byte; true when it was the last.
    fn take(&mut self, byte: &[u8], limits: &Limits) -> Result<bool, Refusal> {
        let was_in_name = self.scan.is_in_name();
        let scanned = self.scan.feed(byte, limits)?;
        if self.scan.is_in_name() {
            if let Some(place) = self.name.get_mut(self.length) {
                *place = byte[0].to_ascii_lowercase();
            }
            self.length += 1;
        } else if was_in_name {
            let name = self.name.get(..self.length).unwrap_or_default();
            if Self::FORBIDDEN.contains(&name) {
                return Err(Refusal::bad(
                    "a trailer that would change how the request is read",
                ));
            }
            self.length = 0;
        }
        Ok(scanned != Scanned::More)
    }
}

const TOO_MUCH_OVERHEAD: Refusal = Refusal::new(
    Code::BodyTooLarge,
    "the chunks have more extensions than anybody reads",
);

/// One byte of a chunk extension.
fn extension(state: State, byte: u8) -> Result<State, Refusal> {
    let next = match (state, byte) {
        (State::BeforeExtension, byte) if is_blank(byte) => Some(State::BeforeExtension),
        (State::BeforeExtension | State::AfterName, b';') => Some(State::ExtensionStart),
        (State::ExtensionStart, byte) if is_blank(byte) => Some(State::ExtensionStart),
        (State::ExtensionStart | State::ExtensionName, byte) if is_token(byte) => {
            Some(State::ExtensionName)
        }
        (State::ExtensionName, byte) if is_blank(byte) => Some(State::AfterName),
        (State::ExtensionName | State::AfterName, b'=') => Some(State::ExtensionValueStart),
        (State::AfterName, byte) if is_blank(byte) => Some(State::AfterName),
        (State::ExtensionValueStart, byte) if is_blank(byte) => Some(State::ExtensionValueStart),
        (State::ExtensionValueStart, b'"') => Some(State::Quoted),
        (State::ExtensionValueStart | State::ExtensionToken, byte) if is_token(byte) => {
            Some(State::ExtensionToken)
        }
        (State::Quoted, b'"') => Some(State::AfterQuoted),
        (State::Quoted, b'\\') => Some(State::QuotedPair),
        (State::Quoted, byte) if is_quoted(byte) => Some(State::Quoted),
        (State::QuotedPair, byte) if is_value(byte) => Some(State::Quoted),
        (State::ExtensionName | State::ExtensionToken | State::AfterQuoted, byte) => {
            end_of_word(byte)
        }
        _ => None,
    };
    next.ok_or(Refusal::bad("a chunk extension is malformed"))
}

/// What may follow a size, a name or a value.
fn end_of_word(byte: u8) -> Option<State> {
    match byte {
        b';' => Some(State::ExtensionStart),
        b'\r' => Some(State::SizeLf),
        byte if is_blank(byte) => Some(State::BeforeExtension),
        _ => None,
    }
}
