//! `ol sim curve`: the hit-ratio curve of a trace, and the memory for a wanted rate of cold starts.
//!
//! Owns the verb. One pass over a trace answers for every size of memory; sizes that are not named
//! are chosen so that the curve is seen.

use super::{bad_trace, far, numbers, seed_argument, trace_argument};
use crate::cli::definition::{Context, Verb};
use crate::cli::failure::Failure;
use crate::cli::output::{Done, Progress, Table, print, print_json};
use crate::cli::plot::{Axis, Figure, Panel, Scale, Series};
use crate::sim::keepalive::curve::Curve;
use crate::sim::sweep;
use crate::sim::trace;
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

pub const VERB: Verb = Verb { command, run };

/// Rows of a table whose sizes were not named.
const ROWS: u32 = 20;
/// Points of a line that is drawn.
const POINTS: u32 = 200;

fn command() -> Command {
    let file = |name, value, help| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_hint(ValueHint::FilePath)
            .value_parser(value_parser!(PathBuf))
            .help(help)
    };
    Command::new("curve")
        .about("Show how many calls find a container, for every size of memory")
        .long_about(
            "Show the hit-ratio curve of a trace, from the reuse distances of its calls: the sizes \
             of all containers that were used since this one was. One pass answers for every size \
             of memory, for a server that keeps what was used last.\n\n\
             --cold asks the other way round: how much memory for at most so many cold starts? \
             --sample looks at a part of the functions only, for traces too long to wait for.",
        )
        .arg(trace_argument().required(true))
        .arg(
            Arg::new("memory")
                .long("memory")
                .value_name("MB,...|LO..HI/STEP")
                .help("Memory sizes in megabytes [as many as show the curve]"),
        )
        .arg(
            Arg::new("cold")
                .long("cold")
                .value_name("PERCENT,...")
                .help("Print the memory for at most so many cold starts, instead of the curve"),
        )
        .arg(
            Arg::new("sample")
                .long("sample")
                .value_name("SHARE")
                .help("Look at this share of the functions, above 0 [1: at all, exactly]"),
        )
        .arg(seed_argument("Seed of the sample [0]"))
        .arg(file("csv", "FILE", "Write the curve as CSV too"))
        .arg(file(
            "plot",
            "FILE.svg",
            "Draw cold starts against memory, a line a trace",
        ))
}

/// What was typed, understood.
struct Wanted {
    memory_mb: Vec<f64>,
    /// Shares of calls.
    cold: Vec<f64>,
    sample: f64,
    seed: u64,
}

fn understand(matches: &ArgMatches) -> Result<Wanted, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let memory_mb = text("memory").map_or(Ok(Vec::new()), numbers::sizes);
    let cold = text("cold").map_or(Ok(Vec::new()), percents);
    let sample = text("sample").map_or(Ok(1.0), share);
    Ok(Wanted {
        memory_mb: memory_mb.map_err(|why| Failure::usage("--memory", why, numbers::SIZES))?,
        cold: cold.map_err(|why| Failure::usage("--cold", why, "as 1,5,10"))?,
        sample: sample.map_err(|why| Failure::usage("--sample", why, "as 0.1"))?,
        seed: matches.get_one("seed").copied().unwrap_or(0),
    })
}

fn percents(list: &str) -> Result<Vec<f64>, String> {
    let percent = |text: &str| match text.trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err(format!("`{text}` is no number between 0 and 100")),
    };
    list.split(',').map(percent).collect()
}

fn share(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("`{text}` is no number above 0 and up to 1")),
    }
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let wanted = understand(matches)?;
    let mut files = Files::open(matches)?;
    let paths = matches.get_many::<PathBuf>("trace").into_iter().flatten();
    for path in paths {
        let curve = play(path, &wanted, context)?;
        files.take(path, &curve, &wanted)?;
        if wanted.cold.is_empty() {
            tell_curve(path, &curve, &wanted, context)?;
        } else {
            tell_memory(path, &curve, &wanted, context)?;
        }
    }
    files.finish()
}

fn play(path: &Path, wanted: &Wanted, context: &Context) -> Result<Curve, Failure> {
    let mut reader = trace::open(path).map_err(|error| bad_trace(&error))?;
    let functions = &reader.header().functions;
    let mut curves = vec![Curve::new(functions, wanted.sample, wanted.seed)];
    let mut progress = Progress::start(context.quiet);
    let played = sweep::run(&mut reader, &mut curves, 1, |reader, _| {
        progress.show(|| far(reader));
    });
    drop(progress);
    played.map_err(|error| bad_trace(&error))?;
    Ok(curves.remove(0))
}

/// The sizes that were named, or so many up to where nothing changes any more.
fn sizes(curve: &Curve, wanted: &Wanted, count: u32) -> Vec<f64> {
    if !wanted.memory_mb.is_empty() {
        return wanted.memory_mb.clone();
    }
    let last = curve.memory_max();
    let size = |step| (last * f64::from(step) / f64::from(count)).ceil();
    let mut sizes: Vec<f64> = (1..=count).map(size).filter(|size| *size > 0.0).collect();
    sizes.dedup();
    sizes
}

fn tell_curve(path: &Path, curve: &Curve, wanted: &Wanted, context: &Context) -> Done {
    let rows = sizes(curve, wanted, ROWS);
    if context.json {
        for mem_mb in rows {
            let hit = curve.hit_share(mem_mb);
            print_json(&json!({
                "trace": path.display().to_string(),
                "mem_mb": numbers::json(mem_mb),
                "invocations": curve.calls(),
                "hit_percent": 100.0 * hit,
                "cold_percent": 100.0 * (1.0 - hit),
                "sample": wanted.sample,
            }))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["MEM_MB", "HIT%", "COLD%"]);
    for mem_mb in rows {
        let hit = 100.0 * curve.hit_share(mem_mb);
        table.row([
            numbers::plain(mem_mb),
            format!("{hit:.3}"),
            format!("{:.3}", 100.0 - hit),
        ]);
    }
    let (name, calls) = (path.display(), curve.calls());
    let first = 100.0 * curve.first_share();
    print(&format!(
        "{name}: {calls} calls, {first:.3} % of them the first of a container\n{table}"
    ))
}

fn tell_memory(path: &Path, curve: &Curve, wanted: &Wanted, context: &Context) -> Done {
    let first = 100.0 * curve.first_share();
    let mut table = Table::new(&["COLD%", "MEM_MB"]);
    for &cold in &wanted.cold {
        let mem_mb = curve.memory_for(cold).map(f64::ceil);
        if context.json {
            print_json(&json!({
                "trace": path.display().to_string(),
                "cold_percent": numbers::json(100.0 * cold),
                "mem_mb": mem_mb.map(numbers::json),
                "first_percent": first,
                "sample": wanted.sample,
            }))?;
        }
        let size = mem_mb.map_or_else(
            || format!("none: {first:.3} % of the calls are the first of a container"),
            numbers::plain,
        );
        table.row([numbers::plain(100.0 * cold), size]);
    }
    if context.json {
        return Ok(());
    }
    print(&format!("{}\n{table}", path.display()))
}

/// What is written beside stdout.
struct Files {
    csv: Option<(PathBuf, BufWriter<File>)>,
    plot: Option<(PathBuf, File)>,
    lines: Vec<Series>,
}

impl Files {
    /// Opened before anything is simulated, so that a mistyped path costs no time.
    fn open(matches: &ArgMatches) -> Result<Self, Failure> {
        let created = |name: &str| {
            let path: Option<&PathBuf> = matches.get_one(name);
            path.map(|path| match File::create(path) {
                Ok(file) => Ok((path.clone(), file)),
                Err(error) => Err(cannot(path, &error)),
            })
            .transpose()
        };
        let mut csv = created("csv")?.map(|(path, file)| (path, BufWriter::new(file)));
        if let Some((path, file)) = &mut csv {
            let written = writeln!(file, "trace,mem_mb,hit_percent,cold_percent");
            written.map_err(|error| cannot(path, &error))?;
        }
        Ok(Self {
            csv,
            plot: created("plot")?,
            lines: Vec::new(),
        })
    }

    fn take(&mut self, trace: &Path, curve: &Curve, wanted: &Wanted) -> Done {
        if let Some((path, file)) = &mut self.csv {
            let name = numbers::quoted(&trace.display().to_string());
            for mem_mb in sizes(curve, wanted, POINTS) {
                let (size, hit) = (numbers::plain(mem_mb), 100.0 * curve.hit_share(mem_mb));
                let written = writeln!(file, "{name},{size},{hit},{}", 100.0 - hit);
                written.map_err(|error| cannot(path, &error))?;
            }
        }
        if self.plot.is_some() {
            let cold = |size: f64| (size, 100.0 * (1.0 - curve.hit_share(size)));
            let points = sizes(curve, wanted, POINTS).into_iter().map(cold);
            let name = trace.file_name().unwrap_or(trace.as_os_str());
            self.lines.push(Series {
                name: name.to_string_lossy().into_owned(),
                points: points.collect(),
            });
        }
        Ok(())
    }

    fn finish(self) -> Done {
        if let Some((path, mut file)) = self.csv {
            file.flush().map_err(|error| cannot(&path, &error))?;
        }
        let Some((path, mut file)) = self.plot else {
            return Ok(());
        };
        let figure = Figure {
            title: "Cold starts by size of memory".to_owned(),
            panels: vec![Panel {
                title: "What was used last is kept".to_owned(),
                x: Axis::new("Memory (MB)", Scale::Linear),
                y: Axis::new("Cold starts (% of calls)", Scale::FromZero),
                series: self.lines,
            }],
        };
        let written = file.write_all(figure.svg().as_bytes());
        written.map_err(|error| cannot(&path, &error))
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::of_path(path, error, "name a file that can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<Wanted, Failure> {
        let words = ["curve", "--trace", "a"].into_iter();
        let words = words.chain(line.split_whitespace());
        understand(&command().try_get_matches_from(words).unwrap())
    }

    #[test]
    fn percents_and_shares_are_read() {
        let wanted = typed("--cold 0,2.5,100 --sample 0.25").unwrap();
        assert_eq!(wanted.cold, [0.0, 0.025, 1.0]);
        assert!((wanted.sample - 0.25).abs() < 1e-12);
        for bad in [
            "--cold -1",
            "--cold 101",
            "--cold x",
            "--cold NaN",
            "--sample 0",
            "--sample 2",
            "--sample NaN",
            "--memory 1..2",
        ] {
            assert!(typed(&bad.replace(' ', "=")).is_err(), "{bad}");
        }
    }
}
