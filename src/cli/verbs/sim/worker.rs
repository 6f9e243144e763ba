//! `ol sim worker`: the real engine on a virtual clock, over traces or a made-up day.
//!
//! Owns the verb: what may be typed, and what is printed in which order: explanations as they are
//! made, the figures of a trace, then those of each function. Everything on stdout is determined by
//! the trace, the options and the seed.

use super::bad_trace;
use crate::base::{Bytes, Limits, PackageSet};
use crate::cli::definition::{Context, Verb, flag, many, overrides};
use crate::cli::failure::Failure;
use crate::cli::output::{Done, Progress, Table, print, print_json, tell};
use crate::cli::verbs::serve;
use crate::config::function::FunctionSettings as Asked;
use crate::config::tree::Tree;
use crate::config::{Machine, Request, load};
use crate::driver::settings;
use crate::engine::{FunctionSettings, Packages, Params, ZygoteTree};
use crate::sim::trace::{self, Reader};
use crate::sim::worker::explain::Names;
use crate::sim::worker::{
    Costs, Faults, FunctionCost, Report, Setup, Sweep, World, cost, day, replay,
};
use clap::builder::ValueHint;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

/// Memory of the simulated pool where nothing is said.
const MEMORY_MB: u64 = 16_384;
/// What a worker leaves to the rest of its machine.
const RESERVED_MB: u64 = 500;
const CPUS: u32 = 4;
const DESCRIPTORS: u64 = 65_536;
/// Calls between two looks at the notes and the progress.
const BATCH: usize = 1_024;
/// With harm done, invariants are swept this often.
const SWEEP_EVERY: u32 = 10_000;
/// Functions listed without `--json`.
const LISTED_MAX: usize = 40;

fn command() -> Command {
    Command::new("worker")
        .about("Simulate the whole worker: the real engine on a virtual clock")
        .long_about(LONG_ABOUT)
        .args(inputs())
        .args(wishes())
        .arg(overrides())
}

const LONG_ABOUT: &str = "\
Simulate the whole worker: who starts, waits, is kept, frozen, evicted. The engine is the one that \
runs live; only the clock, the sandboxes and what things cost are made up.

Without --trace a day is made up: --functions and --calls say how large. Nothing of the time of \
day goes to stdout, so the same trace, options and seed give the same bytes.";

fn file(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .value_hint(ValueHint::FilePath)
        .value_parser(value_parser!(PathBuf))
        .help(help)
}

fn number(name: &'static str, range: std::ops::RangeInclusive<u64>, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("N")
        .value_parser(value_parser!(u64).range(range))
        .help(help)
}

fn inputs() -> [Arg; 9] {
    [
        file(
            "trace",
            "FILE",
            "Traces: JSON, a recorded trace, or Azure Functions CSV; also gzipped [a made-up day]",
        )
        .num_args(1..)
        .action(ArgAction::Append)
        .value_hint(ValueHint::AnyPath),
        serve::config_file().help("A configuration of the worker [built-in, 16 GB of memory]"),
        file(
            "tree",
            "FILE",
            "A zygote tree [made up with the day, else the configured one]",
        ),
        number(
            "functions",
            1..=100_000,
            "Functions of the made-up day [1000]",
        ),
        number(
            "calls",
            1..=100_000_000,
            "Calls of the made-up day [1000000]",
        ),
        number("hours", 1..=1_000, "Length of the made-up day [24]"),
        number(
            "memory",
            64..=67_108_864,
            "Memory of the pool in megabytes, unless configured [16384]",
        ),
        number("seed", 0..=u64::MAX, "Seed of everything made up [0]"),
        file(
            "replay",
            "FILE",
            "Play a recording that a worker wrote; nothing else is simulated",
        )
        .conflicts_with_all(["trace", "tree", "faults"]),
    ]
}

fn wishes() -> [Arg; 3] {
    [
        flag(
            "faults",
            "Do harm: deaths, failed and lost forks, pressure, clocks that jump",
        ),
        flag("per-function", "Add the counts of each function"),
        flag("explain", "Print each decision before the figures"),
    ]
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    if let Some(path) = matches.get_one::<PathBuf>("replay") {
        return play_again(path, matches, context);
    }
    let wanted = understand(matches, context)?;
    let traces: Vec<&PathBuf> = matches.get_many("trace").into_iter().flatten().collect();
    if traces.is_empty() {
        let day = made_up(matches, wanted.seed)?;
        return simulate(&wanted, day.reader(), true, context);
    }
    for path in traces {
        let reader = trace::open(path).map_err(|error| bad_trace(&error))?;
        if !context.quiet {
            for note in &reader.header().notes {
                tell(&format!(
                    "{}: {}: {note}\n",
                    context.program,
                    path.display()
                ));
            }
        }
        simulate(&wanted, reader, false, context)?;
    }
    Ok(())
}

/// What was typed, understood.
struct Wanted {
    params: Params,
    settings: FunctionSettings,
    tree: Option<Tree>,
    seed: u64,
    faults: bool,
    per_function: bool,
    explain: bool,
}

fn understand(matches: &ArgMatches, context: &Context) -> Result<Wanted, Failure> {
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
        faults: matches.get_flag("faults"),
        per_function: matches.get_flag("per-function"),
        explain: matches.get_flag("explain"),
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

fn read_tree(path: &Path) -> Result<Tree, Failure> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Failure::of_path(path, &error, "give a tree's JSON file"))?;
    Tree::from_json(&text).map_err(|wrong| {
        let why = wrong.first().map(ToString::to_string).unwrap_or_default();
        Failure::failed(path.display().to_string(), why, "see `ol fit`")
    })
}

fn made_up(matches: &ArgMatches, seed: u64) -> Result<day::Day, Failure> {
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let standard = day::Day::DEFAULT;
    let hours = number("hours").unwrap_or(24);
    let day = day::Day {
        functions: number("functions").map_or(standard.functions, |count| count as usize),
        calls: number("calls").unwrap_or(standard.calls),
        length_ms: hours as f64 * 3_600_000.0,
        seed,
    };
    match day.refusal() {
        None => Ok(day),
        Some(why) => Err(Failure::usage(
            "the day",
            why,
            "give other --functions, --calls",
        )),
    }
}

fn simulate(wanted: &Wanted, mut reader: Reader, is_day: bool, context: &Context) -> Done {
    let costs = Costs {
        weights: cost::weights_of(reader.header()),
        ..Costs::default()
    };
    let functions = &reader.header().functions;
    let functions = functions
        .iter()
        .map(|function| FunctionCost::of_trace(function, &costs, &wanted.settings))
        .collect();
    let mut world = World::new(Setup {
        limits: Limits::DEFAULT,
        params: wanted.params.clone(),
        seed: wanted.seed,
        tree: Some(tree_of(wanted, is_day, &costs)),
        functions,
        costs,
        faults: wanted.faults.then_some(Faults::MANY),
        sweep: if wanted.faults {
            Sweep::Every(SWEEP_EVERY)
        } else {
            Sweep::Last
        },
        explain: wanted.explain,
    });
    let mut progress = Progress::start(context.quiet);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        let more = reader.read(&mut batch, BATCH);
        let more = more.map_err(|error| bad_trace(&error))?;
        world.play(&batch);
        explain(&mut world, context)?;
        let calls = reader.arrivals();
        progress.show(|| format!("{}: {calls} calls", reader.path().display()));
        if !more {
            break;
        }
    }
    let report = world.finish();
    drop(progress);
    explain(&mut world, context)?;
    let trace = reader.path().display().to_string();
    tell_figures(wanted, &trace, &world, &report, context)
}

/// The tree that was given; that of the day; a bare root.
fn tree_of(wanted: &Wanted, is_day: bool, costs: &Costs) -> ZygoteTree {
    match &wanted.tree {
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

fn explain(world: &mut World, context: &Context) -> Done {
    let notes = world.take_notes();
    if notes.is_empty() {
        return Ok(());
    }
    let names = Names {
        functions: world.functions(),
        tree: world.engine().tree(),
    };
    let mut text = String::new();
    for (now, note) in &notes {
        if context.json {
            text.push_str(&names.object(*now, note).to_string());
        } else {
            text.push_str(&names.line(*now, note));
        }
        text.push('\n');
    }
    print(&text)
}

fn tell_figures(
    wanted: &Wanted,
    trace: &str,
    world: &World,
    report: &Report,
    context: &Context,
) -> Done {
    let params = &wanted.params;
    let policy = format!(
        "{},{},{}",
        params.evict.name(),
        params.scale.name(),
        params.lookup.name()
    );
    let figures = report.to_json(trace, &policy, wanted.seed);
    if context.json {
        print_json(&figures)?;
    } else {
        print(&super::super::lines(&figures))?;
    }
    if !wanted.per_function {
        return Ok(());
    }
    let names = world.functions().iter().enumerate();
    if context.json {
        for (index, function) in names {
            print_json(&report.function_to_json(index, &function.name))?;
        }
        return Ok(());
    }
    let mut busiest: Vec<(usize, &FunctionCost)> = names.collect();
    busiest.sort_by_key(|(index, _)| std::cmp::Reverse(report.functions[*index].arrived));
    let mut table = Table::new(&[
        "FUNCTION",
        "CALLS",
        "WARM",
        "ZYGOTE",
        "FRESH",
        "REFUSED",
        "EVICTED",
        "MEAN WAIT MS",
    ]);
    for (index, function) in busiest.iter().take(LISTED_MAX) {
        let row = report.function_to_json(*index, &function.name);
        let cell = |value: &Value| value.to_string();
        table.row([
            function.name.clone(),
            cell(&row["calls"]),
            cell(&row["starts"]["warm"]),
            cell(&row["starts"]["zygote"]),
            cell(&row["starts"]["fresh"]),
            cell(&row["refused"]),
            cell(&row["evictions"]),
            cell(&row["wait_ms"]["mean"]),
        ]);
    }
    let rest = busiest.len().saturating_sub(LISTED_MAX);
    let more = if rest > 0 {
        format!("and {rest} more (--json lists all)\n")
    } else {
        String::new()
    };
    print(&format!("\n{table}{more}"))
}

/// Plays a recording: the same effects, in the same order.
fn play_again(path: &Path, matches: &ArgMatches, context: &Context) -> Done {
    let bad = |why: String| {
        Failure::failed(
            path.display().to_string(),
            why,
            "give a recording that this version of the worker wrote",
        )
    };
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| Failure::of_path(path, &error, "give a recording"))?;
    let recording = replay::read(&text).map_err(|error| bad(error.to_string()))?;
    let explains = matches.get_flag("explain");
    let mut printed = Ok(());
    let played = replay::play(&recording, |now, input, effect| {
        if explains && printed.is_ok() {
            printed = print_json(&replay::line(now, input, &effect));
        }
    });
    printed?;
    let played = played.map_err(|error| bad(error.to_string()))?;
    let figures = serde_json::json!({
        "recording": path.display().to_string(),
        "segments": played.segments,
        "events": played.inputs,
        "effects": played.effects,
    });
    if context.json {
        print_json(&figures)
    } else {
        print(&super::super::lines(&figures))
    }
}
