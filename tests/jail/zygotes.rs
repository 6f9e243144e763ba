//! What is forked from: imports, siblings, interpreters, networks.

use crate::rig::{LIMITS, Outcome, Rig, Wish, next_event, rig, rig_with, until};
use olworker::host::instance::Network;
use olworker::host::zygote::ZygoteEvent;
use olworker::wire::text::TextList;
use olworker::wire::zygote::ForkStage;
use rustix::fd::AsFd as _;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Starts a zygote and tells the first thing it says.
fn first_words(rig: &mut Rig, modules: &[&str], packages: &[(&str, &str)]) -> ZygoteEvent {
    for (name, code) in packages {
        fs::write(rig.directory.join("packages").join(name), code).unwrap();
    }
    let log = fs::File::create(rig.directory.join("zygote-log")).unwrap();
    let (family, mut zygote) = rig.sandboxes.start_zygote(77, log.as_fd(), None).unwrap();
    let modules = TextList::collect(modules.iter().map(|name| name.as_bytes())).unwrap();
    let paths = TextList::collect([&b"/packages"[..]]).unwrap();
    zygote.import(&modules, &paths).unwrap();
    let said = next_event(&mut zygote);
    let ready = crate::rig::Ready {
        family,
        zygote,
        threads: 0,
        resident_kb: 0,
    };
    rig.end_zygote(ready);
    said
}

#[test]
fn imports_are_told_with_their_times() {
    let Some(mut rig) = rig() else { return };
    match first_words(&mut rig, &["json", "decimal"], &[]) {
        ZygoteEvent::Ready {
            resident_kb,
            threads,
            modules,
        } => {
            assert!(resident_kb > 1000 && threads == 1);
            let names: Vec<_> = modules.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, ["json", "decimal"]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_with_more_descriptors_than_a_zygote_may_have_still_starts_them() {
    const MANY: usize = 5000;
    let Some(mut rig) = rig() else { return };
    let limit = olworker::sys::machine::raise_descriptor_limit().unwrap();
    if limit < 2 * MANY as u64 {
        let why = format!("only {limit} descriptors may be open here");
        crate::rig::skip(&why);
        return;
    }
    let null = fs::File::open("/dev/null").unwrap();
    let many: Vec<_> = (0..MANY).map(|_| null.try_clone().unwrap()).collect();
    let said = first_words(&mut rig, &["json"], &[]);
    assert!(matches!(said, ZygoteEvent::Ready { .. }), "{said:?}");
    drop(many);
}

#[test]
fn an_import_that_raises_is_told_with_its_last_lines() {
    let Some(mut rig) = rig() else { return };
    let package = ("broken.py", "raise RuntimeError('unwilling')");
    match first_words(&mut rig, &["json", "broken"], &[package]) {
        ZygoteEvent::ImportFailed { module, text } => {
            assert_eq!(module, "broken");
            assert!(text.contains("RuntimeError: unwilling"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_import_that_ends_the_process_hangs_up() {
    let Some(mut rig) = rig() else { return };
    let package = ("ending.py", "import os; os._exit(4)");
    let said = first_words(&mut rig, &["ending"], &[package]);
    assert!(matches!(said, ZygoteEvent::HungUp), "{said:?}");
}

#[test]
fn an_import_that_starts_threads_makes_no_instances() {
    const PACKAGE: &str = "
import threading, time
threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
";
    let Some(mut rig) = rig() else { return };
    fs::write(rig.directory.join("packages/threads.py"), PACKAGE).unwrap();
    let mut zygote = rig.zygote(&["threads"]);
    assert_eq!(zygote.threads, 2);
    let code = rig.function("def f(event): return 1");
    let mut running = rig.fork_unanswered(&mut zygote, &code, LIMITS);
    match next_event(&mut zygote.zygote) {
        ZygoteEvent::ForkFailed { id, stage, .. } => {
            assert_eq!((id, stage), (running.instance.id(), ForkStage::Threads));
        }
        other => panic!("{other:?}"),
    }
    running.instance.stillborn();
    rig.sandboxes.bury(running.family, running.instance);
    rig.end_zygote(zygote);
}

#[test]
fn an_import_may_write_to_tmp_and_children_do_not_see_it() {
    let Some(mut rig) = rig() else { return };
    let package = "open('/tmp/cache', 'w').write('x')";
    fs::write(rig.directory.join("packages/caching.py"), package).unwrap();
    let mut zygote = rig.zygote(&["caching"]);
    let code = "import os\ndef f(event): return os.listdir('/tmp')";
    let mut running = rig.fork(&mut zygote, code);
    assert_eq!(running.call("0"), Outcome::Answer("[]".into()));
    rig.end(running);
    rig.end_zygote(zygote);
}

#[test]
fn children_find_what_a_directory_has_now_whatever_its_time_says() {
    let Some(mut rig) = rig() else { return };
    let packages = rig.directory.join("packages");
    let parts = packages.join("shared_name");
    fs::create_dir(&parts).unwrap();
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let write = |name: &str| fs::write(packages.join(name), "").unwrap();
    write("early.py");
    write("shared_name/early.py");
    let times = [&packages, &parts].map(|path| (path, modified(path)));
    let mut zygote = rig.zygote(&["early", "shared_name.early"]);
    write("late.py");
    write("shared_name/late.py");
    write("later.py");
    for (path, time) in times {
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    let code = "import late, shared_name.late\ndef f(event): return 'found'";
    let mut running = rig.fork(&mut zygote, code);
    assert_eq!(running.call("0"), Outcome::Answer("\"found\"".into()));
    rig.end(running);
    let child = rig.child(&mut zygote, &["later"]);
    rig.end_zygote(child);
    rig.end_zygote(zygote);
}

#[test]
fn an_import_has_no_way_out_either() {
    // Root in its own namespace, and nowhere else.
    const PACKAGE: &str = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
found = []
for path in ('/usr/made', '/etc/passwd', '/olworker/start.py', '/packages/made', '/dev/made'):
    try:
        open(path, 'w')
        found.append('wrote ' + path)
    except OSError:
        pass
for place in (b'/usr', b'/packages', b'/'):
    if libc.mount(None, place, None, 0x1000 | 32, None) == 0:
        found.append('remounted ' + place.decode())
if libc.unshare(0x10000000) == 0:
    found.append('nested')
if os.path.exists('/proc/1'):
    found.append('sees the host')
try:
    os.kill(os.getppid(), 0)
    found.append('reaches the worker')
except OSError:
    pass
try:
    os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))
    open('/tmp/disk')
    found.append('made a device')
except OSError:
    pass
assert not found, found
";
    let Some(mut rig) = rig() else { return };
    fs::write(rig.directory.join("packages/curious.py"), PACKAGE).unwrap();
    let zygote = rig.zygote(&["curious"]);
    rig.end_zygote(zygote);
}

#[test]
fn siblings_draw_different_numbers() {
    const CODE: &str = "
import os, random, secrets, ssl, tempfile, uuid
def f(event):
    return [random.random(), random.getrandbits(64), secrets.token_hex(), str(uuid.uuid4()),
            str(uuid.uuid1()), ssl.RAND_bytes(8).hex(), tempfile.mktemp(), os.urandom(8).hex(),
            random.Random().random()]
";
    let Some(mut rig) = rig() else { return };
    let modules = ["random", "secrets", "uuid", "ssl", "tempfile", "hashlib"];
    let mut zygote = rig.zygote(&modules);
    let mut all = Vec::new();
    for stood_by in [false, false, true, true] {
        let mut running = if stood_by {
            rig.send_on(&mut zygote, CODE)
        } else {
            rig.fork(&mut zygote, CODE)
        };
        let Outcome::Answer(text) = running.call("0") else {
            panic!("{}", rig.log())
        };
        all.push(serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap());
        rig.end(running);
    }
    for place in 0..all[0].len() {
        let told: BTreeSet<String> = all.iter().map(|one| one[place].to_string()).collect();
        assert_eq!(told.len(), all.len(), "{place}: {told:?}");
    }
    rig.end_zygote(zygote);
}

#[test]
fn zygotes_differ_in_their_hash_seed() {
    const CODE: &str = "def f(event): return [hash('a'), hash('b')]";
    let Some(mut rig) = rig() else { return };
    let mut said = Vec::new();
    for _ in 0..2 {
        let mut zygote = rig.zygote(&[]);
        let mut running = rig.fork(&mut zygote, CODE);
        said.push(running.call("0"));
        rig.end(running);
        rig.end_zygote(zygote);
    }
    assert_ne!(said[0], said[1]);
}

/// Forks of one zygote in the test below; `OLWORKER_TEST_FORKS=10000` for the real thing.
const FORKS: usize = 300;

#[test]
fn a_zygote_does_not_grow_with_its_forks() {
    let Some(mut rig) = rig() else { return };
    let wanted = std::env::var("OLWORKER_TEST_FORKS")
        .ok()
        .and_then(|text| text.parse().ok());
    let forks: usize = wanted.unwrap_or(FORKS);
    let mut zygote = rig.zygote(&["json"]);
    let code = rig.function("def f(event): return 1");
    let private_kb = |zygote: &crate::rig::Ready| {
        let pid = zygote.zygote.pid().unwrap();
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("Private_Dirty:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let mut after_some = 0;
    for round in 0..forks {
        let mut running = rig.fork_unanswered(&mut zygote, &code, LIMITS);
        rig.await_birth(&mut zygote, &mut running);
        rig.end(running);
        while rig.sandboxes.refill().unwrap() {}
        if round == 50 {
            after_some = private_kb(&zygote);
        }
    }
    let grown = private_kb(&zygote).saturating_sub(after_some);
    assert!(grown <= 64, "{forks} forks made it {grown} KB larger");
    let pid = zygote.zygote.pid().unwrap();
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    // What came with the last order is closed a moment after its answer was sent.
    until("what came with orders is closed", || descriptors() <= 6);
    rig.end_zygote(zygote);
}

#[test]
fn forks_are_pipelined() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let code = rig.function("def f(event): return event");
    let mut all: Vec<_> = (0..40)
        .map(|_| rig.fork_unanswered(&mut zygote, &code, LIMITS))
        .collect();
    assert_eq!(zygote.zygote.under_way().count(), 40);
    for (number, running) in all.iter_mut().enumerate() {
        running.send(&number.to_string());
    }
    for (number, running) in all.iter_mut().enumerate() {
        assert_eq!(running.receive(), Outcome::Answer(number.to_string()));
    }
    let mut births = 0;
    while births < all.len() {
        let mut told = Vec::new();
        zygote.zygote.on_readable(&mut |event| told.push(event));
        for event in told {
            let ZygoteEvent::Forked { id, pid } = event else {
                panic!("{event:?}")
            };
            let running = all.iter_mut().find(|one| one.instance.id() == id).unwrap();
            rig.sandboxes.born(&mut running.instance, pid).unwrap();
            births += 1;
        }
    }
    for running in all {
        rig.end(running);
    }
    rig.end_zygote(zygote);
}

#[test]
fn interpreters_that_live_elsewhere_are_brought_along() {
    let found = elsewhere();
    if found.is_empty() {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIP: no other CPython than the system's is installed here\n",
        );
    }
    for interpreter in found {
        let wish = Wish {
            interpreter: &interpreter,
            ..Wish::default()
        };
        let Some(mut rig) = rig_with(&wish) else {
            return;
        };
        let mut zygote = rig.zygote(&["json"]);
        let code = "import sys, random, threading\ndef f(event): return sys.executable";
        let mut running = rig.fork(&mut zygote, code);
        let said = running.call("0");
        assert_eq!(
            said,
            Outcome::Answer(format!("{:?}", interpreter.display().to_string()))
        );
        rig.end(running);
        let mut running = rig.fresh(code);
        assert_eq!(running.call("0"), said);
        rig.end(running);
        rig.end_zygote(zygote);
    }
}

/// Interpreters under the usual version managers' directories, a virtual environment among them.
fn elsewhere() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_default();
    let managers = [
        home.join(".pyenv/versions"),
        home.join(".local/share/uv/python"),
    ];
    let versions = managers
        .iter()
        .filter_map(|path| fs::read_dir(path).ok())
        .flatten();
    let programs = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin/python3")));
    let new_enough = |path: &PathBuf| {
        let text = path.display().to_string();
        ["3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
            .iter()
            .any(|v| text.contains(&format!("/{v}.")))
    };
    programs
        .filter(|path| path.exists())
        .filter(new_enough)
        .collect()
}

#[test]
fn a_virtual_environment_serves() {
    // Sandboxes have a /tmp of their own, so that nothing below the host's can be brought along.
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let parent = if build.starts_with("/tmp") {
        Path::new("/opt")
    } else {
        build
    };
    let place = parent.join(format!("olworker-venv-{}", std::process::id()));
    let made = std::process::Command::new("/usr/bin/python3")
        .args(["-m", "venv", "--without-pip"])
        .arg(&place)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIP: python3 -m venv does not work here\n",
        );
        return;
    }
    let interpreter = place.join("bin/python3");
    let wish = Wish {
        interpreter: &interpreter,
        ..Wish::default()
    };
    let Some(mut rig) = rig_with(&wish) else {
        return;
    };
    let mut zygote = rig.zygote(&[]);
    let mut running = rig.fork(&mut zygote, "def f(event): return 5");
    assert_eq!(running.call("0"), Outcome::Answer("5".into()));
    rig.end(running);
    rig.end_zygote(zygote);
    fs::remove_dir_all(place).unwrap();
}

/// What one sees of networks.
const NETWORK: &str = "
import os, socket
def f(event):
    names = [line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]
    server = socket.socket()
    server.bind(('127.0.0.1', 0))
    server.listen()
    client = socket.create_connection(server.getsockname(), 2)
    meeting = socket.socket(socket.AF_UNIX)
    try:
        meeting.bind('\\0olworker-meeting')
        met = False
    except OSError:
        met = True
    globals()['keep'] = meeting
    return [names, os.readlink('/proc/self/ns/net'), met]
";

#[test]
fn alone_means_a_loopback_and_the_own_siblings_only() {
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let mut spaces = Vec::new();
    let mut alive = Vec::new();
    for tenant in [1, 1, 2] {
        rig.network = Network::Alone { tenant };
        let mut running = rig.fork(&mut zygote, NETWORK);
        let Outcome::Answer(text) = running.call("0") else {
            panic!("{}", rig.log())
        };
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said[0], serde_json::json!(["lo"]));
        spaces.push((said[1].to_string(), said[2].as_bool().unwrap()));
        alive.push(running);
    }
    assert_eq!(spaces[0].0, spaces[1].0);
    assert_ne!(spaces[0].0, spaces[2].0);
    assert_eq!(
        spaces.iter().map(|space| space.1).collect::<Vec<_>>(),
        [false, true, false]
    );
    let mut fresh = rig.fresh(NETWORK);
    let Outcome::Answer(text) = fresh.call("0") else {
        panic!("{}", rig.log())
    };
    assert!(text.starts_with("[[\"lo\"]"), "{text}");
    alive.push(fresh);
    let host = fs::read_link("/proc/self/ns/net")
        .unwrap()
        .display()
        .to_string();
    assert!(!text.contains(&host));
    for running in alive {
        rig.end(running);
    }
    rig.end_zygote(zygote);
}

#[test]
fn without_user_namespaces_one_is_a_user_of_the_host() {
    let wish = Wish {
        user_namespace: false,
        ..Wish::default()
    };
    let Some(mut rig) = rig_with(&wish) else {
        return;
    };
    let code = "import os\ndef f(event): return os.getuid()";
    let mut zygote = rig.zygote(&[]);
    for mut running in [rig.fork(&mut zygote, code), rig.fresh(code)] {
        let Outcome::Answer(text) = running.call("0") else {
            panic!("{}", rig.log())
        };
        assert!(text.parse::<u32>().unwrap() >= 0x6000_0000, "{text}");
        rig.end(running);
    }
    rig.end_zygote(zygote);
}

#[test]
fn another_root_file_system_is_another_base() {
    // The host's own programs, as somebody else's root: /usr and what leads to it.
    let Some(host) = rig() else { return };
    let rootfs = host.directory.join("rootfs");
    fs::create_dir_all(rootfs.join("etc")).unwrap();
    fs::create_dir_all(rootfs.join("usr")).unwrap();
    fs::write(rootfs.join("etc/release"), "another").unwrap();
    for name in ["bin", "lib", "lib64"] {
        let link = fs::read_link(Path::new("/").join(name)).unwrap();
        std::os::unix::fs::symlink(link, rootfs.join(name)).unwrap();
    }
    let own = rustix::mount::mount_bind("/usr", rootfs.join("usr"));
    own.unwrap();
    let wish = Wish {
        rootfs: Some(&rootfs),
        ..Wish::default()
    };
    let Some(mut rig) = rig_with(&wish) else {
        return;
    };
    let mut zygote = rig.zygote(&[]);
    let code = "def f(event): return open('/etc/release').read()";
    for mut running in [rig.fork(&mut zygote, code), rig.fresh(code)] {
        assert_eq!(running.call("0"), Outcome::Answer("\"another\"".into()));
        rig.end(running);
    }
    rig.end_zygote(zygote);
    drop(rig);
    rustix::mount::unmount(rootfs.join("usr"), rustix::mount::UnmountFlags::DETACH).unwrap();
}
