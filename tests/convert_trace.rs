//! `scripts/convert-trace`: pickled traces become JSON, and a pickle is never run as a program.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Makes the pickles: records of a class that the script has not, and one that asks for `system`.
const MAKE: &str = r#"
import os, pickle, sys, types
module = types.ModuleType("LambdaData")
sys.modules["LambdaData"] = module
class LambdaData:
    def __init__(self, kind, mem_size, run_time, warm_time):
        self.kind, self.mem_size = kind, mem_size
        self.run_time, self.warm_time = run_time, warm_time
LambdaData.__module__ = "LambdaData"
module.LambdaData = LambdaData
class Evil:
    def __reduce__(self):
        return os.system, ("touch " + sys.argv[1] + "/run",)
a, b = LambdaData("a", 10, 20, 5), LambdaData("b", 1.5, 2, 2)
def dump(name, what, protocol):
    with open(sys.argv[1] + "/" + name, "wb") as file:
        pickle.dump(what, file, protocol=protocol)
for protocol in (0, 2, 4):
    dump("good%d" % protocol, ([a, b], [(b, 1), (a, 2.5)]), protocol)
dump("evil", ([a], [(Evil(), 1)]), 2)
dump("nan", ([a], [(a, float("nan"))]), 2)
dump("shape", [1], 2)
"#;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn convert(pickle: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/convert-trace");
    Command::new("python3")
        .arg(script)
        .arg(pickle)
        .output()
        .unwrap()
}

#[test]
fn pickles_become_json_and_are_not_run() {
    let folder = std::env::temp_dir().join(format!("ol-convert-{}", std::process::id()));
    let folder = Scratch(folder);
    std::fs::create_dir(&folder.0).unwrap();
    match Command::new("python3")
        .arg("-c")
        .arg(MAKE)
        .arg(&folder.0)
        .status()
    {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            eprintln!("SKIP: python3 cannot be run: {error}");
            return;
        }
    }
    let wanted = r#"{"functions":[["a",10,20,5],["b",1.5,2,2]],"events":[[1,1],[2.5,0]]}"#;
    for name in ["good0", "good2", "good4"] {
        let output = convert(&folder.0.join(name));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), wanted);
    }
    for (name, why) in [
        ("evil", "asks for"),
        ("nan", "is no number"),
        ("shape", "is no pair"),
        ("no", "No such"),
    ] {
        let output = convert(&folder.0.join(name));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
    assert!(!folder.0.join("run").exists());
}
