//! The pool of receive buffers, and the chunks that leave it.
//!
//! ```text
//!   free ──take──▶ with the back end ──bytes came──▶ Chunk ──dropped──▶ free
//!                        └───────────nothing came──────────────────────▶ free
//! ```
//! Buffers are made when first needed and never freed before the pool: a worker that never had more
//! than three chunks at once pays for three. Last in, first out, so that the warm one is used next.

use super::Limits;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Deref;
use std::rc::Rc;

/// Bytes received. Goes back to the pool when dropped, so hold it briefly: what has to wait for
/// long (the rest of a pipelined request) is better copied out, or it starves other connections.
pub struct Chunk {
    buffer: Box<[u8]>,
    start: u32,
    end: u32,
    pool: Rc<Pool>,
}

impl Chunk {
    /// Forgets the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "no more than there is");
        self.start += count as u32;
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pool.give_back(core::mem::take(&mut self.buffer));
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

/// At most `buffers_max` buffers of equal size.
#[derive(Debug)]
pub(super) struct Pool {
    free: RefCell<Vec<Box<[u8]>>>,
    made: Cell<u32>,
    buffers_max: u32,
    buffer_bytes: u32,
}

impl Pool {
    pub(super) fn new(limits: &Limits) -> Rc<Self> {
        Rc::new(Self {
            free: RefCell::new(Vec::with_capacity(limits.chunks as usize)),
            made: Cell::new(0),
            buffers_max: limits.chunks,
            buffer_bytes: limits.chunk_bytes,
        })
    }

    /// How many buffers `take` would give.
    pub(super) fn available(&self) -> usize {
        self.free.borrow().len() + (self.buffers_max - self.made.get()) as usize
    }

    pub(super) fn take(&self) -> Option<Box<[u8]>> {
        if let Some(buffer) = self.take_made() {
            return Some(buffer);
        }
        if self.made.get() == self.buffers_max {
            return None;
        }
        self.made.set(self.made.get() + 1);
        Some(vec![0; self.buffer_bytes as usize].into_boxed_slice())
    }

    /// One that was in use before.
    pub(super) fn take_made(&self) -> Option<Box<[u8]>> {
        self.free.borrow_mut().pop()
    }

    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        debug_assert_eq!(buffer.len(), self.buffer_bytes as usize);
        self.free.borrow_mut().push(buffer);
    }

    /// A buffer of this pool whose first `filled` bytes have come.
    pub(super) fn chunk(self: &Rc<Self>, buffer: Box<[u8]>, filled: usize) -> Chunk {
        assert!(filled <= buffer.len());
        Chunk {
            buffer,
            start: 0,
            end: filled as u32,
            pool: Rc::clone(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(chunks: u32) -> Rc<Pool> {
        Pool::new(&Limits {
            chunks,
            chunk_bytes: 8,
            ..Limits::default()
        })
    }

    #[test]
    fn a_dropped_chunk_is_free_again() {
        let pool = pool(1);
        let buffer = pool.take().unwrap();
        assert_eq!((pool.available(), pool.take()), (0, None));
        let chunk = pool.chunk(buffer, 3);
        assert_eq!(chunk.len(), 3);
        drop(chunk);
        assert_eq!(pool.available(), 1);
        assert_eq!(pool.take().map(|buffer| buffer.len()), Some(8));
    }

    #[test]
    fn a_chunk_forgets_what_was_consumed() {
        let pool = pool(2);
        let mut buffer = pool.take().unwrap();
        buffer.copy_from_slice(b"abcdefgh");
        let mut chunk = pool.chunk(buffer, 5);
        chunk.consume(2);
        assert_eq!(&*chunk, b"cde");
        chunk.consume(3);
        assert!(chunk.is_empty());
    }

    #[test]
    #[should_panic(expected = "no more than there is")]
    fn a_chunk_cannot_forget_more_than_it_holds() {
        let pool = pool(1);
        let buffer = pool.take().unwrap();
        pool.chunk(buffer, 3).consume(4);
    }
}
