//! What functions print: from each instance's two pipes, line by line, to the function's log.
//!
//! ```text
//!   instance ──stdout, stderr──▶ outputs ──whole lines──▶ batch ──▶ helper ──▶ FunctionLogs
//!                                  │                        │
//!                                  │                        └── full: nothing more is read until a
//!                                  │                            helper has written it
//!                                  └── more than a window allows: not read until the next one
//! ```
//!
//! Either way the function waits in its write, and nobody else does. Zygotes share one pipe, whose
//! lines go to the worker's own log.

use super::admin::LogReader;
use super::calls::CallId;
use super::token::Owner;
use super::worker::{Done, Worker};
use crate::base::{FunctionName, Key, Slab, Time};
use crate::engine::InstanceKey;
use crate::host::function_log::{Batch, FunctionLogs, Origin, Stream};
use crate::io::{Handle, Io, What};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A line is cut here: nobody holds what never ends.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// What one pipe may carry in one window before its writer has to wait.
const WINDOW_BYTES: u64 = 4 << 20;
const WINDOW: Duration = Duration::from_secs(1);
/// What may wait for a helper; beyond it every writer waits.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Of that, what an empty batch keeps.
const BATCH_BYTES_KEPT: usize = 64 * 1024;
/// When the helpers had no time for it, it is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// One pipe.
#[derive(Debug)]
struct Output {
    /// None: of the zygotes.
    of: Option<(InstanceKey, FunctionName, Stream)>,
    handle: Handle,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    call: Option<CallId>,
    window_ends: Time,
    window_bytes: u64,
}

/// Names an output from outside.
#[derive(Debug)]
pub(super) enum OutputMark {}
/// Those of one instance.
pub(super) type OutputKeys = [Option<Key<OutputMark>>; 2];

/// What a helper wrote.
#[derive(Debug)]
pub(super) struct Logged {
    batch: Batch,
    grown: Vec<FunctionName>,
}

#[derive(Debug)]
pub(super) struct Outputs {
    slab: Slab<Output>,
    logs: Arc<Mutex<FunctionLogs>>,
    /// Of one function's log.
    bytes_max: u64,
    zygotes: OwnedFd,
    batch: Batch,
    /// None: a helper has it.
    spare: Option<Batch>,
    /// Those that wait for their next window.
    waiting: Vec<Key<Output>>,
    /// Those that wait for room in the batch.
    held: Vec<Key<Output>>,
    /// Clients that read a log once what was printed before they asked is in it.
    pub(super) readers: Vec<LogReader>,
}

impl Outputs {
    pub(super) fn new(
        instances_max: usize,
        directory: &Path,
        bytes_max: u64,
        io: &mut Io,
    ) -> io::Result<Self> {
        let logs = FunctionLogs::open(directory)?;
        let (reader, writer) = pipe()?;
        let mut outputs = Self {
            slab: Slab::new(2 * instances_max + 1),
            logs: Arc::new(Mutex::new(logs)),
            bytes_max,
            zygotes: writer,
            batch: Batch::default(),
            spare: Some(Batch::default()),
            waiting: Vec::new(),
            held: Vec::new(),
            readers: Vec::new(),
        };
        outputs.add(None, reader, io);
        Ok(outputs)
    }

    /// Where zygotes print.
    pub(super) fn zygotes(&self) -> BorrowedFd<'_> {
        self.zygotes.as_fd()
    }

    /// Listens to an instance, until the last of its processes has closed the pipes.
    pub(super) fn begin(
        &mut self,
        instance: InstanceKey,
        name: FunctionName,
        [stdout, stderr]: [OwnedFd; 2],
        io: &mut Io,
    ) -> OutputKeys {
        [(stdout, Stream::Out), (stderr, Stream::Error)]
            .map(|(reader, stream)| self.add(Some((instance, name, stream)), reader, io))
    }

    fn add(
        &mut self,
        of: Option<(InstanceKey, FunctionName, Stream)>,
        reader: OwnedFd,
        io: &mut Io,
    ) -> Option<Key<OutputMark>> {
        let place = self.slab.insert(Output {
            of,
            handle: Handle::new(u32::MAX, u32::MAX),
            partial: Vec::new(),
            call: None,
            window_ends: Time::ZERO,
            window_bytes: 0,
        });
        let key = place.ok()?;
        let Ok(handle) = io.add(reader, Owner::Output.token(key)) else {
            self.slab.remove(key);
            return None;
        };
        io.receive(handle);
        if let Some(output) = self.slab.get_mut(key) {
            output.handle = handle;
        }
        Some(key.alike())
    }

    /// What it prints from now on belongs to this call.
    pub(super) fn call_given(&mut self, outputs: OutputKeys, call: CallId) {
        for key in outputs.into_iter().flatten() {
            if let Some(output) = self.slab.get_mut(key.alike()) {
                output.call = Some(call);
            }
        }
    }

    pub(super) fn set_bound(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn logs(&self) -> &Arc<Mutex<FunctionLogs>> {
        &self.logs
    }

    pub(super) fn completed(
        &mut self,
        key: Key<()>,
        what: What,
        (now, wall): (Time, Duration),
        io: &mut Io,
    ) {
        let key: Key<Output> = key.alike();
        let Some(output) = self.slab.get_mut(key) else {
            return;
        };
        let What::Received(Ok(chunk)) = what else {
            self.closed(key, wall, io);
            return;
        };
        if now >= output.window_ends {
            output.window_ends = now + WINDOW;
            output.window_bytes = 0;
        }
        output.window_bytes += chunk.len() as u64;
        let floods = output.window_bytes > WINDOW_BYTES && output.of.is_some();
        let handle = output.handle;
        self.take(key, &chunk, wall);
        if floods {
            self.waiting.push(key);
        } else if self.batch.bytes() >= BATCH_BYTES_MAX {
            self.held.push(key);
        } else {
            io.receive(handle);
        }
    }

    /// Listens again to those whose next window has begun. Returns when to come again.
    pub(super) fn resume(&mut self, now: Time, io: &mut Io) -> Option<Time> {
        let mut due: Option<Time> = None;
        let slab = &mut self.slab;
        self.waiting.retain(|key| {
            let Some(output) = slab.get_mut(*key) else {
                return false;
            };
            if output.window_ends > now {
                due = Some(due.map_or(output.window_ends, |due| due.min(output.window_ends)));
                return true;
            }
            io.receive(output.handle);
            false
        });
        due
    }

    fn closed(&mut self, key: Key<Output>, wall: Duration, io: &mut Io) {
        if let Some(output) = self.slab.get(key) {
            io.close(output.handle);
            if !output.partial.is_empty() {
                self.take(key, b"\n", wall);
            }
        }
        self.slab.remove(key);
    }

    /// Whole lines to the batch; what is left waits for its end.
    fn take(&mut self, key: Key<Output>, bytes: &[u8], wall: Duration) {
        let Some(output) = self.slab.get_mut(key) else {
            return;
        };
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let (whole, rest) = bytes.split_at(end);
        let mut text = core::mem::take(&mut output.partial);
        text.extend_from_slice(whole);
        if end == 0 {
            text.extend_from_slice(rest);
            if text.len() <= LINE_BYTES_MAX {
                output.partial = text;
                return;
            }
            text.push(b'\n');
        } else {
            output.partial = rest.to_vec();
        }
        let Some((instance, name, stream)) = output.of else {
            for line in text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                log::warn!("a zygote: {}", String::from_utf8_lossy(line));
            }
            return;
        };
        let origin = Origin {
            name,
            instance: instance.alike(),
            stream,
            call: output.call.as_ref().map(CallId::bytes),
        };
        self.batch.push(origin, wall, &text);
    }

    /// Nothing printed before now is still to be written.
    pub(super) fn is_written(&self) -> bool {
        self.batch.is_empty() && self.spare.is_some()
    }

    /// A helper has the batch of before; what it does not have yet is in the next one.
    pub(super) fn is_writing(&self) -> bool {
        self.spare.is_none()
    }

    /// Writes what is left; the loop has ended.
    pub(super) fn close(&mut self) {
        lock(&self.logs).write(&self.batch, self.bytes_max);
    }
}

pub(super) fn lock(logs: &Mutex<FunctionLogs>) -> MutexGuard<'_, FunctionLogs> {
    // A panic while writing leaves at worst half a line in one log.
    logs.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Hands what was printed to a helper. Returns when to come again.
    pub(super) fn write_logs(&mut self) -> Option<Time> {
        let outputs = &mut self.outputs;
        if outputs.batch.is_empty() || outputs.spare.is_none() {
            return None;
        }
        if self.helpers.is_full() {
            return Some(self.now + RETRY_AFTER);
        }
        let spare = outputs.spare.take().expect("looked a moment ago");
        let mut batch = core::mem::replace(&mut outputs.batch, spare);
        let (logs, bytes_max) = (Arc::clone(&outputs.logs), outputs.bytes_max);
        let job = move || {
            let grown = lock(&logs).write(&batch, bytes_max);
            batch.clear(BATCH_BYTES_KEPT);
            Done::Logged(Logged { batch, grown })
        };
        let submitted = self.helpers.submit(job);
        assert!(submitted.is_ok(), "the helpers had room a moment ago");
        None
    }

    pub(super) fn logged(&mut self, logged: Logged) {
        let outputs = &mut self.outputs;
        outputs.spare = Some(logged.batch);
        if outputs.batch.bytes() < BATCH_BYTES_MAX {
            for key in core::mem::take(&mut outputs.held) {
                if let Some(output) = outputs.slab.get(key) {
                    self.io.receive(output.handle);
                }
            }
        }
        for name in &logged.grown {
            self.log_grew(name);
        }
        self.serve_log_readers();
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // The function's end blocks: that is how it is slowed down.
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// Two pipes for a new instance: the ends that are read here, and the others.
pub(super) fn pipes() -> io::Result<([OwnedFd; 2], [OwnedFd; 2])> {
    let ((out, stdout), (error, stderr)) = (pipe()?, pipe()?);
    Ok(([out, error], [stdout, stderr]))
}
