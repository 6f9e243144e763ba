//! The table of every key: the one definition behind reading, writing, help, manual and reload.
//!
//! Order is the order of the file. Bounds are where a value stops making sense on any machine, not
//! advice. A section has a sentence of its own in [`SECTIONS`].

use super::key::Reload::{AtOnce, Restart};
use super::key::{Key, Kind, Lens, Number, Reload, Store, Text, Unit, Word};
use super::words::{Backend, ImportCache, LogLevel, LogTarget, Network, OnHangup};
use crate::policy::{Evict, Lookup, Scale};
use std::time::Duration;

/// Every section and what it is about.
pub const SECTIONS: &[(&str, &str)] = &[
    (
        "http",
        "Where clients connect, and how much of anything a request may be.",
    ),
    ("io", "How the event loop waits."),
    ("registry", "Where functions come from."),
    ("runtimes.python", "What runs Python functions."),
    (
        "packages",
        "Where packages are kept and come from. What is not set here comes from the machine: \
         pip.conf, PIP_*, UV_*, proxies, SSL_CERT_FILE.",
    ),
    (
        "limits",
        "What an instance may use, unless its function says otherwise.",
    ),
    (
        "limits.zygote",
        "What a zygote may use, and when it is replaced.",
    ),
    ("pool", "What all sandboxes together may use."),
    ("features", "What can be switched."),
    ("policy", "How the worker decides."),
    ("sandbox", "What a function sees of the machine."),
    ("log", "Where the worker writes what it does."),
    (
        "trace",
        "The record of calls, from which `ol fit` makes zygote trees.",
    ),
];

const fn number(unit: Unit, min: u64, max: u64, lens: Lens<u64>) -> Kind {
    let store = Store::Plain(lens);
    Kind::Number(Number {
        unit,
        min,
        max,
        zero: None,
        store,
    })
}

const fn count(min: u64, max: u64, lens: Lens<u64>) -> Kind {
    number(Unit::Count, min, max, lens)
}

const fn kilobytes(min: u64, max: u64, lens: Lens<u64>) -> Kind {
    number(Unit::Kilobytes, min, max, lens)
}

const fn megabytes(min: u64, max: u64, lens: Lens<u64>) -> Kind {
    number(Unit::Megabytes, min, max, lens)
}

const fn span(unit: Unit, min: u64, max: u64, lens: Lens<Duration>) -> Kind {
    let store = Store::Span(lens);
    Kind::Number(Number {
        unit,
        min,
        max,
        zero: None,
        store,
    })
}

const fn or_zero(unit: Unit, max: u64, zero: &'static str, store: Store) -> Kind {
    Kind::Number(Number {
        unit,
        min: 1,
        max,
        zero: Some(zero),
        store,
    })
}

macro_rules! word {
    ($words:ident, $($place:ident).+) => {
        Kind::Word(Word {
            words: $words::WORDS,
            put: |config, index| config.$($place).+ = $words::ALL[index],
            get: |config| config.$($place).+.index(),
        })
    };
}

/// A policy is known by its own name for itself.
macro_rules! policy {
    ($policy:ident, $place:ident) => {{
        const WORDS: [&str; $policy::ALL.len()] = {
            let mut words = [""; $policy::ALL.len()];
            let mut index = 0;
            while index < words.len() {
                words[index] = $policy::ALL[index].name();
                index += 1;
            }
            words
        };
        Kind::Word(Word {
            words: &WORDS,
            put: |config, index| config.policy.$place = $policy::ALL[index],
            get: |config| config.policy.$place as usize,
        })
    }};
}

const fn key(name: &'static str, kind: Kind, reload: Reload, about: &'static str) -> Key {
    Key {
        name,
        kind,
        reload,
        about,
    }
}

/// A day, the longest that anything waits.
const DAY_SECONDS: u64 = 24 * 60 * 60;
/// A terabyte, more than any one thing holds.
const SIZE_MB_MAX: u64 = 1 << 20;
/// A petabyte, more than any machine has.
const POOL_MB_MAX: u64 = 1 << 30;
/// Host ids stop below 2^31 (what is above upsets programs), with room for the ranges of sandboxes.
const ID_MAX: u64 = 0x7fff_0000;

pub const KEYS: &[Key] = &[
    key(
        "http.unix",
        Kind::Text(Text::Path(|c| &mut c.http.unix)),
        Restart,
        "The Unix socket. It serves everything; its file mode says to whom.",
    ),
    key(
        "http.tcp",
        Kind::Text(Text::Address(|c| &mut c.http.tcp)),
        Restart,
        "The TCP address. It serves calls and /status, and administration only with a token. \
         Empty switches TCP off.",
    ),
    key(
        "http.admin_token_file",
        Kind::Text(Text::OptionalPath(|c| &mut c.http.admin_token_file)),
        AtOnce,
        "The file with the token that opens administration over TCP (`Authorization: Bearer`).",
    ),
    key(
        "http.max_head_kb",
        kilobytes(1, 1024, |c| &mut c.http.max_head_bytes),
        AtOnce,
        "The longest head of a request: its first line and headers.",
    ),
    key(
        "http.max_uri_kb",
        kilobytes(1, 1024, |c| &mut c.http.max_uri_bytes),
        AtOnce,
        "The longest path with its query.",
    ),
    key(
        "http.max_body_mb",
        megabytes(1, SIZE_MB_MAX, |c| &mut c.http.max_body_bytes),
        AtOnce,
        "The longest body of a request.",
    ),
    key(
        "http.head_timeout_sec",
        span(Unit::Seconds, 1, DAY_SECONDS, |c| &mut c.http.head_timeout),
        AtOnce,
        "How long a head may take from its first byte to its last.",
    ),
    key(
        "http.body_timeout_sec",
        span(Unit::Seconds, 1, DAY_SECONDS, |c| &mut c.http.body_timeout),
        AtOnce,
        "The longest silence in the middle of a body.",
    ),
    key(
        "http.idle_timeout_sec",
        span(Unit::Seconds, 1, DAY_SECONDS, |c| &mut c.http.idle_timeout),
        AtOnce,
        "How long a connection may be silent between two requests.",
    ),
    key(
        "http.max_connections",
        count(1, 1_000_000, |c| &mut c.http.max_connections),
        Restart,
        "Connections open at once. Each takes a file descriptor.",
    ),
    key(
        "http.tracebacks",
        Kind::Flag(|c| &mut c.http.tracebacks),
        AtOnce,
        "Whether the answer to a call that raised holds the traceback.",
    ),
    key(
        "http.drain_sec",
        span(Unit::Seconds, 0, DAY_SECONDS, |c| &mut c.http.drain),
        AtOnce,
        "How long running calls may go on once the worker was told to stop.",
    ),
    key(
        "http.spool_mb",
        megabytes(1, SIZE_MB_MAX, |c| &mut c.http.spool_bytes),
        AtOnce,
        "Memory for all bodies together that wait because nobody can take them yet.",
    ),
    key(
        "io.backend",
        word!(Backend, io.backend),
        Restart,
        "auto takes io_uring where the kernel offers it, else epoll, and logs why.",
    ),
    key(
        "registry.url",
        Kind::Text(Text::Registry(|c| &mut c.registry.url)),
        Restart,
        "A directory (which takes uploads), or http://, https://, s3:// (which are read only).",
    ),
    key(
        "registry.cache_ms",
        span(Unit::Milliseconds, 0, 1000 * DAY_SECONDS, |c| {
            &mut c.registry.cache
        }),
        AtOnce,
        "How long code counts as fresh before the registry is looked at again.",
    ),
    key(
        "registry.keep_versions",
        count(1, 10_000, |c| &mut c.registry.keep_versions),
        AtOnce,
        "Versions of a function that stay for `ol rollback`, the present one included.",
    ),
    key(
        "runtimes.python.interpreter",
        Kind::Text(Text::AbsolutePath(|c| &mut c.runtimes.python.interpreter)),
        Restart,
        "The interpreter (CPython 3.9 or newer), as its path is inside the base.",
    ),
    key(
        "packages.dir",
        Kind::Text(Text::Path(|c| &mut c.packages.dir)),
        Restart,
        "The store of installed packages.",
    ),
    key(
        "packages.index_url",
        Kind::Text(Text::Url(|c| &mut c.packages.index_url)),
        AtOnce,
        "The package index.",
    ),
    key(
        "packages.extra_index_urls",
        Kind::List(|c| &mut c.packages.extra_index_urls),
        AtOnce,
        "Further indexes.",
    ),
    key(
        "packages.find_links",
        Kind::List(|c| &mut c.packages.find_links),
        AtOnce,
        "Directories or pages with wheels.",
    ),
    key(
        "packages.installer_mem_mb",
        megabytes(64, SIZE_MB_MAX, |c| &mut c.packages.installer_mem_bytes),
        AtOnce,
        "Memory of one installer.",
    ),
    key(
        "packages.installer_disk_mb",
        megabytes(64, 64 * SIZE_MB_MAX, |c| {
            &mut c.packages.installer_disk_bytes
        }),
        AtOnce,
        "What one installer may write to the disk; looked at every other second.",
    ),
    key(
        "packages.installer_sec",
        span(Unit::Seconds, 1, DAY_SECONDS, |c| {
            &mut c.packages.installer_timeout
        }),
        AtOnce,
        "How long one install may take, and how long a call waits for it.",
    ),
    key(
        "packages.max_mb",
        megabytes(64, 64 * SIZE_MB_MAX, |c| &mut c.packages.max_bytes),
        AtOnce,
        "Size of the store; above it packages go that nobody uses.",
    ),
    key(
        "limits.procs",
        count(1, 32_768, |c| &mut c.limits.procs),
        AtOnce,
        "Processes and threads of an instance.",
    ),
    key(
        "limits.mem_mb",
        megabytes(16, SIZE_MB_MAX, |c| &mut c.limits.mem_bytes),
        AtOnce,
        "Memory of an instance; above it the instance is killed.",
    ),
    key(
        "limits.cpu_percent",
        number(Unit::Percent, 1, 102_400, |c| &mut c.limits.cpu_percent),
        AtOnce,
        "CPU time of an instance; 100 is one CPU.",
    ),
    key(
        "limits.runtime_sec",
        span(Unit::Seconds, 1, DAY_SECONDS, |c| &mut c.limits.runtime),
        AtOnce,
        "How long a call may run from when user code gets it.",
    ),
    key(
        "limits.scratch_mb",
        megabytes(1, SIZE_MB_MAX, |c| &mut c.limits.scratch_bytes),
        AtOnce,
        "Size of /tmp and of /host in an instance. They are in memory and count as such.",
    ),
    key(
        "limits.swap_mb",
        megabytes(0, SIZE_MB_MAX, |c| &mut c.limits.swap_bytes),
        AtOnce,
        "Swap space of an instance.",
    ),
    key(
        "limits.max_instances",
        or_zero(
            Unit::Count,
            65_536,
            "as many as the pool allows",
            Store::Optional(|c| &mut c.limits.max_instances),
        ),
        AtOnce,
        "Instances of one function at once.",
    ),
    key(
        "limits.queue",
        count(1, 1_000_000, |c| &mut c.limits.queue),
        AtOnce,
        "Calls of one function that may wait; the next is answered 429.",
    ),
    key(
        "limits.on_hangup",
        word!(OnHangup, limits.on_hangup),
        AtOnce,
        "What becomes of a running call whose client went away.",
    ),
    key(
        "limits.zygote.mem_mb",
        megabytes(32, SIZE_MB_MAX, |c| &mut c.limits.zygote.mem_bytes),
        AtOnce,
        "Memory of a zygote.",
    ),
    key(
        "limits.zygote.max_forks",
        or_zero(
            Unit::Count,
            1_000_000_000,
            "any number",
            Store::Optional(|c| &mut c.limits.zygote.max_forks),
        ),
        AtOnce,
        "Forks after which a zygote is replaced: its children share addresses and hash seed.",
    ),
    key(
        "limits.zygote.max_age_sec",
        or_zero(
            Unit::Seconds,
            365 * DAY_SECONDS,
            "any age",
            Store::OptionalSpan(|c| &mut c.limits.zygote.max_age),
        ),
        AtOnce,
        "Age at which a zygote is replaced.",
    ),
    key(
        "pool.mem_mb",
        Kind::Number(Number {
            unit: Unit::Megabytes,
            min: 64,
            max: POOL_MB_MAX,
            zero: Some("the machine's RAM less 500 MB"),
            store: Store::Plain(|c| &mut c.pool.mem_bytes),
        }),
        AtOnce,
        "Memory of all sandboxes together.",
    ),
    key(
        "pool.free_percent",
        number(Unit::Percent, 0, 90, |c| &mut c.pool.free_percent),
        AtOnce,
        "The part of the pool that is kept free ahead of need, by evicting what is idle.",
    ),
    key(
        "pool.cgroup_spares",
        count(0, 1024, |c| &mut c.pool.cgroup_spares),
        AtOnce,
        "Cgroups and root directories made ahead of the calls that need them.",
    ),
    key(
        "pool.standbys",
        count(0, 256, |c| &mut c.pool.standbys),
        AtOnce,
        "Processes forked ahead of the calls that need them, from each zygote that is used.",
    ),
    key(
        "pool.idle_freeze_ms",
        or_zero(
            Unit::Milliseconds,
            1000 * DAY_SECONDS,
            "never",
            Store::OptionalSpan(|c| &mut c.pool.idle_freeze),
        ),
        AtOnce,
        "How long a sandbox is idle before it is frozen: a call that comes later has to thaw it.",
    ),
    key(
        "features.import_cache",
        word!(ImportCache, features.import_cache),
        Restart,
        "Zygotes that hold imported packages: one tree, several trees, or none (\"\").",
    ),
    key(
        "features.import_cache_tree",
        Kind::Tree,
        AtOnce,
        "The tree of zygotes: a file, an inline table, or JSON in '''...'''. Empty: a bare root.",
    ),
    key(
        "features.downsize_paused_mem",
        Kind::Flag(|c| &mut c.features.downsize_paused_mem),
        AtOnce,
        "Whether memory of frozen instances is reclaimed.",
    ),
    key(
        "features.enable_seccomp",
        Kind::Flag(|c| &mut c.features.enable_seccomp),
        Restart,
        "Whether system calls of sandboxes are filtered.",
    ),
    key(
        "features.reuse_cgroups",
        Kind::Flag(|c| &mut c.features.reuse_cgroups),
        Restart,
        "Whether the cgroup of an instance that is gone serves the next one.",
    ),
    key(
        "features.warmup",
        Kind::Flag(|c| &mut c.features.warmup),
        Restart,
        "Whether the best zygotes are made at start, from packages that the store holds.",
    ),
    key(
        "policy.evict",
        policy!(Evict, evict),
        Restart,
        "Who goes first when memory is short.",
    ),
    key(
        "policy.scale",
        policy!(Scale, scale),
        Restart,
        "How many instances a function gets: by Little's law from measured times, or one for each \
         waiting call.",
    ),
    key(
        "policy.lookup",
        policy!(Lookup, lookup),
        Restart,
        "Which zygote a new instance comes from: the one that saves the most import time, or the \
         first that fits.",
    ),
    key(
        "policy.dynamic_zygotes",
        Kind::Flag(|c| &mut c.policy.dynamic_zygotes),
        Restart,
        "Whether today's calls may add a bounded number of nodes to the tree.",
    ),
    key(
        "sandbox.base",
        Kind::Text(Text::Base(|c| &mut c.sandbox.base)),
        Restart,
        "The root of every sandbox, read-only: the host's /usr and what belongs to it, or a root \
         file system of its own.",
    ),
    key(
        "sandbox.network",
        word!(Network, sandbox.network),
        Restart,
        "The network of an instance, unless its function says otherwise.",
    ),
    key(
        "sandbox.user_namespace",
        Kind::Flag(|c| &mut c.sandbox.user_namespace),
        Restart,
        "Whether each zygote root has a user namespace: with it no sandbox ever holds host root.",
    ),
    key(
        "sandbox.id_base",
        Kind::Number(Number {
            unit: Unit::Count,
            min: 65_536,
            max: ID_MAX,
            zero: None,
            store: Store::Id(|c| &mut c.sandbox.id_base),
        }),
        Restart,
        "The first of the host user ids that sandboxes use; nobody else may be given them.",
    ),
    key(
        "log.target",
        word!(LogTarget, log.target),
        Restart,
        "auto takes the journal where JOURNAL_STREAM says that stderr is the journal, else stderr.",
    ),
    key(
        "log.level",
        word!(LogLevel, log.level),
        AtOnce,
        "The least important lines that are written.",
    ),
    key(
        "log.function_log_mb",
        megabytes(1, SIZE_MB_MAX, |c| &mut c.log.function_log_bytes),
        AtOnce,
        "What is kept of what one function printed.",
    ),
    key(
        "trace.record",
        Kind::Flag(|c| &mut c.trace.record),
        AtOnce,
        "Whether calls are recorded.",
    ),
    key(
        "trace.keep_days",
        number(Unit::Days, 1, 3650, |c| &mut c.trace.keep_days),
        AtOnce,
        "How long a day's record is kept.",
    ),
    key(
        "trace.max_mb",
        megabytes(1, SIZE_MB_MAX, |c| &mut c.trace.max_bytes),
        AtOnce,
        "Size of the record; above it calls are folded to counts.",
    ),
];

/// The key of that full name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Whether there are keys below this name.
pub fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| {
        key.name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::meaning::{Config, Home, Machine};
    use super::*;
    use std::path::Path;

    #[test]
    fn every_default_is_something_one_may_type() {
        let mut defaults = Config::defaults(Home::installed(), Machine::UNKNOWN);
        for key in KEYS {
            let typed = key.get(&mut defaults);
            let mut config = defaults.clone();
            key.put(&mut config, &typed, Path::new("/"))
                .unwrap_or_else(|refused| {
                    panic!("{}: {}", key.name, refused.why);
                });
            assert_eq!(config, defaults, "{}", key.name);
        }
    }

    #[test]
    fn words_are_read_back_as_themselves() {
        let defaults = Config::defaults(Home::installed(), Machine::UNKNOWN);
        for key in KEYS {
            let Kind::Word(word) = &key.kind else {
                continue;
            };
            for index in 0..word.words.len() {
                let mut config = defaults.clone();
                (word.put)(&mut config, index);
                assert_eq!((word.get)(&config), index, "{}", key.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_every_section_is_told_of() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        let mut sections: Vec<_> = KEYS.iter().map(Key::section).collect();
        sections.dedup();
        let told: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(sections, told, "in the same order");
    }

    #[test]
    fn each_key_has_a_place_of_its_own() {
        let defaults = Config::defaults(Home::installed(), Machine::UNKNOWN);
        for key in KEYS {
            let Kind::Number(number) = &key.kind else {
                continue;
            };
            let mut config = defaults.clone();
            let typed = super::super::typed::Typed::Integer(number.max.to_string());
            key.put(&mut config, &typed, Path::new("/"))
                .expect("the maximum is in range");
            for other in KEYS.iter().filter(|other| other.name != key.name) {
                let (now, before) = (other.get(&mut config), other.get(&mut defaults.clone()));
                assert_eq!(now, before, "{} moved {}", key.name, other.name);
            }
        }
    }
}
