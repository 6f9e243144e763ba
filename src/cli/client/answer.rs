//! The worker's answer: its head, and its body as a reader.
//!
//! ```text
//! head --> Sized(n) --read--> Sized(0)        Content-Length
//!      |-> Chunk(n) <--> NextChunk --> Ended  Transfer-Encoding: chunked
//!      '-> UntilClosed                        neither
//! ```
//!
//! A body that ends before its framing says so is an error, never a short success.

use super::{Connection, Error};
use std::io::{self, BufRead, BufReader, Read};

/// Bytes of a head, and of the lines between chunks.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Fields of a head.
const FIELDS_MAX: usize = 128;
/// Interim answers (100 Continue) before the one that counts.
const INTERIM_MAX: usize = 8;

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    body: Framing,
    connection: BufReader<Box<dyn Connection>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Sized(u64),
    /// Bytes left of this chunk.
    Chunk(u64),
    /// Before the size of a chunk; `first` has no line end of another before it.
    NextChunk {
        first: bool,
    },
    UntilClosed,
    Ended,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// `to_head`: it answers a HEAD request and so has no body.
    pub(super) fn read(connection: Box<dyn Connection>, to_head: bool) -> Result<Self, Error> {
        let mut connection = BufReader::with_capacity(HEAD_BYTES_MAX, connection);
        for _ in 0..INTERIM_MAX {
            let head = read_head(&mut connection)?;
            let (status, headers) = parse(&head)?;
            if !(100..200).contains(&status) {
                let bodiless = to_head || status == 204 || status == 304;
                let body = if bodiless {
                    Framing::Ended
                } else {
                    framing(&headers)?
                };
                return Ok(Self {
                    status,
                    headers,
                    body,
                    connection,
                });
            }
        }
        Err(Error::NoAnswer("only interim answers came".to_owned()))
    }

    /// The value of a field, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A line between chunks, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let read = (&mut self.connection)
            .take(HEAD_BYTES_MAX as u64)
            .read_until(b'\n', &mut line)?;
        if read == 0 || !line.ends_with(b"\r\n") {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    /// Reads the size line of a chunk, and after the last one the trailer.
    fn next_chunk(&mut self, first: bool) -> io::Result<Framing> {
        let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if !first && !self.line()?.is_empty() {
            return Err(bad("a chunk is longer than it says"));
        }
        let mut line = self.line()?;
        line.extend_from_slice(b"\r\n");
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, 0))) => {
                for _ in 0..FIELDS_MAX {
                    if self.line()?.is_empty() {
                        return Ok(Framing::Ended);
                    }
                }
                Err(bad("an endless trailer"))
            }
            Ok(httparse::Status::Complete((_, size))) => Ok(Framing::Chunk(size)),
            _ => Err(bad("a chunk without a size")),
        }
    }

    /// Reads within `left` bytes; what is behind them is not touched.
    fn read_within(&mut self, into: &mut [u8], left: u64) -> io::Result<usize> {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        let count = self.connection.read(&mut into[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

impl Read for Answer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.body {
                Framing::Ended | Framing::Sized(0) => return Ok(0),
                Framing::Sized(left) => {
                    let count = self.read_within(into, left)?;
                    self.body = Framing::Sized(left - count as u64);
                    return Ok(count);
                }
                Framing::NextChunk { first } => self.body = self.next_chunk(first)?,
                Framing::Chunk(left) => {
                    let count = self.read_within(into, left)?;
                    let left = left - count as u64;
                    self.body = if left == 0 {
                        Framing::NextChunk { first: false }
                    } else {
                        Framing::Chunk(left)
                    };
                    return Ok(count);
                }
                Framing::UntilClosed => return self.connection.read(into),
            }
        }
    }
}

/// Everything up to the empty line.
fn read_head(connection: &mut BufReader<Box<dyn Connection>>) -> Result<Vec<u8>, Error> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        let left = HEAD_BYTES_MAX - head.len();
        let mut limited = connection.take(left as u64);
        match limited.read_until(b'\n', &mut head) {
            Ok(0) if left == 0 => return Err(Error::NoAnswer("an endless head".to_owned())),
            Ok(0) => return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(Error::Broken(error)),
        }
        if !b"HTTP/1.".starts_with(&head[..head.len().min(7)]) {
            return Err(Error::NoAnswer("what came is no HTTP".to_owned()));
        }
    }
    Ok(head)
}

type Head = (u16, Vec<(String, String)>);

fn parse(head: &[u8]) -> Result<Head, Error> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => {
            return Err(Error::NoAnswer("a head without an end".to_owned()));
        }
        Err(error) => return Err(Error::NoAnswer(format!("a bad head: {error}"))),
    }
    let status = answer.code.expect("a complete head has a status");
    let field = |field: &httparse::Header<'_>| {
        (
            field.name.to_owned(),
            String::from_utf8_lossy(field.value).into_owned(),
        )
    };
    Ok((status, answer.headers.iter().map(field).collect()))
}

fn framing(headers: &[(String, String)]) -> Result<Framing, Error> {
    let values = |name: &str| {
        let fields = headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        fields
            .map(|(_, value)| value.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let (encodings, lengths) = (values("Transfer-Encoding"), values("Content-Length"));
    match (encodings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::UntilClosed),
        ([], [length]) => match length.parse() {
            Ok(length) => Ok(Framing::Sized(length)),
            Err(_) => Err(Error::NoAnswer(
                "a Content-Length that is no number".to_owned(),
            )),
        },
        ([encoding], []) if encoding.eq_ignore_ascii_case("chunked") => {
            Ok(Framing::NextChunk { first: true })
        }
        _ => Err(Error::NoAnswer("ambiguous framing".to_owned())),
    }
}
