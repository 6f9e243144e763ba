//! From a configuration to a running loop, and what is to be cleared up behind it.
//!
//! The order matters: signals are blocked before the first thread, the worker moves into its leaf
//! of the cgroup tree before it starts anything, sockets are open before it says that it is ready.

use super::calls::Calls;
use super::depot::{Depot, Opening};
use super::flight::Flight;
use super::front::{self, Front};
use super::functions::Functions;
use super::instances::Lines;
use super::listen::Sockets;
use super::memory::Meter;
use super::outputs::Outputs;
use super::registry::Uploads;
use super::settings;
use super::stats::Stats;
use super::streams::Streams;
use super::token::Owner;
use super::trace::Recorder;
use super::worker::{self, Origin, Phase, Worker};
use super::zygotes::Nests;
use crate::base::{Key, Limits, Time};
use crate::config::function::FunctionSettings;
use crate::config::load::Request;
use crate::config::meaning::{Base, RegistryUrl};
use crate::config::places::{Missing, Places};
use crate::config::words::{Backend, LogTarget};
use crate::config::{Config, Machine};
use crate::engine::Engine;
use crate::host::code::{Compiler, Files, Registry, Web};
use crate::host::family::SlotDefaults;
use crate::host::helper::Helpers;
use crate::host::jail::{BaseSpec, Ground, Interpreter, PrivateMounts};
use crate::host::log as sink;
use crate::host::sandboxes::{Sandboxes, Settings};
use crate::host::service::{Controller, Delegation, Manager};
use crate::host::unprivileged::Unprivileged;
use crate::io::{self, Handle, Interest, Io, Wanted};
use crate::sys::signals::Signals;
use crate::sys::{clock, machine as size};
use serde_json::json;
use std::fmt;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;

/// The bounds of the one `io`.
pub(super) const IO_LIMITS: io::Limits = io::Limits {
    handles: 1 << 17,
    chunks: 128,
    chunk_bytes: 32 * 1024,
    completions: 256,
};
/// Threads for work that blocks, and how much of it may wait.
const HELPERS: usize = 2;
const JOBS_MAX: usize = 1024;
/// The same for a registry on the web.
const FETCHERS: usize = 4;
const FETCHES_MAX: usize = 256;
/// Of what nobody waits for: what is too much is left undone.
const IDLE_JOBS_MAX: usize = 256;
/// Of a token file; a token is a line.
const TOKEN_BYTES_MAX: usize = 4096;

/// What a worker is started with.
#[derive(Debug)]
pub struct Start {
    pub config: Config,
    /// How the configuration was read: a reload reads it again.
    pub request: Request,
    pub machine: Machine,
    /// Where the library and the runtimes are.
    pub places: Places,
}

/// Why there is no worker. `Display` is the line for the operator.
#[derive(Debug)]
pub enum Failure {
    /// What was configured cannot be: exit code 78.
    Configuration(String),
    /// The machine does not let us: exit code 1.
    Machine(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(text) | Self::Machine(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

fn machine<E: fmt::Display>(what: &str) -> impl Fn(E) -> Failure {
    move |error| Failure::Machine(format!("{what}: {error}"))
}

/// Runs a worker until it is told to end.
pub fn serve(start: Start) -> Result<(), Failure> {
    let started = clock::now();
    let Start {
        config,
        request,
        machine: cpu_and_memory,
        places,
    } = start;
    sink::configure(log_target(&config), config.log.level.filter())
        .map_err(|error| Failure::Configuration(error.to_string()))?;
    let signals = Signals::take().map_err(machine("signals"))?;
    let token = token(&config)?;
    make_directories(&config)?;
    let descriptors = size::raise_descriptor_limit().map_err(machine("limit of descriptors"))?;
    let manager = Manager::from_environment().map_err(machine("service manager"))?;
    let delegation = Delegation::take().map_err(|error| Failure::Machine(error.to_string()))?;
    if delegation.leftovers > 0 {
        let count = delegation.leftovers;
        log::warn!(event = "leftovers-cleared"; "{count} cgroups of a dead worker were cleared");
    }
    let site = Site {
        request,
        machine: cpu_and_memory,
        places,
        signals,
        token,
        descriptors,
        manager,
        started,
    };
    let served = serve_within(&delegation, config, site);
    // Whether or not there ever was a worker: its cgroups go.
    if let Err(error) = delegation.leave() {
        log::warn!("{error}");
    }
    if served.is_ok() {
        log::info!(event = "worker-ended"; "the worker has ended");
    }
    log::logger().flush();
    served
}

/// What is there before a worker has its place among the cgroups.
struct Site {
    request: Request,
    machine: Machine,
    places: Places,
    signals: Signals,
    token: Option<String>,
    descriptors: u64,
    manager: Manager,
    started: Time,
}

fn serve_within(delegation: &Delegation, config: Config, site: Site) -> Result<(), Failure> {
    let (sandboxes, interpreter) = open_sandboxes(&config, delegation, &site.places)?;
    let opening = Opening {
        config: &config,
        interpreter: &interpreter,
    };
    let depot = Depot::open(&opening).map_err(machine("the store of packages"))?;
    let sockets = Sockets::open(&config.http).map_err(|why| Failure::Machine(why.to_string()))?;
    let (io, chosen) = Io::new(wanted(config.io.backend), IO_LIMITS)
        .map_err(|why| Failure::Configuration(why.to_string()))?;
    if let Some(why) = &chosen.fallback {
        log::warn!(event = "io-fallback"; "epoll instead of io_uring: {why}");
    }
    for missing in &delegation.why_not {
        log::warn!(event = "limits-not-enforced"; "{missing}");
    }
    let origin = Origin {
        request: site.request,
        machine: site.machine,
        descriptors: site.descriptors,
        sockets_are_passed: sockets.are_passed,
        listening: sockets.to_string(),
        back_end: chosen.back_end,
        limits: limits_json(delegation),
        started: site.started,
    };
    let parts = Parts {
        io,
        manager: site.manager,
        signals: site.signals,
        sockets,
        sandboxes,
        depot,
        token: site.token,
    };
    let (mut worker, sockets) = assemble(config, origin, parts)?;
    worker
        .meter
        .watch_pressure(delegation.root(), &mut worker.io);
    log::info!(
        event = "worker-ready", backend = chosen.back_end.to_string().as_str();
        "olworker {} is ready on {} ({})",
        env!("CARGO_PKG_VERSION"), worker.origin.listening, chosen
    );
    worker.watch_depot().map_err(machine("descriptors"))?;
    worker.record_packages();
    worker.begin();
    let ended = worker.run();
    worker.end();
    let closed = worker.close();
    sockets.clean_up();
    if let Err(error) = closed {
        log::warn!("sandboxes were not cleared up: {error}");
    }
    ended.map_err(machine("the loop"))
}

fn too_few(_: OwnedFd) -> Failure {
    Failure::Machine("too few descriptors to begin with (raise LimitNOFILE)".to_owned())
}

/// A descriptor of which there is one, told of when it is readable.
fn watched(io: &mut Io, descriptor: OwnedFd, owner: Owner, index: u32) -> Result<Handle, Failure> {
    let handle = io
        .add(descriptor, owner.token(Key::<()>::new(index, 0)))
        .map_err(too_few)?;
    io.watch(handle, Interest::Readable);
    Ok(handle)
}

/// What was opened on the way.
struct Parts {
    io: Io,
    manager: Manager,
    signals: Signals,
    sockets: Sockets,
    sandboxes: Sandboxes,
    depot: Depot,
    token: Option<String>,
}

/// Puts the parts together. The sockets come back without their descriptors.
fn assemble(config: Config, origin: Origin, parts: Parts) -> Result<(Worker, Sockets), Failure> {
    let Parts {
        mut io,
        manager,
        signals,
        mut sockets,
        sandboxes,
        depot,
        token,
    } = parts;
    let now = clock::now();
    let front_limits = front::Limits::new(&config.http, &IO_LIMITS);
    let clients_max = front_limits.connections + front::ACCEPTED_IN_FLIGHT_MAX;
    let mut front = Front::new(front_limits, now, clock::wall().as_secs());
    for listener in sockets.listeners.drain(..) {
        front
            .listen(listener.descriptor, listener.via, &mut io)
            .map_err(too_few)?;
    }
    let signals = watched(&mut io, signals.into_descriptor(), Owner::Signals, 0)?;
    let (helpers, helpers_done) = start_helpers(&mut io, worker::HELPERS, HELPERS, JOBS_MAX)?;
    let idlers = Helpers::start("idler", 1, IDLE_JOBS_MAX).map_err(machine("threads"))?;
    let registry = open_registry(&config)?;
    let (fetchers, fetchers_done) = start_fetchers(&registry, &mut io)?;
    let limits = Limits::DEFAULT;
    let logs = config.home.function_logs();
    let bytes_max = config.log.function_log_bytes;
    let outputs = Outputs::new(limits.instances as usize, &logs, bytes_max, &mut io)
        .map_err(machine("the logs of functions"))?;
    let trace = Recorder::new(&config).map_err(machine("the recorded trace"))?;
    let params = settings::params(&config, origin.descriptors, origin.machine.cpus);
    let seed = size::random_u64();
    let engine = Engine::new(limits, params, seed);
    let worker = Worker {
        lines: Lines::new(limits.instances as usize),
        nests: Nests::new(limits.zygotes as usize),
        depot,
        meter: Meter::default(),
        closing: Vec::new(),
        freezing: Vec::new(),
        sandboxes,
        outputs,
        functions: Functions::new(limits.functions as usize, config.registry.cache),
        calls: Calls::new(limits.calls as usize, clients_max, (seed >> 32) as u32),
        uploads: Uploads::default(),
        stats: Stats::default(),
        streams: Streams::default(),
        trace,
        flight: Flight::begin(&engine, &config),
        engine,
        phase: Phase::Serving,
        now,
        wall: clock::wall(),
        io,
        front,
        manager,
        helpers,
        idlers,
        compiler: compiler(&config),
        registry,
        fetchers,
        fetchers_done,
        token,
        signals,
        helpers_done,
        watchdog_due: Time::ZERO,
        status_due: Time::ZERO,
        status_told: String::new(),
        tree_generation: 0,
        told: std::collections::VecDeque::new(),
        is_telling: false,
        effects: Vec::new(),
        completions: Vec::new(),
        done: Vec::new(),
        config,
        origin,
    };
    Ok((worker, sockets))
}

/// Where `[log] target` leads.
pub(super) fn log_target(config: &Config) -> sink::Target {
    match config.log.target {
        LogTarget::Auto => sink::Target::Auto,
        LogTarget::Journal => sink::Target::Journal,
        LogTarget::Syslog => sink::Target::Syslog,
        LogTarget::Stderr => sink::Target::Stderr,
    }
}

/// Sandboxes of this configuration. The mounts they are made of are seen by this process only.
fn open_sandboxes(
    config: &Config,
    delegation: &Delegation,
    places: &Places,
) -> Result<(Sandboxes, Interpreter), Failure> {
    let missing = |error: Missing| Failure::Machine(error.to_string());
    let own = PrivateMounts::leave_host().map_err(machine("mounts of its own"))?;
    let program = &config.runtimes.python.interpreter;
    let (ground, interpreter) = match &config.sandbox.base {
        Base::Host => (Ground::Host, Interpreter::on_host(program)),
        Base::Rootfs(root) => (Ground::Rootfs(root), Interpreter::in_rootfs(program, root)),
    };
    let interpreter = interpreter.map_err(|error| Failure::Configuration(error.to_string()))?;
    let staging = config.home.run.join("staging");
    for directory in [&staging, &config.packages.dir] {
        fs::create_dir_all(directory).map_err(|error| {
            Failure::Machine(format!("{}: {error} (make it)", directory.display()))
        })?;
    }
    let limits = settings::confinement(config, &FunctionSettings::default()).limits();
    let settings = Settings {
        base: BaseSpec {
            ground,
            interpreter: &interpreter,
            packages: None,
            runtime: &places.runtimes().map_err(missing)?.join("python"),
            staging: &staging,
        },
        library: &places.library().map_err(missing)?,
        cgroup_root: delegation.root(),
        id_base: config.sandbox.id_base,
        user_namespace: config.sandbox.user_namespace,
        seccomp: config.features.enable_seccomp,
        slots: SlotDefaults {
            limits,
            scratch_bytes: config.limits.scratch_bytes,
            spares: config.pool.cgroup_spares as usize,
            reuse: config.features.reuse_cgroups,
        },
        zygote_limits: crate::host::cgroup::Limits {
            memory_bytes: config.limits.zygote.mem_bytes,
            ..limits
        },
    };
    let opened = Sandboxes::open(&own, &settings);
    let sandboxes = opened.map_err(|error| Failure::Machine(error.to_string()))?;
    Ok((sandboxes, interpreter))
}

/// Who works on what strangers sent: just below the ids of sandboxes, so that nothing else has it.
fn nobody(config: &Config) -> u32 {
    config.sandbox.id_base - 1
}

/// Of the interpreter that instances run.
fn compiler(config: &Config) -> Compiler {
    Compiler {
        interpreter: config.runtimes.python.interpreter.clone(),
        root: match &config.sandbox.base {
            Base::Host => None,
            Base::Rootfs(root) => Some(root.clone()),
        },
        id: nobody(config),
    }
}

/// Threads whose results the loop is told of.
fn start_helpers(
    io: &mut Io,
    index: u32,
    count: usize,
    jobs_max: usize,
) -> Result<(Helpers<worker::Done>, Handle), Failure> {
    let names = ["helper", "fetcher"];
    let helpers = Helpers::start(names[index as usize], count, jobs_max);
    let helpers = helpers.map_err(machine("threads"))?;
    let finished = helpers.finished_fd().try_clone_to_owned();
    let finished = finished.map_err(machine("descriptors"))?;
    let done = watched(io, finished, Owner::Helper, index)?;
    Ok((helpers, done))
}

type Fetchers = (Option<Helpers<worker::Done>>, Option<Handle>);

/// Threads that wait for a server, where the registry is one.
fn start_fetchers(registry: &Registry, io: &mut Io) -> Result<Fetchers, Failure> {
    if registry.files().is_some() {
        return Ok((None, None));
    }
    let (fetchers, done) = start_helpers(io, worker::FETCHERS, FETCHERS, FETCHES_MAX)?;
    Ok((Some(fetchers), Some(done)))
}

/// Where functions come from.
fn open_registry(config: &Config) -> Result<Registry, Failure> {
    let unprivileged = Unprivileged::Child { id: nobody(config) };
    let cache = &config.home.cache;
    let (opened, what) = match &config.registry.url {
        RegistryUrl::Files(path) => {
            let keep_versions = config.registry.keep_versions as usize;
            let opened = Files::open(path, cache, keep_versions, unprivileged);
            (opened.map(Registry::Files), path.display().to_string())
        }
        RegistryUrl::Web(url) => {
            let opened = Web::http(url, cache, unprivileged);
            (opened.map(Registry::Web), url.clone())
        }
        RegistryUrl::S3(url) => {
            let opened = Web::s3(url, cache, unprivileged);
            (opened.map(Registry::Web), url.clone())
        }
    };
    opened.map_err(|error| {
        Failure::Machine(format!(
            "the registry {what} cannot be used: {error} (check [registry] url, its permissions)"
        ))
    })
}

fn wanted(backend: Backend) -> Wanted {
    match backend {
        Backend::Auto => Wanted::Auto,
        Backend::Epoll => Wanted::Epoll,
        Backend::IoUring => Wanted::IoUring,
    }
}

/// The token that opens the administrative endpoints over TCP.
pub(super) fn token(config: &Config) -> Result<Option<String>, Failure> {
    let Some(path) = &config.http.admin_token_file else {
        return Ok(None);
    };
    let bad = |why: String| {
        Failure::Configuration(format!(
            "[http] admin_token_file: {}: {why} (write one line with the token there, readable by \
             root only)",
            path.display()
        ))
    };
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| {
            file.take(TOKEN_BYTES_MAX as u64 + 1)
                .read_to_string(&mut text)
        })
        .map_err(|error| bad(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || token.contains(char::is_whitespace) {
        return Err(bad("it does not hold one token".to_owned()));
    }
    Ok(Some(token.to_owned()))
}

fn make_directories(config: &Config) -> Result<(), Failure> {
    let home = &config.home;
    for directory in [&home.run, &home.state, &home.cache] {
        fs::create_dir_all(directory).map_err(|error| {
            let directory = directory.display();
            Failure::Machine(format!(
                "{directory}: {error} (make it, or run as root; `--dir DIR` runs one elsewhere)"
            ))
        })?;
    }
    Ok(())
}

fn limits_json(delegation: &Delegation) -> serde_json::Value {
    let enforced: Vec<&str> = delegation.enforced.iter().map(Controller::name).collect();
    let not: Vec<String> = delegation.why_not.iter().map(ToString::to_string).collect();
    json!({ "enforced": enforced, "not_enforced": not })
}
