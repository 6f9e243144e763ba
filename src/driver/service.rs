//! The worker among others: signals, the service manager, reloads, the end.
//!
//! ```text
//!   Serving --TERM, INT--> Draining --all answered, or deadline--> Ended
//!                             \--TERM, INT again--> Ended
//! ```
//!
//! While draining, `/status` says so with 503 at once. With sockets of the service manager the
//! worker stops accepting (the backlog waits for its successor) and serves what still comes on open
//! connections; with sockets of its own it goes on accepting and refuses.

use super::front;
use super::settings;
use super::start::{self, IO_LIMITS, log_target};
use super::worker::{Phase, Worker};
use crate::base::{Duration, Time};
use crate::config::{self, Config};
use crate::engine::{Event, Params, ZygoteTree};
use crate::host::log as sink;
use crate::sys::signals::{self, Signal};

/// How long open connections without a request are kept once nothing else is left to do: a request
/// may be on its way.
const QUIET_GRACE: Duration = Duration::from_millis(250);
/// The sentence of `systemctl status` is renewed at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// While draining, the service manager is asked for this much more time.
const EXTEND_BY: Duration = Duration::from_secs(10);

impl Worker {
    /// Signals wait to be read.
    pub(super) fn signalled(&mut self) {
        loop {
            let arrived = match signals::next(self.io.descriptor(self.signals)) {
                Ok(Some(arrived)) => arrived,
                Ok(None) => return,
                Err(error) => {
                    log::error!("signals cannot be read: {error}");
                    return;
                }
            };
            match arrived.signal {
                Signal::Terminate | Signal::Interrupt => self.asked_to_end(arrived.pid),
                Signal::Hangup => self.reload(),
                Signal::User1 => self.dump_tree(),
                Signal::User2 => self.record_was_asked(),
                // Children are told of by their pidfds.
                Signal::Child => {}
            }
        }
    }

    fn asked_to_end(&mut self, by: u32) {
        if matches!(self.phase, Phase::Draining { .. }) {
            log::warn!("asked to end again (by process {by}): calls under way are cut off");
            self.phase = Phase::Ended;
            return;
        }
        let deadline = self.now + self.config.http.drain;
        let accept = self.origin.sockets_are_passed;
        log::info!(
            event = "worker-draining", calls = self.calls.len();
            "asked to end by process {by}: {} calls under way, at most {} s",
            self.calls.len(), self.config.http.drain.as_secs()
        );
        self.phase = Phase::Draining {
            deadline,
            quiet: None,
        };
        self.manager.stopping("draining");
        self.front.drain();
        self.end_followers();
        if accept {
            self.front.stop_accepting(&mut self.io);
        }
        self.tell(Event::DrainRequested { accept, deadline });
    }

    /// Reads the configuration again: takes what can be taken, says what waits for a restart.
    fn reload(&mut self) {
        self.manager.reloading();
        let problems = match config::load::load(&self.origin.request, self.origin.machine) {
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
            Ok(loaded) => match start::token(&loaded.config) {
                Err(failure) => vec![failure.to_string()],
                Ok(token) => {
                    self.take_token(token);
                    self.take_configuration(&loaded.config);
                    Vec::new()
                }
            },
        };
        for problem in &problems {
            log::error!(event = "reload-failed"; "{problem}");
        }
        if !problems.is_empty() {
            log::error!("the configuration was not taken: the worker goes on with the old one");
        }
        self.status_told.clear();
        self.manager.ready(&self.status());
    }

    /// The token's file may say something else though its name is the same.
    fn take_token(&mut self, token: Option<String>) {
        if self.token != token {
            log::info!("the token of [http] admin_token_file is another one from now on");
            self.token = token;
        }
    }

    fn take_configuration(&mut self, new: &Config) {
        let changes = Config::changes(&self.config, new);
        for change in &changes.at_once {
            log::info!("{} = {} (was {})", change.key, change.to, change.from);
        }
        for change in &changes.restart {
            log::warn!(
                "{} = {} waits for a restart (systemctl restart olworker)",
                change.key,
                change.to
            );
        }
        let is_same_tree = self.config.features.import_cache_tree == new.features.import_cache_tree;
        self.config = Config::reloaded(&self.config, new);
        if let Err(error) =
            sink::configure(log_target(&self.config), self.config.log.level.filter())
        {
            log::error!("{error}");
        }
        self.front
            .set_limits(front::Limits::new(&self.config.http, &IO_LIMITS));
        self.functions.set_cache(self.config.registry.cache);
        self.outputs.set_bound(self.config.log.function_log_bytes);
        if let Err(error) = self.trace.configure(&self.config) {
            log::error!("the trace cannot be recorded: {error}");
        }
        let params = self.params();
        self.tell(Event::ConfigChanged {
            params: Box::new(params),
        });
        if changes
            .at_once
            .iter()
            .any(|change| change.key.starts_with("limits."))
        {
            // What a function did not say itself is different now.
            for function in self.functions.keys() {
                self.deployed(function);
            }
        }
        if !is_same_tree {
            self.tell_tree();
        }
        log::info!(
            event = "configuration-reloaded";
            "configuration read again: {} keys taken, {} wait for a restart",
            changes.at_once.len(), changes.restart.len()
        );
    }

    fn params(&self) -> Params {
        settings::params(
            &self.config,
            self.origin.descriptors,
            self.origin.machine.cpus,
        )
    }

    /// Tells the engine of the configured tree.
    pub(super) fn tell_tree(&mut self) {
        self.tree_generation += 1;
        let tree = self.config.features.import_cache_tree.tree.shape();
        let stocked = self.depot.stocked(&tree);
        self.nests.name_nodes(&tree);
        let tree = ZygoteTree {
            generation: self.tree_generation,
            tree,
            weights: self.depot.weights(),
            installed: Vec::new(),
            stocked,
        };
        self.tell(Event::TreeChanged {
            tree: Box::new(tree),
        });
    }

    /// A live sentence for `systemctl status`.
    pub(super) fn status(&self) -> String {
        let pool = self.engine.pool();
        format!(
            "{}{} functions, {} instances, {} zygotes, {} calls in flight",
            if self.phase == Phase::Serving {
                ""
            } else {
                "draining: "
            },
            self.functions.count(),
            pool.instances,
            pool.zygotes,
            self.calls.len()
        )
    }

    /// What the service manager wants to hear regularly. Returns when it wants to hear again.
    pub(super) fn report(&mut self) -> Option<Time> {
        if !self.manager.is_present() {
            return None;
        }
        if let Some(interval) = self.manager.watchdog_interval()
            && self.now >= self.watchdog_due
        {
            self.manager.alive();
            self.watchdog_due = self.now + interval;
        }
        let mut due = self.manager.watchdog_interval().map(|_| self.watchdog_due);
        let status = self.status();
        if status != self.status_told {
            if self.now >= self.status_due {
                self.manager.status(&status);
                if self.phase != Phase::Serving {
                    self.manager.extend_timeout(EXTEND_BY);
                }
                self.status_told = status;
                self.status_due = self.now + STATUS_EVERY;
            } else {
                due = Some(due.map_or(self.status_due, |due| due.min(self.status_due)));
            }
        }
        due
    }

    /// Looks whether the worker may end. Returns when to look again.
    pub(super) fn drained(&mut self) -> Option<Time> {
        let Phase::Draining { deadline, quiet } = self.phase else {
            return None;
        };
        if self.now >= deadline {
            log::warn!(
                event = "drain-timed-out";
                "{} calls were not answered within drain_sec and are cut off", self.calls.len()
            );
            self.phase = Phase::Ended;
            return None;
        }
        // A request that is still being read is under way, too: its answer may be our own.
        if !self.calls.is_empty() || self.front.is_busy() {
            self.phase = Phase::Draining {
                deadline,
                quiet: None,
            };
            return Some(deadline);
        }
        let since = quiet.unwrap_or(self.now);
        let end = since + QUIET_GRACE;
        let nobody_left = self.front.connections() == 0 && self.origin.sockets_are_passed;
        if nobody_left || self.now >= end {
            self.phase = Phase::Ended;
            return None;
        }
        self.phase = Phase::Draining {
            deadline,
            quiet: Some(since),
        };
        Some(end.min(deadline))
    }
}
