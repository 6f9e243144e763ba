//! What the engine says shall be done, done.

use super::calls::Stage;
use super::worker::Worker;
use crate::base::Duration;
use crate::engine::{CallKey, Effect, Refusal};
use crate::host::death::Cause;
use crate::http::{Code, Problem};

impl Worker {
    pub(super) fn do_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Fork {
                instance,
                function,
                origin,
                ..
            } => self.fork(instance, function, origin),
            Effect::Relay {
                call,
                instance,
                start,
            } => self.relay(call, instance, start),
            Effect::Kill { instance } => self.kill(instance),
            Effect::Refuse {
                call,
                reason,
                retry_after,
            } => self.refuse_by_engine(call, reason, retry_after),
            Effect::Abandon { call } => {
                self.calls.remove(call);
            }
            Effect::StartZygote {
                zygote,
                node,
                parent,
                ..
            } => self.start_zygote(zygote, node, parent),
            Effect::KillZygote { zygote } => self.kill_zygote(zygote),
            Effect::Freeze { sandbox } => self.freeze(sandbox),
            Effect::Thaw { sandbox } => self.thaw(sandbox),
            Effect::Reclaim { sandbox } => self.reclaim(sandbox),
            Effect::Install { wanted } => self.install(wanted),
            Effect::RetireFunction { function } => self.functions.retired(function),
            // What is under way is finished for whoever asks next; the loop itself looks whether
            // it may end.
            Effect::CancelInstall { .. } | Effect::Drained => {}
            Effect::Note(note) => self.note(note),
        }
    }

    /// The engine ends a call.
    fn refuse_by_engine(&mut self, call: CallKey, reason: Refusal, retry_after: Option<Duration>) {
        let Some(mut ended) = self.calls.remove(call) else {
            return;
        };
        if let Stage::With(instance) = ended.stage {
            ended.status = words(reason).0.status();
            let sample = self.sample(&ended, instance);
            self.trace.push(sample, self.now);
        }
        let Some(client) = ended.client else { return };
        if ended.is_answering {
            return self.front.abort(client);
        }
        let (code, detail) = words(reason);
        let why = (reason == Refusal::InstallFailed)
            .then(|| self.why_not_installed(&ended.function))
            .flatten();
        let died = ended
            .exit
            .map(|cause| format!("the sandbox {}", how(cause)));
        let detail = died.as_deref().or(why.as_deref()).unwrap_or(detail);
        let mut problem = Problem::new(code, detail);
        problem.call_id = Some(ended.id.as_str());
        if let Some(after) = retry_after {
            problem.retry_after_sec = after.as_secs().clamp(1, 3600) as u32;
        }
        self.refuse(client, &problem);
    }
}

/// A death as a predicate.
fn how(cause: Cause) -> String {
    match cause {
        Cause::Exit(_) => cause.to_string(),
        Cause::Signal(_) => format!("was {cause}"),
        Cause::OutOfMemory => format!("ran {cause}"),
        Cause::Unborn => "could not be set up".to_owned(),
    }
}

/// The engine's reasons as clients read them.
const fn words(reason: Refusal) -> (Code, &'static str) {
    match reason {
        Refusal::NoSuchFunction => (Code::NoSuchFunction, "it was removed"),
        Refusal::TooManyCalls => (Code::TooManyCalls, "its queue is full (limits.queue)"),
        Refusal::Overloaded => (
            Code::Overloaded,
            "no memory could be had in time (pool.mem_mb)",
        ),
        Refusal::Draining => (Code::Draining, "try another worker, or this one later"),
        Refusal::InstallFailed => (Code::InstallFailed, "its packages could not be installed"),
        Refusal::StartTimedOut => (Code::ImportFailed, "its code was not imported in time"),
        Refusal::SandboxDied => (Code::SandboxDied, "the sandbox ended during the call"),
        Refusal::ForkFailed => (Code::Overloaded, "no sandbox could be made"),
        Refusal::CallTimedOut => (Code::CallTimedOut, "longer than limits.runtime_sec"),
    }
}
