//! Datagrams between the worker and a zygote, and what travels beside them.
//!
//! One datagram is one message over a SOCK_SEQPACKET socket. Four bytes (kind, number of
//! descriptors, two zero bytes), then the fields in the order of the structs below: integers
//! little endian, lists of texts with their length before them. Descriptors come by SCM_RIGHTS in
//! the order that `Roles` says, those for mounts after them.
//!
//! ```text
//!   worker                                   zygote
//!     | -- Import (modules) -------------------> |   once, the first message it gets
//!     | <------------- Imported | ImportFailed - |
//!     | -- ForkInstance, ForkInstance, ... ----> |   any number in flight
//!     | <--------------- Forked | ForkFailed --- |   in the order asked
//!     | -- ForkZygote + control socket --------> |   the new one finds its Import in that socket
//!     | -- ForkStandby + control socket -------> |   a child that waits in that socket for the
//!     |                                          |   ForkInstance that it becomes itself
//!     | -- (closes) ---------------------------> |   the zygote ends; what it forked lives on
//! ```

use super::FrameError;
use super::text::Texts;
use alloc::vec::Vec;

/// Below the smallest default of a socket's send buffer.
pub const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Descriptors of one datagram.
pub const DESCRIPTORS_MAX: usize = 32;

const HEADER_BYTES: usize = 4;

/// What the worker asks of a zygote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    ForkInstance(ForkInstance<'a>),
    ForkZygote(ForkZygote),
    ForkStandby(ForkStandby<'a>),
    Import(Import<'a>),
}

/// Become an instance: an own process with the descriptors and the identity given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkInstance<'a> {
    /// Comes back in the reply.
    pub id: u64,
    pub uid: u32,
    pub gid: u32,
    pub limits: ProcessLimits,
    /// The descriptors that travel along, in the order of `Role`.
    pub roles: Roles,
    pub hostname: &'a [u8],
    /// Where the mounts go whose descriptors follow those of the roles, the root (`/`) first.
    pub mounts: Texts<'a>,
    /// `NAME=value`; all the instance gets to see, the runtime's own settings among them.
    pub environment: Texts<'a>,
}

/// Become a zygote of your own, served through the control socket that travels along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkZygote {
    pub id: u64,
    pub roles: Roles,
}

/// A child that has gone as far towards an instance as it can without knowing whose, and waits in
/// the control socket that travels along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkStandby<'a> {
    pub id: u64,
    pub roles: Roles,
    /// Where the mounts go whose descriptors follow those of the roles.
    pub mounts: Texts<'a>,
}

/// Import these, in this order, then serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import<'a> {
    pub modules: Texts<'a>,
    /// Directories to search, before the standard library's.
    pub paths: Texts<'a>,
}

/// Hard and soft limits of an instance's process; `UNLIMITED` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLimits {
    pub open_files: u64,
    /// Processes and threads of its uid.
    pub processes: u64,
    pub file_bytes: u64,
    pub address_space_bytes: u64,
}

impl ProcessLimits {
    pub const UNLIMITED: u64 = u64::MAX;
    pub const NONE: Self = Self {
        open_files: Self::UNLIMITED,
        processes: Self::UNLIMITED,
        file_bytes: Self::UNLIMITED,
        address_space_bytes: Self::UNLIMITED,
    };
}

/// What a descriptor is for. They travel in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// The instance's end of the stream of frames.
    Connection,
    /// The page `seen` describes.
    Seen,
    /// The control socket of a new zygote.
    Control,
    Stdout,
    Stderr,
    /// The directory of the cgroup to be born into.
    Cgroup,
    /// The network namespace to enter.
    Network,
    /// The mount of what it sees as /packages.
    Packages,
}

impl Role {
    pub const ALL: [Self; 8] = [
        Self::Connection,
        Self::Seen,
        Self::Control,
        Self::Stdout,
        Self::Stderr,
        Self::Cgroup,
        Self::Network,
        Self::Packages,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    bits: u8,
}

impl Roles {
    pub const EMPTY: Self = Self { bits: 0 };

    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self {
            bits: self.bits | role.bit(),
        }
    }

    pub const fn has(self, role: Role) -> bool {
        self.bits & role.bit() != 0
    }

    pub const fn count(self) -> usize {
        self.bits.count_ones() as usize
    }

    /// The place of a role's descriptor among those that travel.
    pub const fn place(self, role: Role) -> Option<usize> {
        if !self.has(role) {
            return None;
        }
        Some((self.bits & (role.bit() - 1)).count_ones() as usize)
    }

    const fn from_bits(bits: u8) -> Self {
        const { assert!(Role::ALL.len() == u8::BITS as usize, "every bit is a role") };
        Self { bits }
    }
}

/// What a zygote tells the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The worker is the parent, so the pid stays the child's until the worker has reaped it. No
    /// descriptor travels along: one from a zygote could be anybody's.
    Forked {
        id: u64,
        pid: u32,
    },
    ForkFailed {
        id: u64,
        errno: u32,
        stage: ForkStage,
    },
    Imported(Imported<'a>),
    /// A module raised: the last lines of Python.
    ImportFailed {
        module: &'a [u8],
        text: &'a [u8],
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported<'a> {
    /// Memory of the whole process, shared parts included.
    pub resident_kb: u64,
    /// More than one: nothing may be forked from this zygote.
    pub threads: u32,
    modules: Texts<'a>,
}

impl<'a> Imported<'a> {
    /// `modules`: name and microseconds of each, in turns.
    pub const fn new(resident_kb: u64, threads: u32, modules: Texts<'a>) -> Self {
        Self {
            resident_kb,
            threads,
            modules,
        }
    }

    /// Each module asked for with the microseconds its import took, in the order asked.
    pub fn modules(&self) -> impl Iterator<Item = (&'a str, u64)> + Clone {
        let text = |bytes| core::str::from_utf8(bytes).unwrap_or("");
        let micros = self.modules.iter().skip(1).step_by(2);
        let names = self.modules.iter().step_by(2);
        names
            .zip(micros)
            .map(move |(name, us)| (text(name), text(us).parse().unwrap_or(0)))
    }
}

/// How far a fork came that failed in the zygote. What fails in the child is told through the
/// instance's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ForkStage {
    /// The request made no sense: wrong descriptors, malformed.
    Request = 1,
    /// The zygote has more than one thread.
    Threads = 2,
    Clone = 3,
}

const FORK_INSTANCE: u8 = 1;
const FORK_ZYGOTE: u8 = 2;
const IMPORT: u8 = 3;
const FORK_STANDBY: u8 = 4;
const FORKED: u8 = 0x81;
const FORK_FAILED: u8 = 0x82;
const IMPORTED: u8 = 0x83;
const IMPORT_FAILED: u8 = 0x84;

impl<'a> Request<'a> {
    /// How many descriptors travel along.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::ForkInstance(fork) => fork.roles.count() + fork.mounts.iter().count(),
            Self::ForkZygote(fork) => fork.roles.count(),
            Self::ForkStandby(fork) => fork.roles.count() + fork.mounts.iter().count(),
            Self::Import(_) => 0,
        }
    }

    /// Replaces what is in `out` by the datagram.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let descriptors = self.descriptors();
        match *self {
            Self::ForkInstance(fork) => {
                start(out, FORK_INSTANCE, descriptors)?;
                out.extend_from_slice(&fork.id.to_le_bytes());
                out.extend_from_slice(&fork.uid.to_le_bytes());
                out.extend_from_slice(&fork.gid.to_le_bytes());
                for limit in [
                    fork.limits.open_files,
                    fork.limits.processes,
                    fork.limits.file_bytes,
                    fork.limits.address_space_bytes,
                ] {
                    out.extend_from_slice(&limit.to_le_bytes());
                }
                out.push(fork.roles.bits);
                for section in [
                    fork.hostname,
                    fork.mounts.joined(),
                    fork.environment.joined(),
                ] {
                    push_section(out, section);
                }
            }
            Self::ForkZygote(fork) => {
                start(out, FORK_ZYGOTE, descriptors)?;
                out.extend_from_slice(&fork.id.to_le_bytes());
                out.push(fork.roles.bits);
            }
            Self::ForkStandby(fork) => {
                start(out, FORK_STANDBY, descriptors)?;
                out.extend_from_slice(&fork.id.to_le_bytes());
                out.push(fork.roles.bits);
                push_section(out, fork.mounts.joined());
            }
            Self::Import(import) => {
                start(out, IMPORT, descriptors)?;
                push_section(out, import.modules.joined());
                push_section(out, import.paths.joined());
            }
        }
        check_length(out)
    }

    /// Reads a datagram that came with `received` descriptors.
    pub fn decode(bytes: &'a [u8], received: usize) -> Result<Self, FrameError> {
        let (kind, mut reader) = open(bytes, received)?;
        let request = match kind {
            FORK_INSTANCE => Self::ForkInstance(ForkInstance {
                id: reader.u64()?,
                uid: reader.u32()?,
                gid: reader.u32()?,
                limits: ProcessLimits {
                    open_files: reader.u64()?,
                    processes: reader.u64()?,
                    file_bytes: reader.u64()?,
                    address_space_bytes: reader.u64()?,
                },
                roles: Roles::from_bits(reader.u8()?),
                hostname: reader.section()?,
                mounts: Texts::new(reader.section()?),
                environment: Texts::new(reader.section()?),
            }),
            FORK_ZYGOTE => Self::ForkZygote(ForkZygote {
                id: reader.u64()?,
                roles: Roles::from_bits(reader.u8()?),
            }),
            FORK_STANDBY => Self::ForkStandby(ForkStandby {
                id: reader.u64()?,
                roles: Roles::from_bits(reader.u8()?),
                mounts: Texts::new(reader.section()?),
            }),
            IMPORT => Self::Import(Import {
                modules: Texts::new(reader.section()?),
                paths: Texts::new(reader.section()?),
            }),
            _ => return Err(FrameError::UnknownKind(kind)),
        };
        reader.finish()?;
        let announced = request.descriptors();
        if announced != received {
            return Err(FrameError::WrongDescriptors {
                announced,
                received,
            });
        }
        Ok(request)
    }
}

impl<'a> Reply<'a> {
    /// How many descriptors travel along: none with any reply.
    pub const fn descriptors(&self) -> usize {
        0
    }

    /// Replaces what is in `out` by the datagram.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let descriptors = self.descriptors();
        match *self {
            Self::Forked { id, pid } => {
                start(out, FORKED, descriptors)?;
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&pid.to_le_bytes());
            }
            Self::ForkFailed { id, errno, stage } => {
                start(out, FORK_FAILED, descriptors)?;
                out.extend_from_slice(&id.to_le_bytes());
                out.extend_from_slice(&errno.to_le_bytes());
                out.push(stage as u8);
            }
            Self::Imported(imported) => {
                start(out, IMPORTED, descriptors)?;
                out.extend_from_slice(&imported.resident_kb.to_le_bytes());
                out.extend_from_slice(&imported.threads.to_le_bytes());
                push_section(out, imported.modules.joined());
            }
            Self::ImportFailed { module, text } => {
                start(out, IMPORT_FAILED, descriptors)?;
                push_section(out, module);
                push_section(out, text);
            }
        }
        check_length(out)
    }

    pub fn decode(bytes: &'a [u8], received: usize) -> Result<Self, FrameError> {
        let (kind, mut reader) = open(bytes, received)?;
        let reply = match kind {
            FORKED => Self::Forked {
                id: reader.u64()?,
                pid: reader.u32()?,
            },
            FORK_FAILED => Self::ForkFailed {
                id: reader.u64()?,
                errno: reader.u32()?,
                stage: match reader.u8()? {
                    1 => ForkStage::Request,
                    2 => ForkStage::Threads,
                    3 => ForkStage::Clone,
                    other => return Err(FrameError::UnknownValue(other as u64)),
                },
            },
            IMPORTED => Self::Imported(Imported {
                resident_kb: reader.u64()?,
                threads: reader.u32()?,
                modules: Texts::new(reader.section()?),
            }),
            IMPORT_FAILED => Self::ImportFailed {
                module: reader.section()?,
                text: reader.section()?,
            },
            _ => return Err(FrameError::UnknownKind(kind)),
        };
        reader.finish()?;
        let announced = reply.descriptors();
        if announced != received {
            return Err(FrameError::WrongDescriptors {
                announced,
                received,
            });
        }
        Ok(reply)
    }
}

fn start(out: &mut Vec<u8>, kind: u8, descriptors: usize) -> Result<(), FrameError> {
    if descriptors > DESCRIPTORS_MAX {
        return Err(FrameError::TooLong {
            bytes: descriptors,
            bytes_max: DESCRIPTORS_MAX,
        });
    }
    out.clear();
    out.extend_from_slice(&[kind, descriptors as u8, 0, 0]);
    Ok(())
}

fn push_section(out: &mut Vec<u8>, section: &[u8]) {
    out.extend_from_slice(&(section.len() as u32).to_le_bytes());
    out.extend_from_slice(section);
}

const fn check_length(out: &[u8]) -> Result<(), FrameError> {
    if out.len() > DATAGRAM_BYTES_MAX {
        return Err(FrameError::TooLong {
            bytes: out.len(),
            bytes_max: DATAGRAM_BYTES_MAX,
        });
    }
    Ok(())
}

/// Checks the four bytes every datagram begins with.
fn open(bytes: &[u8], received: usize) -> Result<(u8, Reader<'_>), FrameError> {
    check_length(bytes)?;
    let (header, rest) = bytes.split_first_chunk().ok_or(FrameError::Truncated)?;
    let [kind, descriptors, zero, also_zero]: [u8; HEADER_BYTES] = *header;
    if zero != 0 || also_zero != 0 {
        return Err(FrameError::ReservedUsed);
    }
    let announced = descriptors as usize;
    if announced != received {
        return Err(FrameError::WrongDescriptors {
            announced,
            received,
        });
    }
    Ok((kind, Reader { rest }))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(self.chunk::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    fn section(&mut self) -> Result<&'a [u8], FrameError> {
        let length = self.u32()? as usize;
        let (section, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(section)
    }

    const fn finish(self) -> Result<(), FrameError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Surplus(self.rest.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::TextList;
    use super::*;
    use proptest::prelude::*;

    fn requests(mounts: &TextList, environment: &TextList) -> Vec<Vec<u8>> {
        let roles = Roles::EMPTY
            .with(Role::Connection)
            .with(Role::Cgroup)
            .with(Role::Seen);
        let fork = ForkInstance {
            id: 7 << 40,
            uid: 300_001,
            gid: 300_002,
            limits: ProcessLimits {
                open_files: 1024,
                ..ProcessLimits::NONE
            },
            roles,
            hostname: b"echo",
            mounts: mounts.as_texts(),
            environment: environment.as_texts(),
        };
        let zygote = ForkZygote {
            id: 9,
            roles: Roles::EMPTY.with(Role::Control),
        };
        let standby = ForkStandby {
            id: 11,
            roles: Roles::EMPTY.with(Role::Control).with(Role::Cgroup),
            mounts: mounts.as_texts(),
        };
        let import = Import {
            modules: environment.as_texts(),
            paths: mounts.as_texts(),
        };
        [
            Request::ForkInstance(fork),
            Request::ForkZygote(zygote),
            Request::ForkStandby(standby),
            Request::Import(import),
        ]
        .iter()
        .map(|request| {
            let mut out = Vec::new();
            request.encode(&mut out).unwrap();
            assert_eq!(Request::decode(&out, request.descriptors()), Ok(*request));
            out
        })
        .collect()
    }

    fn lists() -> (TextList, TextList) {
        let mounts = TextList::collect([&b"/"[..], b"/handler"]).unwrap();
        let environment = TextList::collect([&b"OL_FUNCTION=echo"[..], b"A="]).unwrap();
        (mounts, environment)
    }

    #[test]
    fn requests_survive_the_trip() {
        let (mounts, environment) = lists();
        assert_eq!(requests(&mounts, &environment).len(), 4);
        requests(&TextList::new(), &TextList::new());
    }

    #[test]
    fn replies_survive_the_trip() {
        let modules = TextList::collect([&b"numpy"[..], b"137000", b"pandas", b"345000"]).unwrap();
        let imported = Imported {
            resident_kb: 70_000,
            threads: 2,
            modules: modules.as_texts(),
        };
        let told: Vec<_> = imported.modules().collect();
        assert_eq!(told, [("numpy", 137_000), ("pandas", 345_000)]);
        for reply in [
            Reply::Forked { id: 3, pid: 4711 },
            Reply::ForkFailed {
                id: 3,
                errno: 11,
                stage: ForkStage::Clone,
            },
            Reply::Imported(imported),
            Reply::ImportFailed {
                module: b"numpy",
                text: b"ImportError: no",
            },
        ] {
            let mut out = Vec::new();
            reply.encode(&mut out).unwrap();
            assert_eq!(Reply::decode(&out, reply.descriptors()), Ok(reply));
        }
    }

    #[test]
    fn descriptors_are_found_by_role() {
        let roles = Roles::EMPTY
            .with(Role::Cgroup)
            .with(Role::Connection)
            .with(Role::Stderr);
        let places: Vec<_> = Role::ALL.iter().map(|role| roles.place(*role)).collect();
        assert_eq!(
            places,
            [Some(0), None, None, None, Some(1), Some(2), None, None]
        );
    }

    #[test]
    fn missing_descriptors_are_noticed() {
        let (mounts, environment) = lists();
        let out = &requests(&mounts, &environment)[0];
        let error = FrameError::WrongDescriptors {
            announced: 5,
            received: 4,
        };
        assert_eq!(Request::decode(out, 4), Err(error));
        let mut forged = out.clone();
        forged[1] = 4;
        assert_eq!(Request::decode(&forged, 4), Err(error));
    }

    #[test]
    fn every_shorter_datagram_is_truncated_and_every_longer_one_surplus() {
        let (mounts, environment) = lists();
        for out in requests(&mounts, &environment) {
            let received = out[1] as usize;
            for end in 0..out.len() {
                assert_eq!(
                    Request::decode(&out[..end], received),
                    Err(FrameError::Truncated)
                );
            }
            let longer = [&out[..], b"x"].concat();
            assert_eq!(
                Request::decode(&longer, received),
                Err(FrameError::Surplus(1))
            );
        }
    }

    #[test]
    fn a_datagram_too_long_is_refused_before_it_is_sent() {
        let path = alloc::vec![b'x'; DATAGRAM_BYTES_MAX];
        let list = TextList::collect([&path[..]]).unwrap();
        let import = Import {
            modules: Texts::default(),
            paths: list.as_texts(),
        };
        let error = Request::Import(import).encode(&mut Vec::new()).unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLong {
                bytes_max: DATAGRAM_BYTES_MAX,
                ..
            }
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            received in 0_usize..9,
        ) {
            let _ = Request::decode(&bytes, received);
            if let Ok(Reply::Imported(imported)) = Reply::decode(&bytes, received) {
                let _ = imported.modules().count();
            }
        }
    }
}
