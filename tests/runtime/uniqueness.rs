//! Siblings of one zygote make up different numbers.

use super::instance::{everywhere, runtime_directory, skip};
use std::path::Path;
use std::process::Command;

/// Forks two children from an interpreter that has used everything that makes up numbers, as a
/// zygote is forked, and prints what each of them makes up.
const SIBLINGS: &str = "
import multiprocessing.process, os, random, ssl, sys, tempfile, uuid
sys.path.insert(0, sys.argv[1])
from ol_runtime import uniqueness
if 'numpy' in sys.argv:
    import numpy
    numpy.random.seed(1)
def made_up():
    yield random.random()
    yield ssl.RAND_bytes(8).hex()
    yield uuid.uuid4()
    yield uuid.uuid1().hex
    yield next(tempfile._get_candidate_names())
    yield bytes(multiprocessing.process.current_process().authkey).hex()
    if 'numpy' in sys.argv:
        yield numpy.random.rand()
list(made_up())
uniqueness.prepare()
random.seed(1)
for _ in range(2):
    child = os.fork()
    if not child:
        # A sandbox's first process has the same number in every sandbox.
        os.getpid = lambda: 1
        uniqueness.renew()
        print(*made_up(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
";

fn siblings(python: &Path, packages: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new(python)
        .args(["-B", "-c", SIBLINGS])
        .arg(runtime_directory())
        .args(packages)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(error, "");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split(' ').map(str::to_owned).collect())
        .collect()
}

fn check(python: &Path, packages: &[&str], count: usize) {
    let told = siblings(python, packages);
    let [first, second] = &told[..] else {
        panic!("two siblings: {told:?}")
    };
    assert_eq!((first.len(), second.len()), (count, count));
    for (one, other) in first.iter().zip(second) {
        assert_ne!(one, other);
    }
}

#[test]
fn the_standard_library_makes_up_other_numbers_in_each_sibling() {
    everywhere(|python| check(python, &[], 6));
}

#[test]
fn numpy_makes_up_other_numbers_in_each_sibling() {
    let mut found = false;
    everywhere(|python| {
        let import = Command::new(python)
            .args(["-c", "import numpy"])
            .output()
            .unwrap();
        if import.status.success() {
            found = true;
            check(python, &["numpy"], 7);
        }
    });
    if !found {
        skip("no interpreter here can import numpy");
    }
}
