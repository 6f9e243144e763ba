//! How a worker ends, and what is left of it.

use crate::on_both;
use crate::rig::{Worker, is_alive, pause, receive, send, worker};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

on_both!(
    a_drain_finishes_what_runs_and_refuses_the_rest,
    nothing_survives_a_killed_worker,
    processes_stand_by_while_first_calls_run,
    a_reload_takes_what_it_can,
    a_reload_reads_the_token_again,
    a_client_that_leaves_is_forgotten,
    the_dump_counts_what_came_from_each_node,
    what_happened_lately_is_written_when_asked_and_replays,
);

const SLEEPER: &str = "import time\ndef f(event):\n    time.sleep(event)\n    return 'slept'\n";

fn a_drain_finishes_what_runs_and_refuses_the_rest(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("sleep", SLEEPER);
    worker.call("sleep", "0");
    let mut running = worker.connect().unwrap();
    send(&mut running, "POST", "/run/sleep", "", b"1.5");
    worker.until("the call runs", |worker| {
        worker.stat("calls_in_flight.now") > 0.0
    });
    worker.signal(Signal::TERM);
    worker.until("it says that it drains", |worker| {
        worker.get("/status").status == 503
    });
    assert_eq!(worker.call("sleep", "0").code(), "draining");
    assert_eq!(receive(&mut running, false).text(), "\"slept\"");
    let (code, log) = worker.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn processes_stand_by_while_first_calls_run(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.until_warm();
    worker.deploy("sleep", SLEEPER);
    let processors = std::thread::available_parallelism().unwrap().get();
    let running: Vec<_> = (0..processors)
        .map(|_| {
            let mut stream = worker.connect().unwrap();
            send(&mut stream, "POST", "/run/sleep", "", b"60");
            stream
        })
        .collect();
    worker.until(
        "as many first calls run as there are processors",
        |worker| worker.stat("calls_in_flight.now") >= processors as f64,
    );
    pause(500);
    let before = worker.stat("standby_starts.cnt");
    // Long before the sleepers' time is over.
    for number in 0..40 {
        let name = format!("quick{number}");
        worker.deploy(&name, "def f(event):\n    return event\n");
        assert_eq!(worker.call(&name, "1").text(), "1");
    }
    // Two may have stood by before the sleepers began.
    let after = worker.stat("standby_starts.cnt");
    assert!(after > before + 2.0, "{before} {after}");
    worker.kill();
    drop(running);
}

fn nothing_survives_a_killed_worker(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    worker.deploy("sleep", SLEEPER);
    worker.call("sleep", "0");
    let mut stream = worker.connect().unwrap();
    send(&mut stream, "POST", "/run/sleep", "", b"50");
    worker.until("a zygote and an instance live", |worker| {
        worker.children().len() >= 2
    });
    let children = worker.children();
    worker.kill();
    worker.until("all of them are gone", |_| {
        children.iter().all(|pid| !is_alive(*pid))
    });
    assert_eq!(mounts(), before);
}

fn a_reload_takes_what_it_can(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    let path = worker.directory.join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let changed = text
        .replace("\nruntime_sec = 30\n", "\nruntime_sec = 1\n")
        .replace("\nid_base = 1879048192\n", "\nid_base = 1610612736\n");
    assert_ne!(changed, text);
    fs::write(&path, changed).unwrap();
    worker.signal(Signal::HUP);
    worker.until("it was read again", |worker| {
        worker.log().contains("configuration read again")
    });
    let log = worker.log();
    assert!(
        log.contains("sandbox.id_base = 1610612736 waits for a restart"),
        "{log}"
    );
    worker.deploy("sleep", SLEEPER);
    assert_eq!(worker.call("sleep", "9").code(), "call-timed-out");
    fs::write(&path, "[limits]\nruntime_secs = 3\n").unwrap();
    worker.signal(Signal::HUP);
    worker.until("the error is told", |worker| {
        worker.log().contains("runtime_secs")
    });
    assert_eq!(worker.call("sleep", "0").text(), "\"slept\"");
}

fn a_reload_reads_the_token_again(back_end: &str) {
    let Some(mut worker) = worker(back_end, &["http.tcp=127.0.0.1:0"]) else {
        return;
    };
    let log = worker.log();
    let (_, rest) = log.split_once("127.0.0.1:").expect("it says where");
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let status = |token: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let request = "GET /pid HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer";
        write!(stream, "{request} {token}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer[9..12].to_owned()
    };
    assert_eq!(status("one"), "401");
    let token = worker.directory.join("token");
    fs::write(&token, "one\n").unwrap();
    let path = worker.directory.join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let line = format!("\nadmin_token_file = {:?}\n", token.display().to_string());
    fs::write(&path, text.replace("\nadmin_token_file = \"\"\n", &line)).unwrap();
    worker.signal(Signal::HUP);
    worker.until("the token is known", |_| status("one") == "200");
    // The same file, another token.
    fs::write(&token, "two\n").unwrap();
    worker.signal(Signal::HUP);
    worker.until("the new token is known", |_| status("two") == "200");
    assert_eq!(status("one"), "401");
    // A file that cannot be read changes nothing, and is named.
    fs::remove_file(&token).unwrap();
    worker.signal(Signal::HUP);
    worker.until("that is told", |worker| {
        worker.log().contains("admin_token_file: ")
    });
    assert_eq!(status("two"), "200");
    // No file, no token, no administration over TCP.
    fs::write(&path, text).unwrap();
    worker.signal(Signal::HUP);
    worker.until("the token is forgotten", |_| status("two") == "401");
}

fn a_client_that_leaves_is_forgotten(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    let settings = "on_hangup = \"kill\"\n";
    worker.put_directory("sleep", &[("f.py", SLEEPER), ("ol.toml", settings)]);
    worker.call("sleep", "0");
    let mut stream = worker.connect().unwrap();
    send(&mut stream, "POST", "/run/sleep", "", b"50");
    worker.until("it runs", |worker| worker.stat("calls_in_flight.now") > 0.0);
    drop(stream);
    worker.until("its call was ended", |worker| {
        worker.stat("calls_in_flight.now") == 0.0
    });
    assert_eq!(worker.call("sleep", "0").text(), "\"slept\"");
}

fn the_dump_counts_what_came_from_each_node(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.until_warm();
    for number in 0..3 {
        worker.deploy(&format!("f{number}"), "def f(event):\n    return 1\n");
        assert_eq!(worker.call(&format!("f{number}"), "").status, 200);
    }
    let (code, log) = worker.stop();
    assert_eq!(code, Some(0));
    let dump = log.rsplit("Import Cache Tree:").next().unwrap();
    assert!(dump.contains("   3 - ROOT"), "{dump}");
}

fn what_happened_lately_is_written_when_asked_and_replays(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("echo", "def f(event):\n    return event\n");
    for _ in 0..3 {
        worker.call("echo", "1");
    }
    worker.signal(Signal::USR2);
    let line = |worker: &mut Worker| {
        let log = worker.log();
        let (_, rest) = log.split_once("ol sim worker --replay ")?;
        Some(rest.split_once(')')?.0.to_owned())
    };
    worker.until("it says where", |worker| line(worker).is_some());
    let path = line(&mut worker).unwrap();
    let mut replay = std::process::Command::new(env!("CARGO_BIN_EXE_ol"));
    let replay = replay.args(["sim", "worker", "--json", "--explain", "--replay", &path]);
    let output = replay.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let relays = text.lines().filter(|line| line.contains("\"Relay\""));
    assert_eq!(relays.count(), 3, "{text}");
}
