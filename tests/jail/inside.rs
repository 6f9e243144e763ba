//! The jail, looked at from inside: who one is, what one sees, what one may do.

use crate::rig::{Outcome, Rig, Running, Wish, rig, rig_with};
use serde_json::{Value, json};

/// What a program says in a forked instance, in one that stood by and in a fresh interpreter: all
/// are the same jail.
fn everywhere(wish: &Wish<'_>, code: &str, check: impl Fn(&Value, &Rig)) {
    let Some(mut rig) = rig_with(wish) else {
        return;
    };
    let mut zygote = rig.zygote(&["json"]);
    let forked = rig.fork(&mut zygote, code);
    let ahead = rig.send_on(&mut zygote, code);
    let fresh = rig.fresh(code);
    for mut running in [forked, ahead, fresh] {
        check(&ask(&mut running, &rig), &rig);
        rig.end(running);
    }
    rig.end_zygote(zygote);
}

fn ask(running: &mut Running, rig: &Rig) -> Value {
    match running.call("{}") {
        Outcome::Answer(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}; the log says: {}", rig.log()),
    }
}

#[test]
fn one_is_a_user_without_rights() {
    const CODE: &str = "
import os
def f(event):
    status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines()
                  if ':\\t' in line)
    return {'uid': os.getresuid(), 'gid': os.getresgid(), 'groups': os.getgroups(),
            'caps': [int(status['Cap' + k], 16) for k in ('Inh', 'Prm', 'Eff', 'Amb')],
            'no_new_privs': status['NoNewPrivs'], 'seccomp': status['Seccomp'],
            'host': os.uname().nodename, 'umask': os.umask(0)}
";
    everywhere(&Wish::default(), CODE, |said, _| {
        let uid = said["uid"][0].as_u64().unwrap();
        assert!(uid > 0 && uid < 65_000, "{said}");
        assert_eq!(said["uid"], json!([uid, uid, uid]));
        assert_eq!(said["gid"], json!([uid, uid, uid]));
        assert_eq!(said["groups"], json!([]));
        assert_eq!(said["caps"], json!([0, 0, 0, 0]));
        assert_eq!(said["no_new_privs"], "1");
        assert_eq!(said["seccomp"], "2");
        assert_eq!(said["host"], "sandbox");
        assert_eq!(said["umask"], 0o022);
    });
}

#[test]
fn on_the_host_each_has_an_id_of_its_own_that_nobody_else_has() {
    const CODE: &str = "
import time
def f(event):
    return 1
";
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&[]);
    let running: Vec<Running> = (0..3).map(|_| rig.fork(&mut zygote, CODE)).collect();
    let host_id = |running: &Running| {
        use std::os::unix::fs::MetadataExt as _;
        let pid = running.instance.pid().unwrap();
        std::fs::metadata(format!("/proc/{pid}/task"))
            .unwrap()
            .uid()
    };
    let mut ids = Vec::new();
    for mut one in running {
        // Its answer proves that it has taken its own id.
        assert_eq!(one.call("0"), Outcome::Answer("1".into()));
        ids.push(host_id(&one));
        rig.end(one);
    }
    assert!(ids.iter().all(|id| *id >= 0x6000_0000), "{ids:?}");
    ids.dedup();
    assert_eq!(ids.len(), 3);
    rig.end_zygote(zygote);
}

#[test]
fn of_the_host_only_the_base_is_seen() {
    const CODE: &str = "
import os, pwd, grp
def f(event):
    return {'root': sorted(os.listdir('/')), 'etc': sorted(os.listdir('/etc')),
            'dev': sorted(os.listdir('/dev')), 'me': pwd.getpwuid(os.getuid()).pw_name,
            'group': grp.getgrgid(os.getgid()).gr_name,
            'users': open('/etc/passwd').read(), 'tmp': os.listdir('/tmp'),
            'host': os.listdir('/host'), 'packages': os.listdir('/packages'),
            'runtime': sorted(os.listdir('/olworker'))}
";
    everywhere(&Wish::default(), CODE, |said, _| {
        let names = |key: &str| -> Vec<&str> {
            said[key]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap())
                .collect()
        };
        let known = [
            "bin", "dev", "etc", "handler", "host", "lib", "lib32", "lib64", "libx32", "olworker",
            "packages", "proc", "sbin", "tmp", "usr",
        ];
        for name in names("root") {
            assert!(known.contains(&name), "/{name} is seen");
        }
        let needed = [
            "alternatives",
            "group",
            "hosts",
            "ld.so.cache",
            "localtime",
            "mime.types",
            "nsswitch.conf",
            "passwd",
            "resolv.conf",
            "ssl",
        ];
        for name in names("etc") {
            assert!(
                needed.contains(&name) || name.starts_with("python3"),
                "/etc/{name} is seen"
            );
        }
        let devices = [
            "fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero",
        ];
        assert_eq!(names("dev"), devices);
        assert!(said["me"].as_str().unwrap().starts_with("sandbox"));
        assert_eq!(said["me"], said["group"]);
        assert!(!said["users"].as_str().unwrap().contains("/root"));
        for empty in ["tmp", "host", "packages"] {
            assert_eq!(said[empty], json!([]), "{empty}");
        }
        assert_eq!(
            names("runtime"),
            [
                "bytecode.py",
                "compile.py",
                "ol_runtime",
                "profile.py",
                "start.py"
            ]
        );
    });
}

#[test]
fn only_what_is_private_can_be_written() {
    const CODE: &str = "
import os
def attempt(path):
    try:
        open(path, 'w').close()
        return 'written'
    except OSError as error:
        return os.strerror(error.errno)
def f(event):
    mine = [attempt(d + '/file') for d in ('/tmp', '/host', '/dev/shm')]
    theirs = [attempt(d + '/file') for d in ('/', '/usr', '/usr/lib', '/etc', '/dev', '/handler',
                                             '/packages', '/olworker', '/proc')]
    theirs += [attempt('/etc/passwd'), attempt('/handler/f.py')]
    theirs += [attempt('/proc/sys/kernel/hostname'), attempt('/proc/sysrq-trigger')]
    return [mine, theirs, attempt('/dev/null')]
";
    everywhere(&Wish::default(), CODE, |said, _| {
        assert_eq!(said[0], json!(["written", "written", "written"]));
        let theirs = said[1].as_array().unwrap();
        assert!(theirs.iter().all(|one| one != "written"), "{theirs:?}");
        assert_eq!(said[2], "written");
    });
}

#[test]
fn what_can_be_written_is_limited() {
    const CODE: &str = "
import os
def fill(path):
    written = 0
    try:
        with open(path, 'wb', buffering=0) as file:
            while written < 1 << 28:
                written += file.write(bytes(1 << 20))
    except OSError as error:
        return [written >> 20, os.strerror(error.errno)]
    return [written >> 20, '']
def f(event):
    return [fill('/tmp/file'), fill('/host/file')]
";
    everywhere(&Wish::default(), CODE, |said, _| {
        for place in said.as_array().unwrap() {
            assert!(place[0].as_u64().unwrap() <= 16, "{said}");
            assert_eq!(place[1], "No space left on device");
        }
    });
}

#[test]
fn mounts_are_what_they_should_be() {
    const CODE: &str = "
def f(event):
    return [line.split() for line in open('/proc/self/mountinfo')]
";
    everywhere(&Wish::default(), CODE, |said, _| {
        // The last mount on a place is the one that is seen.
        let find = |place: &str| {
            let mut mounts = said.as_array().unwrap().iter();
            mounts.rfind(|mount| mount[4] == place).expect(place)[5].to_string()
        };
        for place in ["/", "/usr", "/handler", "/packages"] {
            let options = find(place);
            assert!(options.contains("\"ro,nosuid"), "{place}: {options}");
        }
        for place in ["/usr", "/handler", "/packages", "/tmp", "/host", "/proc"] {
            assert!(find(place).contains("nodev"), "{place}");
        }
        for place in ["/tmp", "/host", "/proc"] {
            assert!(find(place).contains("rw,nosuid"), "{place}");
        }
    });
}

#[test]
fn nobody_else_is_seen_and_nobody_else_can_be_touched() {
    const CODE: &str = "
import os, signal, ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    result = function(*arguments)
    return 'done' if result >= 0 else os.strerror(ctypes.get_errno())
def kill(pid):
    try:
        os.kill(pid, 0)
        return 'done'
    except OSError as error:
        return os.strerror(error.errno)
def f(event):
    pids = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
    return {'pid': os.getpid(), 'pids': pids, 'parent': os.getppid(), 'kill': kill(event['pid']),
            'kill_all': kill(-1), 'ptrace': call(libc.ptrace, 16, event['pid'], 0, 0),
            'ptrace_self': call(libc.ptrace, 0, 0, 0, 0), 'session': os.getsid(0) == os.getpid()}
";
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&["json"]);
    let mut neighbour = rig.fork(&mut zygote, "def f(event): return 1");
    assert_eq!(neighbour.call("0"), Outcome::Answer("1".into()));
    let pid = neighbour.instance.pid().unwrap();
    let forked = rig.fork(&mut zygote, CODE);
    let fresh = rig.fresh(CODE);
    for mut running in [forked, fresh] {
        let Outcome::Answer(text) = running.call(&json!({ "pid": pid }).to_string()) else {
            panic!("no answer; the log says: {}", rig.log())
        };
        let said: Value = serde_json::from_str(&text).unwrap();
        let own = said["pids"].as_array().unwrap().len();
        assert!(own <= 2, "{said}");
        assert!(said["pid"].as_u64().unwrap() <= 2, "{said}");
        assert_eq!(said["kill"], "No such process");
        assert_ne!(said["ptrace"], "done");
        assert_ne!(said["ptrace_self"], "done");
        assert_eq!(said["session"], true);
        rig.end(running);
    }
    assert_eq!(neighbour.call("0"), Outcome::Answer("1".into()));
    rig.end(neighbour);
    rig.end_zygote(zygote);
}

/// Calls that would lead out of the jail, or make the kernel's inside reachable.
const DOORS: &str = "
import os, ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = None
def call(function, *arguments):
    ctypes.set_errno(0)
    result = function(*arguments)
    return 'done' if result >= 0 else os.strerror(ctypes.get_errno())
def python(function, *arguments):
    try:
        function(*arguments)
        return 'done'
    except (OSError, ValueError) as error:
        return str(error)
def f(event):
    NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
        0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
    doors = {'unshare %x' % flag: call(libc.unshare, flag)
             for flag in (NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET)}
    doors['clone newuser'] = call(libc.syscall, 56, NEWUSER | 17, 0, 0, 0, 0)
    doors['clone parent'] = call(libc.syscall, 56, 0x8000 | 17, 0, 0, 0, 0)
    arguments = (ctypes.c_uint64 * 11)(NEWUSER, 0, 0, 0, 17)
    doors['clone3'] = call(libc.syscall, 435, arguments, ctypes.c_size_t(88))
    doors['mount'] = call(libc.mount, b'none', b'/tmp', b'tmpfs', 0, None)
    doors['remount'] = call(libc.mount, None, b'/usr', None, 0x1000 | 32, None)
    doors['umount'] = call(libc.umount2, b'/handler', 2)
    doors['pivot_root'] = call(libc.syscall, 155, b'/tmp', b'/tmp')
    doors['chroot'] = call(libc.chroot, b'/tmp')
    doors['open_tree'] = call(libc.syscall, 428, -100, b'/', 1)
    doors['fsopen'] = call(libc.syscall, 430, b'tmpfs', 0)
    doors['setns'] = call(libc.setns, 0, 0)
    doors['setuid'] = python(os.setuid, 0)
    doors['setgroups'] = python(os.setgroups, [0])
    doors['sethostname'] = python(__import__('socket').sethostname, 'x')
    doors['mknod'] = python(os.mknod, '/tmp/disk', 0o60666, os.makedev(8, 0))
    doors['pdeathsig'] = call(libc.prctl, 1, 0)
    doors['bpf'] = call(libc.syscall, 321, 0, 0, 0)
    doors['keyctl'] = call(libc.syscall, 250, 0, -3, 0)
    doors['io_uring'] = call(libc.syscall, 425, 8, 0)
    doors['userfaultfd'] = call(libc.syscall, 323, 0)
    doors['perf'] = call(libc.syscall, 298, 0, 0, -1, -1, 0)
    doors['reboot'] = call(libc.syscall, 169, 0xfee1dead, 672274793, 0, 0)
    doors['module'] = call(libc.syscall, 313, 0, b'', 0)
    doors['raise nproc'] = python(lambda: __import__('resource').setrlimit(6, (9999, 9999)))
    doors['raw socket'] = python(lambda: socket.socket(2, 3, 1))
    doors['packet socket'] = python(lambda: socket.socket(17, 3, 0))
    return doors
";

#[test]
fn every_door_is_closed() {
    everywhere(&Wish::default(), DOORS, |said, _| {
        for (door, answer) in said.as_object().unwrap() {
            assert_ne!(answer, "done", "{door}");
        }
        assert_eq!(said["clone3"], "Function not implemented");
    });
}

#[test]
fn without_filters_the_doors_that_need_rights_are_closed_all_the_same() {
    let wish = Wish {
        seccomp: false,
        ..Wish::default()
    };
    // What an unprivileged user may do on the host as well.
    let harmless = [
        "clone parent",
        "pdeathsig",
        "keyctl",
        "io_uring",
        "userfaultfd",
        "perf",
        "clone3",
    ];
    everywhere(&wish, DOORS, |said, _| {
        for (door, answer) in said.as_object().unwrap() {
            assert!(answer != "done" || harmless.contains(&&**door), "{door}");
        }
    });
}

#[test]
fn setuid_programs_give_nothing() {
    const CODE: &str = "
import glob, os, stat, subprocess
def f(event):
    found = [p for d in ('/usr/bin', '/usr/sbin') for p in glob.glob(d + '/*')
             if os.path.isfile(p) and os.stat(p).st_mode & stat.S_ISUID]
    out = subprocess.run(['/usr/bin/env', 'su', '-c', 'id -u'], capture_output=True, text=True,
                         stdin=subprocess.DEVNULL)
    return [len(found), out.returncode, out.stdout]
";
    everywhere(&Wish::default(), CODE, |said, _| {
        assert_ne!(said[1], 0, "{said}");
        assert_eq!(said[2], "", "{said}");
    });
}

#[test]
fn no_descriptor_is_inherited() {
    const CODE: &str = "
import os
def f(event):
    found = {}
    for name in os.listdir('/proc/self/fd'):
        try:
            found[name] = os.readlink('/proc/self/fd/' + name)
        except FileNotFoundError:
            pass
    return found
";
    everywhere(&Wish::default(), CODE, |said, rig| {
        let log = rig.directory.join("log");
        let log = log.file_name().unwrap().to_str().unwrap();
        for (number, target) in said.as_object().unwrap() {
            let target = target.as_str().unwrap();
            let expected = match &**number {
                "0" => target.ends_with("/null"),
                "1" | "2" => target.ends_with(log),
                // The connection, wherever the runtime keeps it.
                _ => target.starts_with("socket:") || target.contains("olworker-seen"),
            };
            assert!(expected, "{number} is {target}");
        }
        let sockets = said.as_object().unwrap().values();
        assert_eq!(
            sockets
                .filter(|one| one.as_str().unwrap().starts_with("socket:"))
                .count(),
            1
        );
    });
}

#[test]
fn the_environment_is_what_was_ordered() {
    const CODE: &str = "
import os, ctypes
def f(event):
    text = ctypes.CDLL(None).getenv
    text.restype = ctypes.c_char_p
    return [dict(os.environ), text(b'OPENBLAS_NUM_THREADS'), text(b'HOME').decode()]
";
    everywhere(&Wish::default(), CODE, |said, _| {
        assert_eq!(said[0], json!({"HOME": "/tmp", "LANG": "C.UTF-8"}));
        assert_eq!(said[1], Value::Null);
        assert_eq!(said[2], "/tmp");
    });
}

#[test]
fn queues_and_shared_memory_are_private() {
    const CODE: &str = "
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def f(event):
    # System V shared memory by a well-known key: made anew in each sandbox.
    made = libc.shmget(0x6f6c, 4096, 0o1000 | 0o2000 | 0o666)
    return [made >= 0, os.readlink('/proc/self/ns/ipc')]
";
    let Some(mut rig) = rig() else { return };
    let mut zygote = rig.zygote(&["json"]);
    let mut spaces = Vec::new();
    let all = [
        rig.fork(&mut zygote, CODE),
        rig.fork(&mut zygote, CODE),
        rig.fresh(CODE),
    ];
    let mut alive = Vec::new();
    for mut running in all {
        let said = ask(&mut running, &rig);
        assert_eq!(said[0], true);
        spaces.push(said[1].as_str().unwrap().to_owned());
        alive.push(running);
    }
    spaces.push(
        std::fs::read_link("/proc/self/ns/ipc")
            .unwrap()
            .display()
            .to_string(),
    );
    spaces.sort_unstable();
    spaces.dedup();
    assert_eq!(spaces.len(), 4);
    for running in alive {
        rig.end(running);
    }
    rig.end_zygote(zygote);
}

#[test]
fn a_fork_bomb_is_contained() {
    const CODE: &str = "
import os, time, errno
def f(event):
    children = 0
    while children < 1000:
        try:
            pid = os.fork()
        except OSError as error:
            return [children, errno.errorcode[error.errno]]
        if pid == 0:
            time.sleep(1000)
            os._exit(0)
        children += 1
    return [children, '']
";
    everywhere(&Wish::default(), CODE, |said, _| {
        assert!(said[0].as_u64().unwrap() < 32, "{said}");
        assert_eq!(said[1], "EAGAIN");
    });
}

#[test]
fn the_library_works_as_outside() {
    // What a fork without the standard ceremony could have broken.
    const CODE: &str = "
import asyncio, concurrent.futures, hashlib, logging, multiprocessing, os, queue, random, secrets
import signal, socket, sqlite3, ssl, subprocess, tempfile, threading, time, uuid, zoneinfo
def f(event):
    done = []
    thread = threading.Thread(target=lambda: done.append(threading.current_thread().name))
    thread.start(); thread.join()
    main = threading.main_thread() is threading.current_thread()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        total = sum(pool.map(lambda x: x * x, range(10)))
    async def later():
        await asyncio.sleep(0.001)
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 42)
    answer = asyncio.run(later())
    caught = []
    signal.signal(signal.SIGUSR1, lambda *a: caught.append(1))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    child = subprocess.run(['/bin/sh', '-c', 'echo $$; exit 3'], capture_output=True, text=True)
    with multiprocessing.get_context('fork').Pool(2) as pool:
        squares = pool.map(abs, [-1, -2, -3])
    lock = multiprocessing.Lock()
    with tempfile.NamedTemporaryFile() as file:
        file.write(b'x')
    left, right = socket.socketpair()
    left.send(b'y')
    logging.warning('logged')
    database = sqlite3.connect('/tmp/db')
    database.execute('create table t (x)')
    return {'thread': done, 'main': main, 'total': total, 'answer': answer, 'caught': len(caught),
            'exit': child.returncode, 'squares': squares, 'received': right.recv(1).decode(),
            'native': threading.get_native_id() == os.getpid(),
            'cpus': os.cpu_count() >= 1, 'user': __import__('getpass').getuser()[:7],
            'hash': hashlib.sha256(b'').hexdigest()[:8], 'ssl': bool(ssl.create_default_context()),
            'resolved': socket.gethostbyname('localhost')}
";
    everywhere(&Wish::default(), CODE, |said, _| {
        assert_eq!(said["main"], true);
        assert_eq!(said["total"], 285);
        assert_eq!(said["answer"], 42);
        assert_eq!(said["caught"], 2);
        assert_eq!(said["exit"], 3);
        assert_eq!(said["squares"], json!([1, 2, 3]));
        assert_eq!(said["received"], "y");
        assert_eq!(said["native"], true);
        assert_eq!(said["user"], "sandbox");
        assert_eq!(said["hash"], "e3b0c442");
        assert_eq!(said["resolved"], "127.0.0.1");
    });
}
