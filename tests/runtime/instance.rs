//! One instance without a sandbox: the runtime as the worker starts it, over a bare socketpair, in
//! each interpreter this machine has.

use olworker::sys::clock;
use olworker::wire::{
    After, AnswerDecoder, AnswerEvent, CallHead, FailureCode, FrameError, Seen, StartKind, Step,
    call,
};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory of its own, gone with the value.
pub struct Scratch {
    pub path: PathBuf,
}

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("olworker-runtime-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self { path }
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub fn runtime_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes/python")
}

/// Every CPython 3.9 or later that is installed in one of the usual places.
pub fn interpreters() -> &'static [PathBuf] {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut candidates = vec![PathBuf::from("/usr/bin/python3")];
        if let Some(home) = std::env::var_os("HOME") {
            let versions = Path::new(&home).join(".pyenv/versions");
            let entries = fs::read_dir(versions).into_iter().flatten().flatten();
            let mut installed: Vec<_> = entries
                .map(|entry| entry.path().join("bin/python3"))
                .collect();
            installed.sort();
            candidates.extend(installed);
        }
        candidates.retain(|path| {
            let check = "import sys; sys.exit(sys.version_info < (3, 9))";
            let status = Command::new(path).args(["-I", "-S", "-c", check]).status();
            status.is_ok_and(|status| status.success())
        });
        candidates
    })
}

/// Runs a test in each interpreter, and says which one it was that failed.
pub fn everywhere(mut test: impl FnMut(&Path)) {
    struct Named<'a>(&'a Path);
    impl Drop for Named<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let _ = writeln!(std::io::stderr(), "in {}", self.0.display());
            }
        }
    }
    if interpreters().is_empty() {
        skip("no CPython 3.9 or later in /usr/bin or ~/.pyenv/versions");
    }
    for interpreter in interpreters() {
        let named = Named(interpreter);
        test(named.0);
    }
}

pub fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP: {why}");
}

/// What a caller gets of one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body was known to be whole with its head.
    pub in_one_frame: bool,
    pub end: Option<After>,
    pub failure: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub code: FailureCode,
    pub detail: String,
    pub traceback: String,
    pub tainted: bool,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn failed(&self) -> &Failed {
        self.failure
            .as_ref()
            .unwrap_or_else(|| panic!("expected a failure, got {self:?}"))
    }

    /// The text of a complete answer with status 200.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!((self.status, &self.failure), (200, &None), "{self:?}");
        self.text()
    }
}

/// What is sent; the defaults are a POST without a body.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    pub budget_ms: u32,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            method: "POST",
            path: "",
            query: "",
            headers: &[],
            body: b"",
            budget_ms: 30_000,
        }
    }
}

/// One event, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Head {
        status: u16,
        headers: Vec<(String, String)>,
        whole: bool,
    },
    Data(Vec<u8>),
    End(After),
    Failed(Failed),
    Idle {
        tainted: bool,
    },
    Closed,
}

pub struct Instance {
    pub child: Child,
    pub stream: UnixStream,
    pub scratch: Scratch,
    decoder: AnswerDecoder,
    received: Vec<u8>,
    ended: Option<ExitStatus>,
}

impl Instance {
    /// An instance of a function that is one f.py.
    pub fn of(interpreter: &Path, code: &str) -> Self {
        Self::start(interpreter, &[("f.py", code)], &[])
    }

    pub fn start(interpreter: &Path, files: &[(&str, &str)], settings: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new();
        for (name, text) in files {
            scratch.write(&format!("handler/{name}"), text);
        }
        fs::write(scratch.path.join("seen"), [0; 4096]).unwrap();
        let log = File::create(scratch.path.join("log")).unwrap();
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The shell puts connection and page where the worker would.
        let script = "exec \"$@\" 3<&0 4<>\"$SEEN_FILE\" 0</dev/null";
        let child = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .arg(interpreter)
            .args(["-I", "-S", "-B"])
            .arg(runtime_directory().join("start.py"))
            .arg("instance")
            .env_clear()
            .env("SEEN_FILE", scratch.path.join("seen"))
            .env("OL_HANDLER", scratch.path.join("handler"))
            .envs(settings.iter().copied())
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let decoder = AnswerDecoder::new();
        Self {
            child,
            stream,
            scratch,
            decoder,
            received: Vec::new(),
            ended: None,
        }
    }

    /// Sends a call whose body is complete, and waits for the end of its answer.
    pub fn call(&mut self, request: Request<'_>) -> Answer {
        self.send(request, true);
        self.answer()
    }

    /// A POST of this body.
    pub fn post(&mut self, body: &str) -> Answer {
        self.call(Request {
            body: body.as_bytes(),
            ..Request::default()
        })
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.call(Request {
            method: "GET",
            path,
            ..Request::default()
        })
    }

    /// As `get`, waiting for user code to come to its end as well.
    pub fn get_to_the_end(&mut self, path: &str) -> Answer {
        let answer = self.get(path);
        if answer.end == Some(After::Busy) {
            assert_eq!(self.hear(), Heard::Idle { tainted: false });
        }
        answer
    }

    pub fn send(&mut self, request: Request<'_>, last: bool) {
        let head = CallHead {
            id: "call-1",
            function: "test",
            start: StartKind::Fresh,
            budget_ms: request.budget_ms,
            protocol: "HTTP/1.1",
            method: request.method,
            script_name: "/run/test",
            path: request.path,
            query: request.query,
            client: "192.0.2.1:4000",
            server: "127.0.0.1:5000",
        };
        let mut frame = Vec::new();
        let headers = request
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        head.encode(headers, request.body, last, &mut frame)
            .unwrap();
        self.decoder.call_sent();
        self.write(&frame);
    }

    pub fn send_body(&mut self, body: &[u8], last: bool) {
        let mut frames = Vec::new();
        call::encode_body(body, last, &mut frames);
        self.write(&frames);
    }

    pub fn cancel(&mut self) {
        self.write(&call::cancel());
    }

    fn write(&mut self, bytes: &[u8]) {
        // It may have died meanwhile: reading tells.
        let _ = self.stream.write_all(bytes);
    }

    /// Waits for the next thing the instance says.
    pub fn hear(&mut self) -> Heard {
        self.try_hear()
            .unwrap_or_else(|error| panic!("{error}\nlog:\n{}", self.log()))
    }

    fn try_hear(&mut self) -> Result<Heard, FrameError> {
        loop {
            let Step { used, event } = self.decoder.decode(&self.received)?;
            let heard = event.map(own);
            self.received.drain(..used);
            if let Some(heard) = heard {
                return Ok(heard);
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Heard::Closed),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Ok(Heard::Closed);
                }
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) => panic!("nothing heard: {error}\nlog:\n{}", self.log()),
            }
        }
    }

    /// Hears until the answer is over. User code may go on: see `end`.
    pub fn answer(&mut self) -> Answer {
        let mut answer = Answer::default();
        loop {
            match self.hear() {
                Heard::Head {
                    status,
                    headers,
                    whole,
                } => {
                    (answer.status, answer.headers, answer.in_one_frame) = (status, headers, whole);
                }
                Heard::Data(data) => answer.body.extend(data),
                Heard::End(after) => {
                    answer.end = Some(after);
                    return answer;
                }
                Heard::Failed(failed) => {
                    answer.failure = Some(failed);
                    return answer;
                }
                other @ (Heard::Idle { .. } | Heard::Closed) => {
                    panic!("no answer but {other:?}\nlog:\n{}", self.log())
                }
            }
        }
    }

    /// Waits for the death that a call brings, and how it came.
    pub fn death(&mut self) -> ExitStatus {
        loop {
            if self.hear() == Heard::Closed {
                let status = self.child.wait().unwrap();
                self.ended = Some(status);
                return status;
            }
        }
    }

    /// Hangs up as the worker does, and waits for the end.
    pub fn hang_up(&mut self) -> ExitStatus {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        let status = self.child.wait().unwrap();
        self.ended = Some(status);
        status
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(self.scratch.path.join("log")).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn seen(&self) -> Seen {
        let bytes = fs::read(self.scratch.path.join("seen")).unwrap();
        let word =
            |index: usize| u64::from_le_bytes(bytes[8 * index..8 * index + 8].try_into().unwrap());
        Seen::decode([word(0), word(1), word(2)])
    }

    /// The most memory it has ever had resident.
    pub fn peak_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits until it waits, after an answer: for the next call.
    pub fn wait_until_asleep(&self) {
        let path = format!("/proc/{}/stat", self.child.id());
        self.wait_until(|| {
            let stat = fs::read_to_string(&path).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with('S')
        });
    }

    pub fn wait_for_log(&self, text: &str) {
        self.wait_until(|| self.log().contains(text));
    }

    fn wait_until(&self, is_so: impl Fn() -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !is_so() {
            assert!(clock::now() < deadline, "never so\nlog:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Died of a signal, as a shell would say it.
pub fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal()
}

fn own(event: AnswerEvent<'_>) -> Heard {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match event {
        AnswerEvent::Head(head) => Heard::Head {
            status: head.status,
            headers: head
                .headers
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            whole: head.body_bytes.is_some(),
        },
        AnswerEvent::Data(data) => Heard::Data(data.to_vec()),
        AnswerEvent::End(after) => Heard::End(after),
        AnswerEvent::Failed(failure) => Heard::Failed(Failed {
            code: failure.code,
            detail: failure.detail.to_owned(),
            traceback: failure.traceback.to_owned(),
            tainted: failure.tainted,
        }),
        AnswerEvent::Idle { tainted } => Heard::Idle { tainted },
    }
}
