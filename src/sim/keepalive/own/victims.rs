//! Making room: whether it can be made, who goes, and who need not go after all.
//!
//! First it is asked whether all that is idle would do; if not, nobody goes. Then the least worthy
//! go until there is room. The last of them may be large: whoever went before it and is not needed
//! beside it stays, the worthiest first.
//!
//! Layers go one by one, once nobody stands on them or whoever does is chosen; never those that
//! the newcomer will stand on, since it would have to make them again.

use super::{ContainerKey, Own, Policy};
use crate::sim::keepalive::report::{Victim, Who};

#[derive(Debug, Clone, Copy)]
struct Chosen {
    what: What,
    /// The layer that it stands on.
    on: Option<u32>,
    worth: f64,
    mem_mb: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Container(ContainerKey, u32),
    Layer(u32),
}

impl Chosen {
    fn is_of(&self, function: u32) -> bool {
        matches!(self.what, What::Container(_, owner) if owner == function)
    }
}

impl Own {
    /// Frees memory until a start of the function fits; false, and nothing changed, when it cannot.
    pub(super) fn make_room(&mut self, function: u32, now: f64) -> bool {
        let own_mb = self.functions[function as usize].mem_mb;
        let stack = self.missing(function);
        let mem_mb = own_mb + stack.mem_mb;
        if self.fits(mem_mb) {
            return true;
        }
        let missing = self.used_mb + mem_mb - self.memory_mb;
        if self.busy_mb + own_mb + stack.unheld_mb > self.memory_mb {
            return false;
        }
        let mut chosen: Vec<Chosen> = Vec::new();
        let mut freed = 0.0;
        while freed < missing {
            let Some(next) = self.least_worthy(&chosen, function, now) else {
                break;
            };
            freed += next.mem_mb;
            chosen.push(next);
        }
        let mut surplus = freed - missing;
        chosen.retain_worthiest_within(&mut surplus);
        for victim in &chosen {
            self.evict(victim, now);
        }
        self.fits(mem_mb)
    }

    fn evict(&mut self, victim: &Chosen, now: f64) {
        let Chosen { what, worth, .. } = *victim;
        if self.policy.evict().has_clock() {
            self.clock = f64::max(self.clock, worth);
        }
        let who = match what {
            What::Container(container, function) => {
                self.counts.evicted(function as usize);
                self.remove(container, now);
                Who::Function(function)
            }
            What::Layer(node) => {
                self.remove_layer(node, now);
                Who::Layer(node)
            }
        };
        let priority = worth;
        self.victims.push(Victim { who, priority });
    }

    /// The least worthy of those not chosen yet.
    fn least_worthy(&mut self, chosen: &[Chosen], newcomer: u32, now: f64) -> Option<Chosen> {
        let mut least: Option<Chosen> = None;
        for at in 0..self.with_idle.len() {
            let function = self.with_idle[at];
            let taken = chosen.iter().filter(|one| one.is_of(function)).count();
            let served = &self.functions[function as usize];
            let Some(&container) = served.idle.get(taken) else {
                continue;
            };
            let mem_mb = served.mem_mb;
            let worth = self.worth(function, container, taken, now);
            if least.is_none_or(|least| worth < least.worth) {
                least = Some(Chosen {
                    what: What::Container(container, function),
                    on: self.layers.stand(function).node,
                    worth,
                    mem_mb,
                });
            }
        }
        for node in 0..self.kept.len() as u32 {
            if !self.could_go(node, chosen, newcomer) {
                continue;
            }
            let worth = self.worth_of_layer(node, now);
            if least.is_none_or(|least| worth < least.worth) {
                least = Some(Chosen {
                    what: What::Layer(node),
                    on: self.parent_of(node),
                    worth,
                    mem_mb: self.layer_mb(node),
                });
            }
        }
        least
    }

    /// Whether the layer is there, not chosen yet, and nobody will stand on it.
    fn could_go(&self, node: u32, chosen: &[Chosen], newcomer: u32) -> bool {
        let kept = &self.kept[node as usize];
        if !kept.is_there || chosen.iter().any(|one| one.what == What::Layer(node)) {
            return false;
        }
        let leaving = chosen.iter().filter(|one| one.on == Some(node)).count();
        leaving == kept.stood_on_by as usize && !self.is_below(node, newcomer)
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
    /// Strikes out whom there is no need of: from the worthiest down, who fits into the surplus and
    /// would not be left standing on nothing.
    fn retain_worthiest_within(&mut self, surplus: &mut f64) {
        for at in (0..self.len()).rev() {
            let on = self[at].on;
            let stands = on.is_none_or(|node| self.iter().all(|one| one.what != What::Layer(node)));
            if stands && self[at].mem_mb <= *surplus {
                *surplus -= self[at].mem_mb;
                self.remove(at);
            }
        }
    }
}
