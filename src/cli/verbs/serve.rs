//! `olworker serve`: the daemon itself, in the foreground.

use super::super::definition::{Context, Verb, many, overrides};
use super::super::failure::{Exit, Failure};
use super::super::machine;
use super::super::output::{Done, tell};
use super::super::pid_file::PidFile;
use crate::config::places::Places;
use crate::config::{Config, Loaded, Machine, Request, load, render};
use crate::driver::{self, Start};
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("serve")
        .about("Serve functions, in the foreground")
        .long_about(
            "Serve functions, in the foreground, until SIGTERM. Sockets that systemd passes are \
             taken; else the worker listens where its configuration says. SIGHUP has it read its \
             configuration again.",
        )
        .arg(config_file())
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_hint(ValueHint::DirPath)
                .help("Serve a directory made with `ol worker init`"),
        )
        .arg(overrides())
}

pub fn config_file() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
        .help("The configuration [/etc/olworker/olworker.toml]")
}

/// What was asked for on the command line of `serve` and `check`.
pub fn request(matches: &ArgMatches, context: &Context) -> Request {
    let path = |name: &str| {
        let value = matches.try_get_one::<String>(name).ok().flatten();
        value.map(PathBuf::from)
    };
    Request {
        file: path("config"),
        directory: path("dir"),
        overrides: many(matches, "override"),
        working_directory: context.working_directory.clone(),
    }
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let request = request(matches, context);
    let machine = machine::this();
    let loaded = load(&request, machine).map_err(Failure::Configuration)?;
    let home = &loaded.config.home;
    make_directory(&home.run)?;
    let path = home.pid_file();
    let taken = PidFile::take(&path);
    let taken = taken.map_err(|error| Failure::of_path(&path, &error, "make it writable"))?;
    let ours = taken.map_err(|pid| {
        let why = match pid {
            Some(pid) => format!("worker {pid} serves here already"),
            None => "another worker serves here already".to_owned(),
        };
        Failure::failed(
            path.display().to_string(),
            why,
            "stop it first, or give another --dir",
        )
    })?;
    write_effective(&loaded)?;
    let effective = loaded.config.home.effective_file();
    for warning in &loaded.warnings {
        tell(&format!("{}: warning: {warning}\n", context.program));
    }
    let done = run_worker(loaded.config, request, machine);
    let _ = fs::remove_file(effective);
    drop(ours);
    done
}

fn make_directory(path: &Path) -> Done {
    fs::create_dir_all(path)
        .map_err(|error| Failure::of_path(path, &error, "run as root, or give --dir"))
}

/// What is in force, overrides included: for people, and for `ol` to find the socket. It may hold
/// credentials of a package index, so it is its owner's alone.
fn write_effective(loaded: &Loaded) -> Done {
    let path = loaded.config.home.effective_file();
    let text = render::toml(
        &loaded.config,
        "What this worker runs with, overrides included. It is written at each start.",
    );
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::of_path(&path, &error, "make room, or make it writable"))
}

/// The one place where the command line meets the loop.
fn run_worker(config: Config, request: Request, machine: Machine) -> Done {
    let places = Places::of_this_program()
        .map_err(|error| Failure::Line(Exit::Failed, format!("/proc/self/exe: {error}")))?;
    let start = Start {
        config,
        request,
        machine,
        places,
    };
    driver::serve(start).map_err(|failure| {
        let exit = match failure {
            driver::Failure::Configuration(_) => Exit::BadConfiguration,
            driver::Failure::Machine(_) => Exit::Failed,
        };
        Failure::Line(exit, failure.to_string())
    })
}
