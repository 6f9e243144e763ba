//! The head of one request: its bytes, and where in them everything is.
//!
//! A head is filled by the decoder and may be used again for the next request: it keeps its memory.
//! What it holds has been checked: the method is a token, the target visible ASCII, names are
//! tokens, values have no control characters but tabs, and the framing has exactly one reading.

use super::characters::is_blank;
use super::refusal::{Code, Refusal};
use super::route::{Method, Route};
use super::target::{self, Path};
use super::{FIELDS_MAX, Limits};
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ops::Range;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Version {
    Http10,
    /// And every later 1.x, which is to be understood as 1.1.
    #[default]
    Http11,
}

impl Version {
    /// As it stands in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// How the body behind a head ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// There is none.
    #[default]
    Empty,
    /// After so many bytes; never zero.
    Length(u64),
    Chunked,
}

/// A piece of the head's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// A request's head. `Default` is an empty one, to be filled.
#[derive(Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    fields: Vec<Field>,
    method: Option<Method>,
    method_span: Span,
    target: Span,
    /// Empty where `fixed_path` stands for it.
    path: Span,
    fixed_path: Option<&'static str>,
    query: Option<Span>,
    host: Span,
    version: Version,
    framing: Framing,
    expects_continue: bool,
    keeps_alive: bool,
}

impl Head {
    /// The method as it was sent.
    pub fn method_token(&self) -> &str {
        self.text(self.method_span)
    }

    pub fn method(&self) -> Method {
        self.method.unwrap_or(Method::Other)
    }

    /// The request target as it was sent.
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The raw path: begins with a slash, or is `*` for `OPTIONS *` and `CONNECT`, or empty where
    /// the target is a URI of another scheme.
    pub fn path(&self) -> &str {
        self.fixed_path.unwrap_or_else(|| self.text(self.path))
    }

    /// What is behind the first question mark, raw.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// The target's authority, else Host's value; may be empty.
    pub fn host(&self) -> &str {
        self.text(self.host)
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue && self.framing != Framing::Empty
    }

    /// The client would like to send another request on this connection.
    pub fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    pub fn route(&self) -> Route<'_> {
        Route::of(self.path())
    }

    /// The fields in the order in which they came, blanks around values removed.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> + Clone {
        self.fields
            .iter()
            .map(|field| (self.text(field.name), self.slice(field.value)))
    }

    /// The value of the first field of this name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// All bytes of the head.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How much memory it holds on to.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// Forgets the request, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    fn text(&self, span: Span) -> &str {
        core::str::from_utf8(self.slice(span)).expect("methods, targets and names are ASCII")
    }
}

/// Filling: the decoder's side.
impl Head {
    /// Reads a head from the front of `input`, if it is complete and its bytes are well-formed;
    /// says how long it is. `None`: look closer, byte by byte.
    pub(super) fn read(&mut self, input: &[u8], limits: &Limits) -> Option<usize> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(input, &mut fields);
        let Ok(httparse::Status::Complete(length)) = parsed else {
            return None;
        };
        let (method, target) = (request.method?, request.path?);
        if length > limits.head_bytes || target.len() > limits.target_bytes {
            return None;
        }
        let span = |part: &[u8]| {
            let start = (part.as_ptr() as usize - input.as_ptr() as usize) as u32;
            Span {
                start,
                end: start + part.len() as u32,
            }
        };
        self.method_span = span(method.as_bytes());
        self.target = span(target.as_bytes());
        self.version = if request.version? == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        self.fields.clear();
        self.fields
            .extend(request.headers.iter().map(|field| Field {
                name: span(field.name.as_bytes()),
                value: if field.value.is_empty() {
                    Span::default()
                } else {
                    span(field.value)
                },
            }));
        (self.method_span.start == 0 && self.lines_are_strict(input, length)).then_some(length)
    }

    /// The parser lets bare line feeds and some targets pass; we do not.
    fn lines_are_strict(&self, input: &[u8], length: usize) -> bool {
        let target = &input[self.target.start as usize..self.target.end as usize];
        let ends_in_crlf = |end: usize| input[..end].ends_with(b"\r\n");
        target
            .iter()
            .all(|byte| super::characters::is_target(*byte))
            && self
                .fields
                .iter()
                .all(|field| ends_in_crlf(field.name.start as usize))
            && ends_in_crlf(length)
            && ends_in_crlf(length - 2)
    }

    /// Keeps the bytes that `read` found its parts in.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds to the bytes of a head that comes in pieces.
    pub(super) fn collect(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Reads the collected bytes, all of which were scanned and found good.
    pub(super) fn read_collected(&mut self, limits: &Limits) -> Result<(), Refusal> {
        let mut bytes = core::mem::take(&mut self.bytes);
        // Every HTTP/1.x is read as 1.1 by us, but the parser knows 1.0 and 1.1 only.
        let line = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(0);
        if let Some(minor @ b'2'..=b'9') = line.checked_sub(1).and_then(|at| bytes.get_mut(at)) {
            *minor = b'1';
        }
        let read = self.read(&bytes, limits);
        self.bytes = bytes;
        debug_assert_eq!(
            read,
            Some(self.bytes.len()),
            "the scanner and the parser agree"
        );
        match read {
            Some(length) if length == self.bytes.len() => Ok(()),
            _ => Err(Refusal::bad("the head cannot be read")),
        }
    }

    /// Gives the parts their meaning, or finds that they have none or more than one: line by line
    /// first, as `examine_lines` would, then all together.
    pub(super) fn examine(&mut self, limits: &Limits) -> Result<(), Refusal> {
        let method = Method::of(self.method_token());
        self.method = Some(method);
        let parts = target::parse(method, self.target())?;
        let mut found = Found::default();
        for field in &self.fields {
            let (name, value) = (self.slice(field.name), self.slice(field.value));
            found.meet(name, value, field.value)?;
        }
        if found.host.is_none() && self.version == Version::Http11 {
            return Err(Refusal::bad("there is no Host field"));
        }
        self.place(parts, found.host.unwrap_or_default());
        self.framing = found.framing(self.version)?;
        self.keeps_alive = !found.close && (self.version == Version::Http11 || found.keep_alive);
        self.expects_continue = found.expects_continue && self.version == Version::Http11;
        match self.framing {
            Framing::Length(length) if length > limits.body_bytes => Err(BODY_TOO_LARGE),
            _ => Ok(()),
        }
    }

    fn place(&mut self, parts: target::Parts, host: Span) {
        let base = self.target.start;
        let within = |range: Range<usize>| Span {
            start: base + range.start as u32,
            end: base + range.end as u32,
        };
        self.fixed_path = match parts.path {
            Path::Given(range) => {
                self.path = within(range);
                None
            }
            Path::Root => Some("/"),
            Path::Server => Some("*"),
            Path::Foreign => Some(""),
        };
        self.query = parts.query.map(within);
        self.host = parts.authority.map_or(host, within);
    }

    /// Looks at the lines that were completed since it last did, so that a head whose first lines
    /// are bad is refused without waiting for its last.
    pub(super) fn examine_lines(&self, lines: &mut Lines) -> Result<(), Refusal> {
        while let Some(length) = self.bytes[lines.read..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let line = &self.bytes[lines.read..(lines.read + length).saturating_sub(1)];
            let is_first = lines.read == 0;
            lines.read += length + 1;
            if is_first {
                let mut words = line.split(|byte| *byte == b' ').map(core::str::from_utf8);
                if let (Some(Ok(method)), Some(Ok(target))) = (words.next(), words.next()) {
                    target::parse(Method::of(method), target)?;
                }
            } else if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                let (name, value) = line.split_at(colon);
                lines.found.meet(name, trim(&value[1..]), Span::default())?;
            }
        }
        Ok(())
    }
}

/// How far a head that comes in pieces was examined.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    read: usize,
    found: Found,
}

pub(super) const BODY_TOO_LARGE: Refusal =
    Refusal::new(Code::BodyTooLarge, "see [http] max_body_mb");

/// The fields that decide how the connection goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    host: Option<Span>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Found {
    fn meet(&mut self, name: &[u8], value: &[u8], span: Span) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value, span),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8], span: Span) -> Result<(), Refusal> {
        if self.host.replace(span).is_some() {
            return Err(Refusal::bad("there is more than one Host field"));
        }
        if target::is_authority(value) {
            Ok(())
        } else {
            Err(Refusal::bad("the Host field is not host[:port]"))
        }
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        const NO_NUMBER: Refusal = Refusal::bad("the Content-Length is no number of bytes");
        if value.is_empty() {
            return Err(NO_NUMBER);
        }
        let mut length: u64 = 0;
        for digit in value {
            if !digit.is_ascii_digit() {
                return Err(NO_NUMBER);
            }
            length = length
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
                .ok_or(NO_NUMBER)?;
        }
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(Refusal::bad("there is more than one Content-Length")),
        }
    }

    fn encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::bad("there is more than one Transfer-Encoding"));
        }
        self.chunked = value.eq_ignore_ascii_case(b"chunked");
        if self.chunked {
            Ok(())
        } else {
            Err(Refusal::bad("the Transfer-Encoding is not chunked"))
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::bad("both Content-Length and Transfer-Encoding")),
            (true, None) if version == Version::Http10 => {
                Err(Refusal::bad("a Transfer-Encoding in HTTP/1.0"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::Empty),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
    }
}

/// The elements of a comma-separated list, blanks removed.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|byte| *byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}
