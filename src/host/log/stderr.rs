//! Standard error: a terminal, a pipe, a file (`worker.out`), or a stream of the journal.
//!
//! The worker shares that descriptor with whoever started it, so its flags are left alone; not
//! waiting is arranged for by what it is:
//!
//! | it is | written by |
//! |---|---|
//! | a regular file | write(2), which does not wait for readers |
//! | a socket | send(2) with MSG_DONTWAIT |
//! | a pipe or a terminal | write(2) on a description of our own, reopened with O_NONBLOCK |
//!
//! A pipe that cannot be reopened (it belongs to another user) is asked by poll(2) before each
//! write of at most PIPE_BUF bytes, which a pipe that polls writable takes whole.

use super::lines::{self, Moment};
use super::sink::{Sent, priority};
use core::fmt::Write;
use log::Record;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a pipe that polls writable has room for.
const PIPE_BUF: usize = 4096;

/// Lines on a descriptor, each begun by a time or, for the journal, by its level.
#[derive(Debug)]
pub struct Stderr {
    way: Way,
    prefix: Prefix,
}

#[derive(Debug)]
enum Way {
    File(OwnedFd),
    Socket(OwnedFd),
    Nonblocking(OwnedFd),
    Asked(OwnedFd),
}

/// What stands before each line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// `2025-11-21T05:34:23.123Z info  `
    Time,
    /// `<6>`: the reader is journald, which keeps its own time.
    Level,
}

impl Stderr {
    pub fn new(descriptor: BorrowedFd<'_>, prefix: Prefix) -> Result<Self, Errno> {
        let own = rustix::io::fcntl_dupfd_cloexec(descriptor, 0)?;
        let way = match FileType::from_raw_mode(fstat(&own)?.st_mode) {
            FileType::RegularFile => Way::File(own),
            FileType::Socket => Way::Socket(own),
            _ => match reopen(&own) {
                Some(reopened) => Way::Nonblocking(reopened),
                None => Way::Asked(own),
            },
        };
        Ok(Self { way, prefix })
    }

    pub fn encode(&self, record: &Record<'_>, at: Moment, out: &mut Vec<u8>) {
        let mut text = String::new();
        match self.prefix {
            Prefix::Time => {
                let _ = write!(text, "{at} {} ", lines::level_name(record.level()));
                lines::text(record, &mut text);
            }
            Prefix::Level => {
                let mut said = String::new();
                lines::text(record, &mut said);
                // The journal takes each line for a record of its own.
                let mark = format!("<{}>", priority(record.level()));
                text.push_str(&mark);
                text.push_str(&said.replace('\n', &format!("\n{mark}")));
            }
        }
        text.push('\n');
        out.extend_from_slice(text.as_bytes());
    }

    pub fn send(&self, bytes: &[u8]) -> Sent {
        let mut done = 0;
        while done < bytes.len() {
            match self.write(&bytes[done..]) {
                Ok(0) | Err(Errno::AGAIN | Errno::NOBUFS) => return Sent::Later(done),
                Ok(more) => done += more,
                Err(Errno::INTR) => {}
                Err(_) => return Sent::Never,
            }
        }
        Sent::Whole
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.way {
            Way::File(file) | Way::Nonblocking(file) => rustix::io::write(file, bytes),
            Way::Socket(socket) => send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Way::Asked(pipe) => {
                let mut asked = [PollFd::new(pipe, PollFlags::OUT)];
                let at_once = Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                if poll(&mut asked, Some(&at_once))? == 0 {
                    return Err(Errno::AGAIN);
                }
                rustix::io::write(pipe, &bytes[..bytes.len().min(PIPE_BUF)])
            }
        }
    }
}

/// The same pipe or terminal under a description of our own, on which O_NONBLOCK disturbs nobody.
fn reopen(descriptor: &OwnedFd) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Level;
    use rustix::pipe::pipe;
    use std::time::Duration;

    fn line(prefix: Prefix, said: &str) -> String {
        let (_read, write) = pipe().unwrap();
        let stderr = Stderr::new(write.as_fd(), prefix).unwrap();
        let mut out = Vec::new();
        let args = format_args!("{said}");
        let record = Record::builder().level(Level::Info).args(args).build();
        stderr.encode(&record, Moment(Duration::from_secs(1)), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_begins_with_its_time_or_with_its_level() {
        assert_eq!(
            line(Prefix::Time, "a\nb"),
            "1970-01-01T00:00:01.000Z info  a\n    b\n"
        );
        assert_eq!(line(Prefix::Level, "a\nb"), "<6>a\n<6>    b\n");
    }

    fn fill(stderr: &Stderr) -> usize {
        let chunk = [b'x'; 1000];
        let mut written = 0;
        loop {
            match stderr.send(&chunk) {
                Sent::Whole => written += chunk.len(),
                Sent::Later(part) => return written + part,
                Sent::Never => panic!("a pipe with a reader takes bytes or asks to wait"),
            }
            assert!(written < 64 << 20, "nobody reads: the pipe must fill up");
        }
    }

    #[test]
    fn a_full_pipe_is_no_wait_and_its_flags_stay() {
        let (read, write) = pipe().unwrap();
        let stderr = Stderr::new(write.as_fd(), Prefix::Time).unwrap();
        assert!(matches!(stderr.way, Way::Nonblocking(_)));
        let written = fill(&stderr);
        let flags = rustix::fs::fcntl_getfl(&write).unwrap();
        assert!(
            !flags.contains(OFlags::NONBLOCK),
            "the other owners' description is untouched"
        );
        let mut buffer = vec![0; written];
        assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), written);
        assert_eq!(stderr.send(b"again"), Sent::Whole);
    }

    #[test]
    fn a_pipe_that_cannot_be_reopened_is_asked_first() {
        let (_read, write) = pipe().unwrap();
        let stderr = Stderr {
            way: Way::Asked(write),
            prefix: Prefix::Time,
        };
        assert!(fill(&stderr) >= PIPE_BUF);
        assert_eq!(stderr.send(b"more"), Sent::Later(0));
    }

    #[test]
    fn a_reader_that_went_away_is_no_reason_to_wait() {
        let (read, write) = pipe().unwrap();
        let stderr = Stderr::new(write.as_fd(), Prefix::Time).unwrap();
        drop(read);
        assert_eq!(stderr.send(b"line"), Sent::Never);
    }

    #[test]
    fn a_file_is_appended_to_where_it_is() {
        let path = std::env::temp_dir().join(format!("ol-stderr-{}", std::process::id()));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        let stderr = Stderr::new(file.as_fd(), Prefix::Time).unwrap();
        assert_eq!(stderr.send(b"one\n"), Sent::Whole);
        std::io::Write::write_all(&mut &file, b"two\n").unwrap();
        assert_eq!(stderr.send(b"three\n"), Sent::Whole);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        std::fs::remove_file(&path).unwrap();
    }
}
