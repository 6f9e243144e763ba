//! `ol top`: what the worker is doing, written anew every second.

use super::super::client::{self, Client, Request};
use super::super::definition::{Context, Verb};
use super::super::failure::Failure;
use super::super::output::{Done, print, print_stream};
use super::{lines, stats};
use crate::base::Duration;
use clap::{Arg, ArgMatches, Command, value_parser};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("top")
        .about("Watch what the worker is doing")
        .long_about(
            "Watch what the worker is doing: its state, and what it timed, written anew every \
             second until Ctrl-C or end of input. Where stdout is no terminal, or with --json, it \
             is written once, unless --rounds says otherwise.",
        )
        .arg(
            Arg::new("rounds")
                .long("rounds")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("How often, then stop"),
        )
        .arg(
            Arg::new("every")
                .long("every")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=3600))
                .default_value("1")
                .help("The time between two rounds"),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let client = client::find(context)?;
    let live = io::stdout().is_terminal() && !context.json;
    let rounds = matches.get_one::<u64>("rounds").copied();
    let rounds = rounds.unwrap_or(if live { u64::MAX } else { 1 });
    let every = Duration::from_secs(*matches.get_one::<u64>("every").expect("it has a default"));
    for round in 0..rounds {
        if round > 0 && ended(every) {
            break;
        }
        let view = view(&client, context.json)?;
        let text = if live {
            format!("\u{1b}[H\u{1b}[2J{view}")
        } else {
            view
        };
        if !print_stream(text.as_bytes())? {
            break;
        }
    }
    if live { print("") } else { Ok(()) }
}

fn view(client: &Client, as_json: bool) -> Result<String, Failure> {
    let status = status(client)?;
    let stats = client.ask_json("top", Request::new("GET", "/stats"))?;
    if as_json {
        return Ok(format!("{}\n", json!({"status": status, "stats": stats})));
    }
    Ok(format!("{}\n{}", lines(&status), stats::table(&stats)))
}

/// The details of the status, also of a worker that is not ready.
fn status(client: &Client) -> Result<Value, Failure> {
    let request = Request::new("GET", "/status").header("Accept", "application/json");
    let answer = client
        .send(request)
        .map_err(|error| error.failure(&client.address))?;
    let body = client.whole(answer)?;
    let text = || Value::String(String::from_utf8_lossy(&body).trim().to_owned());
    Ok(serde_json::from_slice(&body).unwrap_or_else(|_| text()))
}

/// Waits; true when the input of a terminal ended or `q` was typed meanwhile.
fn ended(wait: Duration) -> bool {
    let wait = Timespec {
        tv_sec: wait.as_secs() as i64,
        tv_nsec: 0,
    };
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        // Nothing is read from a pipe that somebody else may want to read.
        let _ = poll(&mut [], Some(&wait));
        return false;
    }
    let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut watched, Some(&wait)) {
        Ok(0) | Err(_) => false,
        Ok(_) => {
            let mut line = String::new();
            stdin
                .read_line(&mut line)
                .is_ok_and(|count| count == 0 || line.trim() == "q")
        }
    }
}
