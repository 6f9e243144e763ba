//! Waking the loop from a helper thread: an eventfd that `io` watches like any other descriptor.

use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Ends a `wait` of the io it came from with `What::Woken`. Wakes that come before the loop looks
/// are told as one; none is lost.
#[derive(Clone, Debug)]
pub struct Waker {
    counter: Arc<OwnedFd>,
}

impl Waker {
    /// The waker, and the descriptor to watch.
    pub(super) fn new() -> std::io::Result<(Self, OwnedFd)> {
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let watched = counter.try_clone()?;
        Ok((
            Self {
                counter: Arc::new(counter),
            },
            watched,
        ))
    }

    pub fn wake(&self) {
        // It fails only when the counter is at its limit, and then the loop is being woken already.
        let _ = rustix::io::write(&*self.counter, &1u64.to_ne_bytes());
    }

    pub(super) fn empty(&self) {
        // It fails only when there is nothing to read.
        let _ = rustix::io::read(&*self.counter, &mut [0; 8]);
    }
}
