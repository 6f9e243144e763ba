//! The classic keep-alive model once more, transcribed sentence by sentence from its description.
//!
//! Slow on purpose: the whole heap is rebuilt wherever the description says so, every sum is taken
//! over the whole pool. It shares no code with the fast model, not even the heap or the dice.

use olworker::sim::keepalive::classic::Policy;
use olworker::sim::trace::{Arrival, Function};

const MINUTE: f64 = 60_000.0;

#[derive(Clone)]
struct Container {
    id: usize,
    function: usize,
    priority: f64,
    uses: u64,
    last_access: f64,
    finish: Option<f64>,
}

struct Arrivals {
    function: usize,
    last_seen: f64,
    samples: Vec<f64>,
}

pub struct Reference<'a> {
    functions: &'a [Function],
    policy: Policy,
    miss_ms: fn(&Function) -> f64,
    memory: f64,
    pool: Vec<Container>,
    running: Vec<usize>,
    known: Vec<Arrivals>,
    dice: Dice,
    next_id: usize,
    pub used: f64,
    pub clock: f64,
    pub outcomes: String,
    pub evictions: Vec<u64>,
    pub peak: f64,
    pub exec_ms: f64,
}

impl<'a> Reference<'a> {
    pub fn new(
        functions: &'a [Function],
        policy: Policy,
        miss_ms: fn(&Function) -> f64,
        memory: f64,
        seed: u32,
    ) -> Self {
        Self {
            functions,
            policy,
            miss_ms,
            memory,
            pool: Vec::new(),
            running: Vec::new(),
            known: Vec::new(),
            dice: Dice::new(seed),
            next_id: 0,
            used: 0.0,
            clock: 0.0,
            outcomes: String::new(),
            evictions: vec![0; functions.len()],
            peak: 0.0,
            exec_ms: 0.0,
        }
    }

    pub fn call(&mut self, arrival: Arrival) {
        let now = arrival.t_ms;
        let f = arrival.function as usize;
        self.step_1(now);
        if self.policy == Policy::Hist {
            self.step_2(now);
            self.step_3(f, now);
        }
        let chosen = self.step_4(f, now);
        let hit = chosen.is_some();
        let Some(id) = chosen.or_else(|| self.step_5(f, now)) else {
            self.outcomes.push('d');
            return;
        };
        self.outcomes.push(if hit { 'h' } else { 'm' });
        self.step_6(id, f, now, hit);
    }

    fn step_1(&mut self, now: f64) {
        let finished: Vec<usize> = self
            .running
            .iter()
            .copied()
            .filter(|&id| self.get(id).finish.unwrap() <= now)
            .collect();
        self.running.retain(|id| !finished.contains(id));
        for id in finished {
            self.get_mut(id).finish = None;
            let f = self.get(id).function;
            if self.policy == Policy::Hist && self.prewarm(f) != 0.0 {
                self.remove_from_array(id);
                self.heapify();
            }
        }
        self.heapify();
    }

    fn step_2(&mut self, now: f64) {
        for at in 0..self.known.len() {
            let f = self.known[at].function;
            let prewarm = self.prewarm(f);
            let late = self.known[at].last_seen + prewarm >= now;
            if prewarm != 0.0 && late && self.fits(f) {
                self.add(f, now);
            }
        }
    }

    fn step_3(&mut self, f: usize, now: f64) {
        let Some(known) = self.known.iter_mut().find(|known| known.function == f) else {
            self.known.push(Arrivals {
                function: f,
                last_seen: now,
                samples: Vec::new(),
            });
            return;
        };
        let bin = ((now - known.last_seen) / MINUTE).floor();
        if bin < 240.0 {
            known.samples.push(bin);
        }
        known.last_seen = now;
    }

    fn step_4(&mut self, f: usize, now: f64) -> Option<usize> {
        let idle = |c: &&Container| c.function == f && c.finish.is_none();
        let snapshot: Vec<usize> = self.pool.iter().filter(idle).map(|c| c.id).collect();
        let lifetime = match self.policy {
            Policy::Ttl => 10.0 * MINUTE,
            Policy::LongTtl => 120.0 * MINUTE,
            _ => return snapshot.first().copied(),
        };
        let mut remaining = Vec::new();
        for &id in &snapshot {
            if self.get(id).last_access + lifetime < now {
                self.remove_from_array(id);
                self.heapify();
                self.evictions[f] += 1;
            } else {
                remaining.push(id);
            }
        }
        if !snapshot.is_empty() {
            self.heapify();
        }
        remaining.first().copied()
    }

    fn step_5(&mut self, f: usize, now: f64) -> Option<usize> {
        if !self.fits(f) {
            self.evict(self.functions[f].mem_mb);
        }
        if !self.fits(f) {
            return None;
        }
        let id = self.add(f, now);
        self.heapify();
        Some(id)
    }

    fn step_6(&mut self, id: usize, f: usize, now: f64, hit: bool) {
        let function = &self.functions[f];
        let run = if hit {
            function.warm_ms
        } else {
            (self.miss_ms)(function)
        };
        self.exec_ms += run;
        let container = self.get_mut(id);
        container.uses += 1;
        container.finish = Some(now + run);
        container.last_access = now;
        self.running.push(id);
        let priority = self.priority(f, now);
        for container in &mut self.pool {
            if container.function == f {
                container.priority = priority;
            }
        }
        self.heapify();
    }

    fn evict(&mut self, size: f64) {
        if self.pool.iter().all(|c| c.finish.is_some()) {
            return;
        }
        if self.policy == Policy::Lnd {
            let size_of = |c: &Container| self.functions[c.function].mem_mb;
            let per_mb = self.pool.iter().map(|c| c.priority / size_of(c));
            let delta = per_mb.fold(f64::INFINITY, f64::min);
            for container in &mut self.pool {
                container.priority -= delta * self.functions[container.function].mem_mb;
            }
            self.heapify();
        }
        let mut freed = 0.0;
        let mut aside = Vec::new();
        let mut last_victim = None;
        while freed < size && !self.pool.is_empty() {
            let popped = self.pop();
            if popped.finish.is_some() {
                aside.push(popped);
                continue;
            }
            freed += self.functions[popped.function].mem_mb;
            self.used -= self.functions[popped.function].mem_mb;
            self.evictions[popped.function] += 1;
            last_victim = Some(popped);
        }
        for container in aside {
            self.push(container);
        }
        if let Some(victim) = last_victim {
            self.clock = victim.priority;
        }
    }

    fn add(&mut self, f: usize, now: f64) -> usize {
        self.used += self.functions[f].mem_mb;
        self.peak = self.peak.max(self.used);
        let id = self.next_id;
        self.next_id += 1;
        let priority = self.priority(f, now);
        self.push(Container {
            id,
            function: f,
            priority,
            uses: 0,
            last_access: now,
            finish: None,
        });
        id
    }

    fn priority(&mut self, f: usize, now: f64) -> f64 {
        let Function {
            mem_mb: size,
            cold_ms,
            warm_ms,
            ..
        } = &self.functions[f];
        let (cost, clock) = (cold_ms - warm_ms, self.clock);
        let freq = self
            .pool
            .iter()
            .filter(|c| c.function == f)
            .map(|c| c.uses)
            .sum::<u64>() as f64;
        match self.policy {
            Policy::Gd => clock + freq * (cost / size),
            Policy::Freq => clock + freq * cost,
            Policy::Size => clock + freq / size,
            Policy::Lnd => *warm_ms,
            Policy::Rand => self.dice.throw(),
            Policy::Lru | Policy::Ttl | Policy::LongTtl | Policy::Hist => now,
        }
    }

    fn prewarm(&self, f: usize) -> f64 {
        let Some(known) = self.known.iter().find(|known| known.function == f) else {
            return 0.0;
        };
        let (mut mean, mut squares, mut n) = (0.0, 0.0, 0.0);
        let mut bins = [0.0; 240];
        for &bin in &known.samples {
            n += 1.0;
            let delta = bin - mean;
            mean += delta / n;
            squares += delta * (bin - mean);
            bins[bin as usize] += 1.0;
        }
        if n < 2.0 || !(mean == 0.0 || squares / n / mean <= 2.0) {
            return 0.0;
        }
        let mut cumulative = 0.0;
        let mut head = 0;
        while head < 240 {
            cumulative += bins[head];
            if cumulative / n > 0.05 {
                break;
            }
            head += 1;
        }
        0.9 * (head as f64 - 1.0).max(0.0) * MINUTE
    }

    fn fits(&self, f: usize) -> bool {
        self.used + self.functions[f].mem_mb <= self.memory
    }

    fn get(&self, id: usize) -> &Container {
        self.pool.iter().find(|c| c.id == id).unwrap()
    }

    fn get_mut(&mut self, id: usize) -> &mut Container {
        self.pool.iter_mut().find(|c| c.id == id).unwrap()
    }

    fn remove_from_array(&mut self, id: usize) {
        let at = self.pool.iter().position(|c| c.id == id).unwrap();
        let container = self.pool.remove(at);
        self.used -= self.functions[container.function].mem_mb;
    }

    fn push(&mut self, container: Container) {
        self.pool.push(container);
        self.climb(0, self.pool.len() - 1);
    }

    fn pop(&mut self) -> Container {
        let last = self.pool.pop().unwrap();
        if self.pool.is_empty() {
            return last;
        }
        let top = std::mem::replace(&mut self.pool[0], last);
        self.sink(0);
        top
    }

    fn heapify(&mut self) {
        for k in (0..self.pool.len() / 2).rev() {
            self.sink(k);
        }
    }

    fn sink(&mut self, k: usize) {
        let mut hole = k;
        loop {
            let (left, right) = (2 * hole + 1, 2 * hole + 2);
            if left >= self.pool.len() {
                break;
            }
            let go_left =
                right >= self.pool.len() || self.pool[left].priority < self.pool[right].priority;
            let child = if go_left { left } else { right };
            self.pool.swap(hole, child);
            hole = child;
        }
        self.climb(k, hole);
    }

    fn climb(&mut self, k: usize, from: usize) {
        let mut at = from;
        while at > k {
            let parent = (at - 1) / 2;
            if self.pool[at].priority < self.pool[parent].priority {
                self.pool.swap(at, parent);
                at = parent;
            } else {
                break;
            }
        }
    }
}

/// MT19937, seeded by one word; a throw keeps the low four bits, again while above nine.
struct Dice {
    words: Vec<u64>,
    at: usize,
}

impl Dice {
    fn new(seed: u32) -> Self {
        let mut words = vec![u64::from(seed)];
        for i in 1..624 {
            let before = words[i - 1];
            words.push((1_812_433_253 * (before ^ (before >> 30)) + i as u64) & 0xffff_ffff);
        }
        Self { words, at: 0 }
    }

    /// The recurrence word by word, without the usual block of 624.
    fn throw(&mut self) -> f64 {
        loop {
            let w = &mut self.words;
            let joined = (w[self.at] & 0x8000_0000) | (w[self.at + 1] & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            let mut y = w[self.at + 397] ^ (joined >> 1) ^ twist;
            w.push(y);
            self.at += 1;
            y ^= y >> 11;
            y ^= (y << 7) & 0x9d2c_5680;
            y ^= (y << 15) & 0xefc6_0000;
            y ^= y >> 18;
            if y & 15 <= 9 {
                return (y & 15) as f64;
            }
        }
    }
}
