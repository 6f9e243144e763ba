//! `ol sim`: what would happen, on a virtual clock.

mod generate;
mod keepalive;
mod keepalive_out;
mod numbers;
mod worker;

use crate::cli::definition::{Context, Verb};
use crate::cli::failure::Failure;
use crate::cli::output::Done;
use crate::sim::trace::TraceError;
use clap::{ArgMatches, Command};

pub const VERB: Verb = Verb { command, run };

/// What is simulated, each with a file of its own.
const VERBS: &[Verb] = &[keepalive::VERB, worker::VERB, generate::VERB];

fn command() -> Command {
    Command::new("sim")
        .about("Simulate: which containers stay when memory is short; a whole worker")
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
