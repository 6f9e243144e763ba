//! What happened lately, so that it can happen again: an engine and the events it got.
//!
//! ```text
//!   earlier:  snapshot + N events        current:  snapshot + up to N events
//!                          `------ equal ------------^
//! ```
//!
//! The engine is a function of its state and its timed events, so a snapshot and what came after it
//! is everything. Two segments are kept: when the current one is full it becomes the earlier one,
//! so there are always at least N events to look back upon, and at most twice as many to keep. That
//! the earlier one, replayed, ends exactly where the current one begins is the proof that nothing
//! is missing.

use super::{Effect, Engine, Event};
use crate::base::Time;
use alloc::boxed::Box;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Events of one segment, unless told otherwise: some megabytes.
pub const SEGMENT_EVENTS: usize = 32_768;

/// One thing that the engine was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    Event(Event),
    /// `expire` was called.
    Expired,
}

/// An engine, and what it was told afterwards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Segment {
    pub snapshot: Box<Engine>,
    pub inputs: Vec<(Time, Input)>,
}

/// The last segments of a life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recording {
    pub segments: Vec<Segment>,
}

/// Keeps the last two segments of a running engine.
#[derive(Debug)]
pub struct Recorder {
    earlier: Option<Segment>,
    current: Segment,
    events_max: usize,
}

impl Recorder {
    /// Begins with the engine as it is now.
    pub fn new(engine: &Engine, events_max: usize) -> Self {
        assert!(events_max > 0);
        Self {
            earlier: None,
            current: Segment::new(engine, events_max),
            events_max,
        }
    }

    /// To be called before the engine is told this event, so that one that ends in a panic is kept.
    pub fn event(&mut self, engine: &Engine, event: &Event, now: Time) {
        self.push(engine, now, Input::Event(event.clone()));
    }

    /// To be called before `Engine::expire`.
    pub fn expiry(&mut self, engine: &Engine, now: Time) {
        self.push(engine, now, Input::Expired);
    }

    fn push(&mut self, engine: &Engine, now: Time, input: Input) {
        if self.current.inputs.len() == self.events_max {
            let next = Segment::new(engine, self.events_max);
            self.earlier = Some(core::mem::replace(&mut self.current, next));
        }
        self.current.inputs.push((now, input));
    }

    /// What is kept, the earlier segment first.
    pub fn recording(&self) -> Recording {
        let earlier = self.earlier.iter().cloned();
        Recording {
            segments: earlier
                .chain(core::iter::once(self.current.clone()))
                .collect(),
        }
    }
}

impl Segment {
    fn new(engine: &Engine, events_max: usize) -> Self {
        Self {
            snapshot: Box::new(engine.clone()),
            inputs: Vec::with_capacity(events_max),
        }
    }

    /// Tells a copy of the engine everything again; hands each input and each effect out, and the
    /// engine as it is afterwards.
    pub fn replay<F: FnMut(Time, &Input, &mut dyn Iterator<Item = Effect>)>(
        &self,
        mut see: F,
    ) -> Engine {
        let mut engine = (*self.snapshot).clone();
        for (now, input) in &self.inputs {
            let mut effects = match input {
                Input::Event(event) => engine.handle(event.clone(), *now),
                Input::Expired => engine.expire(*now),
            };
            see(*now, input, &mut effects);
        }
        engine
    }
}
