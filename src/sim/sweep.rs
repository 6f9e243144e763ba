//! Many simulations over one reading of a trace, on all cores.
//!
//! Owns the only threads of this room. A sweep of policies times memory sizes would read the same
//! trace hundreds of times, or hold it; instead arrivals come in batches and every simulation plays
//! a batch before the next one. Simulations share nothing, so who plays them changes no result;
//! their order in the answer is the order in which they were given.
//!
//! ```text
//! reader --batch n+1-->  |           | worker 1: job 0, job 2, ...
//!                        | batch n   | worker 2: job 1, job 3, ...   (who is free takes the next)
//! ```

use super::trace::{Arrival, Reader, TraceError};
use std::sync::Mutex;
use std::thread;

/// Long enough that a simulation's state is worth warming the cache for.
const BATCH_ARRIVALS: usize = 1 << 15;

/// Something that plays arrivals.
pub trait Player: Send + Sized {
    fn play(&mut self, batch: &[Arrival]);

    /// Players that this one stood for as well, until they parted from it in the last batch. They
    /// have played that one.
    fn parted(&mut self) -> Vec<Self> {
        Vec::new()
    }
}

/// One a core.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, core::num::NonZero::get)
}

/// Plays the whole trace to every player. After each batch the caller gets the players back for a
/// moment, to drain or to report what they have done so far.
pub fn run<P, F>(
    reader: &mut Reader,
    players: &mut Vec<P>,
    threads: usize,
    mut between: F,
) -> Result<(), TraceError>
where
    P: Player,
    F: FnMut(&Reader, &mut [P]),
{
    let mut batch = Vec::with_capacity(BATCH_ARRIVALS);
    let mut following = Vec::with_capacity(BATCH_ARRIVALS);
    let mut more = reader.read(&mut batch, BATCH_ARRIVALS)?;
    while !batch.is_empty() {
        following.clear();
        let helpers = threads.min(players.len()).saturating_sub(1);
        let waiting = Mutex::new(players.iter_mut());
        let read = thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| play_waiting(&waiting, &batch));
            }
            let read = if more {
                reader.read(&mut following, BATCH_ARRIVALS)
            } else {
                Ok(false)
            };
            play_waiting(&waiting, &batch);
            read
        });
        more = read?;
        let parted: Vec<P> = players.iter_mut().flat_map(P::parted).collect();
        players.extend(parted);
        between(reader, players);
        core::mem::swap(&mut batch, &mut following);
    }
    Ok(())
}

fn play_waiting<P: Player>(waiting: &Mutex<core::slice::IterMut<'_, P>>, batch: &[Arrival]) {
    loop {
        let next = waiting
            .lock()
            .expect("a player that panics ends the program")
            .next();
        match next {
            Some(player) => player.play(batch),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::trace::{Function, Header};

    #[derive(Default, Clone, PartialEq, Debug)]
    struct Sum(f64, usize);

    impl Player for Sum {
        fn play(&mut self, batch: &[Arrival]) {
            for arrival in batch {
                self.0 = self.0.mul_add(0.5, arrival.t_ms);
                self.1 += 1;
            }
        }
    }

    fn reader(calls: usize) -> Reader {
        let functions = vec![Function::plain("a", 1.0, 1.0, 1.0)];
        let arrival = |index| Arrival {
            t_ms: index as f64,
            function: 0,
        };
        let header = Header {
            functions,
            ..Header::default()
        };
        Reader::from_memory("memory", header, (0..calls).map(arrival).collect())
    }

    #[test]
    fn every_player_hears_every_call_in_order_on_any_number_of_threads() {
        for calls in [0, 1, BATCH_ARRIVALS, 3 * BATCH_ARRIVALS + 17] {
            let mut alone = vec![Sum::default()];
            run(&mut reader(calls), &mut alone, 1, |_, _| {}).unwrap();
            assert_eq!(alone[0].1, calls);
            for threads in [1, 2, 5] {
                let mut players = vec![Sum::default(); 7];
                let mut batches = 0;
                run(&mut reader(calls), &mut players, threads, |_, _| {
                    batches += 1;
                })
                .unwrap();
                assert!(players.iter().all(|player| *player == alone[0]));
                assert_eq!(batches, calls.div_ceil(BATCH_ARRIVALS));
            }
        }
    }

    #[test]
    fn a_bad_call_ends_the_sweep() {
        let functions = vec![Function::plain("a", 1.0, 1.0, 1.0)];
        let header = Header {
            functions,
            ..Header::default()
        };
        let arrivals = [0.0, 5.0, 4.0].map(|t_ms| Arrival { t_ms, function: 0 });
        let mut reader = Reader::from_memory("memory", header, arrivals.to_vec());
        let error = run(&mut reader, &mut vec![Sum::default()], 2, |_, _| {}).unwrap_err();
        assert!(
            error.to_string().contains("call 3 at 4 ms is earlier"),
            "{error}"
        );
    }
}
