//! The one definition of both programs: help, errors, completions and man pages all come from it.
//!
//! Each verb is an item of its own, in a file of its own under `verbs`: how it is typed, and what
//! it does. Options that every verb knows are here, and may stand before or behind the verb.

use super::output::Done;
use super::verbs;
use clap::builder::ValueHint;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::path::PathBuf;

/// A verb: how it is typed, and what it does.
#[derive(Debug)]
pub struct Verb {
    pub command: fn() -> Command,
    pub run: fn(&ArgMatches, &Context) -> Done,
}

/// What every verb is told.
#[derive(Clone, Debug)]
pub struct Context {
    /// `ol` or `olworker`.
    pub program: &'static str,
    /// `--socket`, else `$OL_SOCKET`.
    pub socket: Option<String>,
    /// `-p`.
    pub directory: Option<PathBuf>,
    /// `--token-file`, else `$OL_TOKEN_FILE`.
    pub token_file: Option<PathBuf>,
    pub json: bool,
    pub quiet: bool,
    pub working_directory: PathBuf,
}

/// The tool a person types.
pub const OL: &[Verb] = &[
    verbs::worker::VERB,
    verbs::deploy::VERB,
    verbs::list::VERB,
    verbs::show::VERB,
    verbs::rm::VERB,
    verbs::rollback::VERB,
    verbs::invoke::VERB,
    verbs::logs::VERB,
    verbs::pkg::VERB,
    verbs::tree::VERB,
    verbs::stats::VERB,
    verbs::top::VERB,
    verbs::bench::VERB,
    verbs::fit::VERB,
    verbs::sim::VERB,
    verbs::completions::VERB,
    verbs::man::VERB,
];

/// The daemon.
pub const OLWORKER: &[Verb] = &[verbs::serve::VERB, verbs::check::VERB];

/// With the commit it was built from, where the build says so (`OLWORKER_COMMIT`).
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("OLWORKER_COMMIT") {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
}

pub fn ol() -> Command {
    let program = program("ol", OL)
        .about("Functions on one machine: deploy, call, watch; and workers of one's own")
        .arg(
            Arg::new("socket")
                .long("socket")
                .value_name("ADDRESS")
                .value_hint(ValueHint::FilePath)
                .help("The worker: the path of its Unix socket, or http://HOST:PORT")
                .long_help(
                    "The worker: the path of its Unix socket, or http://HOST:PORT. Without it \
                     $OL_SOCKET, then -p DIR, then ./default-ol/worker/ol.sock, then \
                     /run/olworker/olworker.sock.",
                ),
        )
        .arg(
            Arg::new("dir")
                .short('p')
                .long("dir")
                .value_name("DIR")
                .value_hint(ValueHint::DirPath)
                .help("The directory of a worker of one's own [./default-ol]"),
        )
        .arg(
            Arg::new("token-file")
                .long("token-file")
                .value_name("FILE")
                .value_hint(ValueHint::FilePath)
                .help("The administrator's token, for http:// addresses [$OL_TOKEN_FILE]"),
        )
        .arg(flag("json", "Print JSON, for programs to read"))
        .arg(
            flag(
                "quiet",
                "Print no progress and nothing that is not asked for",
            )
            .short('q'),
        );
    everywhere(program)
}

pub fn olworker() -> Command {
    let program = program("olworker", OLWORKER)
        .about("The daemon that serves functions; `ol` is what people type")
        .arg(flag("json", "Print JSON, for programs to read"))
        .arg(flag("quiet", "Print nothing that is not asked for").short('q'));
    everywhere(program)
}

fn program(name: &'static str, verbs: &[Verb]) -> Command {
    Command::new(name)
        .version(version())
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommands(verbs.iter().map(|verb| (verb.command)()))
}

/// Makes the options of a program known to each of its verbs.
fn everywhere(command: Command) -> Command {
    let is_option = |arg: &Arg| !arg.is_positional();
    command.mut_args(|arg| {
        if is_option(&arg) {
            arg.global(true)
        } else {
            arg
        }
    })
}

pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// `-o a.b=value`, any number of times.
pub fn overrides() -> Arg {
    Arg::new("override")
        .short('o')
        .value_name("SECTION.KEY=VALUE")
        .action(ArgAction::Append)
        .help("Override a key of the configuration; may be given many times")
        .long_help(
            "Override a key of the configuration; may be given many times. What stands behind the \
             first = is read as TOML (numbers, true, \"strings\", {inline = \"tables\"}); what is \
             no TOML of the key's type is taken as a string as it stands, nothing as the empty \
             string.",
        )
}

/// The name of a function, as an argument.
pub fn function() -> Arg {
    Arg::new("name")
        .value_name("NAME")
        .required(true)
        .help("The function")
}

/// Every value of an option that may be given many times.
pub fn many(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches
        .get_many::<String>(name)
        .unwrap_or_default()
        .cloned()
        .collect()
}

/// The value of an argument that clap has seen to be there.
pub fn required<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches
        .get_one::<String>(name)
        .expect("clap refuses a command line without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold() {
        ol().debug_assert();
        olworker().debug_assert();
    }

    #[test]
    fn every_verb_has_a_short_and_a_long_help() {
        for verb in OL.iter().chain(OLWORKER) {
            let command = (verb.command)();
            assert!(command.get_about().is_some(), "{}", command.get_name());
            assert!(command.get_long_about().is_some(), "{}", command.get_name());
        }
    }

    #[test]
    fn options_of_the_program_stand_anywhere() {
        for line in [
            ["ol", "--socket", "/x", "--json", "list"],
            ["ol", "list", "--socket", "/x", "--json"],
            ["ol", "--json", "list", "--socket", "/x"],
        ] {
            let matches = ol().get_matches_from(line);
            let (_, list) = matches.subcommand().expect("list");
            assert_eq!(
                list.get_one::<String>("socket").map(String::as_str),
                Some("/x")
            );
            assert!(list.get_flag("json"));
        }
    }
}
