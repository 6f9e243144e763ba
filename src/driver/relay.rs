//! A call on its way to its instance, and the answer on its way back.
//!
//! ```text
//!   client ──body──▶ front ──frames──▶ line.out ──▶ instance
//!   client ◀──────── front ◀──events── decoder  ◀── instance
//! ```
//!
//! Both ways are pulled: a body is read from its client as frames leave, an answer from its
//! instance as the client reads. A small warm call is one frame each way and copies each byte once.

use super::calls::{Call, Calls, Stage};
use super::front::{Client, Front, Room, Via};
use super::instances::SEEN_EVERY;
use super::stats::{Counted, Timed};
use super::worker::Worker;
use crate::base::Time;
use crate::engine::{CallKey, Event, InstanceKey, Start, Verdict};
use crate::http::{Code, Problem, Route};
use crate::io::{Chunk, What};
use crate::wire::call::{self, CallHead, StartKind};
use crate::wire::{After, AnswerEvent, Failure, FailureCode};
use std::time::Duration;

/// What is read of a body at once, to go out in one frame.
const BODY_FRAME_BYTES: usize = 256 * 1024;

// A call on its way in.
impl Worker {
    pub(super) fn relay(&mut self, call: CallKey, key: InstanceKey, start: Start) {
        let spare = self.lines.spare.pop().unwrap_or_default();
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        let Some(Call {
            client: Some(client),
            ..
        }) = self.calls.get(call)
        else {
            // It hung up in this very turn; its end is on its way to the engine.
            line.call = Some(call);
            return;
        };
        let client = *client;
        let mut out = core::mem::take(&mut line.out);
        if out.capacity() == 0 {
            out = spare;
        }
        let Some(record) = self.calls.get_mut(call) else {
            return;
        };
        record.stage = Stage::With(key);
        record.start = start;
        record.given = self.now;
        self.stats
            .record(Timed::Queue, self.now.since(record.arrived));
        let runtime = self.functions.get(line.function).and_then(|function| {
            let code = function.code.as_ref()?;
            Some(code.settings.runtime.unwrap_or(self.config.limits.runtime))
        });
        let (taken, is_last) = encode(&self.front, client, record, runtime, &mut out);
        self.outputs.call_given(line.outputs, record.id);
        if !core::mem::replace(&mut line.is_measured, true) {
            self.meter.want(key, self.now);
        }
        line.call = Some(call);
        line.calls += 1;
        line.decoder.call_sent();
        line.out = out;
        line.body_open = !is_last;
        self.front.take_body(client, taken);
        if !is_last {
            self.front.stream_body(client);
        }
        if start != Start::Warm {
            if self.lines.unseen.is_empty() {
                self.lines.unseen_due = self.now + SEEN_EVERY;
            }
            self.lines.unseen.push(key);
        }
        self.flush_line(key);
        self.hear_more(key);
    }

    /// Sends what waits for an instance.
    fn flush_line(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if let (Some(connection), false, false) =
            (line.connection, line.is_sending, line.out.is_empty())
        {
            line.is_sending = true;
            self.io.send(connection, core::mem::take(&mut line.out));
        }
    }

    /// More of a call's body can be taken from its client.
    pub(super) fn body_came(&mut self, client: Client) {
        let Some(call) = self.calls.of_client(client) else {
            return if self.depot.expects(client) {
                self.order_goes_on(client);
            } else {
                self.collect_more(client);
            };
        };
        if let Some(Stage::With(instance)) = self.calls.get(call).map(|call| call.stage) {
            self.pass_body(instance, client);
        }
    }

    fn pass_body(&mut self, key: InstanceKey, client: Client) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if !line.body_open || line.is_sending {
            return;
        }
        let body = self.front.body(client);
        let taken = body.bytes.len().min(BODY_FRAME_BYTES);
        let is_last = body.is_last && taken == body.bytes.len();
        if taken == 0 && !is_last {
            return;
        }
        call::encode_body(&body.bytes[..taken], is_last, &mut line.out);
        line.body_open = !is_last;
        self.front.take_body(client, taken);
        self.flush_line(key);
    }

    /// The client of a call that an instance has is gone: nobody will send the rest of its body.
    pub(super) fn cut_body(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if line.body_open {
            line.body_open = false;
            line.out.extend_from_slice(&call::cancel());
            self.flush_line(key);
        }
        // What it still says goes nowhere, so there is room.
        self.resume(key);
    }

    fn sent(&mut self, key: InstanceKey, is_good: bool, buffer: Vec<u8>) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        line.is_sending = false;
        if line.out.capacity() == 0 && line.body_open {
            line.out = buffer;
            line.out.clear();
        } else {
            self.lines.keep(buffer);
        }
        if !is_good {
            // It has closed its end or is gone; what it last said is still to be heard.
            return;
        }
        let Some(line) = self.lines.get(key) else {
            return;
        };
        if !line.out.is_empty() {
            return self.flush_line(key);
        }
        let client = line.call.and_then(|call| self.calls.get(call)?.client);
        if let Some(client) = client {
            self.pass_body(key, client);
        }
    }
}

/// The call frame with as much of the body as is here. Answers how much of it that is, and whether
/// it is all.
fn encode(
    front: &Front,
    client: Client,
    record: &Call,
    runtime: Option<Duration>,
    out: &mut Vec<u8>,
) -> (usize, bool) {
    let body = front.body(client);
    let taken = body.bytes.len().min(BODY_FRAME_BYTES);
    let is_last = body.is_last && taken == body.bytes.len();
    let Some(request) = front.request(client) else {
        return (0, true);
    };
    let head = request.head;
    let Route::Run { rest, .. } = Route::of(head.path()) else {
        unreachable!("only calls are relayed")
    };
    let script_name = &head.path()[..head.path().len() - rest.len()];
    let frame = CallHead {
        id: record.id.as_str(),
        function: record.function.as_str(),
        start: match record.start {
            Start::Warm => StartKind::Warm,
            Start::Zygote => StartKind::Zygote,
            Start::Fresh => StartKind::Fresh,
        },
        budget_ms: runtime.map_or(0, |runtime| runtime.as_millis().min(u32::MAX.into()) as u32),
        protocol: head.version().as_str(),
        method: head.method_token(),
        script_name,
        path: rest,
        query: head.query().unwrap_or(""),
        client: if request.via == Via::Tcp { "tcp" } else { "" },
        server: if request.via == Via::Tcp {
            head.host()
        } else {
            ""
        },
    };
    let fields = head.fields().map(|(name, value)| (name.as_bytes(), value));
    frame
        .encode(fields, &body.bytes[..taken], is_last, out)
        .expect("heads are bounded far below a frame, and hold no NUL");
    (taken, is_last)
}

/// What an event of an instance asks the worker to do, once nothing is borrowed.
enum Next {
    Nothing,
    Pause,
    Over(Option<Verdict>),
    Broken(String),
}

// Its answer on its way out.
impl Worker {
    pub(super) fn line_completed(&mut self, key: InstanceKey, what: What) {
        match what {
            What::Received(Ok(chunk)) => {
                if let Some(line) = self.lines.get_mut(key) {
                    line.is_receiving = false;
                }
                self.heard(key, &chunk);
            }
            What::Received(Err(_)) | What::Ended => self.line_closed(key),
            What::Sent { result, buffer } => self.sent(key, result.is_ok(), buffer),
            what => unreachable!("nobody asked for this on a line: {what:?}"),
        }
    }

    pub(super) fn hear_more(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if let (Some(connection), false, false) =
            (line.connection, line.is_receiving, line.is_paused)
        {
            line.is_receiving = true;
            self.io.receive(connection);
        }
    }

    fn heard(&mut self, key: InstanceKey, chunk: &Chunk) {
        let mut input: &[u8] = chunk;
        loop {
            let Some(line) = self.lines.get_mut(key) else {
                return;
            };
            let next = match line.decoder.decode(input) {
                Err(error) => Next::Broken(error.to_string()),
                Ok(step) => {
                    input = &input[step.used..];
                    let Some(event) = step.event else { break };
                    let hides_traces = !self.config.http.tracebacks;
                    let origin = line.origin.as_deref();
                    on_event(
                        event,
                        line.call,
                        origin,
                        hides_traces,
                        &mut self.calls,
                        &mut self.front,
                    )
                }
            };
            match next {
                Next::Nothing => {}
                Next::Pause => line.is_paused = true,
                Next::Over(verdict) => self.over(key, verdict),
                Next::Broken(why) => return self.broke_protocol(key, &why),
            }
        }
        let wants_more = self.lines.get(key).is_some_and(|line| line.call.is_some());
        if wants_more {
            self.hear_more(key);
        }
    }

    /// The answer is complete as far as the client is concerned; `verdict` comes later where user
    /// code goes on.
    fn over(&mut self, key: InstanceKey, verdict: Option<Verdict>) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        let Some(call) = line.call else { return };
        line.is_paused = false;
        if !line.is_busy {
            let is_first = line.calls == 1;
            let asked = line.asked;
            self.answered(call, key, is_first.then_some(asked));
            self.lines.grown(key);
        }
        let Some(verdict) = verdict else {
            if let Some(line) = self.lines.get_mut(key) {
                line.is_busy = true;
            }
            return;
        };
        if let Some(line) = self.lines.get_mut(key) {
            line.is_busy = false;
            line.call = None;
            if line.body_open {
                line.body_open = false;
                line.out.extend_from_slice(&call::cancel());
            }
        }
        self.flush_line(key);
        self.calls.remove(call);
        self.tell(Event::Answered {
            instance: key,
            call,
            verdict,
        });
    }

    /// A client has its whole answer: what that took.
    fn answered(&mut self, call: CallKey, key: InstanceKey, asked: Option<Time>) {
        if let Some(record) = self.calls.get(call) {
            let sample = self.sample(record, key);
            self.trace.push(sample, self.now);
            self.stats
                .record(Timed::Call, self.now.since(record.arrived));
            self.stats
                .record(Timed::Relay, self.now.since(record.given));
            self.stats.count(match record.start {
                Start::Warm => Counted::WarmStarts,
                Start::Zygote => Counted::ZygoteStarts,
                Start::Fresh => Counted::FreshStarts,
            });
        }
        if let Some(asked) = asked {
            self.stats.record(Timed::Cold, self.now.since(asked));
        }
        self.calls.part(call);
    }

    /// It said what makes no sense: its call fails, and it is not spoken to again.
    fn broke_protocol(&mut self, key: InstanceKey, why: &str) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        let Some(call) = line.call.take() else { return };
        let instance = key.to_string();
        log::warn!(
            event = "protocol-broken", instance = instance.as_str();
            "an instance broke the protocol: {why}"
        );
        if let Some(record) = self.calls.remove(call)
            && let Some(client) = record.client
        {
            if record.is_answering {
                self.front.abort(client);
            } else {
                let mut problem = Problem::new(Code::SandboxDied, "the sandbox broke the protocol");
                problem.call_id = Some(record.id.as_str());
                self.front.refuse(client, &problem);
            }
        }
        self.tell(Event::Answered {
            instance: key,
            call,
            verdict: Verdict::Unfit,
        });
    }

    /// There is room again in the answer of a client.
    pub(super) fn writable(&mut self, client: Client) {
        let call = self.calls.of_client(client);
        let stage = call.and_then(|call| Some(self.calls.get(call)?.stage));
        match stage {
            Some(Stage::With(instance)) => self.resume(instance),
            Some(_) => {}
            None => self.stream_writable(client),
        }
    }

    fn resume(&mut self, key: InstanceKey) {
        let Some(line) = self.lines.get_mut(key) else {
            return;
        };
        if core::mem::take(&mut line.is_paused) {
            self.hear_more(key);
        }
    }
}

/// What one event does to the client's answer.
fn on_event(
    event: AnswerEvent<'_>,
    call: Option<CallKey>,
    origin: Option<&str>,
    hides_traces: bool,
    calls: &mut Calls,
    front: &mut Front,
) -> Next {
    let verdict = |tainted| {
        if tainted {
            Verdict::Unfit
        } else {
            Verdict::Fit
        }
    };
    if let AnswerEvent::Idle { tainted } = event {
        return Next::Over(Some(verdict(tainted)));
    }
    let record = call.and_then(|call| calls.get_mut(call));
    let client = record.as_ref().and_then(|record| record.client);
    match event {
        AnswerEvent::Idle { .. } => unreachable!("dealt with above"),
        AnswerEvent::Head(head) => {
            let (Some(record), Some(client)) = (record, client) else {
                return Next::Nothing;
            };
            let length = declared_length(&head).or(head.body_bytes.map(|bytes| bytes as u64));
            let own = [
                ("X-OL-Call-Id", record.id.as_str().as_bytes()),
                ("X-OL-Start", record.start.name().as_bytes()),
                ("X-OL-Zygote", origin.unwrap_or("").as_bytes()),
            ];
            let own = if origin.is_some() {
                &own[..]
            } else {
                &own[..2]
            };
            let fields = head.headers.iter().filter(|(name, _)| !is_own(name));
            match front.begin(client, head.status, fields, own, length) {
                Ok(()) => {
                    record.is_answering = true;
                    record.status = head.status;
                    Next::Nothing
                }
                Err(why) => Next::Broken(why.to_string()),
            }
        }
        AnswerEvent::Data(data) => match client.map(|client| front.write(client, data)) {
            Some(Room::Full) => Next::Pause,
            Some(Room::Enough) | None => Next::Nothing,
        },
        AnswerEvent::End(after) => {
            if let Some(client) = client {
                front.end(client);
            }
            Next::Over(match after {
                After::Keep => Some(Verdict::Fit),
                After::Tainted => Some(Verdict::Unfit),
                After::Busy => None,
            })
        }
        AnswerEvent::Failed(failure) => {
            let (Some(record), Some(client)) = (record, client) else {
                return Next::Over(Some(verdict(failure.tainted)));
            };
            fail(&failure, record, client, hides_traces, front)
        }
    }
}

/// The answer is a failure of the function.
fn fail(
    failure: &Failure<'_>,
    record: &mut Call,
    client: Client,
    hides_traces: bool,
    front: &mut Front,
) -> Next {
    let code = match failure.code {
        FailureCode::FunctionError => Code::FunctionError,
        FailureCode::BadEvent => Code::BadEvent,
        FailureCode::ImportFailed | FailureCode::EntryMissing => Code::ImportFailed,
        // No user code has run; the process ends now, and the engine tries another.
        FailureCode::SandboxFailed => {
            let why = failure.detail;
            log::error!(event = "sandbox-failed"; "a sandbox could not be set up: {why}");
            return Next::Nothing;
        }
    };
    let is_unfit = failure.tainted || code == Code::ImportFailed;
    if record.is_answering {
        front.abort(client);
    } else {
        let mut problem = Problem::new(code, failure.detail);
        problem.call_id = Some(record.id.as_str());
        let shows = !hides_traces && !failure.traceback.is_empty();
        problem.traceback = shows.then_some(failure.traceback);
        front.refuse(client, &problem);
        record.status = code.status();
    }
    Next::Over(Some(if is_unfit {
        Verdict::Unfit
    } else {
        Verdict::Fit
    }))
}

/// Fields that are the worker's to say.
fn is_own(name: &[u8]) -> bool {
    name.len() > 5 && name[..5].eq_ignore_ascii_case(b"x-ol-")
}

fn declared_length(head: &crate::wire::AnswerHead<'_>) -> Option<u64> {
    let (_, value) = head
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(b"content-length"))?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}
