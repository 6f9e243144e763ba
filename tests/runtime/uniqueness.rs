//! What a birth leaves out and what it must not: siblings of one zygote make up different numbers,
//! and work as if the interpreter's own hooks had run.

use super::instance::{everywhere, runtime_directory, skip};
use std::path::Path;
use std::process::Command;

/// Forks two children from an interpreter that has used everything that makes up numbers, as a
/// zygote is forked, and prints what each of them makes up. `natively`: tables are filled as native
/// code would fill them, else they are reseeded their own way.
const SIBLINGS: &str = "
import ctypes, multiprocessing.process, os, random, ssl, sys, tempfile, uuid
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
tables = []
def renew(*table):
    tables.append(table)
    return 0
natively = 'natively' in sys.argv
assert uniqueness.prepare(renew if natively else lambda *table: 1) == [random._inst.seed] * natively
assert len(tables) == natively * (1 + ('numpy' in sys.argv))
random.seed(1)
for _ in range(2):
    child = os.fork()
    if not child:
        # A sandbox's first process has the same number in every sandbox.
        os.getpid = lambda: 1
        uniqueness.renew()
        for address, length, index_address, index in tables:
            ctypes.memmove(address, os.urandom(length), length)
            ctypes.c_uint32.from_address(index_address).value = index
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
    everywhere(|python| {
        check(python, &[], 6);
        check(python, &["natively"], 6);
    });
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
            check(python, &["numpy", "natively"], 7);
        }
    });
    if !found {
        skip("no interpreter here can import numpy");
    }
}

/// What native code would write is what `random` goes on from.
const TABLE: &str = "
import ctypes, os, random, sys
sys.path.insert(0, sys.argv[1])
from ol_runtime import uniqueness
random.gauss(0, 1)
told = []
def renew(*table):
    told.append(table)
    return 0
assert uniqueness.prepare(renew) == [random._inst.seed]
(address, length, index_address, index), = told
words = os.urandom(length)
ctypes.memmove(address, words, length)
ctypes.c_uint32.from_address(index_address).value = index
assert random.getstate() == (3, (*memoryview(words).cast('I'), 624), None)
";

#[test]
fn the_table_of_the_standard_library_is_found() {
    everywhere(|python| {
        let output = Command::new(python)
            .args(["-B", "-c", TABLE])
            .arg(runtime_directory())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {error}", python.display());
    });
}

/// A zygote with our hooks; its child does what needs whole locks, and forks once more.
const HOOKS: &str = "
import os, sys
sys.path.insert(0, sys.argv[1])
from ol_runtime import forkhooks
hooks = forkhooks.Hooks()
hooks.take_over()
import asyncio, concurrent.futures, logging, random, threading
told = []
def note(name): return lambda: told.append(name)
os.register_at_fork(before=note('b1'), after_in_parent=note('p1'), after_in_child=note('c1'))
os.register_at_fork(before=note('b2'), after_in_child=note('c2'))
def fail(): raise ValueError('in a hook')
os.register_at_fork(after_in_child=fail)
os.register_at_fork(after_in_child=note('c3'))
for wrong in ({}, {'before': 1}):
    try: os.register_at_fork(**wrong)
    except TypeError as error: print('refused')
random.seed(1)
def work():
    thread = threading.Thread(target=told.append, args=('thread',))
    thread.start()
    thread.join()
    with concurrent.futures.ThreadPoolExecutor() as pool: pool.submit(told.append, 'pool').result()
    async def sleep(): await asyncio.sleep(0); told.append('asyncio')
    asyncio.run(sleep())
    logging.warning('logged')
def child():
    hooks.at_births = False
    forkhooks.settle_main_thread()
    work()
    assert threading.main_thread() is threading.current_thread()
    assert threading.main_thread().native_id == os.getpid()
    assert random.random() != random.Random(1).random()
    print(*told, flush=True)
    told.clear()
    grandchild = os.fork()
    if not grandchild:
        work()
    else:
        assert os.waitpid(grandchild, 0)[1] == 0
    print(*told, flush=True)
    os._exit(0)
sys.stdout.flush()
pid = os.fork()
if not pid:
    try: child()
    finally: os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
print(*told)
";

#[test]
fn fork_hooks_run_at_births_and_at_forks_as_the_interpreter_would_run_them() {
    everywhere(|python| {
        let output = Command::new(python)
            .args(["-B", "-c", HOOKS])
            .arg(runtime_directory())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let text = String::from_utf8(output.stdout).unwrap();
        let expected = "refused\nrefused\n\
             b2 b1 c1 c2 c3 thread pool asyncio\n\
             b2 b1 c1 c2 c3 thread pool asyncio\n\
             b2 b1 p1\n\
             b2 b1 p1\n";
        assert_eq!(text, expected);
        assert_eq!(error.matches("ignored in fork hook").count(), 2, "{error}");
        assert_eq!(error.matches("WARNING:root:logged").count(), 2, "{error}");
    });
}
