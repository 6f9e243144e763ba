//! The state x event tables of the four lives, found by trying: each event in each state.
//!
//! The tables are part of the documentation of `call`, `instance`, `zygote` and `function`. This
//! test prints them anew and compares; `OLWORKER_UPDATE=1 cargo test tables` writes them.

use super::call::CallState;
use super::*;
use crate::base::{Bytes, Duration, Package, PackageSet};
use crate::policy::tree::{NodeId, Tree, Weights};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// A small world in some state, and what is of interest in it.
#[derive(Clone)]
struct Scene {
    engine: Engine,
    now: Time,
    function: FunctionKey,
    call: CallKey,
    instance: Option<InstanceKey>,
    zygote: Option<ZygoteKey>,
    version: u32,
}

const FUNCTION: FunctionKey = Key::new(0, 0);
const CALL: CallKey = Key::new(0, 0);
const NEXT_CALL: CallKey = Key::new(1, 0);
const NUMPY: NodeId = NodeId(1);
const FREEZE: Duration = Duration::from_secs(5);

fn settings() -> FunctionSettings {
    FunctionSettings {
        packages: Packages::Known(PackageSet::parse(["numpy"])),
        ..FunctionSettings::DEFAULT
    }
}

fn tree() -> ZygoteTree {
    let mut tree = Tree::new();
    let added = tree.add(NodeId::ROOT, vec![Package::parse("numpy")]);
    added.expect("a small tree");
    ZygoteTree {
        generation: 1,
        tree,
        weights: Weights::new(),
        installed: vec![NUMPY],
        stocked: Vec::new(),
    }
}

impl Scene {
    /// A function without a store, a tree, or a call.
    fn bare(settings: FunctionSettings) -> Self {
        Self::with(settings, 0, None)
    }

    fn with(settings: FunctionSettings, trees: u32, install: Option<Duration>) -> Self {
        let params = Params {
            trees,
            install,
            freeze_after: Some(FREEZE),
            free_percent: 0,
            ..Params::new(Bytes::from_mb(4_096))
        };
        let mut scene = Self {
            engine: Engine::new(Limits::TINY, params, 0),
            now: Time::from_millis(1_000),
            function: FUNCTION,
            call: CALL,
            instance: None,
            zygote: None,
            version: 1,
        };
        scene.tell(Event::FunctionDeployed {
            function: FUNCTION,
            version: 1,
            settings: Box::new(settings),
        });
        scene
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.now = self.now + Duration::from_millis(1);
        let effects: Vec<Effect> = self.engine.handle(event, self.now).collect();
        self.engine.check_invariants();
        self.learn(&effects);
        effects
    }

    /// Lets time pass until the next deadline.
    fn deadline(&mut self) -> Vec<Effect> {
        self.now = self.engine.next_deadline().unwrap_or(self.now);
        let effects: Vec<Effect> = self.engine.expire(self.now).collect();
        self.engine.check_invariants();
        self.learn(&effects);
        effects
    }

    /// Lets time pass until something comes of it.
    fn wait(&mut self) -> Vec<Effect> {
        for _ in 0..20 {
            let effects = self.deadline();
            if !shown(&effects).is_empty() {
                return effects;
            }
        }
        Vec::new()
    }

    fn learn(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Fork { instance, .. } if self.instance.is_none() => {
                    self.instance = Some(*instance);
                }
                Effect::StartZygote { zygote, .. } => self.zygote = Some(*zygote),
                _ => {}
            }
        }
    }

    fn call(mut self) -> Self {
        self.tell(Event::CallArrived {
            call: CALL,
            function: FUNCTION,
        });
        self
    }

    fn then(mut self, event: fn(&Self) -> Event) -> Self {
        let event = event(&self);
        self.tell(event);
        self
    }

    fn instance(&self) -> InstanceKey {
        self.instance.expect("the scene has an instance")
    }

    fn zygote(&self) -> ZygoteKey {
        self.zygote.expect("the scene has a zygote")
    }
}

/// What is tried: its name, and how it is done.
struct Trial {
    name: &'static str,
    act: fn(&mut Scene) -> Vec<Effect>,
}

const fn trial(name: &'static str, act: fn(&mut Scene) -> Vec<Effect>) -> Trial {
    Trial { name, act }
}

/// Tries everything in every state; one section a state.
fn table(states: &[(&str, Scene)], trials: &[Trial], state_of: fn(&Scene) -> String) -> String {
    let mut text = String::from("```text\n");
    for (name, scene) in states {
        text.push_str(name);
        text.push('\n');
        let before = state_of(scene);
        let mut idle = Vec::new();
        for trial in trials {
            let mut scene = scene.clone();
            let effects = shown(&(trial.act)(&mut scene));
            let after = state_of(&scene);
            if after == before && effects.is_empty() {
                idle.push(trial.name);
            } else {
                let line = format!("  {:<37}{after:<11}{effects}", trial.name);
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        for line in wrapped("nothing follows: ", &idle) {
            text.push_str("  ");
            text.push_str(&line);
            text.push('\n');
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push_str("\n```\n");
    text
}

fn wrapped(lead: &str, names: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from(lead);
    for (number, name) in names.iter().enumerate() {
        let separator = if number + 1 < names.len() { "; " } else { "" };
        if line.len() + name.len() > 88 {
            lines.push(line.trim_end().to_string());
            line = String::from("  ");
        }
        line.push_str(name);
        line.push_str(separator);
    }
    if !names.is_empty() {
        lines.push(line);
    }
    lines
}

fn shown(effects: &[Effect]) -> String {
    let mut names: Vec<String> = Vec::new();
    for effect in effects {
        let name = match effect {
            Effect::Refuse { reason, .. } => format!("Refuse {reason:?}"),
            Effect::Note(_) => continue,
            other => {
                let text = format!("{other:?}");
                let end = text.find([' ', '{']).unwrap_or(text.len());
                text[..end].to_string()
            }
        };
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

// Instances.

fn instance_states() -> Vec<(&'static str, Scene)> {
    let forking = || Scene::bare(settings()).call();
    let starting = || forking().then(forked);
    let busy = || starting().then(given);
    let idle = || busy().then(answered);
    let mut spare = Scene::bare(settings());
    spare.engine.start_ahead(FUNCTION);
    let effects: Vec<Effect> = spare.engine.effects.drain(..).collect();
    spare.learn(&effects);
    let mut frozen = idle();
    frozen.deadline();
    let lost = from_zygote().then(|scene| Event::ZygoteExited {
        zygote: scene.zygote(),
        exit: Exit::OutOfMemory,
    });
    let evicted = idle().then(pressure);
    vec![
        ("forking, with a call", forking()),
        ("forking, made ahead of need", spare),
        ("starting", starting()),
        ("busy", busy()),
        ("idle", idle()),
        ("frozen", frozen),
        ("dying, with a call (its zygote was lost)", lost),
        ("dying", evicted),
    ]
}

/// A call whose instance is being forked from a zygote of the root.
fn from_zygote() -> Scene {
    let mut scene = Scene::with(FunctionSettings::DEFAULT, 1, None);
    scene.tell(Event::TreeChanged {
        tree: Box::new(tree()),
    });
    let zygote = scene.zygote();
    scene.tell(Event::ZygoteReady { zygote });
    scene.call()
}

fn forked(scene: &Scene) -> Event {
    Event::Forked {
        instance: scene.instance(),
    }
}

fn given(scene: &Scene) -> Event {
    Event::Given {
        instance: scene.instance(),
    }
}

fn answered(scene: &Scene) -> Event {
    Event::Answered {
        instance: scene.instance(),
        call: scene.call,
        verdict: Verdict::Fit,
    }
}

fn unfit(scene: &Scene) -> Event {
    Event::Answered {
        instance: scene.instance(),
        call: scene.call,
        verdict: Verdict::Unfit,
    }
}

fn exited(scene: &Scene, seen: bool) -> Event {
    Event::InstanceExited {
        instance: scene.instance(),
        seen,
        exit: Exit::Signal(11),
    }
}

fn fork_failed(scene: &Scene) -> Event {
    Event::ForkFailed {
        instance: scene.instance(),
        fault: ForkFault::Refused,
    }
}

fn pressure(_: &Scene) -> Event {
    Event::PressureRose {
        wanted: Bytes::from_mb(1_024),
    }
}

fn sampled(scene: &Scene, megabytes: u64) -> Event {
    Event::MemorySampled {
        sandbox: Sandbox::Instance(scene.instance()),
        memory: Bytes::from_mb(megabytes),
    }
}

fn redeployed(scene: &mut Scene) -> Vec<Effect> {
    scene.version += 1;
    let version = scene.version;
    scene.tell(Event::FunctionDeployed {
        function: FUNCTION,
        version,
        settings: Box::new(settings()),
    })
}

fn removed(_: &Scene) -> Event {
    Event::FunctionRemoved { function: FUNCTION }
}

fn hung_up(scene: &Scene) -> Event {
    Event::CallHungUp { call: scene.call }
}

fn next_call(_: &Scene) -> Event {
    Event::CallArrived {
        call: NEXT_CALL,
        function: FUNCTION,
    }
}

fn drain(scene: &Scene) -> Event {
    Event::DrainRequested {
        accept: false,
        deadline: scene.now + Duration::from_mins(5),
    }
}

macro_rules! told {
    ($name:expr, $event:expr) => {
        trial($name, |scene| {
            let event = $event(scene);
            scene.tell(event)
        })
    };
}

const INSTANCE_TRIALS: &[Trial] = &[
    told!("Forked", forked),
    told!("ForkFailed", fork_failed),
    told!("Given", given),
    told!("Answered, fit", answered),
    told!("Answered, unfit", unfit),
    told!("InstanceExited, unseen", |scene| exited(scene, false)),
    told!("InstanceExited, seen", |scene| exited(scene, true)),
    told!("CallArrived", next_call),
    told!("CallHungUp", hung_up),
    told!("Frozen", |scene: &Scene| Event::Frozen {
        sandbox: Sandbox::Instance(scene.instance())
    }),
    told!("Thawed", |scene: &Scene| Event::Thawed {
        sandbox: Sandbox::Instance(scene.instance())
    }),
    told!("MemorySampled, within the ceiling", |scene| sampled(
        scene, 20
    )),
    told!("MemorySampled, above the ceiling", |scene| sampled(
        scene, 999
    )),
    told!("PressureRose", pressure),
    trial("FunctionDeployed, a new version", redeployed),
    told!("FunctionRemoved", removed),
    told!("DrainRequested", drain),
    trial("nothing, for long", Scene::wait),
];

fn instance_state(scene: &Scene) -> String {
    let instance = scene.engine.instance(scene.instance());
    instance.map_or("(gone)".to_string(), |instance| {
        instance.state.name().to_string()
    })
}

// Calls.

fn call_states() -> Vec<(&'static str, Scene)> {
    let single = || {
        Scene::bare(FunctionSettings {
            instances: Some(1),
            ..settings()
        })
    };
    let mut queued = single().call();
    queued.tell(next_call(&queued));
    queued.call = NEXT_CALL;
    let waiting = |scene: &Scene| Event::CallArrived {
        call: scene.call,
        function: FUNCTION,
    };
    let mut installing = Scene::with(
        FunctionSettings {
            packages: Packages::Wanted,
            ..settings()
        },
        0,
        Some(Duration::from_mins(5)),
    );
    installing.tell(waiting(&installing));
    let kill = || {
        Scene::bare(FunctionSettings {
            on_hangup: OnHangup::Kill,
            ..settings()
        })
    };
    let given_once = || single().call().then(forked);
    let mut second = given_once().then(|scene| exited(scene, false));
    let again = second.engine.instances.keys().next();
    second.instance = again;
    let hung = single().call().then(forked).then(given).then(hung_up);
    vec![
        ("queued, behind another", queued),
        ("queued, until packages are installed", installing),
        ("given, not seen by user code", given_once()),
        ("given, not seen, for the second time", second),
        ("given, seen", given_once().then(given)),
        (
            "given, seen, on_hangup = \"kill\"",
            kill().call().then(forked).then(given),
        ),
        ("given, seen, and its client hung up", hung),
    ]
}

const CALL_TRIALS: &[Trial] = &[
    told!("CallHungUp", hung_up),
    trial("Answered", |scene| match scene.instance {
        Some(_) => {
            let event = answered(scene);
            scene.tell(event)
        }
        None => Vec::new(),
    }),
    trial("ForkFailed", |scene| match scene.instance {
        Some(_) => {
            let event = fork_failed(scene);
            scene.tell(event)
        }
        None => Vec::new(),
    }),
    trial("InstanceExited, unseen", |scene| match scene.instance {
        Some(_) => {
            let event = exited(scene, false);
            scene.tell(event)
        }
        None => Vec::new(),
    }),
    trial("InstanceExited, seen", |scene| match scene.instance {
        Some(_) => {
            let event = exited(scene, true);
            scene.tell(event)
        }
        None => Vec::new(),
    }),
    told!("InstallFinished", |_: &Scene| Event::InstallFinished {
        wanted: Wanted::Function {
            function: FUNCTION,
            version: 1
        },
        packages: Box::new(PackageSet::EMPTY),
    }),
    told!("InstallFailed", |_: &Scene| Event::InstallFailed {
        wanted: Wanted::Function {
            function: FUNCTION,
            version: 1
        },
    }),
    trial("FunctionDeployed, a new version", redeployed),
    told!("FunctionRemoved", removed),
    trial("nothing, for long", Scene::wait),
    trial("the drain's deadline", |scene| {
        let at = scene.now + Duration::from_secs(1);
        scene.tell(Event::DrainRequested {
            accept: true,
            deadline: at,
        });
        scene.wait()
    }),
];

fn call_state(scene: &Scene) -> String {
    match scene.engine.calls.get(scene.call).map(|call| call.state) {
        None => "(ended)".to_string(),
        Some(CallState::Queued) => "queued".to_string(),
        Some(CallState::Given(_)) => "given".to_string(),
    }
}

// Zygotes, and the nodes that have none.

fn zygote_states() -> Vec<(&'static str, Scene)> {
    let planted = |installed: Vec<NodeId>, install| {
        let mut scene = Scene::with(settings(), 1, install);
        let tree = Box::new(ZygoteTree {
            installed,
            ..tree()
        });
        scene.tell(Event::TreeChanged { tree });
        scene
    };
    let absent = |install: Option<Duration>| {
        let mut scene = planted(
            if install.is_none() {
                vec![NUMPY]
            } else {
                vec![]
            },
            install,
        );
        let zygote = scene.zygote();
        scene.tell(Event::ZygoteReady { zygote });
        scene.zygote = None;
        scene
    };
    let forking = || absent(None).call();
    let ready = |scene: &Scene| Event::ZygoteReady {
        zygote: scene.zygote(),
    };
    let live = || forking().then(ready);
    let mut waiting = planted(vec![NUMPY], None);
    let root = waiting.zygote;
    waiting = waiting.call();
    waiting.zygote = root;
    let mut frozen = live().then(forked).then(given).then(answered);
    while instance_state(&frozen) != "frozen" || zygote_state(&frozen) != "frozen" {
        frozen.deadline();
    }
    let mut dying = live();
    dying.tell(Event::MemorySampled {
        sandbox: Sandbox::Zygote(dying.zygote()),
        memory: Bytes::from_mb(600),
    });
    let used = || {
        live().then(|_| Event::CallArrived {
            call: NEXT_CALL,
            function: FUNCTION,
        })
    };
    vec![
        ("absent", absent(None)),
        ("installing", absent(Some(Duration::from_mins(5))).call()),
        ("waiting for its parent", waiting),
        ("forking", forking()),
        ("live", live()),
        ("live, a fork is under way", used()),
        ("frozen", frozen),
        ("dying", dying),
    ]
}

fn of_zygote(scene: &mut Scene, event: fn(ZygoteKey) -> Event) -> Vec<Effect> {
    match scene.zygote {
        Some(zygote) => scene.tell(event(zygote)),
        None => Vec::new(),
    }
}

fn failed(scene: &mut Scene, fault: ZygoteFault) -> Vec<Effect> {
    match scene.zygote {
        Some(zygote) => scene.tell(Event::ZygoteFailed { zygote, fault }),
        None => Vec::new(),
    }
}

const ZYGOTE_TRIALS: &[Trial] = &[
    told!("CallArrived, of a function that fits", |_: &Scene| {
        Event::CallArrived {
            call: Key::new(2, 0),
            function: FUNCTION,
        }
    }),
    told!("InstallFinished", |_: &Scene| Event::InstallFinished {
        wanted: Wanted::Node {
            generation: 1,
            node: NUMPY
        },
        packages: Box::new(PackageSet::EMPTY),
    }),
    told!("InstallFailed", |_: &Scene| Event::InstallFailed {
        wanted: Wanted::Node {
            generation: 1,
            node: NUMPY
        },
    }),
    trial("ZygoteReady", |scene| {
        of_zygote(scene, |zygote| Event::ZygoteReady { zygote })
    }),
    trial("ZygoteFailed, an import raised", |scene| {
        failed(scene, ZygoteFault::ImportFailed)
    }),
    trial("ZygoteFailed, it has threads", |scene| {
        failed(scene, ZygoteFault::HasThreads)
    }),
    trial("ZygoteExited", |scene| {
        of_zygote(scene, |zygote| Event::ZygoteExited {
            zygote,
            exit: Exit::OutOfMemory,
        })
    }),
    trial("ForkFailed, it has threads", |scene| {
        let found = {
            let forking = scene.engine.instances.iter();
            let mut forking = forking.filter(|(_, instance)| !instance.confirmed);
            forking.next().map(|(key, _)| key)
        };
        match found {
            Some(instance) => scene.tell(Event::ForkFailed {
                instance,
                fault: ForkFault::HasThreads,
            }),
            None => Vec::new(),
        }
    }),
    trial("MemorySampled, above the ceiling", |scene| {
        of_zygote(scene, |zygote| Event::MemorySampled {
            sandbox: Sandbox::Zygote(zygote),
            memory: Bytes::from_mb(600),
        })
    }),
    told!("PressureRose", pressure),
    told!("TreeChanged, to one without the node", |_: &Scene| {
        Event::TreeChanged {
            tree: Box::new(ZygoteTree {
                generation: 2,
                tree: Tree::new(),
                weights: Weights::new(),
                installed: Vec::new(),
                stocked: Vec::new(),
            }),
        }
    }),
    told!("DrainRequested", drain),
    trial("nothing, for long", Scene::wait),
];

/// Of the node of interest while it has no zygote, else of the zygote. The root is of interest only
/// where it is waited for.
fn zygote_state(scene: &Scene) -> String {
    if let Some(zygote) = scene.zygote.and_then(|key| scene.engine.zygote(key))
        && zygote.node == NUMPY
    {
        return zygote.state.name().to_string();
    }
    let mut nodes = scene.engine.nodes().filter(|node| node.node == NUMPY);
    match nodes.next() {
        Some(node) => node.phase.name().to_string(),
        None => "(no node)".to_string(),
    }
}

// Functions and their packages.

fn function_states() -> Vec<(&'static str, Scene)> {
    let needed = || {
        Scene::with(
            FunctionSettings {
                packages: Packages::Wanted,
                ..settings()
            },
            0,
            Some(Duration::from_mins(5)),
        )
    };
    let running = || needed().call();
    let failed = || {
        running().then(|_| Event::InstallFailed {
            wanted: Wanted::Function {
                function: FUNCTION,
                version: 1,
            },
        })
    };
    let mut later = failed();
    later.now = later.now + Duration::from_mins(1);
    let used = || Scene::bare(settings()).call().then(forked).then(given);
    vec![
        ("install needed", needed()),
        ("install running", running()),
        ("install failed a moment ago", failed()),
        ("install failed a while ago", later),
        ("ready", Scene::bare(settings())),
        ("ready, a call is running", used()),
        ("removed, a call is running", used().then(removed)),
    ]
}

const FUNCTION_TRIALS: &[Trial] = &[
    told!("CallArrived", |_: &Scene| Event::CallArrived {
        call: Key::new(2, 0),
        function: FUNCTION,
    }),
    told!("InstallFinished", |_: &Scene| Event::InstallFinished {
        wanted: Wanted::Function {
            function: FUNCTION,
            version: 1
        },
        packages: Box::new(PackageSet::EMPTY),
    }),
    told!("InstallFinished, of another version", |_: &Scene| {
        Event::InstallFinished {
            wanted: Wanted::Function {
                function: FUNCTION,
                version: 9,
            },
            packages: Box::new(PackageSet::EMPTY),
        }
    }),
    told!("InstallFailed", |_: &Scene| Event::InstallFailed {
        wanted: Wanted::Function {
            function: FUNCTION,
            version: 1
        },
    }),
    trial("Answered", |scene| match scene.instance {
        Some(_) => {
            let event = answered(scene);
            scene.tell(event)
        }
        None => Vec::new(),
    }),
    trial("InstanceExited, seen", |scene| match scene.instance {
        Some(_) => {
            let event = exited(scene, true);
            scene.tell(event)
        }
        None => Vec::new(),
    }),
    trial("FunctionDeployed, a new version", redeployed),
    told!("FunctionRemoved", removed),
    told!("DrainRequested", drain),
    trial("nothing, for long", Scene::wait),
];

fn function_state(scene: &Scene) -> String {
    use super::function::Install;
    match scene.engine.functions.get(scene.function) {
        None => "(retired)".to_string(),
        Some(known) if known.removed => "removed".to_string(),
        Some(known) => match known.install {
            Install::Ready => "ready",
            Install::Needed => "needed",
            Install::Running { .. } => "running",
            Install::Failed { .. } => "failed",
        }
        .to_string(),
    }
}

fn compare(name: &str, table: &str) {
    let path = format!("{}/src/engine/states/{name}.md", env!("CARGO_MANIFEST_DIR"));
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    if written == table {
        return;
    }
    if std::env::var_os("OLWORKER_UPDATE").is_some() {
        std::fs::write(&path, table).expect("the source tree can be written");
        return;
    }
    panic!(
        "{path} is not what the engine does now (OLWORKER_UPDATE=1 writes it):\n{table}\nwas:\n\
         {written}"
    );
}

#[test]
fn tables_of_states_and_events_are_what_the_engine_does() {
    compare(
        "instance",
        &table(&instance_states(), INSTANCE_TRIALS, instance_state),
    );
    compare("call", &table(&call_states(), CALL_TRIALS, call_state));
    compare(
        "zygote",
        &table(&zygote_states(), ZYGOTE_TRIALS, zygote_state),
    );
    compare(
        "function",
        &table(&function_states(), FUNCTION_TRIALS, function_state),
    );
}
