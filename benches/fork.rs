//! How long a fork takes until user code has its call, and until the answer is back, against a new
//! interpreter in the same run.
//!
//!     cargo bench --bench fork [-- PACKAGES]
//!
//! `PACKAGES` is a directory made by `pip install --target` with numpy and pandas; without it only
//! the bare zygote is measured. Ratios are what counts: machines differ.

#[expect(dead_code, reason = "tests use the rest")]
#[path = "../tests/jail/rig.rs"]
mod rig;

use rig::{LIMITS, Outcome, Ready, Rig, Wish, rig_with};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const ROUNDS: usize = 500;
const INTERPRETER: &str = "/usr/bin/python3";
const CODE: &str = "def f(event): return 1";

/// Of one kind of start, sorted.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

fn main() -> io::Result<()> {
    let packages = std::env::args()
        .skip(1)
        .find(|one| !one.starts_with('-'))
        .map(PathBuf::from);
    let wish = Wish {
        packages: packages.as_deref(),
        ..Wish::default()
    };
    let Some(mut rig) = rig_with(&wish) else {
        return Ok(());
    };
    let mut out = io::stdout();
    let mut kinds: Vec<(&str, &[&str])> = vec![("bare", &[])];
    if packages.is_some() {
        kinds.extend([
            ("numpy", &["numpy"][..]),
            ("pandas", &["numpy", "pandas"][..]),
        ]);
    }
    for (name, modules) in kinds {
        let (mut seen, mut answered, mut new) = (Vec::new(), Vec::new(), Vec::new());
        let mut zygote = rig.zygote(modules);
        let code = rig.function(CODE);
        let import = modules
            .iter()
            .fold(String::new(), |all, one| all + "import " + one + ";");
        for round in 0..ROUNDS {
            let (to_code, to_answer) = one(&mut rig, &mut zygote, &code);
            seen.push(to_code);
            answered.push(to_answer);
            // A new interpreter beside every tenth (of a heavy one every fiftieth) fork.
            let every = if modules.is_empty() { 10 } else { 50 };
            if round % every == 0 {
                new.push(new_interpreter(&import, packages.as_deref())?);
            }
        }
        let resident = zygote.resident_kb / 1024;
        let (seen, answered, new) = (Times::of(seen), Times::of(answered), Times::of(new));
        writeln!(
            out,
            "{name} ({resident} MB): to user code p50 {:?} p99 {:?}; \
             to the answer p50 {:?} p99 {:?}; \
             new interpreter p50 {:?}: 1/{:.0} of it to user code, 1/{:.0} to the answer",
            seen.at(50),
            seen.at(99),
            answered.at(50),
            answered.at(99),
            new.at(50),
            new.at(50).as_secs_f64() / seen.at(50).as_secs_f64(),
            new.at(50).as_secs_f64() / answered.at(50).as_secs_f64(),
        )?;
        rig.end_zygote(zygote);
    }
    Ok(())
}

/// Forks, calls, waits for the answer, kills. Spares are refilled between two.
fn one(rig: &mut Rig, zygote: &mut Ready, code: &Path) -> (Duration, Duration) {
    let start_ns = monotonic_ns();
    let mut running = rig.fork_unanswered(zygote, code, LIMITS);
    running.send("0");
    let outcome = running.receive();
    let end_ns = monotonic_ns();
    assert_eq!(outcome, Outcome::Answer("1".into()), "{}", rig.log());
    let seen_ns = running.instance.seen().since_ns;
    rig.await_birth(zygote, &mut running);
    rig.end(running);
    while rig.sandboxes.refill().expect("groups can be made") {}
    (
        Duration::from_nanos(seen_ns - start_ns),
        Duration::from_nanos(end_ns - start_ns),
    )
}

fn new_interpreter(import: &str, packages: Option<&Path>) -> io::Result<Duration> {
    let path = packages.map_or_else(String::new, |path| {
        format!(
            "import sys; sys.path.insert(0, {:?});",
            path.display().to_string()
        )
    });
    let start_ns = monotonic_ns();
    let status = Command::new(INTERPRETER)
        .args(["-c", &format!("{path}{import}pass")])
        .stdout(Stdio::from(File::create("/dev/null")?))
        .status()?;
    assert!(status.success());
    Ok(Duration::from_nanos(monotonic_ns() - start_ns))
}

/// The clock an instance notes the time by.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
