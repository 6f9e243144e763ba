//! What was configured, in the engine's words: the worker's parameters, each function's settings.
//!
//! The one place where the two vocabularies meet; a reload comes through here as the start did.

use crate::base::Bytes;
use crate::config::Config;
use crate::config::function::FunctionSettings as Asked;
use crate::config::words::{ImportCache, Network, OnHangup};
use crate::engine::{
    self, DESCRIPTORS_OF_A_SANDBOX, FunctionSettings, Packages, Params, ZygoteSettings,
};
use crate::host::cgroup::Limits;
use std::path::PathBuf;
use std::time::Duration;

/// Descriptors that the worker keeps for itself, clients apart: listeners, logs, helpers, the ring,
/// groups made ahead.
const DESCRIPTORS_RESERVED: u64 = 512;
/// The part of all descriptors that clients have to themselves, however many may connect: beyond
/// it they may find that sandboxes have the rest, and wait in the backlog.
const PART_OF_CLIENTS: u64 = 4;

/// What is true for the whole worker. `descriptors`: this process's own limit; `cpus`: what a
/// "multitree" has copies for.
pub fn params(config: &Config, descriptors: u64, cpus: u32) -> Params {
    let mut params = Params::new(Bytes::new(config.pool.mem_bytes));
    let clients = config
        .http
        .max_connections
        .min(descriptors / PART_OF_CLIENTS);
    let left = descriptors.saturating_sub(DESCRIPTORS_RESERVED + clients);
    params.descriptors = u32::try_from(left)
        .unwrap_or(u32::MAX)
        .max(DESCRIPTORS_OF_A_SANDBOX);
    params.free_percent = config.pool.free_percent as u32;
    params.freeze_after = config.pool.idle_freeze;
    params.reclaim_frozen = config.features.downsize_paused_mem;
    params.processors = cpus.max(1);
    params.trees = match config.features.import_cache {
        ImportCache::Off => 0,
        ImportCache::Tree => 1,
        ImportCache::Multitree => cpus.max(1),
    };
    params.install = Some(config.packages.installer_timeout);
    params.warmup = config.features.warmup;
    params.dynamic_zygotes = config.policy.dynamic_zygotes;
    params.zygote = zygote(config);
    params.evict = config.policy.evict;
    params.scale = config.policy.scale;
    params.lookup = config.policy.lookup;
    params
}

fn zygote(config: &Config) -> ZygoteSettings {
    let limits = &config.limits.zygote;
    ZygoteSettings {
        memory: Bytes::new(limits.mem_bytes),
        forks_max: limits.max_forks,
        age_max: limits.max_age,
    }
}

/// What one version of a function gets: what it asks for, within what the worker is configured to.
pub fn of_function(config: &Config, asked: &Asked, packages: Packages) -> FunctionSettings {
    let limits = &config.limits;
    let on_hangup = match asked.on_hangup.unwrap_or(limits.on_hangup) {
        OnHangup::Finish => engine::OnHangup::Finish,
        OnHangup::Kill => engine::OnHangup::Kill,
    };
    let instances = asked.max_instances.or(limits.max_instances);
    FunctionSettings {
        memory: Bytes::new(asked.mem_bytes.unwrap_or(limits.mem_bytes)),
        runtime: asked.runtime.unwrap_or(limits.runtime),
        instances: instances.map(|count| count as u32),
        queue: asked.queue.unwrap_or(limits.queue) as u32,
        on_hangup,
        reuse: asked.reuse_sandbox.unwrap_or(true),
        zygote: asked.zygote.unwrap_or(true),
        packages,
    }
}

/// Where uv is kept once it was fetched: one for all workers of a user.
pub fn own_tool(config: &Config) -> PathBuf {
    let is_installed = config.home.state.starts_with("/var/lib");
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    match cache.filter(|cache| cache.is_absolute() && !is_installed) {
        Some(cache) => cache.join("olworker/tool"),
        None => config.packages.dir.join("tool"),
    }
}

/// What the sandbox of one version is given, beside what the engine watches over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confinement {
    pub mem_bytes: u64,
    pub swap_bytes: u64,
    pub procs: u64,
    pub cpu_percent: u64,
    pub scratch_bytes: u64,
    pub network: Network,
    pub runtime: Duration,
}

impl Confinement {
    /// As the kernel is told.
    pub fn limits(&self) -> Limits {
        Limits {
            memory_bytes: self.mem_bytes,
            swap_bytes: self.swap_bytes,
            processes: self.procs as u32,
            cpu_percent: self.cpu_percent as u32,
        }
    }
}

pub fn confinement(config: &Config, asked: &Asked) -> Confinement {
    let limits = &config.limits;
    Confinement {
        mem_bytes: asked.mem_bytes.unwrap_or(limits.mem_bytes),
        swap_bytes: limits.swap_bytes,
        procs: asked.procs.unwrap_or(limits.procs),
        cpu_percent: asked.cpu_percent.unwrap_or(limits.cpu_percent),
        scratch_bytes: limits.scratch_bytes,
        network: asked.network.unwrap_or(config.sandbox.network),
        runtime: asked.runtime.unwrap_or(limits.runtime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Home, Machine};

    fn config() -> Config {
        Config::defaults(Home::installed(), Machine::UNKNOWN)
    }

    fn none() -> Packages {
        Packages::Known(crate::base::PackageSet::EMPTY)
    }

    #[test]
    fn a_function_that_asks_for_nothing_gets_what_is_configured() {
        let settings = of_function(&config(), &Asked::default(), none());
        assert_eq!(settings, FunctionSettings::DEFAULT);
    }

    #[test]
    fn what_a_function_asks_for_wins() {
        let asked = Asked {
            mem_bytes: Some(64 << 20),
            queue: Some(0),
            max_instances: Some(3),
            zygote: Some(false),
            network: Some(Network::Nothing),
            ..Asked::default()
        };
        let settings = of_function(&config(), &asked, none());
        assert_eq!(settings.memory, Bytes::from_mb(64));
        assert_eq!((settings.queue, settings.instances), (0, Some(3)));
        assert!(!settings.zygote && settings.reuse);
        assert_eq!(confinement(&config(), &asked).network, Network::Nothing);
    }

    #[test]
    fn descriptors_are_what_clients_leave() {
        let mut config = config();
        config.http.max_connections = 10_000;
        assert_eq!(params(&config, 20_000, 2).descriptors, 14_488);
        config.http.max_connections = 100;
        assert_eq!(params(&config, 20_000, 2).descriptors, 19_388);
        assert_eq!(
            params(&config, 512, 2).descriptors,
            DESCRIPTORS_OF_A_SANDBOX
        );
    }
}
