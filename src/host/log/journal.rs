//! The journal's native protocol: one datagram a record, to journald's socket.
//!
//! A field is `NAME=value\n`; a value with line breaks is `NAME\n`, its length as 64 bits little
//! endian, the value, `\n`. A record too long for a datagram goes into a sealed memfd whose
//! descriptor is sent instead. The socket is addressed anew by each record, so a journald that was
//! restarted is found again.
//!
//! Fields: MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, CODE_FILE, CODE_LINE, CODE_MODULE; MESSAGE_ID and
//! OL_EVENT for a named event; CALL_ID, FUNCTION and INSTANCE under their own names; everything
//! else that was said with the record as OL_NAME.

use super::messages;
use super::sink::{Sent, cut, priority};
use core::fmt::{self, Write as _};
use log::Record;
use log::kv::{self, Key, Value, VisitSource};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr, sendto, socket_with,
};
use std::io::{IoSlice, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Journald knows no longer names.
const NAME_MAX: usize = 64;

/// An unconnected, non-blocking datagram socket and the journal's address.
#[derive(Debug)]
pub struct Journal {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl Journal {
    pub fn new(path: &Path) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self {
            socket,
            address: SocketAddrUnix::new(path)?,
        })
    }

    pub fn send(&self, record: &[u8]) -> Sent {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendto(&self.socket, record, flags, &self.address) {
            Ok(_) => Sent::Whole,
            Err(Errno::MSGSIZE) => self.send_long(record),
            Err(why) => Sent::from_error(why),
        }
    }

    fn send_long(&self, record: &[u8]) -> Sent {
        let Some(file) = sealed(record) else {
            return Sent::Never;
        };
        let descriptors = [file.as_fd()];
        let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
        assert!(fits, "the space was made for one descriptor");
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let nothing: [IoSlice<'_>; 0] = [];
        match sendmsg_addr(&self.socket, &self.address, &nothing, &mut control, flags) {
            Ok(_) => Sent::Whole,
            Err(why) => Sent::from_error(why),
        }
    }
}

/// A file nobody can change any more: journald maps it without copying.
fn sealed(record: &[u8]) -> Option<std::fs::File> {
    use memfd::FileSeal::{SealGrow, SealSeal, SealShrink, SealWrite};
    let options = memfd::MemfdOptions::default().allow_sealing(true);
    let file = options.create("log-record").ok()?;
    file.as_file().write_all(record).ok()?;
    file.add_seals(&[SealShrink, SealGrow, SealWrite, SealSeal])
        .ok()?;
    Some(file.into_file())
}

/// Appends the record in the journal's notation.
pub fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut text = record.args().to_string();
    cut(&mut text);
    field(out, "MESSAGE", &text);
    field(out, "PRIORITY", priority(record.level()));
    field(out, "SYSLOG_IDENTIFIER", "olworker");
    if let Some(file) = record.file() {
        field(out, "CODE_FILE", file);
    }
    if let Some(line) = record.line() {
        field(out, "CODE_LINE", line);
    }
    if let Some(module) = record.module_path() {
        field(out, "CODE_MODULE", module);
    }
    // Writing to memory does not fail, and neither does the visitor.
    let _ = record.key_values().visit(&mut Fields { out });
}

struct Fields<'a> {
    out: &'a mut Vec<u8>,
}

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        match key.as_str() {
            "event" => {
                let name = value.to_string();
                if let Some(message) = messages::find(&name) {
                    field(self.out, "MESSAGE_ID", message.id);
                }
                field(self.out, "OL_EVENT", name);
            }
            "call_id" => field(self.out, "CALL_ID", value),
            "function" => field(self.out, "FUNCTION", value),
            "instance" => field(self.out, "INSTANCE", value),
            other => field(self.out, &own_name(other), value),
        }
        Ok(())
    }
}

/// `queue_ms` becomes `OL_QUEUE_MS`: the journal takes capitals, digits and underscores only.
fn own_name(key: &str) -> String {
    let mut name = String::from("OL_");
    name.extend(key.chars().map(|c| match c {
        'a'..='z' => c.to_ascii_uppercase(),
        'A'..='Z' | '0'..='9' => c,
        _ => '_',
    }));
    name.truncate(NAME_MAX);
    name
}

/// Appends one field, in the form its value needs.
fn field(out: &mut Vec<u8>, name: &str, value: impl fmt::Display) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    let start = out.len();
    let mut text = Utf8(out);
    let _ = write!(text, "{value}");
    if out[start..].contains(&b'\n') {
        let len = (out.len() - start) as u64;
        out[start - 1] = b'\n';
        out.splice(start..start, len.to_le_bytes());
    }
    out.push(b'\n');
}

/// Formatting straight into the record's bytes.
struct Utf8<'a>(&'a mut Vec<u8>);

impl fmt::Write for Utf8<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.extend_from_slice(s.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::log::sink::RECORD_BYTES_MAX;
    use log::Level;
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;

    /// The protocol read back, by its description and not by the encoder above.
    fn decode(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let line_end = bytes.iter().position(|b| *b == b'\n').unwrap();
            let line = core::str::from_utf8(&bytes[..line_end]).unwrap();
            if let Some((name, value)) = line.split_once('=') {
                fields.insert(name.to_owned(), value.to_owned());
                bytes = &bytes[line_end + 1..];
            } else {
                let rest = &bytes[line_end + 1..];
                let len = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                let value = String::from_utf8(rest[8..8 + len].to_vec()).unwrap();
                fields.insert(line.to_owned(), value);
                assert_eq!(rest[8 + len], b'\n');
                bytes = &rest[8 + len + 1..];
            }
        }
        fields
    }

    fn record(text: &str, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        let args = format_args!("{text}");
        let record = Record::builder()
            .level(Level::Warn)
            .args(args)
            .file(Some("src/x.rs"))
            .line(Some(7))
            .module_path(Some("olworker::x"))
            .key_values(&pairs)
            .build();
        encode(&record, &mut out);
        out
    }

    #[test]
    fn named_events_and_calls_get_their_own_fields() {
        let pairs = [
            ("event", "worker-ready"),
            ("call_id", "c1"),
            ("function", "echo"),
            ("instance", "3.0"),
            ("queue_ms", "12"),
            ("weird-key", "v"),
        ];
        let fields = decode(&record("hello", &pairs));
        let get = |name: &str| fields.get(name).map(String::as_str);
        assert_eq!(get("MESSAGE"), Some("hello"));
        assert_eq!(get("PRIORITY"), Some("4"));
        assert_eq!(
            get("MESSAGE_ID"),
            messages::find("worker-ready").map(|m| m.id)
        );
        assert_eq!(get("OL_EVENT"), Some("worker-ready"));
        assert_eq!(get("CALL_ID"), Some("c1"));
        assert_eq!(get("FUNCTION"), Some("echo"));
        assert_eq!(get("INSTANCE"), Some("3.0"));
        assert_eq!(get("OL_QUEUE_MS"), Some("12"));
        assert_eq!(get("OL_WEIRD_KEY"), Some("v"));
        assert_eq!(get("CODE_FILE"), Some("src/x.rs"));
        assert_eq!(get("CODE_LINE"), Some("7"));
        assert_eq!(get("SYSLOG_IDENTIFIER"), Some("olworker"));
    }

    #[test]
    fn a_value_with_line_breaks_cannot_make_up_fields() {
        let fields = decode(&record(
            "one\nPRIORITY=0\ntwo",
            &[("traceback", "a\nb=c\n")],
        ));
        assert_eq!(fields["MESSAGE"], "one\nPRIORITY=0\ntwo");
        assert_eq!(fields["PRIORITY"], "4");
        assert_eq!(fields["OL_TRACEBACK"], "a\nb=c\n");
    }

    fn in_directory(name: &str, test: impl FnOnce(&Path)) {
        let directory = std::env::temp_dir().join(format!("olj-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        test(&directory.join("socket"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_record_is_one_datagram_and_a_full_socket_is_no_wait() {
        in_directory("full", |path| {
            let journald = UnixDatagram::bind(path).unwrap();
            let journal = Journal::new(path).unwrap();
            assert_eq!(journal.send(b"MESSAGE=a\n"), Sent::Whole);
            let mut buffer = [0; 64];
            assert_eq!(journald.recv(&mut buffer).unwrap(), 10);
            let mut sent = 0;
            while journal.send(b"MESSAGE=b\n") == Sent::Whole {
                sent += 1;
                assert!(sent < 1_000_000, "nobody reads: the socket must fill up");
            }
            assert_eq!(journal.send(b"MESSAGE=c\n"), Sent::Later(0));
        });
    }

    #[test]
    fn a_journal_that_comes_back_is_found_again() {
        in_directory("restart", |path| {
            let journal = Journal::new(path).unwrap();
            assert_eq!(journal.send(b"MESSAGE=a\n"), Sent::Later(0));
            let journald = UnixDatagram::bind(path).unwrap();
            assert_eq!(journal.send(b"MESSAGE=a\n"), Sent::Whole);
            drop(journald);
            assert_eq!(journal.send(b"MESSAGE=a\n"), Sent::Later(0));
        });
    }

    #[test]
    fn a_long_record_travels_as_a_sealed_file() {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        in_directory("long", |path| {
            let journald = UnixDatagram::bind(path).unwrap();
            let journal = Journal::new(path).unwrap();
            let long = record(&"x".repeat(RECORD_BYTES_MAX), &[]);
            assert_eq!(journal.send(&long), Sent::Whole);
            let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = recvmsg(&journald, &mut [], &mut control, RecvFlags::empty()).unwrap();
            assert_eq!(got.bytes, 0);
            let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else {
                panic!("a descriptor was sent")
            };
            let fd = fds.next().unwrap();
            let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
            assert!(seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SEAL));
            let mut read = vec![0; long.len()];
            assert_eq!(rustix::io::pread(&fd, &mut read, 0).unwrap(), long.len());
            assert_eq!(decode(&read)["MESSAGE"].len(), RECORD_BYTES_MAX);
        });
    }
}
