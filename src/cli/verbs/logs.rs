//! `ol logs`: what a function printed.

use super::super::client::{self, Error, Request};
use super::super::definition::{Context, Verb, flag, function, required};
use super::super::output::{Done, print_stream};
use super::function_name;
use clap::{Arg, ArgMatches, Command, value_parser};
use std::io::{ErrorKind, Read as _};

pub const VERB: Verb = Verb { command, run };

fn command() -> Command {
    Command::new("logs")
        .about("Show what a function printed")
        .long_about(
            "Show what a function printed, with time, stream, instance and call id of each line; \
             with -f also what it prints from now on.",
        )
        .arg(function())
        .arg(flag("follow", "Go on with what it prints from now on").short('f'))
        .arg(
            Arg::new("lines")
                .short('n')
                .long("lines")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .default_value("100")
                .help("How many of the last lines"),
        )
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let name = required(matches, "name");
    let what = format!("logs {name}");
    function_name(&what, name)?;
    let follow = matches.get_flag("follow");
    let lines = matches.get_one::<u32>("lines").expect("it has a default");
    let mut path = format!("/logs/{name}?n={lines}");
    if follow {
        path.push_str("&follow=1");
    }
    let mut client = client::find(context)?;
    if follow {
        client.silence = None;
    }
    let mut answer = client.ask(&what, Request::new("GET", &path))?;
    let mut piece = vec![0; 64 * 1024];
    let mut lines = Lines {
        as_json: context.json,
        partial: Vec::new(),
    };
    loop {
        match answer.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                if !print_stream(&lines.take(&piece[..count]))? {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Broken(error).failure(&client.address)),
        }
    }
}

/// Lines as they shall be printed: as they came, or an object each.
struct Lines {
    as_json: bool,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
}

impl Lines {
    fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        if !self.as_json {
            return piece.to_vec();
        }
        self.partial.extend_from_slice(piece);
        let end = self.partial.iter().rposition(|byte| *byte == b'\n');
        let rest = self.partial.split_off(end.map_or(0, |end| end + 1));
        let whole = core::mem::replace(&mut self.partial, rest);
        let text = String::from_utf8_lossy(&whole);
        let objects = text.lines().map(|line| object(line).to_string() + "\n");
        objects.collect::<String>().into_bytes()
    }
}

/// `TIME STREAM INSTANCE CALL what was printed`.
fn object(line: &str) -> serde_json::Value {
    let mut parts = line.splitn(5, ' ');
    let mut next = || parts.next().unwrap_or_default();
    serde_json::json!({
        "time": next(),
        "stream": next(),
        "instance": next(),
        "call_id": next(),
        "text": next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_objects_when_programs_read_them() {
        let mut lines = Lines {
            as_json: true,
            partial: Vec::new(),
        };
        assert_eq!(
            lines.take(b"2026-11-28T12:00:00.000Z stdout 1.0 c1 a \"b"),
            b""
        );
        let text = lines.take(b"\" c\n2026");
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"time\":\"2026-11-28T12:00:00.000Z\",\"stream\":\"stdout\",\"instance\":\"1.0\",\
             \"call_id\":\"c1\",\"text\":\"a \\\"b\\\" c\"}\n"
        );
    }
}
