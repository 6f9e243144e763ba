//! A sound io_uring: operations in, what became of them out.
//!
//! The kernel reads and writes memory of this process while an operation is under way. So that no
//! safe code can free or touch it meanwhile, the ring owns it: a buffer to send moves in with the
//! operation, buffers to receive into are lent beforehand, and both come out with the completion,
//! however long that takes and whoever has lost interest:
//!
//! ```text
//!   send, receive, accept, poll ──▶ Operation in the slab ──▶ submission queue
//!                                        │ its key is the user data      │ enter
//!                 Finished ◀── next_finished ◀── completion queue ◀── kernel ◀────┘
//! ```
//! Descriptors are only named, not owned: one must stay open until what names it is `submitted`.
//!
//! The ring belongs to the thread that made it, is closed on exec, and is not mapped in children.

mod lent;

use crate::base::{Key, Slab};
use core::time::Duration;
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};
use lent::Lent;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Operations that fit into one submission; more make an extra system call.
const SUBMISSIONS: u32 = 512;

/// Completions that fit into the queue; the kernel keeps more until there is room.
const COMPLETIONS: u32 = 4096;

/// User data of what nobody waits for: cancellations. No key looks so.
const NOBODY: u64 = u64::MAX;

/// A wait for longer than this ends after it.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// How often a dropped ring waits for what it has cancelled.
const SETTLE_ROUNDS: u32 = 100;
const SETTLE_ROUND: Duration = Duration::from_millis(10);

/// Receive only once the kernel knows that there is something.
const POLL_FIRST: u16 = 1;

#[derive(Debug)]
pub struct Operation {
    /// Whom the completion is for.
    owner: u64,
    kind: Kind,
    /// How many had been pushed when this was.
    pushed: u64,
}

#[derive(Debug)]
enum Kind {
    Accept,
    Receive,
    /// The buffer, and how many of its bytes went before.
    Send(Vec<u8>, usize),
    Poll,
}

/// Names an operation until it has finished.
pub type Ticket = Key<Operation>;

/// What a descriptor takes: sockets have calls of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Socket,
    Pipe,
}

/// Something the kernel says about an operation.
#[derive(Debug)]
pub struct Finished {
    pub owner: u64,
    pub ticket: Ticket,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub enum Outcome {
    /// `more`: the operation goes on.
    Accepted {
        result: core::result::Result<OwnedFd, Errno>,
        more: bool,
    },
    /// How many bytes, and the lent buffer with them in front (none when there are none).
    Received {
        result: core::result::Result<usize, Errno>,
        buffer: Option<Box<[u8]>>,
    },
    /// How many bytes after the first `from` have gone.
    Sent {
        result: core::result::Result<usize, Errno>,
        buffer: Vec<u8>,
        from: usize,
    },
    Polled(core::result::Result<(), Errno>),
}

pub struct Ring {
    uring: IoUring,
    lent: Lent,
    operations: Slab<Operation>,
    /// Completions that had to leave the queue before somebody asked for them.
    early: VecDeque<cqueue::Entry>,
    pushed: u64,
    /// The kernel has refused a submission for good; the next enter says so.
    broken: Option<Error>,
    flags: EnterFlags,
}

impl core::fmt::Debug for Ring {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ring")
            .field("under way", &self.operations.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no ring, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl Ring {
    /// A ring for so many operations under way and so many lent buffers.
    pub fn new(operations_max: usize, buffers_max: u16) -> core::result::Result<Self, Refusal> {
        let uring = set_up().map_err(|error| Refusal(explain(&error)))?;
        require(&uring)?;
        let lent = Lent::new(&uring, buffers_max).map_err(|error| {
            Refusal(format!(
                "the kernel takes no ring of receive buffers: {error}"
            ))
        })?;
        let mut flags = EnterFlags::GETEVENTS;
        if uring.params().is_feature_no_iowait() {
            // An idle worker is not waiting for a disk; /proc/pressure/io would say so.
            flags |= EnterFlags::NO_IOWAIT;
        }
        Ok(Self {
            uring,
            lent,
            operations: Slab::new(operations_max),
            early: VecDeque::new(),
            pushed: 0,
            broken: None,
            flags,
        })
    }

    /// Accepts until cancelled or an error; newcomers are close-on-exec and non-blocking.
    pub fn accept(&mut self, listener: BorrowedFd<'_>, owner: u64) -> Ticket {
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
            .build();
        self.start(owner, Kind::Accept, entry)
    }

    /// Receives once, into a buffer lent before. `polled`: not before there is something.
    pub fn receive(&mut self, from: BorrowedFd<'_>, via: Via, polled: bool, owner: u64) -> Ticket {
        let from = Fd(from.as_raw_fd());
        let nowhere = core::ptr::null_mut();
        let entry = match via {
            Via::Socket => opcode::Recv::new(from, nowhere, 0)
                .ioprio(if polled { POLL_FIRST } else { 0 })
                .buf_group(lent::GROUP)
                .build(),
            Via::Pipe => opcode::Read::new(from, nowhere, 0)
                .offset(u64::MAX)
                .buf_group(lent::GROUP)
                .build(),
        };
        self.start(
            owner,
            Kind::Receive,
            entry.flags(squeue::Flags::BUFFER_SELECT),
        )
    }

    /// Sends what comes after the first `from` bytes of the buffer.
    pub fn send(
        &mut self,
        to: BorrowedFd<'_>,
        via: Via,
        buffer: Vec<u8>,
        from: usize,
        owner: u64,
    ) -> Ticket {
        let bytes = &buffer[from..];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let to = Fd(to.as_raw_fd());
        let entry = match via {
            Via::Socket => opcode::Send::new(to, bytes.as_ptr(), length)
                .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
                .build(),
            Via::Pipe => opcode::Write::new(to, bytes.as_ptr(), length)
                .offset(u64::MAX)
                .build(),
        };
        self.start(owner, Kind::Send(buffer, from), entry)
    }

    /// Waits once for the poll events.
    pub fn poll(&mut self, descriptor: BorrowedFd<'_>, events: u32, owner: u64) -> Ticket {
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), events).build();
        self.start(owner, Kind::Poll, entry)
    }

    /// Asks for an operation to end soon; it finishes in any case, by this or by itself.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.push(
            &opcode::AsyncCancel::new(ticket.pack())
                .build()
                .user_data(NOBODY),
        );
    }

    /// A buffer for some later receive.
    pub fn lend(&mut self, buffer: Box<[u8]>) {
        self.lent.lend(buffer);
    }

    /// How many buffers are lent, as far as completions looked at tell.
    pub fn lent(&self) -> usize {
        self.lent.count()
    }

    /// How many operations were pushed; a descriptor named by the last one may be closed once
    /// `submitted` has come up to this.
    pub const fn pushed(&self) -> u64 {
        self.pushed
    }

    pub fn submitted(&mut self) -> u64 {
        self.pushed - self.uring.submission().len() as u64
    }

    pub fn has_completions(&mut self) -> bool {
        !self.early.is_empty() || !self.uring.completion().is_empty()
    }

    /// Submits what was pushed, and sleeps until there is a completion or the time is over (none:
    /// for ever; zero: not at all). Returns early when interrupted.
    pub fn enter(&mut self, timeout: Option<Duration>) -> Result<()> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let submissions = self.uring.submission().len() as u32;
        self.call(submissions, timeout)
    }

    fn call(&self, submissions: u32, timeout: Option<Duration>) -> Result<()> {
        let timeout = timeout.map(|timeout| timeout.min(WAIT_MAX));
        let wanted = u32::from(timeout != Some(Duration::ZERO));
        let timespec = timeout.map(Timespec::from);
        let mut arguments = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            arguments = arguments.timespec(timespec);
        }
        let flags = (self.flags | EnterFlags::EXT_ARG).bits();
        let submitter = self.uring.submitter();
        // SAFETY: the arguments live until the call returns, their type is that of EXT_ARG, and
        // every pushed entry names memory that its operation or the lent buffers keep.
        let entered = unsafe { submitter.enter(submissions, wanted, flags, Some(&arguments)) };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is over; a signal; completions must be looked at first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
                _ => Err(Error::new(
                    error.kind(),
                    format!("io_uring_enter failed: {error}"),
                )),
            },
        }
    }

    /// The next thing that the kernel has said.
    pub fn next_finished(&mut self) -> Option<Finished> {
        loop {
            let early = self.early.pop_front();
            let entry = early.or_else(|| self.uring.completion().next())?;
            if entry.user_data() != NOBODY {
                return Some(self.finish(&entry));
            }
        }
    }

    fn finish(&mut self, entry: &cqueue::Entry) -> Finished {
        let ticket = Ticket::unpack(entry.user_data());
        let operation = self
            .operations
            .get(ticket)
            .expect("completed once, after it was started");
        let owner = operation.owner;
        let result = match u32::try_from(entry.result()) {
            Ok(value) => Ok(value as usize),
            Err(_) => Err(Errno::from_raw_os_error(-entry.result())),
        };
        if cqueue::more(entry.flags()) {
            debug_assert!(
                matches!(operation.kind, Kind::Accept),
                "only accepting goes on"
            );
            let outcome = Outcome::Accepted {
                result: result.map(newcomer),
                more: true,
            };
            return Finished {
                owner,
                ticket,
                outcome,
            };
        }
        let operation = self
            .operations
            .remove(ticket)
            .expect("it was there a moment ago");
        let outcome = match operation.kind {
            Kind::Accept => Outcome::Accepted {
                result: result.map(newcomer),
                more: false,
            },
            Kind::Receive => {
                let number = cqueue::buffer_select(entry.flags());
                let buffer = number.map(|number| self.lent.take_back(number));
                Outcome::Received { result, buffer }
            }
            Kind::Send(buffer, from) => Outcome::Sent {
                result,
                buffer,
                from,
            },
            Kind::Poll => Outcome::Polled(result.map(drop)),
        };
        Finished {
            owner,
            ticket,
            outcome,
        }
    }

    fn start(&mut self, owner: u64, kind: Kind, entry: squeue::Entry) -> Ticket {
        let pushed = self.pushed + 1;
        let ticket = self
            .operations
            .insert(Operation {
                owner,
                kind,
                pushed,
            })
            .expect("the owner starts no more than it said");
        self.push(&entry.user_data(ticket.pack()));
        ticket
    }

    fn push(&mut self, entry: &squeue::Entry) {
        while self.uring.submission().is_full() {
            if let Err(error) = self.make_room() {
                self.broken = Some(error);
                return;
            }
        }
        // SAFETY: what the entry points to is owned by its operation (a buffer to send; the heap
        // does not move with the vector) or by nobody (receives take lent buffers).
        let pushed = unsafe { self.uring.submission().push(entry) };
        pushed.expect("there is room");
        self.pushed += 1;
    }

    /// Submits; where the kernel wants completions looked at first, takes them out.
    fn make_room(&mut self) -> Result<()> {
        self.enter(Some(Duration::ZERO))?;
        if self.uring.submission().is_full() {
            self.early.extend(self.uring.completion());
        }
        Ok(())
    }

    /// Cancels everything and waits for it. False when something is still under way.
    fn settle(&mut self) -> bool {
        let submitted = self.submitted();
        let under_way = |ring: &Self| {
            ring.operations
                .iter()
                .any(|(_, operation)| operation.pushed <= submitted)
        };
        // It fails when there is nothing to cancel.
        let patience = Some(Timespec::from(SETTLE_ROUND));
        let _ = self
            .uring
            .submitter()
            .register_sync_cancel(patience, CancelBuilder::any());
        for _ in 0..SETTLE_ROUNDS {
            while self.next_finished().is_some() {}
            if !under_way(self) {
                return true;
            }
            if self.call(0, Some(SETTLE_ROUND)).is_err() {
                return false;
            }
        }
        false
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.settle() {
            // Memory the kernel may still use is never freed.
            self.lent.leak();
            core::mem::forget(core::mem::replace(&mut self.operations, Slab::new(0)));
        }
    }
}

fn newcomer(raw: usize) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor and tells it once.
    unsafe { OwnedFd::from_raw_fd(raw as libc::c_int) }
}

/// The quietest ring this kernel has: completions are run when we ask (6.1), else when we enter the
/// kernel anyway (5.19).
fn set_up() -> Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_cqsize(COMPLETIONS)
        .setup_submit_all();
    let mut deferred = builder.clone();
    deferred.setup_single_issuer().setup_defer_taskrun();
    match deferred.build(SUBMISSIONS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            builder.setup_coop_taskrun().build(SUBMISSIONS)
        }
        result => result,
    }
}

fn require(uring: &IoUring) -> core::result::Result<(), Refusal> {
    let parameters = uring.params();
    let features = [
        (
            parameters.is_feature_nodrop(),
            "completions that are never dropped",
        ),
        (parameters.is_feature_ext_arg(), "waits with a time limit"),
        (
            parameters.is_feature_fast_poll(),
            "operations that wait by polling",
        ),
    ];
    let mut probe = Probe::new();
    let probed = uring.submitter().register_probe(&mut probe);
    probed.map_err(|error| Refusal(format!("the kernel does not tell its operations: {error}")))?;
    let operations = [
        (probe.is_supported(opcode::AcceptMulti::CODE), "accept"),
        (probe.is_supported(opcode::Recv::CODE), "recv"),
        (probe.is_supported(opcode::Send::CODE), "send"),
        (probe.is_supported(opcode::Read::CODE), "read"),
        (probe.is_supported(opcode::Write::CODE), "write"),
        (probe.is_supported(opcode::PollAdd::CODE), "poll"),
        (probe.is_supported(opcode::AsyncCancel::CODE), "cancel"),
    ];
    match features
        .into_iter()
        .chain(operations)
        .find(|(there, _)| !there)
    {
        None => Ok(()),
        Some((_, name)) => Err(Refusal(format!("this kernel's io_uring lacks {name}"))),
    }
}

fn explain(error: &Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.as_deref().map_or("0", str::trim);
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), "1" | "2") => {
            format!("switched off by the system (sysctl kernel.io_uring_disabled = {disabled})")
        }
        (Some(libc::EPERM), _) => String::from("forbidden, probably by a seccomp filter"),
        (Some(libc::ENOSYS), _) => {
            String::from("not in this kernel, or hidden by a seccomp filter")
        }
        (Some(libc::EINVAL), _) => String::from("this kernel is too old (6.1 is enough)"),
        (Some(libc::ENOMEM), _) => {
            String::from("no memory for the ring (is the limit of locked memory low?)")
        }
        _ => format!("io_uring_setup failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

    /// A ring, or the reason on stderr.
    #[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
    fn ring() -> Option<Ring> {
        match Ring::new(8, 2) {
            Ok(ring) => Some(ring),
            Err(Refusal(why)) => {
                eprintln!("SKIP: no io_uring: {why}");
                None
            }
        }
    }

    fn finished(ring: &mut Ring) -> Finished {
        loop {
            if let Some(finished) = ring.next_finished() {
                return finished;
            }
            ring.enter(PATIENCE).unwrap();
        }
    }

    #[test]
    fn a_lent_buffer_comes_back_with_the_bytes() {
        let Some(mut ring) = ring() else { return };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let buffer = vec![0; 8].into_boxed_slice();
        let address = buffer.as_ptr();
        ring.lend(buffer);
        let ticket = ring.receive(ours.as_fd(), Via::Socket, false, 7);
        theirs.write_all(b"bytes").unwrap();
        let finished = finished(&mut ring);
        assert_eq!((finished.owner, finished.ticket), (7, ticket));
        let Outcome::Received {
            result: Ok(5),
            buffer: Some(buffer),
        } = finished.outcome
        else {
            panic!("{:?}", finished.outcome)
        };
        assert_eq!(
            (buffer.as_ptr(), &buffer[..5], ring.lent()),
            (address, &b"bytes"[..], 0)
        );
    }

    #[test]
    fn a_receive_without_a_buffer_says_so_and_needs_none_to_wait() {
        let Some(mut ring) = ring() else { return };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ring.receive(ours.as_fd(), Via::Socket, true, 0);
        ring.enter(Some(Duration::ZERO)).unwrap();
        assert!(!ring.has_completions());
        theirs.write_all(b"x").unwrap();
        let outcome = finished(&mut ring).outcome;
        assert!(matches!(
            outcome,
            Outcome::Received {
                result: Err(Errno::NOBUFS),
                ..
            }
        ));
    }

    #[test]
    fn what_is_cancelled_finishes() {
        let Some(mut ring) = ring() else { return };
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ticket = ring.poll(ours.as_fd(), 1, 0);
        ring.cancel(ticket);
        let finished = finished(&mut ring);
        assert_eq!(finished.ticket, ticket);
        assert!(matches!(
            finished.outcome,
            Outcome::Polled(Err(Errno::CANCELED))
        ));
    }

    #[test]
    fn a_dropped_ring_lets_go_of_everything() {
        let Some(mut ring) = ring() else { return };
        let path = std::env::temp_dir().join(format!("olworker-ring-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ring.accept(listener.as_fd(), 0);
        ring.lend(vec![0; 8].into_boxed_slice());
        ring.receive(ours.as_fd(), Via::Socket, false, 0);
        ring.send(ours.as_fd(), Via::Socket, vec![1; 4 << 20], 0, 0);
        ring.enter(Some(Duration::ZERO)).unwrap();
        drop(ring);
        drop(ours);
        drop(listener);
        // Nothing holds the descriptions any more: the end comes after what had been sent.
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).unwrap();
        assert!(sent.len() < 4 << 20);
        assert!(UnixStream::connect(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
