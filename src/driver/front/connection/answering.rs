//! The writing side: what the worker says itself, and what it relays of a function's answer.
//!
//! ```text
//!   None ── answer, refuse ──▶ Held (the body is still coming) ── body ends ──┐
//!    │ ╲─── answer, refuse ───────────────────────────────────────────────────┤
//!    └───── begin ──▶ Streaming ── write, write, .. ── end ───────────────────┴─▶ answered
//! ```

use super::{Connection, Phase, Reply, answer_bytes_max};
use crate::driver::front::Room;
use crate::driver::front::intake::Wish;
use crate::driver::front::shared::Shared;
use crate::http::Problem;
use crate::http::answer::{self, Answer, Asked, BadAnswer, Ended};
use crate::http::refusal::Manner;

impl Connection {
    pub(super) fn write_problem(
        &mut self,
        asked: Asked,
        problem: &Problem<'_>,
        shared: &mut Shared,
    ) -> Ended {
        self.prepare_out(shared);
        shared.scratch.clear();
        problem.render(&mut shared.scratch);
        let length = shared.scratch.len();
        let mut body = problem.head(&mut self.out, asked, &shared.date, length);
        body.write(&mut self.out, &shared.scratch);
        body.end(&mut self.out)
    }

    pub(super) fn prepare_out(&mut self, shared: &mut Shared) {
        if self.out.capacity() == 0 {
            self.out = shared.buffers.take();
        }
    }

    /// Nobody has begun to answer the present request.
    pub(super) fn is_unanswered(&self) -> bool {
        self.phase == Phase::Answering && self.reply == Reply::None
    }

    /// The client waits for a word before it sends the body.
    pub(super) fn awaits_continue(&self) -> bool {
        !self.intake.ended
            && !self.continued
            && self.intake.received == 0
            && self
                .head
                .as_ref()
                .is_some_and(|head| head.expects_continue())
    }

    /// The worker's own answer, whole.
    pub(in crate::driver::front) fn answer(
        &mut self,
        status: u16,
        fields: &[(&str, &[u8])],
        body: &[u8],
        shared: &mut Shared,
    ) {
        if !self.is_unanswered() {
            return;
        }
        let asked = self.asked_in(Manner::InTurn);
        self.prepare_out(shared);
        let from = self.out.len();
        let mut answer = Answer::begin(&mut self.out, asked, status, &shared.date);
        for (name, value) in fields {
            answer = answer.field(name, value);
        }
        let mut answer = answer.body(Some(body.len() as u64));
        answer.write(&mut self.out, body);
        let ended = answer.end(&mut self.out);
        self.hold_or_go(Manner::InTurn, from, ended, shared);
    }

    /// The worker's own refusal.
    pub(in crate::driver::front) fn refuse(&mut self, problem: &Problem<'_>, shared: &mut Shared) {
        if !self.is_unanswered() {
            return;
        }
        shared.counters.refused[problem.code as usize] += 1;
        let manner = problem.code.row().manner;
        let asked = self.asked_in(manner);
        let from = self.out.len();
        let ended = self.write_problem(asked, problem, shared);
        self.hold_or_go(manner, from, ended, shared);
    }

    /// Whether an answer of this manner can wait for the end of the body.
    fn holds(&self, manner: Manner) -> bool {
        manner == Manner::InTurn && !self.intake.ended && !self.awaits_continue()
    }

    /// The connection is kept only if the body has ended, or will before the answer leaves.
    fn asked_in(&self, manner: Manner) -> Asked {
        let kept = manner != Manner::Closing && (self.intake.ended || self.holds(manner));
        Asked {
            keep_alive: self.asked.keep_alive && kept,
            ..self.asked
        }
    }

    fn hold_or_go(&mut self, manner: Manner, from: usize, ended: Ended, shared: &mut Shared) {
        if self.holds(manner) {
            self.reply = Reply::Held { from, ended };
            self.read_on(Wish::Discard, shared);
        } else {
            self.answered(ended, shared);
        }
    }

    /// The answer is complete in `out`.
    pub(super) fn answered(&mut self, ended: Ended, shared: &mut Shared) {
        self.reply = Reply::None;
        match ended {
            Ended::Kept if self.intake.ended => self.next(shared),
            Ended::Kept => {
                self.read_on(Wish::Discard, shared);
                self.phase = Phase::Draining;
            }
            Ended::Closed => {
                let unread = !self.intake.ended || !self.ahead.is_empty();
                self.intake.discard(&mut shared.budget, &mut shared.buffers);
                self.close(unread);
            }
            Ended::Cut => self.close(false),
        }
    }

    /// A function's answer begins.
    pub(in crate::driver::front) fn begin<'f, I>(
        &mut self,
        status: u16,
        fields: I,
        own: &[(&str, &[u8])],
        length: Option<u64>,
        shared: &mut Shared,
    ) -> Result<(), BadAnswer>
    where
        I: Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
    {
        answer::check_fields(status, fields.clone())?;
        if !self.is_unanswered() {
            return Ok(());
        }
        let keep_alive = self.asked.keep_alive && !self.awaits_continue();
        let asked = Asked {
            keep_alive,
            ..self.asked
        };
        self.prepare_out(shared);
        let mut answer = Answer::begin(&mut self.out, asked, status, &shared.date).relayed(fields);
        for (name, value) in own {
            answer = answer.field(name, value);
        }
        self.reply = Reply::Streaming(answer.body(length));
        Ok(())
    }

    pub(in crate::driver::front) fn write(&mut self, data: &[u8], shared: &mut Shared) -> Room {
        let Reply::Streaming(body) = &mut self.reply else {
            return Room::Enough;
        };
        if self.out.capacity() == 0 {
            self.out = shared.buffers.take();
        }
        body.write(&mut self.out, data);
        self.wants_room = self.out.len() >= answer_bytes_max(shared);
        if self.wants_room {
            Room::Full
        } else {
            Room::Enough
        }
    }

    pub(in crate::driver::front) fn end(&mut self, shared: &mut Shared) {
        if let Reply::Streaming(body) = self.reply {
            self.prepare_out(shared);
            let ended = body.end(&mut self.out);
            self.answered(ended, shared);
        }
    }

    /// The answer cannot be completed: what there is of it is sent, then the connection closes.
    pub(in crate::driver::front) fn abort(&mut self, shared: &mut Shared) {
        if self.phase == Phase::Answering {
            self.reply = Reply::None;
            self.intake.discard(&mut shared.budget, &mut shared.buffers);
            self.close(false);
        }
    }
}
