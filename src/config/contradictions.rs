//! What cannot be at the same time, though each key alone is fine.
//!
//! Each rule names the key that was typed last among those it concerns, says why they exclude each
//! other and which change makes peace. What is merely odd is a warning: it runs.

use super::keys;
use super::meaning::{Base, Config, MB, Machine, TreeTyped};
use super::problem::Problem;
use super::read::Origins;
use super::words::ImportCache;

/// Longest path of a Unix socket: `sun_path` less its closing NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[derive(Debug, Default)]
pub struct Found {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

pub fn find(config: &Config, origins: &Origins, machine: Machine) -> Found {
    let mut rules = Rules {
        origins,
        found: Found::default(),
    };
    rules.http(config);
    rules.memory(config, machine);
    rules.zygotes(config);
    rules.sandbox(config);
    rules.found
}

struct Rules<'a> {
    origins: &'a Origins,
    found: Found,
}

impl Rules<'_> {
    /// About the key of these that was typed last.
    fn about(&self, names: &[&str], why: String, remedy: &str) -> Problem {
        debug_assert!(names.iter().all(|name| keys::find(name).is_some()));
        let last = names
            .iter()
            .max_by_key(|name| self.origins.of(name))
            .expect("a rule has keys");
        Problem::at(&self.origins.of(last), last, why, remedy)
    }

    fn refuse(&mut self, names: &[&str], why: String, remedy: &str) {
        let problem = self.about(names, why, remedy);
        self.found.problems.push(problem);
    }

    fn warn(&mut self, names: &[&str], why: String, remedy: &str) {
        let problem = self.about(names, why, remedy);
        self.found.warnings.push(problem);
    }

    fn http(&mut self, config: &Config) {
        let http = &config.http;
        let bytes = http.unix.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            let why =
                format!("a path of {bytes} bytes, and a socket's has {SOCKET_PATH_BYTES_MAX}");
            self.refuse(&["http.unix"], why, "choose a shorter path, as below /run");
        }
        if http.max_uri_bytes > http.max_head_bytes {
            let (uri, head) = (http.max_uri_bytes / 1024, http.max_head_bytes / 1024);
            let why = format!("a path of {uri} KB never fits a head of {head} KB");
            let remedy = format!("max_uri_kb <= {head}, or max_head_kb >= {uri}");
            self.refuse(&["http.max_uri_kb", "http.max_head_kb"], why, &remedy);
        }
        if http.spool_bytes < http.max_body_bytes {
            let (spool, body) = (http.spool_bytes / MB, http.max_body_bytes / MB);
            let why = format!("a body of {body} MB never fits a spool of {spool} MB");
            let remedy = format!("spool_mb >= {body}, or max_body_mb <= {spool}");
            self.refuse(&["http.spool_mb", "http.max_body_mb"], why, &remedy);
        }
    }

    fn memory(&mut self, config: &Config, machine: Machine) {
        let pool = config.pool.mem_bytes / MB;
        let ram = machine.ram_bytes / MB;
        if ram > 0 && pool > ram {
            let why = format!("a pool of {pool} MB, and the machine has {ram} MB");
            let remedy = format!("pool.mem_mb <= {}, or 0", machine.pool_bytes() / MB);
            self.refuse(&["pool.mem_mb"], why, &remedy);
        }
        if machine.ram_bytes == 0 && pool == 0 {
            // Nothing is known of the machine: its pool is not either.
            return;
        }
        let instance = config.limits.mem_bytes / MB;
        if instance > pool {
            let why = format!("an instance of {instance} MB never fits a pool of {pool} MB");
            let remedy = format!("limits.mem_mb <= {pool}, or pool.mem_mb >= {instance}");
            self.refuse(&["limits.mem_mb", "pool.mem_mb"], why, &remedy);
        }
        let installer = config.packages.installer_mem_bytes / MB;
        if installer > pool {
            let why = format!("an installer may take {installer} MB of a pool of {pool} MB");
            let remedy = format!("packages.installer_mem_mb <= {pool}");
            self.warn(&["packages.installer_mem_mb", "pool.mem_mb"], why, &remedy);
        }
        let scratch = config.limits.scratch_bytes / MB;
        if scratch > instance {
            let why = format!(
                "/tmp of {scratch} MB is in memory: a full one kills an instance of {instance} MB"
            );
            let remedy = format!("limits.scratch_mb <= {instance}");
            self.warn(&["limits.scratch_mb", "limits.mem_mb"], why, &remedy);
        }
        if config.features.downsize_paused_mem && config.pool.idle_freeze.is_none() {
            let why = "memory of frozen instances is reclaimed, and none is ever frozen";
            let keys = ["features.downsize_paused_mem", "pool.idle_freeze_ms"];
            self.warn(
                &keys,
                why.to_owned(),
                "set pool.idle_freeze_ms, or this to false",
            );
        }
    }

    fn zygotes(&mut self, config: &Config) {
        let (pool, zygote) = (
            config.pool.mem_bytes / MB,
            config.limits.zygote.mem_bytes / MB,
        );
        let off = config.features.import_cache == ImportCache::Off;
        if !off && pool > 0 && zygote > pool {
            let why = format!("a zygote may take {zygote} MB of a pool of {pool} MB");
            let remedy = format!("limits.zygote.mem_mb <= {pool}");
            self.warn(&["limits.zygote.mem_mb", "pool.mem_mb"], why, &remedy);
        }
        if !off {
            return;
        }
        let remedy = "features.import_cache = \"tree\"";
        if config.features.warmup {
            let why = "there are no zygotes to warm up".to_owned();
            self.warn(&["features.warmup", "features.import_cache"], why, remedy);
        }
        if config.policy.dynamic_zygotes {
            let why = "there are no zygotes to add to".to_owned();
            self.warn(
                &["policy.dynamic_zygotes", "features.import_cache"],
                why,
                remedy,
            );
        }
        if matches!(
            config.features.import_cache_tree.typed,
            TreeTyped::File(_) | TreeTyped::Inline
        ) {
            let why = "without an import cache no tree is used".to_owned();
            self.warn(
                &["features.import_cache_tree", "features.import_cache"],
                why,
                remedy,
            );
        }
    }

    fn sandbox(&mut self, config: &Config) {
        if !config.sandbox.user_namespace {
            let why = "sandboxes are kept from host root by uid and seccomp alone".to_owned();
            self.warn(
                &["sandbox.user_namespace"],
                why,
                "leave it true where the kernel allows it",
            );
        }
        if let Base::Rootfs(root) = &config.sandbox.base
            && root.as_os_str() == "/"
        {
            let why = "the host's whole root would be shown to functions".to_owned();
            self.refuse(
                &["sandbox.base"],
                why,
                "write \"host\", or a root file system's path",
            );
        }
    }
}
