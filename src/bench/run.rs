//! The loop: connections, what is under way on them, and the time.
//!
//! ```text
//!  a line (client):  idle --call--> under way --answer, and the buffer is back--> idle
//!                     ^                 '--broken, malformed, timed out--> closed --.
//!                     '----------------- connected anew by its next call -----------'
//! ```
//!
//! A worker that cannot be connected to any more ends the run: its absence has no figures.

use super::reply::Reader;
use super::schedule::{Choice, Next, Pace, Schedule};
use super::tally::{Failed, Tally};
use super::{Names, Target};
use crate::base::{Duration, Time};
use crate::io::{Chosen, Completion, Handle, Interest, Io, Limits, Token, Wanted, What};
use crate::sys::clock;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;

/// Clients at once: fewer than the backlog of a worker, so that connecting never waits.
pub const CLIENTS_MAX: u32 = 4000;
/// The longest a call may take: an installation and a run, both at their usual limits.
const CALL_MAX: Duration = Duration::from_mins(10);
/// How often lines are looked at for calls that take too long, and progress can be shown.
const LOOK: Duration = Duration::from_millis(200);
/// Receive buffers: answers of benchmarks are short.
const CHUNKS: u32 = 256;
const CHUNK_BYTES: u32 = 16 * 1024;
const TIMER: Token = Token(u64::MAX - 1);

#[derive(Clone, Debug)]
pub struct Setup {
    pub target: Target,
    pub clients: u32,
    pub names: Names,
    /// Lines of each request's head besides its first: Host, and Authorization where needed.
    pub fields: Vec<(String, String)>,
    pub back_end: Wanted,
}

/// Why a run cannot go on.
#[derive(Debug)]
pub enum Stopped {
    /// The worker is not there (any more).
    Gone(io::Error),
    /// The client's own machinery fails.
    Own(io::Error),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    function: u32,
    due: Time,
    sent: Time,
}

/// One client's connection.
#[derive(Debug, Default)]
struct Line {
    handle: Option<Handle>,
    /// How often it was closed: completions of an earlier life are not this one's.
    life: u32,
    /// The request's bytes while they are not on their way.
    buffer: Vec<u8>,
    is_sending: bool,
    call: Option<Call>,
    reader: Reader,
}

#[derive(Debug)]
pub struct Run {
    io: Io,
    chosen: Chosen,
    target: Target,
    names: Names,
    /// Everything behind the name in a request.
    rest: Vec<u8>,
    schedule: Schedule,
    lines: Vec<Line>,
    idle: Vec<u32>,
    timer: Handle,
    /// When the timer will fire, if it is set.
    alarm: Option<Time>,
    next_look: Time,
    completions: Vec<Completion>,
    tally: Tally,
    begun: Began,
    /// How long it should take; zero where nobody says so.
    lasts: Duration,
    /// When the last answer came.
    last: Time,
}

#[derive(Clone, Copy, Debug)]
struct Began {
    at: Time,
    processor: Duration,
}

impl Run {
    /// Connects every client, then begins. `lasts`: none where each call of a list is made.
    pub fn new(
        setup: Setup,
        choice: Choice,
        pace: Pace,
        lasts: Option<Duration>,
    ) -> Result<Self, Stopped> {
        assert!((1..=CLIENTS_MAX).contains(&setup.clients));
        let limits = Limits {
            handles: setup.clients + 1,
            chunks: CHUNKS,
            chunk_bytes: CHUNK_BYTES,
            completions: Limits::default().completions,
        };
        let (mut io, chosen) = Io::new(setup.back_end, limits)
            .map_err(|error| Stopped::Own(io::Error::other(error.to_string())))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(own)?;
        let timer = io.add(timer, TIMER).expect("one place is for the timer");
        let mut lines = Vec::with_capacity(setup.clients as usize);
        for index in 0..setup.clients {
            lines.push(Line {
                handle: Some(connect(&mut io, &setup.target, index, 0)?),
                ..Line::default()
            });
        }
        let begun = Began {
            at: clock::now(),
            processor: clock::processor(),
        };
        Ok(Self {
            io,
            chosen,
            target: setup.target,
            names: setup.names,
            rest: rest_of_request(&setup.fields),
            schedule: Schedule::new(choice, pace, begun.at, lasts),
            lines,
            // The first client is on top.
            idle: (0..setup.clients).rev().collect(),
            timer,
            alarm: None,
            next_look: begun.at + LOOK,
            completions: Vec::new(),
            tally: Tally::default(),
            begun,
            lasts: lasts.unwrap_or_default(),
            last: begun.at,
        })
    }

    /// Sends what is due, waits a little, takes what came. False when the run is over.
    pub fn turn(&mut self) -> Result<bool, Stopped> {
        if self.dispatch()? && self.idle.len() == self.lines.len() {
            let missed = self.schedule.missed();
            self.tally.failed(Failed::Unsent, missed);
            return Ok(false);
        }
        let mut completions = core::mem::take(&mut self.completions);
        let waited = self.io.wait(Some(LOOK), &mut completions);
        waited.map_err(Stopped::Own)?;
        let now = clock::now();
        for completion in completions.drain(..) {
            self.complete(completion, now);
        }
        self.completions = completions;
        if now >= self.next_look {
            self.next_look = now + LOOK;
            self.give_up_late_ones(now);
        }
        Ok(true)
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn clients(&self) -> usize {
        self.lines.len()
    }

    pub fn back_end(&self) -> &Chosen {
        &self.chosen
    }

    /// From the beginning to the last answer, and at least as long as the run was to take.
    pub fn took(&self) -> Duration {
        self.last.since(self.begun.at).max(self.lasts)
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        clock::now().since(self.begun.at)
    }

    /// The share of one processor that this process used since the beginning.
    pub fn processor_share(&self) -> f64 {
        let used = clock::processor().saturating_sub(self.begun.processor);
        let passed = clock::now().since(self.begun.at);
        used.as_secs_f64() / passed.as_secs_f64().max(1e-9)
    }

    /// Gives idle clients what is due; true when nothing more will ever be.
    fn dispatch(&mut self) -> Result<bool, Stopped> {
        while let Some(index) = self.idle.pop() {
            let now = clock::now();
            match self.schedule.next(now) {
                Next::Call { function, due } => {
                    let call = Call {
                        function,
                        due,
                        sent: now,
                    };
                    self.send(index, call)?;
                }
                Next::NotBefore(time) => {
                    self.idle.push(index);
                    self.set_alarm(time)?;
                    return Ok(false);
                }
                Next::Over => {
                    self.idle.push(index);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn send(&mut self, index: u32, call: Call) -> Result<(), Stopped> {
        let handle = match self.lines[index as usize].handle {
            Some(handle) => handle,
            None => connect(
                &mut self.io,
                &self.target,
                index,
                self.lines[index as usize].life,
            )?,
        };
        let line = &mut self.lines[index as usize];
        line.handle = Some(handle);
        let mut request = core::mem::take(&mut line.buffer);
        request.clear();
        request.extend_from_slice(b"POST /run/");
        self.names.write(call.function, &mut request);
        request.extend_from_slice(&self.rest);
        line.is_sending = true;
        line.call = Some(call);
        self.io.send(handle, request);
        Ok(())
    }

    fn complete(&mut self, completion: Completion, now: Time) {
        if completion.token == TIMER {
            self.alarm = None;
            let mut count = [0; 8];
            // It only has to be emptied; whatever is due is due by the clock.
            let _ = rustix::io::read(self.io.descriptor(self.timer), &mut count);
            return;
        }
        let (index, life) = parts(completion.token);
        let Some(line) = self.lines.get_mut(index as usize) else {
            return;
        };
        if line.life != life {
            return;
        }
        match completion.what {
            // Where sending failed, receiving ends as well: that is told of then.
            What::Sent { buffer, .. } => {
                line.buffer = buffer;
                line.is_sending = false;
                if line.call.is_none() {
                    self.idle.push(index);
                }
            }
            What::Received(Ok(chunk)) => self.received(index, &chunk, now),
            What::Received(Err(_)) | What::Ended => self.ended(index, now),
            What::Accepted(_) | What::Ready(_) | What::Woken => {}
        }
    }

    fn received(&mut self, index: u32, bytes: &[u8], now: Time) {
        let line = &mut self.lines[index as usize];
        if line.call.is_none() {
            // Unasked for: the farewell of a worker that closes an idle connection.
            return self.close(index);
        }
        match line.reader.feed(bytes) {
            Ok(None) => self.receive(index),
            Ok(Some(mut reply)) => {
                self.answered(index, &mut reply, now);
                if reply.closes {
                    self.close(index);
                } else {
                    self.receive(index);
                }
            }
            Err(_) => self.failed(index, Failed::Malformed, now),
        }
    }

    fn receive(&mut self, index: u32) {
        if let Some(handle) = self.lines[index as usize].handle {
            self.io.receive(handle);
        }
    }

    fn ended(&mut self, index: u32, now: Time) {
        let line = &mut self.lines[index as usize];
        if line.call.is_none() {
            return self.close(index);
        }
        match line.reader.ended() {
            Some(mut reply) => {
                self.answered(index, &mut reply, now);
                self.close(index);
            }
            None => self.failed(index, Failed::Broken, now),
        }
    }

    fn answered(&mut self, index: u32, reply: &mut super::reply::Reply, now: Time) {
        let line = &mut self.lines[index as usize];
        let Some(call) = line.call.take() else { return };
        self.tally
            .answered(call.function, reply, now.since(call.due));
        self.last = now;
        if !line.is_sending {
            self.idle.push(index);
        }
    }

    /// The call under way failed, and its connection is of no more use.
    fn failed(&mut self, index: u32, why: Failed, now: Time) {
        let line = &mut self.lines[index as usize];
        if line.call.take().is_some() {
            self.tally.failed(why, 1);
            self.last = now;
            if !line.is_sending {
                self.idle.push(index);
            }
        }
        self.close(index);
    }

    fn close(&mut self, index: u32) {
        let line = &mut self.lines[index as usize];
        let Some(handle) = line.handle.take() else {
            return;
        };
        self.io.close(handle);
        line.life = line.life.wrapping_add(1);
        line.reader.reset();
        if core::mem::take(&mut line.is_sending) && line.call.is_none() {
            // Its buffer will not come back, so nothing else makes it idle.
            self.idle.push(index);
        }
    }

    fn give_up_late_ones(&mut self, now: Time) {
        for index in 0..self.lines.len() as u32 {
            let call = self.lines[index as usize].call;
            if call.is_some_and(|call| now.since(call.sent) > CALL_MAX) {
                self.failed(index, Failed::TimedOut, now);
            }
        }
    }

    fn set_alarm(&mut self, time: Time) -> Result<(), Stopped> {
        if self.alarm == Some(time) {
            return Ok(());
        }
        let nanos = time.as_nanos();
        let alarm = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: (nanos / 1_000_000_000) as i64,
                tv_nsec: (nanos % 1_000_000_000) as i64,
            },
        };
        let timer = self.io.descriptor(self.timer);
        timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &alarm).map_err(own)?;
        if self.alarm.replace(time).is_none() {
            self.io.watch(self.timer, Interest::Readable);
        }
        Ok(())
    }
}

/// A connection for this client, from which an answer is awaited already.
fn connect(io: &mut Io, target: &Target, index: u32, life: u32) -> Result<Handle, Stopped> {
    let socket = target.connect().map_err(Stopped::Gone)?;
    let handle = io
        .add(socket, token(index, life))
        .expect("there is a place for each client");
    io.receive(handle);
    Ok(handle)
}

fn own(error: rustix::io::Errno) -> Stopped {
    Stopped::Own(error.into())
}

fn token(index: u32, life: u32) -> Token {
    Token(u64::from(life) << 32 | u64::from(index))
}

fn parts(token: Token) -> (u32, u32) {
    (token.0 as u32, (token.0 >> 32) as u32)
}

fn rest_of_request(fields: &[(String, String)]) -> Vec<u8> {
    let mut rest = b" HTTP/1.1\r\n".to_vec();
    for (name, value) in fields {
        rest.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    rest.extend_from_slice(b"Content-Length: 2\r\n\r\n{}");
    rest
}
