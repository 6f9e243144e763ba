//! `ol bench init`: makes the functions of the benchmarks, or those of the tree experiment.
//!
//! They are put into the registry's directory, whether or not a worker runs: 65,536 names of one
//! content in a second. Where the registry is not a directory of this machine, they are uploaded
//! one by one.

use super::super::super::client::{self, Address, Body, Request};
use super::super::super::definition::Context;
use super::super::super::failure::Failure;
use super::super::super::output::{Done, Progress, print, print_json};
use super::{experiment, functions};
use crate::base::Random;
use crate::config::meaning::{Config, Home, RegistryUrl};
use crate::config::{Machine, Request as Configuration, load};
use crate::host::code::put_names;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the largest benchmarks call.
const FUNCTIONS: u32 = 65_536;
/// Of the experiment, unless it is told otherwise.
const EXPERIMENT_FUNCTIONS: u32 = 100;
const FUNCTIONS_MAX: i64 = 1 << 20;

pub fn command() -> Command {
    Command::new("init")
        .about("Make the functions of the benchmarks, or of the tree experiment")
        .long_about(
            "Make the functions of the benchmarks: bench-py-N, which returns N, and bench-pd-N, \
             which returns the correlation of two columns of a pandas frame; 65,536 of each. With \
             --packages, make bench-tree-N instead: functions that do nothing but import --picks \
             packages of a list, picked uniformly. What is there already with the same content \
             stays as it is.",
        )
        .arg(
            Arg::new("packages")
                .long("packages")
                .value_name("FILE")
                .help("A list of packages to import: NAME[==VERSION][: MODULE ...], one a line"),
        )
        .arg(
            Arg::new("functions")
                .long("functions")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=FUNCTIONS_MAX))
                .help("How many of each kind [65536; with --packages 100]"),
        )
        .arg(
            Arg::new("picks")
                .long("picks")
                .value_name("K")
                .value_parser(value_parser!(u32).range(1..=1000))
                .requires("packages")
                .help("How many packages each function imports [3]"),
        )
        .arg(
            Arg::new("seed")
                .long("seed")
                .value_name("S")
                .value_parser(value_parser!(u64))
                .requires("packages")
                .help("Of the picks [1]"),
        )
}

/// Functions to make: a code, and the names that have it.
struct Group {
    code: String,
    prefix: &'static str,
    numbers: std::ops::Range<u32>,
}

pub fn run(matches: &ArgMatches, context: &Context) -> Done {
    let functions = matches.get_one::<u32>("functions").copied();
    let groups = if let Some(file) = matches.get_one::<String>("packages") {
        let functions = functions.unwrap_or(EXPERIMENT_FUNCTIONS);
        picked(file, functions, matches, context)?
    } else {
        let numbers = 0..functions.unwrap_or(FUNCTIONS);
        let kinds = [
            (functions::PY_CODE, functions::PY),
            (functions::PD_CODE, functions::PD),
        ];
        let of = |(code, prefix): (&str, &'static str)| Group {
            code: code.to_owned(),
            prefix,
            numbers: numbers.clone(),
        };
        kinds.map(of).into()
    };
    let mut progress = Progress::start(context.quiet || context.json);
    let made = match registry(context)? {
        Registry::Directory(directory) => put(&directory, &groups, &mut progress)?,
        Registry::Worker => upload(context, &groups, &mut progress)?,
    };
    drop(progress);
    let total: u32 = groups.iter().map(|group| group.numbers.len() as u32).sum();
    if context.json {
        return print_json(&json!({"functions": total, "made": made}));
    }
    if context.quiet {
        return Ok(());
    }
    let mut prefixes: Vec<String> = Vec::new();
    for group in &groups {
        let prefix = format!("{}N", group.prefix);
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    print(&format!(
        "{total} functions {}: {made} made, {} there already\n",
        prefixes.join(" and "),
        total - made
    ))
}

fn picked(
    file: &str,
    functions: u32,
    matches: &ArgMatches,
    context: &Context,
) -> Result<Vec<Group>, Failure> {
    let path = context.working_directory.join(file);
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::of_path(&path, &error, "name a list of packages"))?;
    let what = format!("--packages {file}");
    let refused = |why| {
        let remedy = "one a line: NAME, NAME==VERSION, or NAME: MODULE ...";
        Failure::failed(&*what, why, remedy)
    };
    let packages = experiment::parse(&text).map_err(refused)?;
    let picks = matches
        .get_one::<u32>("picks")
        .map_or(3, |picks| *picks as usize);
    if picks > packages.len() {
        let why = format!("{picks} of {} packages cannot be picked", packages.len());
        return Err(Failure::failed(what, why, "lower --picks"));
    }
    let seed = matches.get_one::<u64>("seed").map_or(1, |seed| *seed);
    let mut random = Random::new(seed);
    let group = |number| Group {
        code: functions::importing(&experiment::pick(&packages, picks, &mut random)),
        prefix: functions::TREE,
        numbers: number..number + 1,
    };
    Ok((0..functions).map(group).collect())
}

enum Registry {
    Directory(PathBuf),
    /// Only the worker itself can reach it.
    Worker,
}

/// Where the functions of the worker that is meant come from.
fn registry(context: &Context) -> Result<Registry, Failure> {
    let Some(home) = home(context) else {
        return Ok(Registry::Worker);
    };
    let config = configuration(&home)?;
    Ok(match config.registry.url {
        RegistryUrl::Files(directory) => Registry::Directory(directory),
        RegistryUrl::Web(_) | RegistryUrl::S3(_) => Registry::Worker,
    })
}

/// The files of the worker that is meant; none where only an address is known.
fn home(context: &Context) -> Option<Home> {
    let of = |directory: &Path| {
        let path = context.working_directory.join(directory);
        Home::directory(&path.components().collect::<PathBuf>())
    };
    match (&context.socket, &context.directory) {
        (Some(socket), _) => {
            let Ok(Address::Unix(path)) = Address::parse(socket) else {
                return None;
            };
            let path = context.working_directory.join(path);
            let installed = Home::installed();
            if path == installed.socket {
                return Some(installed);
            }
            let home = of(path.parent()?.parent()?);
            let is_its = home.socket == path && home.configuration.join("config.toml").is_file();
            is_its.then_some(home)
        }
        (None, Some(directory)) => Some(of(directory)),
        (None, None) => {
            let own = of(Path::new("default-ol"));
            let is_there = own.configuration.is_dir();
            Some(if is_there { own } else { Home::installed() })
        }
    }
}

/// As the running worker has it, else as its file says.
fn configuration(home: &Home) -> Result<Config, Failure> {
    let is_installed = home.socket == Home::installed().socket;
    if !home.configuration.is_dir() {
        let what = home.configuration.display().to_string();
        let remedy = "ol worker init makes one; -p and --socket name another";
        return Err(Failure::failed(what, "there is no worker", remedy));
    }
    let of = |file: Option<PathBuf>| Configuration {
        directory: (!is_installed).then(|| home.configuration.clone()),
        file,
        ..Configuration::default()
    };
    load(&of(Some(home.effective_file())), Machine::UNKNOWN)
        .or_else(|_| load(&of(None), Machine::UNKNOWN))
        .map(|loaded| loaded.config)
        .map_err(Failure::Configuration)
}

fn put(directory: &Path, groups: &[Group], progress: &mut Progress) -> Result<u32, Failure> {
    let failed = |error: io::Error| {
        let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
            "run it as root"
        } else {
            "make room, or make it writable"
        };
        Failure::of_path(directory, &error, remedy)
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let (mut made, mut before) = (0, 0);
    for group in groups {
        let names = group
            .numbers
            .clone()
            .map(|n| format!("{}{n}", group.prefix));
        let mut report = |seen| progress.show(|| format!("{} functions", before + seen));
        made += put_names(directory, group.code.as_bytes(), names, &mut report).map_err(failed)?;
        before += group.numbers.len() as u32;
        progress.show(|| format!("{before} functions"));
    }
    Ok(made)
}

fn upload(context: &Context, groups: &[Group], progress: &mut Progress) -> Result<u32, Failure> {
    let client = client::find(context)?;
    let mut made = 0;
    for group in groups {
        for number in group.numbers.clone() {
            let name = format!("{}{number}", group.prefix);
            let target = format!("/registry/{name}");
            let mut request = Request::new("PUT", &target).header("Accept", "application/json");
            request.body = Body::Bytes(group.code.as_bytes());
            let answer = client.ask(&format!("deploy {name}"), request)?;
            client.whole(answer)?;
            made += 1;
            progress.show(|| format!("{made} functions uploaded"));
        }
    }
    Ok(made)
}
