//! One completion interface over two back ends: token in, completion out. Imports base, sys.
//!
//! The owner adds a descriptor together with a token of its own and gets a [`Handle`]. It then asks
//! for one thing at a time (accept, receive, send, watch) and meets the answer, with its token, in
//! the completions of a later [`Io::wait`]:
//!
//! ```text
//!              accept ─────────▶ Accepted, Accepted, ... until paused, closed or an error
//!   add ──┬──  receive ────────▶ Received | Ended         then ask again
//!         ├──  send ───────────▶ Sent, with the buffer    then ask again
//!         └──  watch ──────────▶ Ready                    then ask again
//!   close: nothing more          take: the descriptor comes back
//! ```
//!
//! What the owner may rely on, whatever the back end:
//!
//! - **A closed handle never completes again.** Close cancels what is under way; a late answer of
//!   the kernel is swallowed here (generations), never handed out. Completions that a `wait` has
//!   handed out already are the owner's: its token should name things by a generational key too.
//! - **Buffers have one owner.** A received [`Chunk`] belongs to whoever holds it and goes back to
//!   the pool when dropped; a buffer handed to `send` comes back in `Sent` for reuse (or is freed,
//!   when the handle was closed meanwhile, not before the kernel is done with it). An idle
//!   connection holds no buffer at all.
//! - **One receive and one send may be under way on a handle at once**; asking for a second of the
//!   same kind, using a closed handle, or using one descriptor in two roles (stream, listener,
//!   watched) is a bug of the owner (panic).
//! - **Not asking is the backpressure.** Without a `receive` under way nothing is read, so the
//!   peer's window closes; `pause_accept` leaves newcomers in the backlog.
//! - **Everything is bounded**: handles, chunks (when none is free receives wait, in the order in
//!   which their data came; nobody fails), completions of one wait, work for one handle in it.
//! - **`wait` is the only place where the worker sleeps**, and reads no clock itself: it takes the
//!   time to wait. It may return early and with nothing.
//! - **Nothing is allocated** by receive, send and wait once the worker is warm.
//!
//! Streams are sockets or pipes. Sockets that keep message borders (seqpacket, datagram) are
//! watched and drained by their owner, through [`Io::descriptor`].

#![forbid(unsafe_code)]

mod chunk;
mod completion;
mod epoll;
mod uring;
mod waker;

pub use chunk::Chunk;
pub use completion::{Completion, Descriptor, Handle, Interest, Token, What};
pub use rustix::io::Errno;
pub use waker::Waker;

use crate::sys::clock;
use chunk::Pool;
use core::fmt;
use core::num::NonZero;
use core::time::Duration;
use epoll::Epoll;
use rustix::thread::sched_yield;
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use uring::Uring;

/// What `[io] backend` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// io_uring where it works, else epoll.
    Auto,
    Epoll,
    /// io_uring or nothing.
    IoUring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEnd {
    Epoll,
    IoUring,
}

impl fmt::Display for BackEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Epoll => "epoll",
            Self::IoUring => "io_uring",
        })
    }
}

/// Which back end runs, and why it is not the better one. `Display` is the sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub back_end: BackEnd,
    /// Only when `Auto` could not have io_uring: what stood in the way.
    pub fallback: Option<String>,
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fallback {
            None => write!(f, "{}", self.back_end),
            Some(why) => write!(f, "{}: {why}", self.back_end),
        }
    }
}

/// The back end asked for cannot be had on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    pub back_end: BackEnd,
    pub why: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be used: {}", self.back_end, self.why)?;
        match self.back_end {
            BackEnd::IoUring => f.write_str(" (set [io] backend = \"auto\" to do without)"),
            BackEnd::Epoll => Ok(()),
        }
    }
}

impl core::error::Error for Unavailable {}

/// The bounds of one [`Io`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors added at once.
    pub handles: u32,
    /// Receive buffers, all handles together. At most [`Limits::CHUNKS_MAX`].
    pub chunks: u32,
    /// Bytes of one receive buffer.
    pub chunk_bytes: u32,
    /// Completions of one wait.
    pub completions: u32,
}

impl Limits {
    /// What the kernel's ring of provided buffers can hold.
    pub const CHUNKS_MAX: u32 = 1 << 15;
    /// A key's index and the kind of an operation share 32 bits.
    pub const HANDLES_MAX: u32 = 1 << 24;
    /// A turn of one stream completes a receive and a send.
    pub const COMPLETIONS_MIN: u32 = 2;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handles: 1 << 16,
            chunks: 256,
            chunk_bytes: 32 * 1024,
            completions: 256,
        }
    }
}

/// The one place where descriptors are read, written, accepted from and waited for.
///
/// Belongs to the thread that made it (the io_uring back end binds its ring to that thread).
#[derive(Debug)]
pub struct Io {
    engine: Engine,
    waker: Waker,
    waker_handle: Handle,
    /// How long it looks again and again before it sleeps.
    vigil: Duration,
    /// A few things had completed when it was asked last.
    is_watchful: bool,
}

/// What is answered is often followed by the next at once. A processor that went to sleep takes
/// some fifty microseconds to wake (in a virtual machine, where that is an interrupt from another
/// one), so one who has just had something to do looks this long before he sleeps. Who wants the
/// processor gets it meanwhile.
///
/// One client that calls one of 64 functions after the other: 15,000 calls/s with it, 5,400
/// without. Thirty-two at once lose 2 to 13 %: fewer things complete in a turn. A smaller `FEW`
/// takes less from them and gives less to one (3: 7,000 to 11,000). Giving way when others had run
/// on the processor kept the many from losing, and the one from gaining, as functions share it.
const VIGIL: Duration = Duration::from_micros(50);
/// Where more completes at once the processors are busy, and who sleeps meanwhile finds more.
const FEW: usize = 8;

#[derive(Debug)]
enum Engine {
    Epoll(Epoll),
    Uring(Box<Uring>),
}

impl Engine {
    /// What is wanted, and why it is not the better one where both would do.
    fn choose(wanted: Wanted, limits: &Limits) -> Result<(Self, Option<String>), Unavailable> {
        let epoll = || match Epoll::new(limits, Pool::new(limits)) {
            Ok(epoll) => Ok(Self::Epoll(epoll)),
            Err(error) => Err(Unavailable {
                back_end: BackEnd::Epoll,
                why: error.to_string(),
            }),
        };
        if wanted == Wanted::Epoll {
            return Ok((epoll()?, None));
        }
        match Uring::new(limits, Pool::new(limits)) {
            Ok(uring) => Ok((Self::Uring(Box::new(uring)), None)),
            Err(refusal) if wanted == Wanted::Auto => Ok((
                epoll()?,
                Some(format!("io_uring cannot be used: {}", refusal.0)),
            )),
            Err(refusal) => Err(Unavailable {
                back_end: BackEnd::IoUring,
                why: refusal.0,
            }),
        }
    }
}

/// Calls the same method of whichever back end runs.
macro_rules! engine {
    ($io:expr, $engine:ident => $call:expr) => {
        match &mut $io.engine {
            Engine::Epoll($engine) => $call,
            Engine::Uring($engine) => $call,
        }
    };
}

impl Io {
    pub fn new(wanted: Wanted, limits: Limits) -> Result<(Self, Chosen), Unavailable> {
        assert!((1..Limits::HANDLES_MAX).contains(&limits.handles));
        assert!((1..=Limits::CHUNKS_MAX).contains(&limits.chunks));
        assert!(limits.chunk_bytes > 0);
        assert!(limits.completions >= Limits::COMPLETIONS_MIN);
        let (engine, fallback) = Engine::choose(wanted, &limits)?;
        let back_end = match &engine {
            Engine::Epoll(_) => BackEnd::Epoll,
            Engine::Uring(_) => BackEnd::IoUring,
        };
        let io = Self::over(engine).map_err(|error| Unavailable {
            back_end,
            why: error.to_string(),
        })?;
        Ok((io, Chosen { back_end, fallback }))
    }

    /// The engine with its waker, itself a watched handle.
    fn over(mut engine: Engine) -> std::io::Result<Self> {
        let (waker, descriptor) = Waker::new()?;
        let added = match &mut engine {
            Engine::Epoll(epoll) => epoll.add(descriptor, Token::WAKER),
            Engine::Uring(uring) => uring.add(descriptor, Token::WAKER),
        };
        let waker_handle = added.expect("one place more than the limit is there for the waker");
        // On the only processor nobody could become ready meanwhile.
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let vigil = if processors > 1 {
            VIGIL
        } else {
            Duration::ZERO
        };
        let mut io = Self {
            engine,
            waker,
            waker_handle,
            vigil,
            is_watchful: false,
        };
        io.watch(waker_handle, Interest::Readable);
        Ok(io)
    }

    /// Hands a descriptor over, or back when as many as the limit allows are there.
    pub fn add(&mut self, descriptor: OwnedFd, token: Token) -> Result<Handle, OwnedFd> {
        assert!(token != Token::WAKER, "this token is taken");
        engine!(self, engine => engine.add(descriptor, token))
    }

    /// The descriptor itself, for what `io` does not do (options, messages with descriptors).
    pub fn descriptor(&self, handle: Handle) -> BorrowedFd<'_> {
        match &self.engine {
            Engine::Epoll(epoll) => epoll.descriptor(handle),
            Engine::Uring(uring) => uring.descriptor(handle),
        }
    }

    /// Starts or resumes accepting: `Accepted` for each newcomer, which is close-on-exec and
    /// non-blocking already. After `Accepted(Err(..))` (no descriptors or no memory left) it is
    /// paused: the owner resumes after a while, or once something was closed.
    pub fn accept(&mut self, handle: Handle) {
        engine!(self, engine => engine.accept(handle));
    }

    /// No more `Accepted` until `accept` is called again; newcomers wait in the backlog.
    pub fn pause_accept(&mut self, handle: Handle) {
        engine!(self, engine => engine.pause_accept(handle));
    }

    /// Asks for bytes, once: `Received`, or `Ended` when the peer will send no more.
    pub fn receive(&mut self, handle: Handle) {
        engine!(self, engine => engine.receive(handle));
    }

    /// Sends all of the buffer, however long the peer takes to read it, or meets an error: `Sent`.
    pub fn send(&mut self, handle: Handle, buffer: Vec<u8>) {
        engine!(self, engine => engine.send(handle, buffer));
    }

    /// Asks for one `Ready`, which comes at once when the descriptor is ready already: whoever
    /// leaves something unread asks again and is told again, nothing is lost by reading less.
    pub fn watch(&mut self, handle: Handle, interest: Interest) {
        engine!(self, engine => engine.watch(handle, interest));
    }

    /// Shuts a socket down at once; a send under way is cut off.
    pub fn shutdown(&mut self, handle: Handle, how: Shutdown) {
        use rustix::net::Shutdown as Kernel;
        let how = match how {
            Shutdown::Read => Kernel::Read,
            Shutdown::Write => Kernel::Write,
            Shutdown::Both => Kernel::Both,
        };
        // The peer may be gone already; the next receive or send tells.
        let _ = rustix::net::shutdown(self.descriptor(handle), how);
    }

    /// Ends the handle and, once the kernel has let go of it, its descriptor. What was under way
    /// never completes.
    pub fn close(&mut self, handle: Handle) {
        assert!(
            handle != self.waker_handle,
            "the waker lives as long as the io"
        );
        engine!(self, engine => engine.close(handle));
    }

    /// Ends the handle and gives its descriptor back. Nothing may be under way, and it may not have
    /// been accepting: newcomers taken from the backlog meanwhile would be lost.
    pub fn take(&mut self, handle: Handle) -> OwnedFd {
        engine!(self, engine => engine.take(handle))
    }

    /// Wakes a `wait` of this io from another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Sleeps until something completes or the time is over (none: for ever), and appends what
    /// completed, at most `Limits::completions`. May return early, with nothing.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> std::io::Result<()> {
        let first = out.len();
        if core::mem::take(&mut self.is_watchful) {
            self.keep_vigil(timeout, out)?;
        }
        if out.len() == first {
            engine!(self, engine => engine.wait(timeout, out))?;
        }
        self.is_watchful = (1..=FEW).contains(&(out.len() - first));
        let Some(woken) = out[first..]
            .iter_mut()
            .find(|done| done.token == Token::WAKER)
        else {
            return Ok(());
        };
        // Emptied first: a wake that comes from now on makes it ready again.
        self.waker.empty();
        woken.what = What::Woken;
        self.watch(self.waker_handle, Interest::Readable);
        Ok(())
    }

    fn keep_vigil(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> std::io::Result<()> {
        let first = out.len();
        let vigil = timeout.map_or(self.vigil, |timeout| timeout.min(self.vigil));
        let begin = clock::now();
        while clock::now().since(begin) < vigil {
            engine!(self, engine => engine.wait(Some(Duration::ZERO), out))?;
            if out.len() > first {
                break;
            }
            sched_yield();
        }
        Ok(())
    }
}

/// Errors of accept that belong to the newcomer (or, on Linux, to its network), not to the
/// listener: the next one may be fine.
fn passes_with_the_newcomer(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
    )
}
