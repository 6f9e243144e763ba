//! argv, wiring, exit codes. May import everything.
//!
//! ```text
//! words --definition--> verb --run--> Done                       0
//!          |                    |---> Failure: one line, code    1, 2, 69, 78
//!          +-- usage: what was typed wrong                       2
//! ```

#![forbid(unsafe_code)]

pub mod client;
pub mod definition;
pub mod failure;
pub mod ids;
pub mod interpreter;
pub mod machine;
pub mod output;
pub mod pack;
pub mod pid_file;
pub mod plot;
pub mod usage;
pub mod verbs;

use crate::host::unprivileged;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use definition::{Context, OL, OLWORKER, Verb};
use failure::Failure;
use output::Done;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// The tool a person types.
pub fn ol() -> ExitCode {
    program("ol", &definition::ol(), OL)
}

/// The daemon.
pub fn olworker() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Not for people: what a worker starts of itself to do work without its rights.
    if let Some(code) = unprivileged::as_child(&words) {
        return code;
    }
    program("olworker", &definition::olworker(), OLWORKER)
}

fn program(name: &'static str, definition: &Command, verbs: &[Verb]) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    match parse_and_run(name, definition, verbs, &words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::tell(&failure.lines(name));
            failure.exit().into()
        }
    }
}

fn parse_and_run(
    name: &'static str,
    definition: &Command,
    verbs: &[Verb],
    words: &[OsString],
) -> Done {
    let matches = match definition.clone().try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            return output::print(&error.render().to_string());
        }
        Err(error) => {
            let words: Vec<String> = words
                .iter()
                .skip(1)
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            let names: Vec<String> = definition
                .get_subcommands()
                .map(|verb| verb.get_name().to_owned())
                .collect();
            return Err(usage::explain(name, &error, &words, &names));
        }
    };
    let (verb, matches) = matches
        .subcommand()
        .expect("clap refuses a line without a verb");
    let verb = verbs
        .iter()
        .find(|known| (known.command)().get_name() == verb)
        .expect("clap knows only these verbs");
    (verb.run)(matches, &context(name, innermost(matches))?)
}

/// Where options that may stand anywhere have arrived: clap hands them down, not up.
fn innermost(mut matches: &ArgMatches) -> &ArgMatches {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches
}

fn context(program: &'static str, matches: &ArgMatches) -> Result<Context, Failure> {
    let text = |name: &str| {
        let value = matches.try_get_one::<String>(name).ok().flatten();
        value.cloned()
    };
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let working_directory = std::env::current_dir().map_err(|error| {
        Failure::failed(
            "this directory",
            error.to_string(),
            "change into one that exists",
        )
    })?;
    Ok(Context {
        program,
        socket: text("socket").or_else(|| environment("OL_SOCKET")),
        directory: text("dir").map(PathBuf::from),
        token_file: text("token-file")
            .or_else(|| environment("OL_TOKEN_FILE"))
            .map(PathBuf::from),
        json: matches.get_flag("json"),
        quiet: matches.get_flag("quiet"),
        working_directory,
    })
}
