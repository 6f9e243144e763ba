//! Functions that misbehave: the caller gets the right code, the next call works, nobody else
//! notices.

use crate::on_both;
use crate::rig::{Answer, Worker, worker};

on_both!(
    what_python_raises_is_told,
    code_that_cannot_be_imported_is_told,
    deaths_are_told_with_their_cause,
    long_calls_are_ended,
    floods_and_leftovers_harm_nobody,
    limits_of_a_function_are_its_own,
    too_much_memory_ends_a_sandbox,
    unknown_names_leave_nothing,
);

/// A function that does this when it is told to be bad.
fn when_bad(statements: &str) -> String {
    let lines: Vec<String> = statements
        .split("; ")
        .map(|line| format!("        {line}\n"))
        .collect();
    format!(
        "def f(event):\n    if event == 'bad':\n{}    return 'fine'\n",
        lines.concat()
    )
}

const IMPORTS: &str = "import os, sys, signal, threading, time\n";

fn expect(answer: &Answer, status: u16, code: &str, detail: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (status, code),
        "{}",
        answer.text()
    );
    let told = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(told.contains(detail), "{told}");
}

/// Deploys `code` with a neighbour, calls it, and sees that both can be called afterwards.
fn misbehave(worker: &Worker, name: &str, code: &str) -> Answer {
    worker.deploy("neighbour", "def f(event):\n    return 'well'\n");
    worker.deploy(name, &format!("{IMPORTS}{code}"));
    let answer = worker.call(name, "\"bad\"");
    assert_eq!(worker.call("neighbour", "").text(), "\"well\"");
    assert_eq!(worker.call(name, "\"good\"").text(), "\"fine\"", "{name}");
    answer
}

fn what_python_raises_is_told(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    for (name, statement, detail) in [
        ("value", "raise ValueError('odd')", "ValueError: odd"),
        ("exit", "sys.exit(3)", "SystemExit"),
        ("interrupt", "raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("set", "return {1, 2}", "JSON"),
        (
            "recursion",
            "g = lambda: g()\n        g()",
            "RecursionError",
        ),
    ] {
        let code = when_bad(statement);
        let answer = misbehave(&worker, name, &code);
        expect(&answer, 500, "function-error", detail);
        assert!(answer.field("x-ol-call-id").is_some());
    }
    let answer = misbehave(
        &worker,
        "trace",
        &format!(
            "def g():
    raise ValueError('deep')
{}",
            when_bad("g()")
        ),
    );
    let trace = answer.json()["traceback"].as_str().unwrap().to_owned();
    assert!(
        trace.contains("in g") && !trace.contains("ol_runtime"),
        "{trace}"
    );
}

fn code_that_cannot_be_imported_is_told(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    for (name, code, detail) in [
        ("syntax", "def f(event:\n    pass\n", "SyntaxError"),
        (
            "missing",
            "import nothing_of_this_name\n",
            "nothing_of_this_name",
        ),
        ("empty", "x = 1\n", "f"),
        ("raises", "1 / 0\n", "ZeroDivisionError"),
    ] {
        worker.deploy(name, code);
        for _ in 0..2 {
            expect(&worker.call(name, ""), 500, "import-failed", detail);
        }
        worker.deploy(name, "def f(event):\n    return 'mended'\n");
        assert_eq!(worker.call(name, "").text(), "\"mended\"");
    }
}

fn deaths_are_told_with_their_cause(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    for (name, statement, detail) in [
        ("exits", "os._exit(3)", "exited with code 3"),
        ("kills", "os.kill(os.getpid(), signal.SIGKILL)", ""),
        ("closes", "os.closerange(3, 100)", ""),
        ("segfault", "import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ] {
        let code = when_bad(&format!("{statement}; time.sleep(0.2); os._exit(9)"));
        expect(
            &misbehave(&worker, name, &code),
            502,
            "sandbox-died",
            detail,
        );
    }
}

fn long_calls_are_ended(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let bad = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(99)";
    let code = format!("{IMPORTS}{}", when_bad(bad));
    worker.put_directory(
        "long",
        &[("f.py", &code), ("ol.toml", "[limits]\nruntime_sec = 1\n")],
    );
    // Cold, then warm.
    for _ in 0..2 {
        expect(
            &worker.call("long", "\"bad\""),
            504,
            "call-timed-out",
            "runtime_sec",
        );
        assert_eq!(worker.call("long", "\"good\"").text(), "\"fine\"");
    }
}

fn floods_and_leftovers_harm_nobody(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    for (name, statement) in [
        ("prints", "print('x' * 100, end='\\n' * 30000)"),
        (
            "threads",
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        ),
        ("children", "os.fork() or time.sleep(60)"),
        (
            "blocks",
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))",
        ),
        ("writes", "open('/tmp/x', 'wb').write(b'x' * 1000000)"),
    ] {
        let code = when_bad(statement);
        let answer = misbehave(&worker, name, &code);
        assert_eq!(answer.text(), "\"fine\"", "{name}");
    }
}

fn limits_of_a_function_are_its_own(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("neighbour", "def f(event):\n    return 'well'\n");
    let code = "import time\ndef f(event):\n    time.sleep(1.5)\n    return 1\n";
    let settings = "[limits]\nmax_instances = 1\nqueue = 0\n";
    worker.put_directory("narrow", &[("f.py", code), ("ol.toml", settings)]);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| worker.call("narrow", "")))
            .collect();
        assert_eq!(worker.call("neighbour", "").text(), "\"well\"");
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let busy: Vec<&Answer> = answers
        .iter()
        .filter(|answer| answer.status != 200)
        .collect();
    assert_eq!(busy.len(), 2, "one of three has a place: {answers:?}");
    expect(busy[0], 429, "too-many-calls", "queue");
    assert!(busy[0].field("retry-after").is_some());
    let other = [
        ("f.py", code),
        ("ol.toml", "[[triggers.http]]\nmethod = \"GET\"\n"),
    ];
    worker.put_directory("gets", &other);
    let refused = worker.call("gets", "");
    expect(&refused, 405, "method-not-allowed", "");
    assert_eq!(refused.field("allow"), Some("GET"));
}

fn too_much_memory_ends_a_sandbox(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let bad = "x = bytearray(200_000_000); x[::4096] = b'1' * len(x[::4096]); time.sleep(20)";
    let code = format!("{IMPORTS}{}", when_bad(bad));
    worker.put_directory(
        "eats",
        &[("f.py", &code), ("ol.toml", "[limits]\nmem_mb = 64\n")],
    );
    for _ in 0..2 {
        expect(&worker.call("eats", "\"bad\""), 502, "sandbox-died", "OOM");
        assert_eq!(worker.call("eats", "\"good\"").text(), "\"fine\"");
    }
}

fn unknown_names_leave_nothing(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    for number in 0..200 {
        let answer = worker.call(&format!("nobody-{number}"), "");
        expect(&answer, 404, "no-such-function", "");
    }
    assert!(worker.stat("functions.now") == 0.0);
}
