//! One benchmark: warmed up, measured, told.

use super::super::super::client::{self, Address, Client, Request};
use super::super::super::definition::Context;
use super::super::super::failure::{Exit, Failure};
use super::super::super::output::{self, Done, Progress};
use super::report::{self, Output};
use super::{Benchmark, PARALLEL, RATE_MAX, boolean, clients, common, seconds, within};
use crate::base::{Duration, Random};
use crate::bench::{Choice, Names, Pace, Run, Setup, Stopped, Target};
use crate::io::Wanted;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::Value;
use std::net::ToSocketAddrs as _;

pub fn command(name: &'static str, about: String) -> Command {
    let long = format!(
        "{about}, uniformly at random. Without --rate a client calls again as soon as it has its \
         answer; with it calls are due evenly in time, and latency counts from when a call was due."
    );
    let command = Command::new(name)
        .about(about)
        .long_about(long)
        .arg(seconds(Some("60"), "How long to measure"))
        .arg(clients(None))
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("R")
                .value_parser(|text: &str| within(text, RATE_MAX))
                .help("Calls a second, whether or not the worker keeps up"),
        )
        .arg(boolean(
            "warmup",
            "Call each function once before it is measured",
        ))
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("S")
                .value_parser(value_parser!(u64))
                .default_value("1")
                .help("Of the order of the calls"),
        );
    common(command)
}

pub fn run(benchmark: &Benchmark, matches: &ArgMatches, context: &Context) -> Done {
    let output = Output::open(matches, context)?;
    let client = client::find(context)?;
    ready(&client)?;
    there(&client, benchmark)?;
    let clients = matches.get_one::<u32>("clients").copied();
    let setup = |clients| {
        let prefix = benchmark.prefix.to_owned();
        let names = Names::Numbered {
            prefix,
            count: benchmark.functions,
        };
        setup(&client, names, clients, matches)
    };
    if matches.get_one::<bool>("warmup") == Some(&true) {
        let choice = Choice::Each {
            next: 0,
            count: benchmark.functions,
        };
        let warm_up = Run::new(setup(PARALLEL)?, choice, Pace::Closed, None);
        let mut run = warm_up.map_err(|stopped| failure(stopped, &client))?;
        let label = format!("{}: warming up", benchmark.name);
        drive(&mut run, &label, &client, context)?;
        if run.tally().is_bad() {
            let refusal = report::first_refusal(run.tally(), run.names());
            output::tell(&format!("ol: {label}: {refusal}\n"));
        }
    }
    let random = Random::new(*matches.get_one::<u64>("seed").expect("it has a default"));
    let choice = Choice::Uniform {
        random,
        count: benchmark.functions,
    };
    let rate = matches.get_one::<f64>("rate").copied();
    let pace = rate.map_or(Pace::Closed, Pace::Rate);
    let lasts = Duration::from_secs_f64(*matches.get_one("seconds").expect("it has a default"));
    let setup = setup(clients.unwrap_or(benchmark.clients))?;
    let mut run =
        Run::new(setup, choice, pace, Some(lasts)).map_err(|stopped| failure(stopped, &client))?;
    drive(&mut run, benchmark.name, &client, context)?;
    report::tell(benchmark.name, &run, &client, output, context)
}

/// A worker that is there and serves.
pub fn ready(client: &Client) -> Done {
    let answer = client.ask("status", Request::new("GET", "/status"))?;
    client.whole(answer).map(|_| ())
}

/// The functions that will be called, unless nobody may ask.
fn there(client: &Client, benchmark: &Benchmark) -> Done {
    let name = format!("{}{}", benchmark.prefix, benchmark.functions - 1);
    let target = format!("/registry/{name}");
    let answer = client.send(Request::new("GET", &target));
    let answer = answer.map_err(|error| error.failure(&client.address))?;
    let is_missing = answer.status == 404
        && client
            .whole(answer)
            .is_ok_and(|body| String::from_utf8_lossy(&body).contains("no-such-function"));
    if is_missing {
        let remedy = "ol bench init makes the functions";
        return Err(Failure::failed(
            benchmark.name,
            format!("there is no {name}"),
            remedy,
        ));
    }
    Ok(())
}

pub fn setup(
    client: &Client,
    names: Names,
    clients: u32,
    matches: &ArgMatches,
) -> Result<Setup, Failure> {
    let target = match &client.address {
        Address::Unix(path) => Target::Unix(path.clone()),
        Address::Tcp { host, port } => {
            let resolved = (host.as_str(), *port).to_socket_addrs();
            if let Ok(Some(address)) = resolved.map(|mut addresses| addresses.next()) {
                Target::Tcp(address)
            } else {
                let (what, why) = (client.address.to_string(), "its host has no address");
                return Err(Failure::failed(what, why, "name it by its address"));
            }
        }
    };
    let mut fields = vec![("Host".to_owned(), client.address.host())];
    if let Some(token) = &client.token {
        fields.push(("Authorization".to_owned(), format!("Bearer {token}")));
    }
    let back_end = match matches.get_one::<String>("io").map(String::as_str) {
        Some("epoll") => Wanted::Epoll,
        Some("io_uring") => Wanted::IoUring,
        _ => Wanted::Auto,
    };
    // As many as the machine allows: a client has a connection of its own.
    let _ = crate::sys::machine::raise_descriptor_limit();
    Ok(Setup {
        target,
        clients,
        names,
        fields,
        back_end,
    })
}

/// Turns until the run is over, and shows how far it is.
pub fn drive(run: &mut Run, label: &str, client: &Client, context: &Context) -> Done {
    let mut progress = Progress::start(context.quiet);
    loop {
        let goes_on = run.turn().map_err(|stopped| failure(stopped, client))?;
        if !goes_on {
            return Ok(());
        }
        progress.show(|| {
            let (seconds, tally) = (run.elapsed().as_secs_f64(), run.tally());
            let (calls, errors) = (tally.successes(), tally.errors());
            let rate = calls as f64 / seconds.max(1e-9);
            format!("{label}: {seconds:.0} s, {calls} calls, {rate:.0}/s, {errors} failed")
        });
    }
}

pub fn failure(stopped: Stopped, client: &Client) -> Failure {
    match stopped {
        Stopped::Gone(error) => client::Error::Unreachable(error).failure(&client.address),
        Stopped::Own(error) => Failure::new(
            Exit::Failed,
            "bench",
            error.to_string(),
            "try fewer clients (-t), or --io epoll",
        ),
    }
}

/// The names in a listing of the registry.
pub fn listed(client: &Client) -> Result<Vec<String>, Failure> {
    let answer = client.ask_json("list", Request::new("GET", "/registry"))?;
    let rows = super::super::items(&answer, "functions");
    let name = |row: &Value| row["name"].as_str().or(row.as_str()).map(str::to_owned);
    Ok(rows.iter().filter_map(name).collect())
}
