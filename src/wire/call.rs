//! What the worker sends to an instance: the call, the rest of its body, the end of interest.
//!
//! The head is one list of texts in this order: call id, function, start kind, protocol, method,
//! script name, path, query, client, server, then name and value of each header (names in lower
//! case, repeated headers repeated). Script name, path and query are as they came over the wire,
//! still percent-encoded; the instance decodes them.

use super::frame::{
    BODY_BYTES_GOOD, CALL_HEAD_BYTES_MAX, FLAG_LAST, FRAME_BYTES_MAX, HEADER_BYTES,
};
use super::text::TextWriter;
use super::{FrameError, FrameHeader, FrameKind};
use alloc::vec::Vec;

/// Bytes between the frame header and the head: head length, budget.
pub const CALL_FIXED_BYTES: usize = 8;

/// How the instance that gets the call came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartKind {
    /// It had served before.
    Warm,
    /// Forked from a zygote for this call.
    Zygote,
    /// A new interpreter.
    Fresh,
}

impl StartKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Zygote => "zygote",
            Self::Fresh => "fresh",
        }
    }
}

/// A call but for its headers and its body.
#[derive(Debug, Clone, Copy)]
pub struct CallHead<'a> {
    pub id: &'a str,
    pub function: &'a str,
    pub start: StartKind,
    /// How long user code may take from the moment it gets the call; 0 is without end.
    pub budget_ms: u32,
    /// `HTTP/1.1`, `HTTP/1.0`.
    pub protocol: &'a str,
    pub method: &'a str,
    /// `/run/NAME`, as it came.
    pub script_name: &'a str,
    /// What follows it, as it came: empty or beginning with a slash.
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    /// `address:port` of the client, empty on a Unix socket.
    pub client: &'a str,
    /// `address:port` the client reached, empty on a Unix socket.
    pub server: &'a str,
}

impl CallHead<'_> {
    /// Appends the frame: head, headers, and the first bytes of the body (all of it when `last`).
    ///
    /// On an error `out` is as before. Allocates only while `out` grows.
    pub fn encode<'h>(
        &self,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        body: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let start = out.len();
        let result = self.encode_from(start, headers, body, last, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn encode_from<'h>(
        &self,
        start: usize,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        body: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        out.extend_from_slice(&[0; HEADER_BYTES + CALL_FIXED_BYTES]);
        let mut head = TextWriter::new(out);
        for text in [
            self.id,
            self.function,
            self.start.name(),
            self.protocol,
            self.method,
            self.script_name,
            self.path,
            self.query,
            self.client,
            self.server,
        ] {
            head.push(text.as_bytes())?;
        }
        for (name, value) in headers {
            head.push_lower(name)?;
            head.push(value)?;
        }
        let head_bytes = head.bytes();
        if head_bytes > CALL_HEAD_BYTES_MAX {
            let bytes_max = CALL_HEAD_BYTES_MAX;
            return Err(FrameError::TooLong {
                bytes: head_bytes,
                bytes_max,
            });
        }
        let length = CALL_FIXED_BYTES + head_bytes + body.len();
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong {
                bytes: length,
                bytes_max: FRAME_BYTES_MAX,
            });
        }
        out.extend_from_slice(body);
        let header = FrameHeader {
            kind: FrameKind::Call,
            flags: last_flag(last),
            length,
        };
        let fixed = &mut out[start..start + HEADER_BYTES + CALL_FIXED_BYTES];
        fixed[..HEADER_BYTES].copy_from_slice(&header.encode());
        fixed[HEADER_BYTES..][..4].copy_from_slice(&(head_bytes as u32).to_le_bytes());
        fixed[HEADER_BYTES + 4..].copy_from_slice(&self.budget_ms.to_le_bytes());
        Ok(())
    }
}

/// The header of a `Body` frame, for a body that is sent from where it lies.
///
/// A body longer than `BODY_BYTES_GOOD` is better cut there; more than `FRAME_BYTES_MAX` is a bug.
pub const fn body_header(bytes: usize, last: bool) -> [u8; HEADER_BYTES] {
    FrameHeader {
        kind: FrameKind::Body,
        flags: last_flag(last),
        length: bytes,
    }
    .encode()
}

/// Appends body bytes of any number as frames; `last` ends the body (also an empty one).
pub fn encode_body(mut body: &[u8], last: bool, out: &mut Vec<u8>) {
    while body.len() > BODY_BYTES_GOOD {
        let (piece, rest) = body.split_at(BODY_BYTES_GOOD);
        out.extend_from_slice(&body_header(piece.len(), false));
        out.extend_from_slice(piece);
        body = rest;
    }
    if last || !body.is_empty() {
        out.extend_from_slice(&body_header(body.len(), last));
        out.extend_from_slice(body);
    }
}

/// Nobody waits for the answer any more, and no more of the body will come.
pub const fn cancel() -> [u8; HEADER_BYTES] {
    FrameHeader {
        kind: FrameKind::Cancel,
        flags: 0,
        length: 0,
    }
    .encode()
}

const fn last_flag(last: bool) -> u8 {
    if last { FLAG_LAST } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::super::text::Texts;
    use super::*;

    const HEAD: CallHead<'_> = CallHead {
        id: "c1",
        function: "echo",
        start: StartKind::Zygote,
        budget_ms: 30_000,
        protocol: "HTTP/1.1",
        method: "POST",
        script_name: "/run/echo",
        path: "/a%20b",
        query: "x=1",
        client: "127.0.0.1:4000",
        server: "",
    };

    #[test]
    fn a_small_call_is_one_frame() {
        let mut out = Vec::new();
        let headers = [(&b"Content-Type"[..], &b"text/plain"[..])];
        HEAD.encode(headers, b"{}", true, &mut out).unwrap();
        let header = FrameHeader::decode(out[..8].try_into().unwrap()).unwrap();
        assert_eq!((header.kind, header.flags), (FrameKind::Call, FLAG_LAST));
        assert_eq!(header.length, out.len() - HEADER_BYTES);
        let head_bytes = u32::from_le_bytes(out[8..12].try_into().unwrap()) as usize;
        assert_eq!(out[12..16], 30_000_u32.to_le_bytes());
        let fields: Vec<_> = Texts::new(&out[16..16 + head_bytes]).iter().collect();
        assert_eq!(fields.len(), 12);
        assert_eq!(fields[2], b"zygote");
        assert_eq!(fields[6], b"/a%20b");
        assert_eq!(fields[10..], [&b"content-type"[..], b"text/plain"]);
        assert_eq!(&out[16 + head_bytes..], b"{}");
    }

    #[test]
    fn a_refused_call_leaves_no_bytes() {
        let mut out = b"kept".to_vec();
        let nul = HEAD.encode([(&b"a"[..], &b"\0"[..])], b"", true, &mut out);
        assert_eq!(nul, Err(FrameError::BadText));
        let long = alloc::vec![b'x'; CALL_HEAD_BYTES_MAX];
        let error = HEAD
            .encode([(&b"a"[..], &long[..])], b"", true, &mut out)
            .unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLong {
                bytes_max: CALL_HEAD_BYTES_MAX,
                ..
            }
        ));
        assert_eq!(out, b"kept");
    }

    #[test]
    fn long_bodies_are_cut_and_empty_ones_still_end() {
        let mut out = Vec::new();
        encode_body(&alloc::vec![7; 2 * BODY_BYTES_GOOD + 1], true, &mut out);
        let mut lengths = Vec::new();
        let mut rest = &out[..];
        while let Some((header, after)) = rest.split_first_chunk() {
            let header = FrameHeader::decode(*header).unwrap();
            lengths.push((header.length, header.has(FLAG_LAST)));
            rest = &after[header.length..];
        }
        let expected = [
            (BODY_BYTES_GOOD, false),
            (BODY_BYTES_GOOD, false),
            (1, true),
        ];
        assert_eq!(lengths, expected);
        out.clear();
        encode_body(b"", false, &mut out);
        assert!(out.is_empty());
        encode_body(b"", true, &mut out);
        assert_eq!(out, body_header(0, true));
    }
}
