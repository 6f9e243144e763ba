//! What this model promises: no fault that can be avoided, whatever the policy.

use super::*;
use crate::base::Random;
use crate::sim::keepalive::report::Who;
use crate::sim::trace::Header;

struct Made {
    functions: Vec<Function>,
    arrivals: Vec<Arrival>,
    memory_mb: f64,
}

fn made_up(seed: u64) -> Made {
    let mut random = Random::new(seed);
    let count = 1 + random.below(8);
    let function = |index| {
        let pick =
            |random: &mut Random, from: &[f64]| from[random.below(from.len() as u64) as usize];
        let mem_mb = pick(&mut random, &[1.0, 10.0, 10.0, 64.5, 100.0, 700.0]);
        let warm_ms = pick(&mut random, &[0.0, 5.0, 400.0, 30_000.0]);
        let start_ms = pick(&mut random, &[-2.0, 0.0, 50.0, 2_000.0]);
        let cold_ms = f64::max(warm_ms + start_ms, 0.0);
        Function::plain(format!("f{index}"), mem_mb, cold_ms, warm_ms)
    };
    let functions: Vec<Function> = (0..count).map(function).collect();
    let total: f64 = functions.iter().map(|function| function.mem_mb).sum();
    let mut random = Random::new(!seed);
    let memory_mb = (total * (0.1 + 2.0 * random.unit())).ceil();
    let mut t_ms = 0.0;
    let steps = [0.0, 1.0, 300.0, 60_000.0, 1_800_000.0];
    let reach = 1 + random.below(steps.len() as u64);
    let arrivals = (0..300).map(|_| {
        t_ms += steps[random.below(reach) as usize];
        let function = random.below(count) as u32;
        Arrival { t_ms, function }
    });
    Made {
        arrivals: arrivals.collect(),
        functions,
        memory_mb,
    }
}

impl Made {
    fn server(&self, policy: Policy, options: Options) -> Own {
        let future = Arc::new(Future::of(&self.functions, &self.arrivals));
        let (functions, memory_mb) = (&self.functions, self.memory_mb);
        Own::new(functions, policy, options, memory_mb, 3, Some(future), None)
    }

    /// Functions with packages, of which more than one function wants each.
    fn layered_server(&self, policy: Policy, options: Options) -> Own {
        let sets: [&[&str]; 4] = [
            &["numpy", "pandas"],
            &["numpy"],
            &["numpy", "pandas", "six"],
            &["flask"],
        ];
        let mut header = Header {
            functions: self.functions.clone(),
            ..Header::default()
        };
        for (at, function) in header.functions.iter_mut().enumerate() {
            function.packages = sets[at % sets.len()]
                .iter()
                .map(|&name| name.into())
                .collect();
        }
        let layers = Some(Arc::new(Layers::of(&header, 0.5)));
        let (functions, memory_mb) = (&self.functions, self.memory_mb);
        let future = Some(Arc::new(Future::default()));
        Own::new(functions, policy, options, memory_mb, 3, future, layers)
    }
}

impl Own {
    /// Its sums are those of its containers.
    fn check(&self) {
        let (mut used_mb, mut busy_mb, mut idle) = (0.0, 0.0, 0);
        for (node, kept) in self.kept.iter().enumerate() {
            let mem_mb = self.layer_mb(node as u32);
            used_mb += if kept.is_there { mem_mb } else { 0.0 };
            busy_mb += if kept.busy > 0 { mem_mb } else { 0.0 };
            let above = self.kept.iter().enumerate().filter(|(above, kept)| {
                kept.is_there && self.parent_of(*above as u32) == Some(node as u32)
            });
            let on = self.containers.iter().filter(|(_, container)| {
                self.layers.stand(container.function).node == Some(node as u32)
            });
            let stood_on_by = above.count() + on.count();
            assert_eq!(kept.stood_on_by as usize, stood_on_by);
            assert!(kept.is_there || stood_on_by == 0, "standing on nothing");
        }
        for (key, container) in self.containers.iter() {
            let served = &self.functions[container.function as usize];
            used_mb += served.mem_mb;
            if let Some(place) = container.busy_at {
                busy_mb += served.mem_mb;
                assert_eq!(served.busy[place], key);
            } else {
                idle += 1;
                assert!(served.idle.contains(&key));
            }
        }
        assert!((used_mb - self.used_mb).abs() < 1e-6 && (busy_mb - self.busy_mb).abs() < 1e-6);
        assert!(self.used_mb <= self.memory_mb + 1e-6);
        let listed = self.with_idle.iter();
        let listed = listed.map(|function| self.functions[*function as usize].idle.len());
        assert_eq!(
            listed.sum::<usize>(),
            idle,
            "who has something idle is listed"
        );
    }
}

fn options() -> impl Iterator<Item = Options> {
    [(false, false), (true, false), (false, true), (true, true)]
        .into_iter()
        .map(|(wait, layers)| Options { wait, layers })
}

#[test]
fn nobody_goes_in_vain_and_nobody_is_dropped_who_need_not_be() {
    for seed in 0..60 {
        let made = made_up(seed);
        for policy in Policy::all() {
            for options in options() {
                let what = format!("{} with {options:?} of {seed}", policy.name());
                let server = if options.layers && policy != Policy::Oracle {
                    made.layered_server(policy, options)
                } else {
                    made.server(policy, options)
                };
                play_checked(&made, server, &what);
            }
        }
    }
}

fn play_checked(made: &Made, mut server: Own, what: &str) {
    for &arrival in &made.arrivals {
        let outcome = server.call(arrival);
        server.check();
        if outcome == Outcome::Dropped {
            let stack = server.missing(arrival.function);
            let own_mb = server.functions[arrival.function as usize].mem_mb;
            let least_mb = server.busy_mb + own_mb + stack.unheld_mb;
            assert!(least_mb > made.memory_mb, "{what} at {arrival:?}");
            assert!(server.victims().is_empty(), "{what}: evicted and dropped");
        }
        for victim in server.victims() {
            let with_it = server.used_mb + server.back_mb(victim.who);
            assert!(
                with_it > made.memory_mb,
                "{what} at {arrival:?}: one too many went"
            );
        }
    }
    let total = server.counts().total();
    let calls = total.hits + total.misses + total.drops;
    assert_eq!(calls, made.arrivals.len() as u64);
}

impl Own {
    /// What it would take to have it again, with the layers that are missing below it.
    fn back_mb(&self, who: Who) -> f64 {
        match who {
            Who::Function(function) => {
                self.functions[function as usize].mem_mb + self.missing(function).mem_mb
            }
            Who::Layer(node) => {
                let below = core::iter::successors(Some(node), |&node| self.parent_of(node));
                let missing = below.filter(|&node| !self.kept[node as usize].is_there);
                missing.map(|node| self.layer_mb(node)).sum()
            }
        }
    }
}

#[test]
fn nothing_goes_below_the_bound() {
    for seed in 0..120 {
        let made = made_up(seed);
        let future = Future::of(&made.functions, &made.arrivals);
        let bound = future.bound(&made.functions, made.memory_mb).added_ms;
        for policy in Policy::all() {
            // It starts ahead of calls, which the bound is not about.
            if policy == Policy::Live(Evict::Hist) {
                continue;
            }
            let mut server = made.server(policy, Options::default());
            for &arrival in &made.arrivals {
                server.call(arrival);
            }
            let added = server.counts().added_ms;
            assert!(
                added >= bound - 1e-6,
                "{seed}: {} below {bound}",
                policy.name()
            );
        }
    }
}

#[test]
fn what_lived_its_time_gives_its_memory_back() {
    let made = Made {
        functions: vec![
            Function::plain("a", 60.0, 20.0, 10.0),
            Function::plain("b", 60.0, 20.0, 10.0),
        ],
        arrivals: Vec::new(),
        memory_mb: 200.0,
    };
    let mut server = made.server(Policy::Live(Evict::Ttl), Options::default());
    let mut call = |t_ms, function| server.call(Arrival { t_ms, function });
    assert_eq!(call(0.0, 0), Outcome::Missed);
    assert_eq!(call(500_000.0, 0), Outcome::Hit);
    assert_eq!(call(1_000_000.0, 0), Outcome::Hit, "within ten minutes");
    assert_eq!(call(1_700_000.0, 1), Outcome::Missed);
    assert!((server.used_mb - 60.0).abs() < 1e-9, "only b is there");
}

#[test]
fn who_may_wait_does_so_when_that_is_sooner() {
    let made = Made {
        functions: vec![Function::plain("a", 60.0, 1_010.0, 10.0)],
        arrivals: Vec::new(),
        memory_mb: 600.0,
    };
    let mut server = made.server(
        Policy::Live(Evict::Lru),
        Options {
            wait: true,
            ..Options::default()
        },
    );
    let mut call = |t_ms| server.call(Arrival { t_ms, function: 0 });
    assert_eq!(call(0.0), Outcome::Missed);
    assert_eq!(
        call(0.0),
        Outcome::Missed,
        "that one takes as long as a start"
    );
    assert_eq!(call(2_000.0), Outcome::Hit);
    assert_eq!(call(2_000.0), Outcome::Hit);
    assert_eq!(call(2_001.0), Outcome::Hit, "9 ms rather than a start");
    assert!((server.counts().added_ms - 2_009.0).abs() < 1e-6);
    assert_eq!(server.containers.len(), 2);
}

#[test]
fn a_regular_caller_is_awaited_by_hist() {
    let hour = 3_600_000.0;
    let made = Made {
        functions: vec![Function::plain("a", 60.0, 1_010.0, 10.0)],
        arrivals: Vec::new(),
        memory_mb: 600.0,
    };
    let mut server = made.server(Policy::Live(Evict::Hist), Options::default());
    let mut outcomes = Vec::new();
    for call in 0..20 {
        let t_ms = f64::from(call) * hour;
        outcomes.push(server.call(Arrival { t_ms, function: 0 }));
        server.advance(t_ms + hour / 2.0);
        let is_away = server.containers.is_empty();
        assert_eq!(
            is_away,
            call >= 4,
            "gone meanwhile, once the rhythm is known"
        );
    }
    assert!(outcomes[1..].iter().all(|outcome| *outcome == Outcome::Hit));
}

/// Two functions on pandas (which is on numpy), one on flask, as a recorded trace tells them.
fn with_packages() -> Header {
    let function = |name: &str, packages: &[&str]| Function {
        packages: packages.iter().map(|&name| name.into()).collect(),
        ..Function::plain(name, 200.0, 1_010.0, 10.0)
    };
    Header {
        functions: vec![
            function("report", &["numpy", "pandas"]),
            function("model", &["numpy", "pandas", "six"]),
            function("site", &["flask"]),
        ],
        ..Header::default()
    }
}

fn layered(header: &Header, memory_mb: f64, share: f64) -> Own {
    let layers = Arc::new(Layers::of(header, share));
    let policy = Policy::Live(Evict::Layered);
    let functions = &header.functions;
    Own::new(
        functions,
        policy,
        Options::default(),
        memory_mb,
        0,
        None,
        Some(layers),
    )
}

impl Own {
    fn added_by(&mut self, t_ms: f64, function: u32) -> f64 {
        let before = self.counts.added_ms;
        let outcome = self.call(Arrival { t_ms, function });
        assert_ne!(outcome, Outcome::Dropped);
        self.check();
        self.counts.added_ms - before
    }
}

const HOUR_MS: f64 = 3_600_000.0;

#[test]
fn a_function_begins_where_another_that_shares_pandas_has_been() {
    let mut server = layered(&with_packages(), 1_000.0, 0.5);
    // From nothing a start takes what the trace says; then numpy (46), pandas (250) and the
    // interpreter (9) are there for the other one, the interpreter alone for the site.
    assert!((server.added_by(0.0, 0) - 1_000.0).abs() < 1e-6);
    assert!((server.used_mb - 200.0).abs() < 1e-6);
    assert!((server.added_by(5_000.0, 1) - (1_000.0 - 305.0)).abs() < 1e-6);
    assert!(
        (server.used_mb - (400.0 - 64.0)).abs() < 1e-6,
        "8 + 16 + 40 MB are held once"
    );
    assert!((server.added_by(10_000.0, 2) - (1_000.0 - 9.0)).abs() < 1e-6);
    assert_eq!(server.counts.layer_starts, 2);
}

#[test]
fn the_own_state_goes_first_and_the_layers_in_their_own_time() {
    let mut server = layered(&with_packages(), 1_000.0, 0.5);
    server.added_by(0.0, 0);
    // Nothing is known of gaps: each layer has an hour, the next one from when this one is gone.
    server.advance(HOUR_MS + 60_000.0);
    server.check();
    assert!(server.containers.is_empty());
    assert!((server.used_mb - 64.0).abs() < 1e-6, "its layers are left");
    assert!((server.added_by(HOUR_MS + 70_000.0, 0) - (1_000.0 - 305.0)).abs() < 1e-6);
    server.advance(3.0 * HOUR_MS + 200_000.0);
    let left = "the interpreter stays an hour longer than the packages";
    assert!((server.used_mb - 8.0).abs() < 1e-6, "{left}");
    server.advance(6.0 * HOUR_MS);
    assert!(server.used_mb.abs() < 1e-6, "all times are over");
    assert_eq!(server.counts.layer_evictions, 2);
    assert!((server.added_by(6.0 * HOUR_MS, 0) - 1_000.0).abs() < 1e-6);
}

#[test]
fn the_horizon_of_a_layer_is_that_of_all_who_start_from_it() {
    let mut header = with_packages();
    header.functions[2] = header.functions[1].clone();
    let mut server = layered(&header, 10_000.0, 0.5);
    // Each function is called every six hours, so that one of the three comes every two.
    for call in 0..30 {
        server.added_by(f64::from(call) * 2.0 * HOUR_MS, call % 3);
    }
    let after = 29.0 * 2.0 * HOUR_MS + 1_000.0;
    let later = server.added_by(after + 2.0 * HOUR_MS, 0);
    let span = |kept: &Kept| kept.history.stay().used.unwrap();
    assert!(
        later < 1_000.0 - 300.0,
        "the package layers were kept: {later} ms"
    );
    assert!(span(&server.kept[1]) < Duration::from_hours(3));
    assert!(server.functions[0].history.stay().used.unwrap() > Duration::from_hours(5));
}

#[test]
fn kept_layers_give_way_when_memory_is_short() {
    let mut server = layered(&with_packages(), 250.0, 0.5);
    server.added_by(0.0, 0);
    // The site needs 192 MB beside the interpreter: the container and what is above that must go.
    assert!((server.added_by(5_000.0, 2) - 991.0).abs() < 1e-6);
    let went: Vec<Who> = server.victims().iter().map(|victim| victim.who).collect();
    assert_eq!(went[0], Who::Function(0));
    assert!(
        !went.contains(&Who::Layer(0)),
        "the newcomer stands on the interpreter"
    );
    assert!(server.used_mb <= 250.0);
}

#[test]
fn a_plain_trace_has_a_runtime_no_heavier_than_its_lightest_function() {
    let functions = vec![
        Function::plain("a", 100.0, 1_010.0, 10.0),
        Function::plain("b", 40.0, 210.0, 10.0),
        Function::plain("never-starts", 10.0, 10.0, 10.0),
    ];
    let header = Header {
        functions,
        ..Header::default()
    };
    let mut server = layered(&header, 1_000.0, 0.5);
    assert!((server.added_by(0.0, 0) - 1_000.0).abs() < 1e-6);
    assert!(
        (server.added_by(5_000.0, 1) - 100.0).abs() < 1e-6,
        "half of the shortest start"
    );
    assert!((server.used_mb - 120.0).abs() < 1e-6, "20 MB are shared");
    let mut alone = layered(&header, 1_000.0, 0.0);
    alone.added_by(0.0, 0);
    assert!(
        (alone.added_by(5_000.0, 1) - 200.0).abs() < 1e-6,
        "no runtime, nothing to share"
    );
}
