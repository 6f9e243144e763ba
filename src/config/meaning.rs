//! What a configuration means: one value, typed, complete, read by everything that runs.
//!
//! A `Config` always holds a value for every key; "unset" exists only where it has a meaning of
//! its own (`None`: no token, no index of one's own), and is typed as the empty string. Sizes are
//! bytes, times are `Duration`, paths are absolute. The keys as they are typed, with their units,
//! bounds, texts and what a reload can do with each, are the table in `keys`.

use super::tree::Tree;
use super::words::{Backend, ImportCache, LogLevel, LogTarget, Network, OnHangup};
use crate::policy::{Evict, Lookup, Scale};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const KB: u64 = 1024;
pub const MB: u64 = 1024 * KB;

/// Where a worker lives: the directories its files are below, whatever its keys say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    /// `tree.json` and drop-ins are beside the configuration file.
    pub configuration: PathBuf,
    /// Sockets and the pid file; gone after a boot.
    pub run: PathBuf,
    /// Functions, packages, traces, logs of functions.
    pub state: PathBuf,
    /// What can be made again: code images.
    pub cache: PathBuf,
    /// The Unix socket that is listened on when nothing else is said.
    pub socket: PathBuf,
    /// Functions, as they were uploaded.
    pub functions: PathBuf,
}

impl Home {
    /// The worker of the machine, as packages and systemd install it.
    pub fn installed() -> Self {
        Self {
            configuration: PathBuf::from("/etc/olworker"),
            run: PathBuf::from("/run/olworker"),
            state: PathBuf::from("/var/lib/olworker"),
            cache: PathBuf::from("/var/cache/olworker"),
            socket: PathBuf::from("/run/olworker/olworker.sock"),
            functions: PathBuf::from("/var/lib/olworker/functions"),
        }
    }

    /// A worker of one's own in a directory; `directory` must be absolute.
    pub fn directory(directory: &Path) -> Self {
        Self {
            configuration: directory.to_path_buf(),
            run: directory.join("worker"),
            state: directory.to_path_buf(),
            cache: directory.join("worker/cache"),
            socket: directory.join("worker/ol.sock"),
            functions: directory.join("registry"),
        }
    }

    pub fn pid_file(&self) -> PathBuf {
        self.run.join("worker.pid")
    }

    /// The configuration that the running worker has, overrides included.
    pub fn effective_file(&self) -> PathBuf {
        self.run.join("effective.toml")
    }

    /// What a detached worker writes to stdout and stderr.
    pub fn output_file(&self) -> PathBuf {
        self.state.join("worker.out")
    }

    pub fn traces(&self) -> PathBuf {
        self.state.join("traces")
    }

    pub fn packages(&self) -> PathBuf {
        self.state.join("packages")
    }

    pub fn function_logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// What the engine was told lately, when somebody asked or the worker panicked.
    pub fn recordings(&self) -> PathBuf {
        self.state.join("recordings")
    }
}

/// The facts of the machine that defaults and contradictions depend on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// 0: not known, as when the shipped configuration is rendered.
    pub ram_bytes: u64,
    pub cpus: u32,
}

impl Machine {
    pub const UNKNOWN: Self = Self {
        ram_bytes: 0,
        cpus: 1,
    };

    /// What is left to the kernel and everything that is no sandbox.
    const RESERVED_BYTES: u64 = 500 * MB;

    /// RAM - 500 MB, and never less than half of a small machine's RAM.
    pub fn pool_bytes(&self) -> u64 {
        let left = self.ram_bytes.saturating_sub(Self::RESERVED_BYTES);
        left.max(self.ram_bytes / 2) / MB * MB
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    pub home: Home,
    pub http: Http,
    pub io: Io,
    pub registry: Registry,
    pub runtimes: Runtimes,
    pub packages: Packages,
    pub limits: Limits,
    pub pool: Pool,
    pub features: Features,
    pub policy: Policy,
    pub sandbox: Sandbox,
    pub log: Log,
    pub trace: Trace,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    pub unix: PathBuf,
    /// `None`: no TCP.
    pub tcp: Option<SocketAddr>,
    /// `None`: administration over the Unix socket only.
    pub admin_token_file: Option<PathBuf>,
    pub max_head_bytes: u64,
    pub max_uri_bytes: u64,
    pub max_body_bytes: u64,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// The longest silence within a body.
    pub body_timeout: Duration,
    /// The longest silence between two requests.
    pub idle_timeout: Duration,
    pub max_connections: u64,
    pub tracebacks: bool,
    pub drain: Duration,
    /// For all bodies together that wait in memory because nobody can take them yet.
    pub spool_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Io {
    pub backend: Backend,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registry {
    pub url: RegistryUrl,
    /// How long a look at the registry counts as fresh.
    pub cache: Duration,
    pub keep_versions: u64,
}

/// Where functions come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RegistryUrl {
    /// A directory; the only kind that takes uploads.
    Files(PathBuf),
    /// `http://` or `https://`.
    Web(String),
    /// `s3://bucket/prefix`.
    S3(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Runtimes {
    pub python: Python,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Python {
    /// Absolute, inside the base.
    pub interpreter: PathBuf,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packages {
    pub dir: PathBuf,
    /// `None`: what the machine's own settings say (pip.conf, PIP_*, UV_*).
    pub index_url: Option<String>,
    pub extra_index_urls: Vec<String>,
    /// Directories or URLs.
    pub find_links: Vec<String>,
    pub installer_mem_bytes: u64,
    pub installer_disk_bytes: u64,
    pub installer_timeout: Duration,
    pub max_bytes: u64,
}

/// What one instance may use, unless its function says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    pub procs: u64,
    pub mem_bytes: u64,
    /// 100: one CPU.
    pub cpu_percent: u64,
    pub runtime: Duration,
    /// /tmp and /host of an instance, each.
    pub scratch_bytes: u64,
    pub swap_bytes: u64,
    /// `None`: as many as the pool allows.
    pub max_instances: Option<u64>,
    /// Calls of one function that may wait.
    pub queue: u64,
    pub on_hangup: OnHangup,
    pub zygote: ZygoteLimits,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZygoteLimits {
    pub mem_bytes: u64,
    /// `None`: never replaced for its forks.
    pub max_forks: Option<u64>,
    /// `None`: never replaced for its age.
    pub max_age: Option<Duration>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// For all sandboxes together.
    pub mem_bytes: u64,
    /// The part of the pool that the background evictor keeps free.
    pub free_percent: u64,
    /// Cgroups and roots made ahead of the calls that need them.
    pub cgroup_spares: u64,
    /// Processes forked ahead from each zygote that is used.
    pub standbys: u64,
    /// `None`: idle instances are never frozen.
    pub idle_freeze: Option<Duration>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Features {
    pub import_cache: ImportCache,
    pub import_cache_tree: TreeSource,
    pub downsize_paused_mem: bool,
    pub enable_seccomp: bool,
    pub reuse_cgroups: bool,
    pub warmup: bool,
}

/// What `import_cache_tree` was set to, and the tree that this gave.
#[derive(Clone, PartialEq, Debug)]
pub struct TreeSource {
    pub typed: TreeTyped,
    /// Read when the configuration is loaded; a bare root until then and where there is none.
    pub tree: Tree,
}

#[derive(Clone, PartialEq, Debug)]
pub enum TreeTyped {
    /// Nothing was typed: this file, where it exists.
    Default(PathBuf),
    /// This file, which must exist.
    File(PathBuf),
    /// An inline table or JSON string.
    Inline,
    /// The empty string: a bare root.
    Empty,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub evict: Evict,
    pub scale: Scale,
    pub lookup: Lookup,
    /// Whether today's traffic may add nodes to the tree.
    pub dynamic_zygotes: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sandbox {
    pub base: Base,
    pub network: Network,
    pub user_namespace: bool,
    /// The first host id that sandboxes may use.
    pub id_base: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Base {
    /// The host's /usr and what belongs to it, read-only.
    Host,
    /// A root file system.
    Rootfs(PathBuf),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    pub target: LogTarget,
    pub level: LogLevel,
    /// Kept of what one function printed.
    pub function_log_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    pub record: bool,
    pub keep_days: u64,
    /// Above it calls are folded to counts.
    pub max_bytes: u64,
}

/// The first host id for sandboxes: just above the range systemd gives to containers
/// (524288..1879048191), far from /etc/subuid's (from 100000) and dynamic users (61184..65519).
pub const ID_BASE_DEFAULT: u32 = 0x7000_0000;

impl Config {
    /// Every key at its default, for a worker that lives in `home` on `machine`.
    pub fn defaults(home: Home, machine: Machine) -> Self {
        Self {
            http: Http::defaults(&home),
            io: Io {
                backend: Backend::Auto,
            },
            registry: Registry {
                url: RegistryUrl::Files(home.functions.clone()),
                cache: Duration::from_secs(5),
                keep_versions: 10,
            },
            runtimes: Runtimes {
                python: Python {
                    interpreter: PathBuf::from("/usr/bin/python3"),
                },
            },
            packages: Packages::defaults(&home),
            limits: Limits::defaults(),
            pool: Pool {
                mem_bytes: machine.pool_bytes(),
                free_percent: 20,
                cgroup_spares: 16,
                standbys: 2,
                idle_freeze: Some(Duration::from_secs(10)),
            },
            features: Features {
                import_cache: ImportCache::Tree,
                import_cache_tree: TreeSource {
                    typed: TreeTyped::Default(home.configuration.join("tree.json")),
                    tree: Tree::bare(),
                },
                downsize_paused_mem: true,
                enable_seccomp: true,
                reuse_cgroups: true,
                warmup: false,
            },
            policy: Policy {
                evict: Evict::DEFAULT,
                scale: Scale::Little,
                lookup: Lookup::Best,
                dynamic_zygotes: false,
            },
            sandbox: Sandbox {
                base: Base::Host,
                network: Network::Host,
                user_namespace: true,
                id_base: ID_BASE_DEFAULT,
            },
            log: Log {
                target: LogTarget::Auto,
                level: LogLevel::Info,
                function_log_bytes: 16 * MB,
            },
            trace: Trace {
                record: true,
                keep_days: 14,
                max_bytes: 1024 * MB,
            },
            home,
        }
    }
}

impl Http {
    fn defaults(home: &Home) -> Self {
        Self {
            unix: home.socket.clone(),
            tcp: Some(SocketAddr::from(([127, 0, 0, 1], 5000))),
            admin_token_file: None,
            max_head_bytes: 32 * KB,
            max_uri_bytes: 8 * KB,
            max_body_bytes: 64 * MB,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(1),
            max_connections: 10_240,
            tracebacks: true,
            drain: Duration::from_secs(30),
            spool_bytes: 256 * MB,
        }
    }
}

impl Packages {
    fn defaults(home: &Home) -> Self {
        Self {
            dir: home.packages(),
            index_url: None,
            extra_index_urls: Vec::new(),
            find_links: Vec::new(),
            installer_mem_bytes: 1024 * MB,
            installer_disk_bytes: 4096 * MB,
            installer_timeout: Duration::from_mins(5),
            max_bytes: 10_240 * MB,
        }
    }
}

impl Limits {
    fn defaults() -> Self {
        Self {
            procs: 32,
            mem_bytes: 128 * MB,
            cpu_percent: 100,
            runtime: Duration::from_secs(30),
            scratch_bytes: 64 * MB,
            swap_bytes: 0,
            max_instances: None,
            queue: 1024,
            on_hangup: OnHangup::Finish,
            zygote: ZygoteLimits {
                mem_bytes: 512 * MB,
                max_forks: Some(65_536),
                max_age: Some(Duration::from_hours(24)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_leaves_room_for_the_machine() {
        let pool = |ram_mb: u64| {
            let machine = Machine {
                ram_bytes: ram_mb * MB,
                cpus: 1,
            };
            machine.pool_bytes() / MB
        };
        assert_eq!(pool(24_000), 23_500);
        assert_eq!(pool(600), 300);
        assert_eq!(Machine::UNKNOWN.pool_bytes(), 0);
    }

    #[test]
    fn sandbox_ids_are_outside_of_what_others_hand_out() {
        let first = ID_BASE_DEFAULT;
        for (from, to) in [(0, 65_535), (100_000, 165_535), (524_288, 1_879_048_191)] {
            assert!(first < from || first > to, "{first} is in {from}..{to}");
        }
        assert_eq!(first % 65_536, 0, "ranges of ids are aligned");
    }
}
