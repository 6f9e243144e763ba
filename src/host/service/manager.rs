//! What the worker tells its service manager: ready, what it is doing, still alive, stopping.
//!
//! ```text
//!   (starting) -- ready --> up -- reloading --> reloading -- ready --> up -- stopping --> (gone)
//! ```
//!
//! The variables are those of the `sd-notify` crate; the datagram is sent here, because a manager
//! that is slow to read must not stop the loop: what it does not take at once is kept, the newest
//! value of each variable, and goes out with the next message. Without NOTIFY_SOCKET every call
//! does nothing.

use core::fmt::Write;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};
use sd_notify::NotifyState;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// The manager takes no message longer than 4096 bytes; a status stays well below.
const STATUS_BYTES_MAX: usize = 1024;

/// The way to the service manager, or to nobody.
#[derive(Debug)]
pub struct Manager {
    way: Option<Way>,
    unsent: Unsent,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Way {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

/// The newest value of each variable the manager has not taken yet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unsent {
    phase: Option<Phase>,
    status: Option<String>,
    main_pid: Option<u32>,
    alive: bool,
    extend_usec: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ready,
    Reloading,
    Stopping,
}

impl Manager {
    /// From NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
    pub fn from_environment() -> Result<Self, Errno> {
        Self::new(
            std::env::var_os("NOTIFY_SOCKET"),
            sd_notify::watchdog_enabled(),
        )
    }

    fn new(socket: Option<OsString>, watchdog: Option<Duration>) -> Result<Self, Errno> {
        let way = match socket {
            Some(path) => Some(Way::to(path.as_bytes())?),
            None => None,
        };
        Ok(Self {
            way,
            unsent: Unsent::default(),
            watchdog,
        })
    }

    /// Whether anybody listens.
    pub fn is_present(&self) -> bool {
        self.way.is_some()
    }

    /// How often [`alive`](Self::alive) has to be said: half of what the manager waits.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Serving; also the end of a reload.
    pub fn ready(&mut self, status: &str) {
        self.unsent.phase = Some(Phase::Ready);
        self.status(status);
    }

    /// A new sentence for `systemctl status`.
    pub fn status(&mut self, sentence: &str) {
        let end = sentence.floor_char_boundary(STATUS_BYTES_MAX);
        // A line break would begin another variable.
        self.unsent.status = Some(sentence[..end].replace(['\n', '\r'], " "));
        self.send();
    }

    /// The configuration is being read again; `ready` ends it.
    pub fn reloading(&mut self) {
        self.unsent.phase = Some(Phase::Reloading);
        self.send();
    }

    /// The worker ends by its own decision or on request.
    pub fn stopping(&mut self, status: &str) {
        self.unsent.phase = Some(Phase::Stopping);
        self.status(status);
    }

    /// The loop still turns.
    pub fn alive(&mut self) {
        self.unsent.alive = true;
        self.send();
    }

    /// Another process is the service from now on.
    pub fn main_pid(&mut self, pid: u32) {
        self.unsent.main_pid = Some(pid);
        self.send();
    }

    /// Starting or stopping goes on; the manager's own time limit begins anew with this span.
    pub fn extend_timeout(&mut self, span: Duration) {
        self.unsent.extend_usec = Some(u32::try_from(span.as_micros()).unwrap_or(u32::MAX));
        self.send();
    }

    /// Offers again what the manager did not take.
    pub fn send(&mut self) {
        let Some(way) = &self.way else {
            self.unsent = Unsent::default();
            return;
        };
        let message = self.unsent.message();
        if message.is_empty() {
            return;
        }
        match way.send(message.as_bytes()) {
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {}
            // Gone, or not listening: nothing that waiting would mend.
            Ok(()) | Err(_) => self.unsent = Unsent::default(),
        }
    }
}

impl Unsent {
    fn message(&self) -> String {
        let mut variables = Vec::new();
        if let Some(pid) = self.main_pid {
            variables.push(NotifyState::MainPid(pid));
        }
        match self.phase {
            Some(Phase::Ready) => variables.push(NotifyState::Ready),
            Some(Phase::Reloading) => {
                variables.push(NotifyState::Reloading);
                // Managers from 253 on order a reload by it; older ones ignore it.
                variables.extend(NotifyState::monotonic_usec_now().ok());
            }
            Some(Phase::Stopping) => variables.push(NotifyState::Stopping),
            None => {}
        }
        if let Some(status) = &self.status {
            variables.push(NotifyState::Status(status));
        }
        if self.alive {
            variables.push(NotifyState::Watchdog);
        }
        if let Some(usec) = self.extend_usec {
            variables.push(NotifyState::ExtendTimeoutUsec(usec));
        }
        let mut message = String::new();
        for variable in &variables {
            let _ = writeln!(message, "{variable}");
        }
        message
    }
}

impl Way {
    /// `@name` is an abstract address.
    fn to(path: &[u8]) -> Result<Self, Errno> {
        let address = match path.strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name)?,
            None => SocketAddrUnix::new(path)?,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, address })
    }

    fn send(&self, message: &[u8]) -> Result<(), Errno> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendto(&self.socket, message, flags, &self.address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    /// A manager on an abstract address, and a worker that speaks to it.
    fn pair(name: &str) -> (UnixDatagram, Manager) {
        let name = format!("olworker-test-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let manager = Manager::new(Some(format!("@{name}").into()), None).unwrap();
        (listener, manager)
    }

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let len = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn each_call_is_one_message() {
        let (listener, mut manager) = pair("calls");
        manager.ready("2 functions");
        assert_eq!(heard(&listener), "READY=1\nSTATUS=2 functions\n");
        manager.alive();
        assert_eq!(heard(&listener), "WATCHDOG=1\n");
        manager.reloading();
        let reloading = heard(&listener);
        assert!(
            reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
            "{reloading}"
        );
        manager.extend_timeout(Duration::from_secs(3));
        assert_eq!(heard(&listener), "EXTEND_TIMEOUT_USEC=3000000\n");
        manager.main_pid(7);
        assert_eq!(heard(&listener), "MAINPID=7\n");
        manager.stopping("draining");
        assert_eq!(heard(&listener), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        let (listener, mut manager) = pair("status");
        manager.status(&("a\nREADY=1".to_owned() + &"ä".repeat(STATUS_BYTES_MAX)));
        let status = heard(&listener);
        assert!(status.starts_with("STATUS=a READY=1ä"));
        assert_eq!(status.lines().count(), 1);
        assert!(status.len() <= STATUS_BYTES_MAX + "STATUS=\n".len());
    }

    #[test]
    fn what_a_slow_manager_did_not_take_goes_out_later() {
        let (listener, mut manager) = pair("slow");
        let mut told = 0;
        while manager.unsent == Unsent::default() {
            told += 1;
            manager.status(&told.to_string());
            assert!(told < 1_000_000, "nobody reads: the socket must fill up");
        }
        manager.stopping("the end");
        for n in 1..told {
            assert_eq!(heard(&listener), format!("STATUS={n}\n"));
        }
        manager.alive();
        assert_eq!(heard(&listener), "STOPPING=1\nSTATUS=the end\nWATCHDOG=1\n");
        assert_eq!(manager.unsent, Unsent::default());
    }

    #[test]
    fn without_a_manager_nothing_is_kept() {
        let mut manager = Manager::new(None, Some(Duration::from_secs(30))).unwrap();
        manager.ready("alone");
        assert!(!manager.is_present());
        assert_eq!(manager.unsent, Unsent::default());
        assert_eq!(manager.watchdog_interval(), Some(Duration::from_secs(15)));
    }
}
