//! A worker of one's own, from init to force-cleanup, with the real daemon.

use crate::rig::{OL, OLWORKER, Scratch, ended, is_root, read};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

/// Workers of tests run beside each other: only one of them could have the port.
const NO_TCP: [&str; 2] = ["-o", "http.tcp="];

pub fn up(scratch: &Scratch, more: &[&str]) -> Value {
    let words = ["worker", "up", "-d", "-p", "w", "--json"];
    let words: Vec<&str> = words.iter().chain(&NO_TCP).chain(more).copied().collect();
    let told = scratch.ol(&words).well();
    let last = told.lines().last().expect("it says where it is");
    serde_json::from_str(last).expect("JSON")
}

fn pid(of: &Value) -> Pid {
    let number = of["pid"].as_i64().expect("it says its pid");
    Pid::from_raw(number.try_into().expect("a pid")).expect("a pid")
}

/// Whether a cgroup of that worker is anywhere.
fn has_group(pid: Pid) -> bool {
    let name = format!("olworker-{}", pid.as_raw_nonzero());
    let found = |root: &str| {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name())
            .any(|entry| entry == *name)
    };
    found("/sys/fs/cgroup") || found("/sys/fs/cgroup/unified")
}

/// Takes down whatever a failed test leaves running.
pub struct Guard<'a>(pub &'a Scratch);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        for place in ["w", "default-ol"] {
            if self.0.path(place).exists() {
                let _ = self.0.ol(&["worker", "force-cleanup", "-p", place]);
            }
        }
    }
}

#[test]
fn init_makes_what_is_missing_and_changes_nothing() {
    if !is_root("ol worker init") {
        return;
    }
    let scratch = Scratch::new();
    let told = scratch
        .ol(&["worker", "init", "-p", "w", "-i", "ol-min"])
        .well();
    assert!(told.starts_with("w: made registry/, packages/, worker/, config.toml, tree.json\n"));
    let config = read(&scratch.path("w/config.toml"));
    let directory = scratch.path("w");
    let socket = format!("unix = \"{}/worker/ol.sock\"", directory.display());
    for line in [
        socket.as_str(),
        "tcp = \"127.0.0.1:5000\"",
        "import_cache = \"tree\"",
    ] {
        assert!(config.contains(line), "{line}");
    }
    scratch.olworker(&["check", "-q", "--dir", "w"]).well();

    let edited = config.replace("runtime_sec = 30", "runtime_sec = 7");
    scratch.write("w/config.toml", &edited);
    scratch.write("w/registry/mine.py", "x");
    let again = scratch
        .ol(&["worker", "init", "-p", "w", "-i", "host"])
        .well();
    assert_eq!(again, "w: everything is there already\n");
    assert_eq!(read(&scratch.path("w/config.toml")), edited);
    assert_eq!(read(&scratch.path("w/registry/mine.py")), "x");
    let line = scratch
        .ol(&["worker", "init", "-p", "w", "-o", "limits.procs=3"])
        .failed(1);
    assert!(
        line.contains("it is there already, and -o would change it ("),
        "{line}"
    );
}

#[test]
fn init_takes_overrides_and_bases() {
    if !is_root("ol worker init") {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("root/usr/bin/x", "x");
    let words = [
        "worker",
        "init",
        "-p",
        "w",
        "-i",
        "root",
        "-o",
        "limits.mem_mb=77",
    ];
    scratch.ol(&words).well();
    let config = read(&scratch.path("w/config.toml"));
    assert!(config.contains("mem_mb = 77"));
    assert!(config.contains(&format!("base = \"{}\"", scratch.path("root").display())));
    for (image, why) in [
        ("none", "no such base"),
        ("root/usr/bin/x", "neither a directory"),
    ] {
        let line = scratch
            .ol(&["worker", "init", "-p", "v", "-i", image])
            .failed(1);
        assert!(line.contains(why), "{line}");
    }
    let tarred = scratch
        .command("tar")
        .args(["-cf", "base.tar", "-C", "root", "."])
        .status();
    assert!(tarred.expect("tar").success());
    scratch
        .ol(&["worker", "init", "-p", "t", "-i", "base.tar"])
        .well();
    assert_eq!(read(&scratch.path("t/base/usr/bin/x")), "x");
    assert!(read(&scratch.path("t/config.toml")).contains("/t/base\""));
    let again = scratch
        .ol(&["worker", "init", "-p", "t", "-i", "base.tar"])
        .well();
    assert_eq!(again, "t: everything is there already\n");
    fs::copy(scratch.path("base.tar"), scratch.path("other.tar")).expect("a copy");
    let line = scratch
        .ol(&["worker", "init", "-p", "t", "-i", "other.tar"])
        .failed(1);
    assert!(line.contains("of another tar"), "{line}");
    let line = scratch
        .ol(&["worker", "init", "-p", "z", "-o", "limits.procs=0"])
        .failed(78);
    assert_eq!(
        line,
        "ol: -o: limits.procs: 0 is out of range (give 1..32768)"
    );
}

#[test]
fn up_status_replace_down() {
    if !is_root("ol worker up") {
        return;
    }
    let scratch = Scratch::new();
    let _guard = Guard(&scratch);
    let line = scratch.ol(&["worker", "status", "-p", "w"]).failed(69);
    assert_eq!(
        line,
        "ol: worker status: none runs in w (ol worker up -d -p w starts one)"
    );

    let first = up(&scratch, &[]);
    let socket = scratch.path("w/worker/ol.sock").display().to_string();
    assert_eq!(first["addresses"], serde_json::json!([socket]));
    let status = scratch.ol(&["worker", "status", "-p", "w"]).well();
    let number = pid(&first).as_raw_nonzero();
    assert_eq!(status, format!("ready: worker {number} at {socket}\n"));
    assert!(
        scratch
            .ol(&["-p", "w", "tree"])
            .well()
            .starts_with("Import Cache Tree:\n")
    );

    let line = scratch
        .ol(&["worker", "up", "-d", "-p", "w", "-o", "limits.procs=0"])
        .failed(78);
    assert!(line.contains("limits.procs"), "{line}");
    let output = read(&scratch.path("w/worker.out"));
    scratch.ol(&["worker", "status", "-p", "w"]).well();

    let second = up(&scratch, &["-o", "features.import_cache="]);
    assert_ne!(pid(&first), pid(&second), "it was replaced");
    assert!(
        read(&scratch.path("w/worker.out")).starts_with(&output),
        "output is appended"
    );
    let effective = read(&scratch.path("w/worker/effective.toml"));
    assert!(effective.contains("\nimport_cache = \"\"\n"), "{effective}");

    let told = scratch.ol(&["worker", "down", "-p", "w"]).well();
    let number = pid(&second).as_raw_nonzero();
    assert!(told.starts_with(&format!(
        "worker {number}: told to stop; running calls have 30 s\n"
    )));
    assert!(
        told.contains(&format!("worker {number}: ended after ")),
        "{told}"
    );
    assert!(!has_group(pid(&second)));
    let told = scratch.ol(&["worker", "down", "-p", "w"]).well();
    assert_eq!(told, "no worker runs in w\n");
    scratch.ol(&["worker", "status", "-p", "w"]).failed(69);
}

#[test]
fn a_worker_that_cannot_start_says_its_last_words() {
    if !is_root("ol worker up") {
        return;
    }
    let scratch = Scratch::new();
    let _guard = Guard(&scratch);
    let unix = ["-o", "http.unix=/proc/none/ol.sock"];
    let words = ["worker", "up", "-d", "-q", "-p", "w"];
    let words: Vec<&str> = words.iter().chain(&NO_TCP).chain(&unix).copied().collect();
    let ended = scratch.ol(&words);
    assert_eq!(ended.code, 1, "{ended:?}");
    let last = ended.stderr.lines().last().expect("it says so");
    assert!(
        last.starts_with("ol: worker up: it ended while starting: exit status: 1 ("),
        "{last}"
    );
    assert!(
        ended.stderr.contains("/proc/none/ol.sock"),
        "{}",
        ended.stderr
    );
    scratch.ol(&["worker", "status", "-p", "w"]).failed(69);
}

#[test]
fn what_a_killed_worker_leaves_is_cleaned_up() {
    if !is_root("ol worker up") {
        return;
    }
    let scratch = Scratch::new();
    let _guard = Guard(&scratch);
    let worker = up(&scratch, &[]);
    kill_process(pid(&worker), Signal::KILL).expect("it runs");
    let handle = rustix::process::pidfd_open(pid(&worker), rustix::process::PidfdFlags::empty());
    if let Ok(handle) = handle {
        let mut ends = [rustix::event::PollFd::new(
            &handle,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut ends, None).expect("it ends");
    }
    scratch.ol(&["worker", "status", "-p", "w"]).failed(69);
    let told = scratch.ol(&["worker", "force-cleanup", "-p", "w"]).well();
    assert!(told.contains("/w/worker/ol.sock: removed\n"), "{told}");
    assert!(told.contains("/w/worker/worker.pid: removed\n"), "{told}");
    assert!(!has_group(pid(&worker)), "{told}");
    assert!(scratch.path("w/config.toml").exists());
    let again = scratch.ol(&["worker", "force-cleanup", "-p", "w"]).well();
    assert!(
        !again.contains("/w/"),
        "nothing of this worker is left: {again}"
    );

    // A living one goes the same way, and so does one that was not cleaned up after.
    let worker = up(&scratch, &[]);
    let told = scratch.ol(&["worker", "force-cleanup", "-p", "w"]).well();
    let number = pid(&worker).as_raw_nonzero();
    assert!(
        told.starts_with(&format!("worker {number}: killed\n")),
        "{told}"
    );
    assert!(!has_group(pid(&worker)), "{told}");
}

#[test]
fn a_directory_has_one_worker() {
    if !is_root("olworker serve") {
        return;
    }
    let scratch = Scratch::new();
    let _guard = Guard(&scratch);
    let worker = up(&scratch, &[]);
    let line = scratch.olworker(&["serve", "--dir", "w"]).failed(1);
    let number = pid(&worker).as_raw_nonzero();
    assert!(
        line.contains(&format!("worker {number} serves here already (")),
        "{line}"
    );
    scratch.ol(&["worker", "down", "-p", "w"]).well();
}

#[test]
fn an_ordinary_user_gets_one_line() {
    if !is_root("becoming an ordinary user") {
        return;
    }
    // The programs may lie where an ordinary user cannot reach: a copy never does.
    let scratch = Scratch::new();
    fs::copy(OL, scratch.path("ol")).expect("a copy");
    let program = scratch.path("ol");
    let reach = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&scratch.0, reach).expect("it is ours");
    for verb in ["init", "up", "down", "force-cleanup"] {
        let mut command = scratch.command(program.to_str().expect("text"));
        let told = ended(command.args(["worker", verb]).uid(65_534).gid(65_534)).failed(1);
        let expected = format!("ol: worker {verb}: only root can make sandboxes");
        assert!(told.starts_with(&expected), "{told}");
    }
}

/// A program beside `ol` is the one it starts: here one that never becomes ready.
#[test]
fn a_worker_that_ends_at_once_is_told_with_its_code() {
    if !is_root("ol worker up") {
        return;
    }
    let scratch = Scratch::new();
    let copied = scratch
        .command("sh")
        .args([
            "-c",
            "cp \"$1\" ol && printf '#!/bin/sh\\necho no luck\\nexit 78\\n' > olworker",
        ])
        .args(["sh", OL])
        .args(["&&", "chmod"])
        .status();
    assert!(copied.expect("sh").success());
    let mode = scratch.command("chmod").args(["755", "olworker"]).status();
    assert!(mode.expect("chmod").success());
    let program = scratch.path("ol");
    let mut command = scratch.command(program.to_str().expect("text"));
    let ended = ended(command.args(["worker", "up", "-d", "-q"]));
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(
        ended
            .stderr
            .starts_with("no luck\nol: worker up: it ended while starting: ")
    );
}

#[test]
fn the_daemon_in_the_foreground_ends_with_0() {
    if !is_root("olworker serve") {
        return;
    }
    let scratch = Scratch::new();
    scratch.ol(&["worker", "init", "-p", "w"]).well();
    let mut command = scratch.command(OLWORKER);
    let mut child = command
        .args(["serve", "--dir", "w", "-o", "http.tcp="])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was built");
    let ready = |path: &Path| std::os::unix::net::UnixStream::connect(path).is_ok();
    let socket = scratch.path("w/worker/ol.sock");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains(" is ready on ") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut stderr, &mut line).expect("text");
        assert!(read > 0, "it ended before it was ready");
    }
    assert!(ready(&socket));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    std::io::copy(&mut stderr, &mut std::io::sink()).expect("its last words");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(!scratch.path("w/worker/worker.pid").exists());
    assert!(!scratch.path("w/worker/effective.toml").exists());
}
