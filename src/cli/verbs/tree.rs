//! `ol tree`: the live zygote tree, as it is dumped at shutdown, plus state and memory.

use super::super::client::{self, Request};
use super::super::definition::{Context, Verb};
use super::super::output::{Done, print, print_json};
use super::{cell, items};
use crate::cli::failure::one_line;
use clap::{ArgMatches, Command};
use serde_json::Value;
use std::fmt::Write as _;

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("tree")
        .about("Show the zygote tree")
        .long_about(
            "Show the tree of zygotes: for each node how many sandboxes came from it, its \
             packages, those it inherits, its state and memory.",
        )
}

fn run(_: &ArgMatches, context: &Context) -> Done {
    let client = client::find(context)?;
    let answer = client.ask_json("tree", Request::new("GET", "/tree"))?;
    if context.json {
        return print_json(&answer);
    }
    let trees = items(&answer, "trees");
    let trees = if trees.is_empty() {
        std::slice::from_ref(&answer)
    } else {
        trees
    };
    let mut out = String::new();
    for tree in trees {
        out.push_str("Import Cache Tree:\n");
        // A list holds trees as they are, or under a name of their own.
        dump(
            if tree["root"].is_object() {
                &tree["root"]
            } else {
                tree
            },
            &mut out,
        );
    }
    print(&out)
}

/// One line a node: `COUNT - PACKAGES [indirect: INHERITED] (STATE, MEMORY MB)`.
fn dump(root: &Value, out: &mut String) {
    let mut open: Vec<(&Value, usize, Vec<String>)> = vec![(root, 0, Vec::new())];
    while let Some((node, depth, inherited)) = open.pop() {
        let count = node["count"].as_u64().unwrap_or(0);
        let packages: Vec<String> = items(&node["packages"], "").iter().map(cell).collect();
        let names = if depth == 0 {
            "ROOT".to_owned()
        } else {
            packages.join(", ")
        };
        let mut line = format!("{count:>4} {:indent$}- {names}", "", indent = 2 * depth);
        if !inherited.is_empty() {
            write!(line, " [indirect: {}]", inherited.join(", "))
                .expect("a string takes everything");
        }
        let memory = node["mem_mb"]
            .as_f64()
            .filter(|memory| *memory > 0.0)
            .map(|memory| format!("{memory:.1} MB"));
        let facts = [node["state"].as_str().map(str::to_owned), memory];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            write!(line, " ({})", facts.join(", ")).expect("a string takes everything");
        }
        out.push_str(&one_line(&line));
        out.push('\n');
        let inherited: Vec<String> = inherited.into_iter().chain(packages).collect();
        let children = items(&node["children"], "").iter().rev();
        open.extend(children.map(|child| (child, depth + 1, inherited.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_shape_is_that_of_the_shutdown_dump() {
        let tree = json!({"packages": [], "count": 1, "state": "live", "mem_mb": 9.04, "children": [
            {"packages": ["numpy"], "count": 33, "children": [
                {"packages": ["pandas"], "count": 521, "state": "absent"}]}]});
        let mut out = String::new();
        dump(&tree, &mut out);
        assert_eq!(
            out,
            "   1 - ROOT (live, 9.0 MB)\n\
             \u{20} 33   - numpy\n\
             \u{20}521     - pandas [indirect: numpy] (absent)\n"
        );
    }
}
