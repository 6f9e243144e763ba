//! Clients over real sockets, on both back ends, in virtual time, before a driver of a few lines.

use super::*;
use crate::http::{Code, Method, Route};
use crate::io::{BackEnd, Completion, Limits as IoLimits, Wanted};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

/// More turns than any test needs: one that gets here hangs.
const TURNS_MAX: usize = 20_000;

struct Bed {
    io: Io,
    front: Front,
    now: Time,
    completions: Vec<Completion>,
    unix: SocketAddr,
    tcp: std::net::SocketAddr,
    /// Calls of `/run/hold`, in the order in which they came.
    held: VecDeque<Client>,
    hung_up: Vec<Client>,
}

fn limits() -> Limits {
    Limits {
        http: http::Limits::new(4096, 1024, 1 << 20),
        head_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_mins(1),
        connections: 64,
        spool_bytes: 8 << 20,
        chunk_bytes: 4096,
    }
}

/// Abstract socket names are shared by all tests of the machine.
static NAMES: AtomicU32 = AtomicU32::new(0);

impl Bed {
    fn new(wanted: Wanted, limits: Limits) -> Option<Self> {
        let bounds = IoLimits {
            chunks: 64,
            chunk_bytes: 4096,
            ..IoLimits::default()
        };
        let (mut io, chosen) = Io::new(wanted, bounds).expect("epoll works everywhere");
        if wanted == Wanted::Auto && chosen.back_end == BackEnd::Epoll {
            skip(&chosen.to_string());
            return None;
        }
        let name = format!(
            "olworker-front-{}-{}",
            std::process::id(),
            NAMES.fetch_add(1, Ordering::Relaxed)
        );
        let unix = SocketAddr::from_abstract_name(name).unwrap();
        let unix_listener = UnixListener::bind_addr(&unix).unwrap();
        let tcp_listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = tcp_listener.local_addr().unwrap();
        let mut front = Front::new(limits, Time::ZERO, 0);
        front
            .listen(unix_listener.into(), Via::Unix, &mut io)
            .unwrap();
        front
            .listen(tcp_listener.into(), Via::Tcp, &mut io)
            .unwrap();
        Some(Self {
            io,
            front,
            now: Time::ZERO,
            completions: Vec::new(),
            unix,
            tcp,
            held: VecDeque::new(),
            hung_up: Vec::new(),
        })
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect_addr(&self.unix).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    fn connect_tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.turn();
    }

    fn turn(&mut self) {
        let patience = Duration::from_millis(1);
        self.io.wait(Some(patience), &mut self.completions).unwrap();
        self.front
            .set_time(self.now, self.now.as_nanos() / 1_000_000_000);
        for Completion { token, what } in self.completions.drain(..) {
            if token != Token::WAKER {
                self.front.completed(token, what, &mut self.io);
            }
        }
        self.front.expire(&mut self.io);
        self.serve();
    }

    fn serve(&mut self) {
        while let Some(event) = self.front.next_event() {
            match event {
                Event::Arrived(client) => self.arrived(client),
                Event::Body(client) | Event::Writable(client) => self.echo(client),
                Event::HungUp(client) => self.hung_up.push(client),
            }
        }
        self.front.flush(&mut self.io);
    }

    fn arrived(&mut self, client: Client) {
        let request = self.front.request(client).expect("it has just arrived");
        let (route, method) = (request.head.route(), request.head.method());
        if let Err(code) = route.check(method) {
            let problem = Problem {
                allow: route.allowed(),
                ..Problem::new(code, "see the manual")
            };
            return self.front.refuse(client, &problem);
        }
        match route {
            Route::Status => self.front.answer(client, 200, &[], b"ready\n"),
            Route::Run { name, .. } => match name.as_str() {
                "echo" => {
                    self.front.stream_body(client);
                    self.front
                        .begin(client, 200, core::iter::empty(), &[], None)
                        .unwrap();
                    self.echo(client);
                }
                "hold" => {
                    self.front.spool_body(client);
                    self.held.push_back(client);
                }
                _ => self
                    .front
                    .refuse(client, &Problem::new(Code::NoSuchFunction, "none")),
            },
            _ => self.front.answer(client, 200, &[], b"{}"),
        }
    }

    /// Sends back what has come.
    fn echo(&mut self, client: Client) {
        if self.held.contains(&client) {
            return;
        }
        loop {
            let body = self.front.body(client);
            let (bytes, is_last) = (body.bytes.to_vec(), body.is_last);
            if !bytes.is_empty() {
                self.front.take_body(client, bytes.len());
                if self.front.write(client, &bytes) == Room::Full {
                    return;
                }
            }
            if is_last {
                return self.front.end(client);
            }
            if bytes.is_empty() {
                return;
            }
        }
    }

    /// Lets the first held call answer with its whole body.
    fn release(&mut self) {
        let client = self.held.pop_front().expect("a call is held");
        self.front
            .begin(client, 200, core::iter::empty(), &[], None)
            .unwrap();
        self.echo(client);
        self.serve();
    }

    fn until_held(&mut self, count: usize) {
        for _ in 0..TURNS_MAX {
            if self.held.len() == count {
                return;
            }
            self.turn();
        }
        panic!("{} calls are held, not {count}", self.held.len());
    }

    /// Reads until the text has come.
    fn expect(&mut self, stream: &mut impl Read, text: &str) -> String {
        let mut all = Vec::new();
        for _ in 0..TURNS_MAX {
            let open = read(stream, &mut all);
            let got = String::from_utf8_lossy(&all);
            if got.contains(text) {
                return got.into_owned();
            }
            assert!(open, "closed after {got:?}, without {text:?}");
            self.turn();
        }
        panic!(
            "{text:?} did not come, but {:?}",
            String::from_utf8_lossy(&all)
        );
    }

    /// Reads until the server closes.
    fn expect_end(&mut self, stream: &mut impl Read) -> String {
        let mut all = Vec::new();
        for _ in 0..TURNS_MAX {
            if !read(stream, &mut all) {
                return String::from_utf8_lossy(&all).into_owned();
            }
            self.turn();
        }
        panic!("not closed after {:?}", String::from_utf8_lossy(&all));
    }

    /// Lets everything settle and finds that nothing was said.
    fn expect_silence(&mut self, stream: &mut impl Read) {
        let mut all = Vec::new();
        for _ in 0..20 {
            self.turn();
            assert!(read(stream, &mut all), "closed");
        }
        assert_eq!(String::from_utf8_lossy(&all), "");
    }
}

fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIP: {why}");
}

/// False when the other side has closed.
fn read(stream: &mut impl Read, all: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 8192];
    match stream.read(&mut buffer) {
        Ok(0) => false,
        Ok(count) => {
            all.extend_from_slice(&buffer[..count]);
            true
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => true,
        Err(error) => panic!("the answer must come whole: {error}"),
    }
}

/// How much of it was written; nothing when there is no room or nothing to write.
fn write(stream: &mut impl Write, bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        return 0;
    }
    match stream.write(bytes) {
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("the request is taken whole: {error}"),
    }
}

fn on_both(test: fn(&mut Bed)) {
    on_both_with(limits(), test);
}

fn on_both_with(limits: Limits, test: fn(&mut Bed)) {
    for wanted in [Wanted::Epoll, Wanted::Auto] {
        if let Some(mut bed) = Bed::new(wanted, limits) {
            test(&mut bed);
        }
    }
}

const STATUS: &[u8] = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
const SLOW: &[u8] = b"POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{";
const READY: &str = "\r\n\r\nready\n";

#[test]
fn a_request_is_answered_and_the_next_one_too() {
    on_both(|bed| {
        let mut client = bed.connect();
        for _ in 0..3 {
            client.write_all(STATUS).unwrap();
            let answer = bed.expect(&mut client, READY);
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970"),
                "{answer}"
            );
            assert!(!answer.contains("Connection"), "{answer}");
        }
        assert_eq!(bed.front.counters().requests, 3);
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"GET /run/hold HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        client.write_all(STATUS).unwrap();
        client
            .write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        bed.until_held(1);
        bed.expect_silence(&mut client);
        bed.release();
        let answers = bed.expect_end(&mut client);
        let (ready, refused) = (answers.find(READY), answers.find("/problems/not-found"));
        assert!(
            answers.starts_with("HTTP/1.1 200 OK\r\n") && ready < refused,
            "{answers}"
        );
        assert!(
            ready.is_some() && answers.matches("Connection: close").count() == 1,
            "{answers}"
        );
    });
}

#[test]
fn a_thousand_pipelined_requests_get_a_thousand_answers() {
    on_both(|bed| {
        let mut client = bed.connect();
        let mut all = STATUS.repeat(1000);
        all.extend_from_slice(b"GET /status HTTP/1.0\r\n\r\n");
        let (mut sent, mut answers) = (0, Vec::new());
        for _ in 0..TURNS_MAX {
            sent += write(&mut client, &all[sent..]);
            if !read(&mut client, &mut answers) {
                break;
            }
            bed.turn();
        }
        assert_eq!(
            String::from_utf8_lossy(&answers).matches(READY).count(),
            1001
        );
    });
}

#[test]
fn bodies_are_echoed_however_they_are_framed() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"POST /run/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        bed.expect(&mut client, "\r\n5\r\nhello\r\n0\r\n\r\n");
        client
            .write_all(b"POST /run/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        client.write_all(b"3;a=\"b\"\r\nabc\r\n").unwrap();
        bed.expect(&mut client, "\r\n3\r\nabc\r\n");
        client
            .write_all(b"01\r\nd\r\n0\r\nTrailer: x\r\n\r\n")
            .unwrap();
        bed.expect(&mut client, "1\r\nd\r\n0\r\n\r\n");
    });
}

#[test]
fn a_large_body_flows_through_little_memory() {
    on_both(|bed| {
        let mut client = bed.connect();
        let body = vec![b'x'; 1 << 20];
        let head = format!(
            "POST /run/echo HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).unwrap();
        let (mut sent, mut answer) = (0, Vec::new());
        for _ in 0..TURNS_MAX {
            sent += write(&mut client, &body[sent..]);
            if !read(&mut client, &mut answer) {
                break;
            }
            bed.turn();
        }
        assert!(answer.ends_with(&body));
        assert_eq!(bed.front.spooled_bytes(), 0);
    });
}

#[test]
fn a_body_nobody_can_take_yet_is_spooled() {
    on_both(|bed| {
        let mut client = bed.connect();
        let body = vec![b'y'; 1 << 20];
        client
            .write_all(b"POST /run/hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
            .unwrap();
        client
            .write_all(b"Content-Length: 1048576\r\n\r\n")
            .unwrap();
        let mut sent = 0;
        while sent < body.len() {
            sent += write(&mut client, &body[sent..]);
            bed.turn();
        }
        let client_key = bed.held[0];
        for _ in 0..TURNS_MAX {
            if bed.front.spooled_bytes() as usize > body.len() - 2 * MEMORY_BYTES_MAX {
                break;
            }
            bed.turn();
        }
        assert!(bed.front.body(client_key).bytes.len() <= MEMORY_BYTES_MAX + 4096);
        bed.release();
        let mut answer = Vec::new();
        for _ in 0..TURNS_MAX {
            if !read(&mut client, &mut answer) {
                break;
            }
            bed.turn();
        }
        assert_eq!(answer.split(|byte| *byte == b'y').count() - 1, body.len());
        assert_eq!(bed.front.spooled_bytes(), 0);
    });
}

#[test]
fn own_answers_wait_for_the_end_of_the_body() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
            .unwrap();
        bed.expect_silence(&mut client);
        client.write_all(b"cd").unwrap();
        client.write_all(STATUS).unwrap();
        let answers = bed.expect(&mut client, READY);
        assert!(
            answers.starts_with("HTTP/1.1 404 Not Found\r\n"),
            "{answers}"
        );
    });
}

#[test]
fn a_bad_body_turns_the_waiting_answer_into_bad_request() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"POST /no HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n")
            .unwrap();
        bed.expect_silence(&mut client);
        client.write_all(b"abc\r\n").unwrap();
        client.write_all(STATUS).unwrap();
        let answers = bed.expect_end(&mut client);
        assert!(
            answers.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answers}"
        );
        assert!(
            !answers.contains("404") && !answers.contains(READY),
            "{answers}"
        );
    });
}

#[test]
fn a_bad_body_ends_the_call_it_belongs_to() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"POST /run/hold HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        bed.until_held(1);
        client.write_all(b"zz\r\n").unwrap();
        let answer = bed.expect_end(&mut client);
        assert!(answer.contains("/problems/bad-request"), "{answer}");
        assert_eq!(bed.hung_up, [bed.held[0]]);
    });
}

#[test]
fn a_refused_head_closes_and_the_client_reads_why() {
    on_both(|bed| {
        let mut client = bed.connect_tcp();
        let mut request = b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n".to_vec();
        request.resize(100_000, b'x');
        client.write_all(&request).unwrap();
        let answer = bed.expect_end(&mut client);
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    });
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_at_once() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"PUT /run/f HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
            .unwrap();
        let answer = bed.expect_end(&mut client);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    });
}

#[test]
fn continue_is_said_only_when_somebody_wants_the_body() {
    on_both(|bed| {
        let expecting = |path: &str| {
            let fields = "Host: x\r\nContent-Length: 2\r\nExpect: 100-Continue";
            format!("POST {path} HTTP/1.1\r\n{fields}\r\n\r\n")
        };
        let mut client = bed.connect();
        client.write_all(expecting("/run/echo").as_bytes()).unwrap();
        bed.expect(&mut client, "100 Continue\r\n\r\n");
        client.write_all(b"ok").unwrap();
        bed.expect(&mut client, "2\r\nok\r\n0\r\n\r\n");
        client.write_all(expecting("/run/none").as_bytes()).unwrap();
        let answer = bed.expect_end(&mut client);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    });
}

#[test]
fn a_client_that_did_not_wait_for_continue_is_kept() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue")
            .unwrap();
        client.write_all(b"\r\n\r\nok").unwrap();
        client.write_all(STATUS).unwrap();
        let answers = bed.expect(&mut client, READY);
        assert!(answers.starts_with("HTTP/1.1 404 "), "{answers}");
    });
}

#[test]
fn head_and_http_1_0_get_what_they_understand() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"HEAD /status HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        client
            .write_all(b"GET /run/echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .unwrap();
        let answers = bed.expect_end(&mut client);
        let (head, old) = answers.split_at(answers.rfind("HTTP/1.1").unwrap());
        assert!(head.ends_with("Content-Length: 6\r\n\r\n"), "{head}");
        assert!(old.ends_with("Connection: close\r\n\r\n"), "{old}");
    });
}

#[test]
fn a_client_that_ended_its_side_still_gets_its_answers() {
    on_both(|bed| {
        let mut client = bed.connect_tcp();
        client
            .write_all(b"GET /run/hold HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        client.write_all(STATUS).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        bed.until_held(1);
        bed.expect_silence(&mut client);
        bed.release();
        let answers = bed.expect_end(&mut client);
        assert!(answers.contains(READY), "{answers}");
        assert_eq!(bed.hung_up, []);
    });
}

#[test]
fn a_request_that_ends_in_its_middle_is_bad() {
    on_both(|bed| {
        for part in [
            &STATUS[..20],
            b"POST /run/f HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nab",
        ] {
            let mut client = bed.connect();
            client.write_all(part).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let answer = bed.expect_end(&mut client);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
    });
}

#[test]
fn leaving_is_noticed_while_a_call_is_held() {
    on_both(|bed| {
        let mut unix = bed.connect();
        unix.write_all(b"GET /run/hold HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        bed.until_held(1);
        let mut tcp = bed.connect_tcp();
        tcp.write_all(b"GET /run/hold HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        bed.until_held(2);
        bed.pass(Duration::from_secs(1));
        drop((unix, tcp));
        for _ in 0..TURNS_MAX {
            if bed.hung_up.len() == 2 {
                break;
            }
            bed.turn();
        }
        bed.hung_up.sort_unstable();
        assert!(bed.held.iter().eq(&bed.hung_up), "{:?}", bed.hung_up);
        assert_eq!(bed.front.connections(), 0);
        let client = bed.held[0];
        assert!(bed.front.request(client).is_none());
        assert_eq!(bed.front.write(client, b"late"), Room::Enough);
        bed.front.end(client);
    });
}

#[test]
fn slow_heads_and_bodies_time_out_and_idle_clients_are_let_go() {
    on_both(|bed| {
        let mut idle = bed.connect();
        let mut slow_head = bed.connect();
        slow_head.write_all(b"GET / HT").unwrap();
        let mut slow_body = bed.connect();
        slow_body
            .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
            .unwrap();
        bed.expect_silence(&mut idle);
        for _ in 0..9 {
            bed.pass(Duration::from_secs(1));
            slow_head.write_all(b"T").unwrap_or_default();
            slow_body.write_all(b"x").unwrap();
        }
        bed.expect_silence(&mut slow_body);
        assert!(bed.expect_end(&mut slow_head).starts_with("HTTP/1.1 4"));
        for _ in 0..22 {
            bed.pass(Duration::from_secs(1));
            slow_body.write_all(b"x").unwrap_or_default();
        }
        assert!(bed.expect_end(&mut slow_body).starts_with("HTTP/1.1 408 "));
        bed.expect_silence(&mut idle);
        bed.pass(Duration::from_secs(30));
        assert_eq!(bed.expect_end(&mut idle), "");
        assert_eq!(bed.front.connections(), 0);
    });
}

#[test]
fn a_slow_head_is_told_so() {
    on_both(|bed| {
        let mut client = bed.connect();
        client.write_all(&STATUS[..STATUS.len() - 2]).unwrap();
        bed.expect_silence(&mut client);
        bed.pass(Duration::from_secs(10));
        let answer = bed.expect_end(&mut client);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            answer.contains("/problems/timeout-reading-request"),
            "{answer}"
        );
        assert_eq!(bed.front.counters().timeouts, 1);
    });
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"GET /run/hold HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        bed.until_held(1);
        let call = bed.held.pop_front().unwrap();
        bed.front
            .begin(call, 200, core::iter::empty(), &[], None)
            .unwrap();
        let piece = vec![b'z'; 60_000];
        let mut rounds = 0;
        while bed.front.write(call, &piece) == Room::Enough || rounds < 20 {
            bed.serve();
            bed.turn();
            rounds += 1;
            assert!(
                rounds < 1000,
                "an answer nobody reads must not be taken for ever"
            );
        }
        assert_eq!(bed.hung_up, []);
        bed.pass(Duration::from_secs(1000));
        bed.turn();
        assert_eq!(bed.hung_up, [call]);
        assert_eq!(bed.front.connections(), 0);
    });
}

#[test]
fn beyond_the_cap_clients_wait_in_the_backlog() {
    on_both_with(
        Limits {
            connections: 1,
            ..limits()
        },
        |bed| {
            let mut first = bed.connect();
            first.write_all(STATUS).unwrap();
            bed.expect(&mut first, READY);
            let mut second = bed.connect();
            second.write_all(STATUS).unwrap();
            bed.expect_silence(&mut first);
            assert_eq!(bed.front.connections(), 1);
            drop(first);
            bed.expect(&mut second, READY);
        },
    );
}

#[test]
fn draining_answers_and_closes() {
    on_both(|bed| {
        let mut idle = bed.connect();
        let mut busy = bed.connect();
        busy.write_all(b"GET /run/hold HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        bed.until_held(1);
        let mut slow = bed.connect();
        slow.write_all(SLOW).unwrap();
        bed.expect_silence(&mut slow);
        bed.front.drain();
        bed.serve();
        assert_eq!(bed.expect_end(&mut idle), "");
        let mut new = bed.connect();
        new.write_all(STATUS).unwrap();
        assert!(bed.expect_end(&mut new).contains("Connection: close"));
        bed.release();
        let answer = bed.expect_end(&mut busy);
        assert!(
            answer.contains("Connection: close") && answer.ends_with("0\r\n\r\n"),
            "{answer}"
        );
        assert!(bed.front.is_busy(), "one body is still being read");
        slow.write_all(b"}").unwrap();
        assert!(bed.expect_end(&mut slow).contains(" 404 "));
    });
}

#[test]
fn an_answer_broken_off_is_seen_to_be_cut() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"GET /run/hold HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        bed.until_held(1);
        let call = bed.held.pop_front().unwrap();
        bed.front
            .begin(
                call,
                200,
                core::iter::empty(),
                &[("X-OL-Start", b"warm")],
                None,
            )
            .unwrap();
        let _ = bed.front.write(call, b"half");
        bed.front.abort(call);
        bed.serve();
        let answer = bed.expect_end(&mut client);
        assert!(answer.contains("X-OL-Start: warm\r\n"), "{answer}");
        assert!(answer.ends_with("4\r\nhalf\r\n"), "{answer}");
    });
}

#[test]
fn unknown_methods_reach_calls_and_nothing_else() {
    on_both(|bed| {
        let mut client = bed.connect();
        client
            .write_all(b"BREW /status HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let answer = bed.expect(&mut client, "/problems/method-not-allowed");
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
        client
            .write_all(b"BREW /run/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        bed.expect(&mut client, "HTTP/1.1 200 OK");
        assert_eq!(Method::of("BREW"), Method::Other);
    });
}
