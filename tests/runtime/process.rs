//! What a function may do to its process, and what the worker learns of it.

use super::instance::{Instance, Request, everywhere, runtime_directory, signal_of};
use olworker::wire::seen::Phase;
use olworker::wire::{After, FailureCode};
use serde_json::Value;

#[test]
fn what_is_printed_goes_to_the_log_and_nowhere_else() {
    const CODE: &str = "
import os, sys
print('importing', end='')
def f(event):
    print('a line')
    print('no end of line', end='')
    sys.stderr.write('to stderr\\n')
    os.write(1, b'raw\\n')
    return 1
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(instance.post("").ok(), "1");
        assert_eq!(instance.post("").ok(), "1");
        let log = instance.log();
        // The second answer comes after the flush of the first call.
        assert!(
            log.starts_with("importinga line\nto stderr\nraw\nno end of line"),
            "{log}"
        );
    });
}

#[test]
fn streams_a_function_breaks_stay_its_own_affair() {
    const CODE: &str = "
import sys
def f(event):
    if event == 'close': sys.stdout.close(); sys.stderr.close()
    if event == 'none': sys.stdout = sys.stderr = None
    if event == 'raise': raise ValueError('unseen')
    return 1
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(instance.post("\"close\"").ok(), "1");
        assert_eq!(
            instance.post("\"raise\"").failed().detail,
            "ValueError: unseen"
        );
        assert_eq!(instance.post("\"none\"").ok(), "1");
        assert_eq!(
            instance.post("\"raise\"").failed().detail,
            "ValueError: unseen"
        );
        assert_eq!(instance.post("1").ok(), "1");
    });
}

#[test]
fn an_exit_is_a_death_and_the_page_tells_who_caused_it() {
    const CODE: &str = "
import os
def f(event):
    if event: os._exit(event)
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(instance.post("0").ok(), "null");
        let seen = instance.seen();
        assert_eq!((seen.calls, seen.phase), (1, Phase::Serving));
        assert!(seen.since_ns > 0);
        instance.send(
            Request {
                body: b"7",
                ..Request::default()
            },
            true,
        );
        assert_eq!(instance.death().code(), Some(7));
        assert!(instance.seen().met(2));
        assert!(instance.seen().since_ns > seen.since_ns);
    });
}

#[test]
fn a_crash_is_a_death() {
    const CODE: &str = "
import ctypes
def f(event):
    ctypes.string_at(0)
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        instance.send(Request::default(), true);
        assert_eq!(signal_of(instance.death()), Some(11));
        let log = instance.log();
        assert!(
            log.contains("Segmentation fault") && log.contains("line 4 in f"),
            "{log}"
        );
        assert!(instance.seen().met(1));
    });
}

#[test]
fn a_child_that_comes_back_into_the_runtime_ends_quietly() {
    const CODE: &str = "
import os, sys
child = 0
def f(event):
    global child
    if event == 'wait':
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if event == 'many':
        from multiprocessing.context import ForkProcess
        workers = [ForkProcess(target=os.getpid) for _ in range(3)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        return [worker.exitcode for worker in workers]
    child = os.fork()
    if not child and event == 'exit': sys.exit(9)
    if not child and event == 'raise': raise ValueError
    return 'parent' if child else 'child'
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        for (event, status) in [("return", "0"), ("exit", "9"), ("raise", "0")] {
            assert_eq!(instance.post(&format!("\"{event}\"")).ok(), "\"parent\"");
            assert_eq!(instance.post("\"wait\"").ok(), status, "{event}");
        }
        assert_eq!(instance.post("\"many\"").ok(), "[0, 0, 0]");
        assert_eq!(instance.post("\"return\"").ok(), "\"parent\"");
    });
}

#[test]
fn threads_left_behind_do_not_hold_anything_up() {
    const CODE: &str = "
import threading
def wait(): threading.Event().wait()
def f(event):
    threading.Thread(target=wait, daemon=bool(event)).start()
    return threading.active_count()
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(instance.post("1").ok(), "2");
        assert_eq!(instance.post("0").ok(), "3");
        assert_eq!(instance.hang_up().code(), Some(0));
    });
}

#[test]
fn closed_descriptors_harm_only_their_owner() {
    const CODE: &str = "
import os
def f(event):
    os.closerange(3, event)
    return 1
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(
            instance.post("50").ok(),
            "1",
            "the small numbers are free to close"
        );
        instance.send(
            Request {
                body: b"4096",
                ..Request::default()
            },
            true,
        );
        assert_eq!(instance.death().code(), Some(70));
        assert!(
            instance
                .log()
                .contains("the connection to the worker is lost")
        );
    });
}

#[test]
fn programs_started_by_a_function_do_not_inherit_the_connection() {
    const CODE: &str = "
import os, subprocess, sys
LINKS = '[os.readlink(\"/proc/self/fd/%s\" % fd) for fd in os.listdir(\"/proc/self/fd\")[:-1]]'
def f(event):
    command = [sys.executable, '-I', '-S', '-c', 'import os; print(' + LINKS + ')']
    told = subprocess.run(command, close_fds=False, stdout=subprocess.PIPE).stdout.decode()
    ours = os.readlink('/proc/self/fd/60')
    return [ours.startswith('socket:'), ours in told]
";
    everywhere(|python| {
        assert_eq!(Instance::of(python, CODE).post("").ok(), "[true, false]");
    });
}

#[test]
fn signals_between_calls_do_not_end_the_instance() {
    const CODE: &str = "
import signal
def alarm(*_): raise TimeoutError('too late')
def f(event):
    if event == 'block': signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))
    if event == 'alarm':
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return 1
";
    everywhere(|python| {
        let mut instance = Instance::of(python, CODE);
        assert_eq!(instance.post("\"alarm\"").ok(), "1");
        for signal in [rustix::process::Signal::ALARM, rustix::process::Signal::INT] {
            instance.wait_until_asleep();
            instance.signal(signal);
            assert_eq!(instance.post("1").ok(), "1");
        }
        assert!(
            instance
                .log()
                .contains("between two calls: TimeoutError: too late")
        );
        assert_eq!(instance.post("\"block\"").ok(), "1");
        assert_eq!(instance.post("1").ok(), "1");
    });
}

#[test]
fn code_that_cannot_be_imported_fails_every_call_the_same_way() {
    everywhere(|python| {
        for (code, detail) in [
            ("def f(event:\n", "SyntaxError: "),
            (
                "import nothing_of_this_name",
                "ModuleNotFoundError: No module named 'nothing_of",
            ),
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("import sys; sys.exit('not here')", "SystemExit: not here"),
            ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ] {
            let mut instance = Instance::of(python, code);
            let answer = instance.post("");
            let failed = answer.failed();
            assert_eq!(failed.code, FailureCode::ImportFailed, "{failed:?}");
            assert!(failed.detail.starts_with(detail), "{failed:?}");
            assert!(failed.traceback.contains("f.py\", line 1"), "{failed:?}");
            assert!(
                !failed.traceback.contains("ol_runtime"),
                "{}",
                failed.traceback
            );
            assert!(failed.tainted);
            assert_eq!(&instance.post("1"), &answer);
            assert_eq!(instance.seen().calls, 0);
        }
    });
}

#[test]
fn a_function_without_an_entry_says_what_was_looked_for() {
    everywhere(|python| {
        let refused = |files: &[(&str, &str)], settings: &[(&str, &str)]| {
            let answer = Instance::start(python, files, settings).post("");
            assert_eq!(answer.failed().code, FailureCode::EntryMissing);
            answer.failed().detail.clone()
        };
        let nothing = refused(&[("other.py", "")], &[]);
        assert!(
            nothing.contains("f.py") && nothing.contains("OL_ENTRY_FILE"),
            "{nothing}"
        );
        let no_f = refused(&[("f.py", "g = 1")], &[]);
        assert_eq!(no_f, "f.py defines neither f(event) nor app");
        let no_file = refused(&[("f.py", "")], &[("OL_ENTRY_FILE", "g.py")]);
        assert!(no_file.contains("g.py"), "{no_file}");
        let no_app = refused(&[("f.py", "x = 1")], &[("OL_WSGI_ENTRY", "web")]);
        assert!(no_app.contains("defines no web"), "{no_app}");
        let no_module_file = refused(&[("f.py", "")], &[("OL_ASGI_ENTRY", "web.py:app")]);
        assert!(
            no_module_file.contains("no file web.py"),
            "{no_module_file}"
        );
    });
}

#[test]
fn settings_name_the_entry() {
    const WSGI: &str = "
def web(environ, start_response):
    start_response('200 OK', [])
    return [b'wsgi']
class site: app = web
";
    const ASGI: &str = "
class Web:
    async def __call__(self, scope, receive, send):
        assert scope['type'] == 'http'
        await send({'type': 'http.response.start', 'status': 200})
        await send({'type': 'http.response.body', 'body': b'asgi'})
web = app = Web()
";
    everywhere(|python| {
        let files = [
            ("f.py", "def f(event): return 'f'"),
            (
                "code/entry.py",
                "import near\ndef f(event): return near.__name__",
            ),
            ("code/near.py", ""),
            ("w.py", WSGI),
            ("a.py", ASGI),
            ("package/__init__.py", "from .inner import web as app"),
            ("package/inner.py", WSGI),
            ("with-hyphen.py", "def f(event): return __name__"),
        ];
        for (settings, body) in [
            (&[][..], "\"f\""),
            (&[("OL_ENTRY_FILE", "code/entry.py")], "\"near\""),
            (&[("OL_ENTRY_FILE", "with-hyphen.py")], "\"with-hyphen\""),
            (&[("OL_WSGI_ENTRY", "w:web")], "wsgi"),
            (&[("OL_WSGI_ENTRY", "w.web")], "wsgi"),
            (&[("OL_WSGI_ENTRY", "w.py:site.app")], "wsgi"),
            (
                &[("OL_ENTRY_FILE", "w.py"), ("OL_WSGI_ENTRY", "web")],
                "wsgi",
            ),
            (
                &[("OL_ENTRY_FILE", "w.py"), ("OL_WSGI_ENTRY", "site.app")],
                "wsgi",
            ),
            (&[("OL_WSGI_ENTRY", "package.inner:web")], "wsgi"),
            (&[("OL_WSGI_ENTRY", "package")], "wsgi"),
            (&[("OL_ASGI_ENTRY", "a:web")], "asgi"),
            (&[("OL_ASGI_ENTRY", "a.py")], "asgi"),
            (&[("OL_ENTRY_FILE", "a.py")], "asgi"),
        ] {
            let mut instance = Instance::start(python, &files, settings);
            assert_eq!(instance.get("").ok(), body, "{settings:?}");
        }
    });
}

#[test]
fn a_function_sees_its_own_code_its_packages_and_the_standard_library() {
    const CODE: &str = "
import sys, os, pickle
def f(event):
    import one, two
    main = sys.modules['__main__']
    return {
        'packages': [one.origin, two.origin],
        'path': sys.path, 'argv': sys.argv, 'file': __file__, 'name': __name__,
        'main': [main.__name__, hasattr(main, '__file__'), hasattr(main, 'main')],
        'pickle': pickle.loads(pickle.dumps(f)) is f,
        'foreign': [p for p in sys.path if 'site-packages' in p or 'dist-packages' in p],
        'stdin': sys.stdin.read(), 'exit': callable(exit),
        'environment': sorted(os.environ),
    }
";
    everywhere(|python| {
        let packages = super::instance::Scratch::new();
        packages.write("a/one.py", "origin = 'a'");
        packages.write("b/one.py", "origin = 'b'");
        packages.write("b/two.py", "origin = 'b'");
        let (a, b) = (packages.path.join("a"), packages.path.join("b"));
        let path = format!("{}:{}", a.display(), b.display());
        let settings = [("OL_PACKAGES", &*path), ("MINE", "1")];
        let mut instance = Instance::start(python, &[("f.py", CODE)], &settings);
        let told: Value = serde_json::from_str(instance.post("").ok()).unwrap();
        let handler = instance.scratch.path.join("handler");
        let file = handler.join("f.py");
        assert_eq!(told["packages"], serde_json::json!(["a", "b"]));
        assert_eq!(told["path"][0], handler.to_str().unwrap());
        assert_eq!(told["path"][1], a.to_str().unwrap());
        assert_eq!(told["foreign"], serde_json::json!([]));
        assert!(
            !told["path"]
                .to_string()
                .contains(runtime_directory().to_str().unwrap())
        );
        assert_eq!(told["argv"], serde_json::json!([file]));
        assert_eq!(told["file"], file.to_str().unwrap());
        assert_eq!(told["name"], "f");
        assert_eq!(told["main"], serde_json::json!(["__main__", false, false]));
        assert_eq!(told["pickle"], true);
        assert_eq!(told["stdin"], "");
        assert_eq!(told["exit"], true);
        assert!(told["environment"].to_string().contains("MINE"));
    });
}

#[test]
fn multiprocessing_by_spawn_finds_the_function() {
    const CODE: &str = "
import multiprocessing
def child(pipe): pipe.send(__name__)
def f(event):
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs,))
    process.start()
    answer = ours.recv()
    process.join()
    return [answer, process.exitcode]
";
    everywhere(|python| {
        assert_eq!(Instance::of(python, CODE).post("").ok(), "[\"f\", 0]");
    });
}

#[test]
fn the_end_of_the_connection_is_the_end_of_the_instance() {
    everywhere(|python| {
        let mut idle = Instance::of(python, "def f(event): return 1");
        let answer = idle.post("");
        assert_eq!(answer.end, Some(After::Keep));
        assert_eq!(idle.hang_up().code(), Some(0));
        assert_eq!(idle.log(), "");
        let mut refusing = Instance::of(python, "raise ValueError");
        refusing.post("");
        assert_eq!(refusing.hang_up().code(), Some(0));
        let mut writing = Instance::of(python, "def f(event):\n    while True: yield b'x' * 65536");
        writing.send(Request::default(), true);
        writing.hear();
        assert_eq!(writing.hang_up().code(), Some(70));
    });
}
