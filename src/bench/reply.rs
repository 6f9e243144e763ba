//! One answer, read as its bytes come.
//!
//! ```text
//!  Head --> Sized(n) ------------------------------> whole      Content-Length
//!   |-----> Chunk(n) <--> Line (size, end, trailer) -> whole     Transfer-Encoding: chunked
//!   '-----> UntilClosed -----------------------------> whole     neither; `ended` says when
//! ```
//!
//! Interim answers (100 Continue) are passed over. Bodies are counted, not kept, but for the
//! beginning of a refusal's, which says what is wrong.

use super::tally::BODY_KEPT_BYTES;

/// Bytes of a head, or of a line between chunks.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 64;

/// What the worker says about where the instance came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    Warm,
    Zygote,
    Fresh,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub status: u16,
    pub start: Option<Start>,
    /// Whether the connection ends with it.
    pub closes: bool,
    /// The beginning of a refusal's body.
    pub body: Vec<u8>,
}

impl Reply {
    #[cfg(test)]
    pub(super) fn of(status: u16, start: Option<Start>) -> Self {
        let (closes, body) = (false, Vec::new());
        Self {
            status,
            start,
            closes,
            body,
        }
    }
}

/// What came is no answer, or not one answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Head,
    Sized(u64),
    Chunk(u64),
    /// The end of a line is awaited.
    Line(Line),
    UntilClosed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Line {
    Size,
    EndOfChunk,
    Trailer,
}

/// Reads one answer after the other from one connection.
#[derive(Debug, Default)]
pub struct Reader {
    state: State,
    /// A head or a line that has not come whole yet.
    partial: Vec<u8>,
    reply: Option<Reply>,
}

impl Reader {
    /// Takes what came. The answer, once it is whole: nothing may follow, for nothing was asked.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Reply>, Malformed> {
        loop {
            let whole = match self.state {
                State::Head => {
                    let Some((used, whole)) = self.head(bytes)? else {
                        return Ok(None);
                    };
                    bytes = &bytes[used..];
                    whole
                }
                State::Sized(left) => {
                    let now = left.min(bytes.len() as u64);
                    bytes = self.body(bytes, now as usize);
                    self.state = State::Sized(left - now);
                    left == now
                }
                State::Chunk(left) => {
                    let now = left.min(bytes.len() as u64);
                    bytes = self.body(bytes, now as usize);
                    self.state = match left - now {
                        0 => State::Line(Line::EndOfChunk),
                        left => State::Chunk(left),
                    };
                    false
                }
                State::Line(line) => {
                    let Some(used) = self.line(bytes)? else {
                        return Ok(None);
                    };
                    bytes = &bytes[used..];
                    self.after_line(line)?
                }
                State::UntilClosed => {
                    bytes = self.body(bytes, bytes.len());
                    false
                }
            };
            if whole {
                return if bytes.is_empty() {
                    Ok(self.finish())
                } else {
                    Err(Malformed)
                };
            }
            if bytes.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The peer sends no more: the answer, where that is how it ends.
    pub fn ended(&mut self) -> Option<Reply> {
        if self.state == State::UntilClosed {
            self.finish()
        } else {
            None
        }
    }

    pub fn reset(&mut self) {
        self.state = State::Head;
        self.partial.clear();
        self.reply = None;
    }

    fn finish(&mut self) -> Option<Reply> {
        let reply = self.reply.take();
        self.reset();
        reply
    }

    /// How many of these bytes belong to the head, and whether the answer is whole with it.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<(usize, bool)>, Malformed> {
        if self.partial.is_empty() {
            // Nearly always: the whole head in one piece, read where it lies.
            if let Some(head) = parse(bytes)? {
                return Ok(Some((head.bytes, self.begin(head))));
            }
            self.partial.extend_from_slice(bytes);
        } else {
            let before = self.partial.len();
            self.partial.extend_from_slice(bytes);
            if let Some(head) = parse(&self.partial)? {
                let used = head.bytes - before;
                self.partial.clear();
                return Ok(Some((used, self.begin(head))));
            }
        }
        if self.partial.len() > HEAD_BYTES_MAX {
            return Err(Malformed);
        }
        Ok(None)
    }

    fn begin(&mut self, head: Head) -> bool {
        if (100..200).contains(&head.reply.status) {
            return false;
        }
        self.state = head.body;
        self.reply = Some(head.reply);
        self.state == State::Sized(0)
    }

    /// Takes `count` bytes of a body, and answers those behind them.
    fn body<'a>(&mut self, bytes: &'a [u8], count: usize) -> &'a [u8] {
        let (body, rest) = bytes.split_at(count);
        if let Some(reply) = self.reply.as_mut().filter(|reply| reply.status >= 400) {
            let kept = body.len().min(BODY_KEPT_BYTES - reply.body.len());
            reply.body.extend_from_slice(&body[..kept]);
        }
        rest
    }

    /// Collects a line into `partial`; answers how many bytes it took once it is whole.
    fn line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.partial.extend_from_slice(&bytes[..taken]);
        if self.partial.len() > HEAD_BYTES_MAX {
            return Err(Malformed);
        }
        Ok(end.map(|_| taken))
    }

    /// The line in `partial` is whole: what comes next, and whether the answer is whole.
    fn after_line(&mut self, line: Line) -> Result<bool, Malformed> {
        let whole = match line {
            Line::Size => match httparse::parse_chunk_size(&self.partial) {
                Ok(httparse::Status::Complete((_, 0))) => {
                    self.state = State::Line(Line::Trailer);
                    false
                }
                Ok(httparse::Status::Complete((_, size))) => {
                    self.state = State::Chunk(size);
                    false
                }
                _ => return Err(Malformed),
            },
            Line::EndOfChunk if self.partial == b"\r\n" => {
                self.state = State::Line(Line::Size);
                false
            }
            Line::EndOfChunk => return Err(Malformed),
            Line::Trailer => self.partial == b"\r\n",
        };
        self.partial.clear();
        Ok(whole)
    }
}

struct Head {
    bytes: usize,
    reply: Reply,
    body: State,
}

/// None while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    let Ok(parsed) = answer.parse(bytes) else {
        return Err(Malformed);
    };
    let httparse::Status::Complete(length) = parsed else {
        return Ok(None);
    };
    let status = answer.code.ok_or(Malformed)?;
    let mut reply = Reply {
        status,
        start: None,
        closes: answer.version == Some(0),
        body: Vec::new(),
    };
    let mut body = State::UntilClosed;
    for field in answer.headers.iter() {
        let (name, value) = (field.name, field.value);
        if name.eq_ignore_ascii_case("content-length") {
            let text = core::str::from_utf8(value).map_err(|_| Malformed)?;
            body = State::Sized(text.trim().parse().map_err(|_| Malformed)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed);
            }
            body = State::Line(Line::Size);
        } else if name.eq_ignore_ascii_case("x-ol-start") {
            reply.start = match value {
                b"warm" => Some(Start::Warm),
                b"zygote" => Some(Start::Zygote),
                b"fresh" => Some(Start::Fresh),
                _ => None,
            };
        } else if name.eq_ignore_ascii_case("connection") {
            reply.closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    if matches!(status, 204 | 304) {
        body = State::Sized(0);
    }
    reply.closes |= body == State::UntilClosed;
    Ok(Some(Head {
        bytes: length,
        reply,
        body,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader makes of these bytes, in pieces of every size.
    fn read(bytes: &[u8]) -> Result<Option<Reply>, Malformed> {
        let mut results = (1..=bytes.len()).map(|size| {
            let mut reader = Reader::default();
            let mut pieces = bytes.chunks(size).peekable();
            while let Some(piece) = pieces.next() {
                match reader.feed(piece) {
                    Ok(None) => {}
                    Ok(Some(_)) if pieces.peek().is_some() => return Err(Malformed),
                    done => return done,
                }
            }
            Ok(None)
        });
        let first = results.next().expect("a size");
        for result in results {
            assert_eq!(result, first);
        }
        first
    }

    #[test]
    fn answers_of_every_framing() {
        let sized = b"HTTP/1.1 200 OK\r\nX-OL-Start: zygote\r\nContent-Length: 2\r\n\r\n42";
        let warm = |start| Ok(Some(Reply::of(200, Some(start))));
        assert_eq!(read(sized), warm(Start::Zygote));
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-ol-start: warm\r\n\r\n\
                        3\r\nabc\r\n10;x\r\n0123456789abcdef\r\n0\r\nA: b\r\n\r\n";
        assert_eq!(read(chunked), warm(Start::Warm));
        let empty = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(read(empty), Ok(Some(Reply::of(204, None))));
    }

    #[test]
    fn a_refusal_tells_why() {
        let refused = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy";
        let reply = read(refused).unwrap().unwrap();
        assert_eq!((reply.status, reply.closes), (503, true));
        assert_eq!(reply.body, b"busy");
        let mut long = b"HTTP/1.1 500 No\r\nContent-Length: 9000\r\n\r\n".to_vec();
        long.resize(long.len() + 9000, b'x');
        let mut reader = Reader::default();
        let reply = reader.feed(&long).unwrap().unwrap();
        assert_eq!(reply.body.len(), BODY_KEPT_BYTES);
    }

    #[test]
    fn an_answer_may_last_until_the_connection_ends() {
        let mut reader = Reader::default();
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nsome";
        assert_eq!(reader.feed(bytes), Ok(None));
        assert!(reader.ended().is_some_and(|reply| reply.closes));
        assert_eq!(reader.feed(b"HTTP/1.1 2"), Ok(None));
        assert_eq!(reader.ended(), None);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            &b"SSH-2.0\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            assert_eq!(Reader::default().feed(bytes), Err(Malformed));
        }
        let mut reader = Reader::default();
        let mut endless = b"HTTP/1.1 200 OK\r\n".to_vec();
        endless.resize(HEAD_BYTES_MAX + 2, b'x');
        assert_eq!(reader.feed(&endless), Err(Malformed));
    }
}
