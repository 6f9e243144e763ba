//! `ol completions`: what shells need to complete command lines of both programs.

use super::super::definition::{self, Context, Verb, required};
use super::super::output::{Done, print_bytes};
use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("completions")
        .about("Print completions for a shell")
        .long_about(
            "Print completions for a shell. For bash: source <(ol completions bash); for fish: ol \
             completions fish > ~/.config/fish/completions/ol.fish; for zsh: put it into a \
             directory of $fpath as _ol.",
        )
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(["bash", "zsh", "fish"])
                .help("The shell"),
        )
        .arg(
            Arg::new("program")
                .long("program")
                .value_name("PROGRAM")
                .value_parser(["ol", "olworker"])
                .default_value("ol")
                .help("For which of the two programs"),
        )
}

fn run(matches: &ArgMatches, _: &Context) -> Done {
    let shell = match required(matches, "shell") {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    };
    let (name, mut program) = match required(matches, "program") {
        "olworker" => ("olworker", definition::olworker()),
        _ => ("ol", definition::ol()),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    print_bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_completed_in_every_shell() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            for (name, mut program, verbs) in [
                ("ol", definition::ol(), definition::OL),
                ("olworker", definition::olworker(), definition::OLWORKER),
            ] {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut program, name, &mut script);
                let script = String::from_utf8(script).unwrap();
                for verb in verbs {
                    let command = (verb.command)();
                    assert!(script.contains(command.get_name()), "{shell}: {command}");
                }
            }
        }
    }
}
