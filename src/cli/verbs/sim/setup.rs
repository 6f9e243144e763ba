//! A simulated worker as it was typed: its configuration, its tree, its machine.

use crate::base::{Bytes, Limits, PackageSet};
use crate::cli::definition::{Context, many};
use crate::cli::failure::Failure;
use crate::cli::verbs::serve;
use crate::config::function::FunctionSettings as Asked;
use crate::config::tree::Tree;
use crate::config::{Machine, Request, load};
use crate::driver::settings;
use crate::engine::{FunctionSettings, Packages, Params, ZygoteTree};
use crate::sim::trace::Header;
use crate::sim::worker::{Costs, Faults, FunctionCost, Setup, Sweep, World, cost, day};
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, value_parser};
use std::fs;
use std::path::{Path, PathBuf};

/// Memory of the simulated pool where nothing is said.
const MEMORY_MB: u64 = 16_384;
/// What a worker leaves to the rest of its machine.
const RESERVED_MB: u64 = 500;
const CPUS: u32 = 4;
const DESCRIPTORS: u64 = 65_536;
/// With harm done, invariants are swept this often.
const SWEEP_EVERY: u32 = 10_000;

pub fn tree_argument() -> Arg {
    Arg::new("tree")
        .long("tree")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .value_parser(value_parser!(PathBuf))
        .help("A zygote tree [made up with the day, else the configured one]")
}

/// What was typed, understood.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub params: Params,
    settings: FunctionSettings,
    tree: Option<Tree>,
    pub seed: u64,
    pub faults: bool,
    pub per_function: bool,
    pub explain: bool,
}

impl Wanted {
    /// What was typed about the worker and its world; no harm is done and nothing explained.
    pub fn understood(matches: &ArgMatches, context: &Context) -> Result<Self, Failure> {
        let memory_mb = matches.get_one("memory").copied().unwrap_or(MEMORY_MB);
        // The simulated machine: a simulation says the same on every machine.
        let machine = Machine {
            ram_bytes: Bytes::from_mb(memory_mb + RESERVED_MB).get(),
            cpus: CPUS,
        };
        let is_configured = matches.contains_id("config") || !many(matches, "override").is_empty();
        let mut wanted = Wanted {
            params: Params::new(Bytes::from_mb(memory_mb)),
            settings: FunctionSettings::DEFAULT,
            tree: None,
            seed: matches.get_one("seed").copied().unwrap_or(0),
            faults: false,
            per_function: false,
            explain: false,
        };
        if is_configured {
            let asked = serve::request(matches, context);
            let request = Request {
                // Without a file of one's own the built-in values hold, not those of this machine.
                file: asked.file.or_else(|| Some(PathBuf::from("/dev/null"))),
                ..asked
            };
            let loaded = load(&request, machine).map_err(Failure::Configuration)?;
            let config = &loaded.config;
            wanted.params = settings::params(config, DESCRIPTORS, CPUS);
            let packages = Packages::Known(PackageSet::EMPTY);
            wanted.settings = settings::of_function(config, &Asked::default(), packages);
            let tree = config.features.import_cache_tree.tree.clone();
            wanted.tree = Some(tree).filter(|tree| !tree.is_bare());
        }
        if let Some(path) = matches.get_one::<PathBuf>("tree") {
            wanted.tree = Some(read_tree(path)?);
        }
        Ok(wanted)
    }

    /// The worker before the first call of this trace.
    pub fn world(&self, header: &Header, is_day: bool) -> World {
        let costs = Costs {
            weights: cost::weights_of(header),
            ..Costs::default()
        };
        let of_trace = |function| FunctionCost::of_trace(function, &costs, &self.settings);
        let functions = header.functions.iter().map(of_trace).collect();
        World::new(Setup {
            limits: Limits::DEFAULT,
            params: self.params.clone(),
            seed: self.seed,
            tree: Some(self.tree_of(is_day, &costs)),
            functions,
            costs,
            faults: self.faults.then_some(Faults::MANY),
            sweep: if self.faults {
                Sweep::Every(SWEEP_EVERY)
            } else {
                Sweep::Last
            },
            explain: self.explain,
        })
    }

    /// The tree that was given; that of the day; a bare root.
    fn tree_of(&self, is_day: bool, costs: &Costs) -> ZygoteTree {
        match &self.tree {
            Some(tree) => {
                let tree = tree.shape();
                let installed = tree.iter().map(|(id, _)| id).collect();
                ZygoteTree {
                    generation: 1,
                    tree,
                    weights: costs.weights.clone(),
                    installed,
                    stocked: Vec::new(),
                }
            }
            None if is_day => day::tree(costs.weights.clone()),
            None => ZygoteTree {
                generation: 1,
                tree: crate::policy::Tree::new(),
                weights: costs.weights.clone(),
                installed: Vec::new(),
                stocked: Vec::new(),
            },
        }
    }
}

fn read_tree(path: &Path) -> Result<Tree, Failure> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Failure::of_path(path, &error, "give a tree's JSON file"))?;
    Tree::from_json(&text).map_err(|wrong| {
        let why = wrong.first().map(ToString::to_string).unwrap_or_default();
        Failure::failed(path.display().to_string(), why, "see `ol fit`")
    })
}
