//! A worker that answers what a test wants it to answer, and remembers what it was asked.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /status`
    pub line: String,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

/// A request line, and what is answered to it: status, type and body.
pub type Answer = (&'static str, u16, &'static str, &'static str);

pub struct Fake {
    asked: Arc<Mutex<Vec<Asked>>>,
    thread: Option<JoinHandle<()>>,
    /// Where it is told to end.
    bell: Bell,
}

enum Bell {
    Unix(PathBuf),
    Tcp(std::net::SocketAddr),
}

impl Fake {
    pub fn unix(path: &Path, answers: &[Answer]) -> Self {
        std::fs::create_dir_all(path.parent().expect("a socket has a place")).expect("a directory");
        let listener = UnixListener::bind(path).expect("a socket of its own");
        let answers = answers.to_vec();
        let asked = Arc::default();
        let remembered = Arc::clone(&asked);
        let thread = std::thread::Builder::new().spawn(move || {
            while listener
                .accept()
                .is_ok_and(|(stream, _)| serve(stream, &answers, &remembered))
            {}
        });
        let thread = Some(thread.expect("a thread"));
        let bell = Bell::Unix(path.to_path_buf());
        Self {
            asked,
            thread,
            bell,
        }
    }

    pub fn tcp(answers: &[Answer]) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of its own");
        let address = listener.local_addr().expect("it is bound");
        let answers = answers.to_vec();
        let asked = Arc::default();
        let remembered = Arc::clone(&asked);
        let thread = std::thread::Builder::new().spawn(move || {
            while listener
                .accept()
                .is_ok_and(|(stream, _)| serve(stream, &answers, &remembered))
            {}
        });
        let thread = Some(thread.expect("a thread"));
        let bell = Bell::Tcp(address);
        (
            Self {
                asked,
                thread,
                bell,
            },
            format!("http://{address}"),
        )
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    /// The one request that there was.
    #[track_caller]
    pub fn only(&self) -> Asked {
        let asked = self.asked();
        let [one] = &asked[..] else {
            panic!("{} requests: {asked:?}", asked.len());
        };
        one.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        const BYE: &[u8] = b"BYE / HTTP/1.1\r\n\r\n";
        let rung = match &self.bell {
            Bell::Unix(path) => {
                std::os::unix::net::UnixStream::connect(path).and_then(|mut s| s.write_all(BYE))
            }
            Bell::Tcp(address) => {
                std::net::TcpStream::connect(address).and_then(|mut s| s.write_all(BYE))
            }
        };
        rung.expect("the thread still accepts");
        self.thread
            .take()
            .expect("it ends once")
            .join()
            .expect("it did not panic");
    }
}

/// One request on one connection; false when it was the last.
fn serve(stream: impl Read + Write, answers: &[Answer], asked: &Mutex<Vec<Asked>>) -> bool {
    let mut stream = BufReader::new(stream);
    let Some(request) = hear(&mut stream) else {
        // Somebody only looked whether anybody is there.
        return true;
    };
    if request.line == "BYE /" {
        return false;
    }
    let answer = answers.iter().find(|(line, ..)| *line == request.line);
    let (status, kind, body) = match answer {
        Some((_, status, kind, body)) => (*status, *kind, *body),
        None => (599, "text/plain", "the test has no answer for this"),
    };
    asked.lock().expect("nobody panicked").push(request);
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}");
    // A client that had enough is what some tests are about.
    let _ = write!(stream.get_mut(), "{head}\r\n\r\n{body}");
    true
}

fn hear(stream: &mut BufReader<impl Read>) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8(head).expect("a head is text");
    let line = head.lines().next()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let head = head.to_ascii_lowercase();
    let field = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(": ")
                .map(str::to_owned)
        })
    };
    let body = if field("transfer-encoding").is_some() {
        chunks(stream).expect("whole chunks")
    } else {
        let length = field("content-length").map_or(0, |n| n.parse().expect("a length"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a whole body");
        body
    };
    Some(Asked { line, head, body })
}

fn chunks(stream: &mut BufReader<impl Read>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).expect("the size of a chunk");
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}
