//! `ol rollback`: an earlier version of a function serves again.

use super::super::client::{self, Body, Request};
use super::super::definition::{Context, Verb, function, required};

use super::super::output::{Done, print, print_json};
use super::{cell, function_name};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("rollback")
        .about("Let an earlier version of a function serve again")
        .long_about(
            "Let an earlier version of a function serve again: the one named, else the one before \
             the present one. `ol show NAME` lists the versions that are kept.",
        )
        .arg(function())
        .arg(
            Arg::new("version")
                .value_name("VERSION")
                .help("The version [the one before]"),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let name = required(matches, "name");
    let what = format!("rollback {name}");
    function_name(&what, name)?;
    let version = matches.get_one::<String>("version");
    let body = version.map_or_else(|| json!({}), |version| json!({"version": number(version)}));
    let body = body.to_string();
    let client = client::find(context)?;
    let path = format!("/registry/{name}/rollback");
    let mut request = Request::new("POST", &path)
        .header("Accept", "application/json")
        .header("Content-Type", "application/json");
    request.body = Body::Bytes(body.as_bytes());
    let answer = client.ask(&what, request)?;
    let answer: Value = serde_json::from_slice(&client.whole(answer)?).unwrap_or_default();
    if context.json {
        return print_json(&answer);
    }
    match cell(&answer["version"]) {
        version if version.is_empty() => print(&format!("rolled {name} back\n")),
        version => print(&format!("{name} is at version {version}\n")),
    }
}

/// A version that is a number is sent as one.
fn number(version: &str) -> Value {
    version
        .parse::<u64>()
        .map_or_else(|_| Value::from(version), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_where_they_can_be() {
        assert_eq!(number("12"), json!(12));
        assert_eq!(number("a1b2"), json!("a1b2"));
    }
}
