//! Sandboxes for tests: one worker's worth of them for each test, and a function called in one
//! line.

use olworker::config::places::Places;
use olworker::host::cgroup::Limits;
use olworker::host::death::Cause;
use olworker::host::family::SlotDefaults;
use olworker::host::instance::{Instance, Network, Order};
use olworker::host::jail::{BaseSpec, Ground, Interpreter, PrivateMounts};
use olworker::host::sandboxes::{FamilyKey, Sandboxes, Settings};
use olworker::host::service::Survey;
use olworker::host::zygote::{Zygote, ZygoteEvent};
use olworker::sys::clock;
use olworker::wire::call::{CallHead, StartKind};
use olworker::wire::text::TextList;
use olworker::wire::{AnswerDecoder, AnswerEvent, FailureCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use std::fs::{self, File};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Nothing here takes longer on the slowest machine that should pass.
const PATIENCE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

pub const LIMITS: Limits = Limits {
    memory_bytes: 128 << 20,
    swap_bytes: 0,
    processes: 32,
    cpu_percent: 0,
};

/// Host ids of tests: far above what this machine's users have.
const ID_BASE: u32 = 0x6000_0000;

/// One worker's sandboxes.
pub struct Rig {
    pub sandboxes: Sandboxes,
    pub directory: PathBuf,
    pub group: PathBuf,
    log: File,
    functions: u32,
    ids: u64,
    /// Of instances ordered from now on.
    pub network: Network,
}

/// A zygote that is ready.
pub struct Ready {
    pub family: FamilyKey,
    pub zygote: Zygote,
    pub threads: u32,
    pub resident_kb: u64,
}

/// An instance of a function.
pub struct Running {
    pub family: FamilyKey,
    pub instance: Instance,
    decoder: AnswerDecoder,
    input: Vec<u8>,
}

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(String),
    Failure(FailureCode, String),
    /// The connection ended instead.
    HungUp,
}

/// What tests may want different.
pub struct Wish<'a> {
    pub interpreter: &'a Path,
    pub user_namespace: bool,
    pub seccomp: bool,
    pub packages: Option<&'a Path>,
    /// Instead of the host's programs.
    pub rootfs: Option<&'a Path>,
    pub limits: Limits,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        let interpreter = Path::new("/usr/bin/python3");
        Self {
            interpreter,
            user_namespace: true,
            seccomp: true,
            packages: None,
            rootfs: None,
            limits: LIMITS,
        }
    }
}

/// None, and why on stderr, where there can be no sandboxes.
pub fn rig() -> Option<Rig> {
    rig_with(&Wish::default())
}

pub fn rig_with(wish: &Wish<'_>) -> Option<Rig> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if !rustix::process::geteuid().is_root() {
        return skip("sandboxes are made by root");
    }
    let here = match Survey::make() {
        Ok(survey) => survey.here,
        Err(error) => return skip(&error.to_string()),
    };
    let own = PrivateMounts::leave_host().unwrap();
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("olworker-test-{}-{number}", std::process::id());
    let (directory, group) = (std::env::temp_dir().join(&name), here.join(&name));
    for part in ["staging", "packages", "functions"] {
        fs::create_dir_all(directory.join(part)).unwrap();
    }
    fs::create_dir(&group).unwrap();
    let places = Places::of_this_program().unwrap();
    let interpreter = match wish.rootfs {
        Some(rootfs) => Interpreter::in_rootfs(wish.interpreter, rootfs),
        None => Interpreter::on_host(wish.interpreter),
    };
    let interpreter = interpreter.unwrap_or_else(|error| panic!("{error}"));
    let packages = directory.join("packages");
    let settings = Settings {
        base: BaseSpec {
            ground: wish.rootfs.map_or(Ground::Host, Ground::Rootfs),
            interpreter: &interpreter,
            packages: Some(wish.packages.unwrap_or(&packages)),
            runtime: &places.runtimes().unwrap().join("python"),
            staging: &directory.join("staging"),
        },
        library: &places.library().unwrap(),
        cgroup_root: &group,
        id_base: ID_BASE + (std::process::id() % 256) * (1 << 22) + number * (1 << 18),
        user_namespace: wish.user_namespace,
        seccomp: wish.seccomp,
        slots: SlotDefaults {
            limits: wish.limits,
            scratch_bytes: 16 << 20,
            spares: 4,
            reuse: true,
        },
        zygote_limits: Limits {
            memory_bytes: 512 << 20,
            ..wish.limits
        },
    };
    let sandboxes = Sandboxes::open(&own, &settings).unwrap_or_else(|error| panic!("{error}"));
    let log = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(directory.join("log"))
        .unwrap();
    Some(Rig {
        sandboxes,
        directory,
        group,
        log,
        functions: 0,
        ids: 0,
        network: Network::Host,
    })
}

pub fn skip(why: &str) -> Option<Rig> {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIP: {why}\n"));
    None
}

impl Rig {
    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap()
    }

    /// A zygote that has imported these.
    pub fn zygote(&mut self, modules: &[&str]) -> Ready {
        let id = self.next_id();
        let (family, mut zygote) = self
            .sandboxes
            .start_zygote(id, self.log.as_fd(), None)
            .unwrap();
        let modules = TextList::collect(modules.iter().map(|name| name.as_bytes())).unwrap();
        let paths = TextList::collect([&b"/packages"[..]]).unwrap();
        zygote.import(&modules, &paths).unwrap();
        self.until_ready(family, zygote)
    }

    /// A zygote forked from another, which imports more.
    pub fn child(&mut self, parent: &mut Ready, modules: &[&str]) -> Ready {
        let id = self.next_id();
        let log = self.log.try_clone().unwrap();
        let (family, ancestor) = (parent.family, &mut parent.zygote);
        let mut zygote = self
            .sandboxes
            .start_child(family, ancestor, id, log.as_fd(), None)
            .unwrap();
        let modules = TextList::collect(modules.iter().map(|name| name.as_bytes())).unwrap();
        zygote.import(&modules, &TextList::new()).unwrap();
        match next_event(&mut parent.zygote) {
            ZygoteEvent::Forked { id: told, pid } => {
                assert_eq!(told, id);
                self.sandboxes.zygote_born(&mut zygote, pid).unwrap();
            }
            other => panic!("{other:?}"),
        }
        self.until_ready(family, zygote)
    }

    fn until_ready(&mut self, family: FamilyKey, mut zygote: Zygote) -> Ready {
        match next_event(&mut zygote) {
            ZygoteEvent::Ready {
                resident_kb,
                threads,
                ..
            } => Ready {
                family,
                zygote,
                threads,
                resident_kb,
            },
            other => panic!("{other:?}; the log says: {}", self.log()),
        }
    }

    /// A directory with this `f.py`.
    pub fn function(&mut self, code: &str) -> PathBuf {
        self.functions += 1;
        let directory = self.directory.join(format!("functions/{}", self.functions));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("f.py"), code).unwrap();
        directory
    }

    /// Forks an instance of this code.
    pub fn fork(&mut self, from: &mut Ready, code: &str) -> Running {
        let directory = self.function(code);
        self.fork_directory(from, &directory, LIMITS)
    }

    pub fn fork_directory(&mut self, from: &mut Ready, code: &Path, limits: Limits) -> Running {
        let mut running = self.fork_unanswered(from, code, limits);
        self.await_birth(from, &mut running);
        running
    }

    /// Forks without waiting for the zygote's answer.
    pub fn fork_unanswered(&mut self, from: &mut Ready, code: &Path, limits: Limits) -> Running {
        let environment = TextList::collect([&b"HOME=/tmp"[..], b"LANG=C.UTF-8"]).unwrap();
        let log = self.log.try_clone().unwrap();
        let order = self.order(code, &environment, log.as_fd(), limits);
        let instance = self
            .sandboxes
            .fork(from.family, &mut from.zygote, &order)
            .unwrap();
        Running::new(from.family, instance)
    }

    /// Forks a process ahead and waits until it stands by.
    pub fn stand_by(&mut self, from: &mut Ready) {
        let id = self.next_id();
        let (family, zygote) = (from.family, &mut from.zygote);
        self.sandboxes.stand_by(family, zygote, id).unwrap();
        match next_event(zygote) {
            ZygoteEvent::Forked { id: told, pid } => {
                assert_eq!(told, id);
                self.sandboxes.standby_born(family, zygote, pid).unwrap();
            }
            other => panic!("{other:?}; the log says: {}", self.log()),
        }
    }

    /// An instance of this code that a process forked ahead becomes.
    pub fn send_on(&mut self, from: &mut Ready, code: &str) -> Running {
        self.stand_by(from);
        let directory = self.function(code);
        let running = self.fork_unanswered(from, &directory, LIMITS);
        assert!(running.instance.pid().is_some(), "alive at once");
        running
    }

    pub fn await_birth(&mut self, from: &mut Ready, running: &mut Running) {
        match next_event(&mut from.zygote) {
            ZygoteEvent::Forked { id, pid } => {
                assert_eq!(id, running.instance.id());
                self.sandboxes.born(&mut running.instance, pid).unwrap();
            }
            other => panic!("{other:?}; the log says: {}", self.log()),
        }
    }

    pub fn order<'a>(
        &mut self,
        code: &'a Path,
        environment: &'a TextList,
        log: BorrowedFd<'a>,
        limits: Limits,
    ) -> Order<'a> {
        Order {
            id: self.next_id(),
            code,
            packages: None,
            environment,
            hostname: "sandbox",
            limits,
            open_files: 256,
            scratch_bytes: 16 << 20,
            network: self.network,
            stdout: log,
            stderr: log,
        }
    }

    pub fn fresh(&mut self, code: &str) -> Running {
        let directory = self.function(code);
        let environment = TextList::collect([&b"HOME=/tmp"[..], b"LANG=C.UTF-8"]).unwrap();
        let log = self.log.try_clone().unwrap();
        let order = self.order(&directory, &environment, log.as_fd(), LIMITS);
        let (family, instance) = self.sandboxes.start_fresh(&order).unwrap();
        Running::new(family, instance)
    }

    /// Kills it and waits for the end.
    pub fn end(&mut self, mut running: Running) -> Cause {
        running.instance.kill().unwrap();
        self.await_end(running)
    }

    pub fn await_end(&mut self, mut running: Running) -> Cause {
        let cause = loop {
            wait_for(running.instance.pidfd().expect("born"), PollFlags::IN);
            if let Some(cause) = running.instance.ended().unwrap() {
                break cause;
            }
        };
        self.sandboxes.bury(running.family, running.instance);
        cause
    }

    pub fn end_zygote(&mut self, mut ready: Ready) -> Cause {
        ready.zygote.kill().unwrap();
        let cause = loop {
            wait_for(ready.zygote.pidfd().expect("born"), PollFlags::IN);
            if let Some(cause) = ready.zygote.ended().unwrap() {
                break cause;
            }
        };
        self.sandboxes.bury_zygote(ready.family, ready.zygote);
        cause
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // What still lives is killed with its group.
        let _ = fs::write(self.group.join("sandboxes/cgroup.kill"), "1");
        for _ in 0..200 {
            if remove_groups(&self.group).is_ok() {
                break;
            }
            let pause = Timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            poll(&mut [], Some(&pause)).unwrap();
        }
        let _ = rustix::mount::unmount(
            self.directory.join("staging"),
            rustix::mount::UnmountFlags::DETACH,
        );
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn remove_groups(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

pub fn next_event(zygote: &mut Zygote) -> ZygoteEvent {
    loop {
        let mut event = None;
        zygote.on_readable(&mut |told| {
            // The end of one that failed may come with its last words.
            let first = event.is_none() || matches!(told, ZygoteEvent::HungUp);
            assert!(first, "tests await one answer at a time");
            event.get_or_insert(told);
        });
        match event {
            Some(event) => return event,
            None => wait_for(zygote.control(), PollFlags::IN),
        }
    }
}

/// Waits for something that no descriptor tells of.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = clock::now();
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    while !holds() {
        assert!(
            clock::now().since(begin) < Duration::from_mins(1),
            "{what}: not within a minute"
        );
        poll(&mut [], Some(&pause)).unwrap();
    }
}

pub fn wait_for(descriptor: BorrowedFd<'_>, wanted: PollFlags) {
    let mut watched = [PollFd::from_borrowed_fd(descriptor, wanted)];
    let ready = poll(&mut watched, Some(&PATIENCE)).unwrap();
    assert!(ready > 0, "nothing happened for a minute");
}

impl Running {
    fn new(family: FamilyKey, instance: Instance) -> Self {
        Self {
            family,
            instance,
            decoder: AnswerDecoder::new(),
            input: Vec::new(),
        }
    }

    /// Calls it with this body and waits for the answer.
    pub fn call(&mut self, body: &str) -> Outcome {
        self.send(body);
        self.receive()
    }

    pub fn send(&mut self, body: &str) {
        let head = CallHead {
            id: "1",
            function: "test",
            start: StartKind::Zygote,
            budget_ms: 0,
            protocol: "HTTP/1.1",
            method: "POST",
            script_name: "/run/test",
            path: "",
            query: "",
            client: "",
            server: "",
        };
        let mut frame = Vec::new();
        head.encode([], body.as_bytes(), true, &mut frame).unwrap();
        let sent = rustix::io::write(self.instance.connection(), &frame).unwrap();
        assert_eq!(sent, frame.len());
        self.decoder.call_sent();
    }

    pub fn receive(&mut self) -> Outcome {
        let mut body = Vec::new();
        loop {
            let step = self.decoder.decode(&self.input).unwrap();
            let mut outcome = None;
            match step.event {
                Some(AnswerEvent::Failed(failure)) => {
                    let text = format!("{}\n{}", failure.detail, failure.traceback);
                    outcome = Some(Outcome::Failure(failure.code, text));
                }
                Some(AnswerEvent::Data(data)) => body.extend_from_slice(data),
                Some(AnswerEvent::End(_)) => {
                    outcome = Some(Outcome::Answer(String::from_utf8(body.clone()).unwrap()));
                }
                _ => {}
            }
            let used = step.used;
            self.input.drain(..used);
            if let Some(outcome) = outcome {
                return outcome;
            }
            if used == 0 && !self.fill() {
                return Outcome::HungUp;
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            let connection = self.instance.connection();
            match rustix::io::read(connection, &mut chunk) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => return false,
                Ok(count) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    return true;
                }
                Err(rustix::io::Errno::AGAIN) => wait_for(connection, PollFlags::IN),
                Err(error) => panic!("{error}"),
            }
        }
    }
}
