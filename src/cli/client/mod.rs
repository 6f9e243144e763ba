//! A small blocking HTTP/1.1 client for the worker's own endpoints, over its socket or TCP.
//!
//! One connection a request. Bodies stream both ways: a request's from any reader, an answer's
//! through [`Answer`], which is a reader itself. An answer that comes while the request is still
//! being sent (a refusal) is taken, not lost.

mod answer;
mod target;

pub use answer::Answer;
pub use target::{Address, find, of_directory};

use super::failure::{Exit, Failure};
use crate::base::Duration;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;

/// How long a TCP connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest silence of a worker that was asked about itself.
pub const ADMINISTRATION: Duration = Duration::from_mins(1);
/// Bytes of a request's body read and sent at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes of an answer that is read as a whole: lists, statistics.
const WHOLE_BYTES_MAX: u64 = 256 << 20;

#[derive(Clone, Debug)]
pub struct Client {
    pub address: Address,
    /// For administration over TCP.
    pub token: Option<String>,
    /// The longest silence; `None`: any.
    pub silence: Option<Duration>,
}

#[derive(Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    pub headers: Vec<(String, String)>,
    pub body: Body<'a>,
}

pub enum Body<'a> {
    Empty,
    Bytes(&'a [u8]),
    Sized(&'a mut dyn Read, u64),
    /// Until it ends, in chunks.
    Stream(&'a mut dyn Read),
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Sized(_, length) => write!(f, "Sized({length})"),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, target: &'a str) -> Self {
        Self {
            method,
            target,
            headers: Vec::new(),
            body: Body::Empty,
        }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// Nobody is there, or may be asked.
    Unreachable(io::Error),
    /// It was asked, and then the connection failed.
    Broken(io::Error),
    /// What came is no HTTP answer.
    NoAnswer(String),
}

impl Error {
    fn why(&self) -> String {
        match self {
            Self::Unreachable(error) => match error.kind() {
                io::ErrorKind::NotFound => "there is no such socket".to_owned(),
                io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
                io::ErrorKind::PermissionDenied => "you may not connect".to_owned(),
                _ => error.to_string(),
            },
            Self::Broken(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    "no answer in time".to_owned()
                }
                io::ErrorKind::UnexpectedEof => "the answer broke off".to_owned(),
                _ => error.to_string(),
            },
            Self::NoAnswer(why) => why.clone(),
        }
    }

    /// As a failure of the command.
    pub fn failure(&self, address: &Address) -> Failure {
        let (exit, remedy) = match self {
            Self::Unreachable(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (Exit::Unreachable, "join the group olworker, or run as root")
            }
            Self::Unreachable(_) => (
                Exit::Unreachable,
                "start one: ol worker up -d, or systemctl start olworker.socket; \
                 --socket or -p names another",
            ),
            Self::Broken(_) => (Exit::Failed, "ol worker status tells whether it is well"),
            Self::NoAnswer(_) => (Exit::Failed, "is this address an olworker's?"),
        };
        Failure::new(exit, address.to_string(), self.why(), remedy)
    }
}

/// What both kinds of connection do.
trait Connection: Read + Write {
    fn limit_silence(&self, silence: Option<Duration>) -> io::Result<()>;
}

impl Connection for UnixStream {
    fn limit_silence(&self, silence: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(silence)?;
        self.set_write_timeout(silence)
    }
}

impl Connection for TcpStream {
    fn limit_silence(&self, silence: Option<Duration>) -> io::Result<()> {
        self.set_read_timeout(silence)?;
        self.set_write_timeout(silence)
    }
}

impl Client {
    /// Sends a request and reads the head of its answer.
    pub fn send(&self, request: Request<'_>) -> Result<Answer, Error> {
        let mut connection = self.connect().map_err(Error::Unreachable)?;
        connection
            .limit_silence(self.silence)
            .map_err(Error::Broken)?;
        let head = self.head(&request);
        let sent = connection
            .write_all(head.as_bytes())
            .and_then(|()| send_body(&mut *connection, request.body));
        let early = match sent {
            Ok(()) => None,
            // Whoever refuses a body may close before it has read it: its answer says why.
            Err(error) if is_hung_up(&error) => Some(error),
            Err(error) => return Err(Error::Broken(error)),
        };
        let to_head = request.method == "HEAD";
        let answer = Answer::read(connection, to_head);
        match (answer, early) {
            (Err(Error::Broken(_)), Some(error)) => Err(Error::Broken(error)),
            (answer, _) => answer,
        }
    }

    /// Sends a request about the worker itself; anything but success is a failure of `what`.
    pub fn ask(&self, what: &str, request: Request<'_>) -> Result<Answer, Failure> {
        let answer = self
            .send(request)
            .map_err(|error| error.failure(&self.address))?;
        if answer.status < 400 {
            return Ok(answer);
        }
        Err(refusal(what, answer))
    }

    /// As `ask`, and reads the answer as JSON.
    pub fn ask_json(&self, what: &str, request: Request<'_>) -> Result<Value, Failure> {
        let answer = self.ask(what, request.header("Accept", "application/json"))?;
        let text = self.whole(answer)?;
        serde_json::from_slice(&text).map_err(|error| {
            let why = format!("the answer is no JSON: {error}");
            Error::NoAnswer(why).failure(&self.address)
        })
    }

    /// The whole body of a bounded answer.
    pub fn whole(&self, answer: Answer) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        let read = answer.take(WHOLE_BYTES_MAX + 1).read_to_end(&mut body);
        read.map_err(|error| Error::Broken(error).failure(&self.address))?;
        if body.len() as u64 > WHOLE_BYTES_MAX {
            let why = format!("an answer of more than {} MB", WHOLE_BYTES_MAX >> 20);
            return Err(Error::NoAnswer(why).failure(&self.address));
        }
        Ok(body)
    }

    fn connect(&self) -> io::Result<Box<dyn Connection>> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path)?)),
            Address::Tcp { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Box::new(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn head(&self, request: &Request<'_>) -> String {
        let (method, target) = (request.method, request.target);
        let given = |name: &str| {
            request
                .headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        let mut field = |name: &str, value: &str| {
            write!(head, "{name}: {value}\r\n").expect("a string takes everything");
        };
        if !given("Host") {
            field("Host", &self.address.host());
        }
        if !given("User-Agent") {
            field("User-Agent", concat!("ol/", env!("CARGO_PKG_VERSION")));
        }
        if let Some(token) = &self.token
            && !given("Authorization")
        {
            field("Authorization", &format!("Bearer {token}"));
        }
        field("Connection", "close");
        for (name, value) in &request.headers {
            field(name, value);
        }
        match &request.body {
            Body::Empty if matches!(request.method, "GET" | "HEAD" | "DELETE") => {}
            Body::Empty => field("Content-Length", "0"),
            Body::Bytes(bytes) => field("Content-Length", &bytes.len().to_string()),
            Body::Sized(_, length) => field("Content-Length", &length.to_string()),
            Body::Stream(_) => field("Transfer-Encoding", "chunked"),
        }
        head.push_str("\r\n");
        head
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn send_body(connection: &mut dyn Connection, body: Body<'_>) -> io::Result<()> {
    match body {
        Body::Empty => {}
        Body::Bytes(bytes) => connection.write_all(bytes)?,
        Body::Sized(reader, length) => {
            let sent = pieces(reader.take(length), |piece| connection.write_all(piece))?;
            if sent < length {
                let why = format!("what is sent ended after {sent} of {length} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        }
        Body::Stream(reader) => {
            pieces(reader, |piece| {
                write!(connection, "{:x}\r\n", piece.len())?;
                connection.write_all(piece)?;
                connection.write_all(b"\r\n")
            })?;
            connection.write_all(b"0\r\n\r\n")?;
        }
    }
    connection.flush()
}

/// Hands on what is read, as it comes; answers how much it was.
fn pieces(mut reader: impl Read, mut send: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut total = 0;
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                send(&piece[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes of a refusal that are looked at.
const REFUSAL_BYTES_MAX: u64 = 1 << 20;

/// What the worker says when it does not do what it was asked to.
fn refusal(what: &str, answer: Answer) -> Failure {
    let status = answer.status;
    let mut body = Vec::new();
    // A refusal that breaks off is told as far as it came.
    let _ = answer.take(REFUSAL_BYTES_MAX).read_to_end(&mut body);
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name: &str| problem[name].as_str().filter(|text| !text.is_empty());
    let code = field("type")
        .and_then(|kind| kind.rsplit('/').next())
        .unwrap_or_default();
    let why = field("detail").or_else(|| field("title"));
    let why = why.map_or_else(|| format!("status {status}"), str::to_owned);
    Failure::failed(what, why, remedy(code, status))
}

/// What to do about a refusal, by its code.
pub fn remedy(code: &str, status: u16) -> &'static str {
    match (code, status) {
        ("no-such-function", _) => "ol list shows what there is",
        ("unauthorized", _) | (_, 401) => "give --token-file, or use the Unix socket",
        ("not-found", _) => "is this worker of the same version?",
        ("body-too-large", _) => "send less, or raise http.max_body_mb",
        ("read-only-registry", _) => "put it where registry.url points to",
        ("bad-function", _) => "mend it and deploy again",
        ("bad-event", _) => "send JSON: --data '{\"key\": 1}'",
        ("too-many-calls" | "overloaded", _) => "try again later",
        ("draining", _) => "try again when the worker is up",
        ("function-error", _) => "ol logs NAME shows what it printed",
        ("install-failed" | "import-failed", _) => "mend its requirements and deploy again",
        ("sandbox-died", _) => "ol logs NAME shows its last words",
        ("call-timed-out", _) => "raise its limits.runtime_sec",
        _ => "the worker's log tells more",
    }
}

#[cfg(test)]
mod tests;
