//! What a newcomer types, word for word, with every default: in a network of its own, since one of
//! the defaults is a port.

use crate::rig::{OL, Scratch, ended, is_root, read};
use crate::worker::Guard;
use serde_json::Value;
use std::io::Write as _;

const WORDS: &str = "set -e
ip link set lo up
ol() { \"$OL\" \"$@\"; }
ol worker init -i ol-min
ol worker up -d
ol bench init
ol bench py1k-par -s 0.5
ol worker up -d -o features.import_cache=''
ol bench py1k-par -s 0.5
ol worker up -d -o features.import_cache='multitree'
ol bench py1k-par -s 0.5
sed -i 's/^import_cache_tree = .*/import_cache_tree = {packages = [], children = [\
{packages = [\"numpy\"], children = [{packages = [\"pandas\"], children = []}]}]}/' \
default-ol/config.toml
ol worker up -d
ol tree
ol worker down
";

#[test]
fn the_walk_through_works_as_it_is_told() {
    if !is_root("ol worker up") {
        return;
    }
    let scratch = Scratch::new();
    if scratch.command("ip").arg("-V").output().is_err() {
        let why = "SKIP: a loopback is raised by ip, which is missing (apt-get install iproute2)";
        return writeln!(std::io::stderr(), "{why}").expect("stderr");
    }
    let _guard = Guard(&scratch);
    let mut command = scratch.command("unshare");
    command.args(["--net", "sh", "-c", WORDS]).env("OL", OL);
    let told = ended(&mut command);
    assert_eq!((told.code, told.stderr.as_str()), (0, ""), "{told:?}");
    let told = told.stdout;
    assert_eq!(
        told.matches("\n  http://127.0.0.1:5000\n").count(),
        4,
        "{told}"
    );
    let figures: Vec<Value> = told
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(figures.len(), 3);
    for figure in &figures {
        assert_eq!(
            (&figure["benchmark"], &figure["errors"]),
            (&"py1k-par".into(), &0.into())
        );
        assert!(figure["successes"].as_u64() > Some(0), "{figure}");
    }
    assert!(
        told.contains("\n   0     - pandas [indirect: numpy]"),
        "{told}"
    );
    let log = read(&scratch.path("default-ol/worker.out"));
    let dumps = log.matches("Import Cache Tree:").count();
    // At each start and each end: one without a tree, two copies of it, one.
    assert!(dumps >= 6, "{dumps} dumps in {log}");
}
