//! `ol fit TRACE`: one tree, and what to expect of it.

use super::apply;
use super::evaluate::{self, SIZES};
use super::report::{Report, Tested};
use super::{
    NODES, algorithms, bad_trace, costs_and_needs, given, live, lookup, memory, sizes, tree_file,
};
use crate::cli::definition::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{Done, Progress, print, tell};
use crate::config::tree::Tree;
use crate::policy::fit::{self, Algorithm, Catalog, Objective, Wish, Workload, setcover};
use crate::policy::tree::NODES_MAX;
use crate::sim::trace::asked::{Asked, Calls};
use clap::ArgMatches;
use std::path::Path;

/// A trace that tells time is taken for what happens until the next fit: each node is made once.
pub const BUILDS: f64 = 1.0;

/// A trace, read and understood.
pub struct Night {
    pub asked: Asked,
    pub catalog: Catalog,
    pub workload: Workload,
    pub seconds: f64,
    pub test: Option<Workload>,
}

pub fn run(matches: &ArgMatches, context: &Context) -> Done {
    let algorithm = single(matches)?;
    let memory_mb = memory(matches)?;
    let nodes = nodes(matches, memory_mb)?;
    let present = present(matches, context)?;
    let night = read(matches, context)?;
    let objective = objective(memory_mb, &night);
    let wish = Wish {
        nodes,
        memory_mb,
        objective,
        calls: night.workload.calls(),
        smoothing: None,
    };
    let (catalog, workload) = (&night.catalog, &night.workload);
    let mut progress = Progress::start(context.quiet);
    progress.show(|| format!("fitting {} distinct sets", workload.demands.len()));
    let (plan, smoothing) = if algorithm == Algorithm::SetCover {
        let mut fitted = setcover::fit(catalog, workload, &wish, &[nodes]);
        let fitted = fitted.pop().expect("a plan for the one size");
        (fitted.plan, Some(fitted.smoothing))
    } else {
        (fit::fit(catalog, workload, algorithm, &wish), None)
    };
    drop(progress);
    let looked_up = lookup(matches);
    let spellings = night.asked.spellings();
    let against = present.as_ref().map(|(name, tree)| {
        let both = |workload| {
            let halves = (catalog, workload);
            live::serve(tree, looked_up, spellings, halves, &Objective::MEASURED)
        };
        (name.clone(), both(workload), night.test.as_ref().map(both))
    });
    let report = Report {
        algorithm,
        lookup: looked_up,
        catalog,
        workload,
        plan: &plan,
        spellings,
        smoothing,
        memory_mb,
        objective: Objective {
            forks_per_sec: rate(&night),
            ..Objective::MEASURED
        },
        bound: setcover::bound(catalog, workload, plan.len()),
        against: against
            .as_ref()
            .map(|(name, served, _)| (name.as_str(), *served)),
        test: night.test.as_ref().map(|test| Tested {
            workload: test,
            against: against.as_ref().and_then(|(_, _, served)| *served),
        }),
    };
    if let Some(path) = given(matches, "output") {
        evaluate::write(path, &tree_file::text(&plan, spellings))?;
    }
    if let Some(path) = given(matches, "plot") {
        draw(path, &night, &wish, matches)?;
    }
    if context.json {
        return print(&format!("{}\n", report.json()));
    }
    let written = given(matches, "output").map_or_else(
        || "no tree was written (-o FILE writes it)\n".to_owned(),
        |path| format!("written to {}\n", path.display()),
    );
    print(&format!("{}{written}", report.text()))
}

fn single(matches: &ArgMatches) -> Result<Algorithm, Failure> {
    let algorithms = algorithms(matches)?;
    if let [algorithm] = algorithms.as_slice() {
        return Ok(*algorithm);
    }
    let why = "one tree is made by one algorithm";
    let remedy = "--evaluate FILE compares several";
    Err(Failure::usage("--algorithm", why, remedy))
}

fn nodes(matches: &ArgMatches, memory_mb: Option<f64>) -> Result<usize, Failure> {
    match (sizes(matches)?.as_slice(), memory_mb) {
        ([], None) => Ok(NODES),
        ([], Some(_)) => Ok(NODES_MAX),
        ([nodes], _) => Ok(*nodes),
        _ => {
            let why = "one tree has one number of nodes";
            Err(Failure::usage(
                "--nodes",
                why,
                "--evaluate FILE compares several",
            ))
        }
    }
}

/// The tree to compare with: as typed, else the one in use.
fn present(matches: &ArgMatches, context: &Context) -> Result<Option<(String, Tree)>, Failure> {
    match given(matches, "against") {
        Some(path) => Ok(Some((path.display().to_string(), live::read(path)?))),
        None => Ok(apply::in_use(matches, context)),
    }
}

fn read(matches: &ArgMatches, context: &Context) -> Result<Night, Failure> {
    let path = given(matches, "trace").expect("clap wants one of the two");
    let mut asked = Asked::new();
    let calls = read_calls(&mut asked, path, context)?;
    if calls.ask_for_nothing() {
        let (what, why) = (
            path.display().to_string(),
            "no call in it asks for a package",
        );
        return Err(Failure::failed(
            what,
            why,
            "record calls of functions with packages",
        ));
    }
    let test = match given(matches, "test") {
        Some(path) => Some(read_calls(&mut asked, path, context)?),
        None => None,
    };
    costs_and_needs(&mut asked, matches)?;
    let catalog = asked.catalog();
    if !context.quiet {
        for note in &asked.notes {
            tell(&format!("{}: {note}\n", context.program));
        }
    }
    Ok(Night {
        workload: asked.workload(&calls),
        seconds: calls.seconds,
        test: test.map(|calls| asked.workload(&calls)),
        catalog,
        asked,
    })
}

pub fn read_calls(asked: &mut Asked, path: &Path, context: &Context) -> Result<Calls, Failure> {
    let mut progress = Progress::start(context.quiet);
    let mut tell = |share: Option<f64>| {
        progress.show(|| {
            let percent = share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
            format!("{}: {percent}", path.display())
        });
    };
    let read = asked.read(path, &mut tell);
    read.map_err(|error| bad_trace(&error))
}

fn rate(night: &Night) -> f64 {
    if night.seconds > 0.0 {
        night.workload.calls() / night.seconds
    } else {
        0.0
    }
}

/// Imports alone, or everything where memory is to be shared out.
fn objective(memory_mb: Option<f64>, night: &Night) -> Objective {
    match memory_mb {
        None => Objective::IMPORTS,
        Some(_) => Objective {
            builds: if night.seconds > 0.0 { BUILDS } else { 0.0 },
            forks_per_sec: rate(night),
            ..Objective::MEASURED
        },
    }
}

/// Every algorithm at every size up to the wanted one; on the test trace where there is one.
fn draw(path: &Path, night: &Night, wish: &Wish, matches: &ArgMatches) -> Done {
    let sizes: Vec<usize> = SIZES
        .into_iter()
        .filter(|size| *size < wish.nodes)
        .collect();
    let sizes = [sizes, vec![wish.nodes.min(SIZES[SIZES.len() - 1])]].concat();
    let test = night.test.as_ref().unwrap_or(&night.workload);
    let trials = [(night.workload.clone(), test.clone())];
    let wish = Wish {
        memory_mb: None,
        objective: Objective::IMPORTS,
        ..wish.clone()
    };
    let mut rows = Vec::new();
    for algorithm in Algorithm::ALL {
        let how = (lookup(matches), sizes.as_slice());
        rows.extend(evaluate::compare(
            &night.catalog,
            &trials,
            algorithm,
            &wish,
            how,
        ));
    }
    evaluate::write(path, &evaluate::figure("Zygote trees", &rows).svg())
}
