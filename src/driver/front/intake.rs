//! The body of one request between the client that sends it and whoever takes it.
//!
//! ```text
//!                 Undecided   keeps what came with the head, asks for no more
//!   wish of the   Stream      keeps a little, asks for more as it is taken
//!   driver:       Spool       keeps all: a little in memory, the rest in an anonymous file
//!                 Discard     keeps nothing, asks for all of it
//! ```
//! Bytes are taken in the order in which they came: memory first, then the file, which is read back
//! into memory piece by piece and shrinks as it is. All bodies together have a budget; when it is
//! used up, a body is asked for only when none of it waits: slowly, never with an error.

use super::buffers::Buffers;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of one body kept in memory; a received chunk may come on top.
pub const MEMORY_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Wish {
    #[default]
    Undecided,
    Stream,
    Spool,
    Discard,
}

/// The bytes of all bodies that have come and wait to be taken, and how many may.
#[derive(Debug)]
pub struct SpoolBudget {
    pub(super) used: u64,
    pub(super) limit: u64,
}

impl SpoolBudget {
    fn has_room(&self, count: usize) -> bool {
        self.used.saturating_add(count as u64) <= self.limit
    }
}

#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) wish: Wish,
    /// All of the body has come.
    pub(super) ended: bool,
    /// Body bytes that have come, taken or not.
    pub(super) received: u64,
    /// Bytes that are charged to the budget: those that have come and were neither taken nor
    /// thrown away.
    waiting: u64,
    memory: Vec<u8>,
    taken: usize,
    spool: Option<Spool>,
}

/// An anonymous file: written at its end, read (and emptied) from its front, gone when dropped.
#[derive(Debug)]
struct Spool {
    file: File,
    written: u64,
    read: u64,
    /// What the machine had no room for; comes behind the file's end, and nothing more is asked for
    /// until it is taken.
    overflow: Vec<u8>,
}

/// What was spooled cannot be read back: the machine is out of order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost;

impl Spool {
    fn new() -> Option<Self> {
        let file = memfd::MemfdOptions::default()
            .close_on_exec(true)
            .create("olworker-body");
        let file = file.ok()?.into_file();
        Some(Self {
            file,
            written: 0,
            read: 0,
            overflow: Vec::new(),
        })
    }

    fn append(&mut self, data: &[u8]) {
        if self.overflow.is_empty() && self.file.write_all_at(data, self.written).is_ok() {
            self.written += data.len() as u64;
        } else {
            self.overflow.extend_from_slice(data);
        }
    }

    /// Moves the next piece to memory, which is empty. False: there is nothing more.
    fn refill(&mut self, memory: &mut Vec<u8>) -> Result<bool, Lost> {
        let left = self.written - self.read;
        if left == 0 {
            core::mem::swap(memory, &mut self.overflow);
            return Ok(!memory.is_empty());
        }
        memory.resize(left.min(MEMORY_BYTES_MAX as u64) as usize, 0);
        self.file
            .read_exact_at(memory, self.read)
            .map_err(|_| Lost)?;
        // The pages of what was read go back at once; where that fails they go with the file.
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = fallocate(&self.file, hole, self.read, memory.len() as u64);
        self.read += memory.len() as u64;
        Ok(true)
    }
}

impl Intake {
    /// Adds bytes that have come.
    pub(super) fn add(&mut self, data: &[u8], budget: &mut SpoolBudget, buffers: &mut Buffers) {
        self.received += data.len() as u64;
        if self.wish == Wish::Discard {
            return;
        }
        self.waiting += data.len() as u64;
        budget.used += data.len() as u64;
        let is_much = self.held() + data.len() > MEMORY_BYTES_MAX;
        if is_much && self.spool.is_none() && self.wish == Wish::Spool {
            self.spool = Spool::new();
        }
        if let Some(spool) = &mut self.spool {
            spool.append(data);
            return;
        }
        if self.memory.capacity() == 0 {
            self.memory = buffers.take();
        }
        self.memory.extend_from_slice(data);
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// What can be taken now.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.taken..]
    }

    /// `bytes` are the last ones: all has come, and nothing is left in the file.
    pub(super) fn is_complete(&self) -> bool {
        self.ended && self.spool.is_none()
    }

    pub(super) fn take(&mut self, count: usize, budget: &mut SpoolBudget) -> Result<(), Lost> {
        assert!(count <= self.bytes().len(), "no more than there is");
        self.taken += count;
        self.waiting -= count as u64;
        budget.used -= count as u64;
        if self.taken < self.memory.len() {
            return Ok(());
        }
        self.memory.clear();
        self.taken = 0;
        if let Some(spool) = &mut self.spool
            && !spool.refill(&mut self.memory)?
        {
            self.spool = None;
        }
        Ok(())
    }

    /// Should more be received now, up to a chunk of it?
    pub(super) fn wants_more(&self, budget: &SpoolBudget, chunk_bytes: usize) -> bool {
        if self.ended {
            return false;
        }
        let affordable = self.waiting == 0 || budget.has_room(chunk_bytes);
        match self.wish {
            Wish::Undecided => false,
            Wish::Discard => true,
            Wish::Stream => affordable && self.waiting < MEMORY_BYTES_MAX as u64,
            Wish::Spool => {
                let machine_has_room = self.spool.as_ref().is_none_or(|s| s.overflow.is_empty());
                affordable && machine_has_room
            }
        }
    }

    /// From now on nobody wants the bytes.
    pub(super) fn discard(&mut self, budget: &mut SpoolBudget, buffers: &mut Buffers) {
        self.wish = Wish::Discard;
        budget.used -= core::mem::take(&mut self.waiting);
        self.spool = None;
        self.taken = 0;
        buffers.give_back(core::mem::take(&mut self.memory));
    }

    /// Ready for the next request.
    pub(super) fn reset(&mut self, budget: &mut SpoolBudget, buffers: &mut Buffers) {
        self.discard(budget, buffers);
        *self = Self::default();
    }

    fn held(&self) -> usize {
        self.memory.len() - self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 32 * 1024;

    fn budget(limit: u64) -> SpoolBudget {
        SpoolBudget { used: 0, limit }
    }

    /// Bytes that differ from place to place.
    fn data(from: usize, count: usize) -> Vec<u8> {
        (from..from + count)
            .map(|place| (place % 251) as u8)
            .collect()
    }

    /// Adds chunks for as long as they are wanted; says how many bytes went in.
    fn fill(intake: &mut Intake, budget: &mut SpoolBudget, buffers: &mut Buffers) -> usize {
        let mut from = intake.received as usize;
        while intake.wants_more(budget, CHUNK) && from < 64 * CHUNK {
            intake.add(&data(from, CHUNK), budget, buffers);
            from += CHUNK;
        }
        from
    }

    fn drain(intake: &mut Intake, budget: &mut SpoolBudget) -> Vec<u8> {
        let mut all = Vec::new();
        while !intake.bytes().is_empty() {
            let count = intake.bytes().len().min(10_000);
            all.extend_from_slice(&intake.bytes()[..count]);
            intake.take(count, budget).unwrap();
        }
        all
    }

    #[test]
    fn nothing_is_asked_for_until_somebody_decides() {
        let (mut intake, mut buffers) = (Intake::default(), Buffers::new());
        assert_eq!(fill(&mut intake, &mut budget(u64::MAX), &mut buffers), 0);
    }

    #[test]
    fn a_stream_holds_little_and_goes_on_as_it_is_taken() {
        let (mut intake, mut buffers) = (Intake::default(), Buffers::new());
        let mut budget = budget(u64::MAX);
        intake.wish = Wish::Stream;
        let held = fill(&mut intake, &mut budget, &mut buffers);
        assert_eq!(held, MEMORY_BYTES_MAX);
        assert_eq!(drain(&mut intake, &mut budget), data(0, held));
        assert!(intake.wants_more(&budget, CHUNK));
        assert_eq!(budget.used, 0);
    }

    #[test]
    fn a_spool_takes_all_and_keeps_the_order() {
        let (mut intake, mut buffers) = (Intake::default(), Buffers::new());
        let mut budget = budget(u64::MAX);
        intake.wish = Wish::Spool;
        let held = fill(&mut intake, &mut budget, &mut buffers);
        assert_eq!(held, 64 * CHUNK);
        assert_eq!(budget.used, held as u64);
        intake.ended = true;
        assert_eq!(drain(&mut intake, &mut budget), data(0, held));
        assert!(intake.is_complete());
        assert_eq!(budget.used, 0);
    }

    #[test]
    fn without_budget_a_spool_is_a_stream() {
        let (mut intake, mut buffers) = (Intake::default(), Buffers::new());
        let mut budget = budget(5 * CHUNK as u64);
        intake.wish = Wish::Spool;
        let held = fill(&mut intake, &mut budget, &mut buffers);
        assert_eq!(held, 5 * CHUNK);
        assert_eq!(drain(&mut intake, &mut budget), data(0, held));
        assert_eq!(budget.used, 0);
        assert!(intake.wants_more(&budget, CHUNK));
    }

    #[test]
    fn what_came_beyond_the_budget_is_not_lost() {
        let (mut intake, mut buffers) = (Intake::default(), Buffers::new());
        let mut budget = budget(CHUNK as u64);
        intake.wish = Wish::Spool;
        for part in 0..5 {
            intake.add(&data(part * CHUNK, CHUNK), &mut budget, &mut buffers);
        }
        assert!(!intake.wants_more(&budget, CHUNK));
        assert_eq!(drain(&mut intake, &mut budget), data(0, 5 * CHUNK));
        assert_eq!(budget.used, 0);
        assert!(intake.wants_more(&budget, CHUNK));
    }

    #[test]
    fn what_the_machine_has_no_room_for_keeps_its_place() {
        let (mut intake, mut buffers) = (Intake::default(), Buffers::new());
        let mut budget = budget(u64::MAX);
        intake.wish = Wish::Spool;
        for part in 0..4 {
            intake.add(&data(part * CHUNK, CHUNK), &mut budget, &mut buffers);
        }
        let spool = intake.spool.as_mut().unwrap();
        spool.overflow = data(4 * CHUNK, CHUNK);
        intake.waiting += CHUNK as u64;
        budget.used += CHUNK as u64;
        assert!(!intake.wants_more(&budget, CHUNK));
        intake.add(&data(5 * CHUNK, CHUNK), &mut budget, &mut buffers);
        assert_eq!(drain(&mut intake, &mut budget), data(0, 6 * CHUNK));
        assert!(intake.wants_more(&budget, CHUNK));
    }

    #[test]
    fn discarding_gives_the_budget_back() {
        let (mut intake, mut buffers) = (Intake::default(), Buffers::new());
        let mut budget = budget(u64::MAX);
        intake.wish = Wish::Spool;
        fill(&mut intake, &mut budget, &mut buffers);
        intake.discard(&mut budget, &mut buffers);
        assert_eq!(budget.used, 0);
        assert!(intake.bytes().is_empty());
        intake.add(b"more", &mut budget, &mut buffers);
        assert!(intake.bytes().is_empty());
        assert!(intake.wants_more(&budget, CHUNK));
    }
}
