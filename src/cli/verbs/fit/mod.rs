//! `ol fit`: zygote trees from what calls asked for.
//!
//! Owns the verb: what may be typed, and which of its trades is meant.
//!
//! ```text
//! ol fit TRACE            one tree, and what to expect of it          one.rs, report.rs
//! ol fit --evaluate FILE  algorithms against each other               evaluate.rs
//! ol fit --apply          the tree of a worker, from its own trace    apply.rs
//! ```

mod apply;
mod evaluate;
mod live;
mod one;
mod report;
mod tree_file;

use crate::cli::definition::{Context, Verb, flag};
use crate::cli::failure::Failure;
use crate::cli::output::Done;
use crate::policy::Lookup;
use crate::policy::fit::Algorithm;
use crate::policy::tree::NODES_MAX;
use crate::sim::trace::TraceError;
use crate::sim::trace::asked::Asked;
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

/// Nodes of a tree where neither nodes nor memory are given.
const NODES: usize = 40;
/// Megabytes that a budget may have.
const MEMORY_MAX_MB: f64 = 1e9;

fn command() -> Command {
    Command::new("fit")
        .about("Fit a zygote tree to a trace; compare ways to do it")
        .long_about(LONG_ABOUT)
        .arg(
            Arg::new("trace")
                .value_name("TRACE")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::AnyPath)
                .required_unless_present_any(["evaluate", "apply", "rollback"])
                .help(
                    "A recorded trace (or a directory of them), a call list, or a dep-trace.json",
                ),
        )
        .arg(
            path(
                "evaluate",
                "FILE",
                "Compare algorithms on trials with train and test halves",
            )
            .conflicts_with_all(["trace", "output", "against", "test"]),
        )
        .args(wishes())
        .args(files())
        .args(night())
}

const LONG_ABOUT: &str = "Fit a zygote tree to a trace, and say what to expect of it: what a cold \
    start takes, against no zygotes, a bare root and another tree; what each node holds, whom it \
    serves, what it saves and what it costs.\n\n\
    With --nodes alone a tree of at most so many nodes (the root counted) is wanted that leaves \
    the least import time on the path of calls. With --memory the tree fits into so many \
    megabytes, and forks, copy-on-write, the making of nodes and copies of busy ones count as \
    well.\n\n\
    Algorithms: `setcover` (the default) chooses the package sets that save most, for the calls \
    that are expected rather than those that were seen; how far the two differ is found by \
    cross-validation. `rule0` to `rule4`, `multi` and `multi-count` split the tree step by step \
    as published; `sock2018` is the cache that makes a zygote for every new set.\n\n\
    --evaluate reads {\"packages\": [{\"name\", \"ms\", \"mb\"}, ...], \"trials\": [{\"train\": \
    calls, \"test\": calls}, ...]}, fits on each train half and scores the test half.\n\n\
    --apply reads what the worker recorded, fits a tree to the calls that came first and compares \
    it with the tree in use on those that came last. Only if cold starts get shorter by the margin \
    the tree file is replaced by a tree for all calls, and the worker is told. --rollback brings \
    the tree before back.";

fn wishes() -> [Arg; 4] {
    [
        Arg::new("algorithm")
            .long("algorithm")
            .value_name("NAME,...|all")
            .default_value("setcover")
            .help("How the tree is made (several, or all, with --evaluate)"),
        Arg::new("nodes")
            .long("nodes")
            .value_name("N,...")
            .help("Nodes, the root counted (several with --evaluate) [40; with --memory: any]"),
        Arg::new("memory")
            .long("memory")
            .value_name("MB")
            .help("Memory that the whole tree may take"),
        Arg::new("lookup")
            .long("lookup")
            .value_name("NAME")
            .default_value("best")
            .value_parser(Lookup::ALL.map(Lookup::name))
            .help("How calls find their node when a tree is scored: best or first match"),
    ]
}

fn files() -> [Arg; 7] {
    [
        path("output", "FILE", "Write the tree there").short('o'),
        path(
            "profile",
            "FILE",
            "Import time and memory of packages, instead of the trace's",
        ),
        path(
            "needs",
            "FILE",
            "What packages need, for rules: {NAME: {VERSION: {\"a==1,b==2\": TIMES, ...}}}",
        ),
        path(
            "test",
            "TRACE",
            "Score the tree on the calls of this trace too",
        ),
        path(
            "against",
            "FILE",
            "Compare with this tree [the one that the worker uses]",
        ),
        path(
            "csv",
            "FILE",
            "Write the figures as CSV too (with --evaluate)",
        )
        .requires("evaluate"),
        path(
            "plot",
            "FILE.svg",
            "Draw import time and throughput against nodes and memory, a line an algorithm",
        ),
    ]
}

fn night() -> [Arg; 4] {
    let wholly = ["evaluate", "output", "against", "test", "plot"];
    [
        flag(
            "apply",
            "Fit to what the worker recorded; replace its tree if that is better",
        )
        .conflicts_with_all(wholly),
        flag("rollback", "Bring back the tree that --apply replaced")
            .conflicts_with_all(wholly)
            .conflicts_with_all(["apply", "trace"]),
        Arg::new("margin")
            .long("margin")
            .value_name("PERCENT")
            .requires("apply")
            .help("How much shorter cold starts must get for --apply [5]"),
        path(
            "config",
            "FILE",
            "The worker's configuration [that of -p DIR, or the installed one]",
        ),
    ]
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .value_parser(value_parser!(PathBuf))
        .value_hint(ValueHint::FilePath)
        .help(help)
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    if given(matches, "evaluate").is_some() {
        return evaluate::run(matches, context);
    }
    if matches.get_flag("rollback") {
        return apply::rollback(matches, context);
    }
    if matches.get_flag("apply") {
        return apply::apply(matches, context);
    }
    one::run(matches, context)
}

fn given<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a Path> {
    matches.get_one::<PathBuf>(name).map(PathBuf::as_path)
}

fn algorithms(matches: &ArgMatches) -> Result<Vec<Algorithm>, Failure> {
    let list = matches.get_one::<String>("algorithm");
    let list = list.map_or("setcover", String::as_str);
    if list.eq_ignore_ascii_case("all") {
        return Ok(Algorithm::ALL.to_vec());
    }
    let find = |name: &str| {
        Algorithm::parse(&name.to_ascii_lowercase()).ok_or_else(|| {
            let names = Algorithm::ALL.map(Algorithm::name).join(", ");
            let why = format!("there is no algorithm {name:?}");
            Failure::usage("--algorithm", why, format!("there are {names}"))
        })
    };
    list.split(',').map(|name| find(name.trim())).collect()
}

/// Numbers of nodes, as typed.
fn sizes(matches: &ArgMatches) -> Result<Vec<usize>, Failure> {
    let Some(list) = matches.get_one::<String>("nodes") else {
        return Ok(Vec::new());
    };
    let size = |text: &str| match text.trim().parse::<usize>() {
        Ok(size) if (1..=NODES_MAX).contains(&size) => Ok(size),
        _ => {
            let why = format!("{text:?} is no number of nodes");
            Err(Failure::usage(
                "--nodes",
                why,
                format!("give 1 to {NODES_MAX}"),
            ))
        }
    };
    list.split(',').map(size).collect()
}

fn memory(matches: &ArgMatches) -> Result<Option<f64>, Failure> {
    let Some(text) = matches.get_one::<String>("memory") else {
        return Ok(None);
    };
    match text.trim().parse::<f64>() {
        Ok(mb) if mb > 0.0 && mb <= MEMORY_MAX_MB => Ok(Some(mb)),
        _ => {
            let why = format!("{text:?} is no number of megabytes");
            Err(Failure::usage("--memory", why, "give a number above zero"))
        }
    }
}

fn lookup(matches: &ArgMatches) -> Lookup {
    let name = matches.get_one::<String>("lookup");
    name.and_then(|name| Lookup::parse(name))
        .unwrap_or_default()
}

/// Costs and needs of packages, where files tell them; notes are for people.
fn costs_and_needs(asked: &mut Asked, matches: &ArgMatches) -> Done {
    if let Some(profile) = given(matches, "profile") {
        let read = asked.read_profile(profile);
        read.map_err(|error| bad_trace(&error))?;
    }
    if let Some(needs) = given(matches, "needs") {
        let read = asked.read_closures(needs);
        read.map_err(|error| bad_trace(&error))?;
    }
    Ok(())
}

/// A trace that cannot be used.
fn bad_trace(error: &TraceError) -> Failure {
    let what = error.path().display().to_string();
    Failure::failed(what, error.why(), error.remedy())
}
