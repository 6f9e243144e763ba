//! `ol worker`: a worker of one's own in a directory, without systemd.
//!
//! ```text
//!  (nothing) --init--> files --up--> runs --down--> files
//!                                     |
//!                            force-cleanup (whatever is left)
//! ```

mod base;
mod cleanup;
mod down;
mod init;
mod status;
mod up;

use super::super::client::{self, Address, Client, Request};
use super::super::definition::{Context, Verb, flag, overrides};
use super::super::failure::Failure;
use super::super::output::{self, Done};
use super::super::pid_file::{self, Owner};
use crate::base::Duration;
use crate::config::meaning::Home;
use crate::sys::machine::is_root;
use clap::{Arg, ArgMatches, Command};
use std::path::PathBuf;

pub const VERB: Verb = Verb { command, run };

/// Where a worker of one's own lives when nothing else is said.
const DEFAULT_DIRECTORY: &str = "default-ol";
/// The longest silence of a worker that is asked who and how it is.
const SILENCE: Duration = Duration::from_secs(5);

fn command() -> Command {
    let image = || {
        Arg::new("image")
            .short('i')
            .long("image")
            .value_name("IMAGE")
            .help("The base of its sandboxes: host (or ol-min), a root directory, or a tar of one")
    };
    Command::new("worker")
        .about("Make, start and stop a worker of one's own in a directory")
        .long_about(
            "Make, start and stop a worker of one's own in a directory (-p DIR, else \
             ./default-ol). No systemd is needed; root is.",
        )
        .subcommand_required(true)
        .subcommand(
            Command::new("init")
                .about("Make the directory: config.toml, tree.json, registry/, packages/")
                .long_about(
                    "Make the directory: config.toml with every key and its value, tree.json, \
                     registry/, packages/. What is there already stays as it is.",
                )
                .arg(image())
                .arg(overrides()),
        )
        .subcommand(
            Command::new("up")
                .about("Start the worker; one that runs is drained and replaced")
                .long_about(
                    "Start the worker; one that runs is drained and replaced. With -d it runs in \
                     the background, its output is appended to worker.out, and the command returns \
                     when it is ready. A directory that is none yet is made first, as by init.",
                )
                .arg(flag("detach", "Run in the background; return when ready").short('d'))
                .arg(image())
                .arg(overrides()),
        )
        .subcommand(
            Command::new("down")
                .about("Drain the worker and stop it")
                .long_about("Drain the worker and stop it: running calls finish within drain_sec."),
        )
        .subcommand(
            Command::new("status")
                .about("Say whether the worker is ready, or why not")
                .long_about(
                    "Say whether the worker is ready, or why not. The exit code is 0 when it is \
                     ready, 1 when it runs and is not, 69 when it does not run.",
                ),
        )
        .subcommand(
            Command::new("force-cleanup")
                .about("Kill and remove whatever a worker left behind")
                .long_about(
                    "Kill and remove whatever a worker left behind: the worker itself, every \
                     process of its sandboxes by their cgroups, its sockets and pid file. \
                     Functions and configuration stay.",
                ),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let (verb, matches) = matches
        .subcommand()
        .expect("clap refuses a line without a verb");
    // -p may stand behind the inner verb as well; clap hands it down.
    let place = Place::new(context);
    match verb {
        "init" => {
            needs_root("init")?;
            init::run(matches, context, &place)
        }
        "up" => {
            needs_root("up")?;
            up::run(matches, context, &place)
        }
        "down" => {
            needs_root("down")?;
            down::run(context, &place)
        }
        "status" => status::run(context, &place),
        "force-cleanup" => {
            needs_root("force-cleanup")?;
            cleanup::run(context, &place)
        }
        _ => unreachable!("clap knows only these"),
    }
}

fn needs_root(verb: &str) -> Done {
    if is_root() {
        return Ok(());
    }
    let why = "only root can make sandboxes (namespaces, cgroups, user ids)";
    Err(Failure::failed(
        format!("worker {verb}"),
        why,
        format!("sudo ol worker {verb} ..."),
    ))
}

/// The directory of a worker.
struct Place {
    /// As it was typed, for texts.
    typed: PathBuf,
    home: Home,
}

impl Place {
    fn new(context: &Context) -> Self {
        let typed = context
            .directory
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DIRECTORY));
        let absolute: PathBuf = context
            .working_directory
            .join(&typed)
            .components()
            .collect();
        Self {
            typed,
            home: Home::directory(&absolute),
        }
    }

    fn directory(&self) -> &PathBuf {
        &self.home.configuration
    }

    fn config_file(&self) -> PathBuf {
        self.home.configuration.join("config.toml")
    }

    fn owner(&self) -> Result<Owner, Failure> {
        let path = self.home.pid_file();
        pid_file::owner(&path)
            .map_err(|error| Failure::of_path(&path, &error, "ol worker force-cleanup removes it"))
    }

    fn client(&self) -> Client {
        let address = client::of_directory(self.directory());
        Client {
            address,
            token: None,
            silence: Some(SILENCE),
        }
    }

    fn socket(&self) -> PathBuf {
        match client::of_directory(self.directory()) {
            Address::Unix(path) => path,
            Address::Tcp { .. } => self.home.socket.clone(),
        }
    }

    /// The pid that whoever listens on the socket says it has.
    fn pid_by_socket(&self) -> Option<u32> {
        let client = self.client();
        let answer = client.ask("pid", Request::new("GET", "/pid")).ok()?;
        let body = client.whole(answer).ok()?;
        std::str::from_utf8(&body).ok()?.trim().parse().ok()
    }
}

/// A step that was done; nothing where only JSON is wanted.
fn step(context: &Context, text: &str) -> Done {
    if context.quiet || context.json {
        Ok(())
    } else {
        output::print(&format!("{text}\n"))
    }
}
