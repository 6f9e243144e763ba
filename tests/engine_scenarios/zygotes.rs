//! Zygotes: who is forked from, who waits for one, what is made, replaced, given up.

use olworker::base::{Bytes, PackageSet};
use olworker::engine::*;
use olworker::policy::NodeId;

use super::rig::*;

#[test]
fn a_function_starts_from_the_deepest_useful_node_that_is_live() {
    let mut rig = Rig::new(Params {
        trees: 1,
        ..params(4_096)
    });
    rig.plant(&[(0, "numpy"), (1, "pandas"), (0, "flask")]);
    let root = rig.ready_all()[0];
    assert_eq!(root.1, NodeId::ROOT);
    let function = rig.deploy(0, with_packages(&["numpy", "pandas"]));
    rig.call(function);
    let node_of = |origin: Origin| match origin {
        Origin::Zygote { node, .. } => Some(node),
        Origin::Fresh => None,
    };
    assert_eq!(node_of(rig.forks()[0].1), Some(NodeId::ROOT), "at once");
    let (numpy, node, parent) = rig.zygotes()[0];
    assert_eq!((node, parent), (NodeId(1), Some(root.0)), "ancestors first");
    rig.tell(Event::ZygoteReady { zygote: numpy });
    let (pandas, node, parent) = rig.zygotes()[0];
    assert_eq!(
        (node, parent),
        (NodeId(2), Some(numpy)),
        "then what was wanted"
    );
    rig.call(function);
    assert_eq!(
        node_of(rig.forks()[0].1),
        Some(NodeId(1)),
        "the best so far"
    );
    rig.pass(110);
    rig.tell(Event::ZygoteReady { zygote: pandas });
    rig.call(function);
    assert_eq!(node_of(rig.forks()[0].1), Some(NodeId(2)));
    // It dies: the next one comes from its parent at once, and it is made again behind.
    rig.tell(Event::ZygoteExited {
        zygote: pandas,
        exit: Exit::OutOfMemory,
    });
    assert_eq!(rig.zygotes()[0].1, NodeId(2));
    rig.call(function);
    assert_eq!(node_of(rig.forks()[0].1), Some(NodeId(1)));
}

/// Two processors, a tree with pandas below numpy of which only the root is live, and functions
/// that all want pandas.
fn storm(functions: u32) -> (Rig, Vec<FunctionKey>) {
    let mut rig = Rig::new(Params {
        trees: 1,
        processors: 2,
        ..params(8_192)
    });
    rig.plant(&[(0, "numpy"), (1, "pandas")]);
    rig.ready_all();
    let wanted = || with_packages(&["numpy", "pandas"]);
    let deployed = (0..functions).map(|index| rig.deploy(index, wanted()));
    let deployed = deployed.collect();
    (rig, deployed)
}

fn origins(rig: &mut Rig) -> Vec<NodeId> {
    let forks = rig.forks().into_iter();
    let nodes = forks.map(|(_, origin)| match origin {
        Origin::Zygote { node, .. } => node,
        Origin::Fresh => panic!("there is a root"),
    });
    nodes.collect()
}

#[test]
fn those_who_come_at_once_wait_for_the_one_import_that_serves_them_all() {
    let (mut rig, functions) = storm(32);
    for function in &functions {
        rig.call(*function);
    }
    assert_eq!(
        origins(&mut rig),
        [NodeId::ROOT],
        "one has a processor left"
    );
    let awaited = rig.notes().into_iter();
    let awaited = awaited.filter(|note| matches!(note, Note::ZygoteAwaited { .. }));
    assert_eq!(awaited.count(), 31);
    rig.ready_all();
    assert_eq!(origins(&mut rig), [NodeId(2); 31], "nobody imports again");
}

#[test]
fn who_waited_for_a_zygote_that_fails_starts_at_once() {
    let (mut rig, functions) = storm(8);
    for function in &functions {
        rig.call(*function);
    }
    let mut begun = origins(&mut rig).len();
    assert!(begun < 8);
    // First failures are forgiven, second ones not. No time passes.
    for _ in 0..8 {
        for (zygote, ..) in rig.zygotes() {
            let fault = ZygoteFault::ImportFailed;
            rig.tell(Event::ZygoteFailed { zygote, fault });
        }
        begun += origins(&mut rig).len();
    }
    assert_eq!(begun, 8, "nobody is left behind");
    assert_eq!(rig.zygotes(), []);
}

#[test]
fn nobody_waits_much_longer_for_a_zygote_than_importing_takes() {
    let (mut rig, functions) = storm(8);
    for function in &functions {
        rig.call(*function);
    }
    let mut begun = origins(&mut rig).len();
    assert!(begun < 8);
    // The zygote hangs. Both imports take 200 ms.
    for _ in 0..100 {
        rig.pass(20);
        begun += origins(&mut rig).len();
    }
    assert_eq!(begun, 8);
}

#[test]
fn a_node_whose_imports_start_threads_is_given_up_and_its_parent_serves() {
    let mut rig = Rig::new(Params {
        trees: 1,
        ..params(4_096)
    });
    rig.plant(&[(0, "threads")]);
    rig.ready_all();
    let function = rig.deploy(0, with_packages(&["threads"]));
    rig.warm(function, 10);
    let (zygote, ..) = rig.zygotes()[0];
    rig.tell(Event::ZygoteFailed {
        zygote,
        fault: ZygoteFault::HasThreads,
    });
    rig.pass(3_600_000);
    for _ in 0..10 {
        rig.call(function);
    }
    assert!(rig.zygotes().is_empty(), "it is not tried again");
    assert!(
        rig.forks()
            .iter()
            .all(|(_, origin)| *origin != Origin::Fresh)
    );
    let node = rig.engine.nodes().nth(1).unwrap();
    assert!(node.hopeless, "and that can be seen");
}

#[test]
fn a_saturated_node_is_replicated_and_only_that_node() {
    let mut rig = Rig::new(Params {
        trees: 1,
        ..params(65_536)
    });
    rig.plant(&[(0, "numpy"), (0, "flask")]);
    rig.ready_all();
    let function = rig.deploy(0, with_packages(&["numpy"]));
    rig.call(function);
    rig.ready_all();
    rig.notes();
    // Forks take 5 ms, and there are 100 a second.
    for _ in 0..300 {
        rig.call(function);
        for (instance, _) in rig.forks() {
            rig.pass(5);
            rig.tell(Event::Forked { instance });
        }
        rig.ready_all();
        rig.pass(5);
    }
    let replicated: Vec<NodeId> = rig
        .notes()
        .into_iter()
        .filter_map(|note| match note {
            Note::Replicated { node, .. } => Some(node),
            _ => None,
        })
        .collect();
    assert!(!replicated.is_empty());
    assert!(replicated.iter().all(|node| *node == NodeId(1)));
    assert!(
        replicated.len() < 4,
        "as many as needed: {}",
        replicated.len()
    );
}

#[test]
fn copies_of_the_tree_share_the_forks() {
    let mut rig = Rig::new(Params {
        trees: 2,
        ..params(65_536)
    });
    rig.plant(&[]);
    let roots: Vec<ZygoteKey> = rig.ready_all().into_iter().map(|(key, _)| key).collect();
    assert_eq!(roots.len(), 2);
    let function = rig.deploy(0, settings());
    for _ in 0..10 {
        rig.call(function);
    }
    for root in roots {
        let forks = rig.engine.zygote(root).unwrap().forks;
        assert_eq!(forks, 5, "who has least to do is chosen");
    }
}

#[test]
fn a_function_that_imports_much_again_and_again_gets_a_node() {
    let mut rig = Rig::new(Params {
        trees: 1,
        dynamic_zygotes: true,
        ..params(4_096)
    });
    rig.plant(&[(0, "numpy"), (0, "scipy")]);
    rig.ready_all();
    let function = rig.deploy(0, with_packages(&["numpy", "scipy"]));
    for _ in 0..6 {
        rig.call(function);
        rig.ready_all();
    }
    let added: Vec<(NodeId, NodeId)> = rig
        .notes()
        .into_iter()
        .filter_map(|note| match note {
            Note::NodeAdded { node, parent } => Some((node, parent)),
            _ => None,
        })
        .collect();
    assert_eq!(added, [(NodeId(3), NodeId(1))]);
    let both = PackageSet::parse(["numpy", "scipy"]);
    assert_eq!(rig.engine.node_packages(NodeId(3)), Some(&both));
    let (_, origin) = *rig.forks().last().unwrap();
    let Origin::Zygote { node, .. } = origin else {
        panic!("it is forked from a zygote")
    };
    assert_eq!(node, NodeId(3));
}

#[test]
fn a_node_that_was_added_goes_before_all_else() {
    let mut rig = Rig::new(Params {
        trees: 1,
        dynamic_zygotes: true,
        ..params(4_096)
    });
    rig.plant(&[(0, "numpy"), (0, "scipy")]);
    rig.ready_all();
    let other = rig.deploy(1, with_packages(&["scipy"]));
    rig.call(other);
    rig.ready_all();
    let function = rig.deploy(0, with_packages(&["numpy", "scipy"]));
    for _ in 0..6 {
        rig.call(function);
        rig.ready_all();
        rig.pass(1_000);
    }
    // All that came of the calls is gone; the added node was used last, and by most.
    let instances: Vec<InstanceKey> = rig.engine.instances().map(|it| it.key).collect();
    for instance in instances {
        rig.exited(instance);
        rig.exited(instance);
    }
    for (instance, _) in rig.forks() {
        rig.exited(instance);
    }
    rig.pass(120_000);
    rig.notes();
    rig.tell(Event::PressureRose {
        wanted: Bytes::from_mb(1),
    });
    let evicted = rig.notes().into_iter().find_map(|note| match note {
        Note::Evicted { node, .. } => Some(node),
        _ => None,
    });
    assert_eq!(evicted, Some(Some(NodeId(3))));
}

#[test]
fn zygotes_are_replaced_after_so_many_forks_without_a_gap() {
    let mut rig = Rig::new(Params {
        trees: 1,
        zygote: ZygoteSettings {
            forks_max: Some(3),
            ..ZygoteSettings::DEFAULT
        },
        ..params(4_096)
    });
    rig.plant(&[]);
    let old = rig.ready_all()[0].0;
    let function = rig.deploy(0, settings());
    let mut origins = Vec::new();
    for _ in 0..4 {
        rig.call(function);
        let (instance, origin) = rig.forks()[0];
        origins.push(origin);
        rig.tell(Event::Forked { instance });
    }
    let from_old = Origin::Zygote {
        zygote: old,
        node: NodeId::ROOT,
    };
    assert!(
        origins.iter().all(|origin| *origin == from_old),
        "until the new one is live"
    );
    let new = rig.ready_all()[0].0;
    let killed = rig.take(|effect| match effect {
        Effect::KillZygote { zygote } => Some(*zygote),
        _ => None,
    });
    assert_eq!(killed, [old]);
    rig.call(function);
    let from_new = Origin::Zygote {
        zygote: new,
        node: NodeId::ROOT,
    };
    assert_eq!(rig.forks()[0].1, from_new);
}

#[test]
fn a_new_tree_keeps_the_zygotes_that_it_has_as_well() {
    let mut rig = Rig::new(Params {
        trees: 1,
        warmup: true,
        ..params(4_096)
    });
    rig.plant(&[(0, "numpy"), (0, "flask")]);
    let before = rig.ready_all();
    assert_eq!(before.len(), 3, "warm-up makes every node");
    rig.plant(&[(0, "sympy"), (0, "numpy")]);
    let killed = rig.take(|effect| match effect {
        Effect::KillZygote { zygote } => Some(*zygote),
        _ => None,
    });
    let flask = before.iter().find(|(_, node)| *node == NodeId(2)).unwrap();
    assert_eq!(killed, [flask.0], "only what the new tree lacks");
    let numpy = before.iter().find(|(_, node)| *node == NodeId(1)).unwrap();
    assert_eq!(
        rig.engine.zygote(numpy.0).unwrap().node,
        NodeId(2),
        "under its new number"
    );
}

#[test]
fn a_function_nobody_measured_is_charged_what_others_from_its_node_hold() {
    let mut rig = Rig::new(Params {
        trees: 1,
        ..params(4_096)
    });
    rig.plant(&[(0, "numpy")]);
    rig.ready_all();
    let charged = |rig: &mut Rig, index: u32| {
        let function = rig.deploy(index, with_packages(&["numpy"]));
        let before = rig.engine.pool().memory_held;
        rig.call(function);
        let (instance, origin) = rig.forks()[0];
        assert!(matches!(
            origin,
            Origin::Zygote {
                node: NodeId(1),
                ..
            }
        ));
        (instance, rig.engine.pool().memory_held - before)
    };
    // Its node lives from the first call on.
    let first = rig.deploy(0, with_packages(&["numpy"]));
    rig.call(first);
    rig.ready_all();
    rig.forks();
    let (_, guessed) = charged(&mut rig, 1);
    assert!(guessed >= Bytes::from_mb(16), "{guessed:?}");
    for index in 2..8 {
        let (instance, _) = charged(&mut rig, index);
        let (sandbox, memory) = (Sandbox::Instance(instance), Bytes::from_mb(3));
        rig.tell(Event::MemorySampled { sandbox, memory });
    }
    let (_, learnt) = charged(&mut rig, 8);
    assert!(
        learnt > Bytes::from_mb(3) && learnt < Bytes::from_mb(5),
        "{learnt:?}"
    );
}

#[test]
fn who_may_not_queue_waits_for_no_zygote() {
    let mut rig = Rig::new(Params {
        trees: 1,
        ..params(4_096)
    });
    rig.plant(&[(0, "numpy")]);
    rig.pass(20);
    let patient = rig.deploy(0, with_packages(&["numpy"]));
    rig.call(patient);
    assert!(rig.forks().is_empty(), "the root is being made");
    let settings = FunctionSettings {
        queue: 0,
        ..with_packages(&["numpy"])
    };
    let narrow = rig.deploy(1, settings);
    rig.call(narrow);
    let forks = rig.forks();
    assert!(matches!(forks[..], [(_, Origin::Fresh)]), "{forks:?}");
    assert!(rig.refusals().is_empty());
}
