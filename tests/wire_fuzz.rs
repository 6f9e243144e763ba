//! Hostile bytes against every decoder of `wire`: an instance is user code, and so is a zygote that
//! has imported a package.
//!
//! A run is a few thousand cases; `OLWORKER_FUZZ_SECS=600` goes on for that long and
//! `OLWORKER_FUZZ_SEED=7` begins elsewhere. A failure names the seed of its case, which that
//! variable then replays first.

use olworker::base::random::Random;
use olworker::sys::clock;
use olworker::wire::answer::{After, AnswerEvent};
use olworker::wire::frame::{
    ANSWER_HEAD_BYTES_MAX, FAILURE_BYTES_MAX, FLAG_BUSY, FLAG_LAST, FLAG_TAINTED, FRAME_BYTES_MAX,
};
use olworker::wire::text::TextList;
use olworker::wire::zygote::{ForkInstance, ProcessLimits, Reply, Request, Role, Roles};
use olworker::wire::{AnswerDecoder, FailureCode, FrameError, reply};
use std::time::Duration;

const CASES: u64 = 3000;

/// Runs cases from the seed on; each gets a generator of its own.
fn fuzz(case: impl Fn(&mut Random)) {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "OLWORKER_FUZZ_SEED={}", self.0);
            }
        }
    }
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = number("OLWORKER_FUZZ_SEED").unwrap_or(1);
    let until = number("OLWORKER_FUZZ_SECS").map(|secs| clock::now() + Duration::from_secs(secs));
    for seed in first.. {
        let is_over = until.map_or(seed - first >= CASES, |until| clock::now() >= until);
        if is_over {
            break;
        }
        let seed = Seed(seed);
        case(&mut Random::new(seed.0));
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

fn bytes(random: &mut Random, count_max: usize) -> Vec<u8> {
    (0..below(random, count_max + 1))
        .map(|_| below(random, 256) as u8)
        .collect()
}

/// A conversation that mostly makes sense.
fn conversation(random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=below(random, 6) {
        let flags = [
            0,
            FLAG_LAST,
            FLAG_LAST | FLAG_BUSY,
            FLAG_LAST | FLAG_TAINTED,
        ];
        let flags = flags[below(random, flags.len())];
        let body = bytes(random, 300);
        match below(random, 8) {
            0..3 => {
                let names = [&b"content-type"[..], b"a", b"x y", b""];
                let values = [&b"text/plain"[..], b"", b"a\tb", b"\r\n", b"\xff"];
                let headers: Vec<_> = (0..below(random, 5))
                    .map(|_| (names[below(random, 4)], values[below(random, 5)]))
                    .collect();
                let status = [200, 404, 204, 100, 0][below(random, 5)];
                reply::encode_answer(status, headers, &body, flags, &mut out);
            }
            3..5 => reply::encode_data(&body, flags, &mut out),
            5 => reply::encode_idle(random.chance(0.5), &mut out),
            6 => {
                let detail = "é".repeat(below(random, 40));
                let code = FailureCode::FunctionError;
                reply::encode_failure(code, &detail, "lines\n", random.chance(0.5), &mut out);
            }
            _ => out.extend(body),
        }
    }
    out
}

/// Changes a few bytes, mostly to what might matter.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..below(random, 4) {
        if bytes.is_empty() {
            return;
        }
        let place = below(random, bytes.len());
        match below(random, 4) {
            0 => bytes[place] = below(random, 256) as u8,
            1 => bytes[place] ^= 1 << below(random, 8),
            2 => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
    }
}

/// What was told, flat, for comparison; neighbouring data is one.
#[derive(Debug, PartialEq, Eq, Default)]
struct Told {
    lines: Vec<String>,
    data: Vec<u8>,
    error: Option<FrameError>,
}

impl Told {
    fn hear(&mut self, event: AnswerEvent<'_>) {
        if let AnswerEvent::Data(data) = event {
            assert!(!data.is_empty() && data.len() <= FRAME_BYTES_MAX);
            self.data.extend_from_slice(data);
            return;
        }
        let data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            self.lines.push(format!("{data:?}"));
        }
        self.lines.push(match event {
            AnswerEvent::Head(head) => {
                assert!((200..=999).contains(&head.status));
                let headers: Vec<_> = head.headers.iter().collect();
                let bytes: usize = headers
                    .iter()
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                assert!(bytes <= ANSWER_HEAD_BYTES_MAX);
                for (name, value) in &headers {
                    assert!(!name.is_empty() && !name.contains(&b' ') && !name.contains(&b':'));
                    assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                }
                format!("{} {headers:?} {:?}", head.status, head.body_bytes)
            }
            AnswerEvent::Failed(failure) => {
                assert!(failure.detail.len() + failure.traceback.len() <= FAILURE_BYTES_MAX);
                format!("{failure:?}")
            }
            AnswerEvent::End(_) | AnswerEvent::Idle { .. } => format!("{event:?}"),
            AnswerEvent::Data(_) => unreachable!("dealt with above"),
        });
    }
}

/// The decoder, fed in pieces, with a call sent whenever one may be.
fn decode<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Told {
    let mut decoder = AnswerDecoder::new();
    let mut told = Told::default();
    for mut piece in pieces {
        loop {
            if decoder.is_idle() {
                decoder.call_sent();
            }
            let before = piece.len();
            match decoder.decode(piece) {
                Ok(step) => {
                    assert!(step.used <= before);
                    piece = &piece[step.used..];
                    let Some(event) = step.event else {
                        assert!(piece.is_empty(), "without an event all bytes are used");
                        break;
                    };
                    let ends = matches!(
                        event,
                        AnswerEvent::End(After::Keep | After::Tainted)
                            | AnswerEvent::Failed(_)
                            | AnswerEvent::Idle { .. }
                    );
                    told.hear(event);
                    assert_eq!(decoder.is_idle(), ends);
                }
                Err(error) => {
                    told.error = Some(error);
                    return told;
                }
            }
        }
    }
    told
}

#[test]
fn hostile_answers_are_understood_or_refused_alike_however_they_are_cut() {
    fuzz(|random| {
        let mut stream = conversation(random);
        damage(random, &mut stream);
        let whole = decode([&stream[..]]);
        let mut rest = &stream[..];
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + below(random, rest.len().min(40)));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(decode(pieces), whole);
        assert_eq!(decode(stream.chunks(1)), whole);
    });
}

#[test]
fn hostile_datagrams_are_understood_or_refused() {
    fuzz(|random| {
        let texts: Vec<_> = (0..below(random, 4))
            .map(|n| format!("/{n}").into_bytes())
            .collect();
        let list = TextList::collect(texts.iter().map(Vec::as_slice)).expect("plain texts");
        let fork = ForkInstance {
            id: below(random, 1 << 40) as u64,
            uid: 1,
            gid: 2,
            limits: ProcessLimits::NONE,
            roles: Roles::EMPTY.with(Role::Connection),
            hostname: b"name",
            mounts: list.as_texts(),
            environment: list.as_texts(),
        };
        let mut datagram = Vec::new();
        if random.chance(0.5) {
            let request = Request::ForkInstance(fork);
            request.encode(&mut datagram).expect("a small request");
        } else {
            let reply = Reply::ImportFailed {
                module: b"numpy",
                text: b"no",
            };
            reply.encode(&mut datagram).expect("a small reply");
        }
        damage(random, &mut datagram);
        for received in 0..6 {
            if let Ok(request) = Request::decode(&datagram, received) {
                assert_eq!(request.descriptors(), received);
                let mut again = Vec::new();
                request
                    .encode(&mut again)
                    .expect("what was read can be written");
                assert_eq!(again, datagram);
            }
            if let Ok(reply) = Reply::decode(&datagram, received) {
                assert_eq!(reply.descriptors(), received);
                if let Reply::Imported(imported) = reply {
                    let _ = imported.modules().count();
                }
            }
        }
    });
}
