//! Buffers and heads that go from connection to connection, so that an idle one holds none and a
//! busy one allocates none.

use crate::http::Head;

/// How many spare ones of each kind are kept.
const SPARES_MAX: usize = 256;
/// One that grew beyond this is not kept: it served something exceptional.
const SPARE_BYTES_MAX: usize = 64 * 1024;
/// The least a new buffer holds: a usual answer fits without growing.
const FRESH_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Buffers {
    buffers: Vec<Vec<u8>>,
    // Boxed because they wander: swapping a pointer is cheaper than moving a head.
    #[expect(clippy::vec_box, reason = "what is stored here is given away as a box")]
    heads: Vec<Box<Head>>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            buffers: Vec::with_capacity(SPARES_MAX),
            heads: Vec::with_capacity(SPARES_MAX),
        }
    }

    /// An empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.buffers
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(FRESH_BYTES))
    }

    pub(super) fn give_back(&mut self, mut buffer: Vec<u8>) {
        let worthy = (1..=SPARE_BYTES_MAX).contains(&buffer.capacity());
        if worthy && self.buffers.len() < SPARES_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// A head to be filled.
    #[expect(clippy::unnecessary_box_returns, reason = "the box is what wanders")]
    pub(super) fn take_head(&mut self) -> Box<Head> {
        self.heads.pop().unwrap_or_default()
    }

    pub(super) fn give_back_head(&mut self, mut head: Box<Head>) {
        if head.capacity() <= SPARE_BYTES_MAX && self.heads.len() < SPARES_MAX {
            head.clear();
            self.heads.push(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_empty_and_taken_first() {
        let mut buffers = Buffers::new();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"abc");
        let place = buffer.as_ptr();
        buffers.give_back(buffer);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn the_exceptional_and_the_superfluous_are_let_go() {
        let mut buffers = Buffers::new();
        buffers.give_back(Vec::new());
        buffers.give_back(Vec::with_capacity(SPARE_BYTES_MAX + 1));
        assert!(buffers.buffers.is_empty());
        for _ in 0..=SPARES_MAX {
            buffers.give_back(Vec::with_capacity(1));
        }
        assert_eq!(buffers.buffers.len(), SPARES_MAX);
    }
}
