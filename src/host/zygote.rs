//! One live zygote: its control socket, the forks under way, its life.
//!
//! ```text
//!   started from nothing: alive --Imported--> ready --(killed, or dies)--> dead
//!   forked: ordered --born--> alive --Imported--> ready --> dead
//! ```
//!
//! Requests are datagrams; any number (up to a bound) may be under way, answered in the order
//! asked. Nothing here waits: what the socket does not take now is kept, in order, and sent when
//! it is writable again. A zygote is user code after its first import: whatever it says is
//! checked, and one that breaks the protocol is killed by whoever reads `ZygoteEvent::Broken`.

use super::cgroup::Group;
use super::death::{self, Cause};
use super::family::Scratch;
use super::instance::{Order, Outfit};
use super::memory;
use super::standby::Standby;
use crate::sys::scm::{self, Received};
use crate::wire::text::TextList;
use crate::wire::zygote::{
    DATAGRAM_BYTES_MAX, ForkInstance, ForkStage, ForkStandby, ForkZygote, Import, ProcessLimits,
    Reply, Request, Role, Roles,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Signal, pidfd_send_signal};
use std::collections::VecDeque;
use std::io;

/// Forks asked of one zygote and not answered yet.
pub const FORKS_UNDER_WAY_MAX: usize = 1024;
/// Answers read in one go, before others get their turn.
const REPLIES_AT_ONCE: usize = 64;

/// Mounts of an instance, in the order their descriptors travel.
const MOUNTS: [&[u8]; 3] = [b"/handler", b"/tmp", b"/host"];
/// Of these a standby has the last two before it knows whose instance it will be.
const MOUNTS_KNOWN_LATE: usize = 1;

#[derive(Debug)]
pub struct Zygote {
    id: u64,
    group: Group,
    control: OwnedFd,
    life: Life,
    mounts: Mounts,
    /// In the order asked.
    unborn: VecDeque<Standby>,
    standbys: VecDeque<Standby>,
    /// Ids of forks without an answer, in the order asked.
    under_way: VecDeque<u64>,
    /// What the socket has not taken yet.
    unsent: VecDeque<Parcel>,
    forks: u64,
}

/// Where mounts go: of an instance all of them, or what a standby gets at first and later.
#[derive(Debug)]
struct Mounts {
    all: TextList,
    late: TextList,
    early: TextList,
}

#[derive(Debug)]
enum Life {
    Ordered,
    Alive { pid: i32, pidfd: OwnedFd },
    Dead { pid: Option<i32> },
}

/// A datagram that waits.
#[derive(Debug)]
struct Parcel {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What a zygote has to tell.
#[derive(Debug)]
pub enum ZygoteEvent {
    /// Everything is imported. More than one thread: it can never fork.
    Ready {
        resident_kb: u64,
        threads: u32,
        modules: Vec<(String, u64)>,
    },
    ImportFailed {
        module: String,
        text: String,
    },
    /// For `Sandboxes::born`, or `Sandboxes::zygote_born`.
    Forked {
        id: u64,
        pid: i32,
    },
    ForkFailed {
        id: u64,
        stage: ForkStage,
        errno: i32,
    },
    /// It has hung up: it is dead or as good.
    HungUp,
    /// It said what makes no sense: to be killed.
    Broken {
        why: String,
    },
}

/// Why a request was not taken.
#[derive(Debug)]
pub enum AskError {
    /// Too many are under way.
    Full,
    Failed(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Zygote {
    /// Of a process that is being made; `control` is the worker's end.
    pub(super) fn new(id: u64, group: Group, control: OwnedFd) -> Self {
        let list =
            |paths: &[&[u8]]| TextList::collect(paths.iter().copied()).expect("paths without NUL");
        let (late, early) = MOUNTS.split_at(MOUNTS_KNOWN_LATE);
        let mounts = Mounts {
            all: list(&MOUNTS),
            late: list(late),
            early: list(early),
        };
        Self {
            id,
            group,
            control,
            life: Life::Ordered,
            mounts,
            unborn: VecDeque::new(),
            standbys: VecDeque::new(),
            under_way: VecDeque::new(),
            unsent: VecDeque::new(),
            forks: 0,
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// To be watched for reading, and for writing while `has_unsent`.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    pub fn group_mut(&mut self) -> &mut Group {
        &mut self.group
    }

    pub fn pid(&self) -> Option<i32> {
        match self.life {
            Life::Alive { pid, .. } => Some(pid),
            Life::Ordered | Life::Dead { .. } => None,
        }
    }

    /// Readable once it has ended; none before it is born.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.life {
            Life::Alive { pidfd, .. } => Some(pidfd.as_fd()),
            Life::Ordered | Life::Dead { .. } => None,
        }
    }

    /// What it holds: its own pages, and its share of those its children still share.
    pub fn memory_bytes(&self) -> io::Result<u64> {
        memory::proportional(&self.group)
    }

    /// How many forks it has been asked for.
    pub fn forks(&self) -> u64 {
        self.forks
    }

    /// Forks without an answer. When it dies each of them needs `Instance::search`.
    pub fn under_way(&self) -> impl Iterator<Item = u64> {
        self.under_way.iter().copied()
    }

    pub(super) fn born(&mut self, pid: i32, pidfd: OwnedFd) {
        assert!(matches!(self.life, Life::Ordered), "a zygote is born once");
        self.life = Life::Alive { pid, pidfd };
    }

    pub fn stillborn(&mut self) {
        assert!(
            matches!(self.life, Life::Ordered),
            "who was born has ended instead"
        );
        self.life = Life::Dead { pid: None };
    }

    /// Kills it and what its imports may have started. Its children live on.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Life::Alive { pidfd, .. } = &self.life {
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Err(rustix::io::Errno::SRCH) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.group.kill()
    }

    /// To be asked when the pidfd is readable: reaps it and tells the cause.
    pub fn ended(&mut self) -> io::Result<Option<Cause>> {
        let Life::Alive { pid, pidfd } = &self.life else {
            return Ok(None);
        };
        let cause = death::of(pidfd.as_fd(), &self.group)?;
        if cause.is_some() {
            self.life = Life::Dead { pid: Some(*pid) };
        }
        Ok(cause)
    }

    /// Once it is dead: its group, the pid it had, and who stood by.
    pub(super) fn into_remains(self) -> (Group, Option<i32>, Vec<Standby>) {
        let Life::Dead { pid } = self.life else {
            unreachable!("the living keep their groups")
        };
        let standbys = self.standbys.into_iter().chain(self.unborn).collect();
        (self.group, pid, standbys)
    }

    /// Processes that wait for an order, and those on their way.
    pub fn standbys(&self) -> usize {
        self.standbys.len() + self.unborn.len()
    }

    /// The groups of processes that wait, whose memory is this zygote's to answer for.
    pub fn standby_groups(&self) -> impl Iterator<Item = &Group> {
        self.standbys.iter().map(Standby::group)
    }

    /// One that waits.
    pub(super) fn take_standby(&mut self) -> Option<Standby> {
        self.standbys.pop_front()
    }

    /// The one whose fork was asked first of those that are not born.
    pub(super) fn take_unborn(&mut self) -> Option<Standby> {
        self.unborn.pop_front()
    }

    pub(super) fn keep_standby(&mut self, standby: Standby) {
        self.standbys.push_back(standby);
    }

    /// The first thing a zygote is told, and told once.
    pub fn import(&mut self, modules: &TextList, paths: &TextList) -> io::Result<()> {
        let (modules, paths) = (modules.as_texts(), paths.as_texts());
        self.send(&Request::Import(Import { modules, paths }), &[])
    }

    /// Asks for an instance. What it needs travels along.
    pub(super) fn fork(
        &mut self,
        order: &Order<'_>,
        (uid, group): (u32, &Group),
        page: BorrowedFd<'_>,
        network: Option<BorrowedFd<'_>>,
        outfit: &Outfit,
    ) -> Result<(), AskError> {
        self.check_room()?;
        let cgroup = Some(group.descriptor());
        let paths = self.mounts.all.clone();
        let (bytes, descriptors) =
            write_order(order, uid, (page, cgroup, network), outfit, &paths)?;
        self.send_bytes(bytes, &descriptors)?;
        self.under_way.push_back(order.id);
        self.forks += 1;
        Ok(())
    }

    /// Has one that stands by become an instance.
    pub(super) fn send_on(
        &mut self,
        standby: &Standby,
        order: &Order<'_>,
        (uid, page): (u32, BorrowedFd<'_>),
        network: Option<BorrowedFd<'_>>,
        outfit: &Outfit,
    ) -> io::Result<()> {
        let (bytes, descriptors) =
            write_order(order, uid, (page, None, network), outfit, &self.mounts.late)?;
        standby.send(&bytes, &descriptors)?;
        self.forks += 1;
        Ok(())
    }

    /// Asks for a process that stands by.
    pub(super) fn fork_standby(
        &mut self,
        id: u64,
        standby: Standby,
        (control, scratch): (BorrowedFd<'_>, &Scratch),
    ) -> Result<(), (Box<Standby>, AskError)> {
        if let Err(error) = self.check_room() {
            return Err((Box::new(standby), error));
        }
        let request = ForkStandby {
            id,
            roles: Roles::EMPTY.with(Role::Control).with(Role::Cgroup),
            mounts: self.mounts.early.as_texts(),
        };
        let mut bytes = Vec::new();
        let written = write(&Request::ForkStandby(request), &mut bytes);
        let cgroup = standby.group().descriptor();
        let descriptors = [control, cgroup, scratch.tmp.as_fd(), scratch.host.as_fd()];
        match written.and_then(|()| self.send_bytes(bytes, &descriptors)) {
            Ok(()) => {
                self.under_way.push_back(id);
                self.unborn.push_back(standby);
                Ok(())
            }
            Err(error) => Err((Box::new(standby), error.into())),
        }
    }

    /// Asks for another zygote, whose end of its control socket this is.
    pub(super) fn fork_zygote(
        &mut self,
        id: u64,
        control: BorrowedFd<'_>,
        log: BorrowedFd<'_>,
        group: &Group,
        packages: Option<BorrowedFd<'_>>,
    ) -> Result<(), AskError> {
        self.check_room()?;
        let mut roles = Roles::EMPTY
            .with(Role::Control)
            .with(Role::Stdout)
            .with(Role::Stderr)
            .with(Role::Cgroup);
        let mut descriptors = vec![control, log, log, group.descriptor()];
        if let Some(packages) = packages {
            roles = roles.with(Role::Packages);
            descriptors.push(packages);
        }
        let request = Request::ForkZygote(ForkZygote { id, roles });
        self.send(&request, &descriptors)?;
        self.under_way.push_back(id);
        self.forks += 1;
        Ok(())
    }

    fn check_room(&self) -> Result<(), AskError> {
        if self.under_way.len() < FORKS_UNDER_WAY_MAX {
            Ok(())
        } else {
            Err(AskError::Full)
        }
    }

    /// Now, or behind what waits.
    fn send(&mut self, request: &Request<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        write(request, &mut bytes)?;
        self.send_bytes(bytes, descriptors)
    }

    fn send_bytes(&mut self, bytes: Vec<u8>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.unsent.is_empty() {
            match scm::send(self.control.as_fd(), &bytes, descriptors, true) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
        let copies: Result<Vec<_>, _> = descriptors
            .iter()
            .map(BorrowedFd::try_clone_to_owned)
            .collect();
        self.unsent.push_back(Parcel {
            bytes,
            descriptors: copies?,
        });
        Ok(())
    }

    /// To be called when the control socket is writable and something is unsent.
    pub fn on_writable(&mut self) -> io::Result<()> {
        while let Some(parcel) = self.unsent.front() {
            let descriptors: Vec<_> = parcel.descriptors.iter().map(|one| one.as_fd()).collect();
            match scm::send(self.control.as_fd(), &parcel.bytes, &descriptors, true) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                other => other?,
            }
            self.unsent.pop_front();
        }
        Ok(())
    }

    /// To be called when the control socket is readable: all that waits in it, up to a bound.
    /// True when there may be more.
    pub fn on_readable(&mut self, tell: &mut dyn FnMut(ZygoteEvent)) -> bool {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        let mut descriptors = Vec::new();
        for _ in 0..REPLIES_AT_ONCE {
            let received = scm::receive(self.control.as_fd(), &mut bytes, &mut descriptors, true);
            match received {
                Ok(Received::Datagram(length)) => {
                    tell(self.understand(&bytes[..length], descriptors.len()));
                    descriptors.clear();
                }
                Ok(Received::Nothing) => return false,
                Ok(Received::Closed) => {
                    tell(ZygoteEvent::HungUp);
                    return false;
                }
                Err(error) => {
                    tell(ZygoteEvent::Broken {
                        why: error.to_string(),
                    });
                    return false;
                }
            }
        }
        true
    }

    fn understand(&mut self, bytes: &[u8], descriptors: usize) -> ZygoteEvent {
        let reply = match Reply::decode(bytes, descriptors) {
            Ok(reply) => reply,
            Err(error) => {
                return ZygoteEvent::Broken {
                    why: error.to_string(),
                };
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match reply {
            Reply::Imported(imported) => ZygoteEvent::Ready {
                resident_kb: imported.resident_kb,
                threads: imported.threads,
                modules: imported
                    .modules()
                    .map(|(name, us)| (name.to_owned(), us))
                    .collect(),
            },
            Reply::ImportFailed {
                module,
                text: lines,
            } => ZygoteEvent::ImportFailed {
                module: text(module),
                text: text(lines),
            },
            Reply::Forked { id, .. } | Reply::ForkFailed { id, .. } if !self.answered(id) => {
                let why = format!("it answered fork {id:#x}, which was not the next asked");
                ZygoteEvent::Broken { why }
            }
            Reply::Forked { id, pid } => ZygoteEvent::Forked {
                id,
                pid: pid as i32,
            },
            Reply::ForkFailed { id, errno, stage } => ZygoteEvent::ForkFailed {
                id,
                stage,
                errno: errno as i32,
            },
        }
    }

    /// Answers come in the order asked.
    fn answered(&mut self, id: u64) -> bool {
        let expected = self.under_way.front() == Some(&id);
        if expected {
            self.under_way.pop_front();
        }
        expected
    }
}

fn write(request: &Request<'_>, bytes: &mut Vec<u8>) -> io::Result<()> {
    request
        .encode(bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
}

/// What makes a process an instance: the datagram, and the descriptors in the order of the roles,
/// then of the mounts. The first `paths.len()` of an instance's mounts travel.
fn write_order<'a>(
    order: &Order<'a>,
    uid: u32,
    (page, cgroup, network): (
        BorrowedFd<'a>,
        Option<BorrowedFd<'a>>,
        Option<BorrowedFd<'a>>,
    ),
    outfit: &'a Outfit,
    paths: &TextList,
) -> io::Result<(Vec<u8>, Vec<BorrowedFd<'a>>)> {
    let packages = outfit.packages.as_ref().map(AsFd::as_fd);
    let mut roles = Roles::EMPTY;
    let mut descriptors = Vec::new();
    for (role, descriptor) in [
        (Role::Connection, Some(outfit.connection.as_fd())),
        (Role::Seen, Some(page)),
        (Role::Stdout, Some(order.stdout)),
        (Role::Stderr, Some(order.stderr)),
        (Role::Cgroup, cgroup),
        (Role::Network, network),
        (Role::Packages, packages),
    ] {
        if let Some(descriptor) = descriptor {
            roles = roles.with(role);
            descriptors.push(descriptor);
        }
    }
    descriptors.push(outfit.code.as_fd());
    if let Some(scratch) = &outfit.scratch {
        descriptors.extend([scratch.tmp.as_fd(), scratch.host.as_fd()]);
    }
    let request = Request::ForkInstance(ForkInstance {
        id: order.id,
        uid,
        gid: uid,
        limits: ProcessLimits {
            open_files: order.open_files,
            processes: u64::from(order.limits.processes),
            ..ProcessLimits::NONE
        },
        roles,
        hostname: order.hostname.as_bytes(),
        mounts: paths.as_texts(),
        environment: order.environment.as_texts(),
    });
    let mut bytes = Vec::new();
    write(&request, &mut bytes)?;
    Ok((bytes, descriptors))
}
