//! Work on what strangers sent, done by a process that may do nothing else.
//!
//! The worker starts its own program again. The child sees one directory, in which it may write,
//! and the descriptors it was given; it is nobody (an id of its own, no group, no capability), its
//! memory, files and processor time are limited, and it has few system calls or no network. What
//! it made is the worker's once the child is gone.
//!
//! ```text
//!   worker: directory (nobody's) ──▶ start ──▶ wait (bounded) ──▶ directory (root's again)
//!                                      │         ▲
//!   child:                             ├─ chroot, nobody, filter ── unpack, one line: how it went
//!                                      └─ chroot, nobody, no network ── the interpreter compiles
//! ```

#![forbid(unsafe_code)]

use super::code::{Bad, Bounds, Format, unpack};
use crate::sys::{network_namespace, process, seccomp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, chownat};
use rustix::process::Resource;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The first words of a child's command line.
const UNPACK: &str = "unpack-for-worker";
const COMPILE: &str = "compile-for-worker";
/// The program of this very process, also after an upgrade has replaced its file.
const OURSELVES: &str = "/proc/self/exe";

/// How long a child may take.
const TIME_MAX: Duration = Duration::from_mins(1);
const CPU_SECONDS_MAX: u64 = 30;
/// Memory of one that unpacks: constant, but for a zip's table of contents.
const UNPACKING_BYTES_MAX: u64 = 256 << 20;
const COMPILING_BYTES_MAX: u64 = 1 << 30;
const OPEN_FILES_MAX: u64 = 64;
/// What a child may say.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// How work on what strangers sent is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unprivileged {
    /// By a child with this user and group id, which nothing else has.
    Child { id: u32 },
    /// Right here: where nothing is at stake, as in tests.
    InProcess,
}

impl Unprivileged {
    /// Unpacks an archive into an empty directory. Blocks.
    pub fn unpack(self, file: File, format: Format, into: &Path) -> Result<(), Bad> {
        let id = match self {
            Self::Child { id } => id,
            Self::InProcess => return unpack(file, format, into, Bounds::DEFAULT),
        };
        if format == Format::Python {
            // Nothing is read that could mislead anybody.
            return unpack(file, format, into, Bounds::DEFAULT);
        }
        give_to(into, id).map_err(Bad::Host)?;
        let mut command = Command::new(OURSELVES);
        command
            .args([UNPACK, format.ending(), &id.to_string()])
            .arg(into)
            .stdin(file);
        let (answer, how) = run(command).map_err(Bad::Host)?;
        match (answer.split_once(' '), how) {
            (Some(("good", _)), _) => take_back(into).map_err(Bad::Host),
            (Some(("bad", why)), _) => Err(Bad::Archive(why.trim_end().to_owned())),
            (Some(("host", why)), _) => Err(Bad::Host(io::Error::other(why.trim_end().to_owned()))),
            (_, how) => Err(Bad::Archive(format!(
                "it cannot be unpacked within {} MB of memory and {CPU_SECONDS_MAX} s ({how})",
                UNPACKING_BYTES_MAX >> 20
            ))),
        }
    }
}

/// Has a child compile Python files below `code`, whose paths `list` tells a line each: the n-th
/// becomes `n.pyc` in `into`, an empty directory. Answers the tag of the interpreter. Blocks.
pub fn compile(
    id: u32,
    interpreter: &Path,
    root: Option<&Path>,
    (code, into): (&Path, &Path),
    list: &Path,
) -> io::Result<String> {
    give_to(into, id)?;
    let mut command = Command::new(OURSELVES);
    command
        .args([COMPILE, &id.to_string()])
        .args([into, code, root.unwrap_or(Path::new("/")), interpreter])
        .stdin(File::open(list)?);
    let (answer, how) = run(command)?;
    match answer.strip_prefix("tag ") {
        Some(tag) => Ok(tag.trim_end().to_owned()),
        None => Err(io::Error::other(format!(
            "it was not compiled: {how} {answer}"
        ))),
    }
}

/// Runs a child to its end: what it said, and how it ended.
fn run(mut command: Command) -> io::Result<(String, String)> {
    command.env_clear().stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let answer = listen(&mut child);
    if answer.is_err() {
        child.kill()?;
    }
    let how = child.wait()?;
    Ok((answer.unwrap_or_default(), how.to_string()))
}

/// Until the child closes its output.
fn listen(child: &mut Child) -> io::Result<String> {
    let output = child.stdout.take().expect("it was made with a pipe");
    let mut left = TIME_MAX;
    let mut answer = Vec::new();
    while answer.len() as u64 <= ANSWER_BYTES_MAX {
        let begun = crate::sys::clock::now();
        let mut polled = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        if poll(&mut polled, Some(&timeout))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        left = left.saturating_sub(crate::sys::clock::now().since(begun));
        let mut piece = [0; 1024];
        match rustix::io::read(&output, &mut piece)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn give_to(directory: &Path, id: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    Ok(chownat(
        CWD,
        directory,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Everything below becomes root's. The child is gone, so nothing changes meanwhile.
fn take_back(directory: &Path) -> io::Result<()> {
    give_to(directory, 0)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            take_back(&entry.path())?;
        } else {
            give_to(&entry.path(), 0)?;
        }
    }
    Ok(())
}

/// What a process that was started so does; none for any other.
pub fn as_child(words: &[OsString]) -> Option<ExitCode> {
    let text: Vec<&str> = words
        .iter()
        .map(|word| word.to_str().unwrap_or(""))
        .collect();
    let answer = match text[..] {
        [UNPACK, ending, id, into] => unpack_here(ending, id, Path::new(into)),
        [COMPILE, id, into, code, root, interpreter] => compile_here(
            id,
            [into, code, root].map(PathBuf::from),
            Path::new(interpreter),
        ),
        _ => return None,
    };
    let line = answer.unwrap_or_else(|error| format!("host {error}"));
    let said = io::stdout().write_all(line.as_bytes());
    Some(if said.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn number(text: &str) -> io::Result<u32> {
    text.parse().map_err(io::Error::other)
}

fn unpack_here(ending: &str, id: &str, into: &Path) -> io::Result<String> {
    let format = Format::ALL
        .into_iter()
        .find(|format| format.ending() == ending);
    let format = format.ok_or(io::ErrorKind::InvalidInput)?;
    let archive = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    rustix::process::chroot(into)?;
    rustix::process::chdir("/")?;
    process::become_nobody(number(id)?)?;
    limit(UNPACKING_BYTES_MAX, Bounds::DEFAULT.bytes_max)?;
    process::limit(Resource::Nproc, 0)?;
    seccomp::install(&seccomp::unpacking())?;
    Ok(
        match unpack(archive, format, Path::new("/"), Bounds::DEFAULT) {
            Ok(()) => "good \n".to_owned(),
            Err(Bad::Archive(why)) => format!("bad {why}\n"),
            Err(Bad::Host(error)) => format!("host {error}\n"),
        },
    )
}

fn limit(memory_bytes: u64, file_bytes: u64) -> io::Result<()> {
    process::forbid_core_dumps()?;
    process::limit(Resource::As, memory_bytes)?;
    process::limit(Resource::Fsize, file_bytes)?;
    process::limit(Resource::Cpu, CPU_SECONDS_MAX)?;
    process::limit(Resource::Nofile, OPEN_FILES_MAX)
}

/// The interpreter finds the code as descriptor 0's neighbour: the list is its standard input, the
/// directory to write to the one it is in.
const COMPILER: &str = include_str!("../../runtimes/python/compile.py");

fn compile_here(
    id: &str,
    [into, code, root]: [PathBuf; 3],
    interpreter: &Path,
) -> io::Result<String> {
    let code = File::open(code)?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    rustix::process::chdir(&into)?;
    if root != Path::new("/") {
        // The present directory stays what it is, outside of the new root.
        rustix::process::chroot(&root)?;
    }
    network_namespace::leave()?;
    process::become_nobody(number(id)?)?;
    limit(COMPILING_BYTES_MAX, Bounds::DEFAULT.bytes_max)?;
    rustix::process::setpriority_process(None, 19)?;
    seccomp::install(&seccomp::broad())?;
    rustix::io::fcntl_setfd(&code, rustix::io::FdFlags::empty())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&code).to_string();
    let error = Command::new(interpreter)
        .args(["-I", "-S", "-B", "-c", COMPILER, &number])
        .env_clear()
        .exec();
    Err(error)
}

/// What a child made: a plain file of bounded length, read without following any link.
pub fn read_made(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    use rustix::fs::{OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        file => File::from(file?),
    };
    let data = file.metadata()?;
    if !data.is_file() || data.len() > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
