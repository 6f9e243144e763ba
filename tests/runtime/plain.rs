//! f(event) and f(event, context).

use super::instance::{Heard, Instance, Request, everywhere};
use olworker::wire::{After, FailureCode};
use serde_json::{Value, json};

const ECHO: &str = "def f(event):\n    return event\n";

#[test]
fn the_body_is_the_event_and_the_result_the_answer() {
    everywhere(|python| {
        let mut echo = Instance::of(python, ECHO);
        let headers = [("Content-Type", "text/plain")];
        let answer = echo.call(Request {
            headers: &headers,
            body: "{\"a\": [1, -2.5e3, true, null, \"é\\n\\ud83d\\ude00\"]}".as_bytes(),
            ..Request::default()
        });
        let expected = "{\"a\": [1, -2500.0, true, null, \"\\u00e9\\n\\ud83d\\ude00\"]}";
        assert_eq!(answer.ok(), expected);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!((answer.in_one_frame, answer.end), (true, Some(After::Keep)));
        assert_eq!(echo.post("").ok(), "{}", "no body is an empty event");
        assert_eq!(echo.post(" \n17\t").ok(), "17");
        assert_eq!(echo.post("\u{feff}\"bom\"").ok(), "\"bom\"");
    });
}

#[test]
fn what_is_no_json_is_a_bad_event_and_the_next_call_works() {
    everywhere(|python| {
        let mut echo = Instance::of(python, ECHO);
        let deep = "[".repeat(200_000);
        let bodies = [
            "{\"a\":",
            "[1] x",
            "nope",
            "NaN",
            "[Infinity]",
            "{'a': 1}",
            " ",
            &deep,
        ];
        for body in bodies {
            let answer = echo.post(body);
            let failed = answer.failed();
            assert_eq!(failed.code, FailureCode::BadEvent, "{failed:?}");
            assert!(
                failed.detail.starts_with("the body is no JSON"),
                "{failed:?}"
            );
            assert!(!failed.tainted);
        }
        let answer = echo.call(Request {
            body: b"\"\xff\"",
            ..Request::default()
        });
        assert_eq!(answer.failed().code, FailureCode::BadEvent);
        assert_eq!(echo.post("1").ok(), "1");
        assert_eq!(echo.seen().calls, 1, "user code has met only the good one");
    });
}

#[test]
fn the_context_tells_about_the_call() {
    const CODE: &str = "
import time
def f(event, context):
    return {
        'call_id': context.call_id, 'function': context.function_name,
        'method': context.method, 'path': context.path, 'query': context.query,
        'headers': context.headers, 'start': context.start,
        'left': 0 < context.remaining_ms() <= 30000,
        'deadline': 0 < context.deadline - time.time() <= 30,
    }
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        let answer = instance.call(Request {
            method: "PUT",
            path: "/a%20b/%C3%A9%zz",
            query: "x=1&y=%20",
            headers: &[("X-Name", "one"), ("x-name", "two"), ("Host", "h")],
            ..Request::default()
        });
        let told: Value = serde_json::from_str(answer.ok()).unwrap();
        let expected = json!({
            "call_id": "call-1", "function": "test", "method": "PUT", "path": "/a b/é%zz",
            "query": "x=1&y=%20", "headers": {"x-name": "one, two", "host": "h"},
            "start": "fresh", "left": true, "deadline": true,
        });
        assert_eq!(told, expected);
        let code = "def f(event, context=None): return context.deadline";
        let unlimited = Request {
            budget_ms: 0,
            ..Request::default()
        };
        assert_eq!(Instance::of(python, code).call(unlimited).ok(), "null");
    });
}

#[test]
fn only_who_asks_for_a_context_gets_one() {
    const CODE: &str = "
import functools
def plain(event, verbose=False): return [event, verbose]
def two(event, context): return [event, context.method]
@functools.wraps(two)
def wrapped(*args, **kwargs): return two(*args, **kwargs)
class Callable:
    def __call__(self, event, context): return [event, context.method]
    def method(self, event): return [event]
f = KIND
";
    everywhere(|python| {
        for (kind, expected) in [
            ("plain", "[{}, false]"),
            ("two", "[{}, \"POST\"]"),
            ("wrapped", "[{}, \"POST\"]"),
            ("Callable()", "[{}, \"POST\"]"),
            ("Callable().method", "[{}]"),
            (
                "functools.partial(two, {'given': 1})",
                "[{\"given\": 1}, {}]",
            ),
            ("dict", "{}"),
        ] {
            let mut instance = Instance::of(python, &CODE.replace("KIND", kind));
            let answer = instance.post("");
            if kind.starts_with("functools") {
                // One argument is given already: what is left is the event alone.
                assert_eq!(answer.failed().code, FailureCode::FunctionError);
                continue;
            }
            assert_eq!(answer.ok(), expected, "{kind}");
        }
    });
}

#[test]
fn an_exception_is_a_function_error_with_the_functions_own_frames() {
    const CODE: &str = "
def inner(event):
    raise ValueError('no %s' % event)
def f(event):
    try:
        inner(event)
    except ValueError as error:
        raise KeyError('outer') from error
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        let answer = instance.post("7");
        let failed = answer.failed();
        assert_eq!(failed.code, FailureCode::FunctionError);
        assert_eq!(failed.detail, "KeyError: 'outer'");
        assert!(
            failed
                .traceback
                .starts_with("Traceback (most recent call last):\n")
        );
        for part in [
            "f.py\", line 6, in f",
            "in inner",
            "ValueError: no 7",
            "KeyError: 'outer'",
        ] {
            assert!(
                failed.traceback.contains(part),
                "{part}: {}",
                failed.traceback
            );
        }
        assert!(
            !failed.traceback.contains("ol_runtime"),
            "{}",
            failed.traceback
        );
        assert!(!failed.tainted);
        assert!(
            instance.log().contains("KeyError: 'outer'"),
            "the log has it, too"
        );
        assert!(instance.post("8").failed().traceback.contains("no 8"));
    });
}

#[test]
fn nothing_that_is_raised_ends_the_instance() {
    const CODE: &str = "
import sys
class Nasty(BaseException):
    def __str__(self): raise RuntimeError
    __repr__ = __str__
def deep(): deep()
def f(event):
    if event == 'exit': sys.exit(3)
    if event == 'interrupt': raise KeyboardInterrupt
    if event == 'generator': raise GeneratorExit
    if event == 'stop': raise StopIteration(5)
    if event == 'deep': deep()
    if event == 'memory': bytearray(1 << 62)
    if event == 'nasty': raise Nasty
    return event
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        for (event, detail) in [
            ("exit", "SystemExit: 3"),
            ("interrupt", "KeyboardInterrupt"),
            ("generator", "GeneratorExit"),
            ("stop", "StopIteration: 5"),
            ("deep", "RecursionError: maximum recursion depth exceeded"),
            ("memory", "MemoryError"),
            (
                "nasty",
                "f.Nasty: <an exception whose message cannot be had>",
            ),
        ] {
            let answer = instance.post(&format!("\"{event}\""));
            let failed = answer.failed();
            assert_eq!(failed.code, FailureCode::FunctionError);
            assert!(failed.detail.starts_with(detail), "{event}: {failed:?}");
        }
        assert_eq!(instance.post("1").ok(), "1");
    });
}

#[test]
fn a_result_that_is_no_json_is_a_function_error() {
    const CODE: &str = "
def f(event):
    loop = []
    loop.append(loop)
    return {'set': {1}, 'bytes': b'x', 'nan': [float('nan')], 'loop': loop,
            'object': {'deep': [object()]}, 'key': {(1, 2): 3}, 'fine': 1}[event]
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        for event in ["set", "bytes", "nan", "loop", "object", "key"] {
            let answer = instance.post(&format!("\"{event}\""));
            let failed = answer.failed();
            assert_eq!(failed.code, FailureCode::FunctionError, "{event}");
            assert!(
                failed.detail.starts_with("returned what is no JSON: "),
                "{failed:?}"
            );
        }
        assert_eq!(instance.post("\"fine\"").ok(), "1");
    });
}

#[test]
fn bodies_of_any_length_come_and_go_in_pieces() {
    everywhere(|python| {
        let mut echo = Instance::of(python, ECHO);
        let text = "x".repeat(3 << 20);
        let body = format!("\"{text}\"");
        let (first, rest) = body.as_bytes().split_at(10);
        echo.send(
            Request {
                body: first,
                ..Request::default()
            },
            false,
        );
        let mut writer = echo.stream.try_clone().unwrap();
        let rest = rest.to_vec();
        // Both ways at once, as the worker does: more than the socket holds.
        let sender = Sender::start(move || {
            let mut frames = Vec::new();
            olworker::wire::call::encode_body(&rest, true, &mut frames);
            std::io::Write::write_all(&mut writer, &frames).unwrap();
        });
        let answer = echo.answer();
        sender.join();
        assert!(answer.ok() == body, "{} bytes came back", answer.body.len());
        assert_eq!(
            answer.header("content-length"),
            Some(&*body.len().to_string())
        );
        assert_eq!(echo.post("1").ok(), "1");
    });
}

/// A thread that writes while the test reads.
struct Sender(std::thread::JoinHandle<()>);

impl Sender {
    fn start(work: impl FnOnce() + Send + 'static) -> Self {
        Self(std::thread::Builder::new().spawn(work).unwrap())
    }

    fn join(self) {
        self.0.join().unwrap();
    }
}

#[test]
fn a_body_that_is_cut_off_never_reaches_the_function() {
    everywhere(|python| {
        let mut echo = Instance::of(python, ECHO);
        echo.send(
            Request {
                body: b"[1",
                ..Request::default()
            },
            false,
        );
        echo.send_body(b", 2", false);
        echo.cancel();
        assert_eq!(echo.answer().failed().code, FailureCode::BadEvent);
        echo.send(
            Request {
                body: b"[1]",
                ..Request::default()
            },
            false,
        );
        echo.cancel();
        assert_eq!(echo.answer().failed().detail, "the body was cut off");
        assert_eq!(echo.seen().calls, 0);
        // Stale when it arrives.
        assert_eq!(echo.post("1").ok(), "1");
        echo.cancel();
        assert_eq!(echo.post("2").ok(), "2");
    });
}

#[test]
fn generators_are_streamed() {
    const CODE: &str = "
def texts():
    yield 'a'
    yield ''
    yield 'é'
def f(event):
    return {'texts': texts(), 'bytes': iter([b'1', bytearray(b'2'), memoryview(b'3')]),
            'lines': map(lambda n: {'n': n}, range(2)), 'none': iter(()),
            'async': atexts()}[event]
async def atexts():
    yield 'x'
    yield 'y'
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        for (event, kind, body) in [
            ("texts", Some("text/plain; charset=utf-8"), "aé"),
            ("bytes", Some("application/octet-stream"), "123"),
            (
                "lines",
                Some("application/x-ndjson"),
                "{\"n\": 0}\n{\"n\": 1}\n",
            ),
            ("none", None, ""),
            ("async", Some("text/plain; charset=utf-8"), "xy"),
        ] {
            let answer = instance.post(&format!("\"{event}\""));
            assert_eq!(answer.ok(), body);
            assert_eq!(answer.header("content-type"), kind);
            assert_eq!(answer.end, Some(After::Keep));
        }
        let head = Request {
            method: "HEAD",
            body: b"\"texts\"",
            ..Request::default()
        };
        assert_eq!(instance.call(head).ok(), "");
        instance.send(
            Request {
                body: b"\"texts\"",
                ..Request::default()
            },
            true,
        );
        assert!(matches!(
            instance.hear(),
            Heard::Head {
                status: 200,
                whole: false,
                ..
            }
        ));
        assert_eq!(
            instance.hear(),
            Heard::Data(b"a".to_vec()),
            "each piece leaves as it is made"
        );
    });
}

#[test]
fn a_generator_that_fails_midway_cuts_its_answer_off() {
    const CODE: &str = "
def f(event):
    yield from ['x'] * event
    raise ValueError('midway')
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        for count in [0, 2] {
            let answer = instance.post(&count.to_string());
            assert_eq!(answer.body.len(), count);
            assert_eq!(answer.status, if count == 0 { 0 } else { 200 });
            assert_eq!(answer.failed().detail, "ValueError: midway");
        }
    });
}

#[test]
fn a_generator_nobody_waits_for_is_closed() {
    const CODE: &str = "
closed = 0
def f(event):
    return closed if event else endless()
def endless():
    global closed
    try:
        while True:
            yield b'x' * 1000
    finally:
        closed += 1
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        instance.send(Request::default(), true);
        assert!(matches!(instance.hear(), Heard::Head { .. }));
        instance.cancel();
        assert!(instance.answer().body.len() >= 1000);
        assert_eq!(instance.post("true").ok(), "1");
    });
}

#[test]
fn coroutines_are_awaited() {
    const CODE: &str = "
import asyncio
async def f(event, context):
    await asyncio.sleep(0)
    if event == 'raise': raise ValueError('late')
    if event == 'exit': raise SystemExit(1)
    return [event, context.method]
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(instance.post("1").ok(), "[1, \"POST\"]");
        assert_eq!(
            instance.post("\"raise\"").failed().detail,
            "ValueError: late"
        );
        assert_eq!(instance.post("\"exit\"").failed().detail, "SystemExit: 1");
        assert_eq!(instance.post("2").ok(), "[2, \"POST\"]");
    });
}

#[test]
fn a_hundred_megabytes_are_streamed_in_little_memory() {
    const CODE: &str = "
def f(event):
    return event and (b'x' * (1 << 20) for _ in range(100))
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(instance.post("0").ok(), "0");
        let before_kb = instance.peak_kb();
        instance.send(
            Request {
                body: b"1",
                ..Request::default()
            },
            true,
        );
        let mut bytes = 0;
        loop {
            match instance.hear() {
                Heard::Head { .. } => {}
                Heard::Data(data) => bytes += data.len(),
                Heard::End(After::Keep) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bytes, 100 << 20);
        let grown_kb = instance.peak_kb() - before_kb;
        assert!(grown_kb < 8 << 10, "grew by {grown_kb} kB");
    });
}
