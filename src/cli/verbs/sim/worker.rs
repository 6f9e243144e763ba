//! `ol sim worker`: the real engine on a virtual clock, over traces or a made-up day.
//!
//! Owns the verb: what may be typed, and what is printed in which order: explanations as they are
//! made, the figures of a trace, then those of each function. Everything on stdout is determined by
//! the trace, the options and the seed.

use super::setup::{self, Wanted};
use super::{bad_trace, far, seed_argument, trace_argument};
use crate::cli::definition::{Context, Verb, flag, overrides};
use crate::cli::failure::Failure;
use crate::cli::output::{Done, Progress, Table, print, print_json, tell};
use crate::cli::verbs::serve;
use crate::sim::trace::{self, Reader};
use crate::sim::worker::explain::Names;
use crate::sim::worker::{FunctionCost, Report, World, day, replay};
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

/// Calls between two looks at the notes and the progress.
const BATCH: usize = 1_024;
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
        trace_argument(),
        serve::config_file().help("A configuration of the worker [built-in, 16 GB of memory]"),
        setup::tree_argument(),
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
        seed_argument("Seed of everything made up [0]"),
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
    let mut wanted = Wanted::understood(matches, context)?;
    wanted.faults = matches.get_flag("faults");
    wanted.per_function = matches.get_flag("per-function");
    wanted.explain = matches.get_flag("explain");
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
    let mut world = wanted.world(reader.header(), is_day);
    let mut progress = Progress::start(context.quiet);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        let more = reader.read(&mut batch, BATCH);
        let more = more.map_err(|error| bad_trace(&error))?;
        world.play(&batch);
        explain(&mut world, context)?;
        progress.show(|| far(&reader));
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
