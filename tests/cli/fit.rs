//! `ol fit` as people type it: every form of trace, every figure, the same bytes each time.

use crate::rig::{OL, Scratch};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

const LIST: &str = r#"{"packages": [{"name": "NumPy==1.26.4", "ms": 46.0, "mb": 3.9},
    {"name": "pandas==2.1.0", "ms": 250.0, "mb": 12.0}, {"name": "Flask", "ms": 19.0, "mb": 2.0}],
    "calls": [[0, 1], [0, 1], [0, 1], [0], [2], [2], []]}"#;

const RECORDED: &str = r#"{"t": 0.5, "event": "invocation", "function": "a", "start": "fresh"}
{"event": "function", "name": "a", "packages": ["numpy==1.26.4", "Pandas==2.1.0"], "imports": []}
{"event": "function", "name": "b", "packages": ["numpy==1.26.4"]}
{"event": "package", "name": "numpy==1.26.4", "deps": [], "import_ms": 46.0, "mem_mb": 19.0}
{"event": "package", "name": "pandas==2.1.0", "deps": ["numpy"], "import_ms": 250, "mem_mb": 58}
{"t": 1.5, "event": "invocation", "function": "a", "start": "zygote", "ms": 3.0}
{"t": 2.5, "event": "invocation", "function": "b", "start": "warm", "ms": 3.0}
{"t": 3.5, "event": "invocation", "function": "b", "start": "fresh", "ms": 3.0}
"#;

const FOLDED: &str = r#"{"event": "counts", "function": "a", "t": 0.1, "until": 0.4, "calls": 20,
    "warm": 11, "zygote": 7, "fresh": 2, "ms": 3.0, "cold_ms": 20.0, "mem_mb": 64.0}"#;

const ORIGINAL: &str = r#"{"type":"package","name":"pandas","deps":["numpy"],"top":["pandas"]}
{"type":"package","name":"numpy","deps":[],"top":["numpy"]}
{"type":"function","name":"/registry/a","deps":["pandas"]}
{"type":"invocation","name":"/registry/a"}
{"type":"invocation","name":"/registry/a"}
"#;

fn fit(scratch: &Scratch, args: &[&str]) -> Value {
    let text = scratch
        .run(OL, &[&["fit", "--json", "-q"], args].concat())
        .well();
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_call_list_becomes_a_tree_that_keeps_its_spelling() {
    let scratch = Scratch::new();
    scratch.write("calls.json", LIST);
    let told = fit(&scratch, &["calls.json", "--nodes", "2", "-o", "tree.json"]);
    let wanted = serde_json::json!({"packages": [], "children": [
        {"packages": ["NumPy==1.26.4", "pandas==2.1.0"], "children": []}]});
    assert_eq!(told["tree"], wanted);
    let written = std::fs::read_to_string(scratch.path("tree.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), wanted);
    // Left: numpy once, flask twice, of seven calls.
    let left = told["expected"]["residual_ms"].as_f64().unwrap();
    assert!((left - 84.0 / 7.0).abs() < 1e-9, "{left}");
    assert_eq!(told["nodes"], 2);
    assert!(told["bound"]["within_percent"].as_f64().unwrap() < 1e-6);
}

#[test]
fn people_are_told_what_each_node_is_good_for() {
    let scratch = Scratch::new();
    scratch.write("calls.json", LIST);
    scratch.write("old.json", r#"{"children": [{"packages": ["numpy"]}]}"#);
    let args = [
        "fit",
        "calls.json",
        "--against",
        "old.json",
        "--test",
        "calls.json",
    ];
    let text = scratch.run(OL, &args).well();
    for wanted in [
        "- ROOT",
        "- NumPy==1.26.4",
        "- pandas==2.1.0",
        "with a bare root",
        "with old.json",
        "on the test trace",
        "of the best that",
        "no tree was written",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}

#[test]
fn recorded_traces_count_cold_starts() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("traces")).unwrap();
    scratch.write("traces/1.json", RECORDED);
    for trace in ["traces/1.json", "traces"] {
        let told = fit(&scratch, &[trace, "--nodes", "3"]);
        assert_eq!(told["expected"]["calls"], 3.0, "the warm one is left out");
        let first = &told["tree"]["children"][0];
        assert_eq!(first["packages"][0], "numpy==1.26.4");
        assert_eq!(first["children"][0]["packages"][0], "Pandas==2.1.0");
    }
    scratch.write("traces/2.json", format!("{RECORDED}{{\"event\": \"invoc"));
    let told = fit(&scratch, &["traces", "--nodes", "3"]);
    assert_eq!(
        told["expected"]["calls"], 6.0,
        "a line that is being written is no fault"
    );
    std::fs::remove_file(scratch.path("traces/2.json")).unwrap();
    scratch.write("traces/0.counts.json", FOLDED.replace('\n', " "));
    let told = fit(&scratch, &["traces", "--nodes", "3"]);
    assert_eq!(told["expected"]["calls"], 12.0);
}

#[test]
fn the_originals_trace_names_what_is_needed() {
    let scratch = Scratch::new();
    scratch.write("dep-trace.json", ORIGINAL);
    scratch.write(
        "costs.json",
        r#"{"pandas": {"ms": 250, "mb": 12}, "numpy": {"ms": 46, "mb": 4}}"#,
    );
    let told = fit(
        &scratch,
        &["dep-trace.json", "--profile", "costs.json", "--nodes", "2"],
    );
    let mut packages = told["tree"]["children"][0]["packages"].clone();
    packages
        .as_array_mut()
        .unwrap()
        .sort_by_key(ToString::to_string);
    assert_eq!(packages, serde_json::json!(["numpy", "pandas"]));
    assert_eq!(told["expected"]["calls"], 2.0);
    let none = told["expected"]["cold_ms"]["no_tree"].as_f64().unwrap();
    assert!(none > 296.0, "{none}");
}

#[test]
fn needs_are_told_by_a_file() {
    let scratch = Scratch::new();
    scratch.write("calls.json", LIST);
    scratch.write(
        "needs.json",
        r#"{"pandas": {"2.1.0": {"numpy==1.26.4,pandas==2.1.0": 9}}}"#,
    );
    let rule = [
        "calls.json",
        "--needs",
        "needs.json",
        "--nodes",
        "2",
        "--algorithm",
        "multi",
    ];
    let told = fit(&scratch, &rule);
    let packages = &told["tree"]["children"][0]["packages"];
    assert_eq!(
        *packages,
        serde_json::json!(["NumPy==1.26.4", "pandas==2.1.0"])
    );
    scratch.write("bad.json", "[]");
    let line = scratch
        .run(OL, &["fit", "calls.json", "--needs", "bad.json"])
        .failed(1);
    assert!(line.contains("what packages need"), "{line}");
}

#[test]
fn memory_is_a_budget() {
    let scratch = Scratch::new();
    scratch.write("calls.json", LIST);
    for budget in ["62", "70", "90", "110", "500"] {
        let told = fit(&scratch, &["calls.json", "--memory", budget]);
        let held = told["memory_mb"].as_f64().unwrap();
        assert!(held <= budget.parse().unwrap(), "{held} of {budget}");
    }
}

#[test]
fn what_cannot_be_fitted_is_said() {
    let scratch = Scratch::new();
    scratch.write("calls.json", LIST);
    scratch.write(
        "far.json",
        r#"{"packages": [{"name": "a"}], "calls": [[1]]}"#,
    );
    scratch.write("none.json", r#"{"packages": [], "calls": [[]]}"#);
    scratch.write("bad.txt", "numpy\n");
    scratch.write(
        "broken.json",
        "{\"event\": \"function\", \"name\": \"f\"}\n{\"event\": 5}\n",
    );
    let said = |args: &[&str], code| scratch.run(OL, &[&["fit"], args].concat()).failed(code);
    for (args, code, wanted) in [
        (&["far.json"][..], 1, "there is no package 1 of 1"),
        (&["none.json"], 1, "no call in it asks for a package"),
        (&["bad.txt"], 1, "no known trace begins so"),
        (&["broken.json"], 1, "line 2"),
        (&["missing.json"], 1, "cannot be opened"),
        (&["calls.json", "--algorithm", "rule9"], 2, "rule0"),
        (&["calls.json", "--algorithm", "all"], 2, "--evaluate"),
        (&["calls.json", "--nodes", "0"], 2, "1 to 4096"),
        (&["calls.json", "--memory", "much"], 2, "megabytes"),
        (&["--evaluate", "calls.json"], 1, "no `trials`"),
        (&[], 2, "missing"),
    ] {
        let line = said(args, code);
        assert!(line.contains(wanted), "{wanted} in {line}");
    }
}

/// A worker's files, and a trace of many calls of numpy and pandas.
fn night(scratch: &Scratch) {
    scratch.write("olworker.toml", "[http]\nunix = \"ol.sock\"\n");
    let calls =
        vec![r#"{"t": 5.5, "event": "invocation", "function": "a", "start": "fresh"}"#; 200];
    scratch.write("trace.jsonl", format!("{RECORDED}{}\n", calls.join("\n")));
}

fn apply(scratch: &Scratch, more: &[&str]) -> Value {
    let args = [
        "trace.jsonl",
        "--apply",
        "--config",
        "olworker.toml",
        "--memory",
        "300",
    ];
    fit(scratch, &[&args, more].concat())
}

#[test]
fn a_better_tree_is_applied_and_rolled_back() {
    let scratch = Scratch::new();
    night(&scratch);
    let told = apply(&scratch, &[]);
    assert_eq!(
        (&told["applied"], &told["reloaded"]),
        (&true.into(), &Value::Null),
        "{told}"
    );
    let fitted = std::fs::read_to_string(scratch.path("tree.json")).unwrap();
    assert!(fitted.contains("Pandas==2.1.0"), "{fitted}");
    let compared = fit(&scratch, &["trace.jsonl", "--config", "olworker.toml"]);
    assert!(
        compared["against"].as_str().unwrap().ends_with("tree.json"),
        "{compared}"
    );
    let again = apply(&scratch, &[]);
    assert_eq!(again["applied"], false, "{again}");
    assert!(
        again["why"]
            .as_str()
            .unwrap()
            .contains("less than the margin"),
        "{again}"
    );
    let rollback = ["--rollback", "--config", "olworker.toml"];
    assert_eq!(fit(&scratch, &rollback)["rolled_back"], true);
    let bare = std::fs::read_to_string(scratch.path("tree.json")).unwrap();
    assert!(!bare.contains("Pandas"), "{bare}");
    fit(&scratch, &rollback);
    let back = std::fs::read_to_string(scratch.path("tree.json")).unwrap();
    assert_eq!(back, fitted, "the tree that went came back");
}

#[test]
fn a_tree_stays_where_too_little_is_known_or_nothing_may_be_written() {
    let scratch = Scratch::new();
    night(&scratch);
    scratch.write("trace.jsonl", RECORDED);
    let told = apply(&scratch, &[]);
    assert_eq!(told["applied"], false);
    assert!(
        told["why"].as_str().unwrap().contains("say too little"),
        "{told}"
    );
    assert!(!scratch.path("tree.json").exists());
    let rollback = ["fit", "--rollback", "--config", "olworker.toml"];
    let line = scratch.run(OL, &rollback).failed(1);
    assert!(line.contains("tree.json.previous"), "{line}");
    scratch.write("olworker.toml", "[features]\nimport_cache_tree = \"\"\n");
    let args = ["fit", "trace.jsonl", "--apply", "--config", "olworker.toml"];
    let line = scratch.run(OL, &args).failed(78);
    assert!(line.contains("import_cache_tree"), "{line}");
    let line = scratch
        .run(OL, &["fit", "--apply", "--margin", "100"])
        .failed(2);
    assert!(line.contains("--margin"), "{line}");
}

#[test]
fn an_applied_tree_keeps_to_the_pool() {
    let scratch = Scratch::new();
    night(&scratch);
    let pool = "[http]\nunix = \"ol.sock\"\n[pool]\nmem_mb = 600\n";
    scratch.write("olworker.toml", pool);
    let args = ["trace.jsonl", "--apply", "--config", "olworker.toml"];
    let told = fit(&scratch, &args);
    assert_eq!(told["pool_mb"].as_f64(), Some(600.0), "{told}");
    let (tree, budget) = (told["tree_mb"].as_f64(), told["memory_mb"].as_f64());
    assert!(
        tree > Some(0.0) && tree <= budget && budget < Some(600.0),
        "{told}"
    );
    assert_eq!(told["pool_is_running"], false, "{told}");
    let too_much = [&["fit"][..], &args, &["--memory", "700"]].concat();
    let line = scratch.run(OL, &too_much).failed(2);
    assert!(line.contains("[pool] mem_mb"), "{line}");
}

fn trials() -> String {
    let list: Value = serde_json::from_str(LIST).unwrap();
    let trial = serde_json::json!({"train": list["calls"], "test": [[0, 1], [2]]});
    serde_json::json!({"packages": list["packages"], "trials": [trial, trial]}).to_string()
}

#[test]
fn every_algorithm_is_compared() {
    let scratch = Scratch::new();
    scratch.write("trials.json", trials());
    let args = [
        "fit",
        "--evaluate",
        "trials.json",
        "--nodes",
        "1,2,3",
        "--algorithm",
        "all",
        "--json",
        "--csv",
        "out.csv",
        "--plot",
        "out.svg",
    ];
    let text = scratch.run(OL, &args).well();
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 9 * 3);
    let last = rows.last().unwrap();
    assert_eq!(
        (&last["algorithm"], &last["nodes"]),
        (&"setcover".into(), &3.into())
    );
    assert!(last["residual_ms"].as_f64().unwrap().abs() < 1e-9);
    assert!(last["deviation_ms"].as_f64().unwrap().abs() < 1e-9);
    for row in &rows {
        if row["nodes"] == 1 {
            assert!(
                (row["residual_ms"].as_f64().unwrap() - 157.5).abs() < 1e-9,
                "{row}"
            );
            assert!(
                (row["memory_mb"].as_f64().unwrap() - 62.0).abs() < 1e-9,
                "{row}"
            );
        }
    }
    let csv = std::fs::read_to_string(scratch.path("out.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + rows.len());
    let svg = std::fs::read_to_string(scratch.path("out.svg")).unwrap();
    assert!(svg.contains(">sock2018<") && svg.contains("Throughput against memory"));
    assert_eq!(scratch.run(OL, &args).well(), text, "the same again");
}

/// The measured workloads, or the reason why they are not tried.
fn reqbench() -> Option<(PathBuf, PathBuf)> {
    let Some(folder) = std::env::var_os("OLWORKER_TEST_DATA") else {
        let _ = writeln!(
            std::io::stderr(),
            "SKIP: OLWORKER_TEST_DATA names no folder of workloads"
        );
        return None;
    };
    let folder = PathBuf::from(folder);
    let scores = folder.join("reqbench-published-scores-0-4.json");
    Some((folder.join("reqbench-trials-0-4.json"), scores))
}

#[test]
fn unseen_calls_are_served_better_than_by_any_published_tree() {
    let Some((trials, published)) = reqbench() else {
        return;
    };
    let scratch = Scratch::new();
    let trials = trials.to_str().unwrap();
    let scores = std::fs::read_to_string(published).unwrap();
    let scores: Value = serde_json::from_str(&scores).unwrap();
    let mut best: BTreeMap<u64, f64> = BTreeMap::new();
    for (name, scores) in scores["trees"].as_object().unwrap() {
        let nodes = name.split_once('/').unwrap().1.parse().unwrap();
        let scores = scores.as_array().unwrap();
        let left = scores
            .iter()
            .map(|score| score["best_ms"].as_f64().unwrap());
        let mean = left.sum::<f64>() / scores.len() as f64;
        let known = best.entry(nodes).or_insert(mean);
        *known = f64::min(*known, mean);
    }
    best.retain(|nodes, _| (2..=320).contains(nodes));
    assert!(best.len() > 4);
    let sizes: Vec<String> = best.keys().map(ToString::to_string).collect();
    let args = [
        "fit",
        "--evaluate",
        trials,
        "--nodes",
        &sizes.join(","),
        "--json",
    ];
    let text = scratch.run(OL, &args).well();
    for (line, published) in text.lines().zip(best.values()) {
        let row: Value = serde_json::from_str(line).unwrap();
        let left = row["residual_ms"].as_f64().unwrap();
        assert!(left < *published, "{row}: {published}");
    }
}

#[test]
fn the_shipped_tree_is_made_from_the_shipped_list() {
    let scratch = Scratch::new();
    let etc = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("etc");
    let list = etc.join("popular.json");
    let text = std::fs::read_to_string(&list).unwrap();
    let nodes = serde_json::from_str::<Value>(&text).unwrap()["nodes"].to_string();
    let list = list.to_str().unwrap();
    fit(&scratch, &[list, "--nodes", &nodes, "-o", "tree.json"]);
    let made = std::fs::read_to_string(scratch.path("tree.json")).unwrap();
    let shipped = std::fs::read_to_string(etc.join("olworker/tree.json")).unwrap();
    assert_eq!(made, shipped, "scripts/default-tree makes it anew");
    // Versions change, and what comes along with them: only names that functions ask for.
    assert!(!shipped.contains("==") && shipped.contains("\"pandas\""));
}
