//! `ol bench`, from making the functions to the last line of JSON, with the real daemon.

use crate::rig::{Ended, OL, Scratch, ended, is_root, read};
use crate::worker::{Guard, up};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// The JSON of the last line.
fn measured(told: &str) -> Value {
    let last = told.lines().last().expect("it says something");
    serde_json::from_str(last).expect("one JSON object")
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

#[test]
fn init_makes_ordinary_functions_without_a_file_for_each() {
    if !is_root("ol worker init") {
        return;
    }
    let scratch = Scratch::new();
    let none = scratch.ol(&["bench", "init", "-p", "w"]).failed(1);
    assert!(
        none.contains("there is no worker") && none.contains("ol worker init"),
        "{none}"
    );
    scratch.ol(&["worker", "init", "-p", "w"]).well();
    let init = |more: &[&str]| {
        let words = ["bench", "init", "-p", "w"];
        scratch.ol(&[&words, more].concat())
    };
    let told = init(&["--functions", "100"]).well();
    assert_eq!(
        told,
        "200 functions bench-py-N and bench-pd-N: 200 made, 0 there already\n"
    );
    let place = scratch.path("w/registry/bench-pd-99.py");
    assert_eq!(fs::metadata(&place).expect("a function").nlink(), 100);
    assert!(read(&place).starts_with("# ol-install: numpy,pandas\n"));
    let told = init(&["--functions", "101", "--json"]).well();
    assert_eq!(told, "{\"functions\":202,\"made\":2}\n");
}

#[test]
fn all_functions_are_made_in_seconds() {
    if !is_root("ol worker init") {
        return;
    }
    let scratch = Scratch::new();
    scratch.ol(&["worker", "init", "-p", "w"]).well();
    scratch.ol(&["bench", "init", "-p", "w"]).well();
    let entries = fs::read_dir(scratch.path("w/registry")).expect("a registry");
    let mut files: Vec<u64> = Vec::new();
    let mut count = 0;
    for entry in entries {
        let entry = entry.expect("it can be read");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        count += 1;
        files.push(entry.metadata().expect("data").ino());
    }
    files.sort_unstable();
    files.dedup();
    assert_eq!(count, 2 * 65_536);
    assert!(files.len() <= 8, "{} files", files.len());
}

#[test]
fn the_experiment_is_the_same_for_the_same_seed() {
    if !is_root("ol worker init") {
        return;
    }
    let scratch = Scratch::new();
    scratch.ol(&["worker", "init", "-p", "w"]).well();
    scratch.write(
        "list",
        "json\nscikit-learn==1.4\nbase64 # of the library\npyyaml: yaml\n",
    );
    let make = |seed| {
        let words = [
            "bench",
            "init",
            "-p",
            "w",
            "--packages",
            "list",
            "--functions",
            "9",
        ];
        scratch
            .ol(&[&words[..], &["--picks", "2", "--seed", seed]].concat())
            .well();
        let name = |number| scratch.path(&format!("w/registry/bench-tree-{number}.py"));
        (0..9).map(|number| read(&name(number))).collect::<Vec<_>>()
    };
    let (first, other) = (make("4"), make("5"));
    assert_ne!(first, other);
    assert_eq!(first, make("4"));
    for code in first {
        let mut lines = code.lines();
        let install = lines.next().expect("a line");
        assert_eq!(install.matches(',').count(), 1, "{install}");
        assert_eq!(lines.filter(|line| line.starts_with("import ")).count(), 2);
    }
    for (list, picks, why) in [
        ("none", "1", "No such file"),
        ("list", "5", "5 of 4 packages"),
        ("bad", "1", "line 2"),
    ] {
        scratch.write("bad", "a\n; b\n");
        let words = [
            "bench",
            "init",
            "-p",
            "w",
            "--packages",
            list,
            "--picks",
            picks,
        ];
        let line = scratch.ol(&words).failed(1);
        assert!(line.contains(why), "{line}");
    }
    let line = scratch.ol(&["bench", "init", "--picks", "3"]).failed(2);
    assert!(line.contains("--packages"), "{line}");
}

/// Twenty calls, each due at its time.
const OPEN_LOOP: [&str; 7] = [
    "py64-seq",
    "-s",
    "0.5",
    "--rate",
    "40",
    "--warmup=false",
    "--json",
];

#[test]
fn benchmarks_measure_a_worker() {
    if !is_root("a worker") {
        return;
    }
    let scratch = Scratch::new();
    let _guard = Guard(&scratch);
    scratch.ol(&["worker", "init", "-p", "w"]).well();
    let bench =
        |words: &[&str]| -> Ended { scratch.ol(&[&["bench"], words, &["-p", "w"]].concat()) };
    let line = bench(&["py64-seq"]).failed(69);
    assert!(line.contains("ol worker up"), "{line}");
    up(&scratch, &[]);
    let line = bench(&["py64-seq"]).failed(1);
    assert!(
        line.contains("there is no bench-py-63") && line.contains("ol bench init"),
        "{line}"
    );
    bench(&["init", "--functions", "64"]).well();
    for io in ["epoll", "auto"] {
        let words = [
            "py64-par", "-s", "0.5", "-t", "4", "-o", "out.json", "--io", io,
        ];
        let told = bench(&words).well();
        assert!(told.starts_with("py64-par: 4 clients, 0."), "{told}");
        let json = measured(&told);
        let wanted = [
            "benchmark",
            "seconds",
            "successes",
            "errors",
            "ops/s",
            "latency_ms",
        ];
        let wanted = [&wanted[..], &["starts", "mem_mb"]].concat();
        assert_eq!(keys(&json)[..8], wanted);
        assert_eq!(keys(&json["latency_ms"]), ["p50", "p90", "p99", "max"]);
        assert_eq!(keys(&json["starts"]), ["warm", "zygote", "fresh"]);
        assert_eq!(
            (&json["benchmark"], &json["errors"]),
            (&"py64-par".into(), &0.into())
        );
        let starts: u64 = keys(&json["starts"])
            .iter()
            .map(|kind| json["starts"][kind].as_u64().expect("a number"))
            .sum();
        assert_eq!(json["successes"].as_u64(), Some(starts));
        assert!(starts > 0 && json["mem_mb"].as_f64().is_some_and(|mb| mb > 0.0));
        assert_eq!(measured(&read(&scratch.path("out.json"))), json);
    }
    // Calls that a stalled machine had no time left to send are failures, said as such.
    let mut told = bench(&OPEN_LOOP);
    for _ in 0..4 {
        if told.code == 0 {
            break;
        }
        assert!(told.stderr.contains("unsent"), "{told:?}");
        told = bench(&OPEN_LOOP);
    }
    let told = told.well();
    assert_eq!(told.lines().count(), 1);
    assert_eq!(measured(&told)["successes"], 20);

    let told = bench(&["once", "bench-py-1", "-q"]).well();
    assert_eq!(measured(&told)["successes"], 11);
    let told = bench(&["once", "bench-py-", "--first", "3", "-t", "1", "-q"]).well();
    assert_eq!(measured(&told)["successes"], 3);
    let line = bench(&["once", "nobody"]).failed(1);
    assert!(line.contains("ol list"), "{line}");
    play(&scratch);
}

fn play(scratch: &Scratch) {
    let call = |t: f64, n: u32| {
        format!(
            "{{\"t\": {t}, \"event\": \"invocation\", \"function\": \"bench-py-{n}\", \"ms\": 1}}\n"
        )
    };
    let trace: String = (0..30).map(|n| call(f64::from(n) / 100.0, n)).collect();
    scratch.write("trace", trace);
    for (more, least) in [(&["--speed", "2"][..], 0.14), (&["--closed"], 0.0)] {
        let words = ["bench", "play", "--trace", "trace", "-p", "w"];
        let json = measured(&scratch.ol(&[&words, more].concat()).well());
        assert_eq!(
            (&json["successes"], &json["errors"]),
            (&30.into(), &0.into())
        );
        assert!(
            json["seconds"]
                .as_f64()
                .is_some_and(|seconds| seconds > least)
        );
    }
    scratch.write("trace", call(0.0, 64));
    let ended = scratch.ol(&["bench", "play", "--trace", "trace", "-p", "w"]);
    assert_eq!(measured(&ended.stdout)["failures"]["404"], 1);
    let line = ended.failed(1);
    assert!(line.contains("bench-py-64: status 404"), "{line}");
}

#[test]
fn what_is_typed_wrong_is_said() {
    let scratch = Scratch::new();
    for words in [
        &["bench"][..],
        &["bench", "py32-seq"],
        &["bench", "py64-seq", "-s", "0"],
        &["bench", "py64-seq", "-t", "0"],
        &["bench", "py64-seq", "-t", "100000"],
        &["bench", "py64-seq", "--rate", "-1"],
        &["bench", "py64-seq", "--warmup=maybe"],
        &["bench", "once"],
        &["bench", "play"],
        &["bench", "play", "--trace", "x", "--closed", "--speed", "2"],
    ] {
        let ended = scratch.command(OL).args(words).output().expect("it runs");
        assert_eq!(ended.status.code(), Some(2), "{words:?}: {ended:?}");
    }
    let line = scratch
        .ol(&["bench", "py64-seq", "-p", "w", "-o", "no/such/dir"])
        .failed(1);
    assert!(line.contains("no/such/dir"), "{line}");
    let line = scratch
        .ol(&["bench", "play", "-p", "w", "--trace", "none"])
        .failed(1);
    assert!(line.contains("none"), "{line}");
}

/// Far fewer sandboxes than functions fit into the descriptors there are.
#[test]
fn few_descriptors_are_enough_by_eviction() {
    if !is_root("a worker") {
        return;
    }
    let scratch = Scratch::new();
    let _guard = Guard(&scratch);
    scratch.ol(&["worker", "init", "-p", "w"]).well();
    scratch
        .ol(&["bench", "init", "-p", "w", "--functions", "64"])
        .well();
    let mut limited = scratch.command("prlimit");
    limited.args([
        "--nofile=900",
        OL,
        "worker",
        "up",
        "-d",
        "-q",
        "-p",
        "w",
        "-o",
        "http.tcp=",
    ]);
    ended(&mut limited).well();
    let told = scratch
        .ol(&["bench", "py64-par", "-s", "1", "-t", "8", "-p", "w", "-q"])
        .well();
    let json = measured(&told);
    assert_eq!(json["errors"], 0, "{json}");
    // Whether from zygotes or afresh is the engine's choice; that room is made is what counts here.
    let starts = |kind: &str| json["starts"][kind].as_u64().expect("a number");
    assert!(starts("zygote") + starts("fresh") > 8, "{json}");
    let status = scratch
        .ol(&["worker", "status", "--json", "-p", "w"])
        .well();
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let counts = &status["status"]["counts"];
    assert!(counts["instances"].as_u64() < Some(64), "{counts}");
    assert!(counts["evicted"].as_u64() > Some(0), "{counts}");
}
