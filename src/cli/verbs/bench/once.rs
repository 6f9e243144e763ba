//! `ol bench once PREFIX`: each function of a prefix once: the client of the tree experiment.

use super::super::super::client;
use super::super::super::definition::{Context, required};
use super::super::super::failure::Failure;
use super::super::super::output::Done;
use super::measure::{drive, failure, listed, setup};
use super::report::{self, Output};
use super::{clients, common};
use crate::bench::{Choice, Names, Pace, Run};
use clap::{Arg, ArgMatches, Command, value_parser};

pub fn command() -> Command {
    let command = Command::new("once")
        .about("Call each function of a prefix once")
        .long_about(
            "Call each function whose name begins with PREFIX once, in the order of their names \
             (numbers in them as numbers), a few at a time.",
        )
        .arg(
            Arg::new("prefix")
                .value_name("PREFIX")
                .required(true)
                .help("How their names begin; '' for all"),
        )
        .arg(
            Arg::new("first")
                .long("first")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .help("Only so many of them"),
        )
        .arg(clients(Some("5")));
    common(command)
}

pub fn run(matches: &ArgMatches, context: &Context) -> Done {
    let output = Output::open(matches, context)?;
    let prefix = required(matches, "prefix");
    let client = client::find(context)?;
    let mut names = listed(&client)?;
    names.retain(|name| name.starts_with(prefix));
    if names.is_empty() {
        let what = format!("once {prefix}");
        let why = "no function's name begins so";
        return Err(Failure::failed(what, why, "ol list shows what there is"));
    }
    names.sort_by_cached_key(|name| by_number(name));
    if let Some(first) = matches.get_one::<u32>("first") {
        names.truncate(*first as usize);
    }
    let names = Names::Listed(names);
    let choice = Choice::Each {
        next: 0,
        count: names.count(),
    };
    let clients = *matches.get_one("clients").expect("it has a default");
    let setup = setup(&client, names, clients, matches)?;
    let run = Run::new(setup, choice, Pace::Closed, None);
    let mut run = run.map_err(|stopped| failure(stopped, &client))?;
    drive(&mut run, "once", &client, context)?;
    report::tell(&format!("once {prefix}"), &run, &client, output, context)
}

/// `f-2` before `f-10`.
fn by_number(name: &str) -> (String, u64, String) {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = name[stem.len()..].parse().unwrap_or(u64::MAX);
    (stem.to_owned(), number, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order() {
        let mut names = ["f-10", "f-2", "f", "e-99999999999999999999", "f-02"];
        names.sort_by_cached_key(|name| by_number(name));
        assert_eq!(
            names,
            ["e-99999999999999999999", "f", "f-02", "f-2", "f-10"]
        );
    }
}
