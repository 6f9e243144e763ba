//! `ol pkg`: the store of packages, seen and changed.

use super::super::client::{self, Body, Client, Request};
use super::super::definition::{Context, Verb};
use super::super::failure::Failure;
use super::super::output::{self, Done, Progress, Table, print, print_json};
use super::{cell, items};
use crate::base::Duration;
use clap::{Arg, ArgMatches, Command};
use rustix::event::{Timespec, poll};
use serde_json::{Value, json};

pub const VERB: Verb = Verb { command, run };

/// Between two looks at something under way: longer each time, since what is short is waited for
/// by somebody.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// A worker that says nothing new for so long has lost it.
const LOOKS_MAX: u32 = 36_000;

fn command() -> Command {
    let words = |help: &'static str| {
        Arg::new("packages")
            .value_name("PACKAGE")
            .required(true)
            .num_args(1..)
            .help(help)
    };
    Command::new("pkg")
        .about("Packages: list, install, profile, remove")
        .long_about(
            "The store of packages. Functions get theirs by themselves, when they are deployed or \
             called; this is for looking at it, and for filling it ahead.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").visible_alias("ls").about(
            "List what is installed, how many use it, and what importing it was found to cost",
        ))
        .subcommand(
            Command::new("install")
                .about("Install packages and all they need")
                .arg(words("A requirement: numpy, numpy==1.26.4, 'pandas>=2,<3'")),
        )
        .subcommand(
            Command::new("profile")
                .about("Measure what importing packages costs, each in a sandbox")
                .arg(words("numpy (all versions), numpy==1.26.4")),
        )
        .subcommand(
            Command::new("rm")
                .about("Remove packages that nobody uses")
                .arg(words("numpy (all versions), numpy==1.26.4")),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    match matches.subcommand() {
        Some(("list", _)) => list(context),
        Some(("install", found)) => install(&words(found), context),
        Some(("profile", found)) => profile(&words(found), context),
        Some(("rm", found)) => remove(&words(found), context),
        _ => unreachable!("clap wants one of these"),
    }
}

fn words(matches: &ArgMatches) -> Vec<String> {
    let all = matches.get_many::<String>("packages");
    all.into_iter().flatten().cloned().collect()
}

fn list(context: &Context) -> Done {
    let answer = client::find(context)?.ask_json("pkg list", Request::new("GET", "/packages"))?;
    if context.json {
        return print_json(&answer);
    }
    print(&table(items(&answer, "packages")).to_string())
}

fn table<'a>(packages: impl IntoIterator<Item = &'a Value>) -> Table {
    let heads = [
        "NAME",
        "VERSION",
        "SIZE",
        "USED BY",
        "IMPORT MS",
        "MB",
        "ZYGOTE",
    ];
    let mut table = Table::new(&heads);
    for package in packages {
        let profile = &package["profile"];
        let number = |key: &str| profile[key].as_f64();
        let memory = number("private_mb").zip(number("shared_mb"));
        let fit = match (&package["profiling"], profile, &package["unfit"]) {
            (Value::Bool(true), ..) => "being profiled".to_owned(),
            (_, _, Value::String(why)) => format!("no: {why}"),
            (_, Value::Null, _) => String::new(),
            _ => "yes".to_owned(),
        };
        table.row([
            cell(&package["name"]),
            cell(&package["version"]),
            package["bytes"]
                .as_u64()
                .map_or_else(String::new, output::bytes),
            cell(&package["used_by"]),
            number("import_ms").map_or_else(String::new, |ms| format!("{ms:.1}")),
            memory.map_or_else(String::new, |(own, shared)| format!("{:.1}", own + shared)),
            fit,
        ]);
    }
    table
}

/// Sends an order; what the worker makes of it.
fn order(client: &Client, what: &str, body: &Value) -> Result<Value, Failure> {
    let body = body.to_string();
    let mut request = Request::new("POST", "/packages")
        .header("Accept", "application/json")
        .header("Content-Type", "application/json");
    request.body = Body::Bytes(body.as_bytes());
    let answer = client.ask(what, request)?;
    Ok(serde_json::from_slice(&client.whole(answer)?).unwrap_or_default())
}

fn install(words: &[String], context: &Context) -> Done {
    let what = format!("pkg install {}", words.join(" "));
    let client = client::find(context)?;
    let answer = order(&client, &what, &json!({ "install": words }))?;
    let target = format!("/packages/sets/{}", cell(&answer["key"]));
    let state = wait(&client, &what, &target, context)?;
    if context.json {
        return print_json(&state);
    }
    for package in items(&state, "packages") {
        print(&format!("{}\n", cell(package)))?;
    }
    Ok(())
}

/// Waits for an install to end, with progress; its last state.
pub(super) fn wait(
    client: &Client,
    what: &str,
    target: &str,
    context: &Context,
) -> Result<Value, Failure> {
    let mut progress = Progress::start(context.quiet);
    for look in 0..LOOKS_MAX {
        let state = client.ask_json(what, Request::new("GET", target))?;
        match state["state"].as_str() {
            Some("ready") => return Ok(state),
            Some("failed") => {
                let why = cell(&state["why"]);
                let remedy = "mend the requirements, or [packages] of the worker";
                return Err(Failure::failed(what, why, remedy));
            }
            _ => progress.show(|| step(&state)),
        }
        pause(look);
    }
    let remedy = "ol pkg list tells what is there";
    Err(Failure::failed(what, "it did not end", remedy))
}

/// `fetching numpy==2.1.0, pandas==2.2.3 (3 are there)`
fn step(state: &Value) -> String {
    let doing = cell(&state["state"]);
    let there = items(state, "packages").len();
    match cell(&state["fetching"]) {
        names if names.is_empty() => doing,
        names => format!("{doing} {names} ({there} are there)"),
    }
}

fn pause(look: u32) {
    let pause = (PAUSE + PAUSE * look / 16).min(PAUSE_MAX);
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: pause.subsec_nanos().into(),
    };
    // Woken early: one more look.
    let _ = poll(&mut [], Some(&pause));
}

fn profile(words: &[String], context: &Context) -> Done {
    let what = format!("pkg profile {}", words.join(" "));
    let client = client::find(context)?;
    let answer = order(&client, &what, &json!({ "profile": words }))?;
    let wanted: Vec<String> = items(&answer, "profiling").iter().map(cell).collect();
    let mut progress = Progress::start(context.quiet);
    for look in 0..LOOKS_MAX {
        let all = client.ask_json(&what, Request::new("GET", "/packages"))?;
        let ours: Vec<Value> = items(&all, "packages")
            .iter()
            .filter(|it| {
                wanted.contains(&format!("{}=={}", cell(&it["name"]), cell(&it["version"])))
            })
            .cloned()
            .collect();
        let waiting = ours.iter().filter(|it| it["profiling"] == true).count();
        if waiting == 0 {
            if context.json {
                return print_json(&json!({ "packages": ours }));
            }
            return print(&table(&ours).to_string());
        }
        progress.show(|| format!("profiling: {waiting} of {} to go", ours.len()));
        pause(look);
    }
    Err(Failure::failed(
        what,
        "it did not end",
        "ol pkg list tells what is there",
    ))
}

fn remove(words: &[String], context: &Context) -> Done {
    let what = format!("pkg rm {}", words.join(" "));
    let client = client::find(context)?;
    let answer = order(&client, &what, &json!({ "remove": words }))?;
    if context.json {
        return print_json(&answer);
    }
    for package in items(&answer, "removed") {
        print(&format!("removed {}\n", cell(package)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told() {
        let state = json!({"state": "fetching", "packages": ["a==1"], "fetching": ["b==2"]});
        assert_eq!(step(&state), "fetching b==2 (1 are there)");
        assert_eq!(
            step(&json!({"state": "resolving", "packages": []})),
            "resolving"
        );
    }

    #[test]
    fn a_package_of_no_use_to_zygotes_says_why() {
        let package = json!({
            "name": "x", "version": "1", "bytes": 10, "used_by": 0, "profiling": false,
            "unfit": "threads",
            "profile": {"import_ms": 1.0, "private_mb": 2.0, "shared_mb": 0.5, "why": "threads"},
        });
        let shown = table([&package]).to_string();
        assert!(
            shown.contains("no: threads") && shown.contains("2.5"),
            "{shown}"
        );
    }
}
