//! A decision of the engine as one line: for people, and as JSON for programs.

use super::cost::FunctionCost;
use crate::base::Time;
use crate::engine::{FunctionKey, Need, Note, Origin, Sandbox, Wanted};
use crate::policy::Tree;
use crate::policy::tree::NodeId;
use serde_json::{Value, json};

/// Who is called what.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    pub functions: &'a [FunctionCost],
    pub tree: &'a Tree,
}

impl Names<'_> {
    fn function(&self, key: FunctionKey) -> &str {
        let known = self.functions.get(key.index());
        known.map_or("?", |function| function.name.as_str())
    }

    fn node(&self, id: NodeId) -> String {
        let Some(node) = self.tree.get(id).filter(|node| node.parent.is_some()) else {
            return "ROOT".to_owned();
        };
        let names: Vec<String> = node.packages.iter().map(ToString::to_string).collect();
        names.join("+")
    }

    fn wanted(&self, wanted: Wanted) -> String {
        match wanted {
            Wanted::Function { function, version } => {
                format!("{} version {version}", self.function(function))
            }
            Wanted::Node { node, .. } => format!("node {}", self.node(node)),
        }
    }

    /// The note as a sentence, behind its time.
    pub fn line(&self, now: Time, note: &Note) -> String {
        format!("{:.6}  {}", now.as_secs_f64(), self.sentence(note))
    }

    /// The note with its time, as an object.
    pub fn object(&self, now: Time, note: &Note) -> Value {
        json!({ "t": now.as_secs_f64(), "explain": self.sentence(note), "note": note })
    }

    fn sentence(&self, note: &Note) -> String {
        match *note {
            Note::Scaled {
                function,
                instance,
                origin,
                waiting,
                alive,
                why,
            } => format!(
                "start {} instance {instance} from {}: {why:?}, {waiting} waiting, {alive} alive",
                self.function(function),
                self.origin(origin),
            ),
            Note::Warmed {
                function,
                instance,
                cold,
            } => format!(
                "ready {} instance {instance} after {cold:?}",
                self.function(function)
            ),
            Note::ForkFailed {
                function,
                instance,
                fault,
            } => format!(
                "failed {} instance {instance}: {fault:?}",
                self.function(function)
            ),
            Note::InstanceEnded {
                function,
                instance,
                why,
            } => format!(
                "ended {} instance {instance}: {why:?}",
                self.function(function)
            ),
            Note::CallRetried { function, call } => {
                format!("retry {} call {call}", self.function(function))
            }
            Note::CallRefused {
                function,
                call,
                reason,
            } => format!(
                "refuse {} call {call}: {reason:?}",
                function.map_or("?", |function| self.function(function))
            ),
            Note::MemoryAwaited { function, memory } => {
                format!("wait {} for {memory}", self.function(function))
            }
            Note::Evicted { .. } => self.eviction(note),
            Note::FunctionDeployed { function, version } => {
                format!("deploy {} version {version}", self.function(function))
            }
            Note::FunctionRemoved { function } => format!("remove {}", self.function(function)),
            Note::Installing { wanted } => format!("install {}", self.wanted(wanted)),
            Note::Installed { wanted, took } => {
                format!("installed {} in {took:?}", self.wanted(wanted))
            }
            Note::InstallFailed { wanted } => format!("install failed {}", self.wanted(wanted)),
            Note::InstallTimedOut { wanted } => {
                format!("install timed out {}", self.wanted(wanted))
            }
            Note::Draining { calls, instances } => {
                format!("drain: {calls} calls, {instances} instances")
            }
            Note::Drained => "drained".to_owned(),
            Note::ZygoteAwaited { .. }
            | Note::ZygoteStarting { .. }
            | Note::ZygoteReady { .. }
            | Note::ZygoteFailed { .. }
            | Note::ZygoteEnded { .. }
            | Note::Replicated { .. }
            | Note::NodeAdded { .. } => self.of_zygote(note),
        }
    }

    fn of_zygote(&self, note: &Note) -> String {
        match *note {
            Note::ZygoteAwaited {
                function,
                node,
                expected,
            } => format!(
                "wait {} for a zygote of {} ({expected:?})",
                self.function(function),
                self.node(node)
            ),
            Note::ZygoteStarting {
                zygote,
                node,
                parent,
            } => format!(
                "start zygote {zygote} of {} from {}",
                self.node(node),
                parent.map_or_else(|| "nothing".to_owned(), |parent| self.node(parent))
            ),
            Note::ZygoteReady { zygote, node, took } => {
                format!(
                    "ready zygote {zygote} of {} after {took:?}",
                    self.node(node)
                )
            }
            Note::ZygoteFailed {
                zygote,
                node,
                fault,
                retry,
            } => {
                let again = match retry {
                    Some(wait) => format!("again after {wait:?}"),
                    None => "not again".to_owned(),
                };
                let node = self.node(node);
                format!("failed zygote {zygote} of {node}: {fault:?}, {again}")
            }
            Note::ZygoteEnded {
                zygote,
                node,
                why,
                forks,
            } => format!(
                "ended zygote {zygote} of {}: {why:?}, {forks} forks",
                self.node(node)
            ),
            Note::Replicated {
                zygote,
                node,
                replicas,
                utilisation,
            } => format!(
                "replicate {}: zygote {zygote} is one of {replicas}, forking {:.0} % of the time",
                self.node(node),
                utilisation * 100.0
            ),
            Note::NodeAdded { node, parent } => {
                format!("add node {} below {}", self.node(node), self.node(parent))
            }
            _ => unreachable!("the others are told elsewhere"),
        }
    }

    fn eviction(&self, note: &Note) -> String {
        let Note::Evicted {
            sandbox,
            function,
            node,
            need,
            worth,
            memory,
            idle,
        } = *note
        else {
            unreachable!("only evictions come here")
        };
        let who = match (sandbox, function, node) {
            (Sandbox::Instance(key), Some(function), _) => {
                format!("{} instance {key}", self.function(function))
            }
            (Sandbox::Zygote(key), _, Some(node)) => {
                format!("zygote {key} of {}", self.node(node))
            }
            _ => "?".to_owned(),
        };
        let what_for = match need {
            Need::Start(function) => format!("for a start of {}", self.function(function)),
            Need::Zygote(node) => format!("for a zygote of {}", self.node(node)),
            Need::Goal => "to keep the pool's part free".to_owned(),
            Need::Pressure => "because the machine is short".to_owned(),
        };
        format!("evict {who} ({memory}, idle {idle:?}) {what_for}: worth {worth:.3}, the least")
    }

    fn origin(&self, origin: Origin) -> String {
        match origin {
            Origin::Fresh => "nothing".to_owned(),
            Origin::Zygote { zygote, node } => format!("zygote {zygote} of {}", self.node(node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Bytes, Duration, Key};

    #[test]
    fn an_eviction_says_why() {
        let names = Names {
            functions: &[],
            tree: &Tree::new(),
        };
        let note = Note::Evicted {
            sandbox: Sandbox::Zygote(Key::new(3, 1)),
            function: None,
            node: Some(NodeId::ROOT),
            need: Need::Goal,
            worth: 1.5,
            memory: Bytes::from_mb(10),
            idle: Duration::from_secs(2),
        };
        assert_eq!(
            names.line(Time::from_millis(1_500), &note),
            "1.500000  evict zygote 3.1 of ROOT (10.0 MB, idle 2s) to keep the pool's part free: \
             worth 1.500, the least"
        );
    }
}
