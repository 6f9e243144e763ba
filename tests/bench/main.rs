//! The client that measures, against a server whose every move is known, on both back ends.

mod server;

use olworker::base::{Duration, Random};
use olworker::bench::{Choice, Failed, Names, Pace, Run, Setup, Stopped, Target};
use olworker::io::Wanted;
use server::{Reply, Server};

const OK: &str = "HTTP/1.1 200 OK\r\nX-OL-Start: warm\r\nContent-Length: 2\r\n\r\n42";

fn back_ends() -> [Wanted; 2] {
    [Wanted::Epoll, Wanted::Auto]
}

fn setup(server: &Server, clients: u32, count: u32, back_end: Wanted) -> Setup {
    Setup {
        target: Target::Unix(server.path.clone()),
        clients,
        names: Names::Numbered {
            prefix: "f-".to_owned(),
            count,
        },
        fields: vec![("Host".to_owned(), "localhost".to_owned())],
        back_end,
    }
}

fn each(count: u32) -> Choice {
    Choice::Each { next: 0, count }
}

fn uniform(count: u32) -> Choice {
    let random = Random::new(1);
    Choice::Uniform { random, count }
}

fn drive(run: &mut Run) {
    while run.turn().expect("the server stays") {}
}

#[test]
fn each_function_is_called_once_by_every_client_in_turn() {
    for back_end in back_ends() {
        let server = Server::new(|_, _| Reply::Bytes(OK.into()));
        let setup = setup(&server, 8, 1000, back_end);
        let mut run = Run::new(setup, each(1000), Pace::Closed, None).unwrap();
        drive(&mut run);
        let tally = run.tally();
        assert_eq!(
            (tally.successes(), tally.errors(), tally.warm),
            (1000, 0, 1000)
        );
        let mut asked = server.asked();
        // Eight were on their way at once: any of them may have been read first.
        let first = "POST /run/f-0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
        assert!(asked.iter().any(|(_, head)| head == first));
        let mut numbers: Vec<u32> = asked.iter().map(|(_, head)| number(head)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        asked.sort_by_key(|(connection, _)| *connection);
        asked.dedup_by_key(|(connection, _)| *connection);
        assert!(asked.len() <= 8);
    }
}

fn number(head: &str) -> u32 {
    let name = head.split(' ').nth(1).expect("a target");
    name.trim_start_matches("/run/f-")
        .parse()
        .expect("a number")
}

#[test]
fn a_stall_is_charged_to_every_call_that_was_due_meanwhile() {
    const STALL: Duration = Duration::from_millis(400);
    for back_end in back_ends() {
        let measure = |pace| {
            let server = Server::new(|number, _| match number {
                20 => Reply::After(STALL, OK.into()),
                _ => Reply::Bytes(OK.into()),
            });
            let setup = setup(&server, 1, 1, back_end);
            let lasts = Some(Duration::from_secs(1));
            let mut run = Run::new(setup, uniform(1), pace, lasts).unwrap();
            drive(&mut run);
            assert_eq!(run.tally().errors(), 0);
            assert!(run.took() >= Duration::from_secs(1));
            run.tally().clone()
        };
        // The stalled call was one of thousands to a client that waits for it ...
        let closed = measure(Pace::Closed);
        assert!(closed.latency.quantile(90, 100) < STALL.as_nanos() as u64 / 4);
        // ... and one of 80 that were due while it lasted.
        let open = measure(Pace::Rate(200.0));
        assert_eq!(open.successes(), 200);
        let late = |part| Duration::from_nanos(open.latency.quantile(part, 100));
        assert!(late(75) > STALL / 8, "{:?}", late(75));
        assert!(late(90) > STALL / 2, "{:?}", late(90));
    }
}

#[test]
fn what_was_due_and_never_sent_is_an_error() {
    for back_end in back_ends() {
        let server = Server::new(|number, _| match number {
            5 => Reply::After(Duration::from_millis(500), OK.into()),
            _ => Reply::Bytes(OK.into()),
        });
        let setup = setup(&server, 1, 1, back_end);
        let lasts = Some(Duration::from_millis(200));
        let mut run = Run::new(setup, uniform(1), Pace::Rate(100.0), lasts).unwrap();
        drive(&mut run);
        let unsent = run.tally().failures[&Failed::Unsent];
        assert_eq!(run.tally().successes() + unsent, 20);
        assert!(unsent >= 10 && run.tally().is_bad());
    }
}

#[test]
fn refusals_and_broken_connections_are_counted_by_their_kind() {
    for back_end in back_ends() {
        let server = Server::new(|_, head| match number(head) % 5 {
            0 => Reply::Bytes("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".into()),
            1 => Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n42".into()),
            2 => Reply::Close("HTTP/1.0 200 OK\r\n\r\n42".into()),
            3 => Reply::Close("nonsense\r\n\r\n".into()),
            _ => Reply::Bytes(OK.into()),
        });
        let setup = setup(&server, 4, 100, back_end);
        let mut run = Run::new(setup, each(100), Pace::Closed, None).unwrap();
        drive(&mut run);
        let tally = run.tally();
        assert_eq!((tally.successes(), tally.warm), (40, 20));
        let kinds: Vec<(String, u64)> = tally
            .failures
            .iter()
            .map(|(kind, count)| (kind.to_string(), *count))
            .collect();
        let kind = |name: &str| (name.to_owned(), 20);
        assert_eq!(kinds, [kind("503"), kind("broken"), kind("malformed")]);
        let (function, status, body) = tally.first_refusal.clone().unwrap();
        assert_eq!((function % 5, status, &body[..]), (0, 503, &b"busy"[..]));
    }
}

#[test]
fn a_trace_keeps_its_times() {
    for back_end in back_ends() {
        let server = Server::new(|_, _| Reply::Bytes(OK.into()));
        let times = [0, 30, 30, 150].map(Duration::from_millis);
        let choice = Choice::Listed {
            functions: vec![3, 1, 2, 0],
            next: 0,
        };
        let setup = setup(&server, 4, 4, back_end);
        let mut run = Run::new(setup, choice, Pace::At(times.to_vec()), None).unwrap();
        drive(&mut run);
        let asked = server.asked();
        let mut order: Vec<u32> = asked.iter().map(|(_, head)| number(head)).collect();
        order[1..3].sort_unstable();
        assert_eq!(order, [3, 1, 2, 0]);
        assert!(run.took() >= Duration::from_millis(150));
        assert_eq!(run.tally().errors(), 0);
    }
}

#[test]
fn a_worker_that_is_gone_ends_the_run() {
    for back_end in back_ends() {
        let server = Server::new(|_, _| Reply::Close(String::new()));
        let path = server.path.clone();
        let setup = setup(&server, 2, 10, back_end);
        let mut run = Run::new(setup.clone(), each(10), Pace::Closed, None).unwrap();
        drop(server);
        let ended = loop {
            match run.turn() {
                Ok(goes_on) => assert!(goes_on, "nobody answered"),
                Err(stopped) => break stopped,
            }
        };
        assert!(matches!(ended, Stopped::Gone(_)), "{ended:?}");
        assert!(!path.exists());
        let gone = Run::new(setup, each(10), Pace::Closed, None);
        assert!(matches!(gone, Err(Stopped::Gone(_))));
    }
}
