//! `ol deploy`: a directory, a file or an archive becomes a function.

use super::super::client::{self, Body, Request};
use super::super::definition::{Context, Verb, required};
use super::super::failure::Failure;
use super::super::output::{self, Done, Progress, print, print_json};
use super::super::pack;
use super::{cell, function_name};
use crate::base::Duration;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

/// The longest silence of a worker that checks an upload and installs what it needs.
const SILENCE: Duration = Duration::from_mins(15);
/// Endings of what is a function by itself.
const ENDINGS: [&str; 4] = [".tar.gz", ".tgz", ".zip", ".py"];

fn command() -> Command {
    Command::new("deploy")
        .about("Make a function of a directory, a .py, a .tar.gz or a .zip")
        .long_about(
            "Make a function of a directory, a .py, a .tar.gz (.tgz) or a .zip, or give an \
             existing one new code. It can be called when the command returns; running calls \
             finish on the old code. Of a directory .git and __pycache__ are left out. Packages \
             that it asks for begin to be installed; at a terminal, or with --wait, the command \
             waits for them.",
        )
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .help("What to deploy"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .short('n')
                .value_name("NAME")
                .help("Its name [the last part of PATH, without its ending]"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .action(ArgAction::SetTrue)
                .help("Wait until its packages are installed, and fail when they cannot be"),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let typed = required(matches, "path");
    let path = context.working_directory.join(typed);
    let what = format!("deploy {typed}");
    let name = match matches.get_one::<String>("name") {
        Some(name) => name.clone(),
        None => name_of(&path).ok_or_else(|| {
            Failure::usage(&*what, "its path gives no name", "name it: --name NAME")
        })?,
    };
    if function_name(&what, &name).is_err() {
        let why = format!("{name:?} cannot be a function's name");
        let rule = crate::base::FunctionName::RULE;
        return Err(Failure::usage(
            what,
            why,
            format!("name it with --name: {rule}"),
        ));
    }
    let mut client = client::find(context)?;
    client.silence = Some(SILENCE);
    let (upload, length) = open(&path, &what, typed)?;
    let mut body = Upload {
        inner: upload,
        sent: 0,
        length,
        progress: Progress::start(context.quiet),
    };
    let target = format!("/registry/{name}");
    let mut request = Request::new("PUT", &target)
        .header("Accept", "application/json")
        .header("Content-Type", "application/octet-stream");
    request.body = Body::Sized(&mut body, length);
    let answer = client.ask(&what, request)?;
    drop(body);
    let answer: Value = serde_json::from_slice(&client.whole(answer)?).unwrap_or_default();
    if matches.get_flag("wait") || io::stderr().is_terminal() && !context.quiet {
        let target = format!("/packages/functions/{name}");
        super::pkg::wait(&client, &what, &target, context)?;
    }
    if context.json {
        return print_json(&answer);
    }
    if context.quiet {
        return Ok(());
    }
    match cell(&answer["version"]) {
        version if version.is_empty() => print(&format!("deployed {name}\n")),
        version => print(&format!("deployed {name}, version {version}\n")),
    }
}

/// The last part of the path, also of `.` and `..`, without the ending that says what it is.
fn name_of(path: &Path) -> Option<String> {
    let whole: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let last = whole.file_name()?.to_str()?;
    let stem = ENDINGS.iter().find_map(|ending| last.strip_suffix(ending));
    Some(stem.unwrap_or(last).to_owned()).filter(|name| !name.is_empty())
}

/// What is uploaded, and its length.
fn open(path: &Path, what: &str, typed: &str) -> Result<(File, u64), Failure> {
    let failed = |error: io::Error| {
        Failure::failed(
            what,
            error.to_string(),
            "name a directory or file that can be read",
        )
    };
    let metadata = path.metadata().map_err(failed)?;
    if metadata.is_dir() {
        let packed = pack::directory(path);
        return packed.map_err(|refused| Failure::failed(what, refused.why, refused.remedy));
    }
    if !metadata.is_file() || !ENDINGS.iter().any(|ending| typed.ends_with(ending)) {
        let why = "it is nothing a function can be made of";
        return Err(Failure::failed(
            what,
            why,
            "give a directory, .py, .tar.gz, .tgz or .zip",
        ));
    }
    if metadata.len() == 0 {
        return Err(Failure::failed(
            what,
            "it is empty",
            "write a function into it",
        ));
    }
    Ok((File::open(path).map_err(failed)?, metadata.len()))
}

/// A file on its way, with progress.
struct Upload {
    inner: File,
    sent: u64,
    length: u64,
    progress: Progress,
}

impl Read for Upload {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.sent += count as u64;
        let (sent, length) = (self.sent, self.length);
        self.progress.show(|| {
            format!(
                "uploading {} of {}",
                output::bytes(sent),
                output::bytes(length)
            )
        });
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_paths() {
        let of = |path: &str| name_of(Path::new(path));
        assert_eq!(of("/x/hello.py").as_deref(), Some("hello"));
        assert_eq!(of("/x/hello.v2.tar.gz").as_deref(), Some("hello.v2"));
        assert_eq!(of("/x/hello/").as_deref(), Some("hello"));
        assert_eq!(of("/x/.py"), None);
        assert_eq!(of("/"), None);
    }
}
