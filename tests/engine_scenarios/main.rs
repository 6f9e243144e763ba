//! The worker's promises, one scenario each: a few events, and what must come of them.

mod rig;
mod zygotes;

use olworker::base::{Bytes, Duration, Limits, PackageSet};
use olworker::engine::*;
use olworker::policy::{Evict, Scale};

use rig::*;

// Starts.

#[test]
fn a_burst_of_32_calls_to_a_cold_function_starts_32_instances_in_one_turn() {
    for scale in Scale::ALL {
        let mut rig = Rig::new(Params {
            scale,
            ..params(8_192)
        });
        let function = rig.deploy(0, settings());
        let calls: Vec<CallKey> = (0..32).map(|_| rig.call(function)).collect();
        assert_eq!(rig.forks().len(), 32, "nothing had to happen in between");
        let relayed: Vec<CallKey> = rig.relays().into_iter().map(|(call, _)| call).collect();
        assert_eq!(relayed, calls, "and each call left with its fork");
    }
}

#[test]
fn an_install_that_ends_starts_everybody_who_waited_in_one_turn() {
    let mut rig = Rig::new(Params {
        install: Some(Duration::from_mins(5)),
        ..params(8_192)
    });
    let wanted = FunctionSettings {
        packages: Packages::Wanted,
        instances: Some(20),
        ..settings()
    };
    let function = rig.deploy(0, wanted);
    for _ in 0..32 {
        rig.call(function);
    }
    assert_eq!(rig.forks().len(), 0);
    let wanted = Wanted::Function {
        function,
        version: 1,
    };
    let installs = rig.take(|effect| match effect {
        Effect::Install { wanted } => Some(*wanted),
        _ => None,
    });
    assert_eq!(installs, [wanted], "asked for once");
    rig.tell(Event::InstallFinished {
        wanted,
        packages: Box::new(PackageSet::EMPTY),
    });
    assert_eq!(rig.forks().len(), 20, "as many as it may have");
}

#[test]
fn a_warm_call_goes_to_the_instance_used_last() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(0, settings());
    let (first, second) = (rig.call(function), rig.call(function));
    let relays = rig.relays();
    let (one, two) = (relays[0].1, relays[1].1);
    rig.answered(second, two);
    rig.answered(first, one);
    let third = rig.call(function);
    assert_eq!(rig.relays(), [(third, one)]);
    assert_eq!(rig.forks().len(), 2, "no more were needed");
}

#[test]
fn the_answer_may_overtake_the_word_that_the_process_exists() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(0, settings());
    let call = rig.call(function);
    let (_, instance) = rig.relays()[0];
    rig.answered(call, instance);
    let next = rig.call(function);
    assert_eq!(rig.relays(), [(next, instance)]);
    rig.tell(Event::Forked { instance });
    rig.answered(next, instance);
    assert_eq!(rig.engine.counts().answered, 2);
    assert_eq!(rig.engine.counts().stale, 0, "both orders are legal");
}

#[test]
fn a_call_waits_for_who_is_free_sooner_than_a_start() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(0, settings());
    let call = rig.call(function);
    let (_, instance) = rig.relays()[0];
    rig.tell(Event::Forked { instance });
    rig.pass(800);
    rig.tell(Event::Given { instance });
    rig.pass(50);
    rig.answered(call, instance);
    rig.forks();
    // A start takes 800 ms, a call 50.
    let first = rig.call(function);
    let second = rig.call(function);
    assert_eq!(rig.forks().len(), 0, "the second waits its 50 ms");
    rig.pass(50);
    rig.answered(first, instance);
    assert_eq!(rig.relays(), [(first, instance), (second, instance)]);
    // This time the running call does not come back: patience ends after the time of a start.
    rig.call(function);
    rig.pass(900);
    assert_eq!(rig.forks().len(), 1);
}

#[test]
fn a_call_that_starts_at_once_is_not_cut_though_the_queue_is_too_long() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(
        0,
        FunctionSettings {
            queue: 2,
            ..settings()
        },
    );
    let call = rig.call(function);
    let (_, instance) = rig.relays()[0];
    rig.tell(Event::Forked { instance });
    rig.pass(100);
    rig.tell(Event::Given { instance });
    rig.pass(40);
    rig.answered(call, instance);
    // A start takes 100 ms, a call 40: the fourth call does not wait for its turn after 120 ms.
    let calls: Vec<CallKey> = (0..4).map(|_| rig.call(function)).collect();
    let relays = rig.relays();
    let (fourth, started) = *relays.last().unwrap();
    assert_eq!(fourth, calls[3]);
    // It is lost unseen and waits again, a third in a queue of two: its turn comes after 90 ms.
    rig.pass(30);
    rig.exited(started);
    assert!(rig.relays().is_empty());
    let fifth = rig.call(function);
    assert_eq!(
        rig.relays().last().unwrap().0,
        fifth,
        "started, not waiting"
    );
    assert!(rig.refusals().is_empty());
}

// Ends.

#[test]
fn a_call_that_nobody_saw_is_tried_once_more_and_not_twice() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(0, settings());
    let call = rig.call(function);
    let (_, first) = rig.relays()[0];
    rig.exited(first);
    let (again, second) = rig.relays()[0];
    assert_eq!(again, call);
    assert!(rig.refusals().is_empty());
    rig.exited(second);
    assert_eq!(rig.refusals(), [(call, Refusal::SandboxDied)]);
    assert!(rig.relays().is_empty());
}

#[test]
fn a_call_that_user_code_saw_is_never_tried_again() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(0, settings());
    let call = rig.call(function);
    let (_, instance) = rig.relays()[0];
    rig.tell(Event::InstanceExited {
        instance,
        seen: true,
        exit: Exit::OutOfMemory,
    });
    assert_eq!(rig.refusals(), [(call, Refusal::SandboxDied)]);
    assert!(rig.relays().is_empty());
}

#[test]
fn running_time_counts_from_when_user_code_got_the_call() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(
        0,
        FunctionSettings {
            runtime: Duration::from_secs(2),
            ..settings()
        },
    );
    let call = rig.call(function);
    let (_, instance) = rig.relays()[0];
    rig.tell(Event::Forked { instance });
    rig.pass(9_000);
    assert!(
        rig.refusals().is_empty(),
        "imports are not its running time"
    );
    rig.tell(Event::Given { instance });
    rig.pass(1_999);
    assert!(rig.refusals().is_empty());
    rig.pass(1);
    assert_eq!(rig.refusals(), [(call, Refusal::CallTimedOut)]);
    assert_eq!(rig.kills(), [instance]);
}

#[test]
fn running_calls_finish_on_the_old_code() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(0, settings());
    let idle = rig.warm(function, 10);
    let call = rig.call(function);
    rig.relays();
    let second = rig.call(function);
    let (_, other) = rig.relays()[0];
    rig.answered(second, other);
    rig.tell(Event::FunctionDeployed {
        function,
        version: 2,
        settings: Box::new(settings()),
    });
    assert_eq!(rig.kills(), [other], "the idle one goes at once");
    rig.answered(call, idle);
    assert_eq!(rig.kills(), [idle], "the running one after its call");
    assert!(rig.refusals().is_empty());
    rig.call(function);
    let versions = rig.take(|effect| match effect {
        Effect::Fork { version, .. } => Some(*version),
        _ => None,
    });
    assert_eq!(versions.last(), Some(&2));
}

// Fairness.

#[test]
fn a_function_that_saturates_its_limit_is_refused_and_starves_nobody() {
    let mut rig = Rig::new(params(4_096));
    let greedy = rig.deploy(
        0,
        FunctionSettings {
            instances: Some(4),
            queue: 10,
            ..settings()
        },
    );
    let modest = rig.deploy(1, settings());
    let calls: Vec<CallKey> = (0..50).map(|_| rig.call(greedy)).collect();
    let refused = rig.refusals();
    assert_eq!(refused.len(), 50 - 4 - 10);
    assert!(refused.iter().all(|(_, why)| *why == Refusal::TooManyCalls));
    assert!(calls[14..].contains(&refused[0].0), "those who came last");
    rig.relays();
    let call = rig.call(modest);
    assert_eq!(rig.relays()[0].0, call, "somebody else is served at once");
}

#[test]
fn nobody_waits_behind_a_giant_for_ever_nor_the_giant_behind_dwarfs() {
    // Memory for ten dwarfs; the giant needs that of eight.
    let mut rig = Rig::with(
        Limits {
            bypasses: 3,
            ..Limits::DEFAULT
        },
        params(100),
    );
    let small = |index: u32, rig: &mut Rig| {
        let function = rig.deploy(
            index,
            FunctionSettings {
                memory: Bytes::from_mb(10),
                ..settings()
            },
        );
        rig.call(function)
    };
    let running: Vec<CallKey> = (0..7).map(|index| small(index, &mut rig)).collect();
    let held = rig.relays();
    assert_eq!(held.len(), running.len());
    let giant = rig.deploy(
        50,
        FunctionSettings {
            memory: Bytes::from_mb(320),
            ..settings()
        },
    );
    let huge = rig.call(giant);
    assert!(rig.relays().is_empty(), "80 MB are not free");
    // Three pass the giant, the fourth has to stand behind it.
    let passing: Vec<CallKey> = (10..14).map(|index| small(index, &mut rig)).collect();
    let passed: Vec<CallKey> = rig.relays().into_iter().map(|(call, _)| call).collect();
    assert_eq!(passed, passing[..3]);
    // Room comes free, one by one: it is kept for the giant.
    for (call, instance) in held {
        rig.answered(call, instance);
        for killed in rig.kills() {
            rig.exited(killed);
        }
    }
    let _ = rig.relays();
    let pool = rig.engine.pool();
    assert_eq!(
        pool.calls,
        3 + 2,
        "three run, the giant and one dwarf wait: {pool:?}"
    );
    assert_eq!(rig.engine.function(giant).unwrap().queued, 1);
    assert!(rig.refusals().is_empty());
    let _ = huge;
}

#[test]
fn who_needs_more_than_there_will_ever_be_is_refused_at_once() {
    let mut rig = Rig::new(params(100));
    let function = rig.deploy(
        0,
        FunctionSettings {
            memory: Bytes::from_mb(2_000),
            ..settings()
        },
    );
    let call = rig.call(function);
    assert_eq!(rig.refusals(), [(call, Refusal::Overloaded)]);
}

#[test]
fn somebody_who_has_nothing_gets_memory_at_the_end_of_a_call_of_somebody_who_has_much() {
    let mut rig = Rig::new(params(100));
    let limits = FunctionSettings {
        memory: Bytes::from_mb(20),
        ..settings()
    };
    let rich = rig.deploy(0, limits.clone());
    for _ in 0..8 {
        rig.call(rich);
    }
    let mut running = rig.relays();
    assert_eq!(running.len(), 5, "the pool is full");
    let poor = rig.deploy(1, limits);
    rig.call(poor);
    rig.pass(500);
    let (call, instance) = running.remove(0);
    rig.answered(call, instance);
    assert_eq!(rig.relays().len(), 1, "not at once");
    rig.pass(600);
    let (call, instance) = running.remove(0);
    rig.answered(call, instance);
    assert_eq!(rig.kills(), [instance], "after a while it yields");
    rig.exited(instance);
    let served = rig.relays();
    assert_eq!(served.len(), 1);
    assert_eq!(rig.engine.function(poor).unwrap().instances[0], 1);
}

// Memory.

#[test]
fn the_evictor_frees_enough_and_no_more_and_says_why() {
    let mut rig = Rig::new(Params {
        evict: Evict::Lru,
        ..params(100)
    });
    let small = FunctionSettings {
        memory: Bytes::from_mb(25),
        ..settings()
    };
    let mut idle = Vec::new();
    for index in 0..5 {
        let function = rig.deploy(index, small.clone());
        idle.push(rig.warm(function, 18));
        rig.pass(10);
    }
    rig.notes();
    let large = rig.deploy(
        9,
        FunctionSettings {
            memory: Bytes::from_mb(45),
            ..with_packages(&["a", "b", "c", "d"])
        },
    );
    rig.call(large);
    let killed = rig.kills();
    assert_eq!(killed, idle[..2], "the two used longest ago are enough");
    let evicted: Vec<Need> = rig
        .notes()
        .into_iter()
        .filter_map(|note| match note {
            Note::Evicted { need, .. } => Some(need),
            _ => None,
        })
        .collect();
    assert_eq!(evicted, [Need::Start(large), Need::Start(large)]);
    for instance in killed {
        rig.exited(instance);
    }
    assert_eq!(rig.relays().len(), 1);
    assert_eq!(rig.kills(), [], "those on their way out were counted");
}

#[test]
fn what_would_not_be_enough_is_not_evicted_in_vain() {
    let mut rig = Rig::new(params(100));
    let small = FunctionSettings {
        memory: Bytes::from_mb(30),
        ..settings()
    };
    let function = rig.deploy(0, small.clone());
    rig.warm(function, 30);
    let other = rig.deploy(1, small.clone());
    rig.call(other);
    rig.call(other);
    let large = rig.deploy(
        2,
        FunctionSettings {
            memory: Bytes::from_mb(400),
            ..settings()
        },
    );
    rig.relays();
    rig.call(large);
    assert_eq!(rig.kills(), [], "90 MB would not be there even so");
}

#[test]
fn a_part_of_the_pool_is_kept_free_out_of_what_is_old() {
    let mut rig = Rig::new(Params {
        free_percent: 50,
        ..params(100)
    });
    let limits = FunctionSettings {
        memory: Bytes::from_mb(30),
        ..settings()
    };
    let first = rig.deploy(0, limits.clone());
    let old = rig.warm(first, 30);
    rig.pass(100);
    let second = rig.deploy(1, limits);
    rig.warm(second, 30);
    assert_eq!(rig.kills(), [], "what was just used is not taken for that");
    rig.pass(2_000);
    assert_eq!(rig.kills(), [old], "one is enough for the half");
}

#[test]
fn no_running_call_is_killed_and_nothing_stalls_in_a_pool_a_tenth_of_what_is_wanted() {
    use olworker::sim::trace::Arrival;
    use olworker::sim::worker::{Costs, FunctionCost, Setup, Sweep, World};
    for evict in Evict::ALL {
        let functions = (0..100).map(|index| FunctionCost {
            name: format!("f{index}"),
            memory: Bytes::from_mb(100),
            run: Duration::from_millis(40),
            own_start: Duration::from_millis(150),
            packages: PackageSet::EMPTY,
            to_install: false,
            settings: settings(),
        });
        let mut world = World::new(Setup {
            limits: Limits::DEFAULT,
            params: Params {
                evict,
                ..Params::new(Bytes::from_mb(1_000))
            },
            seed: 1,
            tree: None,
            functions: functions.collect(),
            costs: Costs::default(),
            faults: None,
            sweep: Sweep::Every(100),
            explain: true,
        });
        let mut random = olworker::base::Random::new(3);
        let calls: Vec<Arrival> = (0..4_000)
            .map(|number| Arrival {
                t_ms: f64::from(number) * 50.0,
                function: random.below(100) as u32,
            })
            .collect();
        world.play(&calls);
        let report = world.finish();
        assert_eq!(
            report.counts().answered,
            4_000,
            "{evict:?}: {:?}",
            report.refused
        );
        assert!(
            report.counts().evicted > 1_000,
            "{evict:?} is under pressure"
        );
        for (_, note) in world.take_notes() {
            if let Note::InstanceEnded { why, .. } = note {
                let peaceful = [End::Evicted, End::Yielded, End::Drained, End::Expired];
                assert!(peaceful.contains(&why), "{evict:?}: {why:?}");
            }
        }
    }
}

// Time.

#[test]
fn what_is_idle_for_long_is_frozen_and_thawed_by_its_next_call() {
    let mut rig = Rig::new(Params {
        freeze_after: Some(Duration::from_secs(5)),
        ..params(4_096)
    });
    let function = rig.deploy(0, settings());
    let instance = rig.warm(function, 10);
    rig.pass(4_999);
    let sandbox = Sandbox::Instance(instance);
    let freezes = |rig: &mut Rig| {
        rig.take(|effect| match effect {
            Effect::Freeze { sandbox } => Some(*sandbox),
            _ => None,
        })
    };
    assert_eq!(freezes(&mut rig), []);
    rig.pass(1);
    assert_eq!(freezes(&mut rig), [sandbox]);
    rig.tell(Event::Frozen { sandbox });
    let call = rig.call(function);
    rig.notes();
    let asked: Vec<Effect> = rig.effects.drain(..).collect();
    let relay = Effect::Relay {
        call,
        instance,
        start: Start::Warm,
    };
    assert_eq!(
        asked,
        [Effect::Reclaim { sandbox }, Effect::Thaw { sandbox }, relay]
    );
}

#[test]
fn ttl_keeps_nothing_longer() {
    let mut rig = Rig::new(Params {
        evict: Evict::Ttl,
        surplus: None,
        ..params(4_096)
    });
    let function = rig.deploy(0, settings());
    let instance = rig.warm(function, 10);
    rig.pass(599_000);
    assert_eq!(rig.kills(), []);
    rig.pass(1_000);
    assert_eq!(rig.kills(), [instance]);
}

#[test]
fn hist_lets_go_early_and_starts_ahead_of_the_next_call() {
    let mut rig = Rig::new(Params {
        evict: Evict::Hist,
        surplus: None,
        ..params(4_096)
    });
    let function = rig.deploy(0, settings());
    // Every half an hour.
    for _ in 0..6 {
        rig.warm(function, 10);
        rig.pass(120_000);
        for instance in rig.kills() {
            rig.exited(instance);
        }
        rig.pass(25 * 60_000 + 1_000);
        for (instance, _) in rig.forks() {
            rig.tell(Event::Forked { instance });
        }
        rig.pass(3 * 60_000 - 1_000);
    }
    rig.warm(function, 10);
    rig.pass(61_000);
    let killed = rig.kills();
    assert_eq!(killed.len(), 1, "the next call is far");
    rig.exited(killed[0]);
    rig.forks();
    rig.pass(25 * 60_000);
    assert_eq!(rig.forks().len(), 0);
    rig.pass(60_000);
    let ahead = rig.forks();
    assert_eq!(ahead.len(), 1, "ready before the half hour is over");
    rig.tell(Event::Forked {
        instance: ahead[0].0,
    });
    let call = rig.call(function);
    assert_eq!(rig.relays(), [(call, ahead[0].0)]);
}

#[test]
fn what_a_burst_left_behind_goes_in_the_end_but_for_one() {
    let mut rig = Rig::new(params(8_192));
    let function = rig.deploy(0, settings());
    for _ in 0..20 {
        rig.call(function);
    }
    for (call, instance) in rig.relays() {
        rig.tell(Event::Given { instance });
        rig.pass(1);
        rig.answered(call, instance);
    }
    rig.pass(300_000);
    assert_eq!(rig.kills(), [], "not at once: no thrash");
    rig.pass(400_000);
    assert_eq!(rig.kills().len(), 19);
}

// The end.

#[test]
fn a_drain_serves_what_it_accepts_until_its_deadline() {
    let mut rig = Rig::new(params(4_096));
    let function = rig.deploy(0, settings());
    let instance = rig.warm(function, 10);
    let deadline = rig.now + Duration::from_secs(10);
    rig.tell(Event::DrainRequested {
        accept: true,
        deadline,
    });
    let call = rig.call(function);
    assert_eq!(rig.relays(), [(call, instance)], "still served");
    rig.tell(Event::DrainRequested {
        accept: false,
        deadline,
    });
    let late = rig.call(function);
    assert_eq!(rig.refusals(), [(late, Refusal::Draining)]);
    assert_eq!(rig.kills(), []);
    rig.pass(10_000);
    assert_eq!(rig.refusals(), [(call, Refusal::Draining)]);
    assert_eq!(rig.kills(), [instance]);
    rig.exited(instance);
    let drained = rig.take(|effect| matches!(effect, Effect::Drained).then_some(()));
    assert_eq!(drained.len(), 1);
}
