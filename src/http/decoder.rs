//! Bytes in, requests out: the state machine of one connection's reading side.
//!
//! ```text
//!            ┌───────────────────────── End ◀───────────────────────┐
//!            ▼                                                      │
//!   Between ─ a byte ─▶ Collecting ─ empty line ─▶ Head ─▶ Body ────┤
//!      │                    │                        └── no body ───┘
//!      └─ whole head ───────┼────────────────────────▶      │
//!                           └────────── Refuse ◀────────────┘   (for good)
//! ```
//! However the bytes are cut into slices, the steps are the same (but for where body data is cut),
//! and so is the refusal. A head that comes in one slice to a warm [`Head`] allocates nothing.

use super::Limits;
use super::chunked::{Chunked, Part};
use super::head::{Framing, Head, Lines};
use super::refusal::Refusal;
use super::scan::{BARE_CR, BARE_LF, Scan, Scanned};

/// What the bytes so far have brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// All input is used up.
    NeedMore,
    /// The head is complete and good.
    Head,
    /// A piece of the body, the coding taken off; never empty.
    Body(&'a [u8]),
    /// The request is complete; the next may follow.
    End,
    /// Nothing that comes on this connection has a meaning any more.
    Refuse(Refusal),
}

/// Decodes the requests of one connection.
#[derive(Debug)]
pub struct Decoder {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the first byte of a head; empty lines are skipped.
    Between(Blank),
    Collecting(Scan, Lines),
    Length {
        left: u64,
    },
    Chunked(Chunked),
    /// All of the request has come, `End` was not said yet.
    Complete,
    Refused(Refusal),
}

/// Empty lines before a head: how many bytes, and whether a line feed must be next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blank {
    bytes: usize,
    after_cr: bool,
}

const FRESH: State = State::Between(Blank {
    bytes: 0,
    after_cr: false,
});

impl Default for Decoder {
    fn default() -> Self {
        Self { state: FRESH }
    }
}

impl Decoder {
    /// Takes bytes from the front of `input` until there is something to tell. `head` belongs to
    /// the decoder from the first byte of a head to its `Head` step, and is only read after it.
    pub fn step<'a>(&mut self, input: &mut &'a [u8], head: &mut Head, limits: &Limits) -> Step<'a> {
        match self.advance(input, head, limits) {
            Ok(step) => step,
            Err(refusal) => {
                self.state = State::Refused(refusal);
                Step::Refuse(refusal)
            }
        }
    }

    /// No byte of a next request has come, but for empty lines.
    pub const fn is_between(&self) -> bool {
        matches!(self.state, State::Between(_))
    }

    fn advance<'a>(
        &mut self,
        input: &mut &'a [u8],
        head: &mut Head,
        limits: &Limits,
    ) -> Result<Step<'a>, Refusal> {
        loop {
            match &mut self.state {
                State::Refused(refusal) => return Err(*refusal),
                State::Complete => {
                    self.state = FRESH;
                    return Ok(Step::End);
                }
                _ if input.is_empty() => return Ok(Step::NeedMore),
                State::Between(blank) => {
                    if !blank.skip(input, limits)? {
                        return Ok(Step::NeedMore);
                    }
                    let before = blank.bytes;
                    head.clear();
                    if before == 0
                        && let Some(length) = head.read(input, limits)
                    {
                        let (bytes, rest) = input.split_at(length);
                        *input = rest;
                        head.keep(bytes);
                        return self.head_ended(head, limits);
                    }
                    self.state = State::Collecting(Scan::request(before), Lines::default());
                }
                State::Collecting(scan, lines) => {
                    let line = first_line(input);
                    let scanned = scan.feed(line, limits)?;
                    *input = &input[line.len()..];
                    head.collect(line);
                    if line.ends_with(b"\n") {
                        head.examine_lines(lines)?;
                    }
                    if scanned == Scanned::End(line.len()) {
                        head.read_collected(limits)?;
                        return self.head_ended(head, limits);
                    }
                }
                State::Length { left } => {
                    let count = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    let (data, rest) = input.split_at(count);
                    *input = rest;
                    *left -= count as u64;
                    if *left == 0 {
                        self.state = State::Complete;
                    }
                    return Ok(Step::Body(data));
                }
                State::Chunked(chunked) => {
                    return Ok(match chunked.step(input, limits)? {
                        Part::NeedMore => Step::NeedMore,
                        Part::Data(data) => Step::Body(data),
                        Part::End => {
                            self.state = FRESH;
                            Step::End
                        }
                    });
                }
            }
        }
    }

    fn head_ended<'a>(&mut self, head: &mut Head, limits: &Limits) -> Result<Step<'a>, Refusal> {
        head.examine(limits)?;
        self.state = match head.framing() {
            Framing::Empty => State::Complete,
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Chunked(Chunked::new()),
        };
        Ok(Step::Head)
    }
}

/// The input up to its first line feed: lines are judged one by one, in whatever pieces they come.
fn first_line(input: &[u8]) -> &[u8] {
    let end = input.iter().position(|byte| *byte == b'\n');
    end.map_or(input, |end| &input[..=end])
}

impl Blank {
    /// Skips empty lines; true when a byte of a head is next.
    fn skip(&mut self, input: &mut &[u8], limits: &Limits) -> Result<bool, Refusal> {
        while let [byte, rest @ ..] = *input {
            match (self.after_cr, byte) {
                (false, b'\r') => self.after_cr = true,
                (true, b'\n') => self.after_cr = false,
                (true, _) => return Err(BARE_CR),
                (false, b'\n') => return Err(BARE_LF),
                (false, _) => return Ok(true),
            }
            *input = rest;
            self.bytes += 1;
            if self.bytes > limits.head_bytes {
                return Err(Refusal::bad("nothing but empty lines"));
            }
        }
        Ok(false)
    }
}
