//! app(environ, start_response).

use super::instance::{Answer, Heard, Instance, Request, everywhere};
use olworker::wire::{After, FailureCode};
use serde_json::{Value, json};

/// An application whose body is the given statements; `kind` is the path without its slash.
fn app(body: &str) -> String {
    let body = body.trim_start_matches('\n');
    format!(
        "
import sys
closed = []
def app(environ, start_response):
    kind = environ['PATH_INFO'][1:]
{body}
"
    )
}

#[test]
fn the_environ_is_that_of_the_call() {
    let code = app("
    import json
    told = {key: value for key, value in environ.items() if isinstance(value, (str, bool))}
    told['body'] = environ['wsgi.input'].read().decode()
    told['errors'] = environ['wsgi.errors'] is sys.stderr
    told['version'] = environ['wsgi.version']
    start_response('200 OK', [('Content-Type', 'application/json')])
    return [json.dumps(told).encode()]");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        let answer = instance.call(Request {
            method: "PATCH",
            path: "/a%20b/%C3%A9%2F",
            query: "x=%20",
            headers: &[
                ("Host", "example.org:8080"),
                ("Content-Type", "text/plain"),
                ("Content-Length", "4"),
                ("Cookie", "a=1"),
                ("Cookie", "b=2"),
                ("X-Twice", "one"),
                ("X-Twice", "two"),
                ("x_twice", "disguised"),
            ],
            body: b"body",
            ..Request::default()
        });
        let told: Value = serde_json::from_str(answer.ok()).unwrap();
        let expected = json!({
            "REQUEST_METHOD": "PATCH", "SCRIPT_NAME": "/run/test",
            "PATH_INFO": "/a b/\u{c3}\u{a9}/", "QUERY_STRING": "x=%20",
            "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "olworker",
            "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "5000",
            "REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "4000",
            "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "4",
            "HTTP_HOST": "example.org:8080", "HTTP_COOKIE": "a=1; b=2", "HTTP_X_TWICE": "one,two",
            "wsgi.url_scheme": "http", "wsgi.multithread": false, "wsgi.multiprocess": true,
            "wsgi.run_once": false, "wsgi.input_terminated": true,
            "olworker.call_id": "call-1", "olworker.function": "test",
            "body": "body", "errors": true, "version": [1, 0],
        });
        assert_eq!(told, expected);
        assert_eq!((answer.in_one_frame, answer.end), (true, Some(After::Keep)));
    });
}

#[test]
fn a_body_is_read_while_it_arrives() {
    let code = app("
    body = environ['wsgi.input']
    start_response('200 OK', [])
    parts = [body.readline(), body.read(3), body.readline(2)]
    parts += [next(iter(body)), *body.readlines(), body.read(), body.read(5)]
    return [b'|'.join(part.strip() for part in parts)]");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        instance.send(
            Request {
                body: b"first ",
                ..Request::default()
            },
            false,
        );
        for piece in [&b"line\n"[..], b"ab", b"cde", b"fg\nnext\nla", b"st\n"] {
            instance.send_body(piece, false);
        }
        instance.send_body(b"end", true);
        assert_eq!(
            instance.answer().ok(),
            "first line|abc|de|fg|next|last|end||"
        );
    });
}

#[test]
fn a_body_that_is_not_read_does_not_reach_the_next_call() {
    let code = app("
    start_response('200 OK', [])
    return [kind.encode()]");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        for end_by_cancel in [false, true] {
            instance.send(
                Request {
                    body: b"x",
                    path: "/early",
                    ..Request::default()
                },
                false,
            );
            assert_eq!(instance.answer().ok(), "early");
            instance.send_body(&vec![7; 100_000], !end_by_cancel);
            if end_by_cancel {
                instance.cancel();
            }
            assert_eq!(instance.get("/next").ok(), "next");
        }
    });
}

#[test]
fn a_client_that_goes_away_while_its_body_is_read_is_an_error_of_reading() {
    let code = app("
    start_response('200 OK', [])
    try:
        return [environ['wsgi.input'].read()]
    except OSError as error:
        closed.append(type(error).__name__)
        return [','.join(closed).encode()]");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        instance.send(
            Request {
                body: b"x",
                ..Request::default()
            },
            false,
        );
        instance.send_body(b"y", false);
        instance.cancel();
        assert_eq!(instance.answer().ok(), "ConnectionError");
    });
}

#[test]
fn an_iterable_is_streamed_and_closed() {
    let code = app("
    if kind == 'closed':
        start_response('200 OK', [])
        return [','.join(closed).encode()]
    start_response('200 OK', [('X-Kind', kind)] + [('Content-Length', '4')] * (kind == 'length'))
    def pieces():
        try:
            yield b''
            yield b'ab'
            yield b'cd'
            closed.append('exhausted')
        finally:
            closed.append('closed')
    return pieces()");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        instance.send(
            Request {
                path: "/chunked",
                ..Request::default()
            },
            true,
        );
        let Heard::Head {
            status: 200,
            whole: false,
            headers,
        } = instance.hear()
        else {
            panic!("the head goes with the first bytes");
        };
        assert_eq!(headers, [("x-kind".to_owned(), "chunked".to_owned())]);
        let rest: Vec<_> = (0..4).map(|_| instance.hear()).collect();
        let expected = [
            Heard::Data(b"ab".to_vec()),
            Heard::Data(b"cd".to_vec()),
            Heard::End(After::Busy),
            Heard::Idle { tainted: false },
        ];
        assert_eq!(rest, expected);
        assert_eq!(instance.get("/closed").ok(), "exhausted,closed");
        let answer = instance.get("/length");
        assert_eq!((answer.ok(), answer.end), ("abcd", Some(After::Busy)));
        assert_eq!(instance.hear(), Heard::Idle { tainted: false });
        assert_eq!(
            instance.get("/closed").ok(),
            "exhausted,closed,exhausted,closed"
        );
    });
}

#[test]
fn the_answer_leaves_before_what_the_application_still_has_to_do() {
    const CODE: &str = "
import os
class Pieces:
    def __init__(self, gate): self.gate = gate; self.left = [b'answer']
    def __iter__(self): return self
    def __next__(self):
        if not self.left: raise StopIteration
        return self.left.pop()
    def close(self):
        with open(self.gate, 'rb') as gate: gate.read()
        print('closed')
def app(environ, start_response):
    start_response('200 OK', [('Content-Length', '6')])
    return Pieces(os.environ['GATE'])
";
    everywhere(|python| {
        let gate_directory = super::instance::Scratch::new();
        let gate = gate_directory.path.join("gate");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkfifoat(rustix::fs::CWD, &gate, mode).unwrap();
        let settings = [("GATE", gate.to_str().unwrap())];
        let mut instance = Instance::start(python, &[("f.py", CODE)], &settings);
        let answer = instance.get("");
        assert_eq!((answer.ok(), answer.end), ("answer", Some(After::Busy)));
        assert_eq!(instance.log(), "");
        drop(std::fs::OpenOptions::new().write(true).open(&gate).unwrap());
        assert_eq!(instance.hear(), Heard::Idle { tainted: false });
        assert!(instance.log().contains("closed"));
    });
}

#[test]
fn every_way_to_answer_that_the_specification_knows() {
    let code = app("
    if kind == 'write':
        write = start_response('200 OK', [])
        write(b'by ')
        return [b'write']
    if kind == 'late':
        def late():
            start_response('201 Created', [])
            yield b'late'
        return late()
    if kind == 'list':
        start_response('200', [])
        return (b'a', b'', b'b')
    if kind == 'replaced':
        start_response('200 OK', [('A', 'b')])
        try: raise ValueError
        except ValueError: start_response('500 Oh', [('C', 'd')], sys.exc_info())
        return [b'replaced']
    if kind == 'file':
        start_response('200 OK', [])
        return environ['wsgi.file_wrapper'](open(__file__, 'rb'), 7)
    start_response(kind, [('Content-Type', 'text/plain')])
    return iter([b'no', b'body'])");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        assert_eq!(instance.get("/write").ok(), "by write");
        let late = instance.get("/late");
        assert_eq!((late.status, late.text()), (201, "late"));
        assert_eq!(instance.hear(), Heard::Idle { tainted: false });
        assert_eq!(instance.get("/list").ok(), "ab");
        let replaced = instance.get("/replaced");
        assert_eq!((replaced.status, replaced.text()), (500, "replaced"));
        assert_eq!(replaced.headers, [("c".to_owned(), "d".to_owned())]);
        assert_eq!(instance.get("/file").ok(), code);
        assert_eq!(instance.hear(), Heard::Idle { tainted: false });
        for status in [204, 304] {
            let answer = instance.get(&format!("/{status}%20Empty"));
            assert_eq!((answer.status, answer.text()), (status, ""));
            assert_eq!(instance.hear(), Heard::Idle { tainted: false });
        }
        let request = Request {
            method: "HEAD",
            path: "/200%20OK",
            ..Request::default()
        };
        let head = instance.call(request);
        assert_eq!(head.ok(), "");
        assert_eq!(head.header("content-type"), Some("text/plain"));
    });
}

#[test]
fn an_application_that_breaks_the_rules_gets_an_error_that_names_the_rule() {
    let code = app("
    if kind == 'silent': return [b'']
    if kind == 'raise': raise KeyError('early')
    if kind == 'exit': sys.exit(2)
    if kind == 'status': start_response('OK', [])
    if kind == 'range': start_response('100 Continue', [])
    if kind == 'newline': start_response('200 OK', [('A', 'b\\r\\nC: d')])
    if kind == 'nul': start_response('200 OK', [('A', 'b\\0c')])
    if kind == 'many': start_response('200 OK', [('A', 'b')] * 300)
    if kind == 'wide': start_response('200 OK', [('A', '\\u20ac')])
    if kind == 'pair': start_response('200 OK', ['A'])
    if kind == 'none': start_response('200 OK', []); return None
    if kind == 'text': start_response('200 OK', []); return 'text'
    if kind == 'texts': start_response('200 OK', []); return ['a', 'b']
    if kind == 'twice': start_response('200 OK', []); start_response('200 OK', [])
    start_response('200 OK', [])
    return [b'fine']");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        for (kind, detail) in [
            (
                "silent",
                "AssertionError: the application returned without calling start_response",
            ),
            ("raise", "KeyError: 'early'"),
            ("exit", "SystemExit: 2"),
            ("status", "ValueError: 'OK' is no status"),
            (
                "range",
                "ol_runtime.frames.BadAnswer: status 100 is not one of a final answer",
            ),
            (
                "newline",
                "ol_runtime.frames.BadAnswer: a header holds a line end or a NUL",
            ),
            (
                "nul",
                "ol_runtime.frames.BadAnswer: a header holds a line end or a NUL",
            ),
            (
                "many",
                "ol_runtime.frames.BadAnswer: the headers are more than",
            ),
            ("wide", "UnicodeEncodeError: 'latin-1' codec"),
            ("pair", "ValueError: "),
            ("none", "TypeError: 'NoneType' object is not iterable"),
            (
                "text",
                "TypeError: the application must give bytes, not str",
            ),
            ("texts", "TypeError: "),
            (
                "twice",
                "AssertionError: start_response was called twice without exc_info",
            ),
        ] {
            let answer = instance.get(&format!("/{kind}"));
            let failed = answer.failed();
            assert_eq!(
                (answer.status, failed.code),
                (0, FailureCode::FunctionError),
                "{kind}"
            );
            assert!(
                failed.detail.starts_with(detail),
                "{kind}: {}",
                failed.detail
            );
        }
        assert_eq!(instance.get("/fine").ok(), "fine");
    });
}

#[test]
fn what_fails_after_the_head_cuts_the_answer_off_and_what_fails_after_the_end_is_logged() {
    let code = app("
    length = [('Content-Length', '2')] if kind == 'late' else []
    start_response('200 OK', length)
    def pieces():
        yield b'ab'
        if kind == 'again':
            try: raise KeyError('first')
            except KeyError: start_response('500 Oh', [], sys.exc_info())
        raise ValueError('after the first piece')
    return pieces()");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        let cut = instance.get("/cut");
        assert_eq!((cut.status, cut.text()), (200, "ab"));
        assert_eq!(cut.failed().detail, "ValueError: after the first piece");
        assert_eq!(instance.get("/again").failed().detail, "KeyError: 'first'");
        assert_eq!(instance.get("/late").ok(), "ab");
        assert_eq!(instance.hear(), Heard::Idle { tainted: false });
        assert_eq!(
            instance
                .log()
                .matches("ValueError: after the first piece")
                .count(),
            2
        );
    });
}

#[test]
fn a_stream_nobody_waits_for_is_closed() {
    let code = app("
    start_response('200 OK', [])
    if kind == 'closed': return [b','.join(closed)]
    def endless():
        try:
            while True: yield b'x' * 70000
        finally:
            closed.append(b'closed')
    return endless()");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        instance.send(Request::default(), true);
        assert!(matches!(instance.hear(), Heard::Head { .. }));
        instance.cancel();
        let Answer { end, failure, .. } = instance.answer();
        assert_eq!((end, failure), (Some(After::Busy), None));
        assert_eq!(instance.hear(), Heard::Idle { tainted: false });
        assert_eq!(instance.get("/closed").ok(), "closed");
    });
}
