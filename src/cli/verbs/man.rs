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
            .source(concat!("olworker ", env!("CARGO_PKG_VERSION")))
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
    use std::collections::BTreeMap;

    /// All pages by their names, as they are written.
    fn written() -> BTreeMap<String, String> {
        let name = format!("ol-man-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let mut names = Vec::new();
        for (program, section) in [(definition::ol(), "1"), (definition::olworker(), "8")] {
            pages(&program, section, &directory, &mut names).unwrap();
        }
        let read = |name: String| {
            let text = fs::read_to_string(directory.join(&name)).unwrap();
            // As it is read: dashes are dashes, fonts are nothing.
            let marks = [("\\-", "-"), ("\\*(Aq", "'"), ("\\\\", "\\")];
            let fonts = ["\\fB", "\\fI", "\\fR", "\\&"].map(|font| (font, ""));
            let read = |text: String, (from, to): (&str, &str)| text.replace(from, to);
            (name, fonts.into_iter().chain(marks).fold(text, read))
        };
        let read = names.into_iter().map(read).collect();
        fs::remove_dir_all(&directory).unwrap();
        read
    }

    /// What a page must say of a verb: what it does, and each of its options and arguments.
    fn words_of(command: &Command) -> Vec<String> {
        let mut words = vec![command.get_about().unwrap().to_string()];
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            words.extend(arg.get_long().map(|long| format!("--{long}")));
            words.extend(arg.get_short().map(|short| format!("-{short}")));
            if arg.is_positional() {
                words.extend(
                    arg.get_value_names()
                        .unwrap_or_default()
                        .iter()
                        .map(ToString::to_string),
                );
            }
            let help = arg.get_long_help().or(arg.get_help());
            let first = help.map(|help| help.to_string().lines().next().unwrap_or("").to_owned());
            words.extend(first);
        }
        words
    }

    #[test]
    fn each_verb_has_a_page_that_tells_all_its_options() {
        let mut written = written();
        let programs = [
            (definition::ol(), definition::OL, "1"),
            (definition::olworker(), definition::OLWORKER, "8"),
        ];
        for (program, verbs, section) in programs {
            let mut program = program;
            program.build();
            for verb in verbs {
                let name = (verb.command)().get_name().to_owned();
                let named = program.find_subcommand(&name);
                let mut open = vec![(format!("{}-{name}", program.get_name()), named.unwrap())];
                while let Some((full, command)) = open.pop() {
                    let page = written.remove(&format!("{full}.{section}"));
                    let page = page.unwrap_or_else(|| panic!("no page of {full}"));
                    for word in words_of(command) {
                        assert!(
                            page.contains(&word),
                            "{full} does not tell {word:?}: {page}"
                        );
                    }
                    for inner in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                        open.push((format!("{full}-{}", inner.get_name()), inner));
                    }
                }
            }
        }
        let rest: Vec<_> = written.into_keys().collect();
        assert_eq!(rest, ["ol.1", "olworker.8"], "pages of nothing");
    }

    #[test]
    fn the_manual_of_the_configuration_names_every_key() {
        let page = configuration();
        for key in KEYS {
            let leaf = key.leaf().replace('-', "\\-");
            assert!(page.contains(&format!("\\fB{leaf}\\fR = ")), "{}", key.name);
        }
    }
}
