//! What is kept of calls: the recorded trace, and what functions printed.

use crate::on_both;
use crate::rig::{Worker, receive, send, worker};
use olworker::sim::trace;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

on_both!(
    a_trace_tells_each_call_and_is_read_by_the_simulators,
    a_trace_survives_the_worker,
    a_call_that_was_cut_off_is_recorded_with_its_status,
    a_worker_that_records_nothing_says_so,
    a_log_is_followed_by_many_and_one_that_does_not_read_harms_nobody,
    a_log_goes_with_its_function,
);

const PLAIN: &str = "# ol-import: decimal\nimport json\ndef f(event):\n    return event\n";

fn lines(worker: &Worker) -> Vec<Value> {
    let answer = worker.get("/trace");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.field("content-type"), Some("application/x-ndjson"));
    let line = |line: &str| serde_json::from_str(line).unwrap();
    answer.text().lines().map(line).collect()
}

fn a_trace_tells_each_call_and_is_read_by_the_simulators(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("x", PLAIN);
    worker.deploy("x", &format!("{PLAIN}\n"));
    for _ in 0..3 {
        assert_eq!(worker.call("x", "1").status, 200);
    }
    let lines = lines(&worker);
    let events: Vec<&str> = lines
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    let wanted = ["function", "invocation", "invocation", "invocation"];
    assert_eq!(events, wanted);
    assert_eq!(lines[0]["imports"], serde_json::json!(["decimal", "json"]));
    assert_eq!(lines[0]["packages"], serde_json::json!([]));
    let (first, last) = (&lines[1], &lines[3]);
    assert_ne!(first["start"], "warm");
    assert!(first["cold_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(
        (&last["start"], last["cold_ms"].as_f64()),
        (&Value::from("warm"), Some(0.0))
    );
    assert!(last["t"].as_f64().unwrap() > 1.7e9);
    for name in ["ms", "queue_ms", "mem_mb"] {
        assert!(last[name].is_f64(), "{name} in {last}");
    }
    assert_eq!(
        (&last["version"], &last["function"]),
        (&2.into(), &"x".into())
    );

    let copy = worker.directory.join("copy.jsonl");
    fs::write(&copy, &worker.get("/trace").body).unwrap();
    let mut reader = trace::open(&copy).unwrap();
    let functions = &reader.header().functions;
    assert_eq!((functions.len(), functions[0].name.as_str()), (1, "x"));
    assert!(functions[0].cold_ms > functions[0].warm_ms);
    let arrivals = reader.read_to_end().unwrap();
    assert_eq!((arrivals.len(), arrivals[0].t_ms), (3, 0.0));
}

fn a_trace_survives_the_worker(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("x", PLAIN);
    worker.call("x", "1");
    assert_eq!(lines(&worker).len(), 2);
    worker.kill();
    worker.start_again();
    worker.call("x", "2");
    let calls = |worker: &Worker| {
        let lines = lines(worker);
        let calls = lines.iter().filter(|line| line["event"] == "invocation");
        calls.count()
    };
    assert_eq!(calls(&worker), 2);
    // What is in memory only is written at the end.
    worker.call("x", "3");
    worker.signal(rustix::process::Signal::TERM);
    worker.wait();
    worker.start_again();
    assert_eq!(calls(&worker), 3);
}

fn a_call_that_was_cut_off_is_recorded_with_its_status(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let code = "import time\ndef f(event):\n    time.sleep(50)\n";
    let settings = "[limits]\nruntime_sec = 1\n";
    worker.put_directory("slow", &[("f.py", code), ("ol.toml", settings)]);
    assert_eq!(worker.call("slow", "").status, 504);
    let lines = lines(&worker);
    let call = lines.last().unwrap();
    assert_eq!(
        (&call["status"], &call["version"]),
        (&504.into(), &0.into())
    );
    assert!(call["ms"].as_f64().unwrap() >= 900.0, "{call}");
}

fn a_worker_that_records_nothing_says_so(back_end: &str) {
    let Some(worker) = worker(back_end, &["trace.record=false"]) else {
        return;
    };
    worker.deploy("x", PLAIN);
    worker.call("x", "1");
    let answer = worker.get("/trace");
    assert_eq!(answer.code(), "not-found");
    assert!(!worker.directory.join("traces").exists());
}

/// Begins to follow a log; the answer's head is left in the stream.
fn follow(worker: &Worker, name: &str) -> UnixStream {
    let mut stream = worker.connect().unwrap();
    let head = format!("GET /logs/{name}?follow=1&n=0 HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Reads until all of these have come, in this order.
fn read_until(stream: &mut UnixStream, marks: &[String]) {
    let (mut seen, mut next) = (Vec::new(), 0);
    let mut piece = vec![0; 64 * 1024];
    while next < marks.len() {
        let count = stream.read(&mut piece).unwrap();
        assert!(
            count > 0,
            "ended before {}: {:?}",
            marks[next],
            String::from_utf8_lossy(&seen)
        );
        seen.extend_from_slice(&piece[..count]);
        while next < marks.len() {
            let mark = marks[next].as_bytes();
            let Some(at) = seen.windows(mark.len()).position(|window| window == mark) else {
                let kept = seen.len().saturating_sub(mark.len());
                seen.drain(..kept);
                break;
            };
            seen.drain(..at + mark.len());
            next += 1;
        }
    }
}

fn a_log_is_followed_by_many_and_one_that_does_not_read_harms_nobody(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let code = "import sys\ndef f(event):\n    for number in range(event[1]):\n        \
                print(event[0], number, 'x' * 100)\n    \
                print('end', event[0], file=sys.stderr)\n";
    worker.deploy("talk", code);
    assert_eq!(worker.call("talk", "[0, 1]").status, 200);
    let _idle = follow(&worker, "talk");
    let mut readers: Vec<UnixStream> = (0..4).map(|_| follow(&worker, "talk")).collect();
    std::thread::scope(|scope| {
        for reader in &mut readers {
            scope.spawn(move || {
                let marks: Vec<String> = (1..=20).map(|call| format!(" end {call}\n")).collect();
                read_until(reader, &marks);
            });
        }
        // 20 * 2000 lines of 170 bytes: more than any buffer between here and the reader holds.
        for call in 1..=20 {
            assert_eq!(worker.call("talk", &format!("[{call}, 2000]")).status, 200);
            assert_eq!(worker.get("/status").status, 200);
        }
    });
    let last = worker.get("/logs/talk?n=3").text().to_owned();
    let streams: Vec<&str> = last
        .lines()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert!(streams.contains(&"stdout"), "{last}");
    // Followers do not hold up the end of the worker.
    let (code, _) = worker.stop();
    assert_eq!(code, Some(0));
}

fn a_log_goes_with_its_function(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    assert_eq!(worker.get("/logs/nobody").code(), "no-such-function");
    worker.deploy("x", "print('import')\ndef f(event):\n    print('call')\n");
    assert_eq!(worker.get("/logs/x").text(), "");
    worker.call("x", "");
    worker.until("it is in the log", |worker| {
        worker.get("/logs/x").text().lines().count() == 2
    });
    let mut stream = worker.connect().unwrap();
    send(&mut stream, "HEAD", "/logs/x?follow=1", "", b"");
    assert_eq!(receive(&mut stream, true).status, 200);
    assert_eq!(worker.ask("DELETE", "/registry/x", "", b"").status, 200);
    assert_eq!(worker.get("/logs/x").code(), "no-such-function");
}
