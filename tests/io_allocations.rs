//! Warm, neither back end allocates: a counting allocator under receive, send and wait.

#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use olworker::io::{Completion, Handle, Io, Limits, Token, Wanted, What};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Not there any more while a thread ends.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: all is left to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 64;
const ROUNDS_TO_WARM_UP: u32 = 50;
const ROUNDS_COUNTED: u32 = 200;
const MESSAGE: [u8; 200] = [7; 200];

struct Rig {
    io: Io,
    out: Vec<Completion>,
    handles: Vec<Handle>,
    /// Buffers at home, one for each connection.
    buffers: Vec<Option<Vec<u8>>>,
    peers: Vec<UnixStream>,
}

impl Rig {
    fn new(wanted: Wanted) -> Option<Self> {
        // Fewer chunks than connections: starving is steady state, too.
        let limits = Limits {
            chunks: 16,
            chunk_bytes: 4096,
            ..Limits::default()
        };
        let mut io = match Io::new(wanted, limits) {
            Ok((io, _)) => io,
            Err(why) if wanted == Wanted::IoUring => {
                skip(&why.to_string());
                return None;
            }
            Err(why) => panic!("{why}"),
        };
        let (mut handles, mut peers) = (Vec::new(), Vec::new());
        for token in 0..CONNECTIONS as u64 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            handles.push(io.add(ours.into(), Token(token)).unwrap());
            peers.push(theirs);
        }
        let buffers = (0..CONNECTIONS)
            .map(|_| Some(Vec::with_capacity(4096)))
            .collect();
        Some(Self {
            io,
            out: Vec::with_capacity(4 * CONNECTIONS),
            handles,
            buffers,
            peers,
        })
    }

    /// Each peer asks and is answered; every other time all wait before they ask.
    fn round(&mut self, number: u32) {
        for handle in &self.handles {
            self.io.receive(*handle);
        }
        if number.is_multiple_of(2) {
            self.io.wait(Some(Duration::ZERO), &mut self.out).unwrap();
        }
        for peer in &mut self.peers {
            peer.write_all(&MESSAGE).unwrap();
        }
        let mut sent = 0;
        while sent < CONNECTIONS {
            self.io.wait(None, &mut self.out).unwrap();
            for Completion { token, what } in self.out.drain(..) {
                let index = token.0 as usize;
                match what {
                    What::Received(Ok(chunk)) => {
                        let mut buffer = self.buffers[index].take().unwrap();
                        buffer.clear();
                        buffer.extend(&*chunk);
                        self.io.send(self.handles[index], buffer);
                    }
                    What::Sent {
                        result: Ok(_),
                        buffer,
                    } => {
                        self.buffers[index] = Some(buffer);
                        sent += 1;
                    }
                    what => panic!("{what:?}"),
                }
            }
        }
        for peer in &mut self.peers {
            let mut answer = [0; MESSAGE.len()];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(answer, MESSAGE);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a test that cannot run says why")]
fn skip(why: &str) {
    eprintln!("SKIP: {why}");
}

fn allocates_nothing_once_warm(wanted: Wanted) {
    let Some(mut rig) = Rig::new(wanted) else {
        return;
    };
    for number in 0..ROUNDS_TO_WARM_UP {
        rig.round(number);
    }
    let before = ALLOCATIONS.get();
    assert!(before > 0, "the allocator is counted");
    for number in 0..ROUNDS_COUNTED {
        rig.round(number);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
fn epoll_allocates_nothing_once_warm() {
    allocates_nothing_once_warm(Wanted::Epoll);
}

#[test]
fn io_uring_allocates_nothing_once_warm() {
    allocates_nothing_once_warm(Wanted::IoUring);
}
