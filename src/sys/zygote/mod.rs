//! The zygote's loop, in native code inside a Python process.
//!
//! A zygote is an interpreter that has imported packages and then forks on request. Its loop is
//! here and not in Python because every Python statement between two forks writes to pages that
//! are shared with all children: a loop in Python dirties ten times as much for each fork.
//!
//! ```text
//!   worker --Import-->       Python imports, says imported --> serving
//!          --ForkInstance--> clone3 --child: birth (the jail), then Python serves calls
//!                                   \-parent: Forked, next request
//!          --ForkZygote-->   clone3 --child: new control socket, then waits for its own Import
//!                                   \-parent: Forked, next request
//!          --ForkStandby-->  clone3 --child: half of the birth, Python rehearses, then waits for
//!                                   |        the ForkInstance that it becomes itself
//!                                   \-parent: Forked, next request
//!          --closes-->       Python ends
//! ```
//!
//! # What Python does
//!
//! It is started by the worker as `INTERPRETER -I -S -B /olworker/start.py zygote`, in its jail,
//! with these descriptors: 0 `/dev/null`, 1 and 2 the worker's log, 3 the control socket, 4 this
//! library. It loads the library with `ctypes.PyDLL("/proc/self/fd/4")` (PyDLL keeps the GIL: the
//! child must come back holding it), and from then on:
//!
//! ```text
//! library.ol_zygote_begin()
//! serve = library.ol_zygote_serve        # (c_char_p buffer, c_size_t capacity,
//! POINTER(c_size_t)) while True:
//!     what = serve(buffer, len(buffer), byref(length))
//!     text = buffer.raw[:length.value]
//!     if what == 0: os._exit(0)          # the worker has gone or wants no more
//!     if what == 1: ...                  # this process is a new instance; never call serve again
//!     if what == 2: ...                  # import, then ol_zygote_imported or _import_failed
//!     if what == 3: ...                  # this process stands by: rehearse, then serve again
//!     if what < 0:  os._exit(1)          # -errno: the control socket is broken
//! ```
//!
//! - **1, an instance.** Everything of the jail is done. Descriptor 3 is its connection (stream of
//!   frames), 4 the file of the page `wire::seen` describes; nothing else is open but 0, 1, 2.
//!   `text` is its environment: `NAME=value` joined by NUL. The fork hooks of Python have run.
//!   What `ol_zygote_renew` was told of holds new random numbers.
//! - **2, import.** `text` is the modules, joined by NUL, two NULs, the directories to search,
//!   joined
//!   by NUL. Garbage collection is Python's business: collect, freeze, stay disabled, before
//!   reporting. Afterwards `ol_zygote_imported(told, length)` with module and microseconds of each,
//!   all joined by NUL, or `ol_zygote_import_failed(module, length, text, length)` and `_exit(1)`.
//!   Both return 0 or -errno.
//!
//! - **3, a standby.** A child forked ahead, with everything of the jail done that does not depend
//!   on the function. The fork hooks of Python have run. What it touches now it need not touch
//!   when somebody waits for it. The next `ol_zygote_serve` comes back with 1, or 0.
//!
//! A capacity of [`TEXT_BYTES_MAX`] is enough for any text.

mod arenas;
mod birth;
mod hooks;
mod huge;
mod renew;
mod text;

use super::clone::{CloneFlags, Forked, clone3};
use super::process;
use super::scm::{self, Received};
use crate::wire::text::Texts;
use crate::wire::zygote::{
    DATAGRAM_BYTES_MAX, ForkInstance, ForkStage, ForkStandby, ForkZygote, Imported, Reply, Request,
    Role, Roles,
};
use birth::Part;
use core::ffi::{c_char, c_int};
use core::sync::atomic::{AtomicBool, Ordering};
use hooks::Hooks;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// Where the control socket is, in every zygote.
pub const CONTROL: RawFd = 3;
/// Where the worker puts this library for Python to load.
pub const LIBRARY: RawFd = 4;
/// Where an instance finds its connection and its page.
pub const CONNECTION: RawFd = 3;
pub const SEEN: RawFd = 4;
/// Set by the worker for zygotes (and instances) that install no filter.
pub const NO_FILTER_VARIABLE: &str = "OLWORKER_NO_FILTER";
/// The longest text `ol_zygote_serve` hands to Python.
pub const TEXT_BYTES_MAX: usize = DATAGRAM_BYTES_MAX;
/// Of what Python says about a failed import.
const TEXT_KEPT: usize = DATAGRAM_BYTES_MAX / 2;
/// The exit code of a child whose sandbox could not be set up.
pub const BIRTH_FAILED: i32 = 125;

/// What Python is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Work {
    End = 0,
    Instance = 1,
    Import = 2,
    Standby = 3,
}

/// This process stands by: the next order is its own.
static STANDS_BY: AtomicBool = AtomicBool::new(false);

/// What an instance is born into.
const BORN_INTO: CloneFlags = CloneFlags::SIBLING
    .and(CloneFlags::NEW_PID)
    .and(CloneFlags::NEW_MOUNT)
    .and(CloneFlags::NEW_IPC)
    .and(CloneFlags::NEW_UTS);

/// Before anything is imported: Python's objects are kept where huge pages can hold them.
///
/// # Safety
/// The caller is Python's only thread and holds the GIL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ol_zygote_begin() {
    if let Some(address) = arenas::take_over() {
        // Without huge pages children fault its code in, and that is all.
        let _ = text::gather(address);
    }
}

/// Has `bytes` at `address` filled with random numbers in each child, and `index` written to
/// `index_address`. 0, or 1 when there are as many such tables as there may be.
///
/// # Safety
/// All of that is memory of this process that may be written, for as long as it lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ol_zygote_renew(
    address: usize,
    bytes: usize,
    index_address: usize,
    index: u32,
) -> c_int {
    let table = renew::Table {
        address,
        bytes,
        index_address,
        index,
    };
    c_int::from(!renew::add(table))
}

/// Serves requests until there is work for Python: see the head of this file.
///
/// # Safety
/// `buffer` points at `capacity` bytes that may be written, `length` at one number; the caller is
/// Python's only thread and holds the GIL; 3 and 4 are what the worker made them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ol_zygote_serve(
    buffer: *mut u8,
    capacity: usize,
    length: *mut usize,
) -> c_int {
    // SAFETY: by the caller's word.
    let text = unsafe { core::slice::from_raw_parts_mut(buffer, capacity) };
    let mut out = TextOut {
        bytes: text,
        length: 0,
    };
    let answer = match serve(&mut out) {
        Ok(work) => work as c_int,
        Err(error) => -error.raw_os_error().unwrap_or(libc::EPROTO),
    };
    // SAFETY: by the caller's word.
    unsafe { length.write(out.length) };
    answer
}

/// Tells the worker that everything is imported: module and microseconds of each, joined by NUL.
///
/// # Safety
/// `told` points at `bytes` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ol_zygote_imported(told: *const c_char, bytes: usize) -> c_int {
    // SAFETY: by the caller's word.
    let told = unsafe { core::slice::from_raw_parts(told.cast::<u8>(), bytes) };
    // Without huge pages forks cost more, and that is all.
    let _ = huge::gather();
    let imported = resident_kb().and_then(|resident_kb| {
        let threads = process::threads()?;
        reply(&Reply::Imported(Imported::new(
            resident_kb,
            threads,
            Texts::new(told),
        )))
    });
    as_code(imported)
}

/// Tells the worker which module raised, and what Python says about it.
///
/// # Safety
/// Both pointers point at as many readable bytes as said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ol_zygote_import_failed(
    module: *const c_char,
    module_bytes: usize,
    text: *const c_char,
    text_bytes: usize,
) -> c_int {
    // SAFETY: by the caller's word.
    let module = unsafe { core::slice::from_raw_parts(module.cast::<u8>(), module_bytes) };
    // SAFETY: by the caller's word.
    let text = unsafe { core::slice::from_raw_parts(text.cast::<u8>(), text_bytes) };
    let text = &text[text.len().saturating_sub(TEXT_KEPT)..];
    let module = &module[..module.len().min(TEXT_KEPT / 2)];
    as_code(reply(&Reply::ImportFailed { module, text }))
}

fn as_code(result: io::Result<()>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => -error.raw_os_error().unwrap_or(libc::EPROTO),
    }
}

/// The buffer Python reads.
struct TextOut<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl TextOut<'_> {
    fn put(&mut self, part: &[u8]) -> io::Result<()> {
        let end = self.length + part.len();
        let place = self
            .bytes
            .get_mut(self.length..end)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        place.copy_from_slice(part);
        self.length = end;
        Ok(())
    }
}

fn serve(out: &mut TextOut<'_>) -> io::Result<Work> {
    let hooks = Hooks::find();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut descriptors = Vec::new();
    loop {
        descriptors.clear();
        let bytes = match scm::receive(control(), &mut buffer, &mut descriptors, false)? {
            Received::Datagram(bytes) => &buffer[..bytes],
            Received::Closed => return Ok(Work::End),
            Received::Nothing => unreachable!("a blocking receive waits"),
        };
        let request = Request::decode(bytes, descriptors.len())
            .map_err(|_| io::Error::from_raw_os_error(libc::EPROTO))?;
        let stands_by = STANDS_BY.load(Ordering::Relaxed);
        let work = match request {
            Request::ForkInstance(fork) if stands_by => {
                birth::become_instance(&fork, core::mem::take(&mut descriptors), Part::Rest);
                out.put(fork.environment.joined())?;
                Some(Work::Instance)
            }
            _ if stands_by => return Err(io::Error::from_raw_os_error(libc::EPROTO)),
            Request::Import(import) => {
                out.put(import.modules.joined())?;
                out.put(b"\0\0")?;
                out.put(import.paths.joined())?;
                Some(Work::Import)
            }
            Request::ForkInstance(fork) => fork_instance(&hooks, &fork, &mut descriptors, out)?,
            Request::ForkZygote(fork) => {
                fork_zygote(&hooks, &fork, &descriptors)?;
                None
            }
            Request::ForkStandby(fork) => fork_standby(&hooks, &fork, &mut descriptors)?,
        };
        if let Some(work) = work {
            return Ok(work);
        }
    }
}

/// In the parent none; in the child the work of an instance.
fn fork_instance(
    hooks: &Hooks,
    fork: &ForkInstance<'_>,
    descriptors: &mut Vec<OwnedFd>,
    out: &mut TextOut<'_>,
) -> io::Result<Option<Work>> {
    if !fork.roles.has(Role::Connection) {
        return refuse(fork.id).map(|()| None);
    }
    let cgroup = by_role(fork.roles, Role::Cgroup, descriptors);
    match fork_here(hooks, fork.id, BORN_INTO, cgroup)? {
        Side::Zygote => Ok(None),
        Side::Child => {
            birth::become_instance(fork, core::mem::take(descriptors), Part::Whole);
            renew::all()?;
            hooks.after_in_child();
            out.put(fork.environment.joined())?;
            Ok(Some(Work::Instance))
        }
    }
}

/// In the parent none; in the child the work of a standby.
fn fork_standby(
    hooks: &Hooks,
    fork: &ForkStandby<'_>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Option<Work>> {
    if !fork.roles.has(Role::Control) {
        return refuse(fork.id).map(|()| None);
    }
    let cgroup = by_role(fork.roles, Role::Cgroup, descriptors);
    match fork_here(hooks, fork.id, BORN_INTO, cgroup)? {
        Side::Zygote => Ok(None),
        Side::Child => {
            birth::become_standby(fork, core::mem::take(descriptors))?;
            STANDS_BY.store(true, Ordering::Relaxed);
            renew::all()?;
            hooks.after_in_child();
            Ok(Some(Work::Standby))
        }
    }
}

/// The request made no sense.
fn refuse(id: u64) -> io::Result<()> {
    reply(&Reply::ForkFailed {
        id,
        errno: libc::EINVAL as u32,
        stage: ForkStage::Request,
    })
}

/// In the child the loop goes on, with another control socket.
fn fork_zygote(hooks: &Hooks, fork: &ForkZygote, descriptors: &[OwnedFd]) -> io::Result<()> {
    let Some(new_control) = by_role(fork.roles, Role::Control, descriptors) else {
        return refuse(fork.id);
    };
    let cgroup = by_role(fork.roles, Role::Cgroup, descriptors);
    // Other packages are seen by nobody but the child and what is forked from it.
    let flags = if fork.roles.has(Role::Packages) {
        CloneFlags::SIBLING.and(CloneFlags::NEW_MOUNT)
    } else {
        CloneFlags::SIBLING
    };
    match fork_here(hooks, fork.id, flags, cgroup)? {
        Side::Zygote => Ok(()),
        Side::Child => {
            birth::become_zygote(fork.roles, new_control, descriptors)?;
            hooks.after_in_child();
            Ok(())
        }
    }
}

/// Where a fork comes back.
enum Side {
    /// In the zygote; the worker has its answer, good or bad.
    Zygote,
    Child,
}

fn fork_here(
    hooks: &Hooks,
    id: u64,
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Side> {
    if process::threads()? != 1 {
        let stage = ForkStage::Threads;
        reply(&Reply::ForkFailed {
            id,
            errno: libc::EAGAIN as u32,
            stage,
        })?;
        return Ok(Side::Zygote);
    }
    hooks.before();
    // SAFETY: this process has one thread, as was just seen.
    let forked = unsafe { clone3(flags, cgroup) };
    if matches!(forked, Ok(Forked::Child)) {
        return Ok(Side::Child);
    }
    hooks.after_in_parent();
    match forked {
        Ok(Forked::Parent { pid, .. }) => {
            let pid = pid.as_raw_nonzero().get() as u32;
            reply(&Reply::Forked { id, pid })?;
        }
        Ok(Forked::Child) => unreachable!("the child has returned above"),
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL) as u32;
            reply(&Reply::ForkFailed {
                id,
                errno,
                stage: ForkStage::Clone,
            })?;
        }
    }
    Ok(Side::Zygote)
}

/// The control socket. Python has no say in it, and nobody ever closes it before the process ends.
fn control() -> BorrowedFd<'static> {
    // SAFETY: the worker, or the fork that made this zygote, put a socket there for good.
    unsafe { BorrowedFd::borrow_raw(CONTROL) }
}

fn reply(reply: &Reply<'_>) -> io::Result<()> {
    let mut bytes = Vec::new();
    reply
        .encode(&mut bytes)
        .map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
    scm::send(control(), &bytes, &[], false)
}

fn by_role(roles: Roles, role: Role, descriptors: &[OwnedFd]) -> Option<BorrowedFd<'_>> {
    roles.place(role).map(|place| descriptors[place].as_fd())
}

/// Memory of this process, shared parts included.
fn resident_kb() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    Ok(pages * rustix::param::page_size() as u64 / 1024)
}
