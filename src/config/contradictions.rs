//! What cannot be at the same time, though each key alone is fine.
//!
//! Each rule names the key that was typed last among those it concerns, says why they exclude each
//! other and which change makes peace. What is merely odd is a warning: it runs.

use super::keys;
use super::meaning::{Base, Config, MB, Machine, RegistryUrl, TreeTyped};
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
    rules.directories(config);
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
            let remedy = format!("set max_uri_kb <= {head}, or max_head_kb >= {uri}");
            self.warn(&["http.max_uri_kb", "http.max_head_kb"], why, &remedy);
        }
        if http.spool_bytes < http.max_body_bytes {
            let (spool, body) = (http.spool_bytes / MB, http.max_body_bytes / MB);
            let why = format!(
                "a body of {body} MB is read no faster than it is taken: the spool has {spool} MB"
            );
            let remedy = format!("set spool_mb >= {body}, or max_body_mb <= {spool}");
            self.warn(&["http.spool_mb", "http.max_body_mb"], why, &remedy);
        }
    }

    fn memory(&mut self, config: &Config, machine: Machine) {
        let pool = config.pool.mem_bytes / MB;
        let ram = machine.ram_bytes / MB;
        if ram > 0 && pool > ram {
            let why = format!("a pool of {pool} MB, and the machine has {ram} MB");
            let remedy = format!("set pool.mem_mb <= {}, or 0", machine.pool_bytes() / MB);
            self.refuse(&["pool.mem_mb"], why, &remedy);
        }
        if machine.ram_bytes == 0 && pool == 0 {
            // Nothing is known of the machine: its pool is not either.
            return;
        }
        let instance = config.limits.mem_bytes / MB;
        if instance > pool {
            let why = format!("an instance may take {instance} MB of a pool of {pool} MB");
            let remedy = format!("set limits.mem_mb <= {pool}, or pool.mem_mb >= {instance}");
            self.warn(&["limits.mem_mb", "pool.mem_mb"], why, &remedy);
        }
        let installer = config.packages.installer_mem_bytes / MB;
        if installer > pool {
            let why = format!("an installer may take {installer} MB of a pool of {pool} MB");
            let remedy = format!("set packages.installer_mem_mb <= {pool}");
            self.warn(&["packages.installer_mem_mb", "pool.mem_mb"], why, &remedy);
        }
        let scratch = config.limits.scratch_bytes / MB;
        if scratch > instance {
            let why = format!(
                "/tmp of {scratch} MB is in memory: a full one kills an instance of {instance} MB"
            );
            let remedy = format!("set limits.scratch_mb <= {instance}");
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
            let remedy = format!("set limits.zygote.mem_mb <= {pool}");
            self.warn(&["limits.zygote.mem_mb", "pool.mem_mb"], why, &remedy);
        }
        if !off {
            return;
        }
        let remedy = "set features.import_cache = \"tree\"";
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

    /// What is written into one must not turn up in another.
    fn directories(&mut self, config: &Config) {
        let RegistryUrl::Files(functions) = &config.registry.url else {
            return;
        };
        let packages = &config.packages.dir;
        if packages.starts_with(functions) || functions.starts_with(packages) {
            let why = format!(
                "packages in {} and functions in {} would be taken for each other",
                packages.display(),
                functions.display()
            );
            let remedy = "choose two directories, neither within the other";
            self.refuse(&["packages.dir", "registry.url"], why, remedy);
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

#[cfg(test)]
mod tests {
    use super::super::meaning::Home;
    use super::super::read::{Sources, read};
    use super::*;
    use std::path::PathBuf;

    fn warnings(overrides: &[&str]) -> Vec<String> {
        let sources = Sources {
            overrides: overrides.iter().map(ToString::to_string).collect(),
            working_directory: PathBuf::from("/"),
            ..Sources::default()
        };
        let machine = Machine {
            ram_bytes: 8 << 30,
            cpus: 2,
        };
        let loaded = read(&sources, Home::installed(), machine).expect("it can be run");
        loaded.warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_defaults_are_not_odd() {
        assert_eq!(warnings(&[]), Vec::<String>::new());
    }

    #[test]
    fn what_is_odd_can_be_run_and_is_said() {
        for (overrides, expected) in [
            (
                ["http.max_body_mb=512", ""],
                "http.max_body_mb: a body of 512 MB",
            ),
            (
                ["http.max_head_kb=4", ""],
                "http.max_head_kb: a path of 8 KB",
            ),
            (
                ["pool.mem_mb=1100", "limits.mem_mb=1200"],
                "limits.mem_mb: an instance may take",
            ),
            (
                ["pool.mem_mb=600", ""],
                "pool.mem_mb: an installer may take 1024 MB",
            ),
            (
                ["limits.scratch_mb=500", ""],
                "limits.scratch_mb: /tmp of 500 MB",
            ),
            (
                ["pool.idle_freeze_ms=0", ""],
                "pool.idle_freeze_ms: memory of frozen",
            ),
            (
                ["features.warmup=true", "features.import_cache="],
                "there are no zygotes to warm",
            ),
            (
                ["policy.dynamic_zygotes=true", "features.import_cache="],
                "no zygotes to add to",
            ),
            (
                ["features.import_cache_tree=/x", "features.import_cache="],
                "no tree is used",
            ),
            (
                ["sandbox.user_namespace=false", ""],
                "by uid and seccomp alone",
            ),
        ] {
            let overrides: Vec<&str> = overrides.into_iter().filter(|o| !o.is_empty()).collect();
            let told = warnings(&overrides);
            assert!(
                told.iter().any(|line| line.contains(expected)),
                "{expected}: {told:?}"
            );
        }
    }
}
