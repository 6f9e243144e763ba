//! Verbs about functions, against a worker that is played.

use crate::fake::{Answer, Fake};
use crate::rig::{OL, Scratch, fed};
use flate2::read::GzDecoder;
use serde_json::Value;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

struct Rig {
    /// Ends before its socket is gone.
    worker: Fake,
    scratch: Scratch,
}

impl Rig {
    fn new(answers: &[Answer]) -> Self {
        let scratch = Scratch::new();
        let worker = Fake::unix(&scratch.path("default-ol/worker/ol.sock"), answers);
        Self { worker, scratch }
    }
}

#[test]
fn a_directory_is_deployed_as_an_archive_of_its_files() {
    let answer = r#"{"name":"hello","version":3,"bytes":100}"#;
    let rig = Rig::new(&[("PUT /registry/hello", 201, JSON, answer)]);
    rig.scratch
        .write("hello/f.py", "def f(event):\n    return 1\n");
    rig.scratch.write("hello/__pycache__/f.pyc", "x");
    rig.scratch.write("hello/.git/config", "x");
    rig.scratch.write("hello/data/a.txt", "a");
    let told = rig.scratch.ol(&["deploy", "hello/"]).well();
    assert_eq!(told, "deployed hello, version 3\n");
    let asked = rig.worker.only();
    let mut archive = tar::Archive::new(GzDecoder::new(&asked.body[..]));
    let entries = archive.entries().expect("an archive");
    let names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("whole")
                .path()
                .expect("a path")
                .display()
                .to_string()
        })
        .collect();
    assert_eq!(names, ["data/a.txt", "f.py"]);
}

#[test]
fn a_file_is_deployed_as_it_is() {
    let rig = Rig::new(&[
        ("PUT /registry/hello", 200, JSON, r#"{"version":1}"#),
        ("PUT /registry/other", 200, JSON, r#"{"version":1}"#),
    ]);
    rig.scratch.write("hello.py", "def f(event): return 1");
    rig.scratch.ol(&["deploy", "hello.py", "--json"]).well();
    rig.scratch
        .ol(&["-q", "deploy", "hello.py", "--name", "other"])
        .well();
    let asked = rig.worker.asked();
    assert_eq!(asked[0].body, b"def f(event): return 1");
    assert_eq!(asked[1].line, "PUT /registry/other");
}

#[test]
fn what_cannot_be_deployed_is_refused_here_or_there() {
    let problem = r#"{"type":"https://olworker.invalid/problems/bad-function","status":422,
        "detail":"no f in f.py"}"#;
    let rig = Rig::new(&[("PUT /registry/bad", 422, PROBLEM, problem)]);
    rig.scratch.write("bad.py", "x = 1");
    rig.scratch.write("empty.py", "");
    rig.scratch.write("a.txt", "x");
    rig.scratch.write("a b.py", "x");
    for (words, code, line) in [
        (
            &["deploy", "bad.py"][..],
            1,
            "ol: deploy bad.py: no f in f.py (mend it and",
        ),
        (
            &["deploy", "empty.py"],
            1,
            "ol: deploy empty.py: it is empty",
        ),
        (
            &["deploy", "a.txt"],
            1,
            "ol: deploy a.txt: it is nothing a function can be made of",
        ),
        (&["deploy", "none"], 1, "ol: deploy none: No such file"),
        (
            &["deploy", "a b.py"],
            2,
            "ol: deploy a b.py: \"a b\" cannot be a function's name",
        ),
    ] {
        let told = rig.scratch.ol(words).failed(code);
        assert!(told.starts_with(line), "{told}");
    }
    assert_eq!(rig.worker.only().line, "PUT /registry/bad");
}

#[test]
fn a_call_hands_its_body_on_and_its_status_in_the_code() {
    let raised = r#"{"type":"x/function-error","status":500,"detail":"ValueError: no"}"#;
    let rig = Rig::new(&[
        ("GET /run/hello", 200, JSON, "1"),
        ("POST /run/hello/a%20b?c=d", 200, JSON, "\"two\""),
        ("PATCH /run/hello", 404, "text/plain", "not here"),
        ("POST /run/broken", 500, PROBLEM, raised),
    ]);
    assert_eq!(rig.scratch.ol(&["invoke", "hello"]).well(), "1");
    let words = [
        "invoke",
        "hello/a b?c=d",
        "--data",
        "{\"x\": 1}",
        "-H",
        "X-One: 1",
    ];
    assert_eq!(rig.scratch.ol(&words).well(), "\"two\"");
    let asked = rig.worker.asked();
    assert_eq!(asked[1].body, b"{\"x\": 1}");
    assert!(
        asked[1].head.contains("content-type: application/json"),
        "{}",
        asked[1].head
    );
    assert!(asked[1].head.contains("x-one: 1"), "{}", asked[1].head);

    let missing = rig.scratch.ol(&["invoke", "hello", "-X", "PATCH", "-i"]);
    assert!(
        missing
            .stdout
            .starts_with("HTTP/1.1 404\nContent-Type: text/plain\n"),
        "{missing:?}"
    );
    assert!(missing.stdout.ends_with("\n\nnot here"), "{missing:?}");
    assert!(
        missing
            .failed(1)
            .starts_with("ol: invoke hello: it answered 404 (")
    );
    let raised = rig.scratch.ol(&["invoke", "broken", "--data", "{}"]);
    assert_eq!(
        raised.failed(1),
        "ol: invoke broken: 500 function-error: ValueError: no (ol logs NAME shows what it printed)"
    );
}

#[test]
fn the_body_of_a_call_comes_from_a_file_or_from_stdin() {
    let rig = Rig::new(&[("POST /run/f", 200, JSON, "{}")]);
    rig.scratch.write("event.json", "[1, 2]");
    rig.scratch
        .ol(&["invoke", "f", "--data", "@event.json"])
        .well();
    let long = "x".repeat(200_000);
    let mut command = rig.scratch.command(OL);
    fed(command.args(["invoke", "f", "-d", "-"]), long.as_bytes()).well();
    let asked = rig.worker.asked();
    assert_eq!(asked[0].body, b"[1, 2]");
    assert_eq!(asked[1].body, long.as_bytes());
    assert!(
        asked[1].head.contains("transfer-encoding: chunked"),
        "{}",
        asked[1].head
    );
    let line = rig
        .scratch
        .ol(&["invoke", "f", "--data", "@none.json"])
        .failed(1);
    assert!(
        line.starts_with("ol: invoke f: --data @none.json: No such file"),
        "{line}"
    );
}

const LISTED: &str = r#"{"functions":[
    {"name":"a","version":1,"bytes":100,"uploaded":"2026-01-02T03:04:05Z"},
    {"name":"long-name","version":12,"bytes":2048,"uploaded":"2026-01-02T03:04:06Z"}]}"#;

#[test]
fn lists_are_tables_or_json() {
    let rig = Rig::new(&[("GET /registry", 200, JSON, LISTED)]);
    assert_eq!(
        rig.scratch.ol(&["list"]).well(),
        "NAME       VERSION  SIZE    UPLOADED\n\
         a          1        100 B   2026-01-02T03:04:05Z\n\
         long-name  12       2.0 KB  2026-01-02T03:04:06Z\n"
    );
    let json: Value =
        serde_json::from_str(&rig.scratch.ol(&["--json", "ls"]).well()).expect("JSON");
    assert_eq!(json["functions"][1]["version"], 12);
}

#[test]
fn versions_are_shown_rolled_back_and_removed() {
    let rig = Rig::new(&[
        ("GET /registry/f", 200, JSON, r#"{"name":"f","version":2}"#),
        (
            "GET /registry/f/config",
            200,
            JSON,
            r#"{"limits":{"mem_mb":64}}"#,
        ),
        (
            "GET /registry/f/versions",
            200,
            JSON,
            r#"{"versions":[{"version":2},{"version":1}]}"#,
        ),
        (
            "POST /registry/f/rollback",
            200,
            JSON,
            r#"{"name":"f","version":1}"#,
        ),
        ("DELETE /registry/f", 200, JSON, r#"{"removed":"f"}"#),
    ]);
    let shown = rig.scratch.ol(&["show", "f"]).well();
    for line in [
        "function.version: 2",
        "config.limits.mem_mb: 64",
        "versions.versions[1].version: 1",
    ] {
        assert!(shown.contains(line), "{shown}");
    }
    assert_eq!(
        rig.scratch.ol(&["rollback", "f", "1"]).well(),
        "f is at version 1\n"
    );
    assert_eq!(
        rig.scratch.ol(&["rollback", "f"]).well(),
        "f is at version 1\n"
    );
    assert_eq!(rig.scratch.ol(&["rm", "f"]).well(), "removed f\n");
    let asked = rig.worker.asked();
    assert_eq!(asked[3].body, b"{\"version\":1}");
    assert_eq!(asked[4].body, b"{}");
    assert_eq!(asked[5].line, "DELETE /registry/f");
}

#[test]
fn logs_come_as_they_are() {
    let rig = Rig::new(&[
        ("GET /logs/f?n=100", 200, "text/plain", "one\ntwo\n"),
        ("GET /logs/f?n=5&follow=1", 200, "text/plain", "two\n"),
    ]);
    assert_eq!(rig.scratch.ol(&["logs", "f"]).well(), "one\ntwo\n");
    assert_eq!(
        rig.scratch.ol(&["logs", "-f", "-n", "5", "f"]).well(),
        "two\n"
    );
}

#[test]
fn the_tree_and_the_counters_are_shown() {
    let tree = r#"{"trees":[{"packages":[],"count":2,"state":"live","mem_mb":9.5,"children":[
        {"packages":["numpy","six"],"count":1,"children":[]}]}]}"#;
    let rig = Rig::new(&[
        ("GET /tree", 200, JSON, tree),
        (
            "GET /stats",
            200,
            JSON,
            r#"{"call.cnt":5,"call.ms-avg":0.25}"#,
        ),
        ("GET /status", 200, JSON, r#"{"state":"ready"}"#),
    ]);
    assert_eq!(
        rig.scratch.ol(&["tree"]).well(),
        "Import Cache Tree:\n   2 - ROOT (live, 9.5 MB)\n   1   - numpy, six\n"
    );
    assert!(
        rig.scratch
            .ol(&["stats"])
            .well()
            .contains("\ncall  5      0.250")
    );
    let top = rig.scratch.ol(&["top"]).well();
    assert!(
        top.starts_with("state: ready\n") && top.contains("\ncall  5"),
        "{top}"
    );
}

#[test]
fn administration_over_tcp_takes_a_token() {
    let scratch = Scratch::new();
    let (worker, address) = Fake::tcp(&[("GET /registry", 200, JSON, LISTED)]);
    scratch.write("token", "s3cret\n");
    scratch
        .ol(&["list", "--socket", &address, "--token-file", "token"])
        .well();
    let head = worker.only().head;
    assert!(head.contains("authorization: bearer s3cret\r\n"), "{head}");
    scratch.write("empty", "\n");
    let line = scratch
        .ol(&["list", "--socket", &address, "--token-file", "empty"])
        .failed(1);
    assert!(line.contains("/empty: holds no token ("), "{line}");
}
