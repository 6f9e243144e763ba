//! `ol bench`: functions to measure with, and the measuring.
//!
//! ```text
//!  init --> bench-py-N, bench-pd-N (or bench-tree-N)      functions
//!  py64-seq ... pd64k-par, once, play --> run --> report   the last line of stdout is JSON
//! ```

mod experiment;
mod functions;
mod init;
mod measure;
mod once;
mod play;
mod report;

use super::super::definition::{Context, Verb, flag};
use super::super::output::Done;
use crate::bench::CLIENTS_MAX;
use clap::{Arg, ArgMatches, Command, value_parser};

pub const VERB: Verb = Verb { command, run };

/// The longest a benchmark may be told to take: a week.
const SECONDS_MAX: f64 = 7.0 * 86_400.0;
/// Calls a second: more than one thread can send.
const RATE_MAX: f64 = 10_000_000.0;

/// Kind and number of functions, and how they are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Benchmark {
    name: &'static str,
    prefix: &'static str,
    functions: u32,
    clients: u32,
}

const fn benchmark(
    name: &'static str,
    prefix: &'static str,
    functions: u32,
    clients: u32,
) -> Benchmark {
    Benchmark {
        name,
        prefix,
        functions,
        clients,
    }
}

const SEQUENTIAL: u32 = 1;
const PARALLEL: u32 = 32;

const BENCHMARKS: [Benchmark; 12] = [
    benchmark("py64-seq", functions::PY, 64, SEQUENTIAL),
    benchmark("py64-par", functions::PY, 64, PARALLEL),
    benchmark("py1k-seq", functions::PY, 1024, SEQUENTIAL),
    benchmark("py1k-par", functions::PY, 1024, PARALLEL),
    benchmark("py64k-seq", functions::PY, 65_536, SEQUENTIAL),
    benchmark("py64k-par", functions::PY, 65_536, PARALLEL),
    benchmark("pd64-seq", functions::PD, 64, SEQUENTIAL),
    benchmark("pd64-par", functions::PD, 64, PARALLEL),
    benchmark("pd1k-seq", functions::PD, 1024, SEQUENTIAL),
    benchmark("pd1k-par", functions::PD, 1024, PARALLEL),
    benchmark("pd64k-seq", functions::PD, 65_536, SEQUENTIAL),
    benchmark("pd64k-par", functions::PD, 65_536, PARALLEL),
];

fn command() -> Command {
    let command = Command::new("bench")
        .about("Make functions to measure with, and measure")
        .long_about(
            "Make functions to measure with (init), and measure: {py,pd}{64,1k,64k}-{seq,par} call \
             plain (py) or numpy and pandas (pd) functions, any of 64, 1,024 or 65,536, by 1 or \
             32 clients. The last line of stdout is one JSON object. The exit code is 1 when more \
             than 1 % of the calls failed.",
        )
        .subcommand_required(true)
        .subcommand(init::command())
        .subcommand(once::command())
        .subcommand(play::command());
    let of = |benchmark: Benchmark| {
        let about = format!(
            "{} functions, {} at a time",
            benchmark.functions, benchmark.clients
        );
        measure::command(benchmark.name, about)
    };
    command.subcommands(BENCHMARKS.map(of))
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let (verb, matches) = matches
        .subcommand()
        .expect("clap refuses a line without a verb");
    match verb {
        "init" => init::run(matches, context),
        "once" => once::run(matches, context),
        "play" => play::run(matches, context),
        name => {
            let benchmark = BENCHMARKS.iter().find(|known| known.name == name);
            measure::run(benchmark.expect("clap knows only these"), matches, context)
        }
    }
}

/// `-t`.
fn clients(default: Option<&'static str>) -> Arg {
    let arg = Arg::new("clients")
        .short('t')
        .long("clients")
        .value_name("N")
        .value_parser(value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))
        .help("How many calls may be under way at once");
    match default {
        Some(default) => arg.default_value(default),
        None => arg,
    }
}

/// What every kind of measurement is told.
fn common(command: Command) -> Command {
    command
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .help("Write the JSON to this file as well"),
        )
        .arg(
            Arg::new("io")
                .long("io")
                .value_name("BACKEND")
                .value_parser(["auto", "epoll", "io_uring"])
                .default_value("auto")
                .help("What the client waits with"),
        )
}

/// `-s`.
fn seconds(default: Option<&'static str>, help: &'static str) -> Arg {
    let arg = Arg::new("seconds")
        .short('s')
        .long("seconds")
        .value_name("SECONDS")
        .value_parser(|text: &str| within(text, SECONDS_MAX))
        .help(help);
    match default {
        Some(default) => arg.default_value(default),
        None => arg,
    }
}

/// A number above zero.
fn within(text: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= most => Ok(number),
        _ => Err(format!("give a number above 0 and up to {most}")),
    }
}

fn boolean(name: &'static str, help: &'static str) -> Arg {
    flag(name, help)
        .action(clap::ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("true")
        .default_missing_value("true")
        .value_parser(value_parser!(bool))
        .value_name("true|false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twelve_are_named_by_what_they_are() {
        for benchmark in BENCHMARKS {
            let Benchmark {
                name,
                prefix,
                functions,
                clients,
            } = benchmark;
            let kind = prefix.trim_start_matches("bench-").trim_end_matches('-');
            let many = match functions {
                64 => "64",
                1024 => "1k",
                _ => "64k",
            };
            let how = if clients == 1 { "seq" } else { "par" };
            assert_eq!(name, format!("{kind}{many}-{how}"));
        }
    }

    #[test]
    fn the_warm_up_can_be_switched_off() {
        let warm_up = |words: &[&str]| {
            let matches = command().try_get_matches_from(words);
            let matches = matches.map_err(|error| error.kind())?;
            let (_, matches) = matches.subcommand().expect("one");
            Ok::<_, clap::error::ErrorKind>(*matches.get_one::<bool>("warmup").expect("a default"))
        };
        assert_eq!(warm_up(&["bench", "py64-seq"]), Ok(true));
        assert_eq!(warm_up(&["bench", "py64-seq", "--warmup"]), Ok(true));
        assert_eq!(warm_up(&["bench", "py64-seq", "--warmup=false"]), Ok(false));
        assert!(warm_up(&["bench", "py64-seq", "--warmup=no"]).is_err());
    }
}
