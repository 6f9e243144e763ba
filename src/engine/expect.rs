//! Whether a call waits for a zygote that is being made.
//!
//! A cold call may start at once from the best live zygote and import the rest by itself, or wait
//! until a better one is there. Alone it is served as soon by itself. But those who come at once
//! would all import the same and share the processors for it; they are served sooner by waiting
//! for the one import that serves them all:
//!
//! ```text
//!   wait  if  until ready x crowd  +  imports it leaves x (crowd + me)
//!          <  imports the best live one leaves x (crowd + me)
//!
//!             where none lives: all imports, and the start of an interpreter
//!
//!   crowd    zygotes being made and instances that import, for each processor, at least one
//! ```
//!
//! Whoever waits is looked at anew when a zygote is ready or has failed, and when the wait was to
//! be over. What is overdue is expected to take the longer the longer it is overdue, and imports of
//! one's own with it, up to three times as long: nobody waits for ever.

use super::forest::Phase;
use super::start::remaining;
use super::zygote::ZygoteState;
use super::{Engine, FunctionKey, InstanceKey, Note};
use crate::base::{Duration, Time};
use crate::policy::NodeId;
use alloc::vec::Vec;

/// Imports that take less leave the processors to others.
const IMPORTS_MIN: Duration = Duration::from_millis(10);
/// Of a zygote that was never made: its fork, and what it does beside its imports.
const MAKING: Duration = Duration::from_millis(10);
/// Of an interpreter that is started, a zygote or not.
const STARTING: Duration = Duration::from_millis(50);
/// What is slower than this does not move.
const SLOWNESS_PERCENT_MAX: u32 = 300;
/// Nobody looks sooner than this whether a wait is over.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The zygote that would serve soonest.
struct Coming {
    node: NodeId,
    ready_in: Duration,
    /// With what it leaves to import.
    served_in: Duration,
}

impl Engine {
    /// True when the calls of this function do better to wait for a zygote that is on its way. The
    /// one it would rather have is on its way from now on, if it can be.
    pub(super) fn expects_zygote(&mut self, function: FunctionKey) -> bool {
        let known = &mut self.functions[function];
        let expected = known.expecting.take();
        if self.drain.is_some() || self.forest.copies == 0 || !known.settings.zygote {
            return false;
        }
        // Who may not queue is served at once or not at all.
        if known.queue.len() > known.settings.queue {
            return false;
        }
        self.wish(function);
        let Some(coming) = self.worth_waiting_for(function) else {
            return false;
        };
        let until = self.now + Duration::max(coming.ready_in, LOOK_AGAIN);
        self.functions[function].expecting = Some(until);
        self.arm(function, until);
        if expected.is_none() {
            self.note(Note::ZygoteAwaited {
                function,
                node: coming.node,
                expected: coming.ready_in,
            });
        }
        true
    }

    fn worth_waiting_for(&self, function: FunctionKey) -> Option<Coming> {
        let known = &self.functions[function];
        let crowd = self.importing + self.zygotes_being_made();
        // A fresh interpreter begins as the root began.
        let mut leaves_now = known.imports + self.usual_making(0);
        let mut soonest: Option<Coming> = None;
        for found in &known.ranked {
            let leaves = known.imports.saturating_sub(found.saved);
            if self.least_loaded(found.node).is_some() {
                leaves_now = leaves;
                break;
            }
            let copies = self.forest.copies_of(found.node);
            let Some(ready_in) = copies.filter_map(|place| self.ready_in(place)).min() else {
                continue;
            };
            let ready_in = self.among(ready_in, crowd);
            let served_in = ready_in + self.among(leaves, crowd + 1);
            let best = soonest.as_ref();
            if best.is_none_or(|best| served_in < best.served_in) {
                soonest = Some(Coming {
                    node: found.node,
                    ready_in,
                    served_in,
                });
            }
        }
        let alone = self.among(leaves_now, crowd + 1);
        let alone = alone.saturating_mul(self.slowness_percent()) / 100;
        soonest.filter(|coming| coming.served_in < alone)
    }

    /// How much longer things take than usual, as far as the making of zygotes tells: who imports
    /// by himself would not be faster.
    fn slowness_percent(&self) -> u32 {
        let zygotes = self.zygotes.iter().map(|(_, zygote)| zygote);
        let made = zygotes.filter(|zygote| zygote.state == ZygoteState::Forking);
        let slowness = made.map(|zygote| {
            let elapsed = self.now.since(zygote.since).as_nanos() as f64;
            let usual = self.usual_making(zygote.place).as_nanos() as f64;
            (100.0 * elapsed / usual) as u32
        });
        slowness.max().unwrap_or(0).clamp(100, SLOWNESS_PERCENT_MAX)
    }

    /// What takes this long alone, while so many share the processors.
    fn among(&self, alone: Duration, many: u32) -> Duration {
        let processors = u32::max(self.params.processors, 1);
        alone.saturating_mul(u32::max(many, processors)) / processors
    }

    fn zygotes_being_made(&self) -> u32 {
        let zygotes = self.zygotes.iter();
        let made = zygotes.filter(|(_, zygote)| zygote.state == ZygoteState::Forking);
        made.count() as u32
    }

    /// When a zygote here will be ready, if one is on its way and nothing has to be fetched first.
    fn ready_in(&self, place: u32) -> Option<Duration> {
        let mut after = Duration::ZERO;
        let mut at = place;
        loop {
            match self.forest.at(at).phase {
                Phase::Waiting => after += self.usual_making(at),
                Phase::Installing { since } if self.is_at_hand(at) => {
                    after += remaining(self.usual_making(at), self.now.since(since));
                }
                // It is asked for when the packages of the one below are there.
                Phase::Absent if at != place && self.could_begin(at) => {
                    after += self.usual_making(at);
                }
                _ => break,
            }
            at = self.forest.parent(at)?;
            if self.live_zygote(at).is_some() {
                return Some(after);
            }
        }
        let node = self.forest.at(at);
        let on_its_way = node.zygotes.iter().filter_map(|key| {
            let zygote = &self.zygotes[*key];
            let elapsed = self.now.since(zygote.since);
            (zygote.state == ZygoteState::Forking)
                .then(|| remaining(self.usual_making(at), elapsed))
        });
        on_its_way.min().map(|left| left + after)
    }

    fn could_begin(&self, place: u32) -> bool {
        let is_there = self.forest.installed[self.forest.node_of(place).index()];
        self.forest.at(place).may_start(self.now) && (is_there || self.is_at_hand(place))
    }

    /// Whether its install only looks up what the store has: for the worker knows so, or a function
    /// that wants it, and so has it, runs already.
    fn is_at_hand(&self, place: u32) -> bool {
        let index = self.forest.node_of(place).index();
        self.forest.stocked[index] || self.forest.pins[index].like.is_some()
    }

    /// From the order to make one until it is ready: as measured, or else as modelled.
    fn usual_making(&self, place: u32) -> Duration {
        let measured = self.forest.at(place).start_time.get();
        measured.unwrap_or_else(|| {
            let id = self.forest.node_of(place);
            let made = if id == NodeId::ROOT { STARTING } else { MAKING };
            let node = self.forest.tree.node(id);
            made + self.forest.weights.import_of(&node.packages)
        })
    }

    /// A zygote is ready, or will not be: those who waited decide anew. All functions are looked
    /// at; that is nothing beside the making of a zygote.
    pub(super) fn serve_expectants(&mut self) {
        let functions = self.functions.iter();
        let expecting = functions.filter(|(_, known)| known.expecting.is_some());
        let keys: Vec<FunctionKey> = expecting.map(|(key, _)| key).collect();
        for key in keys {
            self.serve(key);
        }
    }

    /// When calls that wait for a zygote are to be looked at again.
    pub(super) fn expectation_deadline(&self, key: FunctionKey) -> Option<Time> {
        let known = &self.functions[key];
        let until = known.expecting.filter(|until| *until > self.now);
        until.filter(|_| !known.queue.is_empty())
    }

    /// Whether an instance with so much left to import keeps a processor busy.
    pub(super) fn is_heavy(imports: Duration) -> bool {
        imports >= IMPORTS_MIN
    }

    /// Its imports are done, or will never be.
    pub(super) fn imports_no_more(&mut self, key: InstanceKey) {
        let instance = &mut self.instances[key];
        if instance.imports {
            instance.imports = false;
            self.importing -= 1;
        }
    }
}
