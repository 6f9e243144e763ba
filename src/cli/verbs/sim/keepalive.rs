//! `ol sim keepalive`: policies times memory sizes times traces.
//!
//! Owns the verb: what may be typed, the order of the answers (trace, then policy, then memory, as
//! typed), and who is told what. Results go to stdout; notes, warnings and progress to stderr.

use super::keepalive_out::{Outputs, Row};
use super::{bad_trace, far, numbers, trace_argument};
use crate::cli::definition::{Context, Verb, flag};
use crate::cli::failure::Failure;
use crate::cli::output::{Done, Progress, tell};
use crate::sim::keepalive::own;
use crate::sim::keepalive::own::future::Future;
use crate::sim::keepalive::own::layers::{Layers, RUNTIME_SHARE_PERCENT};
use crate::sim::keepalive::report::Summary;
use crate::sim::keepalive::{Cell, Job, Keep, Model, Policy, Told};
use crate::sim::sweep;
use crate::sim::trace::{self, Function, Header, Reader};
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a policy with dice is run where the published answer is a mean.
const COURSE_RUNS: usize = 30;
const RUNS_MAX: u64 = 10_000;
const THREADS_MAX: u64 = 1_024;
/// Functions named in the warning about those that do not fit.
const NAMED_MAX: usize = 10;

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("keepalive")
        .about("Simulate which containers stay when memory is short")
        .long_about(LONG_ABOUT)
        .arg(trace_argument().required(true))
        .arg(
            Arg::new("policy")
                .long("policy")
                .value_name("NAME,...")
                .default_value("all")
                .help("Policies of the model, or `all`"),
        )
        .arg(
            Arg::new("memory")
                .long("memory")
                .value_name("MB,...|LO..HI/STEP")
                .required(true)
                .help("Memory sizes in megabytes"),
        )
        .arg(
            Arg::new("model")
                .long("model")
                .value_name("NAME")
                .default_value("classic")
                .value_parser(Model::ALL.map(Model::name))
                .help("The simulator"),
        )
        .args(seeds())
        .args(wishes())
}

const LONG_ABOUT: &str = "Simulate one server whose memory does not hold every container: which \
    ones stay?\n\n\
    The model `classic` gives the answers of the simulator of the FaasCache work, call for call; \
    `course` is that simulator with the price of a miss of its teaching edition (3 s and 1.2 cold \
    runs).\n\n\
    The model `own` is a server without the known faults of those: it asks whether memory can be \
    made free before anybody goes and frees no more than is needed, and what has lived too long \
    gives its memory back. Its policies are the live worker's. VALUE keeps by the saving expected \
    from the gaps between uses; LAYERED keeps a function's own state, the packages below it and \
    the runtime below those each for its own time, and starts from what is left; ORACLE knows the \
    calls to come; BOUND is what no policy that starts whole sandboxes on demand can go \
    below.\n\n\
    Added latency counts what callers wait beyond a warm call: a start costs its length, a \
    dropped call a second (after which the caller comes again) and a start.";

fn seeds() -> [Arg; 3] {
    let number = |name, most, help| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .value_parser(value_parser!(u64).range(0..=most))
            .help(help)
    };
    [
        number(
            "seed",
            u64::from(u32::MAX),
            "Seed of policies with dice [0]",
        ),
        number(
            "runs",
            RUNS_MAX,
            "Runs of a policy with dice, with this seed and the next ones; figures are means \
             [30 for the model `course` without --seed, else 1]",
        ),
        number("threads", THREADS_MAX, "Threads [one a core]"),
    ]
}

fn wishes() -> [Arg; 8] {
    let file = |name, value, help| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_hint(ValueHint::FilePath)
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    [
        flag(
            "wait",
            "Model `own`: a call waits for a busy container that is free before a new one",
        ),
        flag(
            "layers",
            "Model `own`: layers are kept under every policy, as LAYERED keeps them",
        ),
        Arg::new("runtime-share")
            .long("runtime-share")
            .value_name("PERCENT")
            .value_parser(value_parser!(u32).range(0..=100))
            .help(
                "Model `own`, functions without packages: how much of the shortest start and of \
                 the smallest memory is the shared runtime's [50]",
            ),
        flag("per-function", "Add the counts of each function"),
        flag("explain", "Print each decision before the figures"),
        flag(
            "outcomes",
            "Add one letter a call: h(it), m(iss), d(ropped)",
        ),
        file("csv", "FILE", "Write the figures as CSV too"),
        file(
            "plot",
            "FILE.svg",
            "Draw cold %, dropped % and added latency against memory",
        ),
    ]
}

/// What was typed, understood.
struct Wanted {
    traces: Vec<PathBuf>,
    policies: Vec<Policy>,
    memory_mb: Vec<f64>,
    seed: u64,
    runs: usize,
    threads: usize,
    keep: Keep,
    options: own::Options,
    runtime_share: f64,
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let wanted = understand(matches)?;
    let mut outputs = Outputs::open(matches, context)?;
    for path in &wanted.traces {
        let reader = trace::open(path).map_err(|error| bad_trace(&error))?;
        if !context.quiet {
            warn(&reader, &wanted.memory_mb, context);
        }
        if wanted.keep.decisions {
            explain(&wanted, path, &mut outputs)?;
        } else {
            simulate(&wanted, reader, &mut outputs, context)?;
        }
    }
    outputs.finish()
}

fn understand(matches: &ArgMatches) -> Result<Wanted, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let model = Model::parse(text("model")).expect("clap knows the models");
    let is_mean = model == Model::Course && number("seed").is_none();
    let runs = if is_mean { COURSE_RUNS } else { 1 };
    let sizes = numbers::sizes(text("memory"));
    Ok(Wanted {
        traces: matches
            .get_many("trace")
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        policies: policies(model, text("policy"))?,
        memory_mb: sizes.map_err(|why| Failure::usage("--memory", why, numbers::SIZES))?,
        seed: number("seed").unwrap_or(0),
        runs: number("runs").map_or(runs, |runs| runs.max(1) as usize),
        threads: number("threads").map_or_else(sweep::threads, |threads| threads.max(1) as usize),
        keep: Keep {
            outcomes: matches.get_flag("outcomes"),
            decisions: matches.get_flag("explain"),
        },
        options: own::Options {
            wait: matches.get_flag("wait"),
            layers: matches.get_flag("layers"),
        },
        runtime_share: f64::from(
            matches
                .get_one("runtime-share")
                .copied()
                .unwrap_or(RUNTIME_SHARE_PERCENT),
        ) / 100.0,
    })
}

fn policies(model: Model, list: &str) -> Result<Vec<Policy>, Failure> {
    let known = model.policies();
    if list.eq_ignore_ascii_case("all") {
        return Ok(known);
    }
    let names = list.split(',').map(str::trim);
    names
        .map(|name| find(&known, name).ok_or_else(|| unknown(model, name, &known)))
        .collect()
}

fn find(known: &[Policy], name: &str) -> Option<Policy> {
    known
        .iter()
        .copied()
        .find(|policy| policy.name().eq_ignore_ascii_case(name))
}

fn unknown(model: Model, name: &str, known: &[Policy]) -> Failure {
    let mut others = Model::ALL.into_iter();
    let elsewhere = others.find(|other| find(&other.policies(), name).is_some());
    let names: Vec<&str> = known.iter().map(|policy| policy.name()).collect();
    let has = || format!("it has {}", names.join(", "));
    let why = format!("the model `{}` has no `{name}`", model.name());
    let remedy = elsewhere.map_or_else(has, |other| format!("--model {} has it", other.name()));
    Failure::usage("--policy", why, remedy)
}

impl Wanted {
    /// The cells in the order of the answer, those of one row (its runs) side by side.
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &policy in &self.policies {
            for &memory_mb in &self.memory_mb {
                for run in 0..self.runs_of(policy) {
                    let seed = self.seed + run as u64;
                    cells.push(Cell {
                        policy,
                        memory_mb,
                        seed,
                        options: self.options,
                    });
                }
            }
        }
        cells
    }

    /// What clairvoyant policies are told, where there are any: a reading of its own.
    fn future(&self, path: &Path) -> Result<Option<Arc<Future>>, Failure> {
        if !self.policies.iter().any(|policy| policy.is_clairvoyant()) {
            return Ok(None);
        }
        let read = trace::open(path).and_then(|mut reader| {
            let arrivals = reader.read_to_end()?;
            Ok(Arc::new(Future::of(&reader.header().functions, &arrivals)))
        });
        read.map(Some).map_err(|error| bad_trace(&error))
    }

    /// What sandboxes are made of, where a policy asks.
    fn layers(&self, header: &Header) -> Option<Arc<Layers>> {
        let keeps = |policy: &Policy| match policy {
            Policy::Own(policy) => policy.keeps_layers(self.options),
            Policy::Classic(..) | Policy::Bound => false,
        };
        let wanted = self.policies.iter().any(keeps);
        wanted.then(|| Arc::new(Layers::of(header, self.runtime_share)))
    }

    fn runs_of(&self, policy: Policy) -> usize {
        if policy.has_dice() { self.runs } else { 1 }
    }
}

fn simulate(wanted: &Wanted, mut reader: Reader, outputs: &mut Outputs, context: &Context) -> Done {
    let functions = reader.header().functions.clone();
    let told = Told {
        functions: &functions,
        future: wanted.future(reader.path())?,
        layers: wanted.layers(reader.header()),
    };
    let cells = wanted.cells();
    let mut jobs = Job::for_all(&told, &cells, wanted.keep);
    let mut progress = Progress::start(context.quiet);
    let count = cells.len();
    let played = sweep::run(&mut reader, &mut jobs, wanted.threads, |reader, _| {
        progress.show(|| format!("{} in {count} simulations", far(reader)));
    });
    drop(progress);
    played.map_err(|error| bad_trace(&error))?;
    let mut rest = &cells[..];
    while let Some(first) = rest.first() {
        let (runs, following) = rest.split_at(wanted.runs_of(first.policy));
        rest = following;
        outputs.row(&row(wanted, reader.path(), &functions, runs, &jobs))?;
    }
    Ok(())
}

fn row<'a>(
    wanted: &Wanted,
    trace: &'a Path,
    functions: &'a [Function],
    runs: &[Cell],
    jobs: &'a [Job],
) -> Row<'a> {
    let of = |&cell| {
        jobs.iter()
            .find(|job| job.stands_for(cell))
            .expect("all were played")
    };
    let summary = Summary::of(functions, runs.iter().map(|cell| of(cell).counts()));
    let outcomes = wanted.keep.outcomes.then(|| of(&runs[0]).outcomes());
    Row {
        trace,
        functions,
        cell: runs[0],
        summary,
        outcomes,
    }
}

/// Decisions are printed as they are made, so one simulation after the other.
fn explain(wanted: &Wanted, path: &Path, outputs: &mut Outputs) -> Done {
    let future = wanted.future(path)?;
    for cell in wanted.cells() {
        let mut reader = trace::open(path).map_err(|error| bad_trace(&error))?;
        let functions = reader.header().functions.clone();
        let told = Told {
            functions: &functions,
            future: future.clone(),
            layers: wanted.layers(reader.header()),
        };
        let mut jobs = vec![Job::new(&told, cell, wanted.keep)];
        let mut printed = outputs.heading(path, cell);
        let played = sweep::run(&mut reader, &mut jobs, 1, |_, jobs| {
            let decisions = jobs[0].take_decisions();
            if printed.is_ok() {
                printed = outputs.decisions(&told, &decisions);
            }
        });
        played.map_err(|error| bad_trace(&error))?;
        printed?;
        outputs.row(&row(wanted, path, &functions, &[cell], &jobs))?;
    }
    Ok(())
}

fn warn(reader: &Reader, memory_mb: &[f64], context: &Context) {
    let notes = reader.header().notes.iter().cloned();
    for text in notes.chain(too_large(reader.header(), memory_mb)) {
        tell(&format!(
            "{}: {}: {text}\n",
            context.program,
            reader.path().display()
        ));
    }
}

/// Functions that not every simulated memory can hold.
fn too_large(header: &Header, memory_mb: &[f64]) -> Vec<String> {
    let smallest = memory_mb.iter().copied().fold(f64::INFINITY, f64::min);
    let large: Vec<&Function> = header
        .functions
        .iter()
        .filter(|function| function.mem_mb > smallest)
        .collect();
    let warning = |function: &&Function| {
        let (name, mem_mb) = (&function.name, function.mem_mb);
        let too_small = memory_mb.iter().copied().filter(|&size| size < mem_mb);
        let sizes: Vec<String> = too_small.map(numbers::plain).collect();
        let sizes = sizes.join(", ");
        format!("function `{name}` needs {mem_mb} MB: its calls are all dropped at {sizes} MB")
    };
    let mut warnings: Vec<String> = large.iter().take(NAMED_MAX).map(warning).collect();
    if large.len() > NAMED_MAX {
        let (more, size) = (large.len() - NAMED_MAX, numbers::plain(smallest));
        warnings.push(format!(
            "so are those of {more} more functions at {size} MB"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Wanted, Failure> {
        let words = ["keepalive", "--trace", "a"]
            .into_iter()
            .chain(line.split_whitespace());
        understand(&command().try_get_matches_from(words).unwrap())
    }

    #[test]
    fn cells_come_in_the_order_typed() {
        let wanted = typed("--policy lru,RAND --memory 2,1 --seed 7 --runs 2").unwrap();
        let cells = wanted.cells();
        let cells: Vec<(&str, f64, u64)> = cells
            .iter()
            .map(|cell| (cell.policy.name(), cell.memory_mb, cell.seed))
            .collect();
        let dice = [
            ("RAND", 2.0, 7),
            ("RAND", 2.0, 8),
            ("RAND", 1.0, 7),
            ("RAND", 1.0, 8),
        ];
        assert_eq!(cells[..2], [("LRU", 2.0, 7), ("LRU", 1.0, 7)]);
        assert_eq!(cells[2..], dice);
    }

    #[test]
    fn the_course_takes_the_mean_unless_a_seed_is_named() {
        let runs = |line| typed(line).unwrap().runs;
        assert_eq!(runs("--model course --memory 1"), 30);
        assert_eq!(runs("--model course --memory 1 --seed 3"), 1);
        assert_eq!(runs("--memory 1"), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_remedy() {
        for (line, why) in [
            ("--memory 1 --policy nosuch", "no `nosuch` (it has GD, LRU"),
            (
                "--memory 1 --model course --policy GD",
                "(--model classic has it)",
            ),
            ("--memory 1..2", "--memory: `1..2` has no step"),
        ] {
            let failure = typed(line).err().expect("refused");
            let said = failure.lines("ol");
            assert!(said.contains(why), "{said}");
            assert_eq!(failure.exit() as u8, 2);
        }
    }

    #[test]
    fn functions_that_do_not_fit_are_named() {
        let functions = vec![
            Function::plain("a", 5.0, 1.0, 1.0),
            Function::plain("b", 1.0, 1.0, 1.0),
        ];
        let header = Header {
            functions,
            ..Header::default()
        };
        let warnings = too_large(&header, &[1.0, 4.0, 9.0]);
        assert_eq!(
            warnings,
            ["function `a` needs 5 MB: its calls are all dropped at 1, 4 MB"]
        );
    }
}
