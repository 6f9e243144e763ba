//! Disks that are full or cannot be written: said in one line, and nothing half-made stays.

use crate::rig::{Ended, OL, Scratch, ended, is_root};

/// What a script with `ol` as `$OL` ends with; mounts of it are its own.
fn script(scratch: &Scratch, text: &str) -> Ended {
    let mut command = scratch.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", text])
        .env("OL", OL);
    ended(&mut command)
}

const FULL: &str = "mkdir d && mount -t tmpfs -o size=1m t d && \"$OL\" -q worker init -p d/w && \
                    { dd if=/dev/zero of=d/fill bs=1k 2> /dev/null; true; } && ";

const READ_ONLY: &str = "mkdir d && mount -t tmpfs t d && \"$OL\" -q worker init -p d/w && \
                         mount -o remount,ro d && ";

#[test]
fn a_full_disk_is_named() {
    if !is_root("a file system of its own") {
        return;
    }
    for (then, what) in [
        ("\"$OL\" worker up -d -p d/w -o http.tcp=", "worker.out"),
        ("\"$OL\" bench init -p d/w", "registry"),
        ("\"$OL\" worker init -p d/x", "d/x"),
    ] {
        let scratch = Scratch::new();
        let line = script(&scratch, &format!("{FULL}{then}")).failed(1);
        assert!(
            line.contains(what) && line.contains("No space left"),
            "{line}"
        );
    }
    let scratch = Scratch::new();
    let half = "\"$OL\" worker init -p d/x; rm d/fill; \"$OL\" worker init -p d/x; \
                tail -n 1 d/x/config.toml";
    let told = script(&scratch, &format!("{FULL}{half}"));
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.stdout.contains("config.toml"),
        "made late, but whole: {told:?}"
    );
}

#[test]
fn a_disk_that_cannot_be_written_is_named() {
    if !is_root("a file system of its own") {
        return;
    }
    for then in [
        "\"$OL\" worker up -d -p d/w -o http.tcp=",
        "\"$OL\" worker init -p d/x",
        "\"$OL\" bench init -p d/w",
    ] {
        let scratch = Scratch::new();
        let line = script(&scratch, &format!("{READ_ONLY}{then}")).failed(1);
        assert!(line.contains("Read-only file system"), "{line}");
    }
    let scratch = Scratch::new();
    let cleanup = format!("{READ_ONLY}\"$OL\" worker force-cleanup -p d/w");
    let told = script(&scratch, &cleanup).well();
    assert_eq!(told, "d/w: nothing was left behind\n");
}
