//! The made-up world: what happens next, and what becomes of what the engine asks for.
//!
//! ```text
//!  arrivals ---.
//!  happenings --+--> the earliest --> event --> engine --> effects --> happenings
//!  deadline ---'
//! ```

use super::cost::{Costs, FunctionCost, INTERPRETER};
use super::fault::Faults;
use super::report::Report;
use super::{Setup, Sweep};
use crate::base::{Bytes, Duration, Key, PackageSet, Random, Slab, Time};
use crate::engine::{
    CallKey, Effect, Engine, Event, Exit, ForkFault, FunctionKey, InstanceKey, Note, Origin,
    Recorder, Sandbox, Start, Verdict, Wanted, ZygoteFault, ZygoteKey,
};
use crate::policy::NodeId;
use crate::sim::trace::Arrival;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// The world begins a while after zero, so that clocks have room to jump back.
const BEGIN: Time = Time::from_millis(60_000);
/// Drains that take longer than this do not end at all.
const DRAIN_MAX: Duration = Duration::from_hours(24);

/// Something that will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// The process is there; the worker hears of it now, or later.
    Starts(InstanceKey, Hears),
    Forked(InstanceKey),
    ForkFails(InstanceKey, ForkFault),
    Given(InstanceKey),
    Answered(InstanceKey, CallKey),
    Exits(InstanceKey, Exit),
    Ready(ZygoteKey),
    ZygoteFails(ZygoteKey, ZygoteFault),
    ZygoteExits(ZygoteKey, Exit),
    Frozen(Sandbox),
    Thawed(Sandbox),
    Installed(Wanted, Ends),
    HangsUp(CallKey),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hears {
    AtOnce,
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ends {
    Well,
    Badly,
}

/// A call that has not ended.
#[derive(Debug, Clone, Copy)]
struct OpenCall {
    function: u32,
    arrived: Time,
    /// User code got it.
    given: Option<Time>,
    start: Start,
    hung_up: bool,
}

/// A sandbox of a function.
#[derive(Debug, Clone)]
struct Process {
    function: u32,
    /// What it shares: the packages of this node.
    node: Option<NodeId>,
    fresh: bool,
    /// It exists.
    up: bool,
    /// The worker knows.
    told: bool,
    /// Its code is loaded.
    loaded: bool,
    sampled: bool,
    frozen: bool,
    killed: bool,
    call: Option<CallKey>,
}

/// A zygote's sandbox.
#[derive(Debug, Clone, Copy)]
struct Parent {
    node: NodeId,
    memory: Bytes,
    /// It forks one after the other: the next no sooner than this.
    free_at: Time,
    ready: bool,
    killed: bool,
}

/// The world, the engine in it, and the book.
#[derive(Debug)]
pub struct World {
    engine: Engine,
    recorder: Option<Recorder>,
    functions: Vec<FunctionCost>,
    versions: Vec<u32>,
    costs: Costs,
    /// No harm is done without them.
    faults: Option<Faults>,
    random: Random,
    now: Time,
    heap: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    sequence: u64,
    calls: Slab<OpenCall>,
    processes: BTreeMap<InstanceKey, Process>,
    parents: BTreeMap<ZygoteKey, Parent>,
    installing: BTreeSet<Wanted>,
    sweep: Sweep,
    inputs: u64,
    explain: bool,
    notes: Vec<(Time, Note)>,
    effects: Vec<Effect>,
    report: Report,
    drained: bool,
}

impl World {
    /// A world in which everything is deployed and nothing has been called.
    pub fn new(setup: Setup) -> Self {
        let Setup {
            limits,
            params,
            seed,
            tree,
            functions,
            costs,
            faults,
            sweep,
            explain,
        } = setup;
        let report = Report::new(functions.len(), BEGIN);
        let mut world = Self {
            engine: Engine::new(limits, params, seed),
            recorder: None,
            versions: vec![1; functions.len()],
            functions,
            costs,
            faults,
            random: Random::new(seed ^ 0x5EED_0FA1_0BAD_CA5E),
            now: BEGIN,
            heap: BinaryHeap::new(),
            sequence: 0,
            calls: Slab::new(limits.calls as usize * 2),
            processes: BTreeMap::new(),
            parents: BTreeMap::new(),
            installing: BTreeSet::new(),
            sweep,
            inputs: 0,
            explain,
            notes: Vec::new(),
            effects: Vec::new(),
            report,
            drained: false,
        };
        if let Some(tree) = tree {
            let tree = Box::new(tree);
            world.tell(Event::TreeChanged { tree });
        }
        for index in 0..world.functions.len() as u32 {
            world.deploy(index);
        }
        world
    }

    /// Keeps the last events, so that they can be replayed.
    pub fn record(&mut self, events_max: usize) {
        self.recorder = Some(Recorder::new(&self.engine, events_max));
    }

    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the engine noted since the last time this was asked.
    pub fn take_notes(&mut self) -> Vec<(Time, Note)> {
        std::mem::take(&mut self.notes)
    }

    pub fn functions(&self) -> &[FunctionCost] {
        &self.functions
    }

    /// Plays these calls, in their order, and whatever happens until the last of them.
    pub fn play(&mut self, arrivals: &[Arrival]) {
        for arrival in arrivals {
            let at = BEGIN + Duration::from_nanos((arrival.t_ms * 1e6) as u64);
            self.run_until(at);
            self.arrive(arrival.function);
        }
    }

    /// No more calls and no more harm: lets everything come to its end, closes the book.
    pub fn finish(&mut self) -> Report {
        self.faults = None;
        let limit = self.now + DRAIN_MAX;
        while !self.calls.is_empty() && self.now < limit && self.step() {}
        self.report.close(&self.engine, self.now);
        let report = self.report.clone();
        let deadline = self.now + DRAIN_MAX;
        self.tell(Event::DrainRequested {
            accept: false,
            deadline,
        });
        while !self.drained && self.step() {}
        self.engine.check_invariants();
        assert!(self.drained, "it never drained: {:?}", self.engine.pool());
        assert!(self.calls.is_empty(), "every call has ended");
        assert!(self.processes.is_empty() && self.parents.is_empty());
        assert_eq!(self.engine.pool().memory_held, Bytes::ZERO);
        report
    }

    // Time.

    fn run_until(&mut self, at: Time) {
        while self.next_moment().is_some_and(|next| next <= at) {
            self.step();
        }
        self.now = Time::max(self.now, at);
    }

    fn next_moment(&self) -> Option<Time> {
        let happening = self.heap.peek().map(|Reverse((at, _, _))| *at);
        let deadline = self.engine.next_deadline();
        happening.into_iter().chain(deadline).min()
    }

    /// The next thing happens; false when nothing ever will.
    fn step(&mut self) -> bool {
        let Some(next) = self.next_moment() else {
            return false;
        };
        self.now = Time::max(self.now, next);
        let due = self
            .heap
            .peek()
            .is_some_and(|Reverse((at, _, _))| *at <= next);
        if !due {
            self.expire();
            return true;
        }
        let Some(Reverse((_, _, happening))) = self.heap.pop() else {
            unreachable!("it was just looked at")
        };
        self.happen(happening);
        true
    }

    fn after(&mut self, span: Duration, happening: Happening) {
        self.at(self.now + span, happening);
    }

    fn at(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, happening)));
    }

    // The engine.

    fn tell(&mut self, event: Event) {
        let now = self.clock();
        if let Some(recorder) = &mut self.recorder {
            recorder.event(&self.engine, &event, now);
        }
        self.effects.extend(self.engine.handle(event, now));
        self.obey_all();
    }

    fn expire(&mut self) {
        let now = self.now;
        if let Some(recorder) = &mut self.recorder {
            recorder.expiry(&self.engine, now);
        }
        self.effects.extend(self.engine.expire(now));
        self.obey_all();
    }

    /// What the worker's clock says; sometimes it has jumped.
    fn clock(&mut self) -> Time {
        let jumps = self.fault(|faults| faults.clock_jumps);
        if !jumps {
            return self.now;
        }
        Time::from_nanos(self.now.as_nanos() - self.random.below(BEGIN.as_nanos()))
    }

    fn obey_all(&mut self) {
        self.inputs += 1;
        self.report.held(self.now, self.engine.pool().memory_held);
        if let Sweep::Every(inputs) = self.sweep
            && self.inputs.is_multiple_of(u64::from(inputs))
        {
            self.engine.check_invariants();
        }
        // Obeying never tells the engine anything: what it leads to happens later.
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            self.obey(effect);
        }
        self.effects = effects;
    }

    fn fault(&mut self, chance: fn(&Faults) -> f64) -> bool {
        match &self.faults {
            Some(faults) => self.random.chance(chance(faults)),
            None => false,
        }
    }

    // Calls.

    fn deploy(&mut self, index: u32) {
        let function = &self.functions[index as usize];
        let mut settings = function.settings.clone();
        if function.to_install {
            settings.packages = crate::engine::Packages::Wanted;
        }
        self.tell(Event::FunctionDeployed {
            function: key_of(index),
            version: self.versions[index as usize],
            settings: Box::new(settings),
        });
    }

    fn arrive(&mut self, function: u32) {
        if self.fault(|faults| faults.redeploys) {
            self.versions[function as usize] += 1;
            self.deploy(function);
        }
        if self.fault(|faults| faults.pressure) {
            let wanted = Bytes::from_mb(self.random.below(1_024));
            self.tell(Event::PressureRose { wanted });
        }
        let opened = self.calls.insert(OpenCall {
            function,
            arrived: self.now,
            given: None,
            start: Start::Warm,
            hung_up: false,
        });
        let call = opened.expect("twice as many places as the engine lets in");
        let call: CallKey = call.rename();
        self.report.arrived(function);
        if self.fault(|faults| faults.hangs_up) {
            let after = Duration::from_millis(self.random.below(1_000));
            self.after(after, Happening::HangsUp(call));
        }
        let function = key_of(function);
        self.tell(Event::CallArrived { call, function });
    }

    fn open(&mut self, call: CallKey) -> &mut OpenCall {
        let call: Key<OpenCall> = call.rename();
        let open = self.calls.get_mut(call);
        open.expect("nothing is said of a call that has ended")
    }

    fn end(&mut self, call: CallKey) -> OpenCall {
        let call: Key<OpenCall> = call.rename();
        let ended = self.calls.remove(call);
        ended.expect("a call ends once")
    }

    // What happens.

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Starts(instance, hears) => self.starts(instance, hears),
            Happening::Forked(instance) => self.forked(instance),
            Happening::ForkFails(instance, fault) => self.fork_fails(instance, fault),
            Happening::Given(instance) => self.given(instance),
            Happening::Answered(instance, call) => self.answered(instance, call),
            Happening::Exits(instance, exit) => self.exits(instance, exit),
            Happening::Ready(zygote) => self.ready(zygote),
            Happening::ZygoteFails(zygote, fault) => {
                if self.parents.remove(&zygote).is_some() {
                    self.tell(Event::ZygoteFailed { zygote, fault });
                }
            }
            Happening::ZygoteExits(zygote, exit) => {
                if self.parents.remove(&zygote).is_some() {
                    self.tell(Event::ZygoteExited { zygote, exit });
                }
            }
            Happening::Frozen(sandbox) => self.tell(Event::Frozen { sandbox }),
            Happening::Thawed(sandbox) => self.tell(Event::Thawed { sandbox }),
            Happening::Installed(wanted, ends) => self.installed(wanted, ends),
            Happening::HangsUp(call) => self.hangs_up(call),
        }
    }

    fn starts(&mut self, key: InstanceKey, hears: Hears) {
        let Some(process) = self
            .processes
            .get_mut(&key)
            .filter(|process| !process.killed)
        else {
            return;
        };
        process.up = true;
        self.begin(key);
        if hears == Hears::AtOnce {
            self.forked(key);
        }
    }

    fn forked(&mut self, key: InstanceKey) {
        if let Some(process) = self
            .processes
            .get_mut(&key)
            .filter(|process| !process.killed)
        {
            process.told = true;
            self.tell(Event::Forked { instance: key });
        }
    }

    fn fork_fails(&mut self, key: InstanceKey, fault: ForkFault) {
        let failed = self.processes.get(&key).is_some_and(|process| !process.up);
        if failed {
            self.processes.remove(&key);
            self.tell(Event::ForkFailed {
                instance: key,
                fault,
            });
        }
    }

    /// The process has a call and time to look at it.
    fn begin(&mut self, key: InstanceKey) {
        let process = &self.processes[&key];
        let Some(call) = process.call else {
            return;
        };
        let function = &self.functions[process.function as usize];
        let thaw = if process.frozen {
            self.costs.thaw
        } else {
            Duration::ZERO
        };
        let load = if process.loaded {
            self.costs.relay + thaw
        } else {
            let shared = self.shared(process);
            let imports = function.imports_beyond(shared, &self.costs.weights);
            imports + function.own_start
        };
        let run = function.run;
        let run = match self.costs.run_deviation {
            0.0 => run,
            deviation => run.mul_f64(self.random.log_normal(1.0, deviation)),
        };
        let loaded = process.loaded;
        let process = self.processes.get_mut(&key);
        process.expect("it was just looked at").frozen = false;
        let given = self.now + load;
        if loaded {
            self.open(call).given = Some(given);
        } else {
            self.at(given, Happening::Given(key));
        }
        if !self.fault(|faults| faults.answer_lost) {
            self.at(given + run, Happening::Answered(key, call));
        }
    }

    /// What it need not import, nor hold itself.
    fn shared(&self, process: &Process) -> Option<&PackageSet> {
        const BARE: &PackageSet = &PackageSet::EMPTY;
        match process.node {
            _ if process.fresh => None,
            Some(node) => Some(self.engine.node_packages(node).unwrap_or(BARE)),
            None => Some(BARE),
        }
    }

    fn given(&mut self, key: InstanceKey) {
        let now = self.now;
        let Some(process) = self
            .processes
            .get_mut(&key)
            .filter(|process| !process.killed)
        else {
            return;
        };
        let Some(call) = process.call else {
            return;
        };
        process.loaded = true;
        self.open(call).given = Some(now);
        self.tell(Event::Given { instance: key });
    }

    fn answered(&mut self, key: InstanceKey, call: CallKey) {
        let Some(process) = self.processes.get_mut(&key) else {
            return;
        };
        if process.killed || process.call != Some(call) {
            return;
        }
        process.call = None;
        process.loaded = true;
        let sample = !std::mem::replace(&mut process.sampled, true);
        let ended = self.end(call);
        let given = ended.given.unwrap_or(self.now);
        let waited = given.since(ended.arrived);
        self.report.answered(ended.function, ended.start, waited);
        let verdict = if self.fault(|faults| faults.unfit) {
            Verdict::Unfit
        } else {
            Verdict::Fit
        };
        self.tell(Event::Answered {
            instance: key,
            call,
            verdict,
        });
        if sample {
            self.sample(key);
        }
    }

    /// The worker looks what the instance holds.
    fn sample(&mut self, key: InstanceKey) {
        let Some(process) = self.processes.get(&key) else {
            return;
        };
        let function = &self.functions[process.function as usize];
        let memory = function.memory_from(self.shared(process), &self.costs.weights);
        let sandbox = Sandbox::Instance(key);
        self.tell(Event::MemorySampled { sandbox, memory });
    }

    fn exits(&mut self, key: InstanceKey, exit: Exit) {
        let Some(process) = self.processes.remove(&key) else {
            return;
        };
        let seen = process.loaded && process.call.is_some();
        self.tell(Event::InstanceExited {
            instance: key,
            seen,
            exit,
        });
    }

    fn ready(&mut self, key: ZygoteKey) {
        let Some(parent) = self.parents.get_mut(&key).filter(|parent| !parent.killed) else {
            return;
        };
        parent.ready = true;
        let memory = parent.memory;
        self.tell(Event::ZygoteReady { zygote: key });
        let sandbox = Sandbox::Zygote(key);
        self.tell(Event::MemorySampled { sandbox, memory });
    }

    fn installed(&mut self, wanted: Wanted, ends: Ends) {
        if !self.installing.remove(&wanted) {
            return;
        }
        let packages = match wanted {
            Wanted::Function { function, .. } => self.functions[function.index()].packages.clone(),
            Wanted::Node { .. } => PackageSet::EMPTY,
        };
        self.tell(match ends {
            Ends::Well => Event::InstallFinished {
                wanted,
                packages: Box::new(packages),
            },
            Ends::Badly => Event::InstallFailed { wanted },
        });
    }

    fn hangs_up(&mut self, call: CallKey) {
        let known: Key<OpenCall> = call.rename();
        if let Some(open) = self.calls.get_mut(known) {
            open.hung_up = true;
            self.tell(Event::CallHungUp { call });
        }
    }

    // What is asked for.

    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Fork {
                instance,
                function,
                version,
                origin,
            } => self.fork(instance, function, version, origin),
            Effect::Relay {
                call,
                instance,
                start,
            } => self.relay(call, instance, start),
            Effect::Refuse { call, reason, .. } => {
                let ended = self.end(call);
                self.let_go(call);
                self.report.refused(ended.function, reason);
            }
            Effect::Abandon { call } => {
                let ended = self.end(call);
                assert!(ended.hung_up, "only who hung up is abandoned");
                self.let_go(call);
                self.report.abandoned();
            }
            Effect::Kill { instance } => self.kill(instance),
            Effect::StartZygote {
                zygote,
                node,
                parent,
                ..
            } => self.start_zygote(zygote, node, parent),
            Effect::KillZygote { zygote } => {
                let parent = self.parents.get_mut(&zygote);
                parent.expect("kills who exists").killed = true;
                let exits = Happening::ZygoteExits(zygote, Exit::Signal(9));
                self.after(self.costs.kill, exits);
            }
            Effect::Freeze { sandbox } => {
                self.set_frozen(sandbox, true);
                self.after(self.costs.freeze, Happening::Frozen(sandbox));
            }
            Effect::Thaw { sandbox } => self.after(self.costs.thaw, Happening::Thawed(sandbox)),
            Effect::Reclaim { sandbox } => self.report.reclaimed(sandbox),
            Effect::Install { wanted } => self.install(wanted),
            Effect::CancelInstall { wanted } => {
                self.installing.remove(&wanted);
            }
            Effect::RetireFunction { .. } => unreachable!("no function is ever removed here"),
            Effect::Drained => {
                assert!(!self.drained, "it drains once");
                self.drained = true;
            }
            Effect::Note(note) => {
                self.report.noted(&note);
                if self.explain {
                    self.notes.push((self.now, note));
                }
            }
        }
    }

    /// Whoever has this call has it no more.
    fn let_go(&mut self, call: CallKey) {
        let holder = self.report.holder(call);
        if let Some(process) = holder.and_then(|holder| self.processes.get_mut(&holder))
            && process.call == Some(call)
        {
            process.call = None;
        }
    }

    fn fork(&mut self, key: InstanceKey, function: FunctionKey, version: u32, origin: Origin) {
        let index = function.index() as u32;
        assert_eq!(self.versions[index as usize], version, "the newest version");
        let (node, takes, free_at) = match origin {
            Origin::Fresh => (None, self.costs.fresh, self.now),
            Origin::Zygote { zygote, node } => {
                let parent = self.parents.get(&zygote).expect("forks from who exists");
                assert!(parent.ready && !parent.killed, "forks from who is live");
                let pages = self.costs.fork_per_mb.mul_f64(parent.memory.as_mb());
                let free_at = Time::max(parent.free_at, self.now);
                (Some(node), self.costs.fork + pages, free_at)
            }
        };
        let takes = if self.fault(|faults| faults.fork_slow) {
            takes * 100
        } else {
            takes
        };
        let at = free_at + takes;
        if let Origin::Zygote { zygote, .. } = origin {
            let parent = self.parents.get_mut(&zygote);
            parent.expect("it was just looked at").free_at = at;
        }
        let born = self.processes.insert(
            key,
            Process {
                function: index,
                node,
                fresh: origin == Origin::Fresh,
                up: false,
                told: false,
                loaded: false,
                sampled: false,
                frozen: false,
                killed: false,
                call: None,
            },
        );
        assert!(born.is_none(), "names are not given twice");
        self.fate_of(key, at);
    }

    /// What becomes of a fork.
    fn fate_of(&mut self, key: InstanceKey, at: Time) {
        if self.fault(|faults| faults.fork_fails) {
            let faults = [ForkFault::Refused, ForkFault::Lost, ForkFault::Unprepared];
            let fault = faults[self.random.below(3) as usize];
            return self.at(at, Happening::ForkFails(key, fault));
        }
        if self.fault(|faults| faults.zygote_has_threads) {
            return self.at(at, Happening::ForkFails(key, ForkFault::HasThreads));
        }
        if self.fault(|faults| faults.fork_lost) {
            // It may be there all the same, without anybody having heard of it.
            if self.random.chance(0.5) {
                self.at(at, Happening::Starts(key, Hears::Later));
            }
            return;
        }
        if self.fault(|faults| faults.overtakes) {
            let later = Duration::from_millis(self.random.below(5_000));
            self.at(at, Happening::Starts(key, Hears::Later));
            self.at(at + later, Happening::Forked(key));
        } else {
            self.at(at, Happening::Starts(key, Hears::AtOnce));
        }
        if self.fault(|faults| faults.instance_dies) {
            let lifetime = self.faults.map_or(Duration::ZERO, |f| f.instance_lifetime);
            let lived = lifetime.mul_f64(self.random.unit());
            let exits = [Exit::Status(1), Exit::Signal(11), Exit::OutOfMemory];
            let exit = exits[self.random.below(3) as usize];
            self.at(at + lived, Happening::Exits(key, exit));
        }
    }

    fn relay(&mut self, call: CallKey, key: InstanceKey, start: Start) {
        self.open(call).start = start;
        self.report.given(call, key);
        let process = self.processes.get_mut(&key).expect("relays to who exists");
        assert!(
            process.call.is_none() && !process.killed,
            "one call at a time"
        );
        process.call = Some(call);
        if process.up {
            self.begin(key);
        }
    }

    fn kill(&mut self, key: InstanceKey) {
        let process = self.processes.get_mut(&key).expect("kills who exists");
        if !std::mem::replace(&mut process.killed, true) {
            self.after(self.costs.kill, Happening::Exits(key, Exit::Signal(9)));
        }
    }

    fn start_zygote(&mut self, key: ZygoteKey, node: NodeId, parent: Option<ZygoteKey>) {
        let has = self.engine.node_packages(node).cloned().unwrap_or_default();
        let inherited = parent.and_then(|parent| {
            let from = self.parents.get(&parent).expect("forks from who exists");
            assert!(from.ready && !from.killed, "forks from who is live");
            self.engine.node_packages(from.node)
        });
        let own = has.iter().filter(|package| {
            let there = inherited.and_then(|inherited| inherited.get(package.name()));
            there.is_none()
        });
        let weights = &self.costs.weights;
        let own: Vec<_> = own.map(|package| weights.of(package)).collect();
        let imports: Duration = own.iter().map(|weight| weight.import).sum();
        let mut memory: Bytes = own.iter().map(|weight| weight.memory).sum();
        let begin = if parent.is_none() {
            memory += INTERPRETER;
            self.costs.fresh
        } else {
            memory += Bytes::from_mb(3);
            self.costs.fork
        };
        let born = self.parents.insert(
            key,
            Parent {
                node,
                memory,
                free_at: self.now,
                ready: false,
                killed: false,
            },
        );
        assert!(born.is_none(), "names are not given twice");
        self.fate_of_zygote(key, self.now + begin + imports);
    }

    fn fate_of_zygote(&mut self, key: ZygoteKey, at: Time) {
        if self.fault(|faults| faults.zygote_fails) {
            let faults = [
                ZygoteFault::ImportFailed,
                ZygoteFault::Refused,
                ZygoteFault::Died(Exit::OutOfMemory),
            ];
            let fault = faults[self.random.below(3) as usize];
            return self.at(at, Happening::ZygoteFails(key, fault));
        }
        if self.fault(|faults| faults.zygote_has_threads) {
            return self.at(at, Happening::ZygoteFails(key, ZygoteFault::HasThreads));
        }
        self.at(at, Happening::Ready(key));
        if self.fault(|faults| faults.zygote_dies) {
            let lifetime = self.faults.map_or(Duration::ZERO, |f| f.zygote_lifetime);
            let lived = lifetime.mul_f64(self.random.unit());
            let exits = Happening::ZygoteExits(key, Exit::OutOfMemory);
            self.at(at + lived, exits);
        }
    }

    fn set_frozen(&mut self, sandbox: Sandbox, frozen: bool) {
        if let Sandbox::Instance(key) = sandbox
            && let Some(process) = self.processes.get_mut(&key)
        {
            process.frozen = frozen;
        }
    }

    fn install(&mut self, wanted: Wanted) {
        self.installing.insert(wanted);
        let ends = if self.fault(|faults| faults.install_fails) {
            Ends::Badly
        } else {
            Ends::Well
        };
        let takes = self.costs.install.mul_f64(self.random.log_normal(1.0, 0.5));
        self.after(takes, Happening::Installed(wanted, ends));
    }
}

fn key_of(index: u32) -> FunctionKey {
    Key::new(index, 0)
}
