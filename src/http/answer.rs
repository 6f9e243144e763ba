//! One answer into a buffer: status line, fields, and a body framed so that the client knows its
//! end.
//!
//! ```text
//!   Answer::begin ─▶ field, .. ─▶ body(length) ─▶ Body ─ write ─▶ .. ─ end ─▶ Kept | Closed
//! ```
//! How the body is framed follows from the request and from what is known of its length:
//!
//! ```text
//!   HEAD, 204, 205, 304        no body, whatever is written
//!   length known               Content-Length
//!   unknown, HTTP/1.1          chunked
//!   unknown, HTTP/1.0          until the connection closes
//! ```

use super::characters::{is_blank, is_token, is_value};
use super::date::Date;
use super::head::{Head, Version, list};
use super::json::number;
use super::route::Method;
use alloc::vec::Vec;
use core::fmt;

/// What of a request decides how its answer is framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    pub version: Version,
    /// It was a HEAD request.
    pub head_only: bool,
    /// Both sides want the connection kept.
    pub keep_alive: bool,
}

impl Asked {
    /// Of a request that could not be read: answer it plainly and close.
    pub const UNREADABLE: Self = Self {
        version: Version::Http11,
        head_only: false,
        keep_alive: false,
    };

    pub fn by(head: &Head) -> Self {
        Self {
            version: head.version(),
            head_only: head.method() == Method::Head,
            keep_alive: head.keeps_alive(),
        }
    }
}

/// An answer whose head is being written.
#[derive(Debug)]
pub struct Answer<'o> {
    out: &'o mut Vec<u8>,
    asked: Asked,
    status: u16,
}

impl<'o> Answer<'o> {
    /// Status line and Date. The status is final (200 to 599) and the caller's promise.
    pub fn begin(out: &'o mut Vec<u8>, asked: Asked, status: u16, date: &Date) -> Self {
        assert!(is_final(status), "a status of a final answer");
        out.extend_from_slice(b"HTTP/1.1 ");
        number(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
        Self { out, asked, status }
    }

    /// A field of the worker's own making.
    #[must_use]
    pub fn field(self, name: &str, value: &[u8]) -> Self {
        debug_assert!(check_field(name.as_bytes(), value).is_ok());
        put(self.out, name.as_bytes(), value);
        self
    }

    /// A field that is a number.
    #[must_use]
    pub fn number(self, name: &str, value: u64) -> Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        number(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// The fields that a function made, less those that concern the connection and not the answer.
    /// They were found good by `check_fields`.
    #[must_use]
    pub fn relayed<'f, I>(self, fields: I) -> Self
    where
        I: Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
    {
        let hops = fields
            .clone()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"));
        for (name, value) in fields {
            let is_hop = is_hop_by_hop(name)
                || hops
                    .clone()
                    .any(|(_, hops)| list(hops).any(|listed| listed.eq_ignore_ascii_case(name)));
            if !is_hop {
                put(self.out, name, value);
            }
        }
        self
    }

    /// Ends the head. `None`: nobody knows yet how long the body will be.
    pub fn body(self, length: Option<u64>) -> Body {
        let Self { out, asked, status } = self;
        let mut keep_alive = asked.keep_alive;
        let mut content_length = |length: u64| {
            out.extend_from_slice(b"Content-Length: ");
            number(out, length);
            out.extend_from_slice(b"\r\n");
        };
        let framing = match (status, length) {
            (204 | 304, _) => Framing::Absent,
            (205, _) => {
                content_length(0);
                Framing::Absent
            }
            (_, Some(length)) => {
                content_length(length);
                if asked.head_only {
                    Framing::Absent
                } else {
                    Framing::Length { left: length }
                }
            }
            (_, None) if asked.head_only => Framing::Absent,
            (_, None) if asked.version == Version::Http11 => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                Framing::Chunked
            }
            (_, None) => {
                keep_alive = false;
                Framing::UntilClose
            }
        };
        match (keep_alive, asked.version) {
            (true, Version::Http11) => {}
            (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        }
        out.extend_from_slice(b"\r\n");
        Body {
            framing,
            keep_alive,
        }
    }
}

/// How the body of an answer is framed, and how much of it is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body {
    framing: Framing,
    keep_alive: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Absent,
    Length { left: u64 },
    Chunked,
    UntilClose,
}

/// How the connection goes on after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The next request may come.
    Kept,
    /// The answer is complete and the connection closes behind it.
    Closed,
    /// The body is shorter than its head said: the connection must break, so that the client sees
    /// it.
    Cut,
}

impl Body {
    /// Appends a piece of the body. What is beyond the length that the head promised is dropped.
    pub fn write(&mut self, out: &mut Vec<u8>, data: &[u8]) {
        match &mut self.framing {
            Framing::Absent => {}
            // An empty chunk would end the body.
            Framing::Chunked if data.is_empty() => {}
            Framing::Chunked => {
                hexadecimal(out, data.len());
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(data);
                out.extend_from_slice(b"\r\n");
            }
            Framing::Length { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
                out.extend_from_slice(&data[..count]);
                *left -= count as u64;
            }
            Framing::UntilClose => out.extend_from_slice(data),
        }
    }

    pub fn end(self, out: &mut Vec<u8>) -> Ended {
        match self.framing {
            Framing::Length { left: 1.. } => return Ended::Cut,
            Framing::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
            Framing::Absent | Framing::Length { left: 0 } | Framing::UntilClose => {}
        }
        if self.keep_alive {
            Ended::Kept
        } else {
            Ended::Closed
        }
    }
}

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Can this status end a request?
pub const fn is_final(status: u16) -> bool {
    200 <= status && status <= 599
}

/// What a function answered and HTTP cannot carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadAnswer {
    Status(u16),
    Name,
    Value,
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status} is not between 200 and 599"),
            Self::Name => f.write_str("a header's name is no token"),
            Self::Value => f.write_str("a header's value has a control character"),
        }
    }
}

/// Are these status and fields fit to be relayed?
pub fn check_fields<'f, I>(status: u16, mut fields: I) -> Result<(), BadAnswer>
where
    I: Iterator<Item = (&'f [u8], &'f [u8])>,
{
    if !is_final(status) {
        return Err(BadAnswer::Status(status));
    }
    fields.try_for_each(|(name, value)| check_field(name, value))
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), BadAnswer> {
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(BadAnswer::Name);
    }
    if value.iter().all(|byte| is_value(*byte)) {
        Ok(())
    } else {
        Err(BadAnswer::Value)
    }
}

/// Fields between neighbours, those that frame the body, and those that only the worker says.
fn is_hop_by_hop(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 11] = [
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authorization",
    ];
    NAMES.iter().any(|hop| name.eq_ignore_ascii_case(hop))
        || name
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"x-ol-"))
}

fn put(out: &mut Vec<u8>, name: &[u8], mut value: &[u8]) {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn hexadecimal(out: &mut Vec<u8>, value: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let width = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for place in (0..width).rev() {
        out.push(DIGITS[value >> (4 * place) & 15]);
    }
}

/// The usual words; a status nobody registered has none.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    const ASKED: Asked = Asked {
        version: Version::Http11,
        head_only: false,
        keep_alive: true,
    };
    const DATE: &str = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";

    fn answer(asked: Asked, status: u16, length: Option<u64>, parts: &[&str]) -> (String, Ended) {
        let mut out = Vec::new();
        let mut body = Answer::begin(&mut out, asked, status, &Date::at(0)).body(length);
        for part in parts {
            body.write(&mut out, part.as_bytes());
        }
        let ended = body.end(&mut out);
        (String::from_utf8(out).unwrap().replace(DATE, ""), ended)
    }

    fn expect((got, got_ended): (String, Ended), text: &str, ended: Ended) {
        assert_eq!((got, got_ended), (String::from(text), ended));
    }

    #[test]
    fn a_known_length_is_said() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        expect(answer(ASKED, 200, Some(3), &["a", "bc"]), text, Ended::Kept);
        expect(
            answer(ASKED, 200, Some(3), &["ab", "cd"]),
            text,
            Ended::Kept,
        );
    }

    #[test]
    fn a_body_that_falls_short_is_cut() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab";
        expect(answer(ASKED, 200, Some(3), &["ab"]), text, Ended::Cut);
    }

    #[test]
    fn an_unknown_length_is_chunked() {
        let (zeros, size) = ("0".repeat(26), "1a");
        let text = alloc::format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n{size}\r\n{zeros}\r\n\
             0\r\n\r\n"
        );
        expect(
            answer(ASKED, 200, None, &["a", "", &zeros]),
            &text,
            Ended::Kept,
        );
    }

    #[test]
    fn http_1_0_gets_what_it_understands() {
        let asked = Asked {
            version: Version::Http10,
            ..ASKED
        };
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\na";
        expect(answer(asked, 200, Some(1), &["a"]), text, Ended::Kept);
        let text = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na";
        expect(answer(asked, 200, None, &["a"]), text, Ended::Closed);
    }

    #[test]
    fn some_answers_have_no_body() {
        let head = Asked {
            head_only: true,
            ..ASKED
        };
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        expect(answer(head, 200, Some(3), &["abc"]), text, Ended::Kept);
        expect(
            answer(head, 200, None, &["abc"]),
            "HTTP/1.1 200 OK\r\n\r\n",
            Ended::Kept,
        );
        let text = "HTTP/1.1 204 No Content\r\n\r\n";
        expect(answer(ASKED, 204, Some(3), &["abc"]), text, Ended::Kept);
        let text = "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n";
        expect(answer(ASKED, 205, None, &["abc"]), text, Ended::Kept);
    }

    #[test]
    fn closing_is_announced() {
        let asked = Asked {
            keep_alive: false,
            ..ASKED
        };
        let text = "HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        expect(answer(asked, 599, Some(0), &[]), text, Ended::Closed);
    }

    #[test]
    fn what_concerns_the_connection_is_not_relayed() {
        let fields: [(&[u8], &[u8]); 9] = [
            (b"Content-Type", b" text/plain"),
            (b"Connection", b"close, X-Hop"),
            (b"x-hop", b"1"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Content-Length", b"99"),
            (b"X-OL-Call-Id", b"forged"),
            (b"Date", b"yesterday"),
            (b"Set-Cookie", b"a=\xff"),
            (b"Set-Cookie", b""),
        ];
        assert_eq!(check_fields(200, fields.into_iter()), Ok(()));
        let mut out = Vec::new();
        let answer = Answer::begin(&mut out, ASKED, 200, &Date::at(0));
        let _ = answer.relayed(fields.into_iter()).body(Some(0));
        let text = String::from_utf8_lossy(&out).replace(DATE, "");
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a=\u{fffd}\r\n\
                        Set-Cookie: \r\nContent-Length: 0\r\n\r\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_http_cannot_carry_is_found() {
        let check = |status, name: &str, value: &str| {
            check_fields(status, [(name.as_bytes(), value.as_bytes())].into_iter())
        };
        assert_eq!(check(200, "A", "b\tc"), Ok(()));
        assert_eq!(check(100, "A", "b"), Err(BadAnswer::Status(100)));
        assert_eq!(check(999, "A", "b"), Err(BadAnswer::Status(999)));
        assert_eq!(check(200, "", "b"), Err(BadAnswer::Name));
        assert_eq!(check(200, "A b", "b"), Err(BadAnswer::Name));
        assert_eq!(check(200, "A:", "b"), Err(BadAnswer::Name));
        assert_eq!(check(200, "A", "b\r\nC: d"), Err(BadAnswer::Value));
        assert_eq!(check(200, "A", "b\nC: d"), Err(BadAnswer::Value));
        assert_eq!(check(200, "A", "\0"), Err(BadAnswer::Value));
    }
}
