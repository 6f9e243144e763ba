//! Functions from a registry on the web: of HTTP, with servers that misbehave, and of S3.

use crate::on_both;
use crate::rig::{worker, worker_in};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

on_both!(
    functions_come_from_the_web_and_are_followed,
    a_registry_that_fails_keeps_the_old_code_serving,
    a_registry_that_is_silent_holds_nobody_up_twice,
    what_was_cut_off_goes_on_where_it_stopped,
    functions_come_from_s3,
);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Good,
    Fails,
    Silent,
    /// The body ends in the middle, once.
    CutsOff,
}

struct State {
    files: BTreeMap<String, (Vec<u8>, u32)>,
    manner: Manner,
    /// `GET /code/x.py 304`.
    log: Vec<String>,
    held: Vec<TcpStream>,
}

#[derive(Clone)]
struct Server {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(State {
                files: BTreeMap::new(),
                manner: Manner::Good,
                log: Vec::new(),
                held: Vec::new(),
            })),
        };
        let shared = server.clone();
        let serve = move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                let one = move || shared.serve(stream);
                std::thread::Builder::new().spawn(one).unwrap();
            }
        };
        std::thread::Builder::new().spawn(serve).unwrap();
        server
    }

    fn url(&self) -> String {
        format!("registry.url=http://127.0.0.1:{}/code", self.port)
    }

    fn put(&self, name: &str, content: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let version = state.files.get(name).map_or(1, |(_, version)| version + 1);
        state
            .files
            .insert(name.to_owned(), (content.to_vec(), version));
    }

    fn behave(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        core::mem::take(&mut self.state.lock().unwrap().log)
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            if !self.answer(&lines, &mut stream) {
                return;
            }
        }
    }

    /// False: the connection is over.
    fn answer(&self, lines: &[String], stream: &mut TcpStream) -> bool {
        let path = lines[0].split(' ').nth(1).unwrap().to_owned();
        let field = |name: &str| {
            lines.iter().skip(1).find_map(|line| {
                let (field, value) = line.split_once(':')?;
                field
                    .eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let mut state = self.state.lock().unwrap();
        let manner = state.manner;
        if manner == Manner::Silent {
            state.log.push(format!("GET {path} -"));
            state.held.push(stream.try_clone().unwrap());
            return true;
        }
        let found = path
            .strip_prefix("/code/")
            .and_then(|name| state.files.get(name).cloned());
        let (status, body, etag, start) = match found {
            _ if manner == Manner::Fails => (500, Vec::new(), String::new(), 0),
            None => (404, Vec::new(), String::new(), 0),
            Some((content, version)) => {
                let etag = format!("\"v{version}\"");
                let from = field("range").filter(|_| field("if-range") == Some(etag.clone()));
                if field("if-none-match").as_ref() == Some(&etag) {
                    (304, Vec::new(), etag, 0)
                } else if let Some(from) = from {
                    let start = from["bytes=".len()..]
                        .trim_end_matches('-')
                        .parse()
                        .unwrap();
                    (206, content[start..].to_vec(), etag, start)
                } else {
                    (200, content, etag, 0)
                }
            }
        };
        state.log.push(format!("GET {path} {status}"));
        let mut head = format!(
            "HTTP/1.1 {status} X\r\nLast-Modified: Fri, 21 Nov 2025 05:34:23 GMT\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        if !etag.is_empty() {
            let _ = write!(head, "ETag: {etag}\r\n");
        }
        if status == 206 {
            let end = start + body.len();
            let last = end - 1;
            let _ = write!(head, "Content-Range: bytes {start}-{last}/{end}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        if manner == Manner::CutsOff && status == 200 {
            state.manner = Manner::Good;
            let _ = stream.write_all(&body[..body.len() / 2]);
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return false;
        }
        if status != 304 {
            let _ = stream.write_all(&body);
        }
        true
    }
}

fn code(value: &str) -> Vec<u8> {
    format!("def f(event):\n    return '{value}'\n").into_bytes()
}

fn functions_come_from_the_web_and_are_followed(back_end: &str) {
    let server = Server::start();
    let Some(mut worker) = worker(back_end, &[&server.url(), "registry.cache_ms=600"]) else {
        return;
    };
    server.put("x.py", &code("one"));
    assert_eq!(worker.call("x", "").text(), "\"one\"");
    assert_eq!(
        server.asked(),
        ["GET /code/x.tar.gz 404", "GET /code/x.py 200"]
    );
    // Fresh: nobody is asked.
    assert_eq!(worker.call("x", "").text(), "\"one\"");
    assert_eq!(server.asked(), [""; 0]);
    worker.until("it was asked whether there is something newer", |worker| {
        assert_eq!(worker.call("x", "").text(), "\"one\"");
        let asked = server.asked();
        assert!(
            asked.iter().all(|line| line == "GET /code/x.py 304"),
            "{asked:?}"
        );
        !asked.is_empty()
    });
    server.put("x.py", &code("two"));
    worker.until("the change is picked up", |worker| {
        worker.call("x", "").text() == "\"two\""
    });
    let listed = worker.get("/registry").json();
    assert_eq!(listed["functions"][0]["name"], "x");
    assert_eq!(
        listed["functions"][0]["uploaded"],
        "2025-11-21T05:34:23.000Z"
    );
    assert_eq!(
        worker.get("/registry/x/config").json()["limits"]["mem_mb"],
        128
    );
    assert_eq!(worker.call("nobody", "").code(), "no-such-function");
    assert_eq!(worker.get("/registry/nobody").code(), "no-such-function");
    for (method, path) in [
        ("PUT", "/registry/x"),
        ("DELETE", "/registry/x"),
        ("POST", "/registry/x/rollback"),
    ] {
        let answer = worker.ask(method, path, "", b"");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (409, "read-only-registry")
        );
    }
}

fn a_registry_that_fails_keeps_the_old_code_serving(back_end: &str) {
    let server = Server::start();
    let Some(mut worker) = worker(back_end, &[&server.url(), "registry.cache_ms=50"]) else {
        return;
    };
    server.put("x.py", &code("good"));
    assert_eq!(worker.call("x", "").text(), "\"good\"");
    server.behave(Manner::Fails);
    worker.until("the failure is told", |worker| {
        assert_eq!(worker.call("x", "").text(), "\"good\"");
        worker
            .log()
            .contains("the code from before goes on serving")
    });
    assert!(worker.log().contains("the registry answers 500"));
    let answer = worker.call("other", "");
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    server.behave(Manner::Good);
    server.put("x.zip", b"no zip");
    server.put("x.py", &[0xff, 0xfe]);
    worker.until("bad code is told", |worker| {
        assert_eq!(worker.call("x", "").text(), "\"good\"");
        worker.log().contains("line 1 is not UTF-8")
    });
    server.put("x.py", &code("better"));
    worker.until("it recovers", |worker| {
        worker.call("x", "").text() == "\"better\""
    });
}

fn a_registry_that_is_silent_holds_nobody_up_twice(back_end: &str) {
    let server = Server::start();
    let Some(mut worker) = worker(back_end, &[&server.url(), "registry.cache_ms=50"]) else {
        return;
    };
    server.put("x.py", &code("good"));
    assert_eq!(worker.call("x", "").text(), "\"good\"");
    server.behave(Manner::Silent);
    worker.until("it is asked and says nothing", |worker| {
        assert_eq!(worker.call("x", "").text(), "\"good\"");
        server.asked().iter().any(|line| line.ends_with('-'))
    });
    // All of these together wait less than one look does.
    let begin = olworker::sys::clock::now();
    for _ in 0..50 {
        assert_eq!(worker.call("x", "").text(), "\"good\"");
    }
    let took = olworker::sys::clock::now().since(begin);
    assert!(took.as_secs() < 8, "{took:?}");
    server.behave(Manner::Good);
}

fn what_was_cut_off_goes_on_where_it_stopped(back_end: &str) {
    let server = Server::start();
    let Some(worker) = worker(back_end, &[&server.url()]) else {
        return;
    };
    let mut long = code("whole");
    long.extend("# as long as it takes\n".repeat(20_000).bytes());
    server.put("x.py", &long);
    server.behave(Manner::CutsOff);
    assert_eq!(worker.call("x", "").text(), "\"whole\"");
    let asked = server.asked();
    assert_eq!(
        asked,
        [
            "GET /code/x.tar.gz 404",
            "GET /code/x.py 200",
            "GET /code/x.py 206"
        ]
    );
}

/// An interpreter that has moto, as `scripts/test` installs it.
fn moto() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache =
        variable("OLWORKER_CACHE").or_else(|| Some(variable("HOME")?.join(".cache/olworker")))?;
    let python = cache.join("moto/bin/python");
    python.is_file().then_some(python)
}

fn functions_come_from_s3(back_end: &str) {
    let Some(python) = moto() else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIP: no server of S3: moto is not installed (scripts/test does it)"
        );
        return;
    };
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/worker/s3_server.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let [address, id, secret]: [String; 3] = serde_json::from_str(&line).expect("moto is ready");
    let mut put_all = |name: &str, text: &[u8], count: u32| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        writeln!(input, "{}", serde_json::json!([name, text, count])).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
    };
    let mut put = |name: &str, text: &[u8]| put_all(name, text, 1);
    put("team a/x.py", &code("from S3"));
    let environment = |secret: &str| {
        [
            ("AWS_ENDPOINT_URL", address.clone()),
            ("AWS_ACCESS_KEY_ID", id.clone()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ]
    };
    let options = ["registry.url=s3://code/team a", "registry.cache_ms=50"];
    let options = options.map(|option| option.replace(' ', "%20"));
    let options = options.each_ref().map(String::as_str);
    let run = |secret: &str| worker_in(back_end, &options, &environment(secret));
    if let Some(mut good) = run(&secret) {
        assert_eq!(good.call("x", "").text(), "\"from S3\"", "{}", good.log());
        assert_eq!(good.call("nobody", "").code(), "no-such-function");
        put("team a/x.py", &code("changed"));
        good.until("the change is picked up", |good| {
            good.call("x", "").text() == "\"changed\""
        });
        // More than one page of it, of one directory, whether called or not.
        put_all("team a/many-#.py", &code("many"), 1_050);
        put_all("team a/x.zip", b"another entry of x", 1);
        put_all("team a/below/y.py", &code("y"), 1);
        put_all("team b/z.py", &code("z"), 1);
        put_all("team a/no function.py", &code("no"), 1);
        let listed = good.get("/registry").json();
        let rows = listed["functions"].as_array().unwrap();
        assert_eq!(rows.len(), 1_051, "{}", good.log());
        let names: Vec<_> = rows
            .iter()
            .map(|row| row["name"].as_str().unwrap())
            .collect();
        assert!(names.is_sorted() && names.last() == Some(&"x"));
        let x = rows.last().unwrap();
        assert_eq!(x["bytes"], code("changed").len());
        let uploaded = x["uploaded"].as_str().unwrap();
        assert!(
            uploaded.starts_with("20") && uploaded.ends_with('Z'),
            "{uploaded}"
        );
        assert_eq!(
            good.ask("PUT", "/registry/x", "", b"").code(),
            "read-only-registry"
        );
    }
    if let Some(bad) = run("not the secret") {
        let answer = bad.call("x", "");
        assert_eq!(answer.code(), "overloaded", "{}", answer.text());
        assert!(
            answer.text().contains("refuses access"),
            "{}",
            answer.text()
        );
        let listed = bad.get("/registry");
        assert_eq!(listed.code(), "overloaded");
        assert!(listed.text().contains("s3:ListBucket"), "{}", listed.text());
        assert!(!bad.log().contains("not the secret"));
    }
    drop(input);
    let mut rest = String::new();
    let _ = output.read_to_string(&mut rest);
    let _ = child.kill();
    let _ = child.wait();
}
