//! What the worker believes its sandboxes hold, against what they do hold.

use crate::on_both;
use crate::rig::{Worker, pause, worker};
use std::fs;

on_both!(
    the_ledger_agrees_with_the_kernel,
    a_pool_too_small_for_all_serves_all,
    what_is_special_goes_first_though_nothing_is_short,
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

/// Under a policy of layers the function's own state goes in its time though nothing is short, and
/// a call begins from what is left: the zygote, which has no such time.
fn what_is_special_goes_first_though_nothing_is_short(back_end: &str) {
    let Some(mut worker) = worker(back_end, &["policy.evict=layered"]) else {
        return;
    };
    worker.until_warm();
    worker.deploy("holder", HOLDER);
    // Enough that the gaps between them are known, and are short.
    for _ in 0..30 {
        assert_eq!(worker.call("holder", "1").status, 200);
    }
    let alive = |worker: &Worker| {
        let status = worker.ask("GET", "/status", "Accept: application/json\r\n", b"");
        status.json()["counts"]["instances"].as_u64().unwrap()
    };
    assert_eq!(alive(&worker), 1);
    // The shortest horizon is a minute: for the greater part of it nothing goes.
    pause(40_000);
    assert_eq!(worker.call("holder", "1").field("X-OL-Start"), Some("warm"));
    pause(40_000);
    assert_eq!(alive(&worker), 1);
    worker.until("the idle instance is gone", |worker| alive(worker) == 0);
    let tree = worker.get("/tree").json();
    let state = &tree["trees"][0]["state"];
    assert!(state == "live" || state == "frozen", "{state}");
    assert_eq!(
        worker.call("holder", "1").field("X-OL-Start"),
        Some("zygote")
    );
    assert!(worker.stat("evictions.cnt") < 1.0, "memory was never short");
}
