//! Zygote trees of live workers: a new one while calls come, calls that come all at once, and what
//! the tree gets by itself.

use crate::on_both;
use crate::packages::Bed;
use crate::rig::worker;
use crate::wheels::Wheel;
use olworker::sys::clock;
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

on_both!(
    a_new_tree_is_taken_without_dropping_a_call,
    those_who_come_at_once_wait_for_one_import,
    those_who_come_first_of_all_wait_for_one_import,
    what_is_asked_for_in_vain_gets_a_node,
    a_zygote_that_forks_all_the_time_gets_company,
);

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

/// Half a second of work at its import.
const HEAVY: &str = "import time\nend = time.process_time() + 0.5\n\
                     while time.process_time() < end: pass\n";
const HEAVY_USER: &str = "import heavy\ndef f(event):\n    return event\n";

/// A worker whose store has a package that is slow to import, and knows how slow.
fn with_heavy(name: &str, back_end: &str, overrides: &[&str]) -> Option<Bed> {
    let mut bed = Bed::new(name, back_end, overrides)?;
    Wheel::new("heavy", "1.0", &[("heavy.py", HEAVY)]).write(&bed.wheels);
    bed.deploy("first", "heavy", HEAVY_USER);
    let answer = bed.worker.call("first", "0");
    assert_eq!(answer.status, 200, "{}", answer.text());
    bed.worker.until("it is profiled", |worker| {
        let listed = worker.get("/packages").json();
        let packages = listed["packages"].as_array().unwrap();
        packages
            .iter()
            .any(|package| package["profile"].is_object())
    });
    Some(bed)
}

fn those_who_come_at_once_wait_for_one_import(back_end: &str) {
    come_at_once("storm", back_end, true);
}

/// Also for the root: an interpreter of one's own is no sooner there.
fn those_who_come_first_of_all_wait_for_one_import(back_end: &str) {
    come_at_once("dawn", back_end, false);
}

fn come_at_once(name: &str, back_end: &str, is_warm: bool) {
    let tree =
        r#"features.import_cache_tree='{"packages": [], "children": [{"packages": ["heavy"]}]}'"#;
    let Some(mut bed) = with_heavy(name, back_end, &[tree]) else {
        return;
    };
    let callers = 4 * std::thread::available_parallelism().unwrap().get();
    for caller in 0..callers {
        bed.deploy(&format!("caller{caller}"), "heavy", HEAVY_USER);
    }
    // A new worker has the package, but no zygote with it.
    bed.worker.kill();
    bed.worker.start_again();
    if is_warm {
        bed.worker.until_warm();
    }
    let answers: Vec<_> = std::thread::scope(|scope| {
        let worker = &bed.worker;
        let call = |caller| scope.spawn(move || worker.call(&format!("caller{caller}"), "0"));
        let calls: Vec<_> = (0..callers).map(call).collect();
        let ended = calls.into_iter().map(|call| call.join().unwrap());
        ended.collect()
    });
    let served = answers.iter().filter(|answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.field("x-ol-zygote") == Some("heavy")
    });
    let (served, waited) = (served.count(), bed.worker.stat("zygote_waits.cnt"));
    assert!(
        served >= callers / 2 && waited >= served as f64,
        "{served} of {callers} were served by the zygote, {waited} waited: {answers:?} {}",
        bed.worker.log()
    );
}

fn what_is_asked_for_in_vain_gets_a_node(back_end: &str) {
    let overrides = ["policy.dynamic_zygotes=true"];
    let Some(mut bed) = with_heavy("vain", back_end, &overrides) else {
        return;
    };
    let mut calls = 0;
    bed.worker.until("the tree has a node for it", |worker| {
        let name = format!("caller{calls}");
        calls += 1;
        worker.deploy(&name, &format!("# ol-install: heavy\n{HEAVY_USER}"));
        let answer = worker.call(&name, "0");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.field("x-ol-zygote") == Some("heavy")
    });
    let log = bed.worker.log();
    assert!(log.contains("event=node-added"), "{log}");
}

fn a_zygote_that_forks_all_the_time_gets_company(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.until_warm();
    let code = "def f(event):\n    return event\n";
    worker.put_directory(
        "once",
        &[("f.py", code), ("ol.toml", "reuse_sandbox = false\n")],
    );
    worker.until("the root has company", |worker| {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                let shared = &*worker;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let answer = shared.call("once", "1");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                });
            }
        });
        worker.log().contains("event=node-replicated")
    });
    let tree = worker.get("/tree").json();
    assert!(
        tree["trees"][0]["replicas"].as_u64() >= Some(2),
        "the tree tells: {tree}"
    );
}
