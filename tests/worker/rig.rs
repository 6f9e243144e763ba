//! One worker in a directory of its own, and the few words of HTTP that tests need.

use olworker::sys::clock;
use rustix::event::{Timespec, poll};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Nothing here takes longer on the slowest machine that should pass.
const PATIENCE: Duration = Duration::from_mins(1);

pub struct Worker {
    pub directory: PathBuf,
    child: Child,
    options: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a problem.
    pub fn code(&self) -> String {
        let kind = self.json()["type"].as_str().expect("a problem").to_owned();
        kind.rsplit('/').next().expect("a segment").to_owned()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Between two looks.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// Workers of this process so far: each has a directory of its own.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// None, and why on stderr, where no worker can run.
pub fn worker(back_end: &str, overrides: &[&str]) -> Option<Worker> {
    worker_in(back_end, overrides, &[])
}

/// The same with variables in its environment.
pub fn worker_in(
    back_end: &str,
    overrides: &[&str],
    environment: &[(&'static str, String)],
) -> Option<Worker> {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIP: a worker makes sandboxes, which takes root"
        );
        return None;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("olworker-live-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&directory);
    let made = Command::new(env!("CARGO_BIN_EXE_ol"))
        .args(["worker", "init", "-q", "-p"])
        .arg(&directory)
        .status()
        .unwrap();
    assert!(made.success());
    fs::write(directory.join("tree.json"), r#"{"packages": []}"#).unwrap();
    let mut options = vec!["http.tcp=".to_owned(), "pool.mem_mb=2000".to_owned()];
    options.push(format!("io.backend={back_end}"));
    options.extend(overrides.iter().map(|&value| value.to_owned()));
    let child = spawn(&directory, &options, environment);
    let mut worker = Worker {
        directory,
        child,
        options,
        environment: environment.to_vec(),
    };
    worker.until_ready();
    Some(worker)
}

fn spawn(directory: &Path, options: &[String], environment: &[(&'static str, String)]) -> Child {
    let mut log = fs::File::options();
    let log = log.append(true).create(true);
    let log = log.open(directory.join("worker.out")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_olworker"));
    command.arg("serve").arg("--dir").arg(directory);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    for value in options {
        command.args(["-o", value]);
    }
    // An index that is not there is not asked again and again.
    command.env("UV_HTTP_RETRIES", "0").env("PIP_RETRIES", "0");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    command.spawn().unwrap()
}

impl Worker {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    fn until_ready(&mut self) {
        self.until("it is ready", |worker| {
            if let Some(status) = worker.child.try_wait().unwrap() {
                panic!("the worker ended with {status}: {}", worker.log());
            }
            worker.is_ready().unwrap_or(false)
        });
    }

    /// An error where nobody listens, or a socket that is still there of one that was killed.
    fn is_ready(&self) -> std::io::Result<bool> {
        let mut stream = self.connect()?;
        stream.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200 "))
    }

    /// Another worker in the same directory, this one being dead.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.directory, &self.options, &self.environment);
        self.until_ready();
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("worker.out")).unwrap_or_default()
    }

    pub fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = UnixStream::connect(self.directory.join("worker/ol.sock"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Waits for something, however slow the machine.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let begin = clock::now();
        while !holds(self) {
            assert!(
                clock::now().since(begin) < PATIENCE,
                "{what}: not within a minute; {}",
                self.log()
            );
            poll(&mut [], Some(&PAUSE)).unwrap();
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    /// A number of `/stats`.
    pub fn stat(&self, name: &str) -> f64 {
        let stats = self.get("/stats").json();
        stats[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {stats}"))
    }

    /// Waits until calls can be forked from the root zygote.
    pub fn until_warm(&mut self) {
        self.until("the root zygote lives", |worker| {
            let tree = worker.get("/tree").json();
            tree["trees"][0]["state"] == "live"
        });
    }

    pub fn call(&self, name: &str, body: &str) -> Answer {
        self.ask("POST", &format!("/run/{name}"), "", body.as_bytes())
    }

    /// `fields`: whole lines, each ended.
    pub fn ask(&self, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect().unwrap();
        send(&mut stream, method, path, fields, body);
        receive(&mut stream, method == "HEAD")
    }

    pub fn deploy(&self, name: &str, code: &str) {
        let answer = self.ask("PUT", &format!("/registry/{name}"), "", code.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// A function with settings, as a directory put into the registry by hand.
    pub fn put_directory(&self, name: &str, files: &[(&str, &str)]) {
        let directory = self.directory.join("registry").join(name);
        fs::create_dir_all(&directory).unwrap();
        for (file, text) in files {
            fs::write(directory.join(file), text).unwrap();
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it as an operator would; its exit status and what it said.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().unwrap();
        (status.code(), self.log())
    }

    pub fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Processes whose parent this is.
    pub fn children(&self) -> Vec<i32> {
        children_of(self.pid())
    }
}

fn children_of(parent: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            rest.split_whitespace().nth(1) == Some(&parent.to_string())
        })
        .collect()
}

pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest.trim_start());
    !state.is_empty() && !state.starts_with('Z')
}

pub fn send(stream: &mut UnixStream, method: &str, path: &str, fields: &str, body: &[u8]) {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A worker that refuses early may close before all of it is taken.
    let _ = stream.write_all(body);
}

/// One answer, its framing undone.
pub fn receive(stream: &mut UnixStream, head_only: bool) -> Answer {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        read_more(stream, &mut bytes);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    bytes.drain(..end + 4);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer {
        status,
        head,
        body: Vec::new(),
    };
    if head_only || matches!(status, 204 | 304) {
        return answer;
    }
    if answer.field("transfer-encoding").is_some() {
        answer.body = read_chunks(stream, bytes);
        return answer;
    }
    let length: usize = answer.field("content-length").unwrap().parse().unwrap();
    while bytes.len() < length {
        read_more(stream, &mut bytes);
    }
    assert_eq!(
        bytes.len(),
        length,
        "nothing was asked that could be answered behind it"
    );
    answer.body = bytes;
    answer
}

fn read_more(stream: &mut UnixStream, bytes: &mut Vec<u8>) {
    let mut piece = vec![0; 64 * 1024];
    let count = stream.read(&mut piece).unwrap();
    assert!(
        count > 0,
        "cut off after {:?}",
        String::from_utf8_lossy(bytes)
    );
    bytes.extend_from_slice(&piece[..count]);
}

fn read_chunks(stream: &mut UnixStream, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            match bytes.windows(2).position(|window| window == b"\r\n") {
                Some(end) => break end,
                None => read_more(stream, &mut bytes),
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        while bytes.len() < end + 2 + size + 2 {
            read_more(stream, &mut bytes);
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes.drain(..end + 2 + size + 2);
        if size == 0 {
            return body;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
        if !ended {
            self.signal(rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
        remove(&self.directory);
    }
}

fn remove(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
}

/// Nobody waits for anything in particular.
pub fn pause(milliseconds: i64) {
    let pause = Timespec {
        tv_sec: milliseconds / 1_000,
        tv_nsec: milliseconds % 1_000 * 1_000_000,
    };
    poll(&mut [], Some(&pause)).unwrap();
}
