//! The client against a server that says exactly what a test wants it to say.

use super::*;
use std::io::BufRead as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// Answers one connection with `answer` and hands back what it was sent.
fn against(name: &str, answer: &'static [u8], ask: impl FnOnce(&Client)) -> Vec<u8> {
    let socket = format!("olworker-client-{name}-{}.sock", std::process::id());
    let path: PathBuf = std::env::temp_dir().join(socket);
    let listener = UnixListener::bind(&path).expect("a socket in the temporary directory");
    let client = Client {
        address: Address::Unix(path.clone()),
        token: None,
        silence: Some(Duration::from_secs(10)),
    };
    let heard = std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let heard = hear(&mut stream);
            stream.write_all(answer).expect("the client listens");
            heard
        });
        ask(&client);
        server.join().expect("the server does not panic")
    });
    std::fs::remove_file(&path).expect("it is ours");
    heard
}

/// A whole request, by its framing.
fn hear(stream: &mut UnixStream) -> Vec<u8> {
    let mut reader = io::BufReader::new(stream);
    let mut heard = Vec::new();
    while !heard.ends_with(b"\r\n\r\n") {
        assert!(reader.read_until(b'\n', &mut heard).expect("a head") > 0);
    }
    let head = String::from_utf8_lossy(&heard).to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        while !heard.ends_with(b"0\r\n\r\n") {
            assert!(reader.read_until(b'\n', &mut heard).expect("chunks") > 0);
        }
    } else if let Some((_, rest)) = head.split_once("content-length: ") {
        let length = rest
            .split("\r\n")
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a length");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        heard.extend(body);
    }
    heard
}

fn body_of(answer: Answer) -> io::Result<String> {
    io::read_to_string(answer)
}

#[test]
fn a_sized_answer() {
    let heard = against(
        "sized",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        |client| {
            let answer = client
                .send(Request::new("GET", "/status"))
                .expect("an answer");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-length"), Some("5"));
            assert_eq!(body_of(answer).expect("whole"), "hello");
        },
    );
    let heard = String::from_utf8(heard).expect("ASCII");
    assert!(
        heard.starts_with("GET /status HTTP/1.1\r\nHost: localhost\r\n"),
        "{heard}"
    );
    assert!(!heard.contains("Content-Length"), "{heard}");
}

#[test]
fn chunks_and_a_trailer() {
    let answer =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n\
        3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-After: 1\r\n\r\n";
    against("chunks", answer, |client| {
        let answer = client.send(Request::new("GET", "/")).expect("an answer");
        assert_eq!(body_of(answer).expect("whole"), "abc0123456789");
    });
}

#[test]
fn a_body_that_breaks_off_is_an_error() {
    for (name, answer) in [
        (
            "cut-size",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello".as_slice(),
        ),
        (
            "cut-chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
        ),
        (
            "cut-end",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n",
        ),
        (
            "long",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "no-size",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ),
    ] {
        against(name, answer, |client| {
            let answer = client.send(Request::new("GET", "/")).expect("a head");
            assert!(body_of(answer).is_err(), "{name}");
        });
    }
}

#[test]
fn what_is_no_answer_is_told() {
    for (name, answer, why) in [
        ("ssh", b"SSH-2.0-x\r\n".as_slice(), "no HTTP"),
        (
            "two",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "ambiguous",
        ),
        (
            "sign",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "no number",
        ),
        ("silent", b"", "broke off"),
    ] {
        against(name, answer, |client| {
            let error = client
                .send(Request::new("GET", "/"))
                .expect_err("no answer");
            assert!(error.why().contains(why), "{name}: {}", error.why());
        });
    }
}

#[test]
fn bodies_are_sent_sized_and_in_chunks() {
    let done = b"HTTP/1.1 204 No Content\r\n\r\n";
    let heard = against("send-sized", done, |client| {
        let mut request = Request::new("PUT", "/registry/f");
        let mut source: &[u8] = b"0123456789";
        request.body = Body::Sized(&mut source, 10);
        assert_eq!(client.send(request).expect("an answer").status, 204);
    });
    assert!(heard.ends_with(b"Content-Length: 10\r\n\r\n0123456789"));
    let heard = against("send-chunks", done, |client| {
        let mut request = Request::new("POST", "/run/f");
        let mut source: &[u8] = b"0123456789";
        request.body = Body::Stream(&mut source);
        assert_eq!(client.send(request).expect("an answer").status, 204);
    });
    assert!(heard.ends_with(b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"));
}

#[test]
fn a_refusal_is_a_failure_with_its_remedy() {
    let answer = b"HTTP/1.1 404 Not Found\r\n\r\n\
        {\"type\":\"https://x/problems/no-such-function\",\"status\":404,\
        \"detail\":\"no \\\"f\\\" here\"}";
    against("refusal", answer, |client| {
        let failure = client.ask("rm f", Request::new("DELETE", "/registry/f"));
        let line = failure.expect_err("a refusal").lines("ol");
        assert_eq!(
            line,
            "ol: rm f: no \"f\" here (ol list shows what there is)\n"
        );
    });
}

#[test]
fn a_refusal_before_the_body_was_sent_is_heard() {
    let path = std::env::temp_dir().join(format!("olworker-client-early-{}", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a socket in the temporary directory");
    let client = Client {
        address: Address::Unix(path.clone()),
        token: None,
        silence: None,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("the client comes");
            let mut first = [0; 1024];
            let _ = stream.read(&mut first).expect("the head");
            stream
                .write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
                .expect("the client will listen");
        });
        let mut request = Request::new("PUT", "/registry/f");
        let mut endless = io::repeat(7);
        request.body = Body::Sized(&mut endless, 1 << 40);
        assert_eq!(client.send(request).expect("an answer").status, 413);
    });
    std::fs::remove_file(&path).expect("it is ours");
}

#[test]
fn nobody_there_is_told_with_code_and_remedy() {
    let nowhere = std::env::temp_dir().join(format!("olworker-no-{}.sock", std::process::id()));
    let client = Client {
        address: Address::Unix(nowhere),
        token: None,
        silence: None,
    };
    let failure = client
        .ask("list", Request::new("GET", "/registry"))
        .expect_err("nobody");
    assert_eq!(failure.exit(), Exit::Unreachable);
    assert!(
        failure
            .lines("ol")
            .contains("there is no such socket (start one: ol worker up -d")
    );
}
