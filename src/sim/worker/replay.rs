//! A recording, played again: the same engine is told the same things and must say the same.

use crate::base::Time;
use crate::engine::{Effect, Input, Recording};
use serde_json::{Value, json};
use std::fmt;

/// Why a recording cannot be played.
#[derive(Debug)]
pub enum ReplayError {
    NotARecording(serde_json::Error),
    Empty,
    /// The first segment, played to its end, is not what the second one began with.
    Diverged,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecording(error) => write!(f, "is no recording of a worker: {error}"),
            Self::Empty => f.write_str("holds no segment"),
            Self::Diverged => f.write_str(
                "the first segment does not lead to the second: it was recorded by another \
                 version of the worker",
            ),
        }
    }
}

impl core::error::Error for ReplayError {}

/// What one recording holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    pub segments: usize,
    pub inputs: u64,
    pub effects: u64,
}

pub fn read(text: &str) -> Result<Recording, ReplayError> {
    let recording: Recording = serde_json::from_str(text).map_err(ReplayError::NotARecording)?;
    if recording.segments.is_empty() {
        return Err(ReplayError::Empty);
    }
    Ok(recording)
}

pub fn write(recording: &Recording) -> String {
    let text = serde_json::to_string(recording);
    text.expect("everything in a recording has a place in JSON")
}

/// Plays the recording; `see` gets each input and each effect. The first segment must lead to where
/// the second one begins.
pub fn play<F: FnMut(Time, &Input, Effect)>(
    recording: &Recording,
    mut see: F,
) -> Result<Replayed, ReplayError> {
    let mut replayed = Replayed {
        segments: recording.segments.len(),
        inputs: 0,
        effects: 0,
    };
    for (number, segment) in recording.segments.iter().enumerate() {
        let engine = segment.replay(|now, input, effects| {
            replayed.inputs += 1;
            for effect in effects {
                replayed.effects += 1;
                see(now, input, effect);
            }
        });
        if let Some(next) = recording.segments.get(number + 1) {
            let (end, begin) = (state(&engine), state(&next.snapshot));
            if end != begin {
                return Err(ReplayError::Diverged);
            }
        }
    }
    Ok(replayed)
}

fn state(engine: &crate::engine::Engine) -> Value {
    serde_json::to_value(engine).expect("an engine has a place in JSON")
}

/// An effect and what led to it, as one line.
pub fn line(now: Time, input: &Input, effect: &Effect) -> Value {
    json!({ "t": now.as_secs_f64(), "input": input, "effect": effect })
}
