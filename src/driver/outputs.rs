//! What functions print: from each instance's pipe, line by line, to the function's log.
//!
//! ```text
//!   instance ──pipe──▶ output ──whole lines──▶ FunctionLogs ──▶ logs/NAME.log (rotated, bounded)
//!                        │
//!                        └── more than a window allows: not read until the next one (the function
//!                            waits in its write; nobody else does)
//! ```
//!
//! Zygotes share one pipe, whose lines go to the worker's own log.

use super::calls::CallId;
use super::token::Owner;
use crate::base::{FunctionName, Key, Slab, Time};
use crate::engine::InstanceKey;
use crate::host::function_log::{FunctionLogs, Origin};
use crate::io::{Handle, Io, What};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::time::Duration;

/// A line is cut here: nobody holds what never ends.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// What one instance may print in one window before it has to wait.
const WINDOW_BYTES: u64 = 4 << 20;
const WINDOW: Duration = Duration::from_secs(1);

/// One pipe.
#[derive(Debug)]
struct Output {
    /// None: of the zygotes.
    of: Option<(InstanceKey, FunctionName)>,
    handle: Handle,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    call: Option<CallId>,
    window_ends: Time,
    window_bytes: u64,
    waits: bool,
}

pub(super) type OutputKey = Key<OutputMark>;
/// Names an output from outside.
#[derive(Debug)]
pub(super) enum OutputMark {}

#[derive(Debug)]
pub(super) struct Outputs {
    slab: Slab<Output>,
    logs: FunctionLogs,
    zygotes: OwnedFd,
    /// Those that wait for their next window.
    waiting: Vec<Key<Output>>,
}

impl Outputs {
    pub(super) fn new(outputs_max: usize, logs: FunctionLogs, io: &mut Io) -> io::Result<Self> {
        let (reader, writer) = pipe()?;
        let mut outputs = Self {
            slab: Slab::new(outputs_max),
            logs,
            zygotes: writer,
            waiting: Vec::new(),
        };
        outputs.add(None, reader, io);
        Ok(outputs)
    }

    /// Where zygotes print.
    pub(super) fn zygotes(&self) -> BorrowedFd<'_> {
        self.zygotes.as_fd()
    }

    /// Listens to an instance, until the last of its processes has closed the pipe.
    pub(super) fn begin(
        &mut self,
        instance: InstanceKey,
        name: FunctionName,
        reader: OwnedFd,
        io: &mut Io,
    ) -> Option<OutputKey> {
        self.add(Some((instance, name)), reader, io)
    }

    fn add(
        &mut self,
        of: Option<(InstanceKey, FunctionName)>,
        reader: OwnedFd,
        io: &mut Io,
    ) -> Option<OutputKey> {
        let place = self.slab.insert(Output {
            of,
            handle: Handle::new(u32::MAX, u32::MAX),
            partial: Vec::new(),
            call: None,
            window_ends: Time::ZERO,
            window_bytes: 0,
            waits: false,
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
    pub(super) fn call_given(&mut self, output: OutputKey, call: CallId) {
        if let Some(output) = self.slab.get_mut(output.alike()) {
            output.call = Some(call);
        }
    }

    pub(super) fn logs(&self) -> &FunctionLogs {
        &self.logs
    }

    pub(super) fn completed(&mut self, key: Key<()>, what: What, now: Time, io: &mut Io) {
        let key: Key<Output> = key.alike();
        let Some(output) = self.slab.get_mut(key) else {
            return;
        };
        let What::Received(Ok(chunk)) = what else {
            self.closed(key, io);
            return;
        };
        if now >= output.window_ends {
            output.window_ends = now + WINDOW;
            output.window_bytes = 0;
        }
        output.window_bytes += chunk.len() as u64;
        let (handle, is_flood) = (output.handle, output.window_bytes > WINDOW_BYTES);
        output.waits = is_flood && output.of.is_some();
        let waits = output.waits;
        self.take(key, &chunk);
        if waits {
            self.waiting.push(key);
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
            output.waits = false;
            io.receive(output.handle);
            false
        });
        due
    }

    fn closed(&mut self, key: Key<Output>, io: &mut Io) {
        if let Some(output) = self.slab.get(key) {
            io.close(output.handle);
            if !output.partial.is_empty() {
                self.take(key, b"\n");
            }
        }
        self.slab.remove(key);
    }

    /// Whole lines to the log; what is left waits for its end.
    fn take(&mut self, key: Key<Output>, bytes: &[u8]) {
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
        let Some((instance, name)) = output.of else {
            for line in text
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                log::warn!("a zygote: {}", String::from_utf8_lossy(line));
            }
            return;
        };
        let origin = Origin {
            instance,
            call: output.call.as_ref().map(CallId::as_str),
        };
        self.logs.append(&name, &origin, &text);
    }
}

/// A pipe for a new instance: the end that is read here, and the other.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    // The function's end blocks: that is how it is slowed down.
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}
