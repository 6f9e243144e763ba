//! `ol logs`: what a function printed.

use super::super::client::{self, Error, Request};
use super::super::definition::{Context, Verb, flag, function, required};
use super::super::output::{Done, print_stream};
use super::function_name;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::io::{ErrorKind, Read as _};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("logs")
        .about("Show what a function printed")
        .long_about(
            "Show what a function printed, with time, stream, instance and call id of each line; \
             with -f also what it prints from now on.",
        )
        .arg(function())
        .arg(flag("follow", "Go on with what it prints from now on").short('f'))
        .arg(
            Arg::new("lines")
                .short('n')
                .long("lines")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .default_value("100")
                .help("How many of the last lines"),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let name = required(matches, "name");
    let what = format!("logs {name}");
    function_name(&what, name)?;
    let follow = matches.get_flag("follow");
    let lines = matches.get_one::<u32>("lines").expect("it has a default");
    let mut path = format!("/logs/{name}?n={lines}");
    if follow {
        path.push_str("&follow=1");
    }
    let mut client = client::find(context)?;
    if follow {
        client.silence = None;
    }
    let mut answer = client.ask(&what, Request::new("GET", &path))?;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match answer.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if !print_stream(&piece[..count])? {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Broken(error).failure(&client.address)),
        }
    }
}
