//! What operators ask the worker about itself.

use super::front::Client;
use super::stats::Gauge;
use super::streams::Source;
use super::worker::{Done, Phase, Worker};
use crate::base::FunctionName;
use crate::engine::{Engine, NodeView, ZygoteState};
use crate::host::code::Registry;
use crate::host::function_log::{self, Follower};
use crate::host::log as sink;
use crate::http::{Code, Problem};
use crate::policy::NodeId;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Clients whose log is about to be read.
const LOG_READERS_MAX: usize = 256;
/// Lines of a log that are told unless another number is asked for.
const LOG_LINES: usize = 100;
const JSON: (&str, &[u8]) = ("Content-Type", b"application/json");
const TEXT: (&str, &[u8]) = ("Content-Type", b"text/plain; charset=utf-8");
const PROMETHEUS: (&str, &[u8]) = ("Content-Type", b"text/plain; version=0.0.4; charset=utf-8");

/// A client that reads a function's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogReader {
    client: Client,
    name: FunctionName,
    lines: usize,
    follows: bool,
    /// What was printed before it asked is not in the batch that is being written, but in the next.
    is_next: bool,
}

/// What a helper read for one.
#[derive(Debug)]
pub(super) enum LogText {
    Lines(Vec<u8>),
    Follower(Box<Follower>),
}

impl Worker {
    pub(super) fn answer_json(&mut self, client: Client, status: u16, value: &Value) {
        let mut body = value.to_string();
        body.push('\n');
        self.front.answer(client, status, &[JSON], body.as_bytes());
    }

    pub(super) fn answer_nothing(&mut self, client: Client) {
        self.front.answer(client, 204, &[], b"");
    }

    pub(super) fn answer_status(&mut self, client: Client) {
        let wants_json = self.front.request(client).is_some_and(|request| {
            request
                .head
                .field("accept")
                .is_some_and(|accept| accept.windows(16).any(|w| w == b"application/json"))
        });
        let is_ready = self.phase == Phase::Serving;
        if wants_json {
            let status = self.status_json();
            return self.answer_json(client, if is_ready { 200 } else { 503 }, &status);
        }
        if is_ready {
            return self.front.answer(client, 200, &[TEXT], b"ready\n");
        }
        self.refuse(
            client,
            &Problem::new(Code::Draining, "the worker ends soon"),
        );
    }

    fn status_json(&self) -> Value {
        let (pool, counts) = (self.engine.pool(), self.engine.counts());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": if self.phase == Phase::Serving { "ready" } else { "draining" },
            "uptime_sec": self.now.since(self.origin.started).as_secs(),
            "pid": std::process::id(),
            "io": self.origin.back_end.to_string(),
            "listening": self.origin.listening,
            "limits": self.origin.limits,
            "pool": {
                "memory_limit_mb": pool.memory_limit.as_mb(),
                "memory_held_mb": pool.memory_held.as_mb(),
                "memory_idle_mb": pool.memory_idle.as_mb(),
            },
            "counts": {
                "functions": self.functions.count(),
                "instances": pool.instances,
                "zygotes": pool.zygotes,
                "calls": self.calls.len(),
                "clients": self.front.connections(),
                "answered": counts.answered,
                "refused": counts.refused,
                "forks": counts.forks,
                "evicted": counts.evicted,
            },
        })
    }

    pub(super) fn answer_pid(&mut self, client: Client) {
        let body = format!("{}\n", std::process::id());
        self.front.answer(client, 200, &[TEXT], body.as_bytes());
    }

    pub(super) fn answer_stats(&mut self, client: Client) {
        let mut body = Vec::new();
        self.stats
            .render_json(&mut body, self.front.counters(), &self.gauges());
        self.front.answer(client, 200, &[JSON], &body);
    }

    pub(super) fn answer_metrics(&mut self, client: Client) {
        let mut body = Vec::new();
        self.stats
            .render_metrics(&mut body, self.front.counters(), &self.gauges());
        self.front.answer(client, 200, &[PROMETHEUS], &body);
    }

    /// What is true now.
    fn gauges(&self) -> [Gauge<'static>; 9] {
        let pool = self.engine.pool();
        let gauge = |name, help, value| Gauge { name, help, value };
        [
            gauge(
                "connections",
                "Clients connected.",
                self.front.connections() as u64,
            ),
            gauge(
                "functions",
                "Functions known.",
                self.functions.count() as u64,
            ),
            gauge(
                "calls_in_flight",
                "Calls accepted and not yet ended.",
                self.calls.len() as u64,
            ),
            gauge(
                "instances",
                "Sandboxes of functions.",
                u64::from(pool.instances),
            ),
            gauge("zygotes", "Sandboxes of zygotes.", u64::from(pool.zygotes)),
            gauge(
                "pool_limit_bytes",
                "Memory for all sandboxes.",
                pool.memory_limit.get(),
            ),
            gauge(
                "pool_held_bytes",
                "Memory held by sandboxes.",
                pool.memory_held.get(),
            ),
            gauge(
                "spooled_bytes",
                "Bodies that wait in memory.",
                self.front.spooled_bytes(),
            ),
            gauge(
                "log_lines_lost",
                "Lines the log's sink did not take.",
                sink::lost_total(),
            ),
        ]
    }

    pub(super) fn answer_tree(&mut self, client: Client) {
        let nodes: Vec<NodeView> = self.engine.nodes().collect();
        let copies: Vec<Value> = (0..self.engine.tree_copies())
            .map(|copy| node_json(&self.engine, &nodes, copy, NodeId::ROOT))
            .collect();
        self.answer_json(client, 200, &json!({ "trees": copies }));
    }

    /// The last lines of a function's log, and, if it is followed, those to come.
    pub(super) fn show_log(&mut self, client: Client, name: FunctionName) {
        if self.outputs.readers.len() == LOG_READERS_MAX {
            let problem = Problem::new(Code::Overloaded, "as many readers of logs as there may be");
            return self.refuse(client, &problem);
        }
        let request = self.front.request(client);
        let query = request.and_then(|request| request.head.query());
        let pairs = || query.into_iter().flat_map(|query| query.split('&'));
        let value = |name: &str| {
            let mut values = pairs().filter_map(|pair| pair.split_once('='));
            values.find_map(|(key, value)| (key == name).then_some(value))
        };
        let reader = LogReader {
            client,
            name,
            lines: value("n")
                .and_then(|count| count.parse().ok())
                .unwrap_or(LOG_LINES),
            follows: value("follow").is_some_and(|value| !matches!(value, "0" | "false")),
            is_next: self.outputs.is_writing(),
        };
        self.outputs.readers.push(reader);
        if self.outputs.is_written() {
            self.serve_log_readers();
        }
    }

    /// Has helpers read for those who have waited long enough: everything that was printed before
    /// they asked is in the file.
    pub(super) fn serve_log_readers(&mut self) {
        let is_written = self.outputs.is_written();
        let mut ready = Vec::new();
        self.outputs.readers.retain_mut(|reader| {
            let is_ready = is_written || !core::mem::take(&mut reader.is_next);
            if is_ready {
                ready.push(*reader);
            }
            !is_ready
        });
        for reader in ready {
            let files = function_log::files(&self.config.home.function_logs(), &reader.name);
            let registry = self.registry.clone();
            let job = move || Done::Log(reader, read_log(&files, &reader, &registry));
            if self.registry_helpers().submit(job).is_err() {
                let problem = Problem::new(Code::Overloaded, "the helpers are busy");
                self.refuse(reader.client, &problem);
            }
        }
    }

    pub(super) fn log_read(&mut self, reader: LogReader, read: std::io::Result<Option<LogText>>) {
        let client = reader.client;
        match read {
            Ok(Some(LogText::Lines(text))) => self.front.answer(client, 200, &[TEXT], &text),
            Ok(Some(LogText::Follower(follower))) => {
                self.begin_stream(client, Source::Log(reader.name, follower));
            }
            Ok(None) => {
                let detail = "the registry has none of this name, and it has printed nothing";
                self.refuse(client, &Problem::new(Code::NoSuchFunction, detail));
            }
            Err(error) => {
                log::error!("a function's log cannot be read: {error}");
                let problem = Problem::new(Code::Overloaded, "the log cannot be read now");
                self.refuse(client, &problem);
            }
        }
    }

    /// The tree, a message a line, as at start and at the end.
    pub(super) fn dump_tree(&self) {
        for copy in 0..self.engine.tree_copies() {
            log::info!(event = "zygote-tree"; "Import Cache Tree:");
            for line in self.engine.tree_dump(copy) {
                log::info!(event = "zygote-tree"; "{line}");
            }
        }
    }

    pub(super) fn answer_debug(&mut self, client: Client) {
        let mut body = String::new();
        for view in self.engine.instances() {
            let name = self
                .functions
                .get(view.function)
                .map(|function| function.name);
            let age = self.now.since(view.born).as_secs_f64();
            let _ = writeln!(
                body,
                "instance {} {} v{} {:?} age {age:.1}s memory {:.1} MB {}",
                view.key,
                name.map_or_else(|| "-".to_owned(), |name| name.to_string()),
                view.version,
                view.state,
                view.memory.as_mb(),
                view.node
                    .map_or_else(String::new, |node| format!("from node {}", node.index())),
            );
        }
        for view in self.engine.zygotes() {
            let age = self.now.since(view.since).as_secs_f64();
            let _ = writeln!(
                body,
                "zygote {} node {} {:?} since {age:.1}s forks {} memory {:.1} MB",
                view.key,
                view.node.index(),
                view.state,
                view.forks,
                view.memory.as_mb(),
            );
        }
        self.front.answer(client, 200, &[TEXT], body.as_bytes());
    }
}

/// None: there is no such function. Blocks.
fn read_log(
    files: &[PathBuf; 2],
    reader: &LogReader,
    registry: &Registry,
) -> std::io::Result<Option<LogText>> {
    if !files.iter().any(|file| file.exists()) && registry.get(&reader.name)?.is_none() {
        return Ok(None);
    }
    Ok(Some(if reader.follows {
        LogText::Follower(Box::new(Follower::new(files, reader.lines)?))
    } else {
        LogText::Lines(function_log::tail(files, reader.lines)?)
    }))
}

fn node_json(engine: &Engine, nodes: &[NodeView], copy: u32, id: NodeId) -> Value {
    let node = engine.tree().node(id);
    let view = nodes
        .iter()
        .find(|view| view.copy == copy && view.node == id);
    let zygotes = view.map_or(&[][..], |view| &view.zygotes);
    let memory: f64 = zygotes.iter().map(|zygote| zygote.memory.as_mb()).sum();
    let packages: Vec<String> = node.packages.iter().map(ToString::to_string).collect();
    let children: Vec<Value> = node
        .children
        .iter()
        .map(|child| node_json(engine, nodes, copy, *child))
        .collect();
    json!({
        "packages": packages,
        "count": view.map_or(0, |view| view.created),
        "state": node_state(view),
        "replicas": zygotes.len(),
        "mem_mb": memory,
        "children": children,
    })
}

/// How far a node is: the best of its zygotes, else whether its packages are there.
fn node_state(view: Option<&NodeView>) -> &'static str {
    let Some(view) = view else { return "absent" };
    let has = |wanted| view.zygotes.iter().any(|zygote| zygote.state == wanted);
    let states = [
        ZygoteState::Live,
        ZygoteState::Frozen,
        ZygoteState::Forking,
        ZygoteState::Dying,
    ];
    match states.into_iter().find(|state| has(*state)) {
        Some(state) => state.name(),
        None if view.hopeless => "hopeless",
        None => view.phase.name(),
    }
}
