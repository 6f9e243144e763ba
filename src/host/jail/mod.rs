//! The root file systems of sandboxes, as detached mounts that are nowhere in the host's table.
//!
//! One template is put together at the start, in a mount namespace of the worker's own; whoever
//! needs a root gets a copy of it by descriptor, read-only, and attaches it in namespaces of its
//! own.
//!
//! ```text
//!   /            a small file system made here: directories, links, /etc, /dev, /olworker
//!   /usr         the host's, or the top directories of another root file system
//!   /opt/...     an interpreter that lives elsewhere
//!   - added by each sandbox -
//!   /packages    what its function asked for
//!   /proc        of its own pid namespace
//!   /tmp /host   private, writable, limited in size
//!   /handler     the function's code
//! ```
//!
//! What is in the small file system is never mounted twice, only referred to: each mount less
//! makes every fork a microsecond cheaper.

mod files;
mod interpreter;

pub use interpreter::{Interpreter, InterpreterError};

use crate::sys::mount::{self, Attributes};
use core::ffi::CStr;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Size of the small file system: /etc, the runtime, device nodes.
const SKELETON_SIZE: &CStr = c"32m";
/// Inodes of a /tmp or /host, so that empty files cannot eat the kernel's memory.
const SCRATCH_INODES: &CStr = c"65536";

/// Proof that this thread has a mount namespace of its own.
#[derive(Debug)]
pub struct PrivateMounts {
    _made_by_leaving: (),
}

impl PrivateMounts {
    /// Gives the calling thread, and all it starts from now on, mounts of its own: what the worker
    /// mounts is seen by nobody else and goes with its last thread, however that ends. What the
    /// host mounts still arrives. To be called before other threads are started.
    pub fn leave_host() -> io::Result<Self> {
        mount::unshare_mounts()?;
        let from_host = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
        rustix::mount::mount_change(c"/", from_host)?;
        Ok(Self {
            _made_by_leaving: (),
        })
    }
}

/// What shall be in every sandbox.
#[derive(Debug)]
pub struct BaseSpec<'a> {
    pub ground: Ground<'a>,
    pub interpreter: &'a Interpreter,
    /// What everybody sees as /packages who is given none of his own; none: nothing.
    pub packages: Option<&'a Path>,
    /// `runtimes/python`; copied to /olworker.
    pub runtime: &'a Path,
    /// An empty directory of the worker's own.
    pub staging: &'a Path,
}

/// Whose programs and libraries they are.
#[derive(Debug, Clone, Copy)]
pub enum Ground<'a> {
    /// The host's.
    Host,
    /// Those of a root file system.
    Rootfs(&'a Path),
}

/// Why there is no base.
#[derive(Debug)]
pub struct BaseError {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl core::fmt::Display for BaseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { what, path, error } = self;
        write!(
            f,
            "sandbox base: could not {what} {}: {error}",
            path.display()
        )
    }
}

impl core::error::Error for BaseError {}

/// The template, attached in the worker's own namespace as long as this lives.
#[derive(Debug)]
pub struct Base {
    staging: CString,
    /// Host files that may change while we run, and their copies.
    network_files: Vec<files::Followed>,
}

impl Base {
    pub fn build(_own: &PrivateMounts, spec: &BaseSpec<'_>) -> Result<Self, BaseError> {
        let staging = spec.staging;
        let name = CString::new(staging.as_os_str().as_bytes())
            .map_err(|error| fail("use", staging)(error.into()))?;
        let options = [(c"mode", c"0755"), (c"size", SKELETON_SIZE)];
        let skeleton = mount::new_file_system(c"tmpfs", &options, Attributes::NO_SETUID)
            .map_err(fail("make a file system for", staging))?;
        mount::attach_at(skeleton.as_fd(), &name).map_err(fail("mount on", staging))?;
        let mut base = Self {
            staging: name,
            network_files: Vec::new(),
        };
        base.furnish(spec)?;
        Ok(base)
    }

    fn furnish(&mut self, spec: &BaseSpec<'_>) -> Result<(), BaseError> {
        let root = spec.staging;
        for name in ["proc", "tmp", "host", "handler", "packages", "olworker"] {
            let path = root.join(name);
            fs::create_dir(&path).map_err(fail("make", &path))?;
        }
        files::make_devices(&root.join("dev")).map_err(fail("make", &root.join("dev")))?;
        match spec.ground {
            Ground::Host => {
                self.network_files =
                    files::copy_etc(&root.join("etc")).map_err(fail("make", &root.join("etc")))?;
                bring_host(root)?;
            }
            Ground::Rootfs(rootfs) => bring_rootfs(root, rootfs)?,
        }
        for prefix in spec.interpreter.prefixes() {
            bring(prefix, &root.join(relative(prefix)))?;
        }
        for (path, target) in spec.interpreter.links() {
            let place = root.join(relative(path));
            make_parents(&place)?;
            if !place.exists() {
                symlink(target, &place).map_err(fail("link", &place))?;
            }
        }
        if let Some(packages) = spec.packages {
            bring(packages, &root.join("packages"))?;
        }
        files::copy_tree(spec.runtime, &root.join("olworker")).map_err(fail("copy", spec.runtime))
    }

    /// A root for one sandbox or zygote: detached, read-only.
    pub fn root(&self) -> io::Result<OwnedFd> {
        let copy = mount::copy_of(CWD, &self.staging, true)?;
        mount::restrict(
            copy.as_fd(),
            Attributes::READ_ONLY.and(Attributes::NO_SETUID),
            true,
        )?;
        Ok(copy)
    }

    /// Where a root may be attached for a moment, in a namespace of its own.
    pub fn staging(&self) -> &CStr {
        &self.staging
    }

    /// Brings the host's names and resolvers up to date, in all sandboxes at once. Cheap when
    /// nothing changed.
    pub fn follow_host(&mut self) -> io::Result<()> {
        self.network_files
            .iter_mut()
            .try_for_each(files::Followed::follow)
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        // Sandboxes keep their copies. When it fails the mount goes with the worker.
        let _ = rustix::mount::unmount(&*self.staging, UnmountFlags::DETACH);
    }
}

/// A directory as a sandbox sees it: a mount of its own that nobody can write through, run setuid
/// programs from, or open devices on.
pub fn read_only(directory: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    let copy = mount::copy_of(CWD, &path, false)?;
    let attributes = Attributes::READ_ONLY
        .and(Attributes::NO_SETUID)
        .and(Attributes::NO_DEVICES);
    mount::restrict(copy.as_fd(), attributes, false)?;
    Ok(copy)
}

/// A private /tmp or /host.
pub fn scratch(bytes: u64) -> io::Result<OwnedFd> {
    let size = CString::new(bytes.to_string()).expect("digits hold no NUL");
    let options = [
        (c"mode", c"1777"),
        (c"size", &*size),
        (c"nr_inodes", SCRATCH_INODES),
    ];
    mount::new_file_system(
        c"tmpfs",
        &options,
        Attributes::NO_SETUID.and(Attributes::NO_DEVICES),
    )
}

/// The processes a zygote may see: its own. It also is what lets its children mount a /proc of
/// theirs: the kernel allows that only where a whole one is visible, and the host's may be
/// covered.
pub fn zygote_proc() -> io::Result<OwnedFd> {
    let options = [(c"subset", c"pid"), (c"hidepid", c"invisible")];
    let attributes = Attributes::NO_SETUID
        .and(Attributes::NO_DEVICES)
        .and(Attributes::NO_EXECUTION);
    mount::new_file_system(c"proc", &options, attributes)
}

/// A whole /proc that nobody has covered, for the worker's own use by descriptor.
pub fn whole_proc() -> io::Result<OwnedFd> {
    mount::new_file_system(
        c"proc",
        &[],
        Attributes::NO_SETUID.and(Attributes::NO_DEVICES),
    )
}

fn fail(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BaseError {
    let path = path.to_owned();
    move |error| BaseError { what, path, error }
}

/// Mounts a directory of the host read-only below the template.
fn bring(source: &Path, target: &Path) -> Result<(), BaseError> {
    make_parents(target)?;
    match fs::create_dir(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(fail("make", target)(error));
        }
        _ => {}
    }
    let copy = read_only(source).map_err(fail("read", source))?;
    let place = CString::new(target.as_os_str().as_bytes())
        .map_err(|error| fail("use", target)(error.into()))?;
    attach(copy.as_fd(), &place).map_err(fail("mount on", target))
}

fn attach(tree: BorrowedFd<'_>, place: &CStr) -> io::Result<()> {
    mount::attach_at(tree, place)
}

fn make_parents(path: &Path) -> Result<(), BaseError> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(fail("make", parent)),
        None => Ok(()),
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// /usr and the names by which it is reached from the root: links where the host has links.
fn bring_host(root: &Path) -> Result<(), BaseError> {
    bring(Path::new("/usr"), &root.join("usr"))?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        bring_entry(&Path::new("/").join(name), &root.join(name))?;
    }
    Ok(())
}

/// A link as a link, a directory as a mount, nothing as nothing.
fn bring_entry(source: &Path, target: &Path) -> Result<(), BaseError> {
    let Ok(found) = fs::symlink_metadata(source) else {
        return Ok(());
    };
    if found.is_symlink() {
        let link = fs::read_link(source).map_err(fail("read", source))?;
        return symlink(link, target).map_err(fail("link", target));
    }
    if !found.is_dir() {
        return Ok(());
    }
    let mut entries = fs::read_dir(source).map_err(fail("read", source))?;
    if entries.next().is_none() {
        return fs::create_dir(target).map_err(fail("make", target));
    }
    bring(source, target)
}

/// Every top directory but those a sandbox has of its own.
fn bring_rootfs(root: &Path, rootfs: &Path) -> Result<(), BaseError> {
    const OWN: [&str; 9] = [
        "dev", "proc", "sys", "tmp", "host", "handler", "packages", "olworker", "run",
    ];
    for entry in fs::read_dir(rootfs).map_err(fail("read", rootfs))? {
        let entry = entry.map_err(fail("read", rootfs))?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        bring_entry(&entry.path(), &root.join(&name))?;
    }
    Ok(())
}
