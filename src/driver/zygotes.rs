//! Zygotes as the driver has them: started, told what to import, asked for forks, buried.
//!
//! ```text
//!   StartZygote ──▶ nest ──Ready──▶ ZygoteReady ──▶ forks ──▶ ... ──pidfd──▶ ZygoteExited
//!                     └──raised, has threads, died──▶ ZygoteFailed (once the process is gone)
//! ```

use super::instances::exit_of;
use super::stats::{Counted, Timed};
use super::token::Owner;
use super::worker::Worker;
use crate::base::{Key, Table, Time};
use crate::engine::{Event, ForkFault, InstanceKey, ZygoteFault, ZygoteKey};
use crate::host::sandboxes::FamilyKey;
use crate::host::zygote::{Zygote, ZygoteEvent};
use crate::io::{Handle, Interest, Token};
use crate::policy::{NodeId, Tree};
use crate::wire::text::TextList;
use crate::wire::zygote::ForkStage;
use std::rc::Rc;

/// Where packages are, inside a sandbox.
const PACKAGES: &[u8] = b"/packages";

/// One zygote.
#[derive(Debug)]
pub(super) struct Nest {
    pub(super) family: FamilyKey,
    pub(super) zygote: Zygote,
    pub(super) node: NodeId,
    started: Time,
    control: Option<Handle>,
    exit: Option<Handle>,
    is_ready: bool,
    /// Its turn to be measured comes.
    pub(super) is_measured: bool,
    /// When it was chosen to make room.
    pub(super) evicted: Option<Time>,
    /// To be killed as soon as it lives.
    is_doomed: bool,
    /// Why it is of no use, told once it is gone.
    fault: Option<ZygoteFault>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Nests {
    table: Table<Nest>,
    /// What `X-OL-Zygote` says of each node.
    labels: Vec<Rc<str>>,
    /// Those that have fewer processes standing by than they should.
    wanting: Vec<ZygoteKey>,
}

impl Nests {
    pub(super) fn new(zygotes_max: usize) -> Self {
        Self {
            table: Table::new(zygotes_max),
            labels: Vec::new(),
            wanting: Vec::new(),
        }
    }

    pub(super) fn get(&self, key: ZygoteKey) -> Option<&Nest> {
        self.table.get(key.alike())
    }

    pub(super) fn get_mut(&mut self, key: ZygoteKey) -> Option<&mut Nest> {
        self.table.get_mut(key.alike())
    }

    /// All packages of a node, inherited ones first.
    pub(super) fn label(&self, node: NodeId) -> Rc<str> {
        self.labels
            .get(node.index())
            .cloned()
            .unwrap_or_else(|| "".into())
    }

    /// How many nodes have a label.
    pub(super) fn labels(&self) -> usize {
        self.labels.len()
    }

    /// The zygotes of these nodes.
    pub(super) fn of_nodes(&self, nodes: &[NodeId]) -> Vec<ZygoteKey> {
        let all = self.table.iter();
        all.filter(|(_, nest)| nodes.contains(&nest.node))
            .map(|(key, _)| key.alike())
            .collect()
    }

    /// Makes the labels of a tree.
    pub(super) fn name_nodes(&mut self, tree: &Tree) {
        self.labels = tree
            .iter()
            .map(|(id, node)| {
                let mut path: Vec<NodeId> = tree.ancestors(id).collect();
                path.reverse();
                path.push(id);
                path.dedup();
                if node.parent.is_none() {
                    return "ROOT".into();
                }
                let names: Vec<&str> = path
                    .iter()
                    .flat_map(|node| &tree.node(*node).packages)
                    .map(crate::base::Package::name)
                    .collect();
                names.join(",").into()
            })
            .collect();
    }
}

impl Worker {
    pub(super) fn start_zygote(&mut self, key: ZygoteKey, node: NodeId, parent: Option<ZygoteKey>) {
        if !self.why_left_out(node).is_empty() {
            return self.told.push_back(Event::ZygoteFailed {
                zygote: key,
                fault: ZygoteFault::Unfit,
            });
        }
        if let Err(why) = self.try_start_zygote(key, node, parent) {
            log::error!(event = "zygote-failed"; "no zygote: {why}");
            self.stats.count(Counted::ZygoteFailures);
            self.told.push_back(Event::ZygoteFailed {
                zygote: key,
                fault: ZygoteFault::Refused,
            });
        }
    }

    fn try_start_zygote(
        &mut self,
        key: ZygoteKey,
        node: NodeId,
        parent: Option<ZygoteKey>,
    ) -> Result<(), String> {
        if self.engine.tree().len() != self.nests.labels.len() {
            self.nests.name_nodes(self.engine.tree());
        }
        let id = Owner::Zygote.token(key).0;
        let log = self.outputs.zygotes();
        let text = |error: crate::host::sandboxes::SandboxError| error.to_string();
        let own = &self.engine.tree().node(node).packages;
        let (view, names) = self.depot.outfit(self.engine.holds(node), own)?;
        let view = view.as_deref();
        let (family, mut zygote) = match parent {
            None => self.sandboxes.start_zygote(id, log, view).map_err(text)?,
            Some(parent) => {
                let nest = self.nests.get_mut(parent).ok_or("its parent is gone")?;
                let family = nest.family;
                let child = self
                    .sandboxes
                    .start_child(family, &mut nest.zygote, id, log, view);
                (family, child.map_err(text)?)
            }
        };
        let modules = TextList::collect(names.iter().map(String::as_bytes))
            .map_err(|error| error.to_string())?;
        let paths = TextList::collect([PACKAGES]).expect("a path without NUL");
        let asked = zygote.import(&modules, &paths);
        let control = zygote
            .control()
            .try_clone_to_owned()
            .map_err(|error| error.to_string())?;
        let control = self.io.add(control, Owner::Zygote.token(key)).ok();
        if let Some(control) = control {
            self.io.watch(control, Interest::Readable);
        }
        let nest = Nest {
            family,
            zygote,
            node,
            started: self.now,
            control,
            exit: None,
            is_ready: false,
            is_measured: false,
            evicted: None,
            is_doomed: asked.is_err() || control.is_none(),
            fault: asked.is_err().then_some(ZygoteFault::Refused),
        };
        let inserted = self.nests.table.insert(key.alike(), nest);
        assert!(
            inserted.is_ok(),
            "the engine names no more zygotes than it may"
        );
        self.watch_zygote(key);
        Ok(())
    }

    fn watch_zygote(&mut self, key: ZygoteKey) {
        let Some(nest) = self.nests.get_mut(key) else {
            return;
        };
        let Some(pidfd) = nest.zygote.pidfd() else {
            return;
        };
        let Ok(pidfd) = pidfd.try_clone_to_owned() else {
            return;
        };
        if let Ok(handle) = self.io.add(pidfd, Owner::ZygoteExit.token(key)) {
            self.io.watch(handle, Interest::Readable);
            nest.exit = Some(handle);
        }
        if nest.is_doomed {
            self.kill_zygote(key);
        }
    }

    pub(super) fn kill_zygote(&mut self, key: ZygoteKey) {
        if let Some(nest) = self.nests.get_mut(key) {
            nest.is_doomed = true;
            if let Err(error) = nest.zygote.kill() {
                log::error!("a zygote could not be killed: {error}");
            }
        }
    }

    /// It has something to say.
    pub(super) fn zygote_speaks(&mut self, key: ZygoteKey) {
        let mut events = Vec::new();
        let Some(nest) = self.nests.get_mut(key) else {
            return;
        };
        nest.zygote.on_readable(&mut |event| events.push(event));
        // It took something off its socket, so there may be room for what waits.
        let mut is_broken = nest.zygote.has_unsent() && nest.zygote.on_writable().is_err();
        for event in events {
            is_broken |= !self.zygote_said(key, event);
        }
        let Some(nest) = self.nests.get_mut(key) else {
            return;
        };
        if is_broken {
            self.kill_zygote(key);
        } else if let Some(control) = nest.control {
            self.io.watch(control, Interest::Readable);
        }
    }

    /// False: it is not to be listened to any more.
    fn zygote_said(&mut self, key: ZygoteKey, event: ZygoteEvent) -> bool {
        match event {
            ZygoteEvent::Ready {
                resident_kb,
                threads,
                modules,
            } => self.zygote_ready(key, resident_kb, threads, &modules),
            ZygoteEvent::ImportFailed { module, text } => {
                log::warn!(
                    event = "zygote-import-failed";
                    "a zygote could not import {module}: {}", text.trim_end()
                );
                if let Some(nest) = self.nests.get_mut(key) {
                    nest.fault = Some(ZygoteFault::ImportFailed);
                }
                false
            }
            ZygoteEvent::Forked { id, pid } => self.forked_by(key, id, pid),
            ZygoteEvent::ForkFailed { id, stage, errno } => {
                self.fork_failed_by(key, id, stage, errno);
                true
            }
            ZygoteEvent::HungUp => false,
            ZygoteEvent::Broken { why } => {
                log::warn!(event = "protocol-broken"; "a zygote broke the protocol: {why}");
                false
            }
        }
    }

    fn zygote_ready(
        &mut self,
        key: ZygoteKey,
        resident_kb: u64,
        threads: u32,
        modules: &[(String, u64)],
    ) -> bool {
        let Some(nest) = self.nests.get_mut(key) else {
            return true;
        };
        let took = self.now.since(nest.started);
        if threads > 1 {
            log::warn!(
                event = "zygote-has-threads";
                "a zygote of node {} has {threads} threads after its imports and cannot fork: its \
                 functions start from its parent", nest.node.index()
            );
            nest.fault = Some(ZygoteFault::HasThreads);
            return false;
        }
        nest.is_ready = true;
        let node = nest.node;
        self.stats.record(Timed::Zygote, took);
        for (module, us) in modules {
            log::debug!("imported {module} in {us} us");
        }
        log::debug!(
            "a zygote of node {} is ready: {resident_kb} KB",
            node.index()
        );
        self.tell(Event::ZygoteReady { zygote: key });
        self.measure_zygote_soon(key);
        if self.engine.tree().node(node).parent.is_none() {
            // New functions begin here; other nodes are to show first that they are used.
            self.stand_by_soon(key);
        }
        true
    }

    /// It has been used.
    pub(super) fn stand_by_soon(&mut self, key: ZygoteKey) {
        if self.config.pool.standbys > 0 && !self.nests.wanting.contains(&key) {
            self.nests.wanting.push(key);
        }
    }

    /// Has processes forked ahead, while that takes nothing from calls that are being started: the
    /// machine's processors are worth more to them.
    pub(super) fn stand_by(&mut self) {
        if self.nests.wanting.is_empty() || self.lines.young >= self.origin.machine.cpus as usize {
            return;
        }
        let wanted = self.config.pool.standbys as usize;
        for key in core::mem::take(&mut self.nests.wanting) {
            let id = Owner::Standby.token(key).0;
            while let Some(nest) = self.nests.get_mut(key)
                && nest.is_ready
                && !nest.is_doomed
                && nest.zygote.standbys() < wanted
            {
                let asked = self.sandboxes.stand_by(nest.family, &mut nest.zygote, id);
                if let Err(error) = asked {
                    log::debug!("no process stands by: {error}");
                    break;
                }
            }
        }
    }

    /// False: the zygote lied about a process.
    fn forked_by(&mut self, zygote: ZygoteKey, id: u64, pid: i32) -> bool {
        let (owner, key) = Owner::of::<()>(Token(id));
        match owner {
            Owner::Instance => return self.instance_forked(key.alike(), pid),
            Owner::Standby => {
                return self.nests.get_mut(zygote).is_none_or(|nest| {
                    let (family, zygote) = (nest.family, &mut nest.zygote);
                    self.sandboxes.standby_born(family, zygote, pid).is_ok()
                });
            }
            _ => {}
        }
        let child: ZygoteKey = key.alike();
        let Some(nest) = self.nests.get_mut(child) else {
            return true;
        };
        if self.sandboxes.zygote_born(&mut nest.zygote, pid).is_err() {
            return false;
        }
        self.watch_zygote(child);
        true
    }

    fn fork_failed_by(&mut self, zygote: ZygoteKey, id: u64, stage: ForkStage, errno: i32) {
        let why = std::io::Error::from_raw_os_error(errno);
        log::warn!(event = "fork-failed"; "a fork failed ({stage:?}): {why}");
        let (owner, key) = Owner::of::<()>(Token(id));
        let fault = match stage {
            ForkStage::Threads => ForkFault::HasThreads,
            ForkStage::Request | ForkStage::Clone => ForkFault::Refused,
        };
        match owner {
            Owner::Instance => self.instance_stillborn(key.alike(), fault),
            Owner::Standby => {
                if let Some(nest) = self.nests.get_mut(zygote) {
                    self.sandboxes.standby_failed(nest.family, &mut nest.zygote);
                }
            }
            _ => self.zygote_stillborn(key.alike()),
        }
    }

    fn zygote_stillborn(&mut self, key: ZygoteKey) {
        if let Some(nest) = self.nests.get_mut(key) {
            nest.zygote.stillborn();
            self.bury_zygote(key);
            self.tell(Event::ZygoteFailed {
                zygote: key,
                fault: ZygoteFault::Refused,
            });
        }
    }

    /// Its process may have ended.
    pub(super) fn zygote_exit_seen(&mut self, key: ZygoteKey) {
        let Some(nest) = self.nests.get_mut(key) else {
            return;
        };
        let cause = match nest.zygote.ended() {
            Ok(Some(cause)) => cause,
            Ok(None) => {
                if let Some(exit) = nest.exit {
                    self.io.watch(exit, Interest::Readable);
                }
                return;
            }
            Err(error) => return log::error!("a zygote cannot be waited for: {error}"),
        };
        // Its last words: answers to forks that lived.
        let mut events = Vec::new();
        while nest.zygote.on_readable(&mut |event| events.push(event)) {}
        for event in events {
            let _ = self.zygote_said(key, event);
        }
        self.zygote_ended(key, exit_of(cause));
    }

    fn zygote_ended(&mut self, key: ZygoteKey, exit: crate::engine::Exit) {
        let Some(nest) = self.nests.get_mut(key) else {
            return;
        };
        let lost: Vec<u64> = nest.zygote.under_way().collect();
        let was_ready = nest.is_ready;
        let fault = nest.fault.unwrap_or(ZygoteFault::Died(exit));
        if !nest.is_doomed {
            self.stats.count(Counted::ZygoteFailures);
        }
        self.bury_zygote(key);
        let event = if was_ready {
            Event::ZygoteExited { zygote: key, exit }
        } else {
            Event::ZygoteFailed { zygote: key, fault }
        };
        self.tell(event);
        for id in lost {
            let (owner, key): (Owner, Key<()>) = Owner::of(Token(id));
            match owner {
                Owner::Instance => {
                    let instance: InstanceKey = key.alike();
                    self.instance_lost(instance);
                }
                // Buried with it.
                Owner::Standby => {}
                _ => self.zygote_stillborn(key.alike()),
            }
        }
    }

    fn bury_zygote(&mut self, key: ZygoteKey) {
        if let Some(nest) = self.nests.table.remove(key.alike()) {
            for handle in [nest.control, nest.exit].into_iter().flatten() {
                self.io.close(handle);
            }
            if let Some(chosen) = nest.evicted {
                self.stats.record(Timed::Evict, self.now.since(chosen));
            }
            self.sandboxes.bury_zygote(nest.family, nest.zygote);
        }
    }
}
