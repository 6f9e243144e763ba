//! One connection between a client and a driver that both do whatever the seed says, without a
//! socket: many lives a second, every invariant swept after each step.

use super::*;
use crate::base::{Key, Random};
use crate::driver::front::buffers::Buffers;
use crate::driver::front::intake::SpoolBudget;
use crate::driver::front::{Counters, Room};
use crate::http::{Date, Limits as HttpLimits, Problem};
use std::collections::VecDeque;

const LIVES: u64 = 3_000;
const STEPS_MAX: usize = 5_000;
const CHUNK: usize = 64;

/// What the driver has been told of the present request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Arrived,
    Begun,
    /// Answered, or hung up.
    Over,
}

struct Life {
    random: Random,
    connection: Connection,
    shared: Shared,
    /// What the client will send.
    input: VecDeque<u8>,
    ended: bool,
    /// What `io` has to do.
    receiving: bool,
    sending: Option<Vec<u8>>,
    closed: bool,
    /// All that the client was sent.
    output: Vec<u8>,
    told: Told,
    /// The targets of the requests that arrived, in order.
    arrived: Vec<String>,
    aborted: bool,
}

fn limits() -> Limits {
    Limits {
        http: HttpLimits::new(512, 64, 500),
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_mins(1),
        connections: 1,
        spool_bytes: 300,
        chunk_bytes: CHUNK,
    }
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let limits = limits();
        let mut connection = Connection::new(Key::new(0, 0), Via::Tcp, &limits, Time::ZERO);
        connection.attach(Key::new(0, 0));
        let input = requests(&mut random);
        Self {
            random,
            connection,
            shared: Shared {
                limits,
                now: Time::ZERO,
                date: Date::at(0),
                draining: false,
                buffers: Buffers::new(),
                budget: SpoolBudget {
                    used: 0,
                    limit: 300,
                },
                events: VecDeque::new(),
                ready: VecDeque::new(),
                counters: Counters::default(),
                sending: 0,
                ahead: 0,
                scratch: Vec::new(),
            },
            input: input.into(),
            ended: false,
            receiving: false,
            sending: None,
            closed: false,
            output: Vec::new(),
            told: Told::Nothing,
            arrived: Vec::new(),
            aborted: false,
        }
    }

    fn flush(&mut self) {
        let Wants {
            receive,
            send,
            shutdown: _,
            close,
        } = self.connection.wants(&mut self.shared);
        if let Some(buffer) = send {
            assert!(
                self.sending.is_none() && !buffer.is_empty(),
                "one send at a time"
            );
            self.sending = Some(buffer);
        }
        assert!(!(receive && self.receiving), "one receive at a time");
        self.receiving |= receive;
        self.closed |= close;
    }

    /// The driver takes what it is told.
    fn events(&mut self) {
        loop {
            while let Some(event) = self.shared.events.pop_front() {
                self.event(event);
            }
            if self.shared.ready.pop_front().is_none() {
                return;
            }
            assert!(self.shared.ready.is_empty(), "ready once at most");
            self.connection.go_on(&mut self.shared);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Arrived(_) => {
                if self.connection.announce() {
                    assert!(
                        matches!(self.told, Told::Nothing | Told::Over),
                        "{:?}",
                        self.told
                    );
                    self.told = Told::Arrived;
                    let head = self.connection.head().expect("it has just arrived");
                    self.arrived.push(head.target().to_owned());
                }
            }
            Event::Body(_) => {
                if self.connection.announce_body() {
                    assert_ne!(self.told, Told::Nothing, "no body without a request");
                }
            }
            Event::Writable(_) => {}
            Event::HungUp(_) => {
                assert!(
                    matches!(self.told, Told::Arrived | Told::Begun),
                    "{:?}",
                    self.told
                );
                self.told = Told::Over;
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=3 => self.receive(),
            4 | 5 => self.send(),
            6 => {
                let longest = if self.random.below(20) == 0 { 9000 } else { 50 };
                let span = self.random.below(longest);
                self.shared.now = self.shared.now + Duration::from_millis(span);
                self.connection.expired(&mut self.shared);
            }
            _ => self.drive(),
        }
        self.events();
        self.flush();
        assert_eq!(self.shared.budget.used, self.connection.intake.waiting());
        let sending = self.sending.as_ref().map_or(0, Vec::len) as u64;
        assert_eq!(self.shared.sending, sending);
    }

    fn receive(&mut self) {
        if !self.receiving || self.closed {
            return;
        }
        let count = (1 + self.random.below(CHUNK as u64) as usize).min(self.input.len());
        if count > 0 {
            let chunk: Vec<u8> = self.input.drain(..count).collect();
            self.receiving = false;
            self.connection.received(&chunk, &mut self.shared);
        } else if !self.ended {
            self.ended = true;
            self.receiving = false;
            self.connection.ended(false, &mut self.shared);
        }
    }

    fn send(&mut self) {
        if self.closed {
            return;
        }
        if let Some(buffer) = self.sending.take() {
            self.output.extend_from_slice(&buffer);
            self.connection
                .sent(Some(buffer.len()), buffer, &mut self.shared);
        }
    }

    /// The driver does one thing about the request it has.
    fn drive(&mut self) {
        let (connection, shared) = (&mut self.connection, &mut self.shared);
        match (self.told, self.random.below(9)) {
            (Told::Nothing | Told::Over, _) => {}
            (_, 0) => connection.read_on(Wish::Stream, shared),
            (_, 1) => connection.read_on(Wish::Spool, shared),
            (_, 2 | 3) => {
                let bytes = connection.body().bytes.len() as u64;
                let count = self.random.below(bytes + 1) as usize;
                connection.take_body(count, shared);
            }
            (Told::Arrived, 4) => {
                let target = connection.head().map(|head| head.target().to_owned());
                let target = target.unwrap_or_default();
                connection.answer(200, &[("X-Target", target.as_bytes())], b"whole", shared);
                self.told = Told::Over;
            }
            (Told::Arrived, 5) => {
                connection.refuse(&Problem::new(Code::NotFound, "no"), shared);
                self.told = Told::Over;
            }
            (Told::Arrived, _) => {
                let target = connection.head().map(|head| head.target().to_owned());
                let target = target.unwrap_or_default();
                let field = ("X-Target", target.as_bytes());
                let none = core::iter::empty();
                connection
                    .begin(200, none, &[field], None, shared)
                    .expect("a good answer");
                self.told = Told::Begun;
            }
            (Told::Begun, 4 | 5) => {
                connection.end(shared);
                self.told = Told::Over;
            }
            (Told::Begun, 6) if self.random.below(10) == 0 => {
                connection.abort(shared);
                self.aborted = true;
                self.told = Told::Over;
            }
            (Told::Begun, _) => {
                let piece = vec![b'p'; self.random.below(100) as usize];
                let full = connection.write(&piece, shared) == Room::Full;
                assert!(!full, "so little is always taken");
            }
        }
    }

    fn live(mut self) {
        self.flush();
        for _ in 0..STEPS_MAX {
            if self.closed {
                break;
            }
            self.step();
        }
        assert!(
            self.closed,
            "a client that has ended and is answered goes: {:?}",
            self.connection
        );
        assert!(
            !matches!(self.told, Told::Arrived | Told::Begun),
            "the driver was told: {:?}",
            self.told
        );
        self.check_output();
        self.connection.bury(&mut self.shared);
        assert_eq!((self.shared.budget.used, self.shared.sending), (0, 0));
        assert_eq!(self.shared.ahead, 0);
    }

    /// Answers in the order of the requests, none twice, none from nowhere.
    fn check_output(&self) {
        let mut rest = &self.output[..];
        let mut answers = 0;
        while !rest.is_empty() {
            let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                panic!("a head is sent whole: {}", rest.escape_ascii());
            };
            let head = core::str::from_utf8(&rest[..end + 2]).expect("heads are text");
            rest = &rest[end + 4..];
            if head.starts_with("HTTP/1.1 100 ") {
                continue;
            }
            if let Some((_, target)) = head.split_once("X-Target: ") {
                let target = target.split("\r\n").next();
                assert_eq!(
                    target,
                    self.arrived.get(answers).map(String::as_str),
                    "{answers}"
                );
            }
            answers += 1;
            match skip_body(head, rest) {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        // One more than arrived: the refusal of what never did.
        assert!(
            answers <= self.arrived.len() + 1,
            "{answers} for {:?}",
            self.arrived
        );
    }
}

/// What is behind a body; none if it was cut off.
fn skip_body<'a>(head: &str, mut rest: &'a [u8]) -> Option<&'a [u8]> {
    if let Some((_, length)) = head.split_once("Content-Length: ") {
        let length: usize = length.split("\r\n").next()?.parse().expect("a length");
        return rest.get(length..);
    }
    if !head.contains("Transfer-Encoding: chunked") {
        return None;
    }
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = core::str::from_utf8(&rest[..end]).expect("a size is text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        rest = rest.get(end + 2 + size + 2..)?;
        if size == 0 {
            return Some(rest);
        }
    }
}

/// Some requests in a row, most of them good.
fn requests(random: &mut Random) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 0..random.below(5) {
        let version = if random.below(6) == 0 { "1.0" } else { "1.1" };
        let mut head = format!("POST /{number} HTTP/{version}\r\nHost: x\r\n");
        if random.below(6) == 0 {
            head += "Expect: 100-continue\r\n";
        }
        if random.below(8) == 0 {
            head += "Connection: close\r\n";
        }
        let body = vec![b'b'; random.below(200) as usize];
        let chunked = version == "1.1" && random.below(2) == 0;
        if chunked {
            head += "Transfer-Encoding: chunked\r\n\r\n";
            all.extend_from_slice(head.as_bytes());
            for chunk in body.chunks(40) {
                all.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                all.extend_from_slice(chunk);
                all.extend_from_slice(b"\r\n");
            }
            all.extend_from_slice(b"0\r\n\r\n");
        } else {
            all.extend_from_slice(head.as_bytes());
            all.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            all.extend_from_slice(&body);
        }
    }
    if random.below(3) == 0 && !all.is_empty() {
        let at = random.below(all.len() as u64) as usize;
        all[at] = random.below(256) as u8;
    }
    if random.below(4) == 0 {
        all.truncate(random.below(all.len() as u64 + 1) as usize);
    }
    all
}

#[test]
fn whatever_both_sides_do_the_answers_come_in_order() {
    for seed in 0..LIVES {
        let life = std::panic::catch_unwind(|| Life::new(seed).live());
        assert!(life.is_ok(), "seed {seed}");
    }
}

/// However many requests it sends: its answers do not pile up, and none is lost once it reads.
#[test]
fn whoever_does_not_read_is_not_read_from() {
    const REQUESTS: usize = 12_000;
    const PIECE: &[u8] = &[b'a'; 100];
    let mut life = Life::new(0);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
        "b".repeat(400)
    );
    life.input = request.repeat(REQUESTS).into_bytes().into();
    life.flush();
    let (mut answered, mut times_full, mut steps_without_news) = (0, 0, 0);
    while answered < REQUESTS {
        let before = (life.connection.out.len(), life.connection.ahead.len());
        life.receive();
        while let Some(event) = life.shared.events.pop_front() {
            if matches!(event, Event::Arrived(_)) && life.connection.announce() {
                life.connection.answer(200, &[], PIECE, &mut life.shared);
                answered += 1;
            }
        }
        if life.shared.ready.pop_front().is_some() {
            life.connection.go_on(&mut life.shared);
        }
        life.flush();
        assert!(life.connection.out.len() < ANSWER_BYTES_MAX + 2 * PIECE.len() + 200);
        assert!(life.connection.ahead.len() < AHEAD_BYTES_MAX + CHUNK);
        let now = (life.connection.out.len(), life.connection.ahead.len());
        steps_without_news = if now == before {
            steps_without_news + 1
        } else {
            0
        };
        if steps_without_news > 50 {
            let is_asked = life.receiving && !life.input.is_empty();
            assert!(!is_asked, "a client that is full is not asked for more");
            times_full += 1;
            life.send();
            life.flush();
            steps_without_news = 0;
        }
    }
    while life.sending.is_some() {
        life.send();
        life.flush();
    }
    let answers = life.output.windows(12).filter(|w| w == b"HTTP/1.1 200");
    assert_eq!(answers.count(), REQUESTS);
    assert!(times_full > 1, "it was full at times");
}
