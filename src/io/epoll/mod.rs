//! The back end that works everywhere: readiness from epoll (through mio), turned into completions.
//!
//! epoll tells edges only, so each place remembers what it was told. A place that has something to
//! try gets a *turn*; a wait gives each of them one turn, in order, then asks epoll again:
//!
//! ```text
//!   asked for, may be ready ──▶ turn ──done──▶ completion
//!            ▲                   ├──would block──▶ wait for the edge ──edge──▶ turn
//!            │                   └──no chunk free──▶ starving ──chunk dropped──▶ turn
//!          owner
//! ```
//! Optimism saves system calls: a new descriptor is tried before it is registered (many connections
//! end without ever being), a send is tried at once, and a receive that did not fill its chunk has
//! drained the stream, so the next one waits for the edge instead of asking in vain.

mod place;

use super::chunk::Pool;
use super::{Completion, Handle, Interest, Limits, Token};
use crate::base::{Key, Slab};
use core::time::Duration;
use mio::{Events, Poll};
use place::{Place, Turn};
use std::collections::VecDeque;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

#[derive(Debug)]
pub(super) struct Epoll {
    poll: Poll,
    events: Events,
    places: Slab<Place>,
    pool: Rc<Pool>,
    /// Places with something to try; each is in here once at most (or is dead).
    turns: VecDeque<Key<Place>>,
    /// Streams with something to receive and no chunk to receive it into.
    starving: VecDeque<Key<Place>>,
    completions_max: usize,
    /// The last wait has asked epoll, so this one may serve what is at hand without asking.
    asked: bool,
}

impl Epoll {
    pub(super) fn new(limits: &Limits, pool: Rc<Pool>) -> std::io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(limits.completions as usize),
            places: Slab::new(limits.handles as usize + 1),
            pool,
            turns: VecDeque::new(),
            starving: VecDeque::new(),
            completions_max: limits.completions as usize,
            asked: false,
        })
    }

    pub(super) fn add(&mut self, descriptor: OwnedFd, token: Token) -> Result<Handle, OwnedFd> {
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
        self.ask(handle, Place::accept);
    }

    pub(super) fn pause_accept(&mut self, handle: Handle) {
        self.place(handle).pause_accept();
    }

    pub(super) fn receive(&mut self, handle: Handle) {
        self.ask(handle, Place::receive);
    }

    pub(super) fn send(&mut self, handle: Handle, buffer: Vec<u8>) {
        let key = key_of(handle);
        let place = self.places.get_mut(key).expect("the handle is open");
        place.send(buffer, self.poll.registry(), key);
        queue(&mut self.turns, place, key);
    }

    pub(super) fn watch(&mut self, handle: Handle, interest: Interest) {
        let key = key_of(handle);
        let place = self.places.get_mut(key).expect("the handle is open");
        place.watch(interest, self.poll.registry(), key);
        queue(&mut self.turns, place, key);
    }

    pub(super) fn close(&mut self, handle: Handle) {
        drop(self.remove(handle).into_descriptor());
    }

    pub(super) fn take(&mut self, handle: Handle) -> OwnedFd {
        let place = self.remove(handle);
        assert!(place.is_idle(), "nothing may be under way on what is taken");
        place.into_descriptor()
    }

    fn remove(&mut self, handle: Handle) -> Place {
        let mut place = self
            .places
            .remove(key_of(handle))
            .expect("the handle is open");
        place.deregister(self.poll.registry());
        place
    }

    pub(super) fn wait(
        &mut self,
        timeout: Option<Duration>,
        out: &mut Vec<Completion>,
    ) -> std::io::Result<()> {
        let first = out.len();
        self.feed_the_starving();
        if self.asked && !self.turns.is_empty() {
            self.asked = false;
            self.give_turns(first, out);
            if out.len() > first {
                return Ok(());
            }
        }
        let can_feed = !self.starving.is_empty() && self.pool.available() > 0;
        let timeout = if self.turns.is_empty() && !can_feed {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        self.asked = true;
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(explain(&error)),
        }
        self.note_events();
        self.give_turns(first, out);
        Ok(())
    }

    /// Those who starve go first, as many as there are free chunks, so nobody overtakes them.
    fn feed_the_starving(&mut self) {
        let mut fed = 0;
        while fed < self.pool.available()
            && let Some(key) = self.starving.pop_front()
        {
            if let Some(place) = self.places.get_mut(key) {
                place.queued = true;
                self.turns.push_back(key);
                fed += 1;
            }
        }
        self.turns.rotate_right(fed);
    }

    fn note_events(&mut self) {
        for event in &self.events {
            let key = Key::unpack(event.token().0 as u64);
            let Some(place) = self.places.get_mut(key) else {
                continue;
            };
            place.note(event, self.poll.registry(), key);
            queue(&mut self.turns, place, key);
        }
    }

    /// One turn for each place that waits for one, while there is room for completions.
    fn give_turns(&mut self, first: usize, out: &mut Vec<Completion>) {
        for _ in 0..self.turns.len() {
            let room = (first + self.completions_max).saturating_sub(out.len());
            if room < Limits::COMPLETIONS_MIN as usize {
                return;
            }
            let Some(key) = self.turns.pop_front() else {
                return;
            };
            let Some(place) = self.places.get_mut(key) else {
                continue;
            };
            place.queued = false;
            match place.turn(key, self.poll.registry(), &self.pool, room, out) {
                Turn::Done => {}
                Turn::Again => queue(&mut self.turns, place, key),
                Turn::Starving => {
                    place.queued = true;
                    self.starving.push_back(key);
                }
            }
        }
    }

    fn place(&mut self, handle: Handle) -> &mut Place {
        self.places
            .get_mut(key_of(handle))
            .expect("the handle is open")
    }

    fn ask<F: FnOnce(&mut Place)>(&mut self, handle: Handle, what: F) {
        let key = key_of(handle);
        let place = self.places.get_mut(key).expect("the handle is open");
        what(place);
        queue(&mut self.turns, place, key);
    }
}

fn key_of(handle: Handle) -> Key<Place> {
    Key::unpack(handle.pack())
}

fn queue(turns: &mut VecDeque<Key<Place>>, place: &mut Place, key: Key<Place>) {
    if !place.queued && place.has_something_to_try() {
        place.queued = true;
        turns.push_back(key);
    }
}

fn explain(error: &Error) -> Error {
    Error::new(error.kind(), format!("epoll_wait failed: {error}"))
}
