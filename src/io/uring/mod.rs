//! The back end on io_uring: what is asked becomes an operation of the ring, submitted with all
//! others by the next wait.
//!
//! A place remembers which operations are under way for it. Closing one forgets it at once and asks
//! the kernel to cancel; the operations live on in the ring as *orphans* until the kernel has said
//! its last word, which nobody hears. A descriptor is closed only once what names it is submitted.
//!
//! Receiving without holding a buffer, and waiting in order where there is none:
//!
//! ```text
//!   receive ──▶ under way ──bytes──▶ Received
//!                │    ▲ └─no buffer─▶ under way, polled first ──no buffer──▶ starving
//!                │    └──────────────── a chunk was dropped ────────────────────┘
//!                └──end──▶ Ended
//! ```
//! Only who is known to have something to receive starves, so a free chunk is never given to a
//! connection that would just wait with it.

mod place;
mod trial;

use super::chunk::Pool;
use super::{Completion, Errno, Handle, Interest, Limits, Token, What};
use crate::base::{Key, Slab};
use crate::sys::ring::{Finished, Outcome, Refusal, Ring, Via};
use core::time::Duration;
use place::{Place, Receiving, Try};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Operations under way on one place at once: a receive and a send.
const OPERATIONS_PER_PLACE: usize = 2;

/// Orphans for each operation that places may have under way. They are gone after the next wait, so
/// this is how often an owner may close and add everything between two waits.
const ORPHANS_PER_OPERATION: usize = 8;

/// Chunks lent to the kernel at first, and more at a time when it needs more.
const LENT_AT_ONCE: usize = 16;

#[derive(Debug)]
pub(super) struct Uring {
    // Dropped before the places: the ring lets go of their descriptors first.
    ring: Ring,
    places: Slab<Place>,
    pool: Rc<Pool>,
    /// Streams with something to receive and no chunk to receive it into.
    starving: VecDeque<Key<Place>>,
    /// Listeners that accept again and have newcomers from before; each in here once at most.
    surplus: VecDeque<Key<Place>>,
    /// Closed, but named by an operation that was not submitted then: the so-manieth pushed.
    limbo: Vec<(u64, OwnedFd)>,
    /// Operations whose place is closed.
    orphans: usize,
    operations_max: usize,
    completions_max: usize,
}

impl Uring {
    pub(super) fn new(limits: &Limits, pool: Rc<Pool>) -> Result<Self, Refusal> {
        trial::prove()?;
        let places_max = limits.handles as usize + 1;
        let operations_max = OPERATIONS_PER_PLACE * places_max * (1 + ORPHANS_PER_OPERATION);
        Ok(Self {
            ring: Ring::new(operations_max, limits.chunks as u16)?,
            places: Slab::new(places_max),
            pool,
            starving: VecDeque::new(),
            surplus: VecDeque::new(),
            limbo: Vec::new(),
            orphans: 0,
            operations_max,
            completions_max: limits.completions as usize,
        })
    }

    pub(super) fn add(&mut self, descriptor: OwnedFd, token: Token) -> Result<Handle, OwnedFd> {
        let needed = OPERATIONS_PER_PLACE * (self.places.len() + 1);
        if self.orphans + needed > self.operations_max {
            return Err(descriptor);
        }
        match self.places.insert(Place::new(descriptor, token)) {
            Ok(key) => Ok(Handle::unpack(key.pack())),
            Err(place) => Err(place.into_descriptor()),
        }
    }

    pub(super) fn descriptor(&self, handle: Handle) -> BorrowedFd<'_> {
        self.places
            .get(key_of(handle))
            .expect("the handle is open")
            .as_fd()
    }

    pub(super) fn accept(&mut self, handle: Handle) {
        let key = key_of(handle);
        let place = self.places.get_mut(key).expect("the handle is open");
        if place.accept(&mut self.ring, key) {
            self.surplus.push_back(key);
        }
    }

    pub(super) fn pause_accept(&mut self, handle: Handle) {
        let place = self
            .places
            .get_mut(key_of(handle))
            .expect("the handle is open");
        place.pause_accept(&mut self.ring);
    }

    pub(super) fn receive(&mut self, handle: Handle) {
        let key = key_of(handle);
        let place = self.places.get_mut(key).expect("the handle is open");
        assert!(place.stream().receiving.is_none(), "one receive at a time");
        // Who starves is not overtaken; where nothing was left, trying at once is in vain.
        let first = if self.starving.is_empty() && !place.is_drained() {
            Try::AtOnce
        } else {
            Try::Polled
        };
        place.receive(&mut self.ring, key, first);
    }

    pub(super) fn send(&mut self, handle: Handle, buffer: Vec<u8>) {
        let key = key_of(handle);
        let place = self.places.get_mut(key).expect("the handle is open");
        assert!(place.stream().sending.is_none(), "one send at a time");
        place.send(&mut self.ring, key, buffer, 0);
    }

    pub(super) fn watch(&mut self, handle: Handle, interest: Interest) {
        let key = key_of(handle);
        let place = self.places.get_mut(key).expect("the handle is open");
        place.watch(&mut self.ring, key, interest);
    }

    pub(super) fn close(&mut self, handle: Handle) {
        let place = self
            .places
            .remove(key_of(handle))
            .expect("the handle is open");
        for ticket in place.tickets() {
            self.ring.cancel(ticket);
            self.orphans += 1;
        }
        let (pushed, descriptor) = place.into_parts();
        if pushed > self.ring.submitted() {
            self.limbo.push((pushed, descriptor));
        }
    }

    pub(super) fn take(&mut self, handle: Handle) -> OwnedFd {
        let place = self
            .places
            .remove(key_of(handle))
            .expect("the handle is open");
        assert!(place.is_idle(), "nothing may be under way on what is taken");
        place.into_descriptor()
    }

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> std::io::Result<()> {
        let first = out.len();
        let room_for = first + self.completions_max;
        self.return_buffers();
        self.deliver_surplus(room_for, out);
        let at_hand = out.len() > first || self.ring.has_completions();
        // Leftovers of the last wait, no more than the completion queue holds, are served first.
        if !at_hand || self.ring.pushed() > self.ring.submitted() {
            let timeout = if at_hand {
                Some(Duration::ZERO)
            } else {
                timeout
            };
            self.ring.enter(timeout)?;
            self.leave_limbo();
        }
        self.reap(room_for, out);
        // The kernel ends only some of what was cancelled each time it is entered. Orphans shall
        // not pile up where many are made in each turn.
        let mut before = usize::MAX;
        while self.orphans > self.places.capacity() && self.orphans < before && out.len() < room_for
        {
            before = self.orphans;
            self.ring.enter(Some(Duration::ZERO))?;
            self.reap(room_for, out);
        }
        Ok(())
    }

    fn reap(&mut self, room_for: usize, out: &mut Vec<Completion>) {
        while out.len() < room_for
            && let Some(finished) = self.ring.next_finished()
        {
            self.finished(finished, out);
        }
    }

    /// Lends what was dropped, and feeds those who starve with it, in their order.
    fn return_buffers(&mut self) {
        while let Some(buffer) = self.pool.take_made() {
            self.ring.lend(buffer);
        }
        if self.ring.lent() == 0 {
            self.lend_more();
        }
        let mut free = self.ring.lent();
        while free > 0
            && let Some(key) = self.starving.pop_front()
        {
            if let Some(place) = self.places.get_mut(key) {
                place.receive(&mut self.ring, key, Try::Fed);
                free -= 1;
            }
        }
    }

    /// Makes some of the chunks that were never needed until now. False when all are made.
    fn lend_more(&mut self) -> bool {
        let before = self.ring.lent();
        for buffer in core::iter::from_fn(|| self.pool.take()).take(LENT_AT_ONCE) {
            self.ring.lend(buffer);
        }
        self.ring.lent() > before
    }

    fn leave_limbo(&mut self) {
        let submitted = self.ring.submitted();
        self.limbo.retain(|(pushed, _)| *pushed > submitted);
    }

    fn deliver_surplus(&mut self, room_for: usize, out: &mut Vec<Completion>) {
        while out.len() < room_for {
            let Some(&key) = self.surplus.front() else {
                return;
            };
            let next = self.places.get_mut(key).and_then(Place::next_surplus);
            match next {
                Some(completion) => out.push(completion),
                None => drop(self.surplus.pop_front()),
            }
        }
    }

    fn finished(&mut self, finished: Finished, out: &mut Vec<Completion>) {
        let Finished { owner, outcome, .. } = finished;
        let key = Key::unpack(owner);
        let last = !matches!(outcome, Outcome::Accepted { more: true, .. });
        let Some(place) = self.places.get_mut(key) else {
            self.orphans -= usize::from(last);
            if let Outcome::Received {
                buffer: Some(buffer),
                ..
            } = outcome
            {
                self.pool.give_back(buffer);
            }
            return;
        };
        let what = match outcome {
            Outcome::Accepted { result, more } => place.accepted(&mut self.ring, key, result, more),
            Outcome::Received { result, buffer } => self.received(key, result, buffer),
            Outcome::Sent {
                result,
                buffer,
                from,
            } => place.sent(&mut self.ring, key, result, buffer, from),
            Outcome::Polled(result) => place.polled(&mut self.ring, key, result),
        };
        if let (Some(what), Some(place)) = (what, self.places.get(key)) {
            out.push(Completion {
                token: place.token(),
                what,
            });
        }
    }

    fn received(
        &mut self,
        key: Key<Place>,
        result: Result<usize, Errno>,
        buffer: Option<Box<[u8]>>,
    ) -> Option<What> {
        let place = self.places.get_mut(key)?;
        let stream = place.stream();
        let tried = stream.receiving.take().and_then(Receiving::tried)?;
        match (result, buffer) {
            (Ok(count), Some(buffer)) if count > 0 => {
                stream.drained = count < buffer.len();
                return Some(What::Received(Ok(self.pool.chunk(buffer, count))));
            }
            (_, Some(buffer)) => self.pool.give_back(buffer),
            (_, None) => {}
        }
        let how = match result {
            Ok(_) => return Some(What::Ended),
            Err(Errno::NOTSOCK) => {
                stream.via = Via::Pipe;
                tried
            }
            Err(Errno::NOBUFS) if self.lend_more() => tried,
            Err(Errno::NOBUFS) if tried == Try::AtOnce => Try::Polled,
            Err(Errno::NOBUFS) => {
                self.starve(key, tried);
                return None;
            }
            Err(error) => return Some(What::Received(Err(error))),
        };
        self.places.get_mut(key)?.receive(&mut self.ring, key, how);
        None
    }

    fn starve(&mut self, key: Key<Place>, tried: Try) {
        let Some(place) = self.places.get_mut(key) else {
            return;
        };
        place.stream().receiving = Some(Receiving::Starving);
        if tried == Try::Fed {
            self.starving.push_front(key);
        } else {
            self.starving.push_back(key);
        }
    }
}

fn key_of(handle: Handle) -> Key<Place> {
    Key::unpack(handle.pack())
}
