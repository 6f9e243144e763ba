//! `ol rm`: a function goes; its running calls finish.

use super::super::client::{self, Request};
use super::super::definition::{Context, Verb, function};
use super::super::output::{Done, print};
use super::function_name;
use clap::{ArgMatches, Command};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("rm")
        .about("Remove functions")
        .long_about("Remove functions with all their versions. Running calls finish.")
        .arg(function().num_args(1..).help("The functions"))
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let client = client::find(context)?;
    let names = matches
        .get_many::<String>("name")
        .expect("clap refuses none");
    let names: Vec<&String> = names.collect();
    for name in &names {
        function_name("rm", name)?;
    }
    for name in names {
        let path = format!("/registry/{name}");
        let answer = client.ask(&format!("rm {name}"), Request::new("DELETE", &path))?;
        client.whole(answer)?;
        if !context.quiet && !context.json {
            print(&format!("removed {name}\n"))?;
        }
    }
    Ok(())
}
