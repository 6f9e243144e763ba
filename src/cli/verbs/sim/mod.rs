//! `ol sim`: what would happen, on a virtual clock.

mod advise;
mod curve;
mod generate;
mod keepalive;
mod keepalive_out;
mod numbers;
mod setup;
mod worker;

use crate::cli::definition::{Context, Verb};
use crate::cli::failure::Failure;
use crate::cli::output::Done;
use crate::sim::trace::{Reader, TraceError};
use clap::builder::ValueHint;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

pub const VERB: Verb = Verb { command, run };

/// What is simulated, each with a file of its own.
const VERBS: &[Verb] = &[
    keepalive::VERB,
    curve::VERB,
    worker::VERB,
    advise::VERB,
    generate::VERB,
];

fn command() -> Command {
    Command::new("sim")
        .about("Simulate: who is kept when memory is short, how much is enough, a whole worker")
        .long_about(
            "Simulate on a virtual clock. Nothing of the time of day goes to stdout: the same \
             trace, options and seed give the same bytes.",
        )
        .subcommand_required(true)
        .subcommands(VERBS.iter().map(|verb| (verb.command)()))
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let (name, matches) = matches
        .subcommand()
        .expect("clap refuses a line without one");
    let verb = VERBS
        .iter()
        .find(|verb| (verb.command)().get_name() == name);
    let verb = verb.expect("clap knows only these");
    (verb.run)(matches, context)
}

/// A trace that cannot be used.
fn bad_trace(error: &TraceError) -> Failure {
    let what = error.path().display().to_string();
    Failure::failed(what, error.why(), error.remedy())
}

/// `--trace FILE...`, as every simulator takes it.
fn trace_argument() -> Arg {
    Arg::new("trace")
        .long("trace")
        .value_name("FILE")
        .num_args(1..)
        .action(ArgAction::Append)
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::AnyPath)
        .help("Traces: JSON, a recorded trace, or Azure Functions CSV; also gzipped")
}

fn seed_argument(help: &'static str) -> Arg {
    Arg::new("seed")
        .long("seed")
        .value_name("N")
        .value_parser(value_parser!(u64))
        .help(help)
}

/// How far the reading of a trace has come.
fn far(reader: &Reader) -> String {
    const CELLS: usize = 24;
    let (path, calls) = (reader.path().display(), reader.arrivals());
    let bar = reader.progress().map_or_else(String::new, |share| {
        let full = (share.clamp(0.0, 1.0) * CELLS as f64) as usize;
        format!(
            "[{}{}] {:3.0} %, ",
            "#".repeat(full),
            ".".repeat(CELLS - full),
            share * 100.0
        )
    });
    format!("{path}: {bar}{calls} calls")
}
