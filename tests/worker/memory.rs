//! What the worker believes its sandboxes hold, against what they do hold.

use crate::on_both;
use crate::rig::{Worker, worker};
use std::fs;

on_both!(
    the_ledger_agrees_with_the_kernel,
    a_pool_too_small_for_all_serves_all,
);

/// Keeps `event` megabytes, having given back what it kept before.
const HOLDER: &str = "
held = []
def f(event):
    held.clear()
    held.append(bytearray(b'x') * (event << 20))
    return len(held[0])
";

fn held_by_sandboxes(worker: &Worker) -> f64 {
    let of = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
    };
    worker.children().iter().filter_map(of).sum::<f64>() / 1024.0
}

fn the_ledger_agrees_with_the_kernel(back_end: &str) {
    let Some(mut worker) = worker(back_end, &["pool.idle_freeze_ms=600000"]) else {
        return;
    };
    worker.until_warm();
    for number in 0..8 {
        worker.deploy(&format!("holder-{number}"), HOLDER);
    }
    // Growing, and shrinking again.
    for round in [5, 40, 15, 30] {
        for number in 0..8 {
            let answer = worker.call(&format!("holder-{number}"), &(round + number).to_string());
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let mut seen = (0.0, 0.0);
    worker.until("the ledger agrees within 10 %", |worker| {
        let status = worker.ask("GET", "/status", "Accept: application/json\r\n", b"");
        let believed = status.json()["pool"]["memory_held_mb"].as_f64().unwrap();
        seen = (believed, held_by_sandboxes(worker));
        (seen.0 - seen.1).abs() < seen.1 / 10.0
    });
    // Eight times 30 to 37 MB, and not something that agrees because both are nothing.
    assert!(seen.1 > 260.0, "{seen:?}");
}

fn a_pool_too_small_for_all_serves_all(back_end: &str) {
    let overrides = ["pool.mem_mb=400", "limits.mem_mb=100"];
    let Some(mut worker) = worker(back_end, &overrides) else {
        return;
    };
    worker.until_warm();
    for number in 0..12 {
        worker.deploy(&format!("holder-{number}"), HOLDER);
    }
    for _ in 0..3 {
        for number in 0..12 {
            let answer = worker.call(&format!("holder-{number}"), "60");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    assert!(worker.stat("evictions.cnt") > 0.0);
    let (_, log) = worker.stop();
    assert!(!log.contains("over-memory"), "{log}");
}
