//! `ol invoke`: one call, its body on stdout.

use super::super::client::{self, Address, Answer, Body, Error, Request};
use super::super::definition::{Context, Verb, flag, many, required};
use super::super::failure::Failure;
use super::super::output::{Done, print, print_stream};
use super::function_name;
use crate::base::Duration;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind, Read};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("invoke")
        .about("Call a function")
        .long_about(
            "Call a function. The body of its answer goes to stdout as it comes; a status of 400 \
             and above is told on stderr, and the exit code is then 1. Without --data the method \
             is GET, with it POST.",
        )
        .arg(
            Arg::new("target")
                .value_name("NAME[/PATH]")
                .required(true)
                .help("The function, and the path and query behind it"),
        )
        .arg(
            Arg::new("data")
                .short('d')
                .long("data")
                .value_name("JSON|@FILE|-")
                .help("The body: as it stands, of a file, or of stdin"),
        )
        .arg(
            Arg::new("method")
                .short('X')
                .long("method")
                .value_name("METHOD")
                .help("The method"),
        )
        .arg(
            Arg::new("header")
                .short('H')
                .long("header")
                .value_name("NAME:VALUE")
                .action(ArgAction::Append)
                .help("A header field; may be given many times"),
        )
        .arg(flag("include", "Print status and header fields before the body").short('i'))
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=86_400))
                .help("Give up after this long a silence [never]"),
        )
}

/// Where the body of the call comes from.
enum Source {
    None,
    Text(String),
    File(File, u64),
    Stdin,
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let typed = required(matches, "target");
    let (name, path) = split(typed);
    let what = format!("invoke {name}");
    function_name(&what, name)?;
    let mut source = source(matches, &what)?;
    let given = !matches!(source, Source::None);
    let method = match matches.get_one::<String>("method") {
        Some(method) => checked_method(&what, method)?,
        None if given => "POST".to_owned(),
        None => "GET".to_owned(),
    };
    let target = format!("/run/{name}{}", encoded(path));
    let mut stdin = io::stdin().lock();
    let mut request = Request::new(&method, &target);
    request.headers = headers(matches, &what, given)?;
    request.body = match &mut source {
        Source::None => Body::Empty,
        Source::Text(text) => Body::Bytes(text.as_bytes()),
        Source::File(file, length) => Body::Sized(file, *length),
        Source::Stdin => Body::Stream(&mut stdin),
    };
    let mut client = client::find(context)?;
    client.silence = matches
        .get_one::<u64>("timeout")
        .map(|seconds| Duration::from_secs(*seconds));
    let answer = client
        .send(request)
        .map_err(|error| error.failure(&client.address))?;
    let (status, reason) = relay(answer, matches.get_flag("include"), &client.address)?;
    if status < 400 {
        return Ok(());
    }
    let (code, why) = reason;
    Err(Failure::failed(what, why, client::remedy(&code, status)))
}

/// `NAME[/path][?query]`.
fn split(typed: &str) -> (&str, &str) {
    typed.split_at(typed.find(['/', '?']).unwrap_or(typed.len()))
}

/// Blanks, control characters and everything beyond ASCII percent-encoded; the rest is as typed.
fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && byte != b'#' {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes everything");
        }
    }
    out
}

fn checked_method(what: &str, method: &str) -> Result<String, Failure> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if method.is_empty() || !method.bytes().all(token) {
        let why = format!("{method:?} is no method");
        return Err(Failure::usage(what, why, "give GET, POST, PUT, ..."));
    }
    Ok(method.to_owned())
}

fn source(matches: &ArgMatches, what: &str) -> Result<Source, Failure> {
    let Some(data) = matches.get_one::<String>("data") else {
        return Ok(Source::None);
    };
    if data == "-" {
        return Ok(Source::Stdin);
    }
    let Some(path) = data.strip_prefix('@') else {
        return Ok(Source::Text(data.clone()));
    };
    let failed = |error: io::Error| {
        let why = format!("--data @{path}: {error}");
        Failure::failed(what, why, "name a file that can be read")
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(ErrorKind::IsADirectory.into()));
    }
    Ok(Source::File(file, metadata.len()))
}

fn headers(
    matches: &ArgMatches,
    what: &str,
    with_body: bool,
) -> Result<Vec<(String, String)>, Failure> {
    let mut headers = Vec::new();
    for field in many(matches, "header") {
        let Some((name, value)) = field.split_once(':') else {
            let why = format!("{field:?} is no header field");
            return Err(Failure::usage(what, why, "write -H 'Name: value'"));
        };
        let (name, value) = (name.trim(), value.trim());
        checked_method(what, name).map_err(|_| {
            let why = format!("{name:?} is no name of a header field");
            Failure::usage(what, why, "write -H 'Name: value'")
        })?;
        if value.contains(|c: char| c.is_control() && c != '\t') {
            let why = format!("the value of {name} holds a control character");
            return Err(Failure::usage(what, why, "leave it out"));
        }
        if ["content-length", "transfer-encoding", "connection"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            let why = format!("{name} belongs to the connection");
            return Err(Failure::usage(what, why, "leave it out"));
        }
        headers.push((name.to_owned(), value.to_owned()));
    }
    let typed = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    if with_body && !typed {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    Ok(headers)
}

/// Bytes of an error's body that are looked at for its reason.
const REASON_BYTES_MAX: usize = 64 * 1024;

/// The code of a failed call, and why it failed.
type Reason = (String, String);

/// Hands the body on as it comes; answers the status, and the reason of a failed call.
fn relay(mut answer: Answer, include: bool, address: &Address) -> Result<(u16, Reason), Failure> {
    if include {
        let mut head = format!("HTTP/1.1 {}\n", answer.status);
        for (name, value) in &answer.headers {
            writeln!(head, "{name}: {value}").expect("a string takes everything");
        }
        print(&format!("{head}\n"))?;
    }
    let mut piece = vec![0; 64 * 1024];
    let (mut start, mut last) = (Vec::new(), b'\n');
    loop {
        match answer.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => {
                let read = &piece[..count];
                if answer.status >= 400 && start.len() < REASON_BYTES_MAX {
                    start.extend_from_slice(read);
                }
                last = read[count - 1];
                if !print_stream(read)? {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Broken(error).failure(address)),
        }
    }
    if last != b'\n' && io::IsTerminal::is_terminal(&io::stdout()) {
        print("\n")?;
    }
    Ok((answer.status, reason(&answer, &start)))
}

/// From the worker's own errors their code and detail, from others their status.
fn reason(answer: &Answer, body: &[u8]) -> Reason {
    let status = answer.status;
    let is_problem = answer
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/problem+json"));
    let problem: Value = if is_problem {
        serde_json::from_slice(body).unwrap_or_default()
    } else {
        Value::Null
    };
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let code = text("type")
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    let why = match (code.as_str(), text("detail")) {
        ("", _) => format!("it answered {status}"),
        (code, "") => format!("{status} {code}"),
        (code, detail) => format!("{status} {code}: {detail}"),
    };
    (code, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_sent_as_typed_but_for_what_no_request_line_holds() {
        assert_eq!(split("f/a?b=c"), ("f", "/a?b=c"));
        assert_eq!(split("f?x"), ("f", "?x"));
        assert_eq!(split("f"), ("f", ""));
        assert_eq!(
            encoded("/a b/é%20?q=\r\n#x"),
            "/a%20b/%C3%A9%20?q=%0D%0A%23x"
        );
    }
}
