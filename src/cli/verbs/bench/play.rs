//! `ol bench play`: the calls of a trace once more, against a real worker.

use super::super::super::client;
use super::super::super::definition::{Context, flag, required};
use super::super::super::failure::Failure;
use super::super::super::output::Done;
use super::measure::{drive, failure, ready, setup};
use super::report::{self, Output};
use super::{clients, common, seconds, within};
use crate::base::{Duration, FunctionName};
use crate::bench::{Choice, Names, Pace, Run};
use crate::sim::trace::{self, Arrival, TraceError};
use clap::{Arg, ArgMatches, Command};

/// Calls of one trace: they are held in memory.
const CALLS_MAX: usize = 1 << 24;
/// Calls read at once.
const BATCH: usize = 1 << 16;
/// A day in a second.
const SPEED_MAX: f64 = 86_400.0;

/// Clients of an open loop: enough that a call waits for the worker, not for them.
const OPEN: u32 = 256;

pub fn command() -> Command {
    let command = Command::new("play")
        .about("Make the calls of a recorded trace again")
        .long_about(
            "Make the calls of a trace again, at the times it tells; latency counts from then. \
             With --closed, in its order, as fast as the clients get answers. A trace is what a \
             worker recorded, or any other that `ol sim` reads; its functions must be deployed.",
        )
        .arg(
            Arg::new("trace")
                .long("trace")
                .value_name("FILE")
                .required(true)
                .help("The trace"),
        )
        .arg(flag("closed", "As fast as answers come, not by its times"))
        .arg(
            Arg::new("speed")
                .long("speed")
                .value_name("FACTOR")
                .value_parser(|text: &str| within(text, SPEED_MAX))
                .default_value("1")
                .conflicts_with("closed")
                .help("How much faster than it was recorded"),
        )
        .arg(seconds(None, "Stop after this time [when all was played]"))
        .arg(clients(None).help("How many calls may be under way at once [256, closed 32]"));
    common(command)
}

pub fn run(matches: &ArgMatches, context: &Context) -> Done {
    let output = Output::open(matches, context)?;
    let client = client::find(context)?;
    let played = read(required(matches, "trace"), context)?;
    ready(&client)?;
    let is_closed = matches.get_flag("closed");
    let pace = if is_closed {
        Pace::Closed
    } else {
        let speed = *matches.get_one::<f64>("speed").expect("it has a default");
        let first = played.calls.first().map_or(0.0, |call| call.t_ms);
        let at = |call: &Arrival| Duration::from_secs_f64((call.t_ms - first) / 1e3 / speed);
        Pace::At(played.calls.iter().map(at).collect())
    };
    let choice = Choice::Listed {
        functions: played.calls.iter().map(|call| call.function).collect(),
        next: 0,
    };
    let default = if is_closed { super::PARALLEL } else { OPEN };
    let clients = matches
        .get_one::<u32>("clients")
        .copied()
        .unwrap_or(default);
    let setup = setup(&client, Names::Listed(played.names), clients, matches)?;
    let lasts = matches
        .get_one::<f64>("seconds")
        .map(|seconds| Duration::from_secs_f64(*seconds));
    let mut run =
        Run::new(setup, choice, pace, lasts).map_err(|stopped| failure(stopped, &client))?;
    drive(&mut run, "play", &client, context)?;
    report::tell("play", &run, &client, output, context)
}

struct Played {
    names: Vec<String>,
    calls: Vec<Arrival>,
}

fn read(file: &str, context: &Context) -> Result<Played, Failure> {
    let refused = |error: &TraceError| {
        Failure::failed(
            error.path().display().to_string(),
            error.why(),
            error.remedy(),
        )
    };
    let mut reader = trace::open(&context.working_directory.join(file)).map_err(|e| refused(&e))?;
    let mut calls = Vec::new();
    while reader
        .read(&mut calls, BATCH)
        .map_err(|error| refused(&error))?
    {
        if calls.len() > CALLS_MAX {
            let why = format!("it has more than {CALLS_MAX} calls");
            return Err(Failure::failed(file, why, "play a part of it"));
        }
    }
    if calls.is_empty() {
        return Err(Failure::failed(file, "it has no calls", "record one first"));
    }
    let functions = &reader.header().functions;
    let names: Vec<String> = functions
        .iter()
        .map(|function| function.name.clone())
        .collect();
    if let Some(name) = names.iter().find(|name| FunctionName::new(name).is_none()) {
        let why = format!("{name:?} cannot be a function's name");
        return Err(Failure::failed(file, why, "play a trace of this worker"));
    }
    Ok(Played { names, calls })
}
