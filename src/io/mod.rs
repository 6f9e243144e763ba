//! One completion interface over two back ends: token in, completion out. Imports base, sys.
//!
//! The owner adds a descriptor together with a token of its own and gets a [`Handle`]. It then asks
//! for one thing at a time (accept, receive, send, watch) and meets the answer, with its token, in
//! the completions of a later [`Io::wait`]. What the owner may rely on, whatever the back end:
//!
//! - **A closed handle never completes again.** Close cancels what is under way; a late answer of
//!   the kernel is swallowed here (generations), never handed out.
//! - **Buffers have one owner.** A received [`Chunk`] belongs to whoever holds it until
//!   `give_back`; a buffer handed to `send` comes back in `Sent` for reuse. An idle connection
//!   holds no buffer at all.
//! - **One receive and one send may be under way on a handle at once**; asking for a second of the
//!   same kind is a bug of the owner (panic).
//! - **Everything is bounded**: handles, chunks (when none is left, receives wait; nobody fails),
//!   completions of one wait.
//! - **`wait` is the only place where the worker sleeps**, and reads no clock itself: it takes the
//!   time to wait and answers why it woke.

/// What the owner of a descriptor wants to meet again in its completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Token(pub u64);
