//! What functions are given and what comes back.

use crate::on_both;
use crate::rig::{receive, send, worker};
use std::thread;

on_both!(
    events_and_results_are_json,
    starts_are_told,
    a_bad_event_keeps_the_connection,
    the_context_tells_the_request,
    bodies_of_any_size_go_both_ways,
    generators_stream,
    wsgi_and_asgi_are_found,
    a_burst_is_served_in_parallel,
    prints_reach_the_log,
    head_has_no_body,
);

const ECHO: &str = "def f(event):\n    return event\n";

fn events_and_results_are_json(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("echo", ECHO);
    assert_eq!(
        worker.call("echo", r#"{"a": [1, 2.5, null]}"#).text(),
        r#"{"a": [1, 2.5, null]}"#
    );
    assert_eq!(worker.call("echo", "").text(), "{}");
    let typed = worker.ask("POST", "/run/echo", "Content-Type: text/plain\r\n", b"[1]");
    assert_eq!(typed.text(), "[1]");
    assert_eq!(typed.field("content-type"), Some("application/json"));
}

fn starts_are_told(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.until_warm();
    worker.deploy("echo", ECHO);
    let cold = worker.call("echo", "1");
    assert_eq!(cold.field("x-ol-start"), Some("zygote"), "{cold:?}");
    assert_eq!(cold.field("x-ol-zygote"), Some("ROOT"));
    let warm = worker.call("echo", "1");
    assert_eq!(warm.field("x-ol-start"), Some("warm"));
    assert_ne!(cold.field("x-ol-call-id"), warm.field("x-ol-call-id"));
    worker.put_directory("alone", &[("f.py", ECHO), ("ol.toml", "zygote = false")]);
    assert_eq!(worker.call("alone", "1").field("x-ol-start"), Some("fresh"));
    let count = worker.get("/tree").json()["trees"][0]["count"].as_u64();
    assert_eq!(count, Some(1));
}

fn a_bad_event_keeps_the_connection(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("echo", ECHO);
    let mut stream = worker.connect().unwrap();
    send(&mut stream, "POST", "/run/echo", "", b"{no json");
    let refused = receive(&mut stream, false);
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (400, "bad-event")
    );
    send(&mut stream, "POST", "/run/echo", "", b"7");
    assert_eq!(receive(&mut stream, false).text(), "7");
}

fn the_context_tells_the_request(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy(
        "ask",
        "def f(event, context):\n    return [context.function_name, context.method, context.path,\n\
         \x20           context.query, context.headers['x-a'], len(context.call_id) > 8]\n",
    );
    let answer = worker.ask("PATCH", "/run/ask/a/b?c=d", "X-A: e\r\n", b"");
    assert_eq!(
        answer.json(),
        serde_json::json!(["ask", "PATCH", "/a/b", "c=d", "e", true])
    );
}

fn bodies_of_any_size_go_both_ways(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("echo", ECHO);
    for size in [100, 30_000, 70_000, 1_000_000, 20_000_000] {
        let text = format!("\"{}\"", "x".repeat(size));
        let answer = worker.call("echo", &text);
        assert_eq!(answer.status, 200, "{size}");
        assert!(
            answer.text() == text,
            "{size} bytes came back as {}",
            answer.body.len()
        );
    }
}

fn generators_stream(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy(
        "count",
        "def f(event):\n    for i in range(event):\n        yield f'{i},'\n",
    );
    let answer = worker.call("count", "5");
    assert_eq!(
        answer.field("transfer-encoding"),
        Some("chunked"),
        "{answer:?}"
    );
    assert_eq!(answer.text(), "0,1,2,3,4,");
}

fn wsgi_and_asgi_are_found(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy(
        "wsgi",
        "def app(environ, start_response):\n    start_response('201 Made', [('X-W', '1')])\n\
         \x20   return [environ['SCRIPT_NAME'].encode(), b' ', environ['PATH_INFO'].encode()]\n",
    );
    let answer = worker.get("/run/wsgi/here");
    assert_eq!((answer.status, answer.text()), (201, "/run/wsgi /here"));
    assert_eq!(answer.field("x-w"), Some("1"));
    worker.deploy(
        "asgi",
        "async def app(scope, receive, send):\n    body = (await receive())['body']\n\
         \x20   await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n\
         \x20   await send({'type': 'http.response.body', 'body': scope['path'].encode()+body})\n",
    );
    let answer = worker.ask("POST", "/run/asgi/x", "", b"!");
    assert!(answer.text().ends_with("/x!"), "{answer:?}");
}

fn a_burst_is_served_in_parallel(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy(
        "slow",
        "import time\ndef f(event):\n    time.sleep(0.3)\n    return event\n",
    );
    let begin = olworker::sys::clock::now();
    thread::scope(|scope| {
        for number in 0..16 {
            let worker = &worker;
            scope.spawn(move || {
                assert_eq!(
                    worker.call("slow", &number.to_string()).text(),
                    number.to_string()
                );
            });
        }
    });
    // One after the other they would sleep for 4.8 s.
    let instances = worker.get("/debug").text().matches("instance ").count();
    assert!(
        instances > 4,
        "{instances} instances after {:?}",
        olworker::sys::clock::now().since(begin)
    );
}

fn prints_reach_the_log(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy(
        "talk",
        "import sys\ndef f(event):\n    print('to stdout')\n    sys.stderr.write('to stderr\\n')\n",
    );
    let id = worker
        .call("talk", "")
        .field("x-ol-call-id")
        .unwrap()
        .to_owned();
    worker.until("both lines are in the log", |worker| {
        let log = worker.get("/logs/talk").text().to_owned();
        ["to stdout", "to stderr"].iter().all(|text| {
            log.lines()
                .any(|line| line.contains(&id) && line.ends_with(text))
        })
    });
    assert_eq!(worker.get("/logs/talk?n=1").text().lines().count(), 1);
}

fn head_has_no_body(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("echo", ECHO);
    let mut stream = worker.connect().unwrap();
    send(&mut stream, "HEAD", "/run/echo", "", b"");
    assert_eq!(receive(&mut stream, true).status, 200);
    send(&mut stream, "POST", "/run/echo", "", b"7");
    assert_eq!(receive(&mut stream, false).text(), "7");
}
