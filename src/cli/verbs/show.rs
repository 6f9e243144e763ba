//! `ol show`: one function: what it is, its settings, its versions.

use super::super::client::{self, Request};
use super::super::definition::{Context, Verb, function, required};
use super::super::output::{Done, print, print_json};
use super::{function_name, lines};
use clap::{ArgMatches, Command};
use serde_json::json;

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("show")
        .about("Show a function: its version, settings and what it needs")
        .long_about(
            "Show a function: its version, the settings in force (its own over the worker's), and \
             the versions that are kept for `ol rollback`.",
        )
        .arg(function())
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let name = required(matches, "name");
    let what = format!("show {name}");
    function_name(&what, name)?;
    let client = client::find(context)?;
    let get = |path: String| client.ask_json(&what, Request::new("GET", &path));
    let function = get(format!("/registry/{name}"))?;
    let config = get(format!("/registry/{name}/config"))?;
    let versions = get(format!("/registry/{name}/versions"))?;
    let all = json!({"function": function, "config": config, "versions": versions});
    if context.json {
        print_json(&all)
    } else {
        print(&lines(&all))
    }
}
