//! Trying what is needed before relying on it: a kernel may know the operations and still not do
//! what the back end asks of them (multishot accept, receives into lent buffers).

use crate::sys::ring::{Outcome, Refusal, Ring, Via};
use core::time::Duration;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with, socketpair,
};
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

/// What takes longer does not work.
const PATIENCE: Duration = Duration::from_secs(2);

const BUFFER_BYTES: usize = 16;
const MESSAGE: &[u8] = b"works";

/// All that the back end does, done once on sockets that nobody else knows.
pub(super) fn prove() -> Result<(), Refusal> {
    let mut ring = Ring::new(4, 1)?;
    let stream = stream(&mut ring);
    stream.map_err(|error| failed("receiving into provided buffers", &error))?;
    let accept = accept(&mut ring);
    accept.map_err(|error| failed("accepting many with one operation", &error))
}

fn failed(what: &str, error: &Error) -> Refusal {
    Refusal(format!("{what} was tried and failed: {error}"))
}

fn stream(ring: &mut Ring) -> Result<(), Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    ring.lend(vec![0; BUFFER_BYTES].into_boxed_slice());
    ring.receive(ours.as_fd(), Via::Socket, false, 0);
    ring.send(theirs.as_fd(), Via::Socket, MESSAGE.to_vec(), 0, 0);
    let (mut received, mut sent) = (false, false);
    while !(received && sent) {
        match outcome(ring)? {
            Outcome::Received { result, buffer } => {
                let buffer = buffer.ok_or_else(|| unexpected("bytes without a buffer"))?;
                received = &buffer[..result?] == MESSAGE;
            }
            Outcome::Sent { result, .. } => sent = result? == MESSAGE.len(),
            outcome => return Err(unexpected(&format!("{outcome:?}"))),
        }
    }
    Ok(())
}

fn accept(ring: &mut Ring) -> Result<(), Error> {
    let listener = unix_socket()?;
    bind(&listener, &SocketAddrUnix::new_unnamed())?;
    listen(&listener, 2)?;
    let address = getsockname(&listener)?;
    let ticket = ring.accept(listener.as_fd(), 0);
    for _ in 0..2 {
        let client = unix_socket()?;
        connect(&client, &address)?;
        match outcome(ring)? {
            Outcome::Accepted { result, more: true } => drop(result?),
            outcome => return Err(unexpected(&format!("{outcome:?}"))),
        }
    }
    ring.cancel(ticket);
    match outcome(ring)? {
        Outcome::Accepted {
            result: Err(rustix::io::Errno::CANCELED),
            more: false,
        } => Ok(()),
        outcome => Err(unexpected(&format!("{outcome:?}"))),
    }
}

fn unix_socket() -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn outcome(ring: &mut Ring) -> Result<Outcome, Error> {
    if let Some(finished) = ring.next_finished() {
        return Ok(finished.outcome);
    }
    ring.enter(Some(PATIENCE))?;
    let finished = ring
        .next_finished()
        .ok_or_else(|| Error::from(ErrorKind::TimedOut))?;
    Ok(finished.outcome)
}

fn unexpected(what: &str) -> Error {
    Error::other(format!("unexpected: {what}"))
}
