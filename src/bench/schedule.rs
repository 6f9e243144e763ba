//! Which function is called when. A value: it reads no clock and sends nothing.

use crate::base::{Duration, Random, Time};

/// Which function comes next.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Any of so many, all equally likely.
    Uniform { random: Random, count: u32 },
    /// Each of so many once, in order.
    Each { next: u32, count: u32 },
    /// These, in order.
    Listed { functions: Vec<u32>, next: usize },
}

impl Choice {
    fn take(&mut self) -> Option<u32> {
        match self {
            Self::Uniform { random, count } => Some(random.below(u64::from(*count)) as u32),
            Self::Each { next, count } => {
                let number = (next < count).then_some(*next)?;
                *next += 1;
                Some(number)
            }
            Self::Listed { functions, next } => {
                let number = functions.get(*next).copied()?;
                *next += 1;
                Some(number)
            }
        }
    }

    /// How many are left; none where there is no end.
    fn left(&self) -> Option<u64> {
        match self {
            Self::Uniform { .. } => None,
            Self::Each { next, count } => Some(u64::from(count - next)),
            Self::Listed { functions, next } => Some((functions.len() - next) as u64),
        }
    }
}

/// When it is called.
#[derive(Clone, Debug)]
pub enum Pace {
    /// As soon as a client is free.
    Closed,
    /// So many a second, evenly, whether a client is free or not.
    Rate(f64),
    /// At these times after the beginning, in order; as many as functions are listed.
    At(Vec<Duration>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Call { function: u32, due: Time },
    NotBefore(Time),
    Over,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    choice: Choice,
    pace: Pace,
    start: Time,
    /// Nothing is called from here on.
    end: Time,
    /// Calls handed out.
    calls: u64,
}

impl Schedule {
    /// `lasts`: none where it goes on until every call was made.
    pub fn new(choice: Choice, pace: Pace, start: Time, lasts: Option<Duration>) -> Self {
        let end = lasts.map_or(Time::MAX, |span| start + span);
        Self {
            choice,
            pace,
            start,
            end,
            calls: 0,
        }
    }

    /// The call that a free client makes now.
    pub fn next(&mut self, now: Time) -> Next {
        if now >= self.end {
            return Next::Over;
        }
        let due = self.due(now);
        if due >= self.end {
            return Next::Over;
        }
        if due > now {
            return Next::NotBefore(due);
        }
        match self.choice.take() {
            Some(function) => {
                self.calls += 1;
                Next::Call { function, due }
            }
            None => Next::Over,
        }
    }

    /// How many calls were due until the end and are not made, once it is over.
    pub fn missed(&self) -> u64 {
        let due = match &self.pace {
            Pace::Closed => return 0,
            Pace::Rate(rate) => {
                let seconds = self.end.since(self.start).as_secs_f64();
                (seconds * rate).ceil() as u64
            }
            Pace::At(times) => times
                .iter()
                .filter(|at| self.start + **at < self.end)
                .count() as u64,
        };
        let missed = due.saturating_sub(self.calls);
        self.choice.left().map_or(missed, |left| left.min(missed))
    }

    fn due(&self, now: Time) -> Time {
        match &self.pace {
            Pace::Closed => now,
            Pace::Rate(rate) => self.start + Duration::from_secs_f64(self.calls as f64 / rate),
            Pace::At(times) => times
                .get(self.calls as usize)
                .map_or(Time::MAX, |at| self.start + *at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(1_000);

    fn ms(millis: u64) -> Time {
        Time::from_millis(1_000 + millis)
    }

    fn all(functions: &[u32]) -> Choice {
        Choice::Listed {
            functions: functions.to_vec(),
            next: 0,
        }
    }

    #[test]
    fn a_closed_loop_is_due_at_once_and_ends_in_time() {
        let random = Random::new(1);
        let choice = Choice::Uniform { random, count: 3 };
        let lasts = Some(Duration::from_millis(10));
        let mut schedule = Schedule::new(choice, Pace::Closed, START, lasts);
        for now in [ms(0), ms(9)] {
            let Next::Call { function, due } = schedule.next(now) else {
                panic!()
            };
            assert!(function < 3 && due == now);
        }
        assert_eq!(schedule.next(ms(10)), Next::Over);
        assert_eq!(schedule.missed(), 0);
    }

    #[test]
    fn an_open_loop_is_due_by_the_clock_however_late_it_is_asked() {
        let lasts = Some(Duration::from_millis(100));
        let choice = Choice::Uniform {
            random: Random::new(1),
            count: 1,
        };
        let mut schedule = Schedule::new(choice, Pace::Rate(100.0), START, lasts);
        let due = |next| match next {
            Next::Call { due, .. } => Some(due),
            _ => None,
        };
        assert_eq!(due(schedule.next(ms(0))), Some(ms(0)));
        assert_eq!(schedule.next(ms(3)), Next::NotBefore(ms(10)));
        assert_eq!(due(schedule.next(ms(55))), Some(ms(10)));
        assert_eq!(due(schedule.next(ms(55))), Some(ms(20)));
        assert_eq!(schedule.next(ms(100)), Next::Over);
        assert_eq!(schedule.missed(), 7);
    }

    #[test]
    fn times_of_a_trace_are_kept() {
        let times = [0, 5, 5, 80].map(Duration::from_millis).to_vec();
        let mut schedule = Schedule::new(all(&[4, 5, 6, 7]), Pace::At(times), START, None);
        let call = |function, due| Next::Call { function, due };
        assert_eq!(schedule.next(ms(0)), call(4, ms(0)));
        assert_eq!(schedule.next(ms(1)), Next::NotBefore(ms(5)));
        assert_eq!(schedule.next(ms(7)), call(5, ms(5)));
        assert_eq!(schedule.next(ms(7)), call(6, ms(5)));
        assert_eq!(schedule.next(ms(99)), call(7, ms(80)));
        assert_eq!(schedule.next(ms(99)), Next::Over);
        assert_eq!(schedule.missed(), 0);
    }

    #[test]
    fn each_comes_once() {
        let choice = Choice::Each { next: 0, count: 3 };
        let mut schedule = Schedule::new(choice, Pace::Closed, START, None);
        let mut seen = Vec::new();
        while let Next::Call { function, .. } = schedule.next(ms(1)) {
            seen.push(function);
        }
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(schedule.next(ms(1)), Next::Over);
    }
}
