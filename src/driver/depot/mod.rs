//! Packages as the driver has them: asked for by the engine and by people, each installed once for
//! all who wait, handed out as directories to mount.
//!
//! ```text
//!   Install(function) ─▶ looked for ─▶ resolving ─▶ fetching ─▶ composing ─▶ InstallFinished
//!                            │known         (errands)            ▲
//!                            └───────────────────────────────────┘
//!   Install(node)     ─▶ what its function has of it ────────────┴─────────▶ InstallFinished
//! ```
//!
//! `sets` is about what is wanted, `fetches` about what is on its way, `errands` about the
//! sandboxes that get it, `watch` about what those may use, `nodes` about what zygotes see,
//! `fitness` about what they do not import, `admin` about what people see. Disks are waited for by
//! helpers of its own, so that no look at the registry ever stands behind a large package.

mod admin;
mod errands;
mod fetches;
mod fitness;
mod nodes;
mod sets;
mod upkeep;
mod watch;

use super::settings;
use super::token::Owner;
use super::worker::Worker;
use crate::base::{FunctionName, PackageSet, Time};
use crate::config::Config;
use crate::engine::{Event, Wanted};
use crate::host::helper::{Full, Helpers};
use crate::host::packages::{
    Agent, Entry, EntryId, Requirements, RequirementsKey, Sources, Store, Tool, Wish,
};
use crate::io::{Handle, Interest};
use errands::Errands;
use nodes::NodeView;
use sets::Request;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Threads for what takes a disk longer, and how much of it may wait.
const HELPERS: usize = 2;
const JOBS_MAX: usize = 4096;
/// Sets of requirements that are remembered.
const SETS_MAX: usize = 16_384;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Depot {
    store: Store,
    /// None until somebody needs one.
    tool: Option<Tool>,
    own_tool: PathBuf,
    interpreter: PathBuf,
    entries: BTreeMap<EntryId, Entry>,
    sets: BTreeMap<RequirementsKey, Request>,
    /// By what a zygote holds.
    nodes: BTreeMap<PackageSet, NodeView>,
    errands: Errands,
    helpers: Helpers<Told>,
    helped: Option<Handle>,
    told: Vec<Told>,
    orders: Vec<admin::Order>,
    /// Everything that was added is on the disk.
    is_settled: bool,
    is_settling: bool,
    upkeep_due: Time,
    /// Something was measured that the engine does not know yet.
    weights_are_new: bool,
}

/// What a helper found or did.
#[derive(Debug)]
pub(super) enum Told {
    Set(sets::Told),
    Node(nodes::Told),
    Errand(errands::Told),
    Upkeep(upkeep::Told),
    Watch(watch::Told),
}

/// What the depot is opened with.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) config: &'a Config,
    pub(super) interpreter: &'a crate::host::jail::Interpreter,
}

impl Depot {
    /// Opens the store. Blocks: at start.
    pub(super) fn open(opening: &Opening<'_>) -> io::Result<Self> {
        let config = opening.config;
        let version = opening.interpreter.version();
        let machine = std::env::consts::ARCH;
        let tag = match version {
            "" => format!("rootfs-{machine}"),
            version => format!("python{version}-{machine}"),
        };
        let (store, entries) = Store::open(&config.packages.dir, &tag)?;
        let entries = entries.into_iter();
        Ok(Self {
            store,
            tool: None,
            own_tool: settings::own_tool(config),
            interpreter: opening.interpreter.program().to_path_buf(),
            entries: entries.map(|entry| (entry.id.clone(), entry)).collect(),
            sets: BTreeMap::new(),
            nodes: BTreeMap::new(),
            errands: Errands::new(),
            helpers: Helpers::start("packages", HELPERS, JOBS_MAX)?,
            helped: None,
            told: Vec::new(),
            orders: Vec::new(),
            is_settled: false,
            is_settling: false,
            upkeep_due: Time::ZERO,
            weights_are_new: false,
        })
    }

    /// What a function sees as /packages; none where it asks for nothing.
    pub(super) fn view_of(&self, key: RequirementsKey) -> Option<&Path> {
        self.sets.get(&key)?.view()
    }

    /// `numpy==1.26.4` for each package of a function, what it depends on included; before they
    /// are known, what it asks for.
    pub(super) fn packages_of(&self, asked: &Requirements) -> Vec<String> {
        let found = self.sets.get(&asked.key()).map(Request::entries);
        let found = found.filter(|entries| !entries.is_empty());
        if let Some(entries) = found {
            let entries = entries.iter().filter_map(|id| self.entries.get(id));
            return entries.map(|entry| entry.package().to_string()).collect();
        }
        asked.iter().map(|one| one.package().to_string()).collect()
    }

    fn help(&mut self, job: impl FnOnce() -> Told + Send + 'static) -> Result<(), Full> {
        self.helpers.submit(job)
    }

    /// The newest of the packages with this name, of this version where one is named.
    fn find(&self, name: &str, version: Option<&str>) -> Option<&Entry> {
        let fits = |entry: &&Entry| {
            entry.facts.name == name && version.is_none_or(|wanted| entry.facts.version == wanted)
        };
        self.entries
            .values()
            .filter(fits)
            .max_by_key(|entry| (order_of(&entry.facts.version), entry.facts.added_secs))
    }
}

/// Versions in their order, near enough: what is not final comes before what is.
fn order_of(version: &str) -> Vec<i64> {
    const NOT_FINAL: [&str; 7] = ["dev", "a", "alpha", "b", "beta", "c", "rc"];
    let mut order = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let others = rest.bytes().take_while(|b| !b.is_ascii_digit()).count();
        if digits > 0 {
            order.push(rest[..digits].parse().unwrap_or(i64::MAX));
        } else {
            let word = rest[..others].trim_matches(['.', '-', '_', '+']);
            let place = NOT_FINAL.iter().position(|known| *known == word);
            if let Some(place) = place {
                order.push(place as i64 - NOT_FINAL.len() as i64);
            } else if !word.is_empty() {
                order.push(0);
            }
        }
        rest = &rest[digits.max(others)..];
    }
    // Longer than what is not final: 1.0rc1 comes before 1.0.
    order.push(0);
    order
}

impl Worker {
    /// Listens to the depot's helpers.
    pub(super) fn watch_depot(&mut self) -> io::Result<()> {
        let finished = self.depot.helpers.finished_fd().try_clone_to_owned()?;
        let key = crate::base::Key::<()>::new(0, 0);
        let handle = self
            .io
            .add(finished, Owner::Depot.token(key))
            .map_err(|_| io::Error::from(io::ErrorKind::QuotaExceeded))?;
        self.io.watch(handle, Interest::Readable);
        self.depot.helped = Some(handle);
        Ok(())
    }

    /// The depot's helpers have finished something.
    pub(super) fn depot_helped(&mut self) {
        let mut told = core::mem::take(&mut self.depot.told);
        self.depot.helpers.collect(&mut told);
        for told in told.drain(..) {
            match told {
                Told::Set(told) => self.set_told(told),
                Told::Node(told) => self.node_told(told),
                Told::Errand(told) => self.errand_told(told),
                Told::Upkeep(told) => self.upkeep_told(told),
                Told::Watch(told) => self.watch_told(told),
            }
        }
        self.depot.told = told;
        if let Some(handle) = self.depot.helped {
            self.io.watch(handle, Interest::Readable);
        }
    }

    /// The engine wants packages.
    pub(super) fn install(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Function { function, .. } => {
                let code = self
                    .functions
                    .get(function)
                    .and_then(|known| known.code.as_ref());
                match code.map(|code| code.requirements.clone()) {
                    Some(requirements) => self.want_set(requirements, Some(wanted)),
                    None => self.told.push_back(Event::InstallFailed { wanted }),
                }
            }
            Wanted::Node { node, .. } => self.want_node(wanted, node),
        }
    }

    /// Why the packages of a function are not there.
    pub(super) fn why_not_installed(&self, name: &FunctionName) -> Option<String> {
        let code = self.functions.named(name)?.code.as_ref()?;
        let request = self.depot.sets.get(&code.requirements.key())?;
        request.why().map(str::to_owned)
    }

    /// What prepares errands, as configured now.
    fn agent(&self, tool: Tool) -> Agent {
        let packages = &self.config.packages;
        let wish = Wish {
            index_url: packages.index_url.clone(),
            extra_index_urls: packages.extra_index_urls.clone(),
            find_links: packages.find_links.clone(),
        };
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Agent {
            store: self.depot.store.clone(),
            tool,
            own_tool: self.depot.own_tool.clone(),
            interpreter: self.depot.interpreter.clone(),
            sources: Sources::of(&wish, &environment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_come_later() {
        let sorted = [
            "0.9",
            "1.0a1",
            "1.0rc1",
            "1.0",
            "1.0.post1",
            "1.0.1",
            "1.2",
            "1.10",
            "2",
        ];
        for pair in sorted.windows(2) {
            assert!(order_of(pair[0]) < order_of(pair[1]), "{pair:?}");
        }
    }
}
