//! The reading side: bytes become a request, piece by piece, until it has ended or is refused.

use super::{BYTES_PER_SEC_MIN, Connection, Phase, Reply, answer_bytes_max};
use crate::driver::front::intake::Wish;
use crate::driver::front::shared::{Event, Shared};
use crate::http::{Asked, Head, Refusal, Step};
use core::time::Duration;

impl Connection {
    /// There are bytes ahead and no request in their way: they are decoded when it is their turn,
    /// unless more answers wait for the client than it should have.
    pub(super) fn go_on_soon(&mut self, shared: &mut Shared) {
        self.held_up = self.out.len() >= answer_bytes_max(shared);
        if !self.held_up {
            shared.ready.push_back(self.client);
        }
    }

    /// Decodes what has come already, now that nothing is in its way.
    pub(in crate::driver::front) fn go_on(&mut self, shared: &mut Shared) {
        if self.phase != Phase::Reading || self.ahead.is_empty() {
            return;
        }
        self.read_due = shared.now + shared.limits.idle_timeout;
        let ahead = core::mem::take(&mut self.ahead);
        let mut input = &ahead[self.ahead_read..];
        self.decode(&mut input, shared);
        if !input.is_empty() {
            self.ahead_read = ahead.len() - input.len();
            self.ahead = ahead;
            return;
        }
        self.ahead_read = 0;
        self.count_ahead(shared);
        shared.buffers.give_back(ahead);
        let unfinished = match self.phase {
            Phase::Reading | Phase::Draining => true,
            Phase::Answering => !self.intake.ended,
            Phase::Closing { .. } | Phase::Lingering { .. } | Phase::Gone => false,
        };
        if self.peer_ended && unfinished {
            self.nothing_more(shared);
        }
    }

    /// Decodes until the request has ended or the input has.
    pub(super) fn decode(&mut self, input: &mut &[u8], shared: &mut Shared) {
        let was_between = self.decoder.is_between();
        let mut head = self
            .head
            .take()
            .unwrap_or_else(|| shared.buffers.take_head());
        let refusal = loop {
            match self.decoder.step(input, &mut head, &shared.limits.http) {
                Step::NeedMore => break None,
                Step::Head => self.head_came(&head, shared),
                Step::Body(data) => self.body_came(data, shared),
                Step::End => {
                    self.intake.ended = true;
                    break None;
                }
                Step::Refuse(refusal) => break Some(refusal),
            }
        };
        let is_between = self.decoder.is_between();
        if self.phase == Phase::Reading && is_between {
            shared.buffers.give_back_head(head);
        } else {
            self.head = Some(head);
        }
        if self.phase == Phase::Reading && was_between && !is_between {
            self.read_due = shared.now + shared.limits.head_timeout;
        }
        match refusal {
            Some(refusal) => self.refuse_rest(refusal, shared),
            None if self.intake.ended => self.request_came(shared),
            None => {}
        }
    }

    fn head_came(&mut self, head: &Head, shared: &mut Shared) {
        shared.counters.requests += 1;
        self.phase = Phase::Answering;
        self.asked = Asked::by(head);
        self.asked.keep_alive &= !shared.draining;
        self.read_due = shared.now + shared.limits.body_timeout;
        shared.events.push_back(Event::Arrived(self.client));
    }

    fn body_came(&mut self, data: &[u8], shared: &mut Shared) {
        self.intake
            .add(data, &mut shared.budget, &mut shared.buffers);
        let earned = Duration::from_millis(data.len() as u64 * 1000 / BYTES_PER_SEC_MIN);
        self.read_due = (self.read_due + earned).min(shared.now + shared.limits.body_timeout);
        self.tell_body(shared);
    }

    pub(super) fn tell_body(&mut self, shared: &mut Shared) {
        let wanted = matches!(self.intake.wish, Wish::Stream | Wish::Spool);
        if wanted && self.announced && !self.body_told && self.phase == Phase::Answering {
            self.body_told = true;
            shared.events.push_back(Event::Body(self.client));
        }
    }

    /// All of the request is here.
    fn request_came(&mut self, shared: &mut Shared) {
        self.request_ended = shared.now;
        match (self.phase, self.reply) {
            (Phase::Draining, _) => self.next(shared),
            (Phase::Answering, Reply::Held { ended, .. }) => self.answered(ended, shared),
            _ => self.tell_body(shared),
        }
    }

    /// Ready for another request.
    pub(super) fn next(&mut self, shared: &mut Shared) {
        if let Some(head) = self.head.take() {
            shared.buffers.give_back_head(head);
        }
        self.intake.reset(&mut shared.budget, &mut shared.buffers);
        self.reply = Reply::None;
        self.announced = false;
        self.body_told = false;
        self.wants_room = false;
        self.continued = false;
        self.phase = Phase::Reading;
        self.read_due = shared.now + shared.limits.idle_timeout;
        if !self.ahead.is_empty() {
            self.go_on_soon(shared);
        } else if self.peer_ended || shared.draining {
            self.close(false);
        }
    }

    pub(super) fn close(&mut self, linger: bool) {
        self.phase = Phase::Closing { linger };
    }

    /// The rest of what the client sends has no meaning, or is not waited for.
    pub(super) fn refuse_rest(&mut self, refusal: Refusal, shared: &mut Shared) {
        shared.counters.refused[refusal.code as usize] += 1;
        self.forget_request(shared);
        match (self.phase, self.reply) {
            (Phase::Answering, Reply::Streaming(_)) => {
                self.reply = Reply::None;
                self.phase = Phase::Gone;
            }
            (Phase::Draining, _) => self.close(true),
            (_, reply) => {
                if let Reply::Held { from, .. } = reply {
                    self.out.truncate(from);
                }
                self.reply = Reply::None;
                self.write_problem(Asked::UNREADABLE, &refusal.into(), shared);
                self.close(true);
            }
        }
    }
}
