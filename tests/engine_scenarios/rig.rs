//! A world of a few lines around the engine.

use olworker::base::{Bytes, Duration, Key, Limits, Package, PackageSet, Time};
use olworker::engine::*;
use olworker::policy::{NodeId, Tree, Weight, Weights};

/// An engine and a clock; effects are kept until somebody looks.
pub struct Rig {
    pub engine: Engine,
    pub now: Time,
    pub effects: Vec<Effect>,
    pub calls: u32,
}

impl Rig {
    pub fn new(params: Params) -> Self {
        Self::with(Limits::DEFAULT, params)
    }

    pub fn with(limits: Limits, params: Params) -> Self {
        Self {
            engine: Engine::new(limits, params, 0),
            now: Time::from_millis(1_000),
            effects: Vec::new(),
            calls: 0,
        }
    }

    pub fn tell(&mut self, event: Event) {
        let effects: Vec<Effect> = self.engine.handle(event, self.now).collect();
        self.engine.check_invariants();
        self.effects.extend(effects);
    }

    pub fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= until) {
            self.now = Time::max(self.now, at);
            let effects: Vec<Effect> = self.engine.expire(self.now).collect();
            self.engine.check_invariants();
            self.effects.extend(effects);
        }
        self.now = until;
    }

    pub fn deploy(&mut self, index: u32, settings: FunctionSettings) -> FunctionKey {
        let function = Key::new(index, 0);
        self.tell(Event::FunctionDeployed {
            function,
            version: 1,
            settings: Box::new(settings),
        });
        function
    }

    pub fn plant(&mut self, branches: &[(u32, &str)]) {
        let mut tree = Tree::new();
        let mut weights = Weights::new();
        for (parent, name) in branches {
            let package = Package::parse(name);
            let weight = Weight {
                import: Duration::from_millis(100),
                memory: Bytes::from_mb(20),
            };
            weights.insert(&package, weight);
            tree.add(NodeId(*parent), vec![package]).unwrap();
        }
        let installed = tree.iter().map(|(id, _)| id).collect();
        let tree = Box::new(ZygoteTree {
            generation: 1,
            tree,
            weights,
            installed,
            stocked: Vec::new(),
        });
        self.tell(Event::TreeChanged { tree });
    }

    pub fn call(&mut self, function: FunctionKey) -> CallKey {
        let call = Key::new(self.calls, 0);
        self.calls += 1;
        self.tell(Event::CallArrived { call, function });
        call
    }

    pub fn take<T, F: Fn(&Effect) -> Option<T>>(&mut self, wanted: F) -> Vec<T> {
        let taken = self.effects.iter().filter_map(&wanted).collect();
        self.effects.retain(|effect| wanted(effect).is_none());
        taken
    }

    pub fn forks(&mut self) -> Vec<(InstanceKey, Origin)> {
        self.take(|effect| match effect {
            Effect::Fork {
                instance, origin, ..
            } => Some((*instance, *origin)),
            _ => None,
        })
    }

    pub fn relays(&mut self) -> Vec<(CallKey, InstanceKey)> {
        self.take(|effect| match effect {
            Effect::Relay { call, instance, .. } => Some((*call, *instance)),
            _ => None,
        })
    }

    pub fn kills(&mut self) -> Vec<InstanceKey> {
        self.take(|effect| match effect {
            Effect::Kill { instance } => Some(*instance),
            _ => None,
        })
    }

    pub fn refusals(&mut self) -> Vec<(CallKey, Refusal)> {
        self.take(|effect| match effect {
            Effect::Refuse { call, reason, .. } => Some((*call, *reason)),
            _ => None,
        })
    }

    pub fn zygotes(&mut self) -> Vec<(ZygoteKey, NodeId, Option<ZygoteKey>)> {
        self.take(|effect| match effect {
            Effect::StartZygote {
                zygote,
                node,
                parent,
                ..
            } => Some((*zygote, *node, *parent)),
            _ => None,
        })
    }

    pub fn notes(&mut self) -> Vec<Note> {
        self.take(|effect| match effect {
            Effect::Note(note) => Some(*note),
            _ => None,
        })
    }

    pub fn exited(&mut self, instance: InstanceKey) {
        self.tell(Event::InstanceExited {
            instance,
            seen: false,
            exit: Exit::Signal(9),
        });
    }

    pub fn answered(&mut self, call: CallKey, instance: InstanceKey) {
        self.tell(Event::Answered {
            instance,
            call,
            verdict: Verdict::Fit,
        });
    }

    /// Starts an instance and has it answer: idle afterwards, holding so much.
    pub fn warm(&mut self, function: FunctionKey, megabytes: u64) -> InstanceKey {
        let call = self.call(function);
        let relays = self.relays();
        let (_, instance) = *relays.iter().find(|(relayed, _)| *relayed == call).unwrap();
        self.tell(Event::Forked { instance });
        self.tell(Event::Given { instance });
        self.answered(call, instance);
        self.tell(Event::MemorySampled {
            sandbox: Sandbox::Instance(instance),
            memory: Bytes::from_mb(megabytes),
        });
        self.forks();
        instance
    }

    /// Every zygote that was asked for is ready.
    pub fn ready_all(&mut self) -> Vec<(ZygoteKey, NodeId)> {
        let mut all = Vec::new();
        loop {
            let started = self.zygotes();
            if started.is_empty() {
                return all;
            }
            for (zygote, node, _) in started {
                self.tell(Event::ZygoteReady { zygote });
                all.push((zygote, node));
            }
        }
    }
}

pub fn params(megabytes: u64) -> Params {
    Params {
        trees: 0,
        free_percent: 0,
        ..Params::new(Bytes::from_mb(megabytes))
    }
}

pub fn settings() -> FunctionSettings {
    FunctionSettings::DEFAULT
}

pub fn with_packages(names: &[&str]) -> FunctionSettings {
    FunctionSettings {
        packages: Packages::Known(PackageSet::parse(names.iter().copied())),
        ..settings()
    }
}
