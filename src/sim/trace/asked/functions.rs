//! Who was called how often, while a trace is read a line at a time.

use super::SEQUENCE_MAX;
use crate::sim::trace::FUNCTIONS_MAX;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// As much of a recorded line as a call needs.
#[derive(Deserialize)]
pub(super) struct Quick<'a> {
    #[serde(borrow)]
    pub(super) event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<Cow<'a, str>>,
    #[serde(borrow)]
    start: Option<Cow<'a, str>>,
    t: Option<f64>,
    /// Of calls that were folded.
    until: Option<f64>,
    warm: Option<u64>,
    zygote: Option<u64>,
    fresh: Option<u64>,
}

/// Functions of a line format, while it is read.
#[derive(Default)]
pub(super) struct Functions {
    index: BTreeMap<String, u32>,
    pub(super) slots: Vec<Slot>,
    /// Slot, and whether the call was cold.
    pub(super) sequence: Vec<u32>,
    time: Option<(f64, f64)>,
}

/// A function, as long as it asks for the same packages.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) set: Option<Vec<u32>>,
    pub(super) cold: u64,
    pub(super) warm: u64,
}

impl Functions {
    /// A call, or all the calls of a function that were folded.
    pub(super) fn recorded(&mut self, line: &Quick<'_>) -> Result<(), String> {
        let name = line.function.as_deref().ok_or("a call of no function")?;
        let t = line.t.unwrap_or(0.0);
        for t in [t, line.until.unwrap_or(t)] {
            if !(t.is_finite() && t >= 0.0) {
                return Err(format!("`t` is {t} (must not be negative)"));
            }
            let (first, last) = self.time.unwrap_or((t, t));
            self.time = Some((f64::min(first, t), f64::max(last, t)));
        }
        if line.event.as_deref() == Some("counts") {
            let count = |count: Option<u64>| count.unwrap_or(0);
            let cold = count(line.zygote).saturating_add(count(line.fresh));
            return self.call(name, cold, count(line.warm));
        }
        match line.start.as_deref() {
            Some("zygote" | "fresh") => self.call(name, 1, 0),
            _ => self.call(name, 0, 1),
        }
    }

    pub(super) fn call(&mut self, name: &str, cold: u64, warm: u64) -> Result<(), String> {
        let at = self.slot(name)?;
        let slot = &mut self.slots[at as usize];
        slot.cold = slot.cold.saturating_add(cold);
        slot.warm = slot.warm.saturating_add(warm);
        for (calls, is_cold) in [(cold, 1), (warm, 0)] {
            let places = SEQUENCE_MAX - self.sequence.len();
            let kept = u64::min(calls, places as u64) as usize;
            self.sequence
                .extend(core::iter::repeat_n(at << 1 | is_cold, kept));
        }
        Ok(())
    }

    /// A function that asks for something else than before is another one.
    pub(super) fn function(&mut self, name: &str, set: Vec<u32>) -> Result<(), String> {
        let at = self.slot(name)? as usize;
        let slot = &mut self.slots[at];
        let is_new = slot.set.as_ref().is_some_and(|known| *known != set);
        if is_new && slot.cold + slot.warm > 0 {
            let next = self.room()?;
            self.index.insert(name.to_owned(), next);
            self.slots[next as usize].set = Some(set);
        } else {
            slot.set = Some(set);
        }
        Ok(())
    }

    fn slot(&mut self, name: &str) -> Result<u32, String> {
        if let Some(at) = self.index.get(name) {
            return Ok(*at);
        }
        let at = self.room()?;
        self.index.insert(name.to_owned(), at);
        Ok(at)
    }

    fn room(&mut self) -> Result<u32, String> {
        if self.slots.len() == FUNCTIONS_MAX {
            return Err(format!("more than {FUNCTIONS_MAX} functions"));
        }
        self.slots.push(Slot::default());
        Ok(self.slots.len() as u32 - 1)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.time.map_or(0.0, |(first, last)| last - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(functions: &mut Functions, line: &str) -> Result<(), String> {
        functions.recorded(&serde_json::from_str(line).expect("JSON"))
    }

    #[test]
    fn a_function_that_asks_for_something_else_is_another_one() {
        let mut functions = Functions::default();
        let call = r#"{"t": 2.0, "event": "invocation", "function": "f", "start": "fresh"}"#;
        functions.function("f", vec![1]).unwrap();
        functions.function("f", vec![1, 2]).unwrap();
        recorded(&mut functions, call).unwrap();
        functions.function("f", vec![1, 2]).unwrap();
        recorded(&mut functions, call).unwrap();
        functions.function("f", vec![3]).unwrap();
        recorded(&mut functions, call).unwrap();
        let told: Vec<_> = functions
            .slots
            .iter()
            .map(|slot| (slot.set.clone(), slot.cold))
            .collect();
        assert_eq!(told, [(Some(vec![1, 2]), 2), (Some(vec![3]), 1)]);
    }

    #[test]
    fn folded_calls_count_as_what_they_were() {
        let mut functions = Functions::default();
        let line = r#"{"t": 1.0, "event": "counts", "function": "f", "until": 9.0, "calls": 7,
            "warm": 4, "zygote": 2, "fresh": 1}"#;
        recorded(&mut functions, line).unwrap();
        assert_eq!((functions.slots[0].cold, functions.slots[0].warm), (3, 4));
        assert_eq!(functions.sequence, [1, 1, 1, 0, 0, 0, 0]);
        assert!((functions.seconds() - 8.0).abs() < 1e-12);
        let bad = r#"{"t": -1.0, "event": "invocation", "function": "f"}"#;
        assert!(
            recorded(&mut functions, bad)
                .unwrap_err()
                .contains("negative")
        );
    }
}
