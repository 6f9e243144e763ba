//! How sandboxes end, and that nothing of them stays.

use crate::rig::{LIMITS, Outcome, next_event, rig, until, wait_for};
use olworker::host::cgroup::{Forest, Limits};
use olworker::host::death::Cause;
use olworker::host::zygote::ZygoteEvent;
use rustix::event::{PollFlags, Timespec, poll};
use rustix::fd::AsFd as _;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn causes_are_told_apart() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    for (code, cause) in [
        ("import os\ndef f(event): os._exit(3)", Cause::Exit(3)),
        (
            "import ctypes\ndef f(event): ctypes.string_at(0)",
            Cause::Signal(libc::SIGSEGV),
        ),
        (
            "import sys\ndef g(x): return sorted([1], key=g)\n\
             def f(event): sys.setrecursionlimit(1 << 30); return g(1)",
            Cause::Signal(libc::SIGSEGV),
        ),
    ] {
        let forked = rig.fork(&mut zygote, code);
        let fresh = rig.fresh(code);
        for mut running in [forked, fresh] {
            assert_eq!(running.call("0"), Outcome::HungUp, "{code}");
            assert!(running.instance.seen().met(1));
            assert_eq!(rig.await_end(running), cause, "{code}");
        }
    }
    let idle = rig.fork(&mut zygote, "def f(event): return 1");
    assert_eq!(rig.end(idle), Cause::Signal(libc::SIGKILL));
    assert_eq!(rig.end_zygote(zygote), Cause::Signal(libc::SIGKILL));
}

#[test]
fn one_that_never_saw_a_call_can_be_told() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let mut running = rig.fork(&mut zygote, "import os\nos._exit(9)");
    running.send("0");
    assert_eq!(running.receive(), Outcome::HungUp);
    assert!(!running.instance.seen().met(1));
    assert_eq!(rig.await_end(running), Cause::Exit(9));
    rig.end_zygote(zygote);
}

#[test]
fn a_sandbox_takes_all_its_processes_along() {
    const CODE: &str = "
import os, time
def f(event):
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            time.sleep(1000)
    return 1
";
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let mut running = rig.fork(&mut zygote, CODE);
    assert_eq!(running.call("0"), Outcome::Answer("1".into()));
    assert!(running.instance.group().pids().unwrap().len() >= 6);
    let pids = running.instance.group().pids().unwrap();
    rig.end(running);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives");
    }
    rig.end_zygote(zygote);
}

#[test]
fn a_frozen_one_can_be_killed_and_its_slot_used_again() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    // More instances than slots are spare, one after the other: slots come again.
    for _ in 0..12 {
        let mut running = rig.fork(&mut zygote, "def f(event): return 1");
        assert_eq!(running.call("0"), Outcome::Answer("1".into()));
        let events = running.instance.group().events().unwrap();
        running.instance.group().freeze().unwrap();
        while !running.instance.group().state().unwrap().frozen {
            wait_for(events.as_fd(), PollFlags::PRI);
        }
        assert_eq!(rig.end(running), Cause::Signal(libc::SIGKILL));
        while rig.sandboxes.refill().unwrap() {}
    }
    let groups = fs::read_dir(rig.group.join("sandboxes/f1")).unwrap();
    let groups = groups
        .filter(|entry| entry.as_ref().unwrap().path().is_dir())
        .count();
    assert!(
        groups <= 6,
        "{groups} groups for twelve instances, one at a time"
    );
    rig.end_zygote(zygote);
}

#[test]
fn a_thawed_one_goes_on() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let mut running = rig.fork(
        &mut zygote,
        "n = 0\ndef f(event):\n global n\n n += 1\n return n",
    );
    assert_eq!(running.call("0"), Outcome::Answer("1".into()));
    running.instance.group().freeze().unwrap();
    // The call waits in the socket meanwhile.
    running.send("0");
    running.instance.group().thaw().unwrap();
    assert_eq!(running.receive(), Outcome::Answer("2".into()));
    rig.end(running);
    rig.end_zygote(zygote);
}

#[test]
fn those_that_stand_by_go_with_their_zygote() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let branch = rig.group.join("sandboxes/f1");
    rig.stand_by(&mut zygote);
    // One more, of which the zygote's answer is never heard.
    let (family, id) = (zygote.family, u64::MAX);
    let asked = rig.sandboxes.stand_by(family, &mut zygote.zygote, id);
    asked.unwrap();
    assert_eq!(zygote.zygote.standbys(), 2);
    rig.end_zygote(zygote);
    until("they have ended and their groups are gone", || {
        rig.sandboxes.reap();
        rig.sandboxes.refill().unwrap();
        !branch.exists()
    });
}

#[test]
fn one_that_stood_by_and_died_is_not_given_a_call() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    rig.stand_by(&mut zygote);
    let waiting = zygote.zygote.standby_groups().next().unwrap();
    waiting.kill().unwrap();
    until("it is dead", || waiting.pids().unwrap().is_empty());
    let mut instance = rig.fork(&mut zygote, "def f(event): return 1");
    assert_eq!(instance.call("0"), Outcome::Answer("1".into()));
    rig.end(instance);
    until("it is waited for", || !rig.sandboxes.reap());
    rig.end_zygote(zygote);
}

#[test]
fn families_end_with_their_last_member() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let mut running = rig.fork(&mut zygote, "def f(event): return 1");
    let branch = rig.group.join("sandboxes/f1");
    rig.end_zygote(zygote);
    assert_eq!(running.call("0"), Outcome::Answer("1".into()));
    assert!(branch.exists());
    rig.end(running);
    for _ in 0..100 {
        rig.sandboxes.refill().unwrap();
        if !branch.exists() {
            return;
        }
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        poll(&mut [], Some(&pause)).unwrap();
    }
    panic!("{} is still there", branch.display());
}

#[test]
fn forks_lost_with_their_zygote_are_found() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let code = rig.function("def f(event): return 1");
    // Born, but nobody has read the answer; one lives, one has ended.
    let mut living = rig.fork_unanswered(&mut zygote, &code, LIMITS);
    assert_eq!(living.call("0"), Outcome::Answer("1".into()));
    let exits = rig.function("import os\nos._exit(7)");
    let mut ended = rig.fork_unanswered(&mut zygote, &exits, LIMITS);
    ended.send("0");
    assert_eq!(ended.receive(), Outcome::HungUp);
    // Not born: the zygote stands still when it is asked, then dies.
    let events = zygote.zygote.group().events().unwrap();
    zygote.zygote.group_mut().freeze().unwrap();
    while !zygote.zygote.group().state().unwrap().frozen {
        wait_for(events.as_fd(), PollFlags::PRI);
    }
    let mut lost = rig.fork_unanswered(&mut zygote, &code, LIMITS);
    assert_eq!(zygote.zygote.under_way().count(), 3);
    zygote.zygote.kill().unwrap();
    wait_for(zygote.zygote.pidfd().unwrap(), PollFlags::IN);
    for (running, found) in [(&mut living, true), (&mut ended, true), (&mut lost, false)] {
        let family = running.family;
        assert_eq!(rig.sandboxes.search(family, &mut running.instance), found);
    }
    assert_eq!(living.call("0"), Outcome::Answer("1".into()));
    rig.end(living);
    assert_eq!(rig.await_end(ended), Cause::Exit(7));
    rig.sandboxes.bury(lost.family, lost.instance);
    rig.end_zygote(zygote);
}

#[test]
fn a_zygote_that_lies_about_pids_is_not_believed() {
    let Some(mut rig) = rig() else { return };
    let mut honest = rig.zygote(&[]);
    let victim = rig.fork(&mut honest, "def f(event): return 1");
    let code = rig.function("def f(event): return 1");
    let mut other = rig.zygote(&[]);
    let mut running = rig.fork_unanswered(&mut other, &code, LIMITS);
    let claims = [
        victim.instance.pid().unwrap(),
        std::process::id() as i32,
        1,
        0,
        -1,
    ];
    for pid in claims {
        let refused = rig.sandboxes.born(&mut running.instance, pid).unwrap_err();
        assert_eq!(refused.pid, pid);
    }
    rig.await_birth(&mut other, &mut running);
    for running in [running, victim] {
        rig.end(running);
    }
    rig.end_zygote(other);
    rig.end_zygote(honest);
}

#[test]
fn the_host_sees_no_mount() {
    let Some(mut rig) = rig() else { return };
    // Of the thread that leads this process: tests run on others.
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    let mut zygote = rig.zygote(&[]);
    let mut running = rig.fork(&mut zygote, "def f(event): return 1");
    assert_eq!(running.call("0"), Outcome::Answer("1".into()));
    assert_eq!(table(), before);
    assert!(!before.contains("olworker-test"), "{before}");
    rig.end(running);
    rig.end_zygote(zygote);
}

/// Set for the process that plays the worker that is killed.
const DOOMED: &str = "OLWORKER_TEST_DOOMED";

/// The worker's part of the next test: starts sandboxes, tells their pids and its group, waits.
#[test]
fn doomed_worker() {
    if std::env::var_os(DOOMED).is_none() {
        return;
    }
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let mut child = rig.child(&mut zygote, &["json"]);
    let code = "import os, time\ndef f(event):\n if os.fork() == 0: time.sleep(1000)\n return 1";
    let mut all = vec![
        rig.fork(&mut zygote, code),
        rig.fork(&mut child, code),
        rig.fresh(code),
    ];
    let mut pids = vec![zygote.zygote.pid().unwrap(), child.zygote.pid().unwrap()];
    for running in &mut all {
        assert_eq!(running.call("0"), Outcome::Answer("1".into()));
        pids.extend(running.instance.group().pids().unwrap());
    }
    let text: Vec<String> = pids.iter().map(i32::to_string).collect();
    tell(&format!(
        "doomed {} {}",
        rig.group.display(),
        text.join(" ")
    ));
    tell(&format!("directory {}", rig.directory.display()));
    let for_ever = Timespec {
        tv_sec: 600,
        tv_nsec: 0,
    };
    let _ = poll(&mut [], Some(&for_ever));
}

fn tell(line: &str) {
    std::io::Write::write_all(&mut std::io::stdout(), format!("\n{line}\n").as_bytes()).unwrap();
}

#[test]
fn nothing_survives_the_worker() {
    if skipped() {
        return;
    }
    let mut worker = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "death::doomed_worker",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DOOMED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let told = lines
        .find_map(|line| line.strip_prefix("doomed ").map(str::to_owned))
        .unwrap();
    let directory = lines.find_map(|line| line.strip_prefix("directory ").map(str::to_owned));
    let mut words = told.split(' ');
    let group = Path::new(words.next().unwrap()).to_owned();
    let pids: Vec<i32> = words.map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() >= 8, "{told}");
    let alive: Vec<_> = pids
        .iter()
        .map(|pid| pidfd_open(Pid::from_raw(*pid).unwrap(), PidfdFlags::empty()).unwrap())
        .collect();
    worker.kill().unwrap();
    worker.wait().unwrap();
    for pidfd in &alive {
        wait_for(pidfd.as_fd(), PollFlags::IN);
    }
    // Directories stay; the next worker of the same place removes them.
    assert!(group.join("sandboxes/f1").is_dir());
    let forest = Forest::plant(&group).unwrap();
    assert_eq!(
        fs::read_dir(group.join("sandboxes"))
            .unwrap()
            .filter(is_directory)
            .count(),
        0
    );
    forest.fell().unwrap();
    fs::remove_dir(&group).unwrap();
    fs::remove_dir_all(directory.unwrap()).unwrap();
    let mounts = fs::read_to_string("/proc/1/mountinfo").unwrap();
    assert!(!mounts.contains("olworker-test"));
}

fn is_directory(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().unwrap().path().is_dir()
}

fn skipped() -> bool {
    rig().is_none()
}

#[test]
fn over_its_memory_limit_it_is_told_so() {
    const CODE: &str = "def f(event):\n return len(bytearray(200 << 20))";
    let Some(mut rig) = rig() else { return };
    let enforced = rig.sandboxes.forest().enforced();
    let mut zygote = rig.zygote(&[]);
    let code = rig.function(CODE);
    let limits = Limits {
        memory_bytes: 64 << 20,
        ..LIMITS
    };
    let mut running = rig.fork_directory(&mut zygote, &code, limits);
    if enforced.contains(olworker::host::service::Controller::Memory) {
        assert_eq!(running.call("0"), Outcome::HungUp);
        assert_eq!(rig.await_end(running), Cause::OutOfMemory);
    } else {
        // The worker looks for itself.
        assert_eq!(running.call("0"), Outcome::Answer((200 << 20).to_string()));
        assert!(running.instance.memory_bytes().unwrap() > 1 << 20);
        running.instance.kill_over_memory().unwrap();
        assert_eq!(rig.await_end(running), Cause::OutOfMemory);
    }
    rig.end_zygote(zygote);
}

#[test]
fn one_that_is_killed_before_it_is_born_ends() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let code = rig.function("def f(event): return 1");
    let mut running = rig.fork_unanswered(&mut zygote, &code, LIMITS);
    running.instance.kill().unwrap();
    rig.await_birth(&mut zygote, &mut running);
    assert_eq!(rig.await_end(running), Cause::Signal(libc::SIGKILL));
    rig.end_zygote(zygote);
}

#[test]
fn a_zygote_hangs_up_when_it_dies() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    zygote.zygote.kill().unwrap();
    assert!(matches!(
        next_event(&mut zygote.zygote),
        ZygoteEvent::HungUp
    ));
    rig.end_zygote(zygote);
}

#[test]
fn a_zygote_ends_when_the_worker_hangs_up() {
    let Some(mut rig) = rig() else { return };
    let ready = rig.zygote(&[]);
    let pidfd = ready.zygote.pidfd().unwrap().try_clone_to_owned().unwrap();
    // All of the handle goes, and with it the worker's end of the control socket.
    drop(ready);
    wait_for(pidfd.as_fd(), PollFlags::IN);
    drop(rig);
}
