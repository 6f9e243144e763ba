//! What the engine tells people, as lines of the log.
//!
//! What an operator should act on is a warning, what changes the shape of things is information;
//! what happens with every start, and why each victim was chosen, is for `[log] level = "debug"`.

use super::stats::{Counted, Timed};
use super::worker::Worker;
use crate::engine::{FunctionKey, Need, Note, Sandbox, ZygoteFault};
use std::rc::Rc;

impl Worker {
    pub(super) fn note(&mut self, note: Note) {
        match note {
            Note::ZygoteFailed {
                node, fault, retry, ..
            } => {
                let name = self.nests.label(node);
                let again = match retry {
                    Some(after) => {
                        format!("tried again in {} ms at the earliest", after.as_millis())
                    }
                    None => "not tried again before the tree changes".to_owned(),
                };
                log::warn!(
                    event = "node-left-out", node = &*name;
                    "no zygote of {name}: {}; its functions start from an ancestor ({again})",
                    match fault {
                        ZygoteFault::Unfit => self.why_left_out(node),
                        fault => fault_words(fault),
                    }
                );
            }
            Note::Replicated {
                node,
                replicas,
                utilisation,
                ..
            } => {
                let (name, busy) = (self.nests.label(node), utilisation * 100.0);
                log::info!(
                    event = "node-replicated", node = &*name;
                    "{name} forks {busy:.0} % of the time: it gets zygote number {replicas}"
                );
            }
            Note::NodeAdded { node, parent } => {
                // The tree has grown: labels are made anew.
                self.nests.name_nodes(self.engine.tree());
                let (name, parent) = (self.nests.label(node), self.nests.label(parent));
                log::info!(
                    event = "node-added", node = &*name;
                    "a node for {name} below {parent}: functions asked for it in vain"
                );
            }
            Note::Evicted {
                sandbox,
                function,
                need,
                worth,
                memory,
                idle,
                ..
            } => {
                self.chosen_to_go(sandbox);
                let what = self.sandbox_name(sandbox, function);
                log::debug!(
                    "evicted {what}: idle for {} ms, {:.1} MB, worth {worth:.3}, for {}",
                    idle.as_millis(),
                    memory.as_mb(),
                    self.need_words(need)
                );
            }
            other => {
                self.count_note(&other);
                log::debug!("{other:?}");
            }
        }
    }

    fn count_note(&mut self, note: &Note) {
        match note {
            Note::CallRetried { .. } => self.stats.count(Counted::Retries),
            Note::ZygoteAwaited { .. } => self.stats.count(Counted::ZygoteWaits),
            Note::Installing { .. } => self.stats.count(Counted::Installs),
            Note::Installed { took, .. } => self.stats.record(Timed::Install, *took),
            _ => {}
        }
    }

    fn chosen_to_go(&mut self, sandbox: Sandbox) {
        self.stats.count(Counted::Evictions);
        let evicted = match sandbox {
            Sandbox::Instance(key) => self.lines.get_mut(key).map(|line| &mut line.evicted),
            Sandbox::Zygote(key) => self.nests.get_mut(key).map(|nest| &mut nest.evicted),
        };
        if let Some(evicted) = evicted {
            *evicted = Some(self.now);
        }
    }

    fn function_name(&self, function: FunctionKey) -> String {
        let known = self.functions.get(function);
        known.map_or_else(
            || "a removed function".to_owned(),
            |known| known.name.to_string(),
        )
    }

    fn sandbox_name(&self, sandbox: Sandbox, function: Option<FunctionKey>) -> String {
        match (sandbox, function) {
            (Sandbox::Instance(key), Some(function)) => {
                format!("instance {key} of {}", self.function_name(function))
            }
            (Sandbox::Instance(key), None) => format!("instance {key}"),
            (Sandbox::Zygote(key), _) => format!("zygote {key} of {}", self.zygote_label(key)),
        }
    }

    fn zygote_label(&self, key: crate::engine::ZygoteKey) -> Rc<str> {
        let node = self.nests.get(key).map(|nest| nest.node);
        node.map_or_else(
            || "a node that is gone".into(),
            |node| self.nests.label(node),
        )
    }

    fn need_words(&self, need: Need) -> String {
        match need {
            Need::Start(function) => format!("a start of {}", self.function_name(function)),
            Need::Zygote(node) => format!("a zygote of {}", self.nests.label(node)),
            Need::Goal => "the part of the pool that is kept free".to_owned(),
            Need::Pressure => "a machine that is short of memory".to_owned(),
        }
    }
}

fn fault_words(fault: ZygoteFault) -> String {
    match fault {
        ZygoteFault::ImportFailed => "an import raised".to_owned(),
        ZygoteFault::HasThreads => "an import started threads".to_owned(),
        ZygoteFault::Died(exit) => format!("it died before it was ready ({exit:?})"),
        ZygoteFault::Refused => "it could not be set up".to_owned(),
        ZygoteFault::Unfit => "its packages are not for zygotes".to_owned(),
    }
}
