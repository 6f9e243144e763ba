//! `ol fit --evaluate`: every algorithm at every size on every trial, test halves scored.

use super::{algorithms, bad_trace, costs_and_needs, given, lookup, memory, sizes};
use crate::cli::definition::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{Done, Progress, Table, print, tell};
use crate::cli::plot::{Axis, Figure, Panel, Scale, Series};
use crate::policy::Lookup;
use crate::policy::fit::{
    self, Algorithm, Catalog, Objective, Plan, Wish, Workload, score, sock2018,
};
use crate::sim::trace::asked::Asked;
use clap::ArgMatches;
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Sizes where none are typed: those of the published trees.
pub const SIZES: [usize; 10] = [1, 10, 20, 40, 80, 120, 160, 240, 320, 640];
const CSV_HEAD: &str =
    "algorithm,nodes,lookup,residual_ms,deviation_ms,memory_mb,package_mb,hit_share,made_nodes";

/// One algorithm at one size: the mean over trials.
#[derive(Debug, Clone)]
pub struct Row {
    pub algorithm: Algorithm,
    pub nodes: usize,
    /// Of each trial.
    pub residual_ms: Vec<f64>,
    pub memory_mb: f64,
    pub package_mb: f64,
    pub hit_share: f64,
    pub made: f64,
    /// From a cold start to the first line of the function.
    pub cold_ms: f64,
}

/// A train and a test half.
pub type Trial = (Workload, Workload);

pub fn run(matches: &ArgMatches, context: &Context) -> Done {
    let path = given(matches, "evaluate").expect("the caller saw it");
    let (algorithms, lookup) = (algorithms(matches)?, lookup(matches));
    let wish = Wish {
        memory_mb: memory(matches)?,
        ..Wish::default()
    };
    let mut sizes = sizes(matches)?;
    if sizes.is_empty() {
        sizes = SIZES.to_vec();
    }
    let mut asked = Asked::new();
    let read = asked.read_trials(path).map_err(|error| bad_trace(&error))?;
    costs_and_needs(&mut asked, matches)?;
    let catalog = asked.catalog();
    let trials: Vec<Trial> = read
        .iter()
        .map(|(train, test)| (asked.workload(train), asked.workload(test)))
        .collect();
    if !context.quiet {
        for note in &asked.notes {
            tell(&format!("{}: {note}\n", context.program));
        }
    }
    let mut progress = Progress::start(context.quiet);
    let mut rows = Vec::new();
    for algorithm in &algorithms {
        progress.show(|| format!("{} on {} trials", algorithm.name(), trials.len()));
        rows.extend(compare(
            &catalog,
            &trials,
            *algorithm,
            &wish,
            (lookup, &sizes),
        ));
    }
    drop(progress);
    if let Some(path) = given(matches, "csv") {
        write(path, &csv(&rows, lookup))?;
    }
    if let Some(path) = given(matches, "plot") {
        let title = format!("Zygote trees: {}", path_name(given(matches, "evaluate")));
        write(path, &figure(&title, &rows).svg())?;
    }
    if context.json {
        let lines: Vec<String> = rows.iter().map(|row| row.json(lookup)).collect();
        return print(&lines.concat());
    }
    print(&table(&rows, trials.len()))
}

/// One row a size.
pub fn compare(
    catalog: &Catalog,
    trials: &[Trial],
    algorithm: Algorithm,
    wish: &Wish,
    (lookup, sizes): (Lookup, &[usize]),
) -> Vec<Row> {
    let row = |nodes: &usize| Row {
        algorithm,
        nodes: *nodes,
        residual_ms: Vec::new(),
        memory_mb: 0.0,
        package_mb: 0.0,
        hit_share: 0.0,
        made: 0.0,
        cold_ms: 0.0,
    };
    let mut rows: Vec<Row> = sizes.iter().map(row).collect();
    let share = 1.0 / trials.len() as f64;
    for (train, test) in trials {
        let plans = fit::fit_sizes(catalog, train, algorithm, wish, sizes);
        for (row, plan) in rows.iter_mut().zip(&plans) {
            let score = score(catalog, plan, test, lookup);
            let residual_ms = match algorithm {
                Algorithm::Sock2018 => lived(catalog, train, test, wish, row.nodes),
                _ => score.mean_residual_ms(),
            };
            let cold_ms = Objective::MEASURED.cold_ms(catalog, plan, &score);
            row.cold_ms += share * (cold_ms - score.mean_residual_ms() + residual_ms);
            row.residual_ms.push(residual_ms);
            row.add(catalog, plan, share);
            row.hit_share += share * score.hit_share();
        }
    }
    rows
}

/// The cache of 2018 goes on changing while it is tested.
fn lived(catalog: &Catalog, train: &Workload, test: &Workload, wish: &Wish, nodes: usize) -> f64 {
    let memory_mb = wish.memory_mb.unwrap_or(f64::INFINITY);
    let mut cache = sock2018::run(catalog, train, nodes, memory_mb);
    sock2018::replay(&mut cache, test) / f64::max(test.calls(), 1.0)
}

impl Row {
    fn add(&mut self, catalog: &Catalog, plan: &Plan, share: f64) {
        self.memory_mb += share * plan.memory_mb(catalog);
        self.package_mb += share * plan.package_mb(catalog);
        self.made += share * plan.len() as f64;
    }

    pub fn mean(&self) -> f64 {
        self.residual_ms.iter().sum::<f64>() / self.residual_ms.len() as f64
    }

    /// Of the trials around their mean; none of a single trial.
    fn deviation(&self) -> f64 {
        let (mean, count) = (self.mean(), self.residual_ms.len());
        if count < 2 {
            return 0.0;
        }
        let squares = self
            .residual_ms
            .iter()
            .map(|one| (one - mean) * (one - mean));
        libm::sqrt(squares.sum::<f64>() / (count - 1) as f64)
    }

    /// Cold calls that one core starts in a second.
    fn throughput(&self) -> f64 {
        1e3 / self.cold_ms
    }

    fn json(&self, lookup: Lookup) -> String {
        let object = json!({
            "algorithm": self.algorithm.name(),
            "nodes": self.nodes,
            "lookup": lookup.name(),
            "residual_ms": self.mean(),
            "deviation_ms": self.deviation(),
            "memory_mb": self.memory_mb,
            "package_mb": self.package_mb,
            "hit_share": self.hit_share,
            "made_nodes": self.made,
            "trials": self.residual_ms,
        });
        format!("{object}\n")
    }
}

fn table(rows: &[Row], trials: usize) -> String {
    let mut table = Table::new(&[
        "ALGORITHM",
        "NODES",
        "RESIDUAL_MS",
        "DEVIATION",
        "MEMORY_MB",
        "HITS%",
    ]);
    for row in rows {
        table.row([
            row.algorithm.name().to_owned(),
            row.nodes.to_string(),
            format!("{:.2}", row.mean()),
            format!("{:.2}", row.deviation()),
            format!("{:.0}", row.memory_mb),
            format!("{:.1}", row.hit_share * 100.0),
        ]);
    }
    format!("{table}\nmean of {trials} trials; import time left on the path of a test call\n")
}

fn csv(rows: &[Row], lookup: Lookup) -> String {
    let mut text = format!("{CSV_HEAD}\n");
    for row in rows {
        let (name, nodes, lookup) = (row.algorithm.name(), row.nodes, lookup.name());
        let figures = [
            row.mean(),
            row.deviation(),
            row.memory_mb,
            row.package_mb,
            row.hit_share,
            row.made,
        ];
        let figures = figures.map(|figure| figure.to_string()).join(",");
        writeln!(text, "{name},{nodes},{lookup},{figures}").expect("a string takes everything");
    }
    text
}

/// Import time and throughput, against nodes and against memory.
pub fn figure(title: &str, rows: &[Row]) -> Figure {
    let nodes = |row: &Row| row.made;
    let memory = |row: &Row| row.memory_mb;
    let panel = |title: &str, x: &str, y: &str, at: &dyn Fn(&Row) -> (f64, f64)| Panel {
        title: title.to_owned(),
        x: Axis::new(x, Scale::Logarithmic),
        y: Axis::new(y, Scale::FromZero),
        series: series(rows, at),
    };
    let (by_nodes, by_memory) = ("Nodes", "Memory of the tree (MB)");
    let (imports, calls) = (
        "Imports left (ms a cold call)",
        "Cold calls a second and core",
    );
    Figure {
        title: title.to_owned(),
        panels: vec![
            panel("Imports against nodes", by_nodes, imports, &|row| {
                (nodes(row), row.mean())
            }),
            panel("Imports against memory", by_memory, imports, &|row| {
                (memory(row), row.mean())
            }),
            panel("Throughput against nodes", by_nodes, calls, &|row| {
                (nodes(row), row.throughput())
            }),
            panel("Throughput against memory", by_memory, calls, &|row| {
                (memory(row), row.throughput())
            }),
        ],
    }
}

fn series(rows: &[Row], at: &dyn Fn(&Row) -> (f64, f64)) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for row in rows {
        let name = row.algorithm.name();
        if series.last().is_none_or(|last| last.name != name) {
            series.push(Series {
                name: name.to_owned(),
                points: Vec::new(),
            });
        }
        let last = series.last_mut().expect("it is there now");
        last.points.push(at(row));
    }
    for line in &mut series {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
        line.points.dedup();
    }
    series
}

fn path_name(path: Option<&Path>) -> String {
    let name = path.and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let remedy = "name a file that can be written";
    fs::write(path, text).map_err(|error| Failure::of_path(path, &error, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(nodes: usize, residual_ms: &[f64]) -> Row {
        Row {
            algorithm: Algorithm::SetCover,
            nodes,
            residual_ms: residual_ms.to_vec(),
            memory_mb: 62.0 * nodes as f64,
            package_mb: 1.0,
            hit_share: 0.5,
            made: nodes as f64,
            cold_ms: 2.0,
        }
    }

    #[test]
    fn mean_and_deviation_are_over_trials() {
        let row = row(20, &[1.0, 2.0, 6.0]);
        assert!((row.mean() - 3.0).abs() < 1e-12);
        assert!((row.deviation() - 7.0_f64.sqrt()).abs() < 1e-12);
        assert!(self::row(1, &[4.0]).deviation().abs() < 1e-12);
        assert!((row.throughput() - 500.0).abs() < 1e-9);
    }

    #[test]
    fn a_figure_has_a_line_an_algorithm() {
        let mut rows = vec![row(2, &[1.0]), row(1, &[2.0])];
        rows.push(Row {
            algorithm: Algorithm::Multi,
            ..row(1, &[3.0])
        });
        let figure = figure("t", &rows);
        assert_eq!(figure.panels.len(), 4);
        let lines = &figure.panels[0].series;
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].points, [(1.0, 2.0), (2.0, 1.0)]);
        let svg = figure.svg();
        assert!(svg.contains(">multi<") && svg.contains("Memory of the tree"));
    }

    #[test]
    fn csv_has_a_line_a_row() {
        let text = csv(&[row(20, &[1.5, 2.5])], Lookup::Best);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], CSV_HEAD);
        assert!(
            lines[1].starts_with("setcover,20,best,2,0.707"),
            "{}",
            lines[1]
        );
    }
}
