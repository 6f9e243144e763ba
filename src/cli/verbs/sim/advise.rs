//! `ol sim advise`: the cheapest pool and policy that start calls fast enough.
//!
//! Owns the verb. The worker is simulated with several sizes of its pool at once, under each
//! policy: first sizes far apart, then some between the largest that is too small and the smallest
//! that is enough. Every round reads the trace once.

use super::setup::{self, Wanted};
use super::{bad_trace, far, numbers, seed_argument, trace_argument};
use crate::base::{Bytes, Duration};
use crate::cli::definition::{Context, Verb, overrides};
use crate::cli::failure::Failure;
use crate::cli::output::{Done, Progress, Table, print, print_json};
use crate::cli::verbs::serve;
use crate::policy::Evict;
use crate::sim::keepalive::curve::Curve;
use crate::sim::sweep;
use crate::sim::trace;
use crate::sim::worker::{FunctionReport, Report, World};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

/// Sizes of a policy's pool that are tried at once.
const SIZES: u32 = 10;
const ROUNDS: u32 = 2;
/// What is compared unless policies are named: ours, and what others would take.
const POLICIES: &str = "value,gdsf,landlord,lru,hist";
/// The largest pool that is tried, over what all containers of the trace take.
const LARGEST: f64 = 2.0;
/// The smallest, over the largest function.
const SMALLEST: f64 = 1.3;

fn command() -> Command {
    Command::new("advise")
        .about("Find the cheapest pool and policy that start calls fast enough")
        .long_about(
            "Find the smallest `[pool] mem_mb`, and the `[policy] evict` that needs least, with \
             which 99 of 100 calls of a trace are in user code within the time that is wanted and \
             none is refused. What is simulated is the worker itself, as by `ol sim worker`, with \
             the configuration and tree that are given.",
        )
        .arg(trace_argument().required(true))
        .arg(
            Arg::new("p99")
                .long("p99")
                .value_name("MS")
                .required(true)
                .value_parser(value_parser!(f64))
                .help("99 of 100 calls are to reach user code within so many milliseconds"),
        )
        .arg(
            Arg::new("policy")
                .long("policy")
                .value_name("NAME,...")
                .default_value(POLICIES)
                .help("Policies of `[policy] evict` that may be chosen, or `all`"),
        )
        .arg(serve::config_file().help("A configuration of the worker [built-in]"))
        .arg(setup::tree_argument())
        .arg(seed_argument("Seed of everything made up [0]"))
        .arg(overrides())
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let target_ms: f64 = *matches.get_one("p99").expect("clap refuses a line without");
    if !(target_ms.is_finite() && target_ms > 0.0) {
        let why = format!("{target_ms} ms are no time to reach user code in");
        return Err(Failure::usage("--p99", why, "as --p99 250"));
    }
    let list: &String = matches.get_one("policy").expect("it has a default");
    let policies = policies(list)?;
    let wanted = Wanted::understood(matches, context)?;
    let paths = matches.get_many::<PathBuf>("trace").into_iter().flatten();
    for path in paths {
        let search = Search {
            path,
            target: Duration::from_secs_f64(target_ms / 1e3),
            wanted: &wanted,
            context,
        };
        let (low_mb, high_mb) = search.range()?;
        let found = search.all(&policies, low_mb, high_mb)?;
        tell(&search, target_ms, &found)?;
    }
    Ok(())
}

fn policies(list: &str) -> Result<Vec<Evict>, Failure> {
    if list == "all" {
        return Ok(Evict::ALL.to_vec());
    }
    let named = |name: &str| {
        Evict::parse(name.trim()).ok_or_else(|| {
            let known = Evict::ALL.map(Evict::name).join(", ");
            Failure::usage("--policy", format!("there is no `{name}`"), known)
        })
    };
    list.split(',').map(named).collect()
}

/// One trace, and what is wanted of it.
struct Search<'a> {
    path: &'a Path,
    target: Duration,
    wanted: &'a Wanted,
    context: &'a Context,
}

/// A pool that was simulated.
#[derive(Debug, Clone)]
struct Trial {
    evict: Evict,
    mem_mb: f64,
    p99: Duration,
    /// Of the calls that arrived.
    refused: u64,
    warm_percent: f64,
    evictions: u64,
    is_enough: bool,
}

impl Search<'_> {
    /// Where the sizes begin and end: one function of each kind; all containers there ever were.
    fn range(&self) -> Result<(f64, f64), Failure> {
        let mut reader = trace::open(self.path).map_err(|error| bad_trace(&error))?;
        let functions = reader.header().functions.clone();
        let mut curves = vec![Curve::new(&functions, 1.0, 0)];
        let mut progress = Progress::start(self.context.quiet);
        let played = sweep::run(&mut reader, &mut curves, 1, |reader, _| {
            progress.show(|| far(reader));
        });
        played.map_err(|error| bad_trace(&error))?;
        let curve = curves.remove(0);
        if curve.calls() == 0 {
            let what = self.path.display().to_string();
            return Err(Failure::failed(
                what,
                "nothing is called in it",
                "give another",
            ));
        }
        let largest = functions.iter().map(|function| function.mem_mb);
        let low_mb = largest.fold(64.0, f64::max) * SMALLEST;
        Ok((low_mb, f64::max(curve.memory_max(), low_mb) * LARGEST))
    }

    /// For each policy the smallest pool that is enough, or else the largest that was tried.
    fn all(&self, policies: &[Evict], low_mb: f64, high_mb: f64) -> Result<Vec<Trial>, Failure> {
        let mut brackets: Vec<(Evict, f64, f64)> = Vec::new();
        brackets.extend(policies.iter().map(|evict| (*evict, low_mb, high_mb)));
        let mut best: Vec<Option<Trial>> = vec![None; policies.len()];
        for round in 0..ROUNDS {
            let mut cells = Vec::new();
            for &(evict, low_mb, high_mb) in &brackets {
                cells.extend(sizes(low_mb, high_mb, round).map(|mem_mb| (evict, mem_mb)));
            }
            let trials = self.simulate(&cells)?;
            for (bracket, best) in brackets.iter_mut().zip(&mut best) {
                let evict = bracket.0;
                let own = trials.iter().filter(|trial| trial.evict == evict);
                narrow(bracket, best, own);
            }
        }
        Ok(best.into_iter().flatten().collect())
    }

    fn simulate(&self, cells: &[(Evict, f64)]) -> Result<Vec<Trial>, Failure> {
        let mut reader = trace::open(self.path).map_err(|error| bad_trace(&error))?;
        let world = |&(evict, mem_mb): &(Evict, f64)| {
            let mut wanted = self.wanted.clone();
            wanted.params.evict = evict;
            wanted.params.memory = Bytes::from_mb(mem_mb as u64);
            wanted.world(reader.header(), false)
        };
        let mut worlds: Vec<World> = cells.iter().map(world).collect();
        let mut progress = Progress::start(self.context.quiet);
        let (count, threads) = (worlds.len(), sweep::threads());
        let played = sweep::run(&mut reader, &mut worlds, threads, |reader, _| {
            progress.show(|| format!("{} on {count} workers", far(reader)));
        });
        played.map_err(|error| bad_trace(&error))?;
        let trials = cells.iter().zip(&mut worlds);
        Ok(trials
            .map(|(&(evict, mem_mb), world)| self.judge(evict, mem_mb, &world.finish()))
            .collect())
    }

    fn judge(&self, evict: Evict, mem_mb: f64, report: &Report) -> Trial {
        let p99 = Duration::from_nanos(report.wait.quantile(99, 100));
        let refused: u64 = report.refused.values().sum();
        let answered = report.total(FunctionReport::answered);
        let warm = report.total(|function| function.warm);
        Trial {
            evict,
            mem_mb,
            p99,
            refused,
            warm_percent: 100.0 * warm as f64 / answered.max(1) as f64,
            evictions: report.counts().evicted,
            is_enough: refused == 0 && p99 <= self.target,
        }
    }
}

/// Whole megabytes from low to high, in equal ratios; later rounds know both ends already.
fn sizes(low_mb: f64, high_mb: f64, round: u32) -> impl Iterator<Item = f64> {
    let ratio = high_mb / low_mb;
    let (first, last, parts) = if round == 0 {
        (0, SIZES - 1, SIZES - 1)
    } else {
        (1, SIZES, SIZES + 1)
    };
    let mut before = 0.0;
    (first..=last).filter_map(move |step| {
        let size = (low_mb * ratio.powf(f64::from(step) / f64::from(parts))).ceil();
        let is_new = size > before;
        before = size;
        is_new.then_some(size)
    })
}

/// The bracket becomes the largest too small and the smallest that is enough.
fn narrow<'a>(
    bracket: &mut (Evict, f64, f64),
    best: &mut Option<Trial>,
    trials: impl Iterator<Item = &'a Trial>,
) {
    for trial in trials {
        if trial.is_enough {
            let is_better = best
                .as_ref()
                .is_none_or(|best| !best.is_enough || trial.mem_mb < best.mem_mb);
            if is_better {
                bracket.2 = f64::min(bracket.2, trial.mem_mb);
                *best = Some(trial.clone());
            }
            // Trials come in the order of their sizes: what is larger is of no interest.
            return;
        }
        bracket.1 = f64::max(bracket.1, trial.mem_mb);
        if best.as_ref().is_none_or(|best| !best.is_enough) {
            *best = Some(trial.clone());
        }
    }
}

fn tell(search: &Search<'_>, target_ms: f64, found: &[Trial]) -> Done {
    let enough = found.iter().filter(|trial| trial.is_enough);
    let cheapest = enough.min_by(|a, b| a.mem_mb.total_cmp(&b.mem_mb));
    let trace = search.path.display().to_string();
    if search.context.json {
        let tried: Vec<Value> = found.iter().map(object).collect();
        print_json(&json!({
            "trace": trace,
            "target_p99_ms": target_ms,
            "policy": cheapest.map(|trial| trial.evict.name()),
            "mem_mb": cheapest.map(|trial| numbers::json(trial.mem_mb)),
            "p99_ms": cheapest.map(|trial| milliseconds(trial.p99)),
            "tried": tried,
        }))?;
    } else {
        print(&format!("{trace}\n{}", table(found)))?;
    }
    match cheapest {
        Some(_) if search.context.json => Ok(()),
        Some(best) => print(&format!(
            "\nset [pool] mem_mb = {} and [policy] evict = \"{}\"\n",
            best.mem_mb,
            best.evict.name()
        )),
        None => Err(Failure::failed(
            trace,
            format!("no pool starts 99 of 100 calls within {target_ms} ms and refuses none"),
            "give a larger --p99, a --tree with their packages, or limits that allow more",
        )),
    }
}

fn object(trial: &Trial) -> Value {
    json!({
        "policy": trial.evict.name(),
        "mem_mb": numbers::json(trial.mem_mb),
        "p99_ms": milliseconds(trial.p99),
        "refused": trial.refused,
        "warm_percent": trial.warm_percent,
        "evictions": trial.evictions,
        "is_enough": trial.is_enough,
    })
}

fn table(found: &[Trial]) -> Table {
    let mut table = Table::new(&[
        "POLICY",
        "POOL_MB",
        "P99_MS",
        "WARM%",
        "REFUSED",
        "EVICTIONS",
        "ENOUGH",
    ]);
    for trial in found {
        table.row([
            trial.evict.name().to_owned(),
            numbers::plain(trial.mem_mb),
            format!("{:.1}", milliseconds(trial.p99)),
            format!("{:.2}", trial.warm_percent),
            trial.refused.to_string(),
            trial.evictions.to_string(),
            if trial.is_enough { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

fn milliseconds(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(mem_mb: f64, is_enough: bool) -> Trial {
        Trial {
            evict: Evict::Lru,
            mem_mb,
            p99: Duration::ZERO,
            refused: 0,
            warm_percent: 0.0,
            evictions: 0,
            is_enough,
        }
    }

    #[test]
    fn sizes_go_from_end_to_end_and_then_between_them() {
        let first: Vec<f64> = sizes(100.0, 51_200.0, 0).collect();
        assert_eq!((first[0], first[9]), (100.0, 51_200.0));
        assert!((first[1] / first[0] - 2.0).abs() < 0.01);
        let second: Vec<f64> = sizes(100.0, 200.0, 1).collect();
        assert!(second.len() == 10 && second[0] > 100.0 && second[9] < 200.0);
        assert_eq!(sizes(100.0, 101.0, 1).count(), 1, "no size twice");
    }

    #[test]
    fn the_smallest_that_is_enough_is_kept_and_the_bracket_closes() {
        let mut bracket = (Evict::Lru, 100.0, 800.0);
        let mut best = None;
        let trials = [trial(100.0, false), trial(200.0, false), trial(400.0, true)];
        narrow(&mut bracket, &mut best, trials.iter());
        assert_eq!((bracket.1, bracket.2), (200.0, 400.0));
        narrow(&mut bracket, &mut best, [trial(300.0, false)].iter());
        let best = best.unwrap();
        assert!(best.is_enough);
        assert_eq!(best.mem_mb as u32, 400);
        assert_eq!(bracket.1 as u32, 300);
    }

    #[test]
    fn policies_are_those_of_the_configuration() {
        assert_eq!(policies("lru, value").unwrap(), [Evict::Lru, Evict::Value]);
        assert_eq!(policies("all").unwrap().len(), Evict::ALL.len());
        assert!(policies("fifo").is_err());
    }
}
