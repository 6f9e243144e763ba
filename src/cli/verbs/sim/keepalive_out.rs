//! What `ol sim keepalive` prints and writes: a table or JSON lines, CSV, a figure.
//!
//! Owns the open outputs of one run. Files are opened before anything is simulated, so that a
//! mistyped path costs no time.

use super::numbers;
use crate::cli::definition::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{Done, print};
use crate::cli::plot::{Axis, Figure, Panel, Scale, Series};
use crate::sim::keepalive::report::{FunctionSummary, Summary, Who};
use crate::sim::keepalive::{Cell, Decision, Told};
use crate::sim::trace::Function;
use clap::ArgMatches;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// One row of the answer.
pub struct Row<'a> {
    pub trace: &'a Path,
    pub functions: &'a [Function],
    pub cell: Cell,
    pub summary: Summary,
    pub outcomes: Option<&'a str>,
}

#[derive(Debug)]
pub struct Outputs {
    style: Style,
    per_function: bool,
    csv: Option<(PathBuf, BufWriter<File>)>,
    plot: Option<(PathBuf, File)>,
    /// What the figure shows: trace, policy, memory, the three heights.
    points: Vec<(PathBuf, &'static str, f64, [f64; 3])>,
    /// The trace whose table is being printed.
    table: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Table,
    Json,
}

const PANELS: [&str; 3] = [
    "Cold starts (% of served calls)",
    "Dropped (% of calls)",
    ADDED,
];
const ADDED: &str = "Added latency (ms a call)";

const CSV_HEAD: &str = "trace,policy,mem_mb,function,invocations,hits,cold_misses,capacity_misses,\
    evictions,exec_ms,exec_increase,paper_increase,peak_mem_mb,cold_percent,dropped_percent,\
    added_ms";

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::of_path(path, error, "name a file that can be written")
}

impl Outputs {
    pub fn open(matches: &ArgMatches, context: &Context) -> Result<Self, Failure> {
        let created = |name: &str| {
            let path: Option<&PathBuf> = matches.get_one(name);
            path.map(|path| match File::create(path) {
                Ok(file) => Ok((path.clone(), file)),
                Err(error) => Err(cannot(path, &error)),
            })
            .transpose()
        };
        let mut csv = created("csv")?.map(|(path, file)| (path, BufWriter::new(file)));
        if let Some((path, file)) = &mut csv {
            writeln!(file, "{CSV_HEAD}").map_err(|error| cannot(path, &error))?;
        }
        Ok(Self {
            style: if context.json {
                Style::Json
            } else {
                Style::Table
            },
            per_function: matches.get_flag("per-function"),
            csv,
            plot: created("plot")?,
            points: Vec::new(),
            table: None,
        })
    }

    pub fn row(&mut self, row: &Row<'_>) -> Done {
        self.write_csv(row)?;
        if self.plot.is_some() {
            let Summary { added_ms, .. } = row.summary;
            let heights = [
                row.summary.cold_percent(),
                row.summary.dropped_percent(),
                added_ms,
            ];
            let Cell {
                policy, memory_mb, ..
            } = row.cell;
            self.points
                .push((row.trace.to_path_buf(), policy.name(), memory_mb, heights));
        }
        match self.style {
            Style::Json => print(&format!("{}\n", self.object(row))),
            Style::Table => self.print_table(row),
        }
    }

    /// Says whose decisions follow.
    pub fn heading(&self, trace: &Path, cell: Cell) -> Done {
        let (policy, mem_mb) = (cell.policy.name(), numbers::plain(cell.memory_mb));
        match self.style {
            Style::Table => {
                let trace = trace.display();
                print(&format!(
                    "# {trace}: {policy}, {mem_mb} MB, seed {}\n",
                    cell.seed
                ))
            }
            Style::Json => Ok(()),
        }
    }

    /// A line a decision.
    pub fn decisions(&self, told: &Told<'_>, decisions: &[Decision]) -> Done {
        let mut lines = String::new();
        for decision in decisions {
            match self.style {
                Style::Table => lines.push_str(&decision_text(told, decision)),
                Style::Json => lines.push_str(&decision_json(told, decision).to_string()),
            }
            lines.push('\n');
        }
        print(&lines)
    }

    pub fn finish(self) -> Done {
        if let Some((path, mut file)) = self.csv {
            file.flush().map_err(|error| cannot(&path, &error))?;
        }
        if let Some((path, mut file)) = self.plot {
            let svg = figure(&self.points).svg();
            file.write_all(svg.as_bytes())
                .map_err(|error| cannot(&path, &error))?;
        }
        Ok(())
    }

    fn object(&self, row: &Row<'_>) -> Value {
        let Summary {
            hits,
            misses,
            drops,
            ..
        } = row.summary;
        let summary = &row.summary;
        let mut object = json!({
            "trace": row.trace.display().to_string(),
            "model": row.cell.policy.model().name(),
            "policy": row.cell.policy.name(),
            "mem_mb": numbers::json(row.cell.memory_mb),
            "invocations": numbers::json(summary.invocations),
            "hits": numbers::json(hits),
            "cold_misses": numbers::json(misses),
            "capacity_misses": numbers::json(drops),
            "evictions": numbers::json(summary.evictions),
            "exec_ms": numbers::json(summary.exec_ms),
            "exec_increase": numbers::json(summary.exec_increase),
            "paper_increase": numbers::json(summary.paper_increase),
            "peak_mem_mb": numbers::json(summary.peak_mem_mb),
            "cold_percent": numbers::json(summary.cold_percent()),
            "dropped_percent": numbers::json(summary.dropped_percent()),
            "added_ms": numbers::json(summary.added_ms),
            "mean_mem_mb": numbers::json(summary.mean_mem_mb),
            "layer_starts": numbers::json(summary.layer_starts),
            "layer_evictions": numbers::json(summary.layer_evictions),
            "runs": summary.runs,
        });
        if self.per_function {
            let per = row
                .functions
                .iter()
                .zip(&summary.functions)
                .map(per_function);
            object["functions"] = per.collect();
        }
        object["outcomes"] = row.outcomes.into();
        object
    }

    fn write_csv(&mut self, row: &Row<'_>) -> Done {
        let Some((path, file)) = &mut self.csv else {
            return Ok(());
        };
        let trace = numbers::quoted(&row.trace.display().to_string());
        let key = format!(
            "{trace},{},{}",
            row.cell.policy.name(),
            numbers::plain(row.cell.memory_mb)
        );
        let summary = &row.summary;
        let figures = [
            summary.invocations,
            summary.hits,
            summary.misses,
            summary.drops,
            summary.evictions,
            summary.exec_ms,
            summary.exec_increase,
            summary.paper_increase,
            summary.peak_mem_mb,
            summary.cold_percent(),
            summary.dropped_percent(),
            summary.added_ms,
        ];
        let mut lines = format!("{key},,{}\n", figures.map(numbers::plain).join(","));
        if self.per_function {
            for (function, counts) in row.functions.iter().zip(&summary.functions) {
                let FunctionSummary {
                    hits,
                    misses,
                    drops,
                    evictions,
                } = *counts;
                let figures = [hits + misses + drops, hits, misses, drops, evictions];
                let figures = figures.map(numbers::plain).join(",");
                let name = numbers::quoted(&function.name);
                lines.extend([&key, ",", &name, ",", &figures, ",,,,,,,\n"]);
            }
        }
        file.write_all(lines.as_bytes())
            .map_err(|error| cannot(path, &error))
    }

    fn print_table(&mut self, row: &Row<'_>) -> Done {
        let mut text = String::new();
        if self.table.as_deref() != Some(row.trace) {
            let gap = if self.table.is_some() { "\n" } else { "" };
            text = format!("{gap}{}\n{TABLE_HEAD}\n", row.trace.display());
            self.table = Some(row.trace.to_path_buf());
        }
        text.push_str(&table_line(row));
        if self.per_function {
            let counted = row.functions.iter().zip(&row.summary.functions);
            text.extend(counted.map(|(function, counts)| function_line(function, counts)));
        }
        if let Some(outcomes) = row.outcomes {
            text.extend([outcomes, "\n"]);
        }
        print(&text)
    }
}

const TABLE_HEAD: &str = "POLICY        MEM_MB       CALLS    COLD%  DROPPED%   EVICTIONS   \
    ADDED_MS    EXEC+%    PEAK_MB    MEAN_MB";

fn table_line(row: &Row<'_>) -> String {
    let summary = &row.summary;
    format!(
        "{:10} {:>9} {:>11.0} {:>8.3} {:>9.3} {:>11.0} {:>10.2} {:>9.2} {:>10.0} {:>10.0}\n",
        row.cell.policy.name(),
        numbers::plain(row.cell.memory_mb),
        summary.invocations,
        summary.cold_percent(),
        summary.dropped_percent(),
        summary.evictions,
        summary.added_ms,
        summary.exec_increase * 100.0,
        summary.peak_mem_mb,
        summary.mean_mem_mb,
    )
}

/// Nothing about a function that was not called.
fn function_line(function: &Function, counts: &FunctionSummary) -> String {
    let FunctionSummary {
        hits,
        misses,
        drops,
        evictions,
    } = counts;
    if hits + misses + drops == 0.0 {
        return String::new();
    }
    format!(
        "  {:30} {hits:>10.0} hits {misses:>9.0} misses {drops:>9.0} dropped \
         {evictions:>9.0} evicted\n",
        function.name,
    )
}

fn name_of<'a>(told: &'a Told<'_>, who: Who) -> &'a str {
    match who {
        Who::Function(function) => &told.functions[function as usize].name,
        Who::Layer(node) => told.layers.as_ref().map_or("", |layers| layers.name(node)),
    }
}

fn went(told: &Told<'_>, who: Who) -> String {
    let name = name_of(told, who);
    match who {
        Who::Function(_) => name.to_owned(),
        Who::Layer(_) => format!("the layer {name}"),
    }
}

fn decision_text(told: &Told<'_>, decision: &Decision) -> String {
    let Decision {
        arrival,
        outcome,
        evicted,
    } = decision;
    let name = |function: u32| told.functions[function as usize].name.as_str();
    let mut text = format!(
        "{} {} {}",
        arrival.t_ms,
        name(arrival.function),
        outcome.word()
    );
    for (index, victim) in evicted.iter().enumerate() {
        let joint = if index == 0 { "; evicts" } else { "," };
        let worth = format!(" (worth {})", victim.priority);
        text.extend([joint, " ", &went(told, victim.who), &worth]);
    }
    text
}

fn decision_json(told: &Told<'_>, decision: &Decision) -> Value {
    let Decision {
        arrival,
        outcome,
        evicted,
    } = decision;
    let name = |function: u32| told.functions[function as usize].name.as_str();
    let evicted: Vec<Value> = evicted
        .iter()
        .map(|victim| {
            let what = match victim.who {
                Who::Function(_) => "function",
                Who::Layer(_) => "layer",
            };
            json!({what: name_of(told, victim.who), "worth": victim.priority})
        })
        .collect();
    json!({
        "t_ms": numbers::json(arrival.t_ms),
        "function": name(arrival.function),
        "decision": outcome.word(),
        "evicted": evicted,
    })
}

fn per_function((function, counts): (&Function, &FunctionSummary)) -> Value {
    let FunctionSummary {
        hits,
        misses,
        drops,
        evictions,
    } = *counts;
    let mut object = Map::new();
    object.insert("name".to_owned(), function.name.clone().into());
    for (key, count) in [
        ("hits", hits),
        ("cold_misses", misses),
        ("capacity_misses", drops),
        ("evictions", evictions),
    ] {
        object.insert(key.to_owned(), numbers::json(count));
    }
    object.into()
}

fn figure(points: &[(PathBuf, &'static str, f64, [f64; 3])]) -> Figure {
    let mut figure = Figure {
        title: "Keep-alive policies".to_owned(),
        panels: Vec::new(),
    };
    let mut traces: Vec<&PathBuf> = Vec::new();
    for (trace, ..) in points {
        if !traces.contains(&trace) {
            traces.push(trace);
        }
    }
    for trace in traces {
        let own: Vec<_> = points.iter().filter(|point| point.0 == *trace).collect();
        for (index, label) in PANELS.iter().enumerate() {
            let mut series: Vec<Series> = Vec::new();
            for (_, policy, memory_mb, heights) in &own {
                if !series.iter().any(|series| series.name == *policy) {
                    series.push(Series {
                        name: (*policy).to_owned(),
                        points: Vec::new(),
                    });
                }
                let line = series.iter_mut().find(|series| series.name == *policy);
                let line = line.expect("it is there now");
                line.points.push((*memory_mb, heights[index]));
            }
            for series in &mut series {
                series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
            let name = trace
                .file_name()
                .unwrap_or(trace.as_os_str())
                .to_string_lossy();
            figure.panels.push(Panel {
                title: format!("{name}: {label}"),
                x: Axis::new("Memory (MB)", Scale::Linear),
                y: Axis::new(*label, Scale::FromZero),
                series,
            });
        }
    }
    figure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::keepalive::report::{Outcome, Victim};
    use crate::sim::trace::Arrival;

    #[test]
    fn a_figure_has_three_panels_a_trace_and_a_line_a_policy() {
        let point = |trace: &str, policy, memory| (trace.into(), policy, memory, [1.0, 2.0, 3.0]);
        let points = [
            point("a", "GD", 2.0),
            point("a", "GD", 1.0),
            point("a", "LRU", 1.0),
            point("b", "GD", 1.0),
        ];
        let figure = figure(&points);
        assert_eq!(figure.panels.len(), 6);
        assert_eq!(figure.panels[0].series.len(), 2);
        assert_eq!(figure.panels[2].series[0].points, [(1.0, 3.0), (2.0, 3.0)]);
    }

    #[test]
    fn a_decision_says_who_goes_for_whom() {
        let functions = [
            Function::plain("a", 1.0, 1.0, 1.0),
            Function::plain("b", 1.0, 1.0, 1.0),
        ];
        let decision = Decision {
            arrival: Arrival {
                t_ms: 2.5,
                function: 1,
            },
            outcome: Outcome::Missed,
            evicted: [7.0, 8.5]
                .map(|priority| Victim {
                    who: Who::Function(0),
                    priority,
                })
                .to_vec(),
        };
        let told = Told {
            functions: &functions,
            future: None,
            layers: None,
        };
        let text = decision_text(&told, &decision);
        assert_eq!(text, "2.5 b miss; evicts a (worth 7), a (worth 8.5)");
        assert_eq!(decision_json(&told, &decision)["evicted"][1]["worth"], 8.5);
    }
}
