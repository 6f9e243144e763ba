//! Buffers lent to the kernel: it picks one when bytes have come, so who waits holds none.
//!
//! ```text
//!   Box ──lend──▶ entry at the ring's tail ──kernel picks──▶ completion ──take_back──▶ Box
//! ```
//! The kernel knows a buffer by its number, which is free to be used again once it came back. While
//! lent a buffer is a bare pointer here: no reference to it exists.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::io::Result;

/// The only group of buffers on the ring.
pub(super) const GROUP: u16 = 0;

pub(super) struct Lent {
    /// One page-aligned mapping of `entries_count` entries; the first one's last field is the tail.
    entries: NonNull<BufRingEntry>,
    entries_count: u16,
    tail: u16,
    /// By number.
    buffers: Vec<Option<NonNull<[u8]>>>,
    numbers_free: Vec<u16>,
}

impl Lent {
    pub(super) fn new(uring: &IoUring, buffers_max: u16) -> Result<Self> {
        let entries_count = buffers_max.next_power_of_two();
        let length = usize::from(entries_count) * size_of::<BufRingEntry>();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping, placed by the kernel, touches nothing that exists.
        let mapping = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), length, protection, MapFlags::PRIVATE)
        }?;
        let entries = NonNull::new(mapping.cast()).expect("mmap does not place at zero");
        let lent = Self {
            entries,
            entries_count,
            tail: 0,
            buffers: vec![None; usize::from(buffers_max)],
            numbers_free: (0..buffers_max).rev().collect(),
        };
        // SAFETY: the mapping is ours alone; children get none of it.
        unsafe { rustix::mm::madvise(mapping, length, Advice::LinuxDontFork) }?;
        // SAFETY: the mapping holds that many entries and outlives the ring: the ring is dropped
        // before it, and the kernel has its pages pinned until it has let go of them.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(
                mapping.addr() as u64,
                entries_count,
                GROUP,
                0,
            )
        }?;
        Ok(lent)
    }

    pub(super) fn count(&self) -> usize {
        self.buffers.len() - self.numbers_free.len()
    }

    pub(super) fn lend(&mut self, buffer: Box<[u8]>) {
        let number = self
            .numbers_free
            .pop()
            .expect("no more buffers than there were to be");
        let length = buffer.len() as u32;
        let buffer = NonNull::from(Box::leak(buffer));
        self.buffers[usize::from(number)] = Some(buffer);
        let index = usize::from(self.tail & (self.entries_count - 1));
        // SAFETY: the index is below the count of entries in the mapping.
        let mut entry = unsafe { self.entries.add(index) };
        // SAFETY: the kernel reads entries between head and tail only, and this one is beyond the
        // tail, since fewer buffers are lent than there are entries. Fields are set one by one for
        // the sake of the first entry, whose last field is the tail.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(buffer.cast::<u8>().addr().get() as u64);
        entry.set_len(length);
        entry.set_bid(number);
        self.tail = self.tail.wrapping_add(1);
        self.publish();
    }

    /// The buffer of this number, which the kernel is done with.
    pub(super) fn take_back(&mut self, number: u16) -> Box<[u8]> {
        let buffer = self.buffers[usize::from(number)]
            .take()
            .expect("the kernel picks lent ones");
        self.numbers_free.push(number);
        // SAFETY: it was leaked from a box in `lend`, and taken out of the list just now, once.
        unsafe { Box::from_raw(buffer.as_ptr()) }
    }

    /// Forgets what is lent: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.buffers.clear();
    }

    fn publish(&self) {
        // SAFETY: the first entry of the mapping, aligned and zeroed or written by us.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: an aligned u16 in the mapping that is only ever accessed as an atomic here.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The entry before the tail: the kernel must see it whole.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for number in 0..self.buffers.len() as u16 {
            if self.buffers[usize::from(number)].is_some() {
                drop(self.take_back(number));
            }
        }
        let length = usize::from(self.entries_count) * size_of::<BufRingEntry>();
        // SAFETY: mapped in `new` with this length, and nothing refers to it any more. It cannot
        // fail for a mapping of ours.
        let _ = unsafe { rustix::mm::munmap(self.entries.as_ptr().cast(), length) };
    }
}
