//! The request decoder, against itself in other pieces and against a reading so plain that it can
//! be checked by eye.

use crate::harness::{cut, fuzz};
use olworker::base::Random;
use olworker::http::{Decoder, Framing, Head, Limits, Route, Step};

#[path = "../http/cases.rs"]
#[expect(
    dead_code,
    reason = "inputs are taken from the cases, their places are not"
)]
mod cases;

use cases::{Item, decode, limits};

const WORDS: [&[u8]; 28] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b",",
    b"\"",
    b"0",
    b"5",
    b"%2e%2e",
    b"/",
    b"http://",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
];

fn written() -> Vec<Vec<u8>> {
    cases::all()
        .into_iter()
        .map(|case| case.bytes)
        .filter(|bytes| bytes.len() < 4096)
        .collect()
}

/// What of an outcome makes it a kind.
fn kind(outcome: &[Item]) -> String {
    let words: Vec<String> = outcome
        .iter()
        .map(|item| match item {
            Item::Request { method, body, .. } => format!("{method:.4} {}", !body.is_empty()),
            Item::Refused(code) => code.clone(),
            Item::More => String::from("more"),
        })
        .collect();
    words.join(" ")
}

#[test]
fn requests() {
    let tight = Limits::new(200, 40, 60);
    fuzz("requests", written(), &WORDS, |input, random| {
        let limits = if random.below(2) == 0 {
            limits()
        } else {
            tight
        };
        let whole = decode([input], &limits);
        let pieces = decode(cut(input, random), &limits);
        assert_eq!(whole, pieces, "read otherwise in pieces");
        check_heads(input, &limits);
        kind(&whole)
    });
}

/// Whatever is accepted means to a naive reader what it means to us.
fn check_heads(input: &[u8], limits: &Limits) {
    let (mut decoder, mut head, mut rest) = (Decoder::default(), Head::default(), input);
    loop {
        match decoder.step(&mut rest, &mut head, limits) {
            Step::Head => {
                let end = input.len() - rest.len();
                check_head(&head, &input[..end], limits);
            }
            Step::Body(_) | Step::End => {}
            Step::NeedMore | Step::Refuse(_) => return,
        }
    }
}

fn check_head(head: &Head, read: &[u8], limits: &Limits) {
    assert!(head.bytes().len() <= limits.head_bytes);
    assert!(head.target().len() <= limits.target_bytes);
    let text: String = head.bytes().iter().map(|byte| char::from(*byte)).collect();
    let lines: Vec<&str> = text
        .strip_suffix("\r\n\r\n")
        .expect("an empty line")
        .split("\r\n")
        .collect();
    assert!(
        lines.iter().all(|line| !line.contains(['\r', '\n', '\0'])),
        "{lines:?}"
    );
    let version = if lines[0].ends_with("1.0") {
        "1.0"
    } else {
        "1.1"
    };
    assert_eq!(
        lines[0],
        format!("{} {} HTTP/{version}", head.method_token(), head.target())
    );
    let fields: Vec<(&str, &str)> = lines[1..]
        .iter()
        .map(|line| line.split_once(':').expect("a colon"))
        .collect();
    let naive = fields
        .iter()
        .map(|(name, value)| (*name, value.trim_matches([' ', '\t'])));
    for ((name, value), (naive_name, naive_value)) in head.fields().zip(naive) {
        let value: String = value.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!((name, value.as_str()), (naive_name, naive_value));
    }
    let values = |wanted: &str| -> Vec<&str> {
        let named = fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named
            .map(|(_, value)| value.trim_matches([' ', '\t']))
            .collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match head.framing() {
        Framing::Chunked => {
            assert!(lengths.is_empty() && version == "1.1", "{text}");
            assert!(
                codings.len() == 1 && codings[0].eq_ignore_ascii_case("chunked"),
                "{text}"
            );
        }
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1, "{text}");
            assert_eq!(lengths[0].parse(), Ok(length));
        }
        Framing::Empty => {
            assert!(codings.is_empty() && lengths.len() <= 1, "{text}");
            assert!(
                lengths.iter().all(|length| length.parse() == Ok(0)),
                "{text}"
            );
        }
    }
    assert!(
        values("host").len() == 1 || (version == "1.0" && values("host").is_empty()),
        "{text}"
    );
    let tail: Vec<u8> = read.iter().rev().take(4).rev().copied().collect();
    assert_eq!(tail, b"\r\n\r\n", "a head ends with an empty line");
    check_path(head.path());
}

fn check_path(path: &str) {
    if let Route::Run { name, rest } = Route::of(path) {
        assert!(!matches!(name.as_str(), "" | "." | ".."));
        assert!(rest.is_empty() || rest.starts_with('/'));
        let lower = rest.to_ascii_lowercase().replace("%2e", ".");
        assert!(
            !lower
                .split('/')
                .any(|segment| matches!(segment, "." | "..")),
            "{path}"
        );
        for hidden in ["%2f", "%5c", "%00", "%0a", "%0d"] {
            assert!(!lower.contains(hidden), "{path}");
        }
    }
}

const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn chunks() {
    let bodies = written().into_iter().filter_map(|bytes| {
        let start = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        Some(bytes[start..].to_vec())
    });
    let limits = limits();
    fuzz(
        "chunks",
        bodies.collect(),
        &WORDS,
        |input, random: &mut Random| {
            let mut all = CHUNKED.to_vec();
            all.extend_from_slice(input);
            let whole = decode([&all[..]], &limits);
            assert_eq!(
                whole,
                decode(cut(&all, random), &limits),
                "read otherwise in pieces"
            );
            let naive = read_chunks(input);
            match (&whole[0], &naive) {
                (Item::Request { body, .. }, Some(naive)) => assert_eq!(body, naive),
                (Item::Request { .. }, None) => panic!("accepted what is no chunked body"),
                (Item::Refused(_) | Item::More, _) => {}
            }
            kind(&whole)
        },
    );
}

/// The data of a chunked body, read without looking at extensions and trailers.
fn read_chunks(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = input.windows(2).position(|two| two == b"\r\n")?;
        let digits = input[..end]
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let size = core::str::from_utf8(&input[..digits])
            .ok()?
            .trim_start_matches('0');
        let size = if size.is_empty() {
            0
        } else {
            usize::from_str_radix(size, 16).ok()?
        };
        input = &input[end + 2..];
        if size == 0 {
            return Some(data);
        }
        data.extend_from_slice(input.get(..size)?);
        input = input.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
