//! Code comes, changes and goes while it is called.

use crate::on_both;
use crate::rig::worker;
use std::sync::atomic::{AtomicBool, Ordering};

on_both!(
    an_upload_counts_at_once,
    versions_go_back,
    a_removed_function_is_gone,
    what_cannot_be_a_function_is_refused,
    files_put_there_by_hand_are_found_and_followed,
);

fn an_upload_counts_at_once(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let code = |number: u32| format!("def f(event):\n    return {number}\n");
    worker.deploy("x", &code(0));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = worker.call("x", "");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
        for number in 1..20 {
            worker.deploy("x", &code(number));
            assert_eq!(worker.call("x", "").text(), number.to_string());
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

fn versions_go_back(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    for number in 1..=3 {
        worker.deploy("x", &format!("def f(event):\n    return {number}\n"));
    }
    let versions = worker.get("/registry/x/versions").json();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 3);
    assert_eq!(
        worker.ask("POST", "/registry/x/rollback", "", b"").status,
        200
    );
    assert_eq!(worker.call("x", "").text(), "2");
    let first = worker.ask("POST", "/registry/x/rollback", "", br#"{"version": 1}"#);
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(worker.call("x", "").text(), "1");
    let none = worker.ask("POST", "/registry/x/rollback", "", br#"{"version": 77}"#);
    assert_eq!(none.code(), "no-such-function");
    assert_eq!(
        worker.get("/registry/x/config").json()["limits"]["mem_mb"],
        128
    );
}

fn a_removed_function_is_gone(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("x", "def f(event):\n    return 1\n");
    assert_eq!(worker.call("x", "").text(), "1");
    assert_eq!(worker.ask("DELETE", "/registry/x", "", b"").status, 200);
    assert_eq!(worker.call("x", "").code(), "no-such-function");
    assert_eq!(
        worker.ask("DELETE", "/registry/x", "", b"").code(),
        "no-such-function"
    );
    assert_eq!(
        worker.get("/registry").json()["functions"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    worker.deploy("x", "def f(event):\n    return 2\n");
    assert_eq!(worker.call("x", "").text(), "2");
}

fn what_cannot_be_a_function_is_refused(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    for (name, body) in [
        ("binary", &b"\x7fELF\x02\x01\x01\x00"[..]),
        ("empty", b""),
        ("zip", b"PK\x03\x04 is no zip"),
        ("gzip", b"\x1f\x8b is no gzip"),
        ("late-nul", &[&b"# text\n".repeat(500)[..], b"\0"].concat()),
        (
            "late-latin",
            &[&b"# text\n".repeat(500)[..], b"# caf\xe9\n"].concat(),
        ),
        ("klingon", b"# coding: klingon\ndef f(e): pass\n"),
    ] {
        let answer = worker.ask("PUT", &format!("/registry/{name}"), "", body);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "bad-function"),
            "{name}"
        );
        assert_eq!(worker.call(name, "").code(), "no-such-function");
    }
    let latin = b"# coding: latin-1\ndef f(event):\n    return 'caf\xe9'\n";
    assert_eq!(worker.ask("PUT", "/registry/latin", "", latin).status, 200);
    assert_eq!(worker.call("latin", "").json(), "caf\u{e9}");
    assert_eq!(worker.ask("DELETE", "/registry/latin", "", b"").status, 200);
    assert_eq!(
        worker.get("/registry").json()["functions"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
}

fn files_put_there_by_hand_are_found_and_followed(back_end: &str) {
    let Some(mut worker) = worker(back_end, &["registry.cache_ms=100"]) else {
        return;
    };
    worker.put_directory("x", &[("f.py", "def f(event):\n    return 'one'\n")]);
    assert_eq!(worker.call("x", "").text(), "\"one\"");
    worker.put_directory("x", &[("f.py", "def f(event):\n    return 'other'\n")]);
    worker.until("the change is picked up", |worker| {
        worker.call("x", "").text() == "\"other\""
    });
    worker.put_directory("x", &[("ol.toml", "zigote = true")]);
    worker.until("the bad settings are told", |worker| {
        worker.call("x", "");
        worker.log().contains("did you mean zygote")
    });
    assert_eq!(worker.call("x", "").text(), "\"other\"");
}
