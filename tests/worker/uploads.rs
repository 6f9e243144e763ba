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
    a_long_list_that_nobody_reads_holds_no_call_up,
    uploads_of_one_name_at_once_leave_one_of_them_whole,
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

/// Uploads from several clients at once; the answers.
fn upload_at_once(worker: &Worker, clients: u32, each: u32) {
    let client = |client: u32| {
        let mut stream = worker.connect().unwrap();
        for number in 0..each {
            let path = format!("/registry/up-{client}-{number}");
            let code = format!("def f(e):\n    return [{client}, {number}]\n");
            send(&mut stream, "PUT", &path, "", code.as_bytes());
            let answer = crate::rig::receive(&mut stream, false);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    };
    std::thread::scope(|scope| {
        for number in 0..clients {
            scope.spawn(move || client(number));
        }
    });
}

fn functions_known(worker: &Worker) -> u64 {
    let status = worker.ask("GET", "/status", "Accept: application/json\r\n", b"");
    status.json()["counts"]["functions"].as_u64().unwrap()
}

/// Functions put there by hand, each of which answers its number.
fn put_by_hand(worker: &Worker, functions: u32) {
    let registry = worker.directory.join("registry");
    for number in 0..functions {
        let content = format!("def f(event):\n    return {number}\n");
        fs::write(registry.join(format!("many-{number}.py")), content).unwrap();
    }
}

fn thousands_of_functions_are_listed_and_cost_nothing_until_called(back_end: &str) {
    const FUNCTIONS: u32 = 8_000;
    const CLIENTS: u32 = 8;
    const EACH: u32 = 250;
    /// Of the worker, for each name that nobody has called.
    const BYTES_MAX: u64 = 400;
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    // What all uploads and lists need is there before anything is counted.
    for number in 0..20 {
        worker.deploy(&format!("warm-{number}"), &code(0));
        assert_eq!(worker.get("/registry").status, 200);
    }
    let before = resident(worker.pid());
    put_by_hand(&worker, FUNCTIONS);
    upload_at_once(&worker, CLIENTS, EACH);
    let all = FUNCTIONS + CLIENTS * EACH + 20;
    let listed = worker.get("/registry").json();
    let rows = listed["functions"].as_array().unwrap();
    assert_eq!(rows.len() as u32, all);
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted());
    let versions = rows.iter().filter(|row| row["version"] == 1).count() as u32;
    assert_eq!(
        versions,
        CLIENTS * EACH + 20,
        "uploads are kept in versions"
    );
    assert_eq!(functions_known(&worker), 0, "nobody was called");
    let grown = resident(worker.pid()).saturating_sub(before);
    assert!(grown < u64::from(all) * BYTES_MAX, "{grown} bytes more");
    for number in [0, 4_999, FUNCTIONS - 1] {
        let answer = worker.call(&format!("many-{number}"), "");
        assert_eq!(answer.text(), number.to_string());
    }
    for client in 0..CLIENTS {
        let answer = worker.call(&format!("up-{client}-{}", EACH - 1), "");
        assert_eq!(answer.json(), serde_json::json!([client, EACH - 1]));
    }
    for number in 0..200 {
        let answer = worker.call(&format!("nobody-{number}"), "");
        assert_eq!(answer.code(), "no-such-function");
    }
    assert_eq!(functions_known(&worker), 3 + u64::from(CLIENTS));
    assert!(!Path::new(&worker.directory.join("logs/nobody-1.log")).exists());
}

fn a_long_list_that_nobody_reads_holds_no_call_up(back_end: &str) {
    const FUNCTIONS: u32 = 10_000;
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    put_by_hand(&worker, FUNCTIONS);
    worker.deploy("x", &code(7));
    let mut readers: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = worker.connect().unwrap();
            send(&mut stream, "GET", "/registry", "", b"");
            stream
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(worker.call("x", "").text(), "7");
    }
    for stream in &mut readers {
        let listed = crate::rig::receive(stream, false).json();
        let rows = listed["functions"].as_array().unwrap().len() as u32;
        assert_eq!(rows, FUNCTIONS + 1);
    }
    let head = worker.ask("HEAD", "/registry", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

/// The same as a zip.
fn zipped(code: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.start_file("f.py", options).unwrap();
    writer.write_all(code.as_bytes()).unwrap();
    writer.finish().unwrap().into_inner()
}

fn uploads_of_one_name_at_once_leave_one_of_them_whole(back_end: &str) {
    const CLIENTS: u32 = 6;
    const EACH: u32 = 12;
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("x", &code(0));
    assert_eq!(worker.call("x", "").text(), "0");
    let client = |client: u32| {
        let mut newest = (0, 0);
        for round in 0..EACH {
            let number = 1 + client * EACH + round;
            // Half of them under another name of a file.
            let body = match number % 2 {
                0 => code(number).into_bytes(),
                _ => zipped(&code(number)),
            };
            let answer = worker.ask("PUT", "/registry/x", "", &body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let version = answer.json()["version"].as_u64().unwrap();
            assert!(version > newest.0, "{version} after {newest:?}");
            newest = (version, number);
            // Whatever it is, it is one of them to its end.
            let answer = worker.call("x", "");
            let number: u32 = answer.text().parse().unwrap();
            assert!(number <= CLIENTS * EACH, "{number}");
        }
        newest
    };
    let (version, number) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        let newest = clients.into_iter().map(|client| client.join().unwrap());
        newest.max().unwrap()
    });
    assert_eq!(
        version,
        u64::from(CLIENTS * EACH) + 1,
        "each had one of its own"
    );
    let wanted = number.to_string();
    assert_eq!(worker.call("x", "").text(), wanted);
    let entries = fs::read_dir(worker.directory.join("registry")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let entries: Vec<String> = names.filter(|name| name.starts_with('x')).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(on_the_way(&worker), 0);
    worker.kill();
    worker.start_again();
    assert_eq!(worker.call("x", "").text(), wanted);
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
