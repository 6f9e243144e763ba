//! Command lines, right and wrong; codes and streams.

use crate::fake::Fake;
use crate::rig::{OL, Scratch, ended, read};
use std::fs::File;
use std::process::{Command, Stdio};

#[test]
fn wrong_command_lines_are_one_line_and_2() {
    let scratch = Scratch::new();
    for (words, line) in [
        (
            &[][..],
            "ol: command line: a verb is missing (ol --help tells what there is)",
        ),
        (
            &["lst"],
            "ol: command line: there is no lst (did you mean ls, list?)",
        ),
        (
            &["xyzzy"],
            "ol: command line: there is no xyzzy (ol --help tells what there is)",
        ),
        (
            &["list", "--jsn"],
            "ol: list: it has no --jsn (did you mean --json?)",
        ),
        (
            &["show"],
            "ol: show: <NAME> is missing (ol show --help tells what there is)",
        ),
        (
            &["worker"],
            "ol: worker: a verb is missing (ol worker --help tells what there is)",
        ),
        (
            &["logs", "f", "-n", "x"],
            "ol: logs: \"x\" is nothing for --lines <N>",
        ),
        (
            &["--socket"],
            "ol: command line: --socket <ADDRESS> wants a value",
        ),
        (
            &["list", "extra"],
            "ol: list: it has no extra (ol list --help tells what there is)",
        ),
        (
            &["show", "a/b"],
            "ol: show a/b: \"a/b\" cannot be a function's name (a name is",
        ),
        (
            &["list", "--socket", "https://x"],
            "ol: --socket https://x: TLS is not spoken here",
        ),
        (
            &["completions", "tcsh"],
            "ol: completions: \"tcsh\" is nothing for <SHELL>",
        ),
        (
            &["invoke", "f", "-H", "nocolon"],
            "ol: invoke f: \"nocolon\" is no header field",
        ),
        (
            &["invoke", "f", "-X", "GE T"],
            "ol: invoke f: \"GE T\" is no method",
        ),
    ] {
        let told = scratch.ol(words).failed(2);
        assert!(told.starts_with(line), "{words:?}\n{told}\n{line}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let scratch = Scratch::new();
    let help = scratch.ol(&["--help"]).well();
    for verb in ["worker", "deploy", "invoke", "logs", "top", "man"] {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}\n{help}");
    }
    assert!(
        scratch
            .ol(&["worker", "up", "--help"])
            .well()
            .contains("--detach")
    );
    assert!(scratch.ol(&["--version"]).well().starts_with("ol 0."));
    assert!(
        scratch
            .olworker(&["--version"])
            .well()
            .starts_with("olworker 0.")
    );
    assert!(scratch.olworker(&["--help"]).well().contains("\n  serve "));
}

#[test]
fn nobody_there_is_69() {
    let scratch = Scratch::new();
    let line = scratch.ol(&["list", "--socket", "none.sock"]).failed(69);
    assert!(
        line.starts_with("ol: none.sock: there is no such socket (start one: "),
        "{line}"
    );
    // A port that was just free has nobody behind it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    let line = scratch.ol(&["--socket", &address, "stats"]).failed(69);
    assert!(line.contains(": nobody listens there ("), "{line}");
}

#[test]
fn the_worker_is_found_in_the_order_that_is_told() {
    let scratch = Scratch::new();
    let answers = &[("GET /stats", 200, "application/json", "{}")];
    let make = |name: &str| Fake::unix(&scratch.path(name), answers);
    let workers = [
        make("flag.sock"),
        make("environment.sock"),
        make("own/worker/ol.sock"),
        make("default-ol/worker/ol.sock"),
    ];
    let mut heard = [0; 4];
    let mut words = vec!["stats", "--socket", "flag.sock", "-p", "own"];
    for expected in 0..4 {
        let mut command = scratch.command(OL);
        if expected < 2 {
            command.env("OL_SOCKET", "environment.sock");
        }
        ended(command.args(&words)).well();
        heard[expected] += 1;
        assert_eq!(workers.each_ref().map(|worker| worker.asked().len()), heard);
        match expected {
            0 => words = vec!["stats", "-p", "own"],
            2 => words = vec!["stats"],
            _ => {}
        }
    }
}

#[test]
fn a_reader_that_had_enough_is_no_failure_and_a_full_disk_is() {
    let scratch = Scratch::new();
    let out = scratch.path("stderr");
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{{ '{OL}' completions bash; echo $? >&2; }} 2>'{}' | :",
            out.display()
        ))
        .stdin(Stdio::null())
        .status();
    assert!(status.expect("sh").success());
    assert_eq!(read(&out), "0\n");

    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("every Linux has it");
    let failed = scratch
        .command(OL)
        .arg("--help")
        .stdout(full)
        .output()
        .expect("it runs");
    assert_eq!(failed.status.code(), Some(1));
    let line = String::from_utf8(failed.stderr).expect("text");
    assert!(
        line.starts_with("ol: stdout: No space left on device"),
        "{line}"
    );
}
