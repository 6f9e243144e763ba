//! `ol fit --apply` and `--rollback`: the tree of a worker, changed only for a better one.
//!
//! ```text
//!   the worker's trace -- first part --> a tree -\
//!                      -- last part ---------------> cold starts of both -- better by the margin?
//!   the tree in use ----------------------------/             | no: stays, and why
//!                                                             v yes
//!       all of the trace --> a tree --> tree.json (the old one: tree.json.previous) --> SIGHUP
//! ```
//!
//! What is compared was not seen by the tree that is compared: the calls that came last. A tree
//! file is replaced by a rename, so the worker reads the old one or the new one. The worker takes
//! it as it takes every changed configuration, and moves its live zygotes over.

use super::one::{BUILDS, read_calls};
use super::{algorithms, costs_and_needs, given, live, lookup, memory, sizes, tree_file};
use crate::cli::client::{self, Client, Request};
use crate::cli::definition::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::machine;
use crate::cli::output::{Done, print, tell};
use crate::config::load::{self, load};
use crate::config::meaning::{Config, TreeTyped};
use crate::config::tree::Tree;
use crate::policy::fit::{self, Algorithm, Catalog, Demand, Objective, Wish, Workload, score};
use crate::policy::tree::NODES_MAX;
use crate::sim::trace::asked::Asked;
use clap::ArgMatches;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A new tree takes so much less time for a cold start, in percent, or the old one stays.
pub const MARGIN_PERCENT: f64 = 5.0;
/// Cold calls below which a trace says too little.
const CALLS_MIN: f64 = 100.0;
/// The share of calls that comes first.
const FIRST_SHARE: f64 = 0.7;
/// The share of the pool's memory that a tree gets where `--memory` says nothing.
const POOL_SHARE: f64 = 0.25;
/// Beside a tree file: the one before.
const PREVIOUS: &str = ".previous";

/// The worker that is meant: its configuration, and where it listens.
struct Meant {
    config: Config,
    file: PathBuf,
    client: Option<Client>,
}

/// Memory that the tree may take, and of what.
struct Budget {
    memory_mb: f64,
    pool_mb: f64,
    /// Asked from the worker that runs, which may have been started with overrides or on a machine
    /// with other limits than this process has; else from its configuration.
    is_running: bool,
}

/// What was decided.
struct Verdict {
    applied: bool,
    why: String,
    calls: f64,
    present_ms: Option<f64>,
    new_ms: Option<f64>,
    nodes: Option<usize>,
    /// Of the tree that was applied, as modelled.
    tree_mb: Option<f64>,
}

pub fn apply(matches: &ArgMatches, context: &Context) -> Done {
    let Meant {
        config,
        file,
        client,
    } = meant(matches, context)?;
    let margin = margin(matches)?;
    let budget = Budget::of(matches, &config, client.as_ref())?;
    let mut asked = Asked::new();
    let trace = given(matches, "trace").map_or_else(|| config.home.traces(), Path::to_path_buf);
    let calls = match read_calls(&mut asked, &trace, context) {
        Ok(calls) => calls,
        // A worker that was not called yet has nothing to fit to.
        Err(_) if given(matches, "trace").is_none() && is_empty(&trace) => {
            let why = format!("{} holds no calls yet", trace.display());
            return say(context, &file, &Verdict::kept(why, 0.0), &budget, None);
        }
        Err(failure) => return Err(failure),
    };
    if calls.ask_for_nothing() {
        let why = format!("no call in {} asks for a package", trace.display());
        return say(context, &file, &Verdict::kept(why, 0.0), &budget, None);
    }
    costs_and_needs(&mut asked, matches)?;
    let catalog = asked.catalog();
    let workload = asked.workload(&calls);
    if !context.quiet {
        for note in &asked.notes {
            tell(&format!("{}: {note}\n", context.program));
        }
    }
    let fitting = Fitting {
        algorithm: algorithms(matches)?
            .first()
            .copied()
            .unwrap_or(Algorithm::SetCover),
        wish: wish(matches, &budget, &workload, calls.seconds)?,
        spellings: asked.spellings(),
        catalog: &catalog,
    };
    let present = config.features.import_cache_tree.tree.clone();
    let mut verdict = fitting.judge(&workload, &present, margin, lookup(matches));
    let mut told = None;
    if verdict.applied {
        let plan = fit::fit(&catalog, &workload, fitting.algorithm, &fitting.wish);
        verdict.tree_mb = Some(plan.memory_mb(&catalog));
        keep(&file, &present)?;
        replace(&file, &tree_file::text(&plan, asked.spellings()))?;
        told = client.and_then(|client| reload(&client));
    }
    say(context, &file, &verdict, &budget, told)
}

/// The tree before comes back, and the one that goes can come back in turn.
pub fn rollback(matches: &ArgMatches, context: &Context) -> Done {
    let Meant {
        config,
        file,
        client,
    } = meant(matches, context)?;
    let previous = beside(&file, PREVIOUS);
    let remedy = "`ol fit --apply` keeps one when it applies another";
    let text = fs::read_to_string(&previous)
        .map_err(|error| Failure::of_path(&previous, &error, remedy))?;
    Tree::from_json(&text).map_err(|wrong| {
        let why = wrong.first().map_or_else(String::new, ToString::to_string);
        Failure::failed(previous.display().to_string(), why, "mend or remove it")
    })?;
    keep(&file, &config.features.import_cache_tree.tree)?;
    replace(&file, &text)?;
    let told = client.and_then(|client| reload(&client));
    if context.json {
        let object = json!({"rolled_back": true, "tree_file": file, "reloaded": told});
        return print(&format!("{object}\n"));
    }
    let file = file.display();
    print(&format!(
        "{file} is the tree from before again\n{}",
        reloaded(told)
    ))
}

/// The tree that the worker uses now, where it is more than a root.
pub fn in_use(matches: &ArgMatches, context: &Context) -> Option<(String, Tree)> {
    let (config, _) = configuration(matches, context).ok()?;
    let tree = config.features.import_cache_tree.tree.clone();
    let name = match tree_file_of(&config) {
        Ok(path) => path.display().to_string(),
        Err(_) => "the configured tree".to_owned(),
    };
    (!tree.is_bare()).then_some((name, tree))
}

/// And the directory of the worker, where it has one.
fn configuration(
    matches: &ArgMatches,
    context: &Context,
) -> Result<(Config, Option<PathBuf>), Failure> {
    let own = context.working_directory.join("default-ol");
    let file = given(matches, "config").map(Path::to_path_buf);
    let is_own = own.join("config.toml").exists() && file.is_none();
    let directory = context.directory.clone().or_else(|| is_own.then_some(own));
    let request = load::Request {
        file,
        directory: directory.clone(),
        overrides: Vec::new(),
        working_directory: context.working_directory.clone(),
    };
    let loaded = load(&request, machine::this()).map_err(Failure::Configuration)?;
    Ok((loaded.config, directory))
}

fn meant(matches: &ArgMatches, context: &Context) -> Result<Meant, Failure> {
    let (config, directory) = configuration(matches, context)?;
    let unix = || config.http.unix.display().to_string();
    let listening = match (&context.socket, &directory) {
        (Some(socket), _) => Some(socket.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(unix()),
    };
    let context = Context {
        socket: listening,
        directory,
        ..context.clone()
    };
    Ok(Meant {
        file: tree_file_of(&config)?,
        client: client::find(&context).ok(),
        config,
    })
}

/// Where the configuration says that its tree is.
fn tree_file_of(config: &Config) -> Result<PathBuf, Failure> {
    match &config.features.import_cache_tree.typed {
        TreeTyped::Default(path) | TreeTyped::File(path) => Ok(path.clone()),
        TreeTyped::Inline | TreeTyped::Empty => Err(Failure::new(
            Exit::BadConfiguration,
            "features.import_cache_tree",
            "the tree stands in the configuration itself, which is not rewritten",
            "name a file there: import_cache_tree = \"tree.json\"",
        )),
    }
}

fn margin(matches: &ArgMatches) -> Result<f64, Failure> {
    let Some(text) = matches.get_one::<String>("margin") else {
        return Ok(MARGIN_PERCENT);
    };
    match text.trim().parse::<f64>() {
        Ok(percent) if (0.0..100.0).contains(&percent) => Ok(percent),
        _ => {
            let why = format!("{text:?} is no share of a cold start in percent");
            Err(Failure::usage("--margin", why, "give 0 to 99"))
        }
    }
}

fn wish(
    matches: &ArgMatches,
    budget: &Budget,
    workload: &Workload,
    seconds: f64,
) -> Result<Wish, Failure> {
    let calls = workload.calls();
    let is_timed = seconds > 0.0;
    Ok(Wish {
        nodes: sizes(matches)?.first().copied().unwrap_or(NODES_MAX),
        memory_mb: Some(budget.memory_mb),
        objective: Objective {
            builds: if is_timed { BUILDS } else { 0.0 },
            forks_per_sec: if is_timed { calls / seconds } else { 0.0 },
            ..Objective::MEASURED
        },
        calls,
        smoothing: None,
    })
}

impl Budget {
    fn of(matches: &ArgMatches, config: &Config, client: Option<&Client>) -> Result<Self, Failure> {
        let running_mb = client.and_then(pool_of);
        let configured_mb = config.pool.mem_bytes as f64 / f64::from(1 << 20);
        let pool_mb = running_mb.unwrap_or(configured_mb);
        let typed = memory(matches)?;
        if let Some(mb) = typed.filter(|mb| *mb > pool_mb) {
            let why = format!("{mb} MB are more than the pool of the worker ({pool_mb:.0} MB)");
            let remedy = "lower it, or raise [pool] mem_mb";
            return Err(Failure::usage("--memory", why, remedy));
        }
        Ok(Self {
            memory_mb: typed.unwrap_or(pool_mb * POOL_SHARE),
            pool_mb,
            is_running: running_mb.is_some(),
        })
    }

    fn text(&self) -> String {
        let whose = if self.is_running {
            "the running worker's pool"
        } else {
            "the configured pool"
        };
        let Self {
            memory_mb, pool_mb, ..
        } = self;
        format!("a tree may take {memory_mb:.0} MB of {whose} of {pool_mb:.0} MB\n")
    }
}

/// Megabytes of the pool of a worker, if it runs.
fn pool_of(client: &Client) -> Option<f64> {
    let status = client.ask_json("status", Request::new("GET", "/status"));
    status.ok()?["pool"]["memory_limit_mb"].as_f64()
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

/// How trees are made here.
struct Fitting<'a> {
    algorithm: Algorithm,
    wish: Wish,
    spellings: &'a [String],
    catalog: &'a Catalog,
}

impl Fitting<'_> {
    /// Whether a tree of the first calls serves the last ones better than the present tree does.
    fn judge(
        &self,
        workload: &Workload,
        present: &Tree,
        margin: f64,
        lookup: crate::policy::Lookup,
    ) -> Verdict {
        let calls = workload.calls();
        if calls < CALLS_MIN {
            let why = format!("{calls} cold calls say too little ({CALLS_MIN} are the least)");
            return Verdict::kept(why, calls);
        }
        let (first, last) = parted(workload);
        let wish = Wish {
            calls: first.calls(),
            ..self.wish.clone()
        };
        let plan = fit::fit(self.catalog, &first, self.algorithm, &wish);
        let objective = Objective::MEASURED;
        let halves = (self.catalog, &last);
        let served = live::serve(present, lookup, self.spellings, halves, &objective);
        let new = score(self.catalog, &plan, &last, lookup);
        let new_ms = objective.cold_ms(self.catalog, &plan, &new);
        let present_ms = served.cold_ms;
        let better = 100.0 * (1.0 - new_ms / f64::max(present_ms, f64::MIN_POSITIVE));
        let applied = better >= margin && better > 0.0;
        let than = if applied { "at least" } else { "less than" };
        Verdict {
            applied,
            why: format!(
                "a cold start of the last {} calls takes {new_ms:.2} ms with a tree for those \
                 before them, {present_ms:.2} ms with the tree in use: {better:.1} % better, \
                 {than} the margin of {margin} %",
                last.calls(),
            ),
            calls,
            present_ms: Some(present_ms),
            new_ms: Some(new_ms),
            nodes: Some(plan.len()),
            tree_mb: None,
        }
    }
}

/// The calls that came first and those that came last; dealt out by sets where nobody knows.
fn parted(workload: &Workload) -> (Workload, Workload) {
    let known = workload.sequence.len();
    if (known as f64) < workload.calls() - 0.5 {
        let mut folds = fit::future::folds(workload, 3);
        return folds.pop().expect("three folds");
    }
    let part = |sequence: &[u32]| {
        let mut demands: Vec<Demand> = workload.demands.clone();
        for demand in &mut demands {
            demand.calls = 0.0;
        }
        for at in sequence {
            demands[*at as usize].calls += 1.0;
        }
        demands.retain(|demand| demand.calls > 0.0);
        Workload {
            demands,
            sequence: Vec::new(),
        }
    };
    let (first, last) = workload
        .sequence
        .split_at((known as f64 * FIRST_SHARE) as usize);
    (part(first), part(last))
}

impl Verdict {
    fn kept(why: String, calls: f64) -> Self {
        Self {
            applied: false,
            why,
            calls,
            present_ms: None,
            new_ms: None,
            nodes: None,
            tree_mb: None,
        }
    }

    fn json(&self, file: &Path, budget: &Budget, told: Option<u32>) -> Value {
        json!({
            "applied": self.applied,
            "why": self.why,
            "calls": self.calls,
            "present_ms": self.present_ms,
            "new_ms": self.new_ms,
            "nodes": self.nodes,
            "tree_mb": self.tree_mb,
            "memory_mb": budget.memory_mb,
            "pool_mb": budget.pool_mb,
            "pool_is_running": budget.is_running,
            "tree_file": file,
            "previous_file": beside(file, PREVIOUS),
            "reloaded": told,
        })
    }
}

fn say(
    context: &Context,
    file: &Path,
    verdict: &Verdict,
    budget: &Budget,
    told: Option<u32>,
) -> Done {
    if context.json {
        return print(&format!("{}\n", verdict.json(file, budget, told)));
    }
    let shown = file.display();
    if !verdict.applied {
        return print(&format!(
            "{shown} stays: {}\n{}",
            verdict.why,
            budget.text()
        ));
    }
    print(&format!(
        "{shown} is a new tree: {}\n{}the one before is {}\n{}",
        verdict.why,
        budget.text(),
        beside(file, PREVIOUS).display(),
        reloaded(told),
    ))
}

fn reloaded(told: Option<u32>) -> String {
    match told {
        Some(pid) => format!("the worker (process {pid}) was told\n"),
        None => "no worker runs that could be told; it takes the tree when it starts\n".to_owned(),
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// What the worker uses now becomes the tree before: a bare root where there was no file.
fn keep(file: &Path, present: &Tree) -> Done {
    let text = fs::read_to_string(file).unwrap_or_else(|_| present.to_json_pretty());
    replace(&beside(file, PREVIOUS), &text)
}

/// Whoever reads the file gets the old text or the new one, also after a crash.
fn replace(file: &Path, text: &str) -> Done {
    let fresh = beside(file, ".new");
    let written = (|| {
        let mut open = File::create(&fresh)?;
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        fs::rename(&fresh, file)?;
        match file.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(|error| Failure::of_path(file, &error, "run it as who may write there"))
}

/// Tells the worker, if one runs.
fn reload(client: &Client) -> Option<u32> {
    let answer = client.ask("pid", Request::new("GET", "/pid")).ok()?;
    let body = client.whole(answer).ok()?;
    let pid: u32 = std::str::from_utf8(&body).ok()?.trim().parse().ok()?;
    kill_process(Pid::from_raw(pid as i32)?, Signal::HUP).ok()?;
    Some(pid)
}
