//! A tree file against calls, by the lookup that the worker uses: names, not numbers.
//!
//! A file may say `numpy` where calls ask for `numpy==1.26.4`, so it has no plan; it is scored as
//! the worker would serve it.

use crate::base::{Bytes, Duration, Package, PackageSet};
use crate::cli::failure::Failure;
use crate::config::tree::{FILE_BYTES_MAX, Tree};
use crate::policy::Lookup;
use crate::policy::fit::plan::TRACED_FACTOR;
use crate::policy::fit::{Catalog, Objective, Workload};
use crate::policy::tree::{Weight, Weights};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What a tree leaves of calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    pub nodes: usize,
    /// Of one call, on average.
    pub residual_ms: f64,
    /// From a cold start to the function's first line.
    pub cold_ms: f64,
}

/// Reads a tree file.
pub fn read(path: &Path) -> Result<Tree, Failure> {
    let remedy = "name a tree file";
    let opened = File::open(path).map_err(|error| Failure::of_path(path, &error, remedy))?;
    let mut text = String::new();
    let read = opened.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::of_path(path, &error, remedy))?;
    Tree::from_json(&text).map_err(|wrong| {
        let first = wrong.first().expect("a tree is refused for a reason");
        let why = format!("{}: {}", first.node_name(), first.why);
        Failure::failed(path.display().to_string(), why, &first.remedy)
    })
}

/// How the worker would serve these calls with this tree.
pub fn serve(
    tree: &Tree,
    lookup: Lookup,
    spellings: &[String],
    (catalog, workload): (&Catalog, &Workload),
    objective: &Objective,
) -> Served {
    let names: Vec<Package> = spellings.iter().map(|name| Package::parse(name)).collect();
    let mut weights = Weights::new();
    for (name, item) in names.iter().zip(&catalog.items) {
        let bytes = item.mem_mb * TRACED_FACTOR * f64::from(1 << 20);
        weights.insert(
            name,
            Weight {
                import: Duration::from_nanos((item.import_ms * 1e6) as u64),
                memory: Bytes::new(bytes as u64),
            },
        );
    }
    let shape = tree.shape();
    let (mut residual_ms, mut start_ms) = (0.0, 0.0);
    for demand in &workload.demands {
        let wanted = demand.set.iter().map(|item| names[item].clone());
        let wanted = PackageSet::new(wanted.collect());
        let ranked = lookup.ranked(&shape, &weights, &wanted);
        let found = ranked.first().expect("the root serves everybody").node;
        let (mut saved_ms, mut shared) = (0.0, catalog.empty_set());
        for package in shape.packages(found).iter() {
            let item = demand
                .set
                .iter()
                .find(|item| package.matches(&names[*item]));
            if let Some(item) = item {
                saved_ms += catalog.items[item].import_ms;
                shared.insert(item);
            }
        }
        let import_ms = catalog.import_ms(&demand.set);
        residual_ms += demand.calls * f64::max(import_ms - saved_ms, 0.0);
        start_ms += demand.calls * objective.start_ms(catalog, &shared);
    }
    let calls = f64::max(workload.calls(), 1.0);
    Served {
        nodes: shape.len(),
        residual_ms: residual_ms / calls,
        cold_ms: (residual_ms + start_ms) / calls,
    }
}
