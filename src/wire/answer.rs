//! What an instance answers, decoded as it arrives.
//!
//! The instance is user code: every byte may be a lie. The decoder takes any cut of the stream,
//! gives the same events for all of them, holds at most one head or one failure, and allocates
//! nothing while heads arrive in one piece. What it gives out is checked: a status is a final one,
//! a header name is a token, a header value has no line end, a frame comes when it may.
//!
//! ```text
//!   Idle --call_sent--> Asked --Head--> Streaming --End(Keep|Tainted)--> Idle
//!                         |                 |    \--End(Busy)--> Busy --Idle--> Idle
//!                         \----Failed-------+--> Idle
//! ```

use super::frame::{
    ANSWER_HEAD_BYTES_MAX, ANSWER_HEADERS_MAX, FAILURE_BYTES_MAX, FLAG_BUSY, FLAG_LAST,
    FLAG_TAINTED, HEADER_BYTES,
};
use super::text::Texts;
use super::{FrameError, FrameHeader, FrameKind};
use alloc::vec::Vec;

/// Bytes between the frame header and the head of an answer: head length, status, zero.
pub const ANSWER_FIXED_BYTES: usize = 8;
/// Bytes between the frame header and the texts of a failure: code, zero, detail length.
pub const FAILURE_FIXED_BYTES: usize = 8;

/// What has just been learned. Borrows from the bytes given or from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerEvent<'a> {
    Head(AnswerHead<'a>),
    /// More of the body; never empty.
    Data(&'a [u8]),
    /// The body is complete.
    End(After),
    /// In the place of an answer, or of its rest when its head went before. The call is over.
    Failed(Failure<'a>),
    /// User code that went on after its answer has come to its end.
    Idle {
        tainted: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead<'a> {
    pub status: u16,
    pub headers: Headers<'a>,
    /// The number of body bytes, when all of them are in this frame.
    pub body_bytes: Option<usize>,
}

/// What becomes of the instance after its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It may take the next call.
    Keep,
    /// It asks not to be used again.
    Tainted,
    /// User code still runs; an `Idle` event follows.
    Busy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    pub code: FailureCode,
    /// One line: the exception, or what is wrong.
    pub detail: &'a str,
    /// Python's lines, oldest call first; may be empty.
    pub traceback: &'a str,
    pub tainted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum FailureCode {
    /// The function raised, or returned what cannot be sent.
    FunctionError = 1,
    /// The body is no JSON.
    BadEvent = 2,
    /// The function's module raised while it was imported, or its application did not start.
    ImportFailed = 3,
    /// There is no entry file, or nothing in it that can be called.
    EntryMissing = 4,
    /// The sandbox could not be set up; no user code has run.
    SandboxFailed = 5,
}

impl FailureCode {
    const fn from_number(number: u16) -> Result<Self, FrameError> {
        Ok(match number {
            1 => Self::FunctionError,
            2 => Self::BadEvent,
            3 => Self::ImportFailed,
            4 => Self::EntryMissing,
            5 => Self::SandboxFailed,
            _ => return Err(FrameError::UnknownFailure(number)),
        })
    }
}

/// Names and values of a checked head, in the order the function gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    texts: Texts<'a>,
}

impl<'a> Headers<'a> {
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone {
        let values = self.texts.iter().skip(1).step_by(2);
        self.texts.iter().step_by(2).zip(values)
    }

    fn check(texts: Texts<'a>) -> Result<Self, FrameError> {
        let mut count = 0;
        for (index, text) in texts.iter().enumerate() {
            count = index + 1;
            if index % 2 == 0 && (text.is_empty() || !text.iter().all(|&byte| is_token(byte))) {
                return Err(FrameError::BadHeaderName);
            }
            if index % 2 == 1 && !text.iter().all(|&byte| is_value(byte)) {
                return Err(FrameError::BadHeaderValue);
            }
        }
        if count % 2 == 1 {
            return Err(FrameError::Truncated);
        }
        if count > 2 * ANSWER_HEADERS_MAX {
            return Err(FrameError::TooManyHeaders);
        }
        Ok(Self { texts })
    }
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
}

const fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// One step of decoding: how many of the given bytes are done with, and what they told.
///
/// Without an event all bytes are used and more are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    pub used: usize,
    pub event: Option<AnswerEvent<'a>>,
}

/// The worker's ear to one instance, for the whole life of the connection.
#[derive(Debug)]
pub struct AnswerDecoder {
    conversation: Conversation,
    reading: Reading,
    /// A prefix that did not arrive in one piece.
    carry: Vec<u8>,
    /// The carry was given out with the event before and is done with.
    carry_spent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversation {
    Idle,
    Asked,
    Streaming,
    Busy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A frame header and, if the kind has them, its fixed part and its texts.
    Prefix,
    /// Body bytes, passed through.
    Body {
        header: FrameHeader,
        remaining: usize,
    },
}

impl Default for AnswerDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl AnswerDecoder {
    pub const fn new() -> Self {
        Self {
            conversation: Conversation::Idle,
            reading: Reading::Prefix,
            carry: Vec::new(),
            carry_spent: false,
        }
    }

    /// A call goes out: from now on an answer may come. Only while idle.
    pub fn call_sent(&mut self) {
        assert!(self.is_idle(), "a call is sent only to an idle instance");
        self.conversation = Conversation::Asked;
    }

    /// No call is under way and none of its user code is known to run.
    pub const fn is_idle(&self) -> bool {
        matches!(self.conversation, Conversation::Idle)
    }

    /// Takes the next step through `input`. Call again with the bytes not used until there is no
    /// event. After an error the connection is good for nothing.
    pub fn decode<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FrameError> {
        if self.carry_spent {
            self.carry.clear();
            self.carry_spent = false;
        }
        let mut used = 0;
        loop {
            let header = match self.reading {
                Reading::Prefix => {
                    let Some(taken) = self.gather(&input[used..])? else {
                        return Ok(Step {
                            used: input.len(),
                            event: None,
                        });
                    };
                    let start = used;
                    used += taken;
                    if self.enter(&input[start..used])? == FrameKind::Data {
                        continue;
                    }
                    self.carry_spent = !self.carry.is_empty();
                    let prefix = if self.carry_spent {
                        &self.carry
                    } else {
                        &input[start..used]
                    };
                    return Ok(Step {
                        used,
                        event: Some(event(prefix)?),
                    });
                }
                Reading::Body {
                    header,
                    remaining: 0,
                } => header,
                Reading::Body { header, remaining } => {
                    let taken = remaining.min(input.len() - used);
                    if taken == 0 {
                        return Ok(Step { used, event: None });
                    }
                    self.reading = Reading::Body {
                        header,
                        remaining: remaining - taken,
                    };
                    let event = AnswerEvent::Data(&input[used..used + taken]);
                    return Ok(Step {
                        used: used + taken,
                        event: Some(event),
                    });
                }
            };
            self.reading = Reading::Prefix;
            if header.has(FLAG_LAST) {
                return Ok(Step {
                    used,
                    event: Some(AnswerEvent::End(self.end(header))),
                });
            }
        }
    }

    /// Makes the next prefix whole, where it lies or in the carry. Some: how many bytes of the
    /// input belong to it.
    fn gather(&mut self, input: &[u8]) -> Result<Option<usize>, FrameError> {
        if self.carry.is_empty() {
            let need = self.prefix_bytes(input)?;
            if need <= input.len() {
                return Ok(Some(need));
            }
            self.carry.extend_from_slice(input);
            return Ok(None);
        }
        let mut taken = 0;
        loop {
            let need = self.prefix_bytes(&self.carry)?;
            let missing = need - self.carry.len();
            if missing == 0 {
                return Ok(Some(taken));
            }
            let piece = missing.min(input.len() - taken);
            if piece == 0 {
                return Ok(None);
            }
            self.carry.extend_from_slice(&input[taken..taken + piece]);
            taken += piece;
        }
    }

    /// The length of the prefix that begins so, as far as it is known yet.
    fn prefix_bytes(&self, bytes: &[u8]) -> Result<usize, FrameError> {
        let Some(header) = bytes.first_chunk() else {
            return Ok(HEADER_BYTES);
        };
        let header = FrameHeader::decode(*header)?;
        self.check_order(header)?;
        let fixed = match header.kind {
            FrameKind::Answer => ANSWER_FIXED_BYTES,
            FrameKind::Failure => FAILURE_FIXED_BYTES,
            FrameKind::Data => 0,
            FrameKind::Idle if header.length == 0 => 0,
            FrameKind::Idle => return Err(FrameError::Surplus(header.length)),
            FrameKind::Call | FrameKind::Body | FrameKind::Cancel => {
                return Err(FrameError::OutOfOrder(header.kind));
            }
        };
        if header.length < fixed {
            return Err(FrameError::Truncated);
        }
        if header.kind == FrameKind::Failure {
            within(header.length, FAILURE_BYTES_MAX)?;
            return Ok(HEADER_BYTES + header.length);
        }
        if header.kind != FrameKind::Answer || bytes.len() < HEADER_BYTES + fixed {
            return Ok(HEADER_BYTES + fixed);
        }
        let head_bytes = long(&bytes[HEADER_BYTES..]);
        within(head_bytes, ANSWER_HEAD_BYTES_MAX)?;
        if fixed + head_bytes > header.length {
            return Err(FrameError::Truncated);
        }
        Ok(HEADER_BYTES + fixed + head_bytes)
    }

    fn check_order(&self, header: FrameHeader) -> Result<(), FrameError> {
        let in_order = match header.kind {
            FrameKind::Answer => self.conversation == Conversation::Asked,
            FrameKind::Data => self.conversation == Conversation::Streaming,
            FrameKind::Failure => {
                matches!(
                    self.conversation,
                    Conversation::Asked | Conversation::Streaming
                )
            }
            FrameKind::Idle => self.conversation == Conversation::Busy,
            FrameKind::Call | FrameKind::Body | FrameKind::Cancel => false,
        };
        if !in_order {
            return Err(FrameError::OutOfOrder(header.kind));
        }
        let needs_last = matches!(header.kind, FrameKind::Answer | FrameKind::Data);
        let ends = header.flags & (FLAG_BUSY | FLAG_TAINTED);
        let both = ends == FLAG_BUSY | FLAG_TAINTED;
        if both || (needs_last && ends != 0 && !header.has(FLAG_LAST)) {
            return Err(FrameError::BadFlags(header.flags));
        }
        Ok(())
    }

    /// A whole prefix lies in the carry or, if that is empty, in these bytes: the conversation
    /// moves on.
    fn enter(&mut self, bytes: &[u8]) -> Result<FrameKind, FrameError> {
        let prefix = if self.carry.is_empty() {
            bytes
        } else {
            &self.carry
        };
        let header = read_header(prefix)?;
        let remaining = header.length - (prefix.len() - HEADER_BYTES);
        match header.kind {
            FrameKind::Answer => {
                self.conversation = Conversation::Streaming;
                self.reading = Reading::Body { header, remaining };
            }
            FrameKind::Data => {
                self.carry.clear();
                self.reading = Reading::Body { header, remaining };
            }
            FrameKind::Failure | FrameKind::Idle => self.conversation = Conversation::Idle,
            FrameKind::Call | FrameKind::Body | FrameKind::Cancel => {
                return Err(FrameError::OutOfOrder(header.kind));
            }
        }
        Ok(header.kind)
    }

    fn end(&mut self, header: FrameHeader) -> After {
        let after = if header.has(FLAG_BUSY) {
            After::Busy
        } else if header.has(FLAG_TAINTED) {
            After::Tainted
        } else {
            After::Keep
        };
        let busy = after == After::Busy;
        self.conversation = if busy {
            Conversation::Busy
        } else {
            Conversation::Idle
        };
        after
    }
}

fn read_header(prefix: &[u8]) -> Result<FrameHeader, FrameError> {
    FrameHeader::decode(*prefix.first_chunk().ok_or(FrameError::Truncated)?)
}

/// What a whole prefix of a kind with an event of its own says.
fn event(prefix: &[u8]) -> Result<AnswerEvent<'_>, FrameError> {
    let header = read_header(prefix)?;
    let fields = &prefix[HEADER_BYTES..];
    let tainted = header.has(FLAG_TAINTED);
    match header.kind {
        FrameKind::Answer => {
            let status = short(&fields[4..]);
            if !(200..=999).contains(&status) {
                return Err(FrameError::BadStatus(status));
            }
            if short(&fields[6..]) != 0 {
                return Err(FrameError::ReservedUsed);
            }
            let headers = Headers::check(Texts::new(&fields[ANSWER_FIXED_BYTES..]))?;
            let body_bytes = header.length - fields.len();
            let body_bytes = header.has(FLAG_LAST).then_some(body_bytes);
            Ok(AnswerEvent::Head(AnswerHead {
                status,
                headers,
                body_bytes,
            }))
        }
        FrameKind::Failure => {
            let code = FailureCode::from_number(short(fields))?;
            if short(&fields[2..]) != 0 {
                return Err(FrameError::ReservedUsed);
            }
            let texts = &fields[FAILURE_FIXED_BYTES..];
            let (detail, traceback) = texts
                .split_at_checked(long(&fields[4..]))
                .ok_or(FrameError::Truncated)?;
            let detail = core::str::from_utf8(detail).map_err(|_| FrameError::NotUtf8)?;
            let traceback = core::str::from_utf8(traceback).map_err(|_| FrameError::NotUtf8)?;
            Ok(AnswerEvent::Failed(Failure {
                code,
                detail,
                traceback,
                tainted,
            }))
        }
        FrameKind::Idle => Ok(AnswerEvent::Idle { tainted }),
        kind => Err(FrameError::OutOfOrder(kind)),
    }
}

const fn within(bytes: usize, bytes_max: usize) -> Result<(), FrameError> {
    if bytes > bytes_max {
        Err(FrameError::TooLong { bytes, bytes_max })
    } else {
        Ok(())
    }
}

fn short(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn long(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

#[cfg(test)]
mod tests {
    use super::super::reply;
    use super::*;
    use alloc::string::String;
    use alloc::{format, vec};
    use proptest::prelude::*;

    /// Events with their borrowed parts copied; neighbouring data joined.
    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        Head(u16, Vec<(Vec<u8>, Vec<u8>)>, Option<usize>),
        Data(Vec<u8>),
        End(After),
        Failed(FailureCode, String, String, bool),
        Idle(bool),
        Error(FrameError),
    }

    fn tell(event: AnswerEvent<'_>, told: &mut Vec<Told>) {
        let news = match event {
            AnswerEvent::Head(head) => {
                let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
                Told::Head(
                    head.status,
                    head.headers.iter().map(owned).collect(),
                    head.body_bytes,
                )
            }
            AnswerEvent::Data(data) => {
                assert!(!data.is_empty());
                let before = told.pop_if(|last| matches!(last, Told::Data(_)));
                let Some(Told::Data(mut all)) = before else {
                    return told.push(Told::Data(data.to_vec()));
                };
                all.extend_from_slice(data);
                Told::Data(all)
            }
            AnswerEvent::End(after) => Told::End(after),
            AnswerEvent::Failed(failure) => {
                let Failure {
                    code,
                    detail,
                    traceback,
                    tainted,
                } = failure;
                Told::Failed(code, detail.into(), traceback.into(), tainted)
            }
            AnswerEvent::Idle { tainted } => Told::Idle(tainted),
        };
        told.push(news);
    }

    /// Decodes pieces one after the other, sending a call whenever the instance is idle.
    fn decode_pieces<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<Told> {
        let mut decoder = AnswerDecoder::new();
        let mut told = Vec::new();
        for mut piece in pieces {
            loop {
                if decoder.is_idle() {
                    decoder.call_sent();
                }
                match decoder.decode(piece) {
                    Ok(Step { used, event }) => {
                        piece = &piece[used..];
                        let Some(event) = event else {
                            assert!(piece.is_empty());
                            break;
                        };
                        tell(event, &mut told);
                    }
                    Err(error) => {
                        told.push(Told::Error(error));
                        return told;
                    }
                }
            }
        }
        told
    }

    fn decode_whole(bytes: &[u8]) -> Vec<Told> {
        decode_pieces([bytes])
    }

    fn first_error(bytes: &[u8]) -> FrameError {
        match decode_whole(bytes).pop() {
            Some(Told::Error(error)) => error,
            other => panic!("expected an error, got {other:?}"),
        }
    }

    fn conversation_bytes() -> Vec<u8> {
        let mut out = Vec::new();
        let headers = [(&b"content-type"[..], &b"application/json"[..])];
        reply::encode_answer(200, headers, b"{}", FLAG_LAST, &mut out);
        reply::encode_answer(204, [], b"", FLAG_LAST | FLAG_TAINTED, &mut out);
        reply::encode_answer(206, [(&b"a"[..], &b""[..]); 3], b"first", 0, &mut out);
        reply::encode_data(b"", 0, &mut out);
        reply::encode_data(&[9; 3000], 0, &mut out);
        reply::encode_data(b"end", FLAG_LAST | FLAG_BUSY, &mut out);
        reply::encode_idle(true, &mut out);
        reply::encode_failure(FailureCode::BadEvent, "no JSON: é", "", false, &mut out);
        reply::encode_answer(200, [], b"x", 0, &mut out);
        reply::encode_failure(
            FailureCode::FunctionError,
            "boom",
            "Traceback",
            true,
            &mut out,
        );
        out
    }

    fn conversation_told() -> Vec<Told> {
        let json = (b"content-type".to_vec(), b"application/json".to_vec());
        vec![
            Told::Head(200, vec![json], Some(2)),
            Told::Data(b"{}".to_vec()),
            Told::End(After::Keep),
            Told::Head(204, vec![], Some(0)),
            Told::End(After::Tainted),
            Told::Head(206, vec![(b"a".to_vec(), vec![]); 3], None),
            Told::Data([&b"first"[..], &[9; 3000], b"end"].concat()),
            Told::End(After::Busy),
            Told::Idle(true),
            Told::Failed(
                FailureCode::BadEvent,
                "no JSON: é".into(),
                String::new(),
                false,
            ),
            Told::Head(200, vec![], None),
            Told::Data(b"x".to_vec()),
            Told::Failed(
                FailureCode::FunctionError,
                "boom".into(),
                "Traceback".into(),
                true,
            ),
        ]
    }

    #[test]
    fn a_conversation_is_understood() {
        assert_eq!(decode_whole(&conversation_bytes()), conversation_told());
    }

    #[test]
    fn single_bytes_tell_the_same() {
        assert_eq!(
            decode_pieces(conversation_bytes().chunks(1)),
            conversation_told()
        );
    }

    #[test]
    fn a_whole_head_is_borrowed_from_the_input() {
        let mut decoder = AnswerDecoder::new();
        decoder.call_sent();
        let mut bytes = Vec::new();
        reply::encode_answer(
            200,
            [(&b"a"[..], &b"b"[..])],
            b"body",
            FLAG_LAST,
            &mut bytes,
        );
        let mut rest = &bytes[..];
        while let Step {
            used,
            event: Some(_),
        } = decoder.decode(rest).unwrap()
        {
            rest = &rest[used..];
        }
        assert!(decoder.is_idle());
        assert_eq!(
            decoder.carry.capacity(),
            0,
            "the warm path allocates nothing"
        );
    }

    #[test]
    fn lies_have_their_errors() {
        let answer = |status, headers: &[(&[u8], &[u8])], flags| {
            let mut out = Vec::new();
            reply::encode_answer(status, headers.iter().copied(), b"", flags, &mut out);
            first_error(&out)
        };
        assert_eq!(answer(100, &[], FLAG_LAST), FrameError::BadStatus(100));
        assert_eq!(
            answer(200, &[(b"a b", b"")], FLAG_LAST),
            FrameError::BadHeaderName
        );
        assert_eq!(
            answer(200, &[(b"", b"")], FLAG_LAST),
            FrameError::BadHeaderName
        );
        assert_eq!(
            answer(200, &[(b"a", b"b\r\nc: d")], FLAG_LAST),
            FrameError::BadHeaderValue
        );
        assert_eq!(
            answer(200, &[(b"a", b"b\0c")], FLAG_LAST),
            FrameError::Truncated
        );
        assert_eq!(
            answer(200, &[(&b"a"[..], &b""[..]); 257], FLAG_LAST),
            FrameError::TooManyHeaders
        );
        assert_eq!(answer(200, &[], FLAG_BUSY), FrameError::BadFlags(FLAG_BUSY));
        let long = vec![b'x'; ANSWER_HEAD_BYTES_MAX];
        assert!(matches!(
            answer(200, &[(b"a", &long)], 0),
            FrameError::TooLong { .. }
        ));

        let frame = |kind, payload: &[u8]| {
            let header = FrameHeader {
                kind,
                flags: 0,
                length: payload.len(),
            };
            first_error(&[&header.encode()[..], payload].concat())
        };
        assert_eq!(
            frame(FrameKind::Data, b""),
            FrameError::OutOfOrder(FrameKind::Data)
        );
        assert_eq!(
            frame(FrameKind::Idle, b""),
            FrameError::OutOfOrder(FrameKind::Idle)
        );
        assert_eq!(
            frame(FrameKind::Call, b""),
            FrameError::OutOfOrder(FrameKind::Call)
        );
        assert_eq!(frame(FrameKind::Answer, &[0; 7]), FrameError::Truncated);
        assert_eq!(
            frame(FrameKind::Answer, &[1, 0, 0, 0, 200, 0, 0, 0]),
            FrameError::Truncated
        );
        assert_eq!(frame(FrameKind::Failure, &[9; 3]), FrameError::Truncated);
        assert_eq!(
            frame(FrameKind::Failure, &[9, 0, 0, 0, 0, 0, 0, 0]),
            FrameError::UnknownFailure(9)
        );
        assert_eq!(
            frame(FrameKind::Failure, &[1, 0, 0, 0, 9, 0, 0, 0]),
            FrameError::Truncated
        );
        let not_utf8 = [1, 0, 0, 0, 1, 0, 0, 0, 0xff];
        assert_eq!(frame(FrameKind::Failure, &not_utf8), FrameError::NotUtf8);
    }

    #[test]
    fn nobody_may_speak_unasked() {
        let mut decoder = AnswerDecoder::new();
        let mut bytes = Vec::new();
        reply::encode_answer(200, [], b"", FLAG_LAST, &mut bytes);
        let error = decoder.decode(&bytes).unwrap_err();
        assert_eq!(error, FrameError::OutOfOrder(FrameKind::Answer));
    }

    #[test]
    fn errors_read_well() {
        let text = format!(
            "{}",
            FrameError::TooLong {
                bytes: 9,
                bytes_max: 8
            }
        );
        assert_eq!(text, "9 bytes where at most 8 are allowed");
    }

    proptest! {
        #[test]
        fn every_cut_tells_the_same(cuts in prop::collection::vec(1_usize..200, 0..80)) {
            let bytes = conversation_bytes();
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            prop_assert_eq!(decode_pieces(pieces), conversation_told());
        }

        #[test]
        fn damage_is_told_alike_whole_and_in_pieces(
            place in 0_usize..3300, value: u8, cut in 1_usize..64,
        ) {
            let mut bytes = conversation_bytes();
            let place = place % bytes.len();
            bytes[place] = value;
            prop_assert_eq!(decode_pieces(bytes.chunks(cut)), decode_whole(&bytes));
        }
    }
}
