//! What things cost in the made-up world: time to fork, import, run, freeze; memory.
//!
//! The defaults are what this kind of machine was measured to take; a trace brings the costs of its
//! functions. A cold start is a fork, the imports that the zygote has not done, and what the
//! function's own code needs; memory that a zygote has already is shared and not paid again.

use crate::base::{Bytes, Duration, Package, PackageSet};
use crate::engine::{FunctionSettings, Packages};
use crate::policy::tree::{Weight, Weights};
use crate::sim::trace::{self, Header};

/// What every sandbox costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs {
    pub weights: Weights,
    /// A bare interpreter, from nothing.
    pub fresh: Duration,
    /// A fork of a bare zygote, to the first line of code.
    pub fork: Duration,
    /// More for each megabyte that the zygote holds: its page tables.
    pub fork_per_mb: Duration,
    /// Cold pages, queues in the kernel: on top of each warm call.
    pub relay: Duration,
    pub thaw: Duration,
    pub freeze: Duration,
    /// From the kill to the empty cgroup.
    pub kill: Duration,
    pub install: Duration,
    /// How much run times differ: the deviation of their logarithm. None: never.
    pub run_deviation: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            weights: typical_weights(),
            fresh: Duration::from_millis(9),
            fork: Duration::from_micros(250),
            fork_per_mb: Duration::from_micros(10),
            relay: Duration::from_micros(40),
            thaw: Duration::from_micros(300),
            freeze: Duration::from_millis(1),
            kill: Duration::from_millis(3),
            install: Duration::from_secs(8),
            run_deviation: 0.25,
        }
    }
}

/// What a bare interpreter holds, and shares once it is a zygote.
pub const INTERPRETER: Bytes = Bytes::from_mb(8);
/// What a child writes to, however much it shares.
const PRIVATE_MIN: Bytes = Bytes::from_mb(2);

/// One function of the made-up world.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionCost {
    pub name: String,
    /// Of an instance that shares nothing.
    pub memory: Bytes,
    pub run: Duration,
    /// Until its code takes a call, imports of packages not counted.
    pub own_start: Duration,
    pub packages: PackageSet,
    /// They must be installed before the first call.
    pub to_install: bool,
    pub settings: FunctionSettings,
}

/// A call may take this many times the usual before it is ended.
const RUNTIME_FACTOR: u32 = 20;

impl FunctionCost {
    /// What a trace says of a function, within these settings; limits below what the trace says the
    /// function needs are raised to that: a simulation of kills by limit would say nothing.
    pub fn of_trace(
        function: &trace::Function,
        costs: &Costs,
        settings: &FunctionSettings,
    ) -> Self {
        let names = if function.packages.is_empty() {
            &function.imports
        } else {
            &function.packages
        };
        let packages = PackageSet::new(names.iter().map(|name| Package::parse(name)).collect());
        let imports = costs.weights.import_of(packages.iter());
        let run = milliseconds(function.warm_ms);
        let start = milliseconds(function.cold_ms - function.warm_ms);
        let memory = Bytes::new((function.mem_mb * f64::from(1 << 20)) as u64);
        Self {
            name: function.name.clone(),
            memory,
            run,
            own_start: start.saturating_sub(imports + costs.fresh),
            packages: packages.clone(),
            to_install: false,
            settings: FunctionSettings {
                memory: Bytes::max(settings.memory, memory * 2),
                runtime: Duration::max(settings.runtime, run * RUNTIME_FACTOR),
                packages: Packages::Known(packages),
                ..settings.clone()
            },
        }
    }

    /// What an instance holds that shares what a zygote with these packages has.
    pub fn memory_from(&self, shared: Option<&PackageSet>, weights: &Weights) -> Bytes {
        let Some(shared) = shared else {
            return Bytes::max(self.memory, PRIVATE_MIN);
        };
        let packages: Bytes = shared
            .iter()
            .map(|package| weights.of(package).memory)
            .sum();
        let kept = self.memory - INTERPRETER - packages;
        Bytes::max(kept, PRIVATE_MIN)
    }

    /// Imports that are left when these were done already.
    pub fn imports_beyond(&self, shared: Option<&PackageSet>, weights: &Weights) -> Duration {
        let left = self.packages.iter().filter(|package| {
            let there = shared.and_then(|shared| shared.get(package.name()));
            there.is_none()
        });
        weights.import_of(left)
    }
}

/// Weights as the trace profiles its packages, the usual ones for those it does not name.
pub fn weights_of(header: &Header) -> Weights {
    let mut weights = typical_weights();
    for package in &header.packages {
        let weight = Weight {
            import: milliseconds(package.import_ms),
            memory: Bytes::new((package.mem_mb * f64::from(1 << 20)) as u64),
        };
        weights.insert(&Package::parse(&package.name), weight);
    }
    weights
}

/// Packages that many functions use: milliseconds to import, megabytes.
pub(super) const TYPICAL: [(&str, u64, u64); 14] = [
    ("matplotlib", 358, 42),
    ("scikit-learn", 255, 48),
    ("pandas", 250, 40),
    ("sympy", 149, 30),
    ("scipy", 120, 28),
    ("sqlalchemy", 81, 14),
    ("pillow", 30, 8),
    ("numpy", 46, 16),
    ("flask", 19, 6),
    ("jinja2", 16, 4),
    ("requests", 10, 5),
    ("pyyaml", 6, 2),
    ("python-dateutil", 5, 1),
    ("six", 1, 1),
];

fn typical_weights() -> Weights {
    let mut weights = Weights::new();
    for (name, import_ms, memory_mb) in TYPICAL {
        let weight = Weight {
            import: Duration::from_millis(import_ms),
            memory: Bytes::from_mb(memory_mb),
        };
        weights.insert(&Package::parse(name), weight);
    }
    weights
}

fn milliseconds(span: f64) -> Duration {
    Duration::from_nanos((f64::max(span, 0.0) * 1e6) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_split_into_imports_and_the_rest() {
        let costs = Costs::default();
        let function = trace::Function {
            packages: vec!["numpy".into(), "pandas".into()],
            ..trace::Function::plain("f", 100.0, 1_305.0, 300.0)
        };
        let cost = FunctionCost::of_trace(&function, &costs, &FunctionSettings::DEFAULT);
        assert_eq!(cost.run, Duration::from_millis(300));
        assert_eq!(cost.own_start, Duration::from_millis(1_005 - 296 - 9));
        let shared = PackageSet::parse(["numpy"]);
        let left = cost.imports_beyond(Some(&shared), &costs.weights);
        assert_eq!(left, Duration::from_millis(250));
        assert_eq!(
            cost.memory_from(Some(&shared), &costs.weights),
            Bytes::from_mb(100 - 8 - 16)
        );
    }
}
