//! Making room: whether it can be made, who goes, and who need not go after all.
//!
//! First it is asked whether all that is idle would do; if not, nobody goes. Then the least worthy
//! go until there is room. The last of them may be large: whoever went before it and is not needed
//! beside it stays, the worthiest first.

use super::{ContainerKey, Own, Policy};
use crate::sim::keepalive::report::Victim;

#[derive(Debug, Clone, Copy)]
struct Chosen {
    container: ContainerKey,
    function: u32,
    worth: f64,
    mem_mb: f64,
}

impl Own {
    /// Frees memory until this much more fits; false, and nothing changed, when it cannot.
    pub(super) fn make_room(&mut self, mem_mb: f64, now: f64) -> bool {
        let missing = self.used_mb + mem_mb - self.memory_mb;
        if missing <= 0.0 {
            return true;
        }
        if self.busy_mb + mem_mb > self.memory_mb {
            return false;
        }
        let mut chosen: Vec<Chosen> = Vec::new();
        let mut freed = 0.0;
        while freed < missing {
            let Some(next) = self.least_worthy(&chosen, now) else {
                break;
            };
            freed += next.mem_mb;
            chosen.push(next);
        }
        let mut surplus = freed - missing;
        chosen.retain_worthiest_within(&mut surplus);
        for victim in &chosen {
            self.evict(victim);
        }
        self.used_mb + mem_mb <= self.memory_mb
    }

    fn evict(&mut self, victim: &Chosen) {
        let Chosen {
            container,
            function,
            worth,
            ..
        } = *victim;
        if self.policy.evict().has_clock() {
            self.clock = f64::max(self.clock, worth);
        }
        self.victims.push(Victim {
            function,
            priority: worth,
        });
        self.counts.evicted(function as usize);
        self.remove(container);
    }

    /// The least worthy of those not chosen yet.
    fn least_worthy(&mut self, chosen: &[Chosen], now: f64) -> Option<Chosen> {
        let mut least: Option<Chosen> = None;
        for at in 0..self.with_idle.len() {
            let function = self.with_idle[at];
            let taken = chosen
                .iter()
                .filter(|chosen| chosen.function == function)
                .count();
            let served = &self.functions[function as usize];
            let Some(&container) = served.idle.get(taken) else {
                continue;
            };
            let mem_mb = served.mem_mb;
            let worth = self.worth(function, container, taken, now);
            if least.is_none_or(|least| worth < least.worth) {
                least = Some(Chosen {
                    container,
                    function,
                    worth,
                    mem_mb,
                });
            }
        }
        least
    }

    /// What the function's lowest container is worth, `taken` of them gone.
    fn worth(&mut self, function: u32, container: ContainerKey, taken: usize, now: f64) -> f64 {
        let idle = self
            .containers
            .get(container)
            .expect("it is listed as idle");
        let name = u64::from(function) ^ self.seed;
        let served = &mut self.functions[function as usize];
        let thing = served.thing(taken, idle.free_at_ms, now, name);
        if self.policy == Policy::Oracle {
            let next_ms = self.foreseen_ms(function, taken, thing.level, now);
            let served = &self.functions[function as usize];
            return served.start_ms / served.mem_mb / (next_ms - now);
        }
        if taken == 0 {
            served.history.remember(&thing);
        }
        served.history.worth(&thing)
    }

    /// When the function's lowest container is wanted. What was foreseen has every run warm; when
    /// runs are cold, calls overlap that were not to, and the last idle one is wanted by the next.
    fn foreseen_ms(&mut self, function: u32, taken: usize, level: u32, now: f64) -> f64 {
        let future = self.future.as_ref().expect("the oracle is told the future");
        let served = &mut self.functions[function as usize];
        let next_ms = future.next(function, level, now, &mut served.cursor);
        if served.idle.len() - taken > 1 {
            return next_ms;
        }
        let call_ms = future.next_call(function, now, &mut served.cursor);
        let busy = served.busy.iter().map(|key| self.containers.get(*key));
        let is_wanted = busy
            .flatten()
            .all(|container| container.free_at_ms > call_ms);
        if is_wanted { call_ms } else { next_ms }
    }
}

trait Pruned {
    fn retain_worthiest_within(&mut self, surplus: &mut f64);
}

impl Pruned for Vec<Chosen> {
    /// Strikes out whom there is no need of: from the worthiest down, who fits into the surplus.
    fn retain_worthiest_within(&mut self, surplus: &mut f64) {
        for at in (0..self.len()).rev() {
            if self[at].mem_mb <= *surplus {
                *surplus -= self[at].mem_mb;
                self.remove(at);
            }
        }
    }
}
