//! `ol stats`: what the worker timed and counted.

use super::super::client::{self, Request};
use super::super::definition::{Context, Verb};
use super::super::output::{Done, Table, print, print_json};
use super::cell;
use clap::{ArgMatches, Command};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("stats")
        .about("Show what the worker timed and counted")
        .long_about(
            "Show what the worker timed and counted since it started: how often, the mean in \
             milliseconds, percentiles and the maximum.",
        )
}

fn run(_: &ArgMatches, context: &Context) -> Done {
    let client = client::find(context)?;
    let answer = client.ask_json("stats", Request::new("GET", "/stats"))?;
    if context.json {
        print_json(&answer)
    } else {
        print(&table(&answer))
    }
}

/// What is told of each thing, in the order of the columns.
const FACTS: [&str; 6] = ["cnt", "ms-avg", "p50", "p90", "p99", "max"];

/// `NAME.fact` entries, a row for each name.
pub fn table(stats: &Value) -> String {
    let mut rows: BTreeMap<&str, [String; 6]> = BTreeMap::new();
    let mut others = String::new();
    for (key, value) in stats.as_object().into_iter().flatten() {
        let fact = key.rsplit_once('.');
        let column = fact.and_then(|(_, fact)| FACTS.iter().position(|known| *known == fact));
        match (fact, column) {
            (Some((name, _)), Some(column)) => {
                rows.entry(name).or_default()[column] = number(value);
            }
            _ => writeln!(others, "{key}: {}", cell(value)).expect("a string takes everything"),
        }
    }
    let mut table = Table::new(&["WHAT", "COUNT", "MEAN MS", "P50", "P90", "P99", "MAX"]);
    for (name, [count, mean, p50, p90, p99, max]) in rows {
        table.row([name.to_owned(), count, mean, p50, p90, p99, max]);
    }
    format!("{table}{others}")
}

/// Milliseconds with three places, counts as they are.
fn number(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() => format!("{number:.3}"),
        _ => cell(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_for_each_thing() {
        let stats = json!({"fork.cnt": 2, "fork.ms-avg": 0.25, "call.cnt": 7, "call.p50": 1.0,
            "queue.depth": 3});
        assert_eq!(
            table(&stats),
            "WHAT  COUNT  MEAN MS  P50    P90  P99  MAX\n\
             call  7               1.000\n\
             fork  2      0.250\n\
             queue.depth: 3\n"
        );
    }
}
