//! The hit-ratio curve: how many calls find a container, for every size of memory, in one pass.
//!
//! The pile of letters: whoever is used is put on top. Memory that holds the upper part of the pile
//! has what lies there, so a call is a hit in every memory that reaches down to its container: its
//! *reuse distance*, the sizes of all that were used since, itself included. The distances of one
//! pass give the share of hits for every size at once (least recently used goes first; a container
//! that is larger than what is left over at the bottom counts as not held).
//!
//! Exact: the pile is a Fenwick tree over the order of uses, made compact when half of it is holes:
//! the logarithm of the containers a call. Sampled: only functions that were drawn before the first
//! call are looked at, and what of a distance is of others is divided by the share of them.
//!
//! ```text
//! arrival --levels--> container --Fenwick--> distance --histogram--> share of hits by size
//! ```

use super::levels::Levels;
use crate::base::Random;
use crate::sim::sweep::Player;
use crate::sim::trace::{Arrival, Function};

/// Distances are told apart within this share of themselves: steps to the doubling.
const STEPS: u32 = 256;
/// The unit of distances in the histogram.
const UNIT_MB: f64 = 1.0 / 1024.0;
/// Levels of one function beyond this share one place in the pile.
const LEVELS_MAX: u32 = 4_096;
/// Places of the pile at first.
const PILE_MIN: usize = 1_024;

/// The reuse distances of a trace.
#[derive(Debug)]
pub struct Curve {
    levels: Levels,
    mem_mb: Vec<f64>,
    /// By function: whether it is looked at.
    sampled: Vec<bool>,
    share: f64,
    pile: Pile,
    histogram: Histogram,
    calls: u64,
    /// Calls of what is looked at.
    looked_at: u64,
    /// First uses: misses in any memory.
    first: u64,
}

impl Curve {
    /// Looks at this share of the functions, above zero; one: at all.
    pub fn new(functions: &[Function], share: f64, seed: u64) -> Self {
        let chosen = |index: u64| {
            let mut random = Random::new(seed ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            share >= 1.0 || random.unit() < share
        };
        let count = functions.len();
        Self {
            levels: Levels::new(functions),
            mem_mb: functions.iter().map(|function| function.mem_mb).collect(),
            sampled: (0..count as u64).map(chosen).collect(),
            share: share.min(1.0),
            pile: Pile::new(count),
            histogram: Histogram::default(),
            calls: 0,
            looked_at: 0,
            first: 0,
        }
    }

    fn call(&mut self, arrival: Arrival) {
        while self.levels.released(arrival.t_ms).is_some() {}
        let level = u32::min(self.levels.call(arrival), LEVELS_MAX - 1);
        self.calls += 1;
        let at = arrival.function as usize;
        if !self.sampled[at] {
            return;
        }
        self.looked_at += 1;
        match self.pile.used(at, level as usize, self.mem_mb[at]) {
            Some(distance_mb) => {
                let above_mb = (distance_mb - self.mem_mb[at]) / self.share;
                self.histogram.add(above_mb + self.mem_mb[at]);
            }
            None => self.first += 1,
        }
    }

    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// The share of calls that find a container in a memory of this size.
    pub fn hit_share(&self, mem_mb: f64) -> f64 {
        self.histogram.up_to(mem_mb) / self.looked_at.max(1) as f64
    }

    /// The least memory with at most this share of cold starts; none: first uses are more.
    pub fn memory_for(&self, cold_share: f64) -> Option<f64> {
        self.histogram
            .reaches((1.0 - cold_share) * self.looked_at as f64)
    }

    /// Beyond this size there are no more hits.
    pub fn memory_max(&self) -> f64 {
        self.histogram.last()
    }

    /// The share of cold starts that no memory avoids.
    pub fn first_share(&self) -> f64 {
        1.0 - self.hit_share(f64::INFINITY)
    }
}

impl Player for Curve {
    fn play(&mut self, batch: &[Arrival]) {
        for &arrival in batch {
            self.call(arrival);
        }
    }
}

/// Containers in the order of their last uses.
#[derive(Debug)]
struct Pile {
    /// By function and level: where in the order it was used last, from one.
    places: Vec<Vec<usize>>,
    /// A Fenwick tree: sums of sizes over places.
    sums: Vec<f64>,
    /// By place: who is there; none in a hole.
    who: Vec<Option<(u32, u32)>>,
    containers: usize,
}

impl Pile {
    fn new(functions: usize) -> Self {
        Self {
            places: vec![Vec::new(); functions],
            sums: vec![0.0; PILE_MIN + 1],
            who: vec![None],
            containers: 0,
        }
    }

    /// Puts the container on top; how deep it lay, itself included, unless it is new.
    fn used(&mut self, function: usize, level: usize, mem_mb: f64) -> Option<f64> {
        if self.who.len() == self.sums.len() {
            self.compact();
        }
        let levels = &mut self.places[function];
        if levels.len() <= level {
            levels.resize(level + 1, 0);
        }
        let was = core::mem::replace(&mut levels[level], self.who.len());
        let top = self.who.len() - 1;
        let depth = (was != 0).then(|| self.sum(top) - self.sum(was - 1));
        if was == 0 {
            self.containers += 1;
        } else {
            self.add(was, -mem_mb);
            self.who[was] = None;
        }
        self.who.push(Some((function as u32, level as u32)));
        self.add(top + 1, mem_mb);
        depth
    }

    fn sum(&self, to: usize) -> f64 {
        let mut at = to;
        let mut sum = 0.0;
        while at > 0 {
            sum += self.sums[at];
            at &= at - 1;
        }
        sum
    }

    fn add(&mut self, place: usize, mem_mb: f64) {
        let mut at = place;
        while at < self.sums.len() {
            self.sums[at] += mem_mb;
            at += at & at.wrapping_neg();
        }
    }

    /// Closes the holes; afterwards at least half is free.
    fn compact(&mut self) {
        let size_at = |pile: &Self, place: usize| pile.sum(place) - pile.sum(place - 1);
        let mut kept = Vec::with_capacity(self.containers);
        for place in 1..self.who.len() {
            if let Some(who) = self.who[place] {
                kept.push((who, size_at(self, place)));
            }
        }
        let places = usize::max(2 * self.containers, PILE_MIN);
        self.sums.clear();
        self.sums.resize(places + 1, 0.0);
        self.who.clear();
        self.who.push(None);
        for ((function, level), mem_mb) in kept {
            let place = self.who.len();
            self.places[function as usize][level as usize] = place;
            self.who.push(Some((function, level)));
            self.add(place, mem_mb);
        }
    }
}

/// Distances, each within a small share of itself.
#[derive(Debug, Default)]
struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    fn add(&mut self, mb: f64) {
        let bin = bin_of(mb);
        if self.counts.len() <= bin {
            self.counts.resize(bin + 1, 0);
        }
        self.counts[bin] += 1;
    }

    fn up_to(&self, mb: f64) -> f64 {
        let bins = self.counts.iter().enumerate();
        let held = bins.take_while(|(bin, _)| end_of(*bin) <= mb);
        held.map(|(_, count)| *count).sum::<u64>() as f64
    }

    /// Where the sum of counts comes to this.
    fn reaches(&self, wanted: f64) -> Option<f64> {
        let mut sum = 0.0;
        if wanted <= 0.0 {
            return Some(0.0);
        }
        for (bin, count) in self.counts.iter().enumerate() {
            sum += *count as f64;
            if sum >= wanted {
                return Some(end_of(bin));
            }
        }
        None
    }

    fn last(&self) -> f64 {
        match self.counts.len() {
            0 => 0.0,
            len => end_of(len - 1),
        }
    }
}

/// Octaves of equal steps; sizes below the first octave are told apart by their units.
fn bin_of(mb: f64) -> usize {
    // A sum of sizes may be off by its rounding: what is nearly whole counts as whole.
    let units = (mb / UNIT_MB * (1.0 - 1e-9))
        .ceil()
        .clamp(1.0, (1_u64 << 52) as f64) as u64
        - 1;
    let steps = u64::from(STEPS);
    if units < steps {
        return units as usize;
    }
    let octave = u64::from(units.ilog2() - STEPS.ilog2());
    (octave * steps + (units >> octave)) as usize
}

/// The largest size that is counted in a bin.
fn end_of(bin: usize) -> f64 {
    let (bin, steps) = (bin as u64, u64::from(STEPS));
    if bin < steps {
        return (bin + 1) as f64 * UNIT_MB;
    }
    let octave = bin / steps - 1;
    let units = ((bin % steps + steps + 1) << octave) as f64;
    units * UNIT_MB
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::trace::Reader;
    use crate::sim::trace::generate::{Kind, Plan};

    #[test]
    fn bins_meet_and_are_narrow() {
        let mut mb = UNIT_MB;
        while mb < 1e7 {
            let end = end_of(bin_of(mb));
            assert!(mb <= end * (1.0 + 1e-9), "{mb} above {end}");
            assert!(end <= mb * (1.0 + 1.0 / f64::from(STEPS)) + UNIT_MB);
            assert_eq!(bin_of(end), bin_of(mb));
            assert_eq!(bin_of(end * 1.000_001 + UNIT_MB * 0.01), bin_of(mb) + 1);
            mb *= 1.037;
        }
    }

    fn trace(kind: Kind, functions: usize) -> (Vec<Function>, Vec<Arrival>) {
        let plan = Plan {
            kind,
            functions,
            rate: 3.0,
            length_ms: 7_200_000.0,
            seed: 4,
        };
        let mut reader = Reader::generated(&plan);
        let arrivals = reader.read_to_end().expect("made-up traces are in order");
        (reader.header().functions.clone(), arrivals)
    }

    fn played(functions: &[Function], arrivals: &[Arrival], share: f64) -> Curve {
        let mut curve = Curve::new(functions, share, 1);
        curve.play(arrivals);
        curve
    }

    /// By a list that is searched: the share of hits for some sizes.
    fn literally(functions: &[Function], arrivals: &[Arrival], sizes: &[f64]) -> Vec<f64> {
        let mut pile: Vec<(u32, u32)> = Vec::new();
        let mut levels = Levels::new(functions);
        let mut hits = vec![0; sizes.len()];
        for &arrival in arrivals {
            while levels.released(arrival.t_ms).is_some() {}
            let who = (arrival.function, levels.call(arrival));
            if let Some(at) = pile.iter().position(|other| *other == who) {
                let mem_mb = |who: &(u32, u32)| functions[who.0 as usize].mem_mb;
                let depth: f64 = pile[..=at].iter().map(mem_mb).sum();
                for (hits, size) in hits.iter_mut().zip(sizes) {
                    *hits += i32::from(depth <= *size);
                }
                pile.remove(at);
            }
            pile.insert(0, who);
        }
        let calls = arrivals.len() as f64;
        hits.iter().map(|hits| f64::from(*hits) / calls).collect()
    }

    #[test]
    fn the_curve_is_that_of_a_list() {
        for (kind, functions) in [(Kind::Bursty, 40), (Kind::Zipf, 900)] {
            let (functions, arrivals) = trace(kind, functions);
            let sizes = [500.0, 2_000.0, 5_000.0, 20_000.0, 200_000.0];
            let curve = played(&functions, &arrivals, 1.0);
            let listed = literally(&functions, &arrivals, &sizes);
            for (size, listed) in sizes.into_iter().zip(listed) {
                let found = curve.hit_share(size);
                assert!((found - listed).abs() < 0.004, "{size}: {found}, {listed}");
            }
        }
    }

    #[test]
    fn a_sample_is_near_the_whole() {
        let (functions, arrivals) = trace(Kind::Poisson, 2_000);
        let whole = played(&functions, &arrivals, 1.0);
        let sample = played(&functions, &arrivals, 0.3);
        for size in [5_000.0, 20_000.0, 80_000.0] {
            let (exact, guess) = (whole.hit_share(size), sample.hit_share(size));
            assert!((exact - guess).abs() < 0.08, "{size}: {exact}, {guess}");
        }
    }

    #[test]
    fn memory_for_a_rate_of_cold_starts() {
        let (functions, arrivals) = trace(Kind::Poisson, 50);
        let curve = played(&functions, &arrivals, 1.0);
        let size = curve.memory_for(0.2).expect("there are fewer first uses");
        assert!(1.0 - curve.hit_share(size) <= 0.2);
        assert!(1.0 - curve.hit_share(size * 0.98) > 0.2);
        assert_eq!(curve.memory_for(0.0), None, "somebody comes first");
        assert!(curve.memory_for(curve.first_share() + 1e-9).is_some());
        assert!(curve.memory_max() >= size);
    }

    #[test]
    fn nothing_called_is_no_curve() {
        let curve = played(&[Function::plain("a", 1.0, 1.0, 1.0)], &[], 1.0);
        assert!(curve.hit_share(1e9) == 0.0 && curve.memory_max() == 0.0);
    }
}
