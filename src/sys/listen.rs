//! Sockets to accept from: made here, or passed by the service manager.
//!
//! A Unix socket leaves its file behind when a worker dies. Whoever finds one asks it: a connection
//! that is refused means that nobody listens any more. Asking, unlinking and binding happen under a
//! lock on the directory, so that two workers that start at once cannot unlink each other's.

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::Gid;
use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Connections that wait to be accepted; the kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Owner and group may connect; connecting takes write permission.
const UNIX_MODE: Mode = Mode::from_raw_mode(0o660);

/// Why there is no socket to accept from. `Display` is the line for the operator, remedy included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub address: String,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    PathTooLong,
    NoDirectory(PathBuf),
    /// Someone listens there.
    Taken,
    /// The file that is there is no socket.
    NoSocket,
    Denied,
    AddressNotHere,
    /// Passed by the service manager, but nothing to accept streams from.
    NotListening,
    /// What the service manager says about its sockets contradicts itself.
    Environment(String),
    Call {
        name: &'static str,
        error: Errno,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: ", self.address)?;
        match &self.why {
            Why::PathTooLong => f.write_str(
                "the path has more bytes than a Unix socket's address can hold, 107 \
                 (choose a shorter one)",
            ),
            Why::NoDirectory(directory) => {
                write!(
                    f,
                    "there is no directory {0} (mkdir -p {0})",
                    directory.display()
                )
            }
            Why::Taken => {
                f.write_str("another process listens there (stop it, or configure another address)")
            }
            Why::NoSocket => f.write_str(
                "a file that is no socket is in the way (move it, or configure another path)",
            ),
            Why::Denied => f.write_str(
                "permission denied (run as root, or choose a directory of your own or a port \
                 above 1023)",
            ),
            Why::AddressNotHere => f.write_str(
                "no network interface has this address (use 127.0.0.1, 0.0.0.0 or one that \
                 `ip address` shows)",
            ),
            Why::NotListening => f.write_str(
                "the service manager passed no listening stream socket (use ListenStream= and \
                 Accept=no in the socket unit)",
            ),
            Why::Environment(detail) => {
                write!(
                    f,
                    "{detail} (LISTEN_FDS and LISTEN_FDNAMES come from the service manager)"
                )
            }
            Why::Call { name, error } => write!(f, "{name}: {error}"),
        }
    }
}

impl std::error::Error for Refused {}

/// The file of a Unix socket of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file once the socket is closed, unless a successor listens there now. (Its inode
    /// would not tell: numbers are used again at once.)
    pub fn remove(&self) {
        let Ok(address) = SocketAddrUnix::new(&self.path) else {
            return;
        };
        let Ok(_lock) = lock_directory_of(&self.path) else {
            return;
        };
        // Gone already, or not ours to remove any more: the next worker asks the socket again.
        let _ = remove_stale(&self.path, &address);
    }
}

/// A listening Unix socket, mode 0660, of the group if one is given.
pub fn unix(path: &Path, group: Option<Gid>) -> Result<(OwnedFd, SocketFile), Refused> {
    let refused = |why| Refused {
        address: path.display().to_string(),
        why,
    };
    bind_unix(path, group).map_err(refused)
}

fn bind_unix(path: &Path, group: Option<Gid>) -> Result<(OwnedFd, SocketFile), Why> {
    let address = SocketAddrUnix::new(path).map_err(|error| match error {
        Errno::NAMETOOLONG => Why::PathTooLong,
        error => failed("address")(error),
    })?;
    let _lock = lock_directory_of(path)?;
    let socket = stream_socket(AddressFamily::UNIX)?;
    // The file is born with the socket's mode less the umask: never wider than wanted.
    rustix::fs::fchmod(&socket, UNIX_MODE).map_err(failed("fchmod"))?;
    match rustix::net::bind(&socket, &address) {
        Ok(()) => {}
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address)?;
            rustix::net::bind(&socket, &address).map_err(failed("bind"))?;
        }
        Err(error) => return Err(failed("bind")(error)),
    }
    rustix::fs::chmod(path, UNIX_MODE).map_err(failed("chmod"))?;
    if group.is_some() {
        rustix::fs::chown(path, None, group).map_err(failed("chown"))?;
    }
    rustix::net::listen(&socket, BACKLOG).map_err(failed("listen"))?;
    let file = SocketFile {
        path: path.to_owned(),
    };
    Ok((socket, file))
}

/// Held until dropped; everyone who binds or removes here takes it, none for long.
fn lock_directory_of(path: &Path) -> Result<OwnedFd, Why> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(Why::NoSocket),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory =
        rustix::fs::open(parent, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR => Why::NoDirectory(parent.to_owned()),
            error => failed("open")(error),
        })?;
    let lock = || rustix::fs::flock(&directory, FlockOperation::LockExclusive);
    rustix::io::retry_on_intr(lock).map_err(failed("flock"))?;
    Ok(directory)
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), Why> {
    let found = rustix::fs::lstat(path).map_err(failed("stat"))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(Why::NoSocket);
    }
    let probe = stream_socket(AddressFamily::UNIX)?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => rustix::fs::unlink(path).map_err(failed("unlink")),
        // A full backlog, or a socket of another type: alive in any case.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(Why::Taken),
        Err(error) => Err(failed("connect")(error)),
    }
}

/// A listening TCP socket; accepted ones inherit that small answers leave at once.
pub fn tcp(address: SocketAddr) -> Result<OwnedFd, Refused> {
    bind_tcp(address).map_err(|why| Refused {
        address: address.to_string(),
        why,
    })
}

fn bind_tcp(address: SocketAddr) -> Result<OwnedFd, Why> {
    let socket = stream_socket(match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    })?;
    sockopt::set_socket_reuseaddr(&socket, true).map_err(failed("SO_REUSEADDR"))?;
    sockopt::set_tcp_nodelay(&socket, true).map_err(failed("TCP_NODELAY"))?;
    rustix::net::bind(&socket, &address).map_err(failed("bind"))?;
    rustix::net::listen(&socket, BACKLOG).map_err(failed("listen"))?;
    Ok(socket)
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Why> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None).map_err(failed("socket"))
}

/// The address a TCP socket listens on: with port 0, the port the kernel chose.
pub fn tcp_address<Fd: AsFd>(socket: Fd) -> Option<SocketAddr> {
    SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()
}

/// The path a Unix socket is bound to; none for an abstract or unnamed one.
pub fn unix_path<Fd: AsFd>(socket: Fd) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(address.path_bytes()?)))
}

/// The id of a group of this machine's own file; the socket of a machine without it is root's only.
pub fn group(name: &str) -> Option<Gid> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let line = groups
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok().map(Gid::from_raw)
}

fn failed(name: &'static str) -> impl Fn(Errno) -> Why {
    move |error| match error {
        Errno::ACCESS | Errno::PERM => Why::Denied,
        Errno::ADDRINUSE => Why::Taken,
        Errno::ADDRNOTAVAIL => Why::AddressNotHere,
        error => Why::Call { name, error },
    }
}

/// Something the service manager handed over at start.
#[derive(Debug)]
pub enum Passed {
    /// A listening stream socket, non-blocking now.
    Listener {
        name: String,
        family: Family,
        descriptor: OwnedFd,
    },
    /// What an earlier life of this service has stored.
    Stored { name: String, descriptor: OwnedFd },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Unix,
    Tcp,
}

/// What the service manager passed (`LISTEN_FDS`), in its order. A second call finds nothing.
pub fn passed() -> Result<Vec<Passed>, Refused> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names().map_err(|error| Refused {
        address: String::from("the sockets passed by the service manager"),
        why: Why::Environment(error.to_string()),
    })?;
    passed
        .map(|(raw, name)| {
            // SAFETY: the service manager passed this descriptor to this process (the pid was
            // compared and the descriptor found open), and the flag above hands it out once.
            let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
            examine(descriptor, name)
        })
        .collect()
}

fn examine(descriptor: OwnedFd, name: String) -> Result<Passed, Refused> {
    let Ok(kind) = sockopt::socket_type(&descriptor) else {
        return Ok(Passed::Stored { name, descriptor });
    };
    let refused = |name: &str| Refused {
        address: name.to_owned(),
        why: Why::NotListening,
    };
    let listening = sockopt::socket_acceptconn(&descriptor).unwrap_or(false);
    if kind != SocketType::STREAM || !listening {
        return Err(refused(&name));
    }
    let family = match sockopt::socket_domain(&descriptor) {
        Ok(AddressFamily::UNIX) => Family::Unix,
        Ok(AddressFamily::INET | AddressFamily::INET6) => Family::Tcp,
        _ => return Err(refused(&name)),
    };
    let prepared = prepare(&descriptor, family);
    match prepared {
        Ok(()) => Ok(Passed::Listener {
            name,
            family,
            descriptor,
        }),
        Err(error) => Err(Refused {
            address: name,
            why: Why::Call {
                name: "passed socket",
                error,
            },
        }),
    }
}

fn prepare(descriptor: &OwnedFd, family: Family) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
    let flags = rustix::io::fcntl_getfd(descriptor)?;
    rustix::io::fcntl_setfd(descriptor, flags | rustix::io::FdFlags::CLOEXEC)?;
    match family {
        Family::Unix => Ok(()),
        Family::Tcp => sockopt::set_tcp_nodelay(descriptor, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    /// A directory that is gone afterwards.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("olw-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("ol.sock")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn why<T: fmt::Debug>(result: Result<T, Refused>) -> Why {
        result.unwrap_err().why
    }

    #[test]
    fn a_unix_socket_is_for_owner_and_group() {
        let scratch = Scratch::new("mode");
        let (listener, file) = unix(&scratch.socket(), None).unwrap();
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        UnixStream::connect(scratch.socket()).unwrap();
        close(&listener);
        file.remove();
        assert!(!scratch.socket().exists());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_a_live_one_is_not() {
        let scratch = Scratch::new("stale");
        leave_stale(&scratch.socket());
        let (listener, _) = unix(&scratch.socket(), None).unwrap();
        assert_eq!(why(unix(&scratch.socket(), None)), Why::Taken);
        UnixStream::connect(scratch.socket()).unwrap();
        close(&listener);
        unix(&scratch.socket(), None).unwrap();
    }

    /// Closed for whoever still has it, too: a program that another test starts holds a copy of
    /// every descriptor until it executes.
    fn close(listener: &OwnedFd) {
        rustix::net::shutdown(listener, rustix::net::Shutdown::Both).unwrap();
    }

    /// A socket file that nobody listens on.
    fn leave_stale(path: &Path) {
        let socket = stream_socket(AddressFamily::UNIX).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    }

    #[test]
    fn of_workers_that_start_at_once_over_a_stale_file_one_wins() {
        let scratch = Scratch::new("race");
        for _ in 0..20 {
            let path = scratch.socket();
            leave_stale(&path);
            let results = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| unix(&path, None))).collect();
                starts
                    .into_iter()
                    .map(|start| start.join().unwrap())
                    .collect::<Vec<_>>()
            });
            let won = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(won, 1, "{results:?}");
            UnixStream::connect(&path).unwrap();
            for (listener, file) in results.into_iter().flatten() {
                close(&listener);
                file.remove();
            }
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_successors_socket_file_is_left_alone() {
        let scratch = Scratch::new("successor");
        let (old, file) = unix(&scratch.socket(), None).unwrap();
        close(&old);
        let (_new, _) = unix(&scratch.socket(), None).unwrap();
        file.remove();
        UnixStream::connect(scratch.socket()).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let scratch = Scratch::new("file");
        std::fs::write(scratch.socket(), b"precious").unwrap();
        assert_eq!(why(unix(&scratch.socket(), None)), Why::NoSocket);
        assert_eq!(std::fs::read(scratch.socket()).unwrap(), b"precious");
    }

    #[test]
    fn paths_that_cannot_be_say_why() {
        let missing = Path::new("/nonexistent-olworker/ol.sock");
        let refused = unix(missing, None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot listen on /nonexistent-olworker/ol.sock: there is no directory \
             /nonexistent-olworker (mkdir -p /nonexistent-olworker)"
        );
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert_eq!(why(unix(&long, None)), Why::PathTooLong);
    }

    #[test]
    fn what_tcp_accepts_sends_at_once() {
        let listener = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = tcp_address(&listener).unwrap();
        assert_eq!(why(tcp(address)), Why::Taken);
        let client = TcpStream::connect(address).unwrap();
        let accepted = rustix::net::accept(&listener).unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        drop(client);
    }

    #[test]
    fn a_foreign_address_says_so() {
        // 192.0.2.0/24 is for documentation; nobody has it.
        assert_eq!(
            why(tcp("192.0.2.1:0".parse().unwrap())),
            Why::AddressNotHere
        );
    }

    #[test]
    fn passed_sockets_are_examined() {
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = examine(OwnedFd::from(listening), String::from("web")).unwrap();
        let Passed::Listener {
            name,
            family: Family::Tcp,
            descriptor,
        } = passed
        else {
            panic!("{passed:?}")
        };
        assert_eq!(name, "web");
        assert_eq!(rustix::net::accept(&descriptor).unwrap_err(), Errno::AGAIN);

        let (connected, _peer) = UnixStream::pair().unwrap();
        assert_eq!(
            why(examine(OwnedFd::from(connected), String::new())),
            Why::NotListening
        );

        let file = std::fs::File::open("/dev/zero").unwrap();
        let passed = examine(OwnedFd::from(file), String::from("state")).unwrap();
        let Passed::Stored { name, descriptor } = passed else {
            panic!("{passed:?}")
        };
        assert_eq!(name, "state");
        std::fs::File::from(descriptor)
            .read_exact(&mut [0; 4])
            .unwrap();
    }
}
