//! `ol sim generate`: writes a made-up trace, as the other simulators read it.
//!
//! Owns the verb. The trace is written while it is made up, so its length costs no memory.

use crate::cli::definition::{Context, Verb};
use crate::cli::failure::Failure;
use crate::cli::output::Done;
use crate::sim::trace::Function;
use crate::sim::trace::generate::{self, Kind, Plan};
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command, value_parser};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

const HOUR_MS: f64 = 3_600_000.0;

fn command() -> Command {
    let number = |name: &'static str, default, help| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(f64))
            .help(help)
    };
    Command::new("generate")
        .about("Make up a trace")
        .long_about(
            "Make up a trace: functions with plausible costs, each called by a process of its own. \
             The seed determines it. The kinds: `poisson`, calls at random; `periodic`, timers; \
             `bursty`, bursts of calls that overlap; `zipf`, at random with popularity 1/k; \
             `mixed`, functions of the first three kinds.",
        )
        .arg(
            Arg::new("kind")
                .long("kind")
                .value_name("NAME")
                .required(true)
                .value_parser(Kind::ALL.map(Kind::name))
                .help("How the calls come"),
        )
        .arg(number("functions", "100", "How many functions").value_parser(value_parser!(u64)))
        .arg(number(
            "rate",
            "10",
            "Calls a second, all functions together",
        ))
        .arg(number("hours", "24", "Length"))
        .arg(number("seed", "0", "Seed").value_parser(value_parser!(u64)))
        .arg(
            Arg::new("output")
                .short('o')
                .long("output")
                .value_name("FILE")
                .value_hint(ValueHint::FilePath)
                .value_parser(value_parser!(PathBuf))
                .help("Where to; compressed if it ends with .gz [stdout]"),
        )
}

fn run(matches: &ArgMatches, _context: &Context) -> Done {
    let whole = |name: &str| {
        matches
            .get_one::<u64>(name)
            .copied()
            .expect("it has a default")
    };
    let real = |name: &str| {
        matches
            .get_one::<f64>(name)
            .copied()
            .expect("it has a default")
    };
    let kind: &String = matches
        .get_one("kind")
        .expect("clap refuses a line without it");
    let plan = Plan {
        kind: Kind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .expect("clap knows them"),
        functions: usize::try_from(whole("functions")).unwrap_or(usize::MAX),
        rate: real("rate"),
        length_ms: real("hours") * HOUR_MS,
        seed: whole("seed"),
    };
    if let Some(why) = plan.refusal() {
        return Err(Failure::usage(
            "sim generate",
            why,
            "ol sim generate --help",
        ));
    }
    let Some(path) = matches.get_one::<PathBuf>("output") else {
        return finished(
            write(&plan, &mut BufWriter::new(io::stdout().lock())),
            "stdout",
        );
    };
    finished(write_file(&plan, path), &path.display().to_string())
}

/// A reader who had enough is no failure.
fn finished(written: io::Result<()>, what: &str) -> Done {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(
            what,
            error.to_string(),
            "name a file that can be written",
        )),
        _ => Ok(()),
    }
}

fn write_file(plan: &Plan, path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut encoder = BufWriter::new(GzEncoder::new(file, Compression::default()));
        write(plan, &mut encoder)?;
        encoder
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .finish()?;
        return Ok(());
    }
    write(plan, &mut BufWriter::new(file))
}

fn write<W: Write>(plan: &Plan, out: &mut W) -> io::Result<()> {
    let (header, arrivals) = generate::generate(plan);
    write!(out, "{{\"functions\": [")?;
    for (index, function) in header.functions.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let Function {
            name,
            mem_mb,
            cold_ms,
            warm_ms,
            ..
        } = function;
        let name = serde_json::Value::from(name.as_str());
        write!(out, "{comma}\n[{name}, {mem_mb}, {cold_ms}, {warm_ms}]")?;
    }
    write!(out, "],\n\"events\": [")?;
    for (index, arrival) in arrivals.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}\n[{}, {}]", arrival.t_ms, arrival.function)?;
    }
    writeln!(out, "]}}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::trace::{self, Reader};

    #[test]
    fn what_is_written_is_read_back() {
        let plan = Plan {
            kind: Kind::Mixed,
            functions: 7,
            rate: 3.0,
            length_ms: HOUR_MS,
            seed: 5,
        };
        for name in ["plain.json", "packed.json.gz"] {
            let path = std::env::temp_dir().join(format!("ol-sim-{}-{name}", std::process::id()));
            write_file(&plan, &path).unwrap();
            let mut read = trace::open(&path).unwrap();
            let mut made = Reader::generated(&plan);
            assert_eq!(read.header(), made.header());
            assert_eq!(read.read_to_end(), made.read_to_end());
            std::fs::remove_file(&path).unwrap();
        }
    }
}
