//! Completions and manual pages.

use crate::rig::{Scratch, ended, read};
use std::process::Command;

#[test]
fn completions_know_the_verbs() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = scratch.ol(&["completions", shell]).well();
        for word in ["deploy", "force-cleanup", "--socket", "rollback"] {
            let found = script.contains(word) || script.contains(word.trim_start_matches('-'));
            assert!(found, "{shell}: {word}");
        }
        let worker = scratch
            .ol(&["completions", shell, "--program", "olworker"])
            .well();
        assert!(worker.contains("check"), "{shell}");
    }
    let script = scratch.ol(&["completions", "bash"]).well();
    let script = scratch.write("ol.bash", script);
    ended(Command::new("bash").arg("-n").arg(script)).well();
}

#[test]
fn there_is_a_page_for_every_verb() {
    let scratch = Scratch::new();
    let told = scratch.ol(&["man", "pages"]).well();
    for page in [
        "ol.1",
        "ol-deploy.1",
        "ol-worker.1",
        "ol-worker-force-cleanup.1",
        "olworker.8",
        "olworker-check.8",
        "olworker.toml.5",
    ] {
        assert!(told.lines().any(|line| line == page), "{page}\n{told}");
        let text = read(&scratch.path("pages").join(page));
        assert!(text.contains(".TH ") && text.contains(".SH NAME"), "{page}");
    }
    let line = scratch.ol(&["man", "/proc/no"]).failed(1);
    assert!(line.starts_with("ol: /proc/no: "), "{line}");
}
