//! Requests as they come over a socket: the written cases, and clients that mean no good.

#[path = "../http/cases.rs"]
#[expect(dead_code, reason = "the decoder itself is tested elsewhere")]
mod cases;

use crate::on_both;
use crate::rig::{Worker, worker};
use cases::{Case, Item};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

on_both!(
    written_cases_are_answered_as_written,
    slow_clients_harm_nobody,
    hostile_heads_and_bodies_are_refused,
    broken_clients_are_survived,
    long_pipelines_are_answered_and_never_pile_up,
);

/// The limits of the written cases; a body of theirs is always small enough.
const LIMITS: [&str; 2] = ["http.max_head_kb=4", "http.max_uri_kb=1"];
const GOOD: &[u8] = b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// What an answer on a connection was.
#[derive(Debug)]
struct Answered {
    status: u16,
    /// Of a problem.
    code: String,
    closes: bool,
}

/// Sends all, says that this was all, and reads all answers to the end of the connection.
fn exchange(worker: &Worker, bytes: &[u8], methods: &[&str]) -> Vec<Answered> {
    let mut stream = worker.connect().unwrap();
    // A worker that refuses early may not take the rest.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let mut methods = methods.iter();
    let mut rest = String::from_utf8(all).expect("our answers are text");
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let (head, behind) = rest.split_once("\r\n\r\n").expect("a head is whole");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status == 100 {
            rest = behind.to_owned();
            continue;
        }
        let has_body = methods.next() != Some(&"HEAD") && status != 204;
        let length = head
            .split_once("Content-Length: ")
            .map_or(0, |(_, length)| {
                length.lines().next().unwrap().parse().unwrap()
            });
        let (body, behind) = behind.split_at(if has_body { length } else { 0 });
        let code = match serde_json::from_str::<serde_json::Value>(body) {
            Ok(json) if status >= 400 => json["type"].as_str().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        answers.push(Answered {
            status,
            code: code.rsplit('/').next().unwrap_or_default().to_owned(),
            closes: head.contains("Connection: close"),
        });
        rest = behind.to_owned();
    }
    answers
}

fn written_cases_are_answered_as_written(back_end: &str) {
    let Some(worker) = worker(back_end, &LIMITS) else {
        return;
    };
    let mut cases = cases::all();
    // The limit of bodies is another one here.
    cases.retain(|case| {
        !case
            .outcome
            .contains(&Item::Refused("body-too-large".to_owned()))
    });
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| wrongly(&worker, case))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// What was wrong about the answers to a case.
fn wrongly(worker: &Worker, case: &Case) -> Option<String> {
    let methods: Vec<&str> = case
        .outcome
        .iter()
        .filter_map(|item| match item {
            Item::Request { method, .. } => Some(method.as_str()),
            Item::Refused(_) | Item::More => None,
        })
        .collect();
    let mut bytes = case.bytes.clone();
    let ends_well = methods.len() == case.outcome.len();
    if ends_well {
        bytes.extend_from_slice(GOOD);
    }
    let answers = exchange(worker, &bytes, &methods);
    let mut told = answers.iter();
    for item in &case.outcome {
        let answer = told.next();
        let is_right = match (item, answer) {
            (Item::Request { .. }, Some(answer)) => answer.status != 400,
            (Item::Refused(code), Some(answer)) => answer.code == *code && answer.closes,
            // Ended in the middle; nothing at all is no request, so it is no bad one.
            (Item::More, Some(answer)) => answer.code == "bad-request" && answer.closes,
            (Item::More, None) => case.bytes.iter().all(|byte| b"\r\n".contains(byte)),
            (_, None) => false,
        };
        if !is_right {
            return Some(format!(
                "{}: {item:?} got {answer:?} of {answers:?}",
                case.place
            ));
        }
        if answer.is_some_and(|answer| answer.closes) {
            return told
                .next()
                .map(|more| format!("{}: {more:?} behind the last", case.place));
        }
    }
    let last = told.next();
    let is_right = !ends_well || last.is_some_and(|answer| answer.status == 200);
    (!is_right).then(|| format!("{}: behind it {last:?} of {answers:?}", case.place))
}

fn others_are_served(worker: &Worker) {
    assert_eq!(worker.get("/status").status, 200);
}

fn memory_kb(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn slow_clients_harm_nobody(back_end: &str) {
    const CLIENTS: usize = 400;
    let Some(mut worker) = worker(back_end, &["http.head_timeout_sec=2"]) else {
        return;
    };
    let before = memory_kb(&worker);
    let mut clients: Vec<UnixStream> = (0..CLIENTS).map(|_| worker.connect().unwrap()).collect();
    let head = b"GET /status HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    for byte in head {
        for client in &mut clients {
            client.write_all(&[*byte]).unwrap();
        }
        others_are_served(&worker);
    }
    assert!(
        memory_kb(&worker) < before + 20 * 1024,
        "a slow head costs little"
    );
    for client in &mut clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            answer.contains("/problems/timeout-reading-request"),
            "{answer}"
        );
    }
    drop(clients);
    worker.until("they are gone", |worker| {
        worker.stat("connections_closed.cnt") >= CLIENTS as f64
    });
}

fn hostile_heads_and_bodies_are_refused(back_end: &str) {
    let Some(worker) = worker(back_end, &["http.max_body_mb=1"]) else {
        return;
    };
    let post = "POST /nothing HTTP/1.1\r\nHost: x\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let mebibyte = "x".repeat(1 << 20);
    for (name, request, status, code) in [
        (
            "a method of a megabyte",
            mebibyte.clone(),
            431,
            "head-too-large",
        ),
        (
            "a target of a megabyte",
            format!("GET /{mebibyte}"),
            414,
            "uri-too-long",
        ),
        (
            "a field of a megabyte",
            format!("{post}A: {mebibyte}"),
            431,
            "head-too-large",
        ),
        (
            "many fields",
            format!("{post}{}", "A: b\r\n".repeat(100_000)),
            431,
            "head-too-large",
        ),
        (
            "2^64",
            format!("{post}Content-Length: 18446744073709551616\r\n\r\n"),
            400,
            "bad-request",
        ),
        (
            "2^64 - 1",
            format!("{post}Content-Length: 18446744073709551615\r\n\r\n"),
            413,
            "body-too-large",
        ),
        (
            "a chunk too large",
            format!("{chunked}100001\r\n"),
            413,
            "body-too-large",
        ),
        (
            "a chunk of 2^64",
            format!("{chunked}10000000000000000\r\n"),
            400,
            "bad-request",
        ),
        (
            "an extension of a megabyte",
            format!("{chunked}1;{mebibyte}"),
            413,
            "body-too-large",
        ),
        (
            "a trailer of a megabyte",
            format!("{chunked}0\r\nA: {mebibyte}"),
            431,
            "head-too-large",
        ),
        ("NUL", format!("{post}A: \0\r\n\r\n"), 400, "bad-request"),
        (
            "NUL in the target",
            String::from("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
            400,
            "bad-request",
        ),
    ] {
        let answers = exchange(&worker, request.as_bytes(), &[]);
        let answer = answers
            .first()
            .unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(
            (answer.status, answer.code.as_str()),
            (status, code),
            "{name}"
        );
        assert!(answer.closes && answers.len() == 1, "{name}: {answers:?}");
    }
    let invalid = b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(exchange(&worker, invalid, &[])[0].code, "bad-request");
    let all = [
        format!("{post}Content-Length: 1048576\r\n\r\n").into_bytes(),
        vec![0; 1 << 20],
    ];
    assert_eq!(
        exchange(&worker, &all.concat(), &["POST"])[0].code,
        "not-found"
    );
    others_are_served(&worker);
}

fn broken_clients_are_survived(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    let body = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf";
    for part in [&GOOD[..0], &GOOD[..9], &GOOD[..30], GOOD, body] {
        for _ in 0..50 {
            let mut client = worker.connect().unwrap();
            client.write_all(part).unwrap();
            drop(client);
        }
    }
    // Half-open: says nothing more, reads nothing, stays.
    let mut silent: Vec<UnixStream> = (0..50).map(|_| worker.connect().unwrap()).collect();
    for client in &mut silent {
        client.write_all(body).unwrap();
        client.set_nonblocking(true).unwrap();
        let answer = client.read(&mut [0; 16]).unwrap_err();
        assert_eq!(
            answer.kind(),
            ErrorKind::WouldBlock,
            "the body has not ended"
        );
    }
    others_are_served(&worker);
    drop(silent);
    worker.until("all are gone", |worker| {
        worker.stat("connections_closed.cnt") >= 300.0
    });
}

fn long_pipelines_are_answered_and_never_pile_up(back_end: &str) {
    const REQUESTS: usize = 10_000;
    const SILENT: usize = 50;
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    // All of it is sent before an answer is read.
    let mut stream = worker.connect().unwrap();
    let request = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(&request.repeat(REQUESTS)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), REQUESTS);
    // Those who never read are stopped, while others are served.
    let before = memory_kb(&worker);
    let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(REQUESTS);
    let mut silent: Vec<UnixStream> = (0..SILENT).map(|_| worker.connect().unwrap()).collect();
    for client in &mut silent {
        client.set_nonblocking(true).unwrap();
        let error = (0..).find_map(|_| client.write(&requests).err());
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::WouldBlock));
        others_are_served(&worker);
    }
    let after = memory_kb(&worker);
    assert!(after < before + 128 * 1024, "{before} kB, then {after} kB");
}
