//! An adversary drives the engine: everything that is allowed to happen happens, in any order.
//!
//! It keeps the engine's promises in a book of its own (each call ends once, each sandbox asked for
//! is accounted for) and sweeps the invariants after every event. At the end it stops harming and
//! everything must drain. `OLWORKER_SEEDS=1000` runs that many seeds, `OLWORKER_SEED=7` only one,
//! `OLWORKER_EVENTS=50000` makes them longer.

use olworker::base::{Bytes, Duration, Key, Limits, Package, PackageSet, Random, Time};
use olworker::engine::*;
use olworker::policy::{Evict, Lookup, NodeId, Scale, Tree, Weights};
use std::collections::{BTreeMap, BTreeSet};

const SEEDS: u64 = 256;
const EVENTS: u64 = 10_000;
/// Found once, fixed, and kept.
const REGRESSIONS: &[u64] = &[];

/// What the outside knows of an instance.
#[derive(Debug, Clone, Default)]
struct Sandbox {
    forked: bool,
    call: Option<CallKey>,
    seen: bool,
    told_given: bool,
    killed: bool,
}

#[derive(Debug, Clone, Default)]
struct Zygot {
    ready: bool,
    killed: bool,
}

struct Adversary {
    random: Random,
    engine: Engine,
    now: Time,
    limits: Limits,
    calls: BTreeMap<CallKey, bool>,
    call_generations: Vec<u32>,
    functions: BTreeMap<FunctionKey, Option<u32>>,
    function_generations: Vec<u32>,
    instances: BTreeMap<InstanceKey, Sandbox>,
    zygotes: BTreeMap<ZygoteKey, Zygot>,
    installs: BTreeSet<Wanted>,
    past_instances: Vec<InstanceKey>,
    generation: u32,
    drained: bool,
    arrived: u64,
    ended: u64,
    harm: bool,
}

impl Adversary {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let limits = Limits::TINY;
        let params = any_params(&mut random);
        Self {
            engine: Engine::new(limits, params, seed),
            random,
            now: Time::from_millis(1),
            limits,
            calls: BTreeMap::new(),
            call_generations: vec![0; limits.calls as usize],
            functions: BTreeMap::new(),
            function_generations: vec![0; limits.functions as usize],
            instances: BTreeMap::new(),
            zygotes: BTreeMap::new(),
            installs: BTreeSet::new(),
            past_instances: Vec::new(),
            generation: 0,
            drained: false,
            arrived: 0,
            ended: 0,
            harm: true,
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        Some(from[self.random.below(from.len() as u64) as usize])
    }

    fn tell(&mut self, event: Event) {
        let effects: Vec<Effect> = self.engine.handle(event, self.now).collect();
        self.engine.check_invariants();
        for effect in effects {
            self.obey(effect);
        }
    }

    fn expire(&mut self) {
        let effects: Vec<Effect> = self.engine.expire(self.now).collect();
        self.engine.check_invariants();
        for effect in effects {
            self.obey(effect);
        }
        if let Some(next) = self.engine.next_deadline() {
            assert!(next > self.now, "what was due at {next:?} is still due");
        }
    }

    /// The engine asked for something: was it allowed to?
    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Fork {
                instance,
                function,
                version,
                origin,
            } => {
                assert_eq!(
                    self.functions[&function],
                    Some(version),
                    "forks the newest version"
                );
                if let Origin::Zygote { zygote, .. } = origin {
                    let from = &self.zygotes[&zygote];
                    assert!(from.ready && !from.killed, "forks from who is live");
                }
                assert!(
                    self.instances
                        .insert(instance, Sandbox::default())
                        .is_none()
                );
                assert!(!self.drained);
            }
            Effect::Relay { call, instance, .. } => {
                assert!(self.calls.contains_key(&call), "relays a call that lives");
                let sandbox = self.instances.get_mut(&instance).expect("to who exists");
                assert!(
                    sandbox.call.is_none() && !sandbox.killed,
                    "one call at a time"
                );
                sandbox.call = Some(call);
                sandbox.seen = sandbox.told_given;
            }
            Effect::Refuse { call, .. } => self.end_call(call, "refused"),
            Effect::Abandon { call } => {
                assert!(self.calls[&call], "only who hung up is abandoned");
                self.end_call(call, "abandoned");
            }
            Effect::Kill { instance } => {
                self.instances
                    .get_mut(&instance)
                    .expect("kills who exists")
                    .killed = true;
            }
            Effect::StartZygote {
                zygote,
                parent,
                node,
                ..
            } => {
                assert!(self.engine.tree().get(node).is_some());
                if let Some(parent) = parent {
                    assert!(self.zygotes[&parent].ready && !self.zygotes[&parent].killed);
                }
                assert!(self.zygotes.insert(zygote, Zygot::default()).is_none());
            }
            Effect::KillZygote { zygote } => {
                self.zygotes
                    .get_mut(&zygote)
                    .expect("kills who exists")
                    .killed = true;
            }
            Effect::Install { wanted } => {
                self.installs.insert(wanted);
            }
            Effect::CancelInstall { wanted } => {
                // It may go on, or not.
                if self.random.chance(0.5) {
                    self.installs.remove(&wanted);
                }
            }
            Effect::RetireFunction { function } => {
                assert_eq!(
                    self.functions.remove(&function),
                    Some(None),
                    "was removed before"
                );
            }
            Effect::Drained => {
                assert!(self.instances.is_empty() && self.zygotes.is_empty());
                assert!(self.calls.is_empty() && !self.drained);
                self.drained = true;
            }
            Effect::Freeze { .. }
            | Effect::Thaw { .. }
            | Effect::Reclaim { .. }
            | Effect::Note(_) => {}
        }
    }

    fn end_call(&mut self, call: CallKey, how: &str) {
        assert!(
            self.calls.remove(&call).is_some(),
            "{call} was {how}, and had ended"
        );
        self.call_generations[call.index()] += 1;
        self.ended += 1;
        for sandbox in self.instances.values_mut() {
            if sandbox.call == Some(call) {
                sandbox.call = None;
            }
        }
    }

    fn step(&mut self) {
        let jump = match self.random.below(40) {
            0 => self.random.below(90_000),
            1..=4 => self.random.below(3_000),
            _ => self.random.below(8),
        };
        self.now = self.now + Duration::from_millis(jump);
        if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.expire();
        }
        match self.random.below(100) {
            35..=64 => self.instance_event(),
            65..=74 => self.zygote_event(),
            75..=79 => self.install_event(),
            80..=84 => self.hang_up(),
            85..=90 => self.sample(),
            91..=93 => self.function_event(),
            94 => self.stale_event(),
            95 => {
                let wanted = Bytes::from_mb(self.random.below(200));
                self.tell(Event::PressureRose { wanted });
            }
            96 if self.random.chance(0.1) => self.tree_event(),
            97 if self.random.chance(0.1) => {
                let params = Box::new(any_params(&mut self.random));
                self.tell(Event::ConfigChanged { params });
            }
            _ => self.call(),
        }
    }

    fn call(&mut self) {
        let free: Vec<usize> = (0..self.limits.calls as usize)
            .filter(|index| !self.calls.keys().any(|call| call.index() == *index))
            .collect();
        let Some(index) = self.pick(&free) else {
            return;
        };
        let functions: Vec<FunctionKey> = self.functions.keys().copied().collect();
        let function = match self.pick(&functions) {
            Some(function) if self.random.chance(0.98) => function,
            _ => Key::new(
                self.random.below(u64::from(self.limits.functions)) as u32,
                9_999,
            ),
        };
        let call = Key::new(index as u32, self.call_generations[index]);
        let burst = self.random.chance(0.1);
        self.calls.insert(call, false);
        self.arrived += 1;
        self.tell(Event::CallArrived { call, function });
        if burst && self.random.chance(0.8) {
            self.call();
        }
    }

    fn instance_event(&mut self) {
        let keys: Vec<InstanceKey> = self.instances.keys().copied().collect();
        let Some(key) = self.pick(&keys) else { return };
        let sandbox = self.instances[&key].clone();
        if sandbox.killed && self.random.chance(0.7) {
            return self.end_instance(key);
        }
        match self.random.below(10) {
            0..=2 if !sandbox.forked => {
                self.instances.get_mut(&key).unwrap().forked = true;
                self.tell(Event::Forked { instance: key });
            }
            3 if !sandbox.told_given && sandbox.call.is_some() => {
                let known = self.instances.get_mut(&key).unwrap();
                known.told_given = true;
                known.seen = true;
                self.tell(Event::Given { instance: key });
            }
            4..=8 => {
                if let Some(call) = sandbox.call {
                    self.answer(key, call);
                }
            }
            _ if self.harm && self.random.chance(0.2) => self.end_instance(key),
            _ => {}
        }
    }

    fn answer(&mut self, key: InstanceKey, call: CallKey) {
        let known = self.instances.get_mut(&key).unwrap();
        known.call = None;
        known.told_given = true;
        known.seen = true;
        self.calls.remove(&call);
        self.call_generations[call.index()] += 1;
        self.ended += 1;
        let verdict = match self.random.below(12) {
            0 => Verdict::Unfit,
            _ => Verdict::Fit,
        };
        self.tell(Event::Answered {
            instance: key,
            call,
            verdict,
        });
    }

    fn end_instance(&mut self, key: InstanceKey) {
        let sandbox = self.instances.remove(&key).unwrap();
        self.past_instances.push(key);
        if !sandbox.forked && !sandbox.seen && self.random.chance(0.7) {
            let faults = [
                ForkFault::HasThreads,
                ForkFault::Refused,
                ForkFault::Lost,
                ForkFault::Unprepared,
            ];
            let fault = self.pick(&faults).unwrap();
            return self.tell(Event::ForkFailed {
                instance: key,
                fault,
            });
        }
        let seen = sandbox.call.is_some() && (sandbox.seen || self.random.chance(0.3));
        let exit = self.exit();
        self.tell(Event::InstanceExited {
            instance: key,
            seen,
            exit,
        });
    }

    fn exit(&mut self) -> Exit {
        let exits = [Exit::Status(1), Exit::Signal(9), Exit::OutOfMemory];
        self.pick(&exits).unwrap()
    }

    fn zygote_event(&mut self) {
        let keys: Vec<ZygoteKey> = self.zygotes.keys().copied().collect();
        let Some(key) = self.pick(&keys) else { return };
        let known = self.zygotes[&key].clone();
        let exit = self.exit();
        if known.killed {
            self.zygotes.remove(&key);
            let event = if !known.ready && self.random.chance(0.5) {
                Event::ZygoteFailed {
                    zygote: key,
                    fault: ZygoteFault::Died(exit),
                }
            } else {
                Event::ZygoteExited { zygote: key, exit }
            };
            return self.tell(event);
        }
        match self.random.below(10) {
            0..=6 if !known.ready => {
                self.zygotes.get_mut(&key).unwrap().ready = true;
                self.tell(Event::ZygoteReady { zygote: key });
            }
            7 if !known.ready && self.harm => {
                self.zygotes.remove(&key);
                let faults = [
                    ZygoteFault::ImportFailed,
                    ZygoteFault::HasThreads,
                    ZygoteFault::Refused,
                    ZygoteFault::Died(exit),
                ];
                let fault = self.pick(&faults).unwrap();
                self.tell(Event::ZygoteFailed { zygote: key, fault });
            }
            8 if self.harm => {
                self.zygotes.remove(&key);
                self.tell(Event::ZygoteExited { zygote: key, exit });
            }
            _ => {}
        }
    }

    fn install_event(&mut self) {
        let all: Vec<Wanted> = self.installs.iter().copied().collect();
        let Some(wanted) = self.pick(&all) else {
            return;
        };
        self.installs.remove(&wanted);
        let event = if self.harm && self.random.chance(0.3) {
            Event::InstallFailed { wanted }
        } else {
            Event::InstallFinished {
                wanted,
                packages: Box::new(any_set(&mut self.random)),
            }
        };
        self.tell(event);
    }

    fn hang_up(&mut self) {
        let calls: Vec<CallKey> = self.calls.keys().copied().collect();
        let Some(call) = self.pick(&calls) else {
            return;
        };
        if self.calls.insert(call, true) == Some(false) {
            self.tell(Event::CallHungUp { call });
        }
    }

    fn sample(&mut self) {
        let memory = Bytes::from_mb(self.random.below(150));
        let instances: Vec<InstanceKey> = self.instances.keys().copied().collect();
        let zygotes: Vec<ZygoteKey> = self.zygotes.keys().copied().collect();
        let sandbox = match self.random.below(3) {
            0 => self.pick(&zygotes).map(olworker::engine::Sandbox::Zygote),
            _ => self
                .pick(&instances)
                .map(olworker::engine::Sandbox::Instance),
        };
        let Some(sandbox) = sandbox else { return };
        let event = match self.random.below(4) {
            0 => Event::Frozen { sandbox },
            1 => Event::Thawed { sandbox },
            _ => Event::MemorySampled { sandbox, memory },
        };
        self.tell(event);
    }

    fn function_event(&mut self) {
        let known: Vec<FunctionKey> = self.functions.keys().copied().collect();
        let free: Vec<u32> = (0..self.limits.functions)
            .filter(|index| !known.iter().any(|key| key.index() == *index as usize))
            .collect();
        match self.pick(&free) {
            Some(index) if self.random.chance(0.7) => {
                let generation = &mut self.function_generations[index as usize];
                *generation += 1;
                let key = Key::new(index, *generation);
                self.functions.insert(key, Some(1));
                let settings = Box::new(any_settings(&mut self.random));
                self.tell(Event::FunctionDeployed {
                    function: key,
                    version: 1,
                    settings,
                });
            }
            _ => {
                let Some(key) = self.pick(&known) else { return };
                let Some(version) = self.functions[&key] else {
                    return;
                };
                if self.random.chance(0.3) {
                    self.functions.insert(key, None);
                    self.tell(Event::FunctionRemoved { function: key });
                } else {
                    let version = version + 1;
                    self.functions.insert(key, Some(version));
                    let settings = Box::new(any_settings(&mut self.random));
                    self.tell(Event::FunctionDeployed {
                        function: key,
                        version,
                        settings,
                    });
                }
            }
        }
    }

    fn tree_event(&mut self) {
        self.generation += 1;
        let tree = Box::new(any_tree(&mut self.random, self.generation));
        self.tell(Event::TreeChanged { tree });
    }

    fn stale_event(&mut self) {
        let past = self.past_instances.clone();
        let Some(instance) = self.pick(&past) else {
            return;
        };
        let event = match self.random.below(4) {
            0 => Event::Forked { instance },
            1 => Event::ForkFailed {
                instance,
                fault: ForkFault::Lost,
            },
            2 => Event::Given { instance },
            _ => Event::InstanceExited {
                instance,
                seen: true,
                exit: Exit::Status(0),
            },
        };
        self.tell(event);
    }

    /// No more harm and no more calls: everything must come to its end.
    fn drain(&mut self) {
        self.harm = false;
        let accept = self.random.chance(0.3);
        let deadline = self.now + Duration::from_millis(self.random.below(60_000));
        self.tell(Event::DrainRequested { accept, deadline });
        for _ in 0..20_000 {
            if self.drained {
                break;
            }
            self.now = self.now + Duration::from_millis(self.random.below(40));
            if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
                self.expire();
            }
            match self.random.below(3) {
                0 => self.zygote_event(),
                1 => self.instance_event(),
                _ => self.install_event(),
            }
        }
        assert!(self.drained, "it never drained: {:?}", self.engine.pool());
        assert_eq!(self.arrived, self.ended, "each call ended once");
        assert_eq!(
            self.engine.pool().memory_held,
            Bytes::ZERO,
            "all memory came back"
        );
    }
}

fn any_params(random: &mut Random) -> Params {
    let maybe = |random: &mut Random, millis: u64| {
        random
            .chance(0.5)
            .then(|| Duration::from_millis(random.below(millis)))
    };
    let evict = Evict::ALL[random.below(Evict::ALL.len() as u64) as usize];
    Params {
        memory: Bytes::from_mb(60 + random.below(400)),
        descriptors: 7 * (2 + random.below(30) as u32),
        processes: 2 * (2 + random.below(30) as u32),
        free_percent: random.below(40) as u32,
        freeze_after: maybe(random, 2_000),
        install: maybe(random, 20_000),
        surplus: maybe(random, 20_000),
        trees: random.below(3) as u32,
        warmup: random.chance(0.3),
        dynamic_zygotes: random.chance(0.5),
        zygote: ZygoteSettings {
            memory: Bytes::from_mb(130),
            forks_max: random.chance(0.3).then(|| 1 + random.below(20)),
            age_max: maybe(random, 60_000),
        },
        evict,
        scale: Scale::ALL[random.below(2) as usize],
        lookup: Lookup::ALL[random.below(2) as usize],
        ..Params::new(Bytes::ZERO)
    }
}

const NAMES: [&str; 5] = ["numpy", "pandas", "six", "flask", "scipy"];

fn any_set(random: &mut Random) -> PackageSet {
    PackageSet::new(
        NAMES
            .iter()
            .filter(|_| random.chance(0.5))
            .map(|name| Package::parse(name))
            .collect(),
    )
}

fn any_settings(random: &mut Random) -> FunctionSettings {
    let packages = if random.chance(0.3) {
        Packages::Wanted
    } else {
        Packages::Known(any_set(random))
    };
    FunctionSettings {
        memory: Bytes::from_mb(8 + random.below(140)),
        runtime: Duration::from_millis(1 + random.below(5_000)),
        instances: random.chance(0.5).then(|| 1 + random.below(6) as u32),
        queue: random.below(12) as u32,
        on_hangup: if random.chance(0.5) {
            OnHangup::Finish
        } else {
            OnHangup::Kill
        },
        reuse: random.chance(0.9),
        zygote: random.chance(0.9),
        packages,
    }
}

fn any_tree(random: &mut Random, generation: u32) -> ZygoteTree {
    let mut tree = Tree::new();
    for _ in 0..random.below(6) {
        let parent = NodeId(random.below(tree.len() as u64) as u32);
        let name = NAMES[random.below(5) as usize];
        tree.add(parent, vec![Package::parse(name)]).unwrap();
    }
    let installed = (0..tree.len() as u32)
        .map(NodeId)
        .filter(|_| random.chance(0.5));
    ZygoteTree {
        generation,
        installed: installed.collect(),
        stocked: Vec::new(),
        tree,
        weights: Weights::new(),
    }
}

fn run(seed: u64, events: u64) {
    let mut adversary = Adversary::new(seed);
    adversary.tree_event();
    for _ in 0..events {
        adversary.step();
    }
    adversary.drain();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_the_world_does_breaks_the_engine() {
    let events = number("OLWORKER_EVENTS").unwrap_or(EVENTS);
    if let Some(seed) = number("OLWORKER_SEED") {
        return run(seed, events);
    }
    let seeds = number("OLWORKER_SEEDS").unwrap_or(SEEDS);
    let first = number("OLWORKER_FIRST_SEED").unwrap_or(0);
    for seed in REGRESSIONS.iter().copied().chain(first..first + seeds) {
        let result = std::panic::catch_unwind(|| run(seed, events));
        assert!(
            result.is_ok(),
            "seed {seed} (OLWORKER_SEED={seed} runs it alone)"
        );
    }
}
