//! `ol worker up`: start the worker, in the foreground or behind.
//!
//! ```text
//! runs already? --down--> start --foreground--> this process becomes the worker
//!                           '-----detached----> wait: ready | died: its last words | too long
//! ```

use super::super::super::client::Request as HttpRequest;
use super::super::super::definition::{Context, many};
use super::super::super::failure::{Exit, Failure};
use super::super::super::machine;
use super::super::super::output::{self, Done, Progress, print, print_json};
use super::super::super::pid_file::{self, Owner};
use super::{Place, down, init, step};
use crate::base::Duration;
use crate::config::meaning::Config;
use crate::config::places::Places;
use crate::config::{Request, load};
use crate::sys::{clock, session};
use clap::ArgMatches;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How long a worker may take to become ready.
const READY: Duration = Duration::from_mins(1);
/// How long it then may take to go away again.
const AWAY: Duration = Duration::from_secs(10);
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// What is shown of a worker that died.
const LAST_BYTES: u64 = 4096;
const LAST_LINES: usize = 10;

pub fn run(matches: &ArgMatches, context: &Context, place: &Place) -> Done {
    let overrides = many(matches, "override");
    let image = matches.get_one::<String>("image").map(String::as_str);
    // Overrides are this start's, not the file's.
    let made = init::make(image, &[], context, place)?;
    if !made.is_empty() {
        step(
            context,
            &format!("{}: made {}", place.typed.display(), made.join(", ")),
        )?;
    }
    let request = Request {
        directory: Some(place.directory().clone()),
        overrides: overrides.clone(),
        working_directory: context.working_directory.clone(),
        ..Request::default()
    };
    // What is wrong is told before a running worker is stopped for it.
    let loaded = load(&request, machine::this()).map_err(Failure::Configuration)?;
    if matches!(place.owner()?, Owner::Lives(_)) {
        down::run(context, place)?;
    }
    let command = command(place, &overrides)?;
    if matches.get_flag("detach") {
        detached(command, context, place, &loaded.config)
    } else {
        foreground(command)
    }
}

/// `olworker serve --dir DIR -o ...`
fn command(place: &Place, overrides: &[String]) -> Result<Command, Failure> {
    let remedy = "build or install all of it";
    let places = Places::of_this_program()
        .map_err(|error| Failure::failed("/proc/self/exe", error.to_string(), remedy))?;
    let worker = places
        .worker()
        .map_err(|missing| Failure::failed("olworker", missing.to_string(), remedy))?;
    let mut command = Command::new(worker);
    command.arg("serve").arg("--dir").arg(place.directory());
    for text in overrides {
        command.arg("-o").arg(text);
    }
    Ok(command)
}

fn foreground(mut command: Command) -> Done {
    let error = command.exec();
    Err(Failure::failed(
        "olworker",
        error.to_string(),
        "is it built for this machine?",
    ))
}

fn detached(mut command: Command, context: &Context, place: &Place, config: &Config) -> Done {
    let log = place.home.output_file();
    let failed =
        |error: io::Error| Failure::of_path(&log, &error, "make room, or make it writable");
    let output = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log)
        .map_err(failed)?;
    let begin = output.metadata().map_err(failed)?.len();
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(output);
    let child = session::of_its_own(&mut command).spawn().map_err(|error| {
        Failure::failed(
            "olworker",
            error.to_string(),
            "is it built for this machine?",
        )
    })?;
    let pid = child.id();
    let status = wait(child, context, place, begin)?;
    let addresses = addresses(&status, config);
    if context.json {
        let log = log.display().to_string();
        return print_json(&json!({"pid": pid, "addresses": addresses, "log": log}));
    }
    if context.quiet {
        return Ok(());
    }
    let mut text = format!("worker {pid} is ready\n");
    for address in addresses {
        writeln!(text, "  {address}").expect("a string takes everything");
    }
    print(&format!("{text}  log: {}\n", log.display()))
}

/// Where it says it listens, else where it was told to.
fn addresses(status: &Value, config: &Config) -> Vec<String> {
    let said = status["listening"].as_str().unwrap_or_default().split(", ");
    let said: Vec<String> = said
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    if !said.is_empty() {
        return said;
    }
    let unix = config.http.unix.display().to_string();
    let tcp = config.http.tcp.map(|address| format!("http://{address}"));
    std::iter::once(unix).chain(tcp).collect()
}

/// Waits until the worker is ready, and answers its status; else tells how it failed.
fn wait(mut child: Child, context: &Context, place: &Place, begin: u64) -> Result<Value, Failure> {
    let pid = Pid::from_child(&child);
    let handle = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| Failure::failed("olworker", error.to_string(), "try again"))?;
    let deadline = clock::now() + READY;
    let mut progress = Progress::start(context.quiet);
    loop {
        match pid_file::ends_within(&handle, LOOK) {
            Ok(false) => {}
            Ok(true) | Err(_) => return Err(died(&mut child, place, begin)),
        }
        if let Some(status) = ready(place, child.id()) {
            return Ok(status);
        }
        let now = clock::now();
        progress.show(|| format!("worker {}: starting", child.id()));
        if now >= deadline {
            drop(progress);
            return Err(too_late(&mut child, &handle, place));
        }
    }
}

/// The status of exactly this worker, once it is ready.
fn ready(place: &Place, pid: u32) -> Option<Value> {
    if !place.home.pid_file().exists() || place.pid_by_socket() != Some(pid) {
        return None;
    }
    let client = place.client();
    let request = HttpRequest::new("GET", "/status").header("Accept", "application/json");
    let answer = client.ask("status", request).ok()?;
    let body = client.whole(answer).ok()?;
    Some(serde_json::from_slice(&body).unwrap_or_default())
}

fn died(child: &mut Child, place: &Place, begin: u64) -> Failure {
    let status = child.wait();
    let log = place.home.output_file();
    let said = last_lines(&log, begin);
    output::tell(&said);
    // Whoever says nothing may have had nowhere to say it.
    if said.is_empty()
        && let Err(error) = takes_more(&log)
    {
        return Failure::of_path(&log, &error, "make room, then start it again");
    }
    let code = status
        .as_ref()
        .ok()
        .and_then(std::process::ExitStatus::code);
    let why = match status {
        Ok(status) => format!("it ended while starting: {status}"),
        Err(error) => format!("it ended while starting: {error}"),
    };
    let exit = match code {
        Some(78) => Exit::BadConfiguration,
        _ => Exit::Failed,
    };
    Failure::new(
        exit,
        "worker up",
        why,
        format!("{} holds all it said", log.display()),
    )
}

fn too_late(child: &mut Child, handle: &OwnedFd, place: &Place) -> Failure {
    let _ = rustix::process::pidfd_send_signal(handle, rustix::process::Signal::TERM);
    if !pid_file::ends_within(handle, AWAY).unwrap_or(false) {
        let _ = child.kill();
    }
    let _ = child.wait();
    let why = format!(
        "it was not ready after {} s, and was stopped",
        READY.as_secs()
    );
    let remedy = format!("{} holds all it said", place.home.output_file().display());
    Failure::failed("worker up", why, remedy)
}

/// Whether the log has room for a line.
fn takes_more(log: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(log)?;
    file.write_all(b"\n")
}

/// The last lines that were written since `begin`.
fn last_lines(log: &Path, begin: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(
            begin.max(length.saturating_sub(LAST_BYTES)),
        ))?;
        let mut bytes = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(LAST_LINES);
    let shown = lines[last..]
        .iter()
        .map(|line| super::super::super::failure::one_line(line));
    shown.map(|line| line + "\n").collect()
}
