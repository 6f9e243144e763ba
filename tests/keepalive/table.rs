//! The table of BENCHMARKS.md about who is kept: its script, and what is claimed of it.

use std::path::Path;
use std::process::{Command, Output};

/// On shorter traces of fewer functions than the published ones; none where there is no python3.
fn table(arguments: &[&str]) -> Option<Output> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/keepalive-table");
    let ran = Command::new("python3")
        .arg(script)
        .args(["--program", env!("CARGO_BIN_EXE_ol"), "--check"])
        .args(["--functions", "40", "--rate", "1.2", "--hours", "2"])
        .args(arguments)
        .output();
    match ran {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIP: python3 cannot be run: {error}");
            None
        }
    }
}

#[test]
fn the_default_beats_every_published_policy_and_comes_near_the_oracle() {
    let Some(output) = table(&["--memory", "1000,2000"]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8_lossy(&output.stdout);
    let rows = printed
        .lines()
        .filter(|line| line.starts_with("| "))
        .count();
    assert_eq!(
        rows,
        1 + 5 * 2,
        "five kinds at two sizes below the head:\n{printed}"
    );
}

#[test]
fn where_memory_is_ample_nobody_beats_anybody_and_that_is_said() {
    let Some(output) = table(&["--memory", "1000000", "--kinds", "poisson"]) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("poisson at 1e+06 MB: VALUE adds"), "{said}");
}
