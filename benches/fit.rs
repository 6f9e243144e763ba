//! How fast trees are fitted, and traces read for it.
//!
//! `cargo bench --bench fit [-- night|functions|week|pairs]` prints
//!
//! - for a `night` of 880 calls for 427 packages and for one of thousands of different sets
//!   (`functions`), the time of one fit of 320 nodes by each algorithm;
//! - for a `week` of ten million recorded calls of 10,000 functions, how long it takes to read and
//!   to fit to, with the memory that this takes at most;
//! - for the pathological case (`pairs`), what each algorithm leaves of imports.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

use olworker::base::Random;
use olworker::policy::Lookup;
use olworker::policy::fit::{
    Algorithm, Catalog, Item, ItemSet, Wish, Workload, fit, score, sock2018,
};
use olworker::sim::trace::asked::Asked;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

const NODES: usize = 320;
const RECORDED_CALLS: u32 = 10_000_000;
/// In a week.
const CALLS_PER_SEC: u32 = 17;
const FUNCTIONS: u32 = 10_000;
/// The best of this many is told: the machine is shared.
const REPEATS: u32 = 3;

fn main() {
    let wanted = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted));
    let nights = [
        ("night", night(427, 60, 880)),
        ("functions", night(1_000, 4_000, 30_000)),
    ];
    for (name, (catalog, workload)) in &nights {
        for algorithm in Algorithm::ALL {
            let name = format!("{name} {}", algorithm.name());
            // The others are there to compare trees with, not to be fast.
            let is_ours = algorithm == Algorithm::SetCover;
            if is_wanted(&name) && (is_ours || name.starts_with("night")) {
                measure(&name, catalog, workload, algorithm);
            }
        }
    }
    if is_wanted("pairs") {
        pairs();
    }
    if is_wanted("week") {
        week();
    }
}

/// Calls that each ask for a few of `stacks` habitual combinations of packages.
fn night(packages: usize, stacks: usize, calls: usize) -> (Catalog, Workload) {
    let mut random = Random::new(1);
    let item = |family| Item {
        import_ms: random.exponential(20.0),
        mem_mb: random.exponential(1.0),
        family,
        closures: Vec::new(),
    };
    let items = (0..packages as u32).map(item).collect();
    let catalog = Catalog { items };
    let mut random = Random::new(2);
    let some = |random: &mut Random| {
        let count = 1 + random.below(12) as usize;
        let numbers = (0..count).map(|_| random.below(packages as u64) as u32);
        ItemSet::of(packages, numbers.collect::<Vec<_>>())
    };
    let stacks: Vec<ItemSet> = (0..stacks).map(|_| some(&mut random)).collect();
    let call = |_| {
        let mut set = catalog.empty_set();
        for _ in 0..=random.below(2) {
            // Some are far more common than others.
            let place = random.unit() * random.unit() * random.unit() * stacks.len() as f64;
            set = set.or(&stacks[place as usize]);
        }
        set
    };
    let calls: Vec<ItemSet> = (0..calls).map(call).collect();
    let workload = Workload::fold(&calls);
    (catalog, workload)
}

fn measure(name: &str, catalog: &Catalog, workload: &Workload, algorithm: Algorithm) {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let start = Instant::now();
        let wish = Wish::nodes(NODES);
        std::hint::black_box(fit(catalog, workload, algorithm, &wish));
        best = f64::min(best, start.elapsed().as_secs_f64());
    }
    let sets = workload.demands.len();
    println!("{name:24} {sets:6} sets   {:8.1} ms", best * 1e3);
}

/// Packages of the pathological case.
const PAIRED: u32 = 32;

/// Every pair of packages once, in some order, and the next day once more in another: nothing comes
/// again before all else did. The cache of 2018 goes on changing that day, as it did.
fn pairs() {
    let item = |family| Item {
        import_ms: 10.0,
        mem_mb: 1.0,
        family,
        closures: Vec::new(),
    };
    let catalog = Catalog {
        items: (0..PAIRED).map(item).collect(),
    };
    let mut all: Vec<ItemSet> = (0..PAIRED)
        .flat_map(|a| (0..a).map(move |b| (a, b)))
        .map(|(a, b)| ItemSet::of(PAIRED as usize, [a, b]))
        .collect();
    let mut random = Random::new(4);
    let mut day = || {
        for last in (1..all.len()).rev() {
            all.swap(last, random.below(last as u64 + 1) as usize);
        }
        Workload::fold(&all)
    };
    let (first, next) = (day(), day());
    println!("\nevery pair of {PAIRED} packages of 10 ms once a day: imports left, ms a call");
    println!("| nodes | sock2018 | rule4 | multi | setcover | sock2018 / setcover |");
    println!("|---|---|---|---|---|---|");
    for nodes in [2, 5, 9, 17, 33, 65, 129, 257, 497] {
        let mut cache = sock2018::run(&catalog, &first, nodes, f64::INFINITY);
        let lived = sock2018::replay(&mut cache, &next) / next.calls();
        let left = |algorithm| {
            let plan = fit(&catalog, &first, algorithm, &Wish::nodes(nodes));
            score(&catalog, &plan, &next, Lookup::Best).mean_residual_ms()
        };
        let [rule4, multi, ours] =
            [Algorithm::Rule4, Algorithm::Multi, Algorithm::SetCover].map(left);
        let times = if ours > 0.0 {
            format!("{:.1}", lived / ours)
        } else {
            String::new()
        };
        println!("| {nodes} | {lived:.2} | {rule4:.2} | {multi:.2} | {ours:.2} | {times} |");
    }
}

fn week() {
    let name = format!("olworker-bench-fit-{}.jsonl", std::process::id());
    let path = std::env::temp_dir().join(name);
    let written = write_trace(&path);
    let bytes = written.expect("a trace in the directory for temporary files");
    let start = Instant::now();
    let mut asked = Asked::new();
    let calls = asked.read(&path, &mut |_| {});
    let read = start.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&path);
    let calls = calls.expect("what was just written");
    let (catalog, workload) = (asked.catalog(), asked.workload(&calls));
    drop(calls);
    let plan = fit(
        &catalog,
        &workload,
        Algorithm::SetCover,
        &Wish::nodes(NODES),
    );
    let both = start.elapsed().as_secs_f64();
    println!(
        "week: {} M calls ({:.0} MB) read in {read:.1} s, {:.2} M calls/s; {} sets of {} packages, \
         {} nodes fitted in {:.1} s; {both:.1} s in all, at most {} MB of memory",
        RECORDED_CALLS / 1_000_000,
        bytes as f64 / 1e6,
        f64::from(RECORDED_CALLS) / read / 1e6,
        workload.demands.len(),
        catalog.len(),
        plan.len(),
        both - read,
        peak_kb() / 1024,
    );
}

/// As a worker writes it.
fn write_trace(path: &Path) -> std::io::Result<u64> {
    let mut random = Random::new(3);
    let mut file = BufWriter::new(File::create(path)?);
    for function in 0..FUNCTIONS {
        let packages: Vec<String> = (0..=random.below(20))
            .map(|_| format!("\"package-{}==1.0\"", random.below(500)))
            .collect();
        let packages = packages.join(",");
        let (head, tail) = (r#"{"event":"function","name":""#, r#"],"imports":[]}"#);
        writeln!(file, r#"{head}f-{function}","packages":[{packages}{tail}"#)?;
    }
    for call in 0..RECORDED_CALLS {
        let function = random.below(u64::from(FUNCTIONS));
        let start = if random.chance(0.9) { "warm" } else { "zygote" };
        let t = 1_700_000_000 + call / CALLS_PER_SEC;
        let rest = r#""ms":12.345,"queue_ms":0.012,"cold_ms":0.000,"mem_mb":45.2,"status":200}"#;
        writeln!(
            file,
            r#"{{"t":{t},"event":"invocation","function":"f-{function}","start":"{start}",{rest}"#,
        )?;
    }
    file.flush()?;
    Ok(file.get_ref().metadata()?.len())
}

/// The most that this process ever held.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}
