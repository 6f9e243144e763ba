//! `ol list`: the functions of the registry.

use super::super::client::{self, Request};
use super::super::definition::{Context, Verb};
use super::super::output::{Done, Table, print, print_json};
use super::{cell, items};
use clap::{ArgMatches, Command};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("list")
        .visible_alias("ls")
        .about("List the functions")
        .long_about("List the functions of the registry, with their versions and sizes.")
}

fn run(_: &ArgMatches, context: &Context) -> Done {
    let client = client::find(context)?;
    let answer = client.ask_json("list", Request::new("GET", "/registry"))?;
    if context.json {
        return print_json(&answer);
    }
    let mut table = Table::new(&["NAME", "VERSION", "SIZE", "UPLOADED"]);
    for function in items(&answer, "functions") {
        if function.is_string() {
            table.row([cell(function), String::new(), String::new(), String::new()]);
            continue;
        }
        let size = function["bytes"]
            .as_u64()
            .map_or_else(String::new, super::super::output::bytes);
        let of = |name: &str| cell(&function[name]);
        table.row([of("name"), of("version"), size, of("uploaded")]);
    }
    print(&table.to_string())
}
