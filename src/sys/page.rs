//! A page shared with a sandbox: it writes, the worker reads.
//!
//! The file behind it is sealed in its length: else the peer could cut it under our mapping, and
//! reading would kill the worker.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One page; the words at its head are what is looked at.
#[derive(Debug)]
pub struct SharedPage {
    file: OwnedFd,
    words: NonNull<AtomicU64>,
}

/// Length of file and mapping.
const BYTES: usize = 4096;

impl SharedPage {
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(c"olworker-seen", flags)?;
        rustix::fs::ftruncate(&file, BYTES as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                BYTES,
                access,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        let words = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { file, words })
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The first words, each read at once; together they may be of different moments.
    pub fn read<const N: usize>(&self) -> [u64; N] {
        core::array::from_fn(|index| self.word(index).load(Ordering::Acquire))
    }

    /// For the next user, once nobody else has it.
    pub fn clear<const N: usize>(&self) {
        for index in 0..N {
            self.word(index).store(0, Ordering::Release);
        }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(
            index < BYTES / size_of::<AtomicU64>(),
            "words lie within the page"
        );
        // SAFETY: within the page by the line above.
        let word = unsafe { self.words.add(index) };
        // SAFETY: mapped, aligned and of fixed length as long as self lives; shared with another
        // process, so only ever touched atomically.
        unsafe { word.as_ref() }
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; no reference into it outlives self.
        let unmapped = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), BYTES) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the page is only touched atomically, and unmapping needs no particular thread.
unsafe impl Send for SharedPage {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn what_the_peer_writes_is_seen_and_can_be_cleared() {
        let page = SharedPage::new().unwrap();
        let peer = File::from(page.descriptor().try_clone_to_owned().unwrap());
        assert_eq!(page.read::<3>(), [0; 3]);
        peer.write_all_at(&7_u64.to_le_bytes(), 8).unwrap();
        assert_eq!(page.read::<3>(), [0, u64::from_le(7), 0]);
        page.clear::<3>();
        assert_eq!(page.read::<3>(), [0; 3]);
    }

    #[test]
    fn the_peer_cannot_cut_the_file() {
        let page = SharedPage::new().unwrap();
        let peer = File::from(page.descriptor().try_clone_to_owned().unwrap());
        assert!(peer.set_len(0).is_err() && peer.set_len(1 << 20).is_err());
    }
}
