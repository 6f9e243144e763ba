//! Uploads that are interrupted, and many of them.

use crate::on_both;
use crate::rig::{Worker, send, worker};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

on_both!(
    a_killed_worker_leaves_each_upload_wholly_old_or_new,
    thousands_of_functions_are_listed_and_cost_nothing_until_called,
    a_function_is_updated_under_load_without_a_failed_or_old_answer,
);

fn code(version: u32) -> String {
    // Long enough that a write of it can be interrupted, and says itself whether it is whole.
    let filling = format!("# {version}\n").repeat(3000);
    format!("def f(event):\n    return END\n{filling}END = {version}\n")
}

/// Files of the registry that nobody would find: nothing may be left on the way.
fn on_the_way(worker: &Worker) -> usize {
    fs::read_dir(worker.directory.join("registry/~incoming")).map_or(0, Iterator::count)
}

fn a_killed_worker_leaves_each_upload_wholly_old_or_new(back_end: &str) {
    const FUNCTIONS: u32 = 100;
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    for round in 0..3 {
        let (old, new) = (round, round + 1);
        for number in 0..FUNCTIONS {
            if round == 0 {
                worker.deploy(&format!("f{number}"), &code(old));
            }
        }
        // Several clients upload at once, and the worker dies in the middle of it.
        let acknowledged = std::thread::scope(|scope| {
            let shared = &worker;
            let upload = move |part: u32| {
                let mut done = Vec::new();
                for number in (0..FUNCTIONS).filter(|number| number % 4 == part) {
                    let Ok(mut stream) = shared.connect() else {
                        break;
                    };
                    let body = code(new);
                    let head = format!(
                        "PUT /registry/f{number} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                        body.len()
                    );
                    let sent = stream.write_all(head.as_bytes());
                    if sent
                        .and_then(|()| stream.write_all(body.as_bytes()))
                        .is_err()
                    {
                        break;
                    }
                    let mut answer = [0; 12];
                    match stream.read_exact(&mut answer) {
                        Ok(()) if answer.ends_with(b"200") => done.push(number),
                        _ => break,
                    }
                }
                done
            };
            let uploads: Vec<_> = (0..4)
                .map(|part| scope.spawn(move || upload(part)))
                .collect();
            let begin = olworker::sys::clock::now();
            let after = Duration::from_millis(40 + 60 * u64::from(round));
            while olworker::sys::clock::now().since(begin) < after {
                std::thread::yield_now();
            }
            worker.signal(rustix::process::Signal::KILL);
            uploads
                .into_iter()
                .flat_map(|upload| upload.join().unwrap())
                .collect::<Vec<_>>()
        });
        worker.wait();
        worker.start_again();
        assert_eq!(on_the_way(&worker), 0);
        for number in 0..FUNCTIONS {
            let answer = worker.call(&format!("f{number}"), "").text().to_owned();
            let is_new = answer == new.to_string();
            assert!(is_new || answer == old.to_string(), "f{number}: {answer}");
            assert!(
                is_new || !acknowledged.contains(&number),
                "f{number}: was acknowledged"
            );
            if !is_new {
                worker.deploy(&format!("f{number}"), &code(new));
            }
        }
    }
}

/// Resident memory of a process, in bytes.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .unwrap()
        * 1024
}

fn thousands_of_functions_are_listed_and_cost_nothing_until_called(back_end: &str) {
    const FUNCTIONS: u32 = 10_000;
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let registry = worker.directory.join("registry");
    worker.deploy("warm", &code(0));
    assert_eq!(worker.get("/registry").status, 200);
    let before = resident(worker.pid());
    let name = |number: u32| format!("many-{number}");
    for number in 0..FUNCTIONS {
        let content = format!("def f(event):\n    return {number}\n");
        fs::write(registry.join(format!("{}.py", name(number))), content).unwrap();
    }
    let mut stream = worker.connect().unwrap();
    for number in 0..500 {
        send(
            &mut stream,
            "PUT",
            &format!("/registry/up-{number}"),
            "",
            b"def f(e):\n    return 1\n",
        );
        let answer = crate::rig::receive(&mut stream, false);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let listed = worker.get("/registry").json();
    assert_eq!(
        listed["functions"].as_array().unwrap().len() as u32,
        FUNCTIONS + 501
    );
    let status = worker
        .ask("GET", "/status", "Accept: application/json\r\n", b"")
        .json();
    assert_eq!(status["counts"]["functions"], 0, "nobody was called");
    let grown = resident(worker.pid()).saturating_sub(before);
    // The listing itself, as it was made and sent, and what an allocator keeps of it.
    assert!(grown < 64 << 20, "{grown} bytes more");
    for number in [0, 4_999, FUNCTIONS - 1] {
        assert_eq!(worker.call(&name(number), "").text(), number.to_string());
    }
    for number in 0..200 {
        assert_eq!(
            worker.call(&format!("nobody-{number}"), "").code(),
            "no-such-function"
        );
    }
    let status = worker
        .ask("GET", "/status", "Accept: application/json\r\n", b"")
        .json();
    assert_eq!(status["counts"]["functions"], 3);
    assert!(!Path::new(&worker.directory.join("logs/nobody-1.log")).exists());
}

fn a_function_is_updated_under_load_without_a_failed_or_old_answer(back_end: &str) {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let code = |version: u32| format!("def f(event):\n    return {version}\n");
    worker.deploy("x", &code(0));
    let (newest, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let client = || {
            let mut stream = worker.connect().unwrap();
            let mut calls = 0;
            while !is_over.load(Ordering::SeqCst) {
                // Acknowledged before this call was sent.
                let least = newest.load(Ordering::SeqCst);
                send(&mut stream, "POST", "/run/x", "", b"");
                let answer = crate::rig::receive(&mut stream, false);
                assert_eq!(answer.status, 200, "{}", answer.text());
                let version: u32 = answer.text().parse().unwrap();
                assert!(version >= least, "{version} after {least} was acknowledged");
                calls += 1;
            }
            calls
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        for version in 1..=60 {
            worker.deploy("x", &code(version));
            newest.store(version, Ordering::SeqCst);
        }
        is_over.store(true, Ordering::SeqCst);
        let calls: u32 = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum();
        assert!(calls > 60, "{calls} calls went on beside the uploads");
    });
}
