//! app(scope, receive, send).

use super::instance::{Heard, Instance, Request, everywhere};
use olworker::wire::{After, FailureCode};
use serde_json::{Value, json};

/// An application whose `http` is the given statements; `kind` is the path without its slash, and
/// `answer(body, more=False)` sends.
fn app(body: &str) -> String {
    let body = body.trim_start_matches('\n');
    format!(
        "
import asyncio, json
told = []
async def app(scope, receive, send):
    if scope['type'] != 'http': raise RuntimeError('no lifespan here')
    kind = scope['path'][1:]
    async def head(status=200, headers=()):
        await send({{'type': 'http.response.start', 'status': status, 'headers': headers}})
    async def answer(body, more=False):
        await send({{'type': 'http.response.body', 'body': body, 'more_body': more}})
{body}
"
    )
}

#[test]
fn the_scope_is_that_of_the_call() {
    let code = app("
    await head(200, [(b'Content-Type', b'application/json'), (b'Twice', b'1'), (b'Twice', b'2')])
    scope['message'] = await receive()
    await answer(json.dumps(scope, default=lambda value: value.decode('latin-1')).encode())");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        let answer = instance.call(Request {
            path: "/a%20b/%C3%A9",
            query: "x=%20",
            headers: &[("X-Name", "one"), ("x-name", "two")],
            body: b"body",
            ..Request::default()
        });
        let told: Value = serde_json::from_str(answer.ok()).unwrap();
        let expected = json!({
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/a b/é", "raw_path": "/a%20b/%C3%A9", "query_string": "x=%20",
            "root_path": "/run/test", "headers": [["x-name", "one"], ["x-name", "two"]],
            "client": ["192.0.2.1", 4000], "server": ["127.0.0.1", 5000],
            "state": {}, "extensions": {},
            "olworker.call_id": "call-1", "olworker.function": "test",
            "message": {"type": "http.request", "body": "body", "more_body": false},
        });
        assert_eq!(told, expected);
        assert_eq!((answer.in_one_frame, answer.end), (true, Some(After::Keep)));
        assert_eq!(answer.headers.len(), 3);
        let root: Value = serde_json::from_str(instance.get("").ok()).unwrap();
        assert_eq!(root["path"], "/");
    });
}

#[test]
fn bodies_stream_both_ways() {
    let code = app("
    await head()
    while True:
        message = await receive()
        await answer(message['body'].upper(), message['more_body'])
        if not message['more_body']: break");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        instance.send(
            Request {
                body: b"one ",
                ..Request::default()
            },
            false,
        );
        assert!(matches!(
            instance.hear(),
            Heard::Head {
                status: 200,
                whole: false,
                ..
            }
        ));
        assert_eq!(instance.hear(), Heard::Data(b"ONE ".to_vec()));
        instance.send_body(b"two", false);
        assert_eq!(instance.hear(), Heard::Data(b"TWO".to_vec()));
        instance.send_body(b"", true);
        assert_eq!(instance.hear(), Heard::End(After::Keep));
        let long = vec![b'a'; 2 << 20];
        let mut writer = instance.stream.try_clone().unwrap();
        instance.send(
            Request {
                body: b"",
                ..Request::default()
            },
            false,
        );
        let sender = std::thread::Builder::new().spawn(move || {
            let mut frames = Vec::new();
            olworker::wire::call::encode_body(&long, true, &mut frames);
            std::io::Write::write_all(&mut writer, &frames).unwrap();
        });
        let answer = instance.answer();
        sender.unwrap().join().unwrap();
        assert_eq!(answer.body, vec![b'A'; 2 << 20]);
    });
}

#[test]
fn an_answer_of_many_megabytes_leaves_in_little_memory() {
    let code = app("
    await head()
    for _ in range(100 if kind else 0):
        await answer(bytes(1 << 20), True)
    await answer(b'')");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        assert_eq!(instance.get("").ok(), "");
        let before_kb = instance.peak_kb();
        let answer = instance.get("/much");
        assert_eq!(answer.body.len(), 100 << 20);
        let grown_kb = instance.peak_kb() - before_kb;
        assert!(grown_kb < 8 << 10, "grew by {grown_kb} kB");
    });
}

#[test]
fn the_answer_leaves_before_the_application_returns() {
    let code = app("
    await head()
    await answer(b'x' * (100000 if kind == 'long' else 2))
    for _ in range(3): await asyncio.sleep(0)
    if kind == 'raise': raise ValueError('in the background')
    print('background', kind)");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        for (kind, bytes, log) in [
            ("/short", 2, "background short"),
            ("/long", 100_000, "background long"),
            ("/raise", 2, "ValueError: in the background"),
        ] {
            let answer = instance.get(kind);
            assert_eq!((answer.body.len(), answer.end), (bytes, Some(After::Busy)));
            assert_eq!(instance.hear(), Heard::Idle { tainted: false });
            assert!(instance.log().contains(log), "{}", instance.log());
        }
    });
}

#[test]
fn tasks_left_behind_go_on_between_calls() {
    let code = app("
    async def left():
        told.append('begun')
        await asyncio.sleep(0.001)
        print('done')
    if kind == 'start': asyncio.get_running_loop().create_task(left())
    await head()
    await answer(b'')");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        instance.get("/start");
        instance.wait_for_log("done");
    });
}

#[test]
fn a_disconnect_is_received() {
    let code = app("
    if kind == 'told': await head(); return await answer(json.dumps(told).encode())
    messages = [await receive()]
    if kind == 'stream': await head(); await answer(b'x', True)
    while messages[-1]['type'] != 'http.disconnect': messages.append(await receive())
    told.append([messages[-1]['type'], len(messages) < 3])
    if kind == 'stream': await answer(b'y', True)
    else: await head()
    await answer(b'')
    told.append((await receive())['type'])");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        instance.send(
            Request {
                path: "/body",
                body: b"x",
                ..Request::default()
            },
            false,
        );
        instance.cancel();
        assert_eq!(instance.answer().end, Some(After::Keep));
        instance.send(
            Request {
                path: "/stream",
                ..Request::default()
            },
            true,
        );
        assert!(matches!(instance.hear(), Heard::Head { .. }));
        instance.cancel();
        assert_eq!(instance.answer().text(), "xy");
        let one = "[\"http.disconnect\", true], \"http.disconnect\"";
        assert_eq!(instance.get("/told").ok(), format!("[{one}, {one}]"));
    });
}

#[test]
fn an_application_that_fails_is_a_function_error() {
    let code = app("
    if kind == 'raise': raise KeyError('early')
    if kind == 'exit': raise SystemExit(3)
    if kind == 'cancelled': raise asyncio.CancelledError
    if kind == 'nothing': return
    if kind == 'body': await answer(b'')
    if kind == 'newline': await head(200, [(b'a', b'b\\nc')])
    if kind == 'status': await head(101)
    if kind == 'text': await head(200, [('a', 'b')])
    await head()
    if kind == 'twice': await head()
    if kind == 'headonly': return
    await answer(b'fine', kind == 'more')");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        let incomplete = "RuntimeError: the application returned before its answer was complete";
        for (kind, detail) in [
            ("raise", "KeyError: 'early'"),
            ("exit", "SystemExit: 3"),
            ("cancelled", "asyncio.exceptions.CancelledError"),
            ("nothing", incomplete),
            (
                "body",
                "RuntimeError: 'http.response.body' does not belong here",
            ),
            ("newline", "ol_runtime.frames.BadAnswer: a header holds"),
            ("status", "ol_runtime.frames.BadAnswer: status 101"),
            ("text", "TypeError: "),
            (
                "twice",
                "RuntimeError: 'http.response.start' does not belong here",
            ),
            ("headonly", incomplete),
            ("more", incomplete),
        ] {
            let answer = instance.get(&format!("/{kind}"));
            let failed = answer.failed();
            assert_eq!(failed.code, FailureCode::FunctionError, "{kind}");
            assert!(
                failed.detail.starts_with(detail),
                "{kind}: {}",
                failed.detail
            );
            assert_eq!(answer.status, if kind == "more" { 200 } else { 0 });
        }
        assert_eq!(instance.get("/fine").ok(), "fine");
    });
}

#[test]
fn a_task_that_exits_does_not_end_the_loop() {
    let code = app("
    async def leave(): raise SystemExit(5)
    if kind == 'leave': asyncio.get_running_loop().create_task(leave())
    await asyncio.sleep(0.001)
    await head()
    await answer(b'fine')");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        assert_eq!(instance.get("/leave").ok(), "fine");
        assert_eq!(instance.get("/").ok(), "fine");
        assert!(instance.log().contains("SystemExit: 5"));
    });
}

const LIFESPAN: &str = "
import os
async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        message = await receive()
        print(message['type'])
        if os.environ.get('FAIL') == 'message':
            return await send({'type': 'lifespan.startup.failed', 'message': 'no database'})
        if os.environ.get('FAIL') == 'raise': raise ValueError('no lifespan')
        if os.environ.get('FAIL') == 'return': return
        scope['state']['made'] = 'at startup'
        await send({'type': 'lifespan.startup.complete'})
        message = await receive()
        print(message['type'])
        await send({'type': 'lifespan.shutdown.complete'})
        return
    state = scope['state'].get('made', 'none')
    scope['state']['made'] = 'by a call'
    await send({'type': 'http.response.start', 'status': 200})
    await send({'type': 'http.response.body', 'body': state.encode()})
";

#[test]
fn lifespan_begins_before_the_first_call_and_ends_with_the_instance() {
    everywhere(|python| {
        let mut instance = Instance::of(python, LIFESPAN);
        assert_eq!(instance.get("").ok(), "at startup");
        assert_eq!(
            instance.get("").ok(),
            "at startup",
            "each call has its own copy"
        );
        assert_eq!(instance.log(), "lifespan.startup\n");
        assert_eq!(instance.hang_up().code(), Some(0));
        assert_eq!(instance.log(), "lifespan.startup\nlifespan.shutdown\n");
    });
}

#[test]
fn a_failed_startup_is_a_failed_import_and_an_unknown_lifespan_is_none() {
    everywhere(|python| {
        let start = |fail| Instance::start(python, &[("f.py", LIFESPAN)], &[("FAIL", fail)]);
        let answer = start("message").get("");
        assert_eq!(answer.failed().code, FailureCode::ImportFailed);
        assert_eq!(answer.failed().detail, "no database");
        for fail in ["raise", "return"] {
            let mut instance = start(fail);
            assert_eq!(instance.get("").ok(), "none", "{fail}");
            assert_eq!(instance.hang_up().code(), Some(0));
        }
    });
}

#[test]
fn a_fork_that_comes_back_leaves_the_connection_alone() {
    let code = app("
    import os
    child = os.fork()
    await head()
    await answer(b'parent' if child else b'child')
    if child: os.waitpid(child, 0)");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        for _ in 0..2 {
            assert_eq!(instance.get("").ok(), "parent");
        }
    });
}

#[test]
fn programs_and_threads_work_inside_the_loop() {
    let code = app("
    loop = asyncio.get_running_loop()
    thread = await loop.run_in_executor(None, lambda: 'thread')
    process = await asyncio.create_subprocess_exec('/bin/echo', 'program', stdout=-1)
    program = (await process.communicate())[0].decode().strip()
    await head()
    await answer(('%s %s' % (thread, program)).encode())");
    everywhere(|python| {
        let mut instance = Instance::of(python, &code);
        assert_eq!(instance.get("").ok(), "thread program");
    });
}
