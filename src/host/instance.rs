//! One instance as a process: its slot, its connection, its life.
//!
//! ```text
//!   ordered --born--> alive --ended--> dead (reaped; its slot goes back to the family)
//!      \--stillborn (the fork failed, or was lost with the zygote)--> dead
//! ```
//!
//! What is written to the connection before the birth waits in it, so nobody waits for the birth.

use super::cgroup::{Group, Limits};
use super::death::{self, Cause};
use super::family::{Scratch, Slot};
use super::{jail, memory};
use crate::wire::Seen;
use crate::wire::text::TextList;
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, pidfd_send_signal};
use std::io;
use std::path::Path;

/// What a new instance shall be.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Comes back in the events of its zygote.
    pub id: u64,
    /// The directory seen as /handler.
    pub code: &'a Path,
    /// The directory seen as /packages; none: that is empty.
    pub packages: Option<&'a Path>,
    /// All the environment it gets.
    pub environment: &'a TextList,
    pub hostname: &'a str,
    pub limits: Limits,
    pub open_files: u64,
    /// Size of /tmp, and of /host.
    pub scratch_bytes: u64,
    pub network: Network,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
}

/// Which network an instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Host,
    /// A loopback and nothing else, shared only with instances of the same tenant (their function's
    /// key) and family: strangers would meet there by abstract sockets.
    Alone {
        tenant: u64,
    },
}

#[derive(Debug)]
pub struct Instance {
    id: u64,
    slot: Slot,
    /// None once its owner took it.
    connection: Option<OwnedFd>,
    life: Life,
    /// It was killed for using more memory than it may, by us: where the kernel does not.
    over_memory: bool,
}

#[derive(Debug)]
enum Life {
    /// `doomed`: it is killed as soon as it is born.
    Ordered {
        doomed: bool,
    },
    Alive {
        pid: i32,
        pidfd: OwnedFd,
    },
    /// `pid`: what it was called, none who was never born.
    Dead {
        pid: Option<i32>,
    },
}

/// What travels to the new process and is closed here afterwards.
#[derive(Debug)]
pub(super) struct Outfit {
    pub(super) connection: OwnedFd,
    pub(super) code: OwnedFd,
    pub(super) packages: Option<OwnedFd>,
    /// None for one that has stood by with it.
    pub(super) scratch: Option<Scratch>,
}

impl Outfit {
    /// The worker's end of the connection, and what goes to the other side.
    pub(super) fn make(order: &Order<'_>, scratch: Option<Scratch>) -> io::Result<(OwnedFd, Self)> {
        let (ours, connection) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let outfit = Self {
            connection,
            code: jail::read_only(order.code)?,
            packages: order.packages.map(jail::read_only).transpose()?,
            scratch,
        };
        Ok((ours, outfit))
    }
}

impl Instance {
    /// One whose process is being made.
    pub(super) fn new(id: u64, slot: Slot, connection: OwnedFd) -> Self {
        Self {
            id,
            slot,
            connection: Some(connection),
            life: Life::Ordered { doomed: false },
            over_memory: false,
        }
    }

    /// One that has stood by: it lives.
    pub(super) fn alive(
        id: u64,
        slot: Slot,
        connection: OwnedFd,
        (pid, pidfd): (i32, OwnedFd),
    ) -> Self {
        Self {
            life: Life::Alive { pid, pidfd },
            ..Self::new(id, slot, connection)
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// The stream of frames, nonblocking.
    pub fn connection(&self) -> BorrowedFd<'_> {
        let connection = self.connection.as_ref();
        connection.expect("asked for before it was taken").as_fd()
    }

    /// The same, for whoever reads and writes it from now on.
    pub fn take_connection(&mut self) -> OwnedFd {
        self.connection.take().expect("taken once")
    }

    pub fn group(&mut self) -> &mut Group {
        &mut self.slot.group
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// How far user code has come, also after its death.
    pub fn seen(&self) -> Seen {
        self.slot.seen()
    }

    pub fn pid(&self) -> Option<i32> {
        match self.life {
            Life::Alive { pid, .. } => Some(pid),
            Life::Ordered { .. } | Life::Dead { .. } => None,
        }
    }

    /// Readable once it has ended; none before it is born.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.life {
            Life::Alive { pidfd, .. } => Some(pidfd.as_fd()),
            Life::Ordered { .. } | Life::Dead { .. } => None,
        }
    }

    pub(super) fn born(&mut self, pid: i32, pidfd: OwnedFd) -> io::Result<()> {
        let Life::Ordered { doomed } = self.life else {
            unreachable!("an instance is born once")
        };
        self.life = Life::Alive { pid, pidfd };
        if doomed { self.kill() } else { Ok(()) }
    }

    /// The fork failed: there is no process and will be none.
    pub fn stillborn(&mut self) {
        assert!(
            matches!(self.life, Life::Ordered { .. }),
            "who was born has ended instead"
        );
        self.life = Life::Dead { pid: None };
    }

    /// Kills everything in it. Its end is told as any other end.
    pub fn kill(&mut self) -> io::Result<()> {
        match &mut self.life {
            // The first process of a pid namespace takes all others with it.
            Life::Alive { pidfd, .. } => match pidfd_send_signal(&*pidfd, Signal::KILL) {
                Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
                Err(error) => Err(error.into()),
            },
            Life::Ordered { doomed } => {
                *doomed = true;
                Ok(())
            }
            Life::Dead { .. } => Ok(()),
        }
    }

    /// As `kill`; its end is then told as that of one the kernel killed at its limit.
    pub fn kill_over_memory(&mut self) -> io::Result<()> {
        self.over_memory = true;
        self.kill()
    }

    /// What it holds: its own pages, and its share of the others.
    pub fn memory_bytes(&self) -> io::Result<u64> {
        memory::proportional(&self.slot.group)
    }

    /// To be asked when the pidfd is readable: reaps it and tells the cause.
    pub fn ended(&mut self) -> io::Result<Option<Cause>> {
        let Life::Alive { pid, pidfd } = &self.life else {
            return Ok(None);
        };
        let cause = death::of(pidfd.as_fd(), &self.slot.group)?;
        let Some(cause) = cause else {
            return Ok(None);
        };
        self.life = Life::Dead { pid: Some(*pid) };
        let killed = cause == Cause::Signal(libc::SIGKILL);
        Ok(Some(if killed && self.over_memory {
            Cause::OutOfMemory
        } else {
            cause
        }))
    }

    /// Once it is dead: its slot, and the pid it had.
    pub(super) fn into_remains(self) -> (Slot, Option<i32>) {
        let Life::Dead { pid } = self.life else {
            unreachable!("the living keep their slots")
        };
        (self.slot, pid)
    }
}
