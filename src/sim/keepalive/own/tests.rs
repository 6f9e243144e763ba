//! What this model promises: no fault that can be avoided, whatever the policy.

use super::*;
use crate::base::Random;

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
        Own::new(functions, policy, options, memory_mb, 3, Some(future))
    }
}

impl Own {
    /// Its sums are those of its containers.
    fn check(&self) {
        let (mut used_mb, mut busy_mb, mut idle) = (0.0, 0.0, 0);
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

#[test]
fn nobody_goes_in_vain_and_nobody_is_dropped_who_need_not_be() {
    for seed in 0..60 {
        let made = made_up(seed);
        for policy in Policy::all() {
            for wait in [false, true] {
                let mut server = made.server(policy, Options { wait });
                for &arrival in &made.arrivals {
                    let outcome = server.call(arrival);
                    server.check();
                    let needs_mb = made.functions[arrival.function as usize].mem_mb;
                    let what = format!("{} at {arrival:?} of {seed}", policy.name());
                    if outcome == Outcome::Dropped {
                        assert!(server.busy_mb + needs_mb > made.memory_mb, "{what}");
                        assert!(server.victims().is_empty(), "{what}: evicted and dropped");
                    }
                    for victim in server.victims() {
                        let back_mb = made.functions[victim.function as usize].mem_mb;
                        let with_it = server.used_mb + back_mb;
                        assert!(with_it > made.memory_mb, "{what}: one too many went");
                    }
                }
                let total = server.counts().total();
                let calls = total.hits + total.misses + total.drops;
                assert_eq!(calls, made.arrivals.len() as u64);
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
    let mut server = made.server(Policy::Live(Evict::Lru), Options { wait: true });
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
