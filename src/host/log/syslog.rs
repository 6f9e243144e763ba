//! `[log] target = "syslog"`: the classic datagram to /dev/log, made by the `syslog` crate.
//!
//! The crate's own socket waits for a daemon that does not read, so only its formatter is used
//! here (RFC 3164, times in UTC) and the datagram goes out by a socket that never waits. The
//! address is found anew by each record: a restarted daemon is found again. Daemons that listen
//! on a stream at /dev/log are not served; none of those packaged today does.

use super::lines;
use super::sink::Sent;
use log::{Level, Record};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};
use std::os::fd::OwnedFd;
use std::path::Path;
use syslog::{Facility, Formatter3164, LogFormat, Severity};

/// Where the daemon listens.
pub const SOCKET: &str = "/dev/log";
/// RFC 5424 asks daemons to take 2 KiB; the packaged ones take 8. What is beyond is cut off.
const DATAGRAM_BYTES_MAX: usize = 8192;

/// Formatter, socket, address.
#[derive(Debug)]
pub struct Syslog {
    formatter: Formatter3164,
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl Syslog {
    pub fn new(path: &Path) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self {
            formatter: Formatter3164 {
                facility: Facility::LOG_DAEMON,
                hostname: None,
                process: "olworker".to_owned(),
                pid: std::process::id(),
            },
            socket: socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?,
            address: SocketAddrUnix::new(path)?,
        })
    }

    pub fn encode(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let mut text = String::new();
        lines::text(record, &mut text);
        // Writing to memory does not fail.
        let _ = self.formatter.format(out, severity(record.level()), text);
        let end = out.len().min(DATAGRAM_BYTES_MAX);
        let end = (0..4)
            .map(|back| end - back)
            .find(|end| is_boundary(out, *end));
        out.truncate(end.unwrap_or(0));
    }

    pub fn send(&self, record: &[u8]) -> Sent {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendto(&self.socket, record, flags, &self.address) {
            Ok(_) => Sent::Whole,
            Err(why) => Sent::from_error(why),
        }
    }
}

/// Whether a UTF-8 text may be cut here.
fn is_boundary(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|byte| byte & 0xC0 != 0x80)
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Error => Severity::LOG_ERR,
        Level::Warn => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_INFO,
        Level::Debug | Level::Trace => Severity::LOG_DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn encoded(syslog: &Syslog, said: &str) -> String {
        let mut out = Vec::new();
        let args = format_args!("{said}");
        let pairs = [("function", "echo")];
        let record = Record::builder()
            .level(Level::Error)
            .args(args)
            .key_values(&pairs)
            .build();
        syslog.encode(&record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_have_facility_name_and_fields() {
        let syslog = Syslog::new(Path::new(SOCKET)).unwrap();
        let line = encoded(&syslog, "it failed");
        assert!(line.starts_with("<27>"), "daemon.err: {line}");
        let end = format!(" olworker[{}]: it failed function=echo", std::process::id());
        assert!(line.ends_with(&end), "{line}");
    }

    #[test]
    fn a_long_record_is_cut_between_characters() {
        let syslog = Syslog::new(Path::new(SOCKET)).unwrap();
        for pad in 0..4 {
            let line = encoded(
                &syslog,
                &("x".repeat(pad) + &"€".repeat(DATAGRAM_BYTES_MAX)),
            );
            assert!(line.len() <= DATAGRAM_BYTES_MAX && line.len() > DATAGRAM_BYTES_MAX - 4);
        }
    }

    #[test]
    fn a_daemon_that_does_not_read_is_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("ol-syslog-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let syslog = Syslog::new(&path).unwrap();
        let mut sent = 0;
        while syslog.send(b"<27>x") == Sent::Whole {
            sent += 1;
            assert!(sent < 1_000_000, "nobody reads: the socket must fill up");
        }
        assert_eq!(syslog.send(b"<27>x"), Sent::Later(0));
        daemon.recv(&mut [0; 16]).unwrap();
        assert_eq!(syslog.send(b"<27>y"), Sent::Whole);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
