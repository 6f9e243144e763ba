//! The request decoder against written cases and against itself.

mod cases;

use cases::{Case, Item, decode, limits};
use olworker::http::{Decoder, Head, Limits, Step};
use proptest::prelude::*;

#[test]
fn every_written_case_has_its_outcome() {
    let cases = cases::all();
    assert!(cases.len() > 800, "only {} cases were found", cases.len());
    report(&cases, |case| decode([&case.bytes[..]], &limits()));
}

#[test]
fn one_byte_at_a_time_is_no_different() {
    let bytewise = |case: &Case| decode(case.bytes.chunks(1), &limits());
    report(&cases::all(), bytewise);
}

#[test]
fn two_pieces_are_no_different_wherever_they_are_cut() {
    let mut cases = cases::all();
    cases.retain(|case| case.bytes.len() < 500);
    for case in &cases {
        for cut in 0..=case.bytes.len() {
            let (left, right) = case.bytes.split_at(cut);
            let outcome = decode([left, right], &limits());
            assert_eq!(outcome, case.outcome, "{} cut at {cut}", case.place);
        }
    }
}

/// All that differ, not only the first.
fn report<F: Fn(&Case) -> Vec<Item>>(cases: &[Case], decode: F) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, decode(case)))
        .filter(|(case, outcome)| *outcome != case.outcome)
        .map(|(case, outcome)| format!("{}: {outcome:?}, not {:?}", case.place, case.outcome))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

/// Refused or in the middle of something, a good request goes no further once refused.
#[test]
fn nothing_is_read_behind_a_refusal() {
    for case in cases::all() {
        let good: &[u8] = b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n";
        if let Some(Item::Refused(_)) = case.outcome.last() {
            let outcome = decode([&case.bytes[..], good], &limits());
            assert_eq!(outcome, case.outcome, "{}", case.place);
        }
    }
}

#[test]
fn a_good_request_is_read_behind_every_good_one() {
    for case in cases::all() {
        let good: &[u8] = b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n";
        if case
            .outcome
            .iter()
            .all(|item| matches!(item, Item::Request { .. }))
        {
            let mut outcome = decode([&case.bytes[..], good], &limits());
            let last = outcome.pop();
            assert_eq!(outcome, case.outcome, "{}", case.place);
            assert!(
                matches!(&last, Some(Item::Request { target, .. }) if target == "/behind"),
                "{}: {last:?}",
                case.place
            );
        }
    }
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

prop_compose! {
    fn field()(
        name in "X-[A-Za-z0-9]{1,8}",
        blank in "[ \t]{0,2}",
        value in "[!-~][ -~]{0,20}[!-~]",
    ) -> (String, String, String) {
        (name, blank, value)
    }
}

prop_compose! {
    /// A good request: how it is sent, and what of it must be found again.
    fn request()(
        method in token().prop_filter("no tunnels", |method| method != "CONNECT"),
        path in "/[a-z0-9./%|-]{0,20}",
        query in proptest::option::of("[a-z=&?]{0,10}"),
        fields in proptest::collection::vec(field(), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..300),
        chunks in proptest::option::of(1..40_usize),
    ) -> (Vec<u8>, Item, Vec<(String, String)>) {
        let target = match &query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let mut sent = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n").into_bytes();
        for (name, blank, value) in &fields {
            sent.extend_from_slice(format!("{name}:{blank}{value}{blank}\r\n").as_bytes());
        }
        frame(&mut sent, &body, chunks);
        let fields = fields.into_iter().map(|(name, _, value)| (name, value)).collect();
        (sent, Item::Request { method, target, body }, fields)
    }
}

fn frame(sent: &mut Vec<u8>, body: &[u8], chunk_bytes: Option<usize>) {
    let Some(chunk_bytes) = chunk_bytes else {
        sent.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        return sent.extend_from_slice(body);
    };
    sent.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(chunk_bytes) {
        sent.extend_from_slice(format!("{:X};n=\"{}\"\r\n", chunk.len(), chunk.len()).as_bytes());
        sent.extend_from_slice(chunk);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b"0\r\nT: u\r\n\r\n");
}

/// Cuts bytes at places that these numbers choose.
fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes {
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

proptest! {
    #[test]
    fn what_is_sent_is_found_again_however_it_is_cut(
        requests in proptest::collection::vec(request(), 1..4),
        sizes in proptest::collection::vec(0..60_usize, 0..60),
    ) {
        let sent: Vec<u8> = requests.iter().flat_map(|(sent, ..)| sent.clone()).collect();
        let expected: Vec<Item> = requests.into_iter().map(|(_, item, _)| item).collect();
        prop_assert_eq!(&decode([&sent[..]], &limits()), &expected);
        prop_assert_eq!(&decode(cut(&sent, &sizes), &limits()), &expected);
    }

    #[test]
    fn fields_are_found_again((sent, _, fields) in request(), whole in any::<bool>()) {
        let (mut decoder, mut head) = (Decoder::default(), Head::default());
        for mut piece in sent.chunks(if whole { sent.len() } else { 7 }) {
            if decoder.step(&mut piece, &mut head, &limits()) == Step::Head {
                break;
            }
        }
        let found = head.fields().filter(|(name, _)| name.starts_with("X-"));
        let found: Vec<_> = found.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        let sent = fields.into_iter().map(|(name, value)| (name, value.into_bytes()));
        prop_assert_eq!(found, sent.collect::<Vec<_>>());
    }

    #[test]
    fn any_bytes_have_one_reading(
        bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"\r\n :;GETHTTP/1.0"[..])],
            0..200,
        ),
        sizes in proptest::collection::vec(0..20_usize, 0..40),
    ) {
        let small = Limits::new(64, 16, 30);
        prop_assert_eq!(decode([&bytes[..]], &small), decode(cut(&bytes, &sizes), &small));
    }
}
