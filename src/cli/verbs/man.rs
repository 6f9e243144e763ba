//! `ol man`: manual pages, from the definitions that help comes from and the table of keys.

use super::super::definition::{self, Context, Verb, required};
use super::super::failure::Failure;
use super::super::output::{Done, print};
use crate::config::key::{Key, Reload};
use crate::config::keys::{KEYS, SECTIONS};
use crate::config::meaning::{Config, Home};
use crate::config::{Machine, render};
use clap::{Arg, ArgMatches, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::fs;
use std::path::Path;

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("man")
        .about("Write the manual pages into a directory")
        .long_about(
            "Write the manual pages into a directory: ol(1) and olworker(8), a page for each of \
             their verbs, and olworker.toml(5).",
        )
        .arg(
            Arg::new("dir-to")
                .value_name("DIR")
                .required(true)
                .help("The directory"),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let directory = context.working_directory.join(required(matches, "dir-to"));
    let remedy = "name a directory that can be written to";
    let failed = |error: std::io::Error| Failure::of_path(&directory, &error, remedy);
    fs::create_dir_all(&directory).map_err(failed)?;
    let mut names = Vec::new();
    for (program, section) in [(definition::ol(), "1"), (definition::olworker(), "8")] {
        pages(&program, section, &directory, &mut names).map_err(failed)?;
    }
    let name = "olworker.toml.5".to_owned();
    fs::write(directory.join(&name), configuration()).map_err(failed)?;
    names.push(name);
    if context.quiet {
        return Ok(());
    }
    names.push(String::new());
    print(&names.join("\n"))
}

/// The page of a program, and one for each of its verbs: `ol-deploy.1`.
fn pages(
    program: &Command,
    section: &str,
    directory: &Path,
    names: &mut Vec<String>,
) -> std::io::Result<()> {
    let mut program = program.clone();
    program.build();
    let mut open = vec![program];
    while let Some(command) = open.pop() {
        let full = command
            .get_display_name()
            .unwrap_or(command.get_name())
            .to_owned();
        let page = Man::new(command.clone())
            .title(full.to_uppercase())
            .section(section)
            .manual("olworker");
        let mut text = Vec::new();
        page.render(&mut text)?;
        let name = format!("{full}.{section}");
        fs::write(directory.join(&name), text)?;
        names.push(name);
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        open.extend(verbs.cloned());
    }
    Ok(())
}

/// olworker.toml(5).
fn configuration() -> String {
    let mut page = Roff::new();
    page.control("TH", ["OLWORKER.TOML", "5", "", "olworker", "olworker"]);
    page.control("SH", ["NAME"]);
    page.text([roman("olworker.toml - configuration of olworker")]);
    page.control("SH", ["FILES"]);
    page.text([roman(
        "/etc/olworker/olworker.toml, then /etc/olworker/olworker.toml.d/*.toml in the order of \
         their names; of a worker in a directory DIR/config.toml and DIR/config.toml.d/*.toml. \
         Later values win, and -o SECTION.KEY=VALUE on the command line wins over all. Unknown \
         keys are refused. `olworker check` tells what is wrong with a configuration.",
    )]);
    let mut defaults = Config::defaults(Home::installed(), Machine::UNKNOWN);
    for (section, about) in SECTIONS {
        let heading = format!("[{section}]");
        page.control("SH", [heading.as_str()]);
        page.text([roman(*about)]);
        for key in KEYS.iter().filter(|key| key.section() == *section) {
            entry(&mut page, key, &mut defaults);
        }
    }
    page.control("SH", ["EXAMPLE"]);
    page.control("nf", []);
    page.text([roman(render::shipped())]);
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("ol"), roman("(1), "), bold("olworker"), roman("(8)")]);
    page.to_roff()
}

fn entry(page: &mut Roff, key: &Key, defaults: &mut Config) {
    page.control("TP", []);
    let default = key.get(defaults).to_toml();
    page.text([bold(key.leaf()), roman(" = "), italic(default)]);
    let reload = match key.reload {
        Reload::AtOnce => "A reload takes it.",
        Reload::Restart => "Taken at start.",
    };
    page.text([roman(format!(
        "{} Range: {}. {reload}",
        key.about,
        key.range()
    ))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_of_the_configuration_names_every_key() {
        let page = configuration();
        for key in KEYS {
            let leaf = key.leaf().replace('-', "\\-");
            assert!(page.contains(&format!("\\fB{leaf}\\fR = ")), "{}", key.name);
        }
    }
}
