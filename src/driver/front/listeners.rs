//! The listening sockets: all of them accept, or none does.
//!
//! ```text
//!            pause (as many clients as allowed)          close
//!   accepting ◀────────────────────────────────▶ paused ─────────▶ closed
//!        ╲            resume (one has left)      ╱
//!         ╲─ no descriptors ▶ resting ─ a second ─▶ accepting
//! ```

use super::Via;
use crate::base::{Slab, Time};
use crate::driver::token::Owner;
use crate::io::{Errno, Handle, Io, Token};
use core::time::Duration;
use std::os::fd::OwnedFd;

/// Listening sockets at once: a Unix one, a TCP one, and what systemd may pass besides.
const LISTENERS_MAX: usize = 16;
/// How long accepting rests when the machine has no descriptor left.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Slab<Listener>,
    paused: bool,
    rest_ends: Option<Time>,
}

#[derive(Debug)]
struct Listener {
    handle: Option<Handle>,
    via: Via,
    accepting: bool,
}

impl Listeners {
    pub(super) const fn new() -> Self {
        Self {
            sockets: Slab::new(LISTENERS_MAX),
            paused: false,
            rest_ends: None,
        }
    }

    pub(super) fn add(&mut self, socket: OwnedFd, via: Via, io: &mut Io) -> Result<(), OwnedFd> {
        let Ok(key) = self.sockets.insert(Listener {
            handle: None,
            via,
            accepting: false,
        }) else {
            return Err(socket);
        };
        match io.add(socket, Owner::Listener.token(key)) {
            Err(socket) => {
                self.sockets.remove(key);
                Err(socket)
            }
            Ok(handle) => {
                if let Some(listener) = self.sockets.get_mut(key) {
                    listener.handle = Some(handle);
                }
                self.accept(io);
                Ok(())
            }
        }
    }

    pub(super) fn via(&self, token: Token) -> Option<Via> {
        let (_, key) = Owner::of(token);
        self.sockets.get(key).map(|listener| listener.via)
    }

    /// `io` has paused this one; the others will meet the same want soon.
    pub(super) fn failed(&mut self, token: Token, error: Errno, now: Time) {
        let (_, key) = Owner::of(token);
        if let Some(listener) = self.sockets.get_mut(key) {
            listener.accepting = false;
            self.rest_ends = Some(now + REST);
            log::warn!("no client was accepted: {error} (raise LimitNOFILE=; trying again in 1 s)");
        }
    }

    pub(super) const fn rest_ends(&self) -> Option<Time> {
        self.rest_ends
    }

    pub(super) fn rested(&mut self, io: &mut Io) {
        self.rest_ends = None;
        self.accept(io);
    }

    pub(super) fn pause(&mut self, io: &mut Io) {
        self.paused = true;
        for (_, listener) in self.sockets.iter_mut() {
            if let (Some(handle), true) = (listener.handle, listener.accepting) {
                io.pause_accept(handle);
                listener.accepting = false;
            }
        }
    }

    pub(super) fn resume(&mut self, io: &mut Io) {
        if self.paused {
            self.paused = false;
            self.accept(io);
        }
    }

    fn accept(&mut self, io: &mut Io) {
        if self.paused || self.rest_ends.is_some() {
            return;
        }
        for (_, listener) in self.sockets.iter_mut() {
            if let (Some(handle), false) = (listener.handle, listener.accepting) {
                io.accept(handle);
                listener.accepting = true;
            }
        }
    }

    pub(super) fn close(&mut self, io: &mut Io) {
        for (_, listener) in self.sockets.iter() {
            if let Some(handle) = listener.handle {
                io.close(handle);
            }
        }
        *self = Self::new();
    }
}
