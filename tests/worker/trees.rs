//! A new zygote tree in a worker that is busy.

use crate::on_both;
use crate::rig::worker;
use olworker::sys::clock;
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

on_both!(a_new_tree_is_taken_without_dropping_a_call);

const SLOW: &str = "import time\ndef f(event):\n    time.sleep(0.02)\n    return event\n";
const CLIENTS: usize = 3;
const RELOADS: usize = 4;
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

fn a_new_tree_is_taken_without_dropping_a_call(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.until_warm();
    for client in 0..CLIENTS {
        worker.deploy(&format!("slow-{client}"), SLOW);
    }
    let before = worker.get("/tree").json();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (shared, done) = (&worker, &done);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let (name, mut calls) = (format!("slow-{client}"), 0);
                    while !done.load(Ordering::Relaxed) {
                        let answer = shared.call(&name, "[1]");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for round in 0..RELOADS {
            let package = format!("package-{round}");
            let tree = json!({"packages": [], "children": [
                {"packages": ["six"], "children": [{"packages": [package], "children": []}]}]});
            let file = shared.directory.join("tree.json");
            let fresh = shared.directory.join("tree.json.new");
            fs::write(&fresh, tree.to_string()).unwrap();
            fs::rename(&fresh, &file).unwrap();
            shared.signal(Signal::HUP);
            let begin = clock::now();
            while !shared.get("/tree").text().contains(&package) {
                assert!(clock::now().since(begin) < PATIENCE, "{}", shared.log());
            }
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().expect("every call is answered") > 0);
        }
    });
    let after = worker.get("/tree").json();
    for tree in [&before, &after] {
        assert_eq!(
            tree["trees"][0]["state"], "live",
            "the root lives on: {tree}"
        );
    }
    let failures = worker.stat("zygote_failures.cnt");
    assert!(failures.abs() < 0.5, "{failures} zygotes failed");
}
