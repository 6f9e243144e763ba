//! What a measurement showed: lines for people, then one JSON object.

use super::super::super::client::{Client, Request};
use super::super::super::definition::Context;
use super::super::super::failure::{Failure, one_line};
use super::super::super::output::{self, Done, print};
use crate::base::Histogram;
use crate::bench::{Names, Run, Tally};
use clap::ArgMatches;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

/// A client that uses more of a processor than this may have been what was measured.
const CLIENT_BUSY: f64 = 0.9;
/// Letters of a refusal that are shown.
const SHOWN_MAX: usize = 300;

/// Where the JSON goes besides stdout.
#[derive(Debug)]
pub struct Output(Option<(PathBuf, File)>);

impl Output {
    /// Opened before anything is measured: a minute's work should not end at a full disk's door.
    pub fn open(matches: &ArgMatches, context: &Context) -> Result<Self, Failure> {
        let Some(file) = matches.get_one::<String>("output") else {
            return Ok(Self(None));
        };
        let path = context.working_directory.join(file);
        let opened = File::create(&path);
        let opened =
            opened.map_err(|error| Failure::of_path(&path, &error, "name another file"))?;
        Ok(Self(Some((path, opened))))
    }

    fn write(self, text: &str) -> Done {
        let Some((path, mut file)) = self.0 else {
            return Ok(());
        };
        file.write_all(text.as_bytes())
            .map_err(|error| Failure::of_path(&path, &error, "make room, or name another file"))
    }
}

/// Prints the report; a failure when too many calls failed.
pub fn tell(name: &str, run: &Run, client: &Client, output: Output, context: &Context) -> Done {
    let (share, tally) = (run.processor_share(), run.tally());
    let memory = memory(client);
    let line = format!("{}\n", json(name, run, share, memory));
    let people = if context.quiet || context.json {
        String::new()
    } else {
        lines(name, run, share, memory)
    };
    print(&(people + &line))?;
    output.write(&line)?;
    if share > CLIENT_BUSY && !context.quiet {
        output::tell("ol: the client used a whole CPU: the worker may be faster than this says\n");
    }
    if !tally.is_bad() {
        return Ok(());
    }
    let (errors, all) = (tally.errors(), tally.errors() + tally.successes());
    let why = format!(
        "{errors} of {all} calls failed: {}",
        first_refusal(tally, run.names())
    );
    let remedy = "ol logs NAME and the worker's log tell more";
    Err(Failure::failed(name, why, remedy))
}

fn milliseconds(nanos: u64) -> f64 {
    // Whole microseconds.
    (nanos as f64 / 1e3).round() / 1e3
}

fn rounded(number: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (number * factor).round() / factor
}

fn percentiles(latency: &Histogram) -> [(&'static str, u64); 4] {
    [
        ("p50", latency.quantile(50, 100)),
        ("p90", latency.quantile(90, 100)),
        ("p99", latency.quantile(99, 100)),
        ("max", latency.max()),
    ]
}

fn json(name: &str, run: &Run, share: f64, memory: Option<f64>) -> Value {
    let (tally, seconds) = (run.tally(), run.took().as_secs_f64());
    let latency: Map<String, Value> = percentiles(&tally.latency)
        .into_iter()
        .map(|(name, nanos)| {
            // Of no calls there is none.
            let known = (tally.successes() > 0).then(|| milliseconds(nanos));
            (name.to_owned(), json!(known))
        })
        .collect();
    let failures: Map<String, Value> = tally
        .failures
        .iter()
        .map(|(why, count)| (why.to_string(), json!(count)))
        .collect();
    let rate = tally.successes() as f64 / seconds.max(1e-9);
    json!({
        "benchmark": name,
        "seconds": rounded(seconds, 3),
        "successes": tally.successes(),
        "errors": tally.errors(),
        "ops/s": rounded(rate, 1),
        "latency_ms": latency,
        "starts": { "warm": tally.warm, "zygote": tally.zygote, "fresh": tally.fresh },
        "mem_mb": memory.map(|mb| rounded(mb, 1)),
        "clients": run.clients(),
        "failures": failures,
        "client_cpu": rounded(share, 3),
        "client_io": run.back_end().back_end.to_string(),
    })
}

fn lines(name: &str, run: &Run, share: f64, memory: Option<f64>) -> String {
    let (tally, seconds) = (run.tally(), run.took().as_secs_f64());
    let rate = tally.successes() as f64 / seconds.max(1e-9);
    let mut text = format!("{name}: {} clients, {seconds:.1} s\n", run.clients());
    let mut line = |what: &str, says: String| {
        writeln!(text, "  {what:8} {says}").expect("a string takes everything");
    };
    let (good, bad) = (tally.successes(), tally.errors());
    line(
        "calls",
        format!("{rate:.1}/s: {good} answered, {bad} failed"),
    );
    for (why, count) in &tally.failures {
        line("", format!("{count} {why}"));
    }
    let latency: Vec<String> = percentiles(&tally.latency)
        .iter()
        .map(|(name, nanos)| format!("{name} {:.3} ms", milliseconds(*nanos)))
        .collect();
    line("latency", latency.join("  "));
    let Tally {
        warm,
        zygote,
        fresh,
        ..
    } = tally;
    line(
        "starts",
        format!("{warm} warm, {zygote} from zygotes, {fresh} fresh"),
    );
    if let Some(mb) = memory {
        line("memory", format!("{mb:.1} MB held by sandboxes"));
    }
    let percent = share * 100.0;
    line(
        "client",
        format!("{percent:.0} % of one CPU, {}", run.back_end()),
    );
    text
}

/// What sandboxes hold, as the worker says.
fn memory(client: &Client) -> Option<f64> {
    let status = client
        .ask_json("status", Request::new("GET", "/status"))
        .ok()?;
    status["pool"]["memory_held_mb"].as_f64()
}

/// What the first refusal said, or how calls failed where none did.
pub fn first_refusal(tally: &Tally, names: &Names) -> String {
    let Some((function, status, body)) = &tally.first_refusal else {
        let kinds = tally.failures.iter();
        let kinds: Vec<_> = kinds.map(|(why, count)| format!("{count} {why}")).collect();
        return kinds.join(", ");
    };
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = match (problem["title"].as_str(), problem["detail"].as_str()) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => String::from_utf8_lossy(body).into_owned(),
    };
    let said: String = one_line(&said).chars().take(SHOWN_MAX).collect();
    format!("{}: status {status}: {said}", names.name(*function))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_in_its_own_words() {
        let names = Names::Listed(vec!["f".to_owned()]);
        let body = br#"{"title": "the function raised", "detail": "ValueError: x"}"#;
        let tally = Tally {
            first_refusal: Some((0, 500, body.to_vec())),
            ..Tally::default()
        };
        let said = "f: status 500: the function raised: ValueError: x";
        assert_eq!(first_refusal(&tally, &names), said);
    }
}
