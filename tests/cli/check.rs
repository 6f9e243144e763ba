//! `olworker check`, and what every reader of a configuration does with a wrong one.

use crate::rig::Scratch;
use serde_json::Value;

#[test]
fn a_good_file_is_reported_with_what_the_machine_offers() {
    let scratch = Scratch::new();
    scratch.write("good.toml", "[limits]\nmem_mb = 64\n");
    let text = scratch.olworker(&["check", "--config", "good.toml"]).well();
    for word in [
        "good.toml",
        "KERNEL FEATURE",
        "clone3 into a cgroup",
        "mem_mb",
        "INTERPRETER",
    ] {
        assert!(text.contains(word), "{word}\n{text}");
    }
    let json = scratch
        .olworker(&["--json", "check", "--config", "good.toml"])
        .well();
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["valid"], true);
    for feature in [
        "clone3",
        "pidfd",
        "mount API",
        "io_uring",
        "cgroup.kill",
        "close_range",
    ] {
        assert!(
            json["features"][feature]["works"].is_boolean(),
            "{feature}: {json}"
        );
    }
    for limit in ["mem_mb", "procs", "cpu_percent"] {
        assert!(json["limits"][limit].is_string(), "{limit}: {json}");
    }
    assert_eq!(json["interpreters"][0]["configured"], true);
}

#[test]
fn a_wrong_file_is_78_and_a_line_a_problem() {
    let scratch = Scratch::new();
    let file = scratch.write("bad.toml", "[limits]\nmen_mb = 64\nprocs = 0\n");
    let file = file.display();
    let expected = format!(
        "olworker: {file}:2: limits.men_mb: unknown key (did you mean limits.mem_mb?)\n\
         olworker: {file}:3: limits.procs: 0 is out of range (give 1..32768)\n"
    );
    for verb in ["check", "serve"] {
        let ended = scratch.olworker(&[verb, "--config", "bad.toml"]);
        assert_eq!((ended.code, &ended.stderr), (78, &expected), "{verb}");
        assert_eq!(ended.stdout, "");
    }
    let json = scratch.olworker(&["check", "--config", "bad.toml", "--json"]);
    assert_eq!(json.code, 78);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(2));
}

#[test]
fn overrides_are_checked_as_the_file_is() {
    let scratch = Scratch::new();
    scratch.write("good.toml", "");
    let line = |text: &str| {
        scratch
            .olworker(&["check", "--config", "good.toml", "-o", text])
            .failed(78)
    };
    assert_eq!(
        line("http.tpc="),
        "olworker: -o: http.tpc: unknown key (did you mean http.tcp?)"
    );
    assert!(line("http.tcp").contains("has no = (write -o section.key=value)"));
    assert!(line("limits.mem_mb=lots").contains("a string where a whole number belongs"));
    let tree = r#"features.import_cache_tree={"packages": [], "children": [{"packages": ["a"]}]}"#;
    scratch
        .olworker(&["check", "-q", "--config", "good.toml", "-o", tree])
        .well();
    let several = [
        "http.tcp=",
        "http.tcp=127.0.0.1:5000",
        "limits={procs = 5}",
        "pool.mem_mb=0",
    ];
    for text in several {
        scratch
            .olworker(&["check", "-q", "--config", "good.toml", "-o", text])
            .well();
    }
}

#[test]
fn what_is_odd_is_a_warning() {
    let scratch = Scratch::new();
    scratch.write("odd.toml", "[pool]\nidle_freeze_ms = 0\n");
    let ended = scratch.olworker(&["check", "--config", "odd.toml"]);
    assert_eq!(ended.code, 0);
    assert!(
        ended.stderr.starts_with("olworker: warning: "),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("odd.toml:2: pool.idle_freeze_ms: "),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_missing_file_is_78() {
    let scratch = Scratch::new();
    let line = scratch
        .olworker(&["check", "--config", "none.toml"])
        .failed(78);
    assert!(
        line.ends_with("none.toml: there is no such file (name a file that exists)"),
        "{line}"
    );
    let line = scratch.olworker(&["serve", "--dir", "none"]).failed(78);
    assert!(
        line.contains("(`ol worker init -p none` makes one)"),
        "{line}"
    );
}
