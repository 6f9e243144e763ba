//! Mutates a corpus, shows each mutant to a target, and keeps those that the target finds new.

use olworker::base::Random;
use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// Mutants are cut to this.
const INPUT_BYTES_MAX: usize = 8 * 1024;
/// Inputs kept besides the corpus one began with.
const KEPT_MAX: usize = 10_000;
/// Inputs between two looks at the clock.
const BATCH: usize = 64;

/// Runs a target for as long as the environment says. The target panics when it finds something,
/// and names the kind of what it saw: the first input of each kind joins the corpus.
pub fn fuzz<F>(name: &str, corpus: Vec<Vec<u8>>, words: &[&[u8]], mut target: F)
where
    F: FnMut(&[u8], &mut Random) -> String,
{
    assert!(!corpus.is_empty(), "there is something to begin with");
    let seed = environment("OLWORKER_FUZZ_SEED").unwrap_or(1);
    let end = now() + Duration::from_secs(environment("OLWORKER_FUZZ_SECS").unwrap_or(1));
    let mut random = Random::new(seed);
    let mut corpus = corpus;
    let begun_with = corpus.len();
    let mut kinds = BTreeSet::new();
    let mut tried: u64 = 0;
    while now() < end {
        for _ in 0..BATCH {
            let input = mutant(&corpus, words, &mut random);
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&input, &mut random)));
            let kind = outcome.unwrap_or_else(|panic| {
                say(&format!(
                    "{name} fails for b\"{}\" (seed {seed})",
                    input.escape_ascii()
                ));
                resume_unwind(panic)
            });
            if corpus.len() < begun_with + KEPT_MAX && kinds.insert(kind) {
                corpus.push(input);
            }
            tried += 1;
        }
    }
    say(&format!(
        "{name}: {tried} inputs, {} kinds, seed {seed}",
        kinds.len()
    ));
}

/// Cuts the input at random places.
pub fn cut<'a>(mut input: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let most = 1 + random.below(1 + random_size(input)) as usize;
    let mut pieces = Vec::new();
    while !input.is_empty() {
        let count = (1 + random.below(most as u64) as usize).min(input.len());
        let (piece, rest) = input.split_at(count);
        pieces.push(piece);
        input = rest;
    }
    pieces
}

fn random_size(input: &[u8]) -> u64 {
    (input.len() as u64).min(64)
}

fn mutant(corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = pick(corpus, random).clone();
    for _ in 0..random.below(6) {
        let at = random.below(input.len() as u64 + 1) as usize;
        let end = (at + random.below(20) as usize).min(input.len());
        match random.below(9) {
            0 => drop(input.drain(at..end)),
            1 => input.insert(at, random.below(256) as u8),
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            3 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => {
                let other = pick(corpus, random);
                let from = random.below(other.len() as u64 + 1) as usize;
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => {
                let digit = b'0' + random.below(10) as u8;
                if let Some(place) = input.iter().skip(at).position(u8::is_ascii_digit) {
                    input[at + place] = digit;
                }
            }
            6 => input.truncate(at),
            _ => {
                let word = words[random.below(words.len() as u64) as usize];
                let replaced = if random.below(2) == 0 {
                    at..at
                } else {
                    at..end
                };
                input.splice(replaced, word.iter().copied());
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn pick<'a>(corpus: &'a [Vec<u8>], random: &mut Random) -> &'a Vec<u8> {
    &corpus[random.below(corpus.len() as u64) as usize]
}

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

fn now() -> olworker::base::Time {
    olworker::sys::clock::now()
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
