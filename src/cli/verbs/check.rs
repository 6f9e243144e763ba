//! `olworker check`: is the configuration right, and what does this machine offer it?

use super::super::definition::{Context, Verb, overrides};
use super::super::failure::Failure;
use super::super::machine;
use super::super::output::{Done, Table, print, print_json, tell};
use super::serve;
use crate::base::Duration;
use crate::cli::ids;
use crate::cli::interpreter::{self, Interpreter};
use crate::config::meaning::Config;
use crate::config::words::Backend;
use crate::config::{Loaded, Machine, Problem, load};
use crate::driver::settings;
use crate::host::packages::Tool;
use crate::host::service::{Controller, Survey};
use crate::io::{Io, Wanted};
use crate::sys::machine::{is_root, kernel_release};
use crate::sys::probe::{self, Answer, Feature, Probe};
use clap::builder::ValueHint;
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use std::fmt::Write as _;

pub const VERB: Verb = Verb { command, run };

/// The longest an interpreter may take to say its version.
const INTERPRETER: Duration = Duration::from_secs(5);

fn command() -> Command {
    Command::new("check")
        .about("Check the configuration, and report what this machine offers")
        .long_about(
            "Check the configuration, and report what this machine offers: the kernel's features \
             (each is tried), the cgroup tree and which limits it enforces, the io back end, \
             interpreters. The exit code is 78 when something is wrong with the configuration, a \
             line each.",
        )
        .arg(serve::config_file())
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_hint(ValueHint::DirPath)
                .help("Check a directory made with `ol worker init`"),
        )
        .arg(overrides())
}

fn run(matches: &ArgMatches, context: &Context) -> Done {
    let request = serve::request(matches, context);
    let machine = machine::this();
    let loaded = match load(&request, machine) {
        Ok(mut loaded) => {
            let origin = loaded.origins.of("sandbox.id_base");
            let id_base = loaded.config.sandbox.id_base;
            loaded.warnings.extend(ids::warnings(id_base, &origin));
            loaded
        }
        Err(problems) => return refused(problems, context),
    };
    let (main, _) = request.main_file();
    let file = main.exists().then(|| main.display().to_string());
    let report = Report::make(loaded, machine, file);
    if context.json {
        return print_json(&report.to_json());
    }
    for warning in &report.loaded.warnings {
        tell(&format!("{}: warning: {warning}\n", context.program));
    }
    if context.quiet {
        Ok(())
    } else {
        print(&report.to_text())
    }
}

fn refused(problems: Vec<Problem>, context: &Context) -> Done {
    if context.json {
        let told: Vec<Value> = problems
            .iter()
            .map(|problem| json!(problem.to_string()))
            .collect();
        print_json(&json!({"valid": false, "problems": told}))?;
    }
    Err(Failure::Configuration(problems))
}

/// Everything there is to say.
struct Report {
    loaded: Loaded,
    machine: Machine,
    file: Option<String>,
    survey: Result<Survey, String>,
    probes: Vec<Probe>,
    back_end: Result<(String, Option<String>), String>,
    interpreters: Vec<Interpreter>,
    /// Who installs packages.
    installer: String,
}

impl Report {
    fn make(loaded: Loaded, machine: Machine, file: Option<String>) -> Self {
        let survey = Survey::make().map_err(|error| error.to_string());
        let group = survey
            .as_ref()
            .map(|survey| survey.here.as_path())
            .map_err(Clone::clone);
        let probes = probe::all(group);
        let back_end = back_end(&loaded.config);
        let interpreters = interpreter::find(&loaded.config, INTERPRETER);
        let installer = installer(&loaded.config);
        Self {
            loaded,
            machine,
            file,
            survey,
            probes,
            back_end,
            interpreters,
            installer,
        }
    }

    fn to_text(&self) -> String {
        let mut out = String::new();
        let mut say = |name: &str, what: &str| {
            writeln!(out, "{name:<14}{}", crate::cli::failure::one_line(what))
                .expect("a string takes everything");
        };
        say(
            "configuration",
            self.file.as_deref().unwrap_or("built-in defaults"),
        );
        say(
            "user",
            if is_root() {
                "root"
            } else {
                "not root: sandboxes cannot be made"
            },
        );
        say("kernel", &kernel_release());
        let (ram, cpus) = (self.machine.ram_bytes >> 20, self.machine.cpus);
        let pool = self.loaded.config.pool.mem_bytes >> 20;
        say(
            "machine",
            &format!("{ram} MB RAM, {cpus} CPUs; {pool} MB for sandboxes"),
        );
        match &self.survey {
            Ok(survey) => say("cgroup", &format!("{}, writable", survey.here.display())),
            Err(why) => say("cgroup", why),
        }
        match &self.back_end {
            Ok((name, None)) => say("io", name),
            Ok((name, Some(why))) => say("io", &format!("{name} ({why})")),
            Err(why) => say("io", why),
        }
        say("packages", &self.installer);
        write!(out, "\n{}\n{}", self.limits(), self.features()).expect("a string takes everything");
        let mut interpreters = Table::new(&["INTERPRETER", "VERSION"]);
        for found in &self.interpreters {
            let mark = if found.configured {
                " (configured)"
            } else {
                ""
            };
            let version = match &found.version {
                Ok(version) => version.clone(),
                Err(why) => why.clone(),
            };
            interpreters.row([format!("{}{mark}", found.path.display()), version]);
        }
        format!("{out}\n{interpreters}")
    }

    fn limits(&self) -> Table {
        let mut table = Table::new(&["LIMIT", "ENFORCED BY"]);
        for (limit, by) in self.enforcement() {
            table.row([limit.to_owned(), by]);
        }
        table
    }

    /// Who holds each limit: the kernel, or the worker where the kernel cannot.
    fn enforcement(&self) -> Vec<(&'static str, String)> {
        let by = |controller: Controller, instead: &str| match &self.survey {
            Ok(survey) if survey.controllers.contains(controller) => "the kernel".to_owned(),
            Ok(survey) => {
                let why = survey
                    .why_not
                    .iter()
                    .find(|one| one.controller == controller);
                let why = why.map_or("no controller", |one| one.why.as_str());
                format!("{instead}: {why}")
            }
            Err(_) => "nobody: there is no cgroup to make sandboxes in".to_owned(),
        };
        vec![
            (
                "mem_mb",
                by(
                    Controller::Memory,
                    "the worker, which samples memory and kills",
                ),
            ),
            ("swap_mb", by(Controller::Memory, "nobody")),
            (
                "procs",
                by(Controller::Pids, "RLIMIT_NPROC of the instance's user"),
            ),
            ("cpu_percent", by(Controller::Cpu, "nobody")),
            ("runtime_sec", "the worker".to_owned()),
            ("scratch_mb", "the kernel".to_owned()),
        ]
    }

    fn features(&self) -> Table {
        let mut table = Table::new(&["KERNEL FEATURE", ""]);
        for probe in &self.probes {
            let answer = match &probe.answer {
                Answer::Works(more) if more.is_empty() => "works".to_owned(),
                Answer::Works(more) => format!("works ({more})"),
                Answer::Fails { why } => {
                    let without = probe.feature.without().unwrap_or("no sandbox without it");
                    format!("fails: {why}; {without}")
                }
            };
            table.row([probe.feature.name().to_owned(), answer]);
        }
        table
    }

    fn to_json(&self) -> Value {
        let feature = |probe: &Probe| match &probe.answer {
            Answer::Works(more) => json!({"works": true, "detail": more}),
            Answer::Fails { why } => json!({"works": false, "why": why}),
        };
        let features = Feature::ALL.iter().zip(&self.probes);
        let features = features.map(|(name, probe)| (name.name().to_owned(), feature(probe)));
        let limits = self.enforcement().into_iter();
        let cgroup = match &self.survey {
            Ok(survey) => json!({
                "group": survey.here.display().to_string(),
                "writable": true,
                "controllers": survey.controllers.iter().map(Controller::name).collect::<Vec<_>>(),
            }),
            Err(why) => json!({"writable": false, "why": why}),
        };
        let io = match &self.back_end {
            Ok((name, why)) => json!({"backend": name, "why": why}),
            Err(why) => json!({"backend": null, "why": why}),
        };
        let interpreters = self.interpreters.iter().map(|found| {
            json!({
                "path": found.path.display().to_string(),
                "configured": found.configured,
                "version": found.version.as_ref().ok(),
                "why": found.version.as_ref().err(),
            })
        });
        let warnings = self.loaded.warnings.iter().map(ToString::to_string);
        json!({
            "valid": true,
            "file": self.file,
            "warnings": warnings.collect::<Vec<_>>(),
            "root": is_root(),
            "kernel": kernel_release(),
            "ram_mb": self.machine.ram_bytes >> 20,
            "cpus": self.machine.cpus,
            "pool_mb": self.loaded.config.pool.mem_bytes >> 20,
            "cgroup": cgroup,
            "limits": limits.map(|(name, by)| (name.to_owned(), json!(by)))
                .collect::<serde_json::Map<_, _>>(),
            "io": io,
            "features": features.collect::<serde_json::Map<_, _>>(),
            "installer": self.installer,
            "interpreters": interpreters.collect::<Vec<_>>(),
        })
    }
}

/// Who would install packages for functions.
fn installer(config: &Config) -> String {
    let path = std::env::var("PATH").ok();
    match Tool::uv(path.as_deref(), &settings::own_tool(config)) {
        Some(tool) => format!("installed by {tool}"),
        None => {
            "installed by uv, which pip fetches when it is first needed; else by pip".to_owned()
        }
    }
}

/// The back end that serving would take, found out by taking it.
fn back_end(config: &Config) -> Result<(String, Option<String>), String> {
    let wanted = match config.io.backend {
        Backend::Auto => Wanted::Auto,
        Backend::Epoll => Wanted::Epoll,
        Backend::IoUring => Wanted::IoUring,
    };
    match Io::new(wanted, crate::io::Limits::default()) {
        Ok((_, chosen)) => Ok((chosen.back_end.to_string(), chosen.fallback)),
        Err(unavailable) => Err(unavailable.to_string()),
    }
}
