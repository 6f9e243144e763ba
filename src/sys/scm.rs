//! Datagrams with descriptors beside them, over a SOCK_SEQPACKET socket.

use core::mem::MaybeUninit;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Descriptors one datagram may carry.
pub const DESCRIPTORS_MAX: usize = 32;

/// What waits in a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A datagram of so many bytes; its descriptors have been appended to the list.
    Datagram(usize),
    /// None yet.
    Nothing,
    /// The peer has closed, or is dead.
    Closed,
}

/// Two connected ends that keep the borders of messages, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one datagram whole. `WouldBlock` when the peer is behind (only with `nonblocking`).
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    nonblocking: bool,
) -> io::Result<()> {
    assert!(
        descriptors.len() <= DESCRIPTORS_MAX,
        "callers check the number of descriptors"
    );
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        assert!(fits, "the space is for DESCRIPTORS_MAX");
    }
    let mut flags = SendFlags::NOSIGNAL;
    if nonblocking {
        flags |= SendFlags::DONTWAIT;
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Takes one datagram. One that is longer than `buffer`, or that brings more descriptors than
/// fit, is an error (and gone).
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    nonblocking: bool,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    if nonblocking {
        flags |= RecvFlags::DONTWAIT;
    }
    let message = loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut ancillary,
            flags,
        ) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            Err(error) => return Err(error.into()),
            Ok(message) => break message,
        }
    };
    for content in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = content {
            descriptors.extend(rights);
        }
    }
    if message
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a datagram came cut",
        ));
    }
    // Nobody sends empty datagrams, so that no bytes mean the end.
    Ok(if message.bytes == 0 {
        Received::Closed
    } else {
        Received::Datagram(message.bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    #[test]
    fn borders_and_descriptors_survive() {
        let (here, there) = pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send(here.as_fd(), b"one", &[writer.as_fd()], true).unwrap();
        send(here.as_fd(), b"second", &[], true).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let mut descriptors = Vec::new();
        let mut take = |descriptors: &mut Vec<OwnedFd>| {
            receive(there.as_fd(), &mut buffer, descriptors, true).unwrap()
        };
        assert_eq!(take(&mut descriptors), Received::Datagram(3));
        assert_eq!(descriptors.len(), 1);
        assert_eq!(take(&mut descriptors), Received::Datagram(6));
        assert_eq!(take(&mut descriptors), Received::Nothing);
        drop(here);
        assert_eq!(take(&mut descriptors), Received::Closed);
        File::from(descriptors.remove(0))
            .write_all(b"through")
            .unwrap();
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_datagram_too_long_is_an_error_and_the_next_one_is_whole() {
        let (here, there) = pair().unwrap();
        send(here.as_fd(), &[7; 100], &[], true).unwrap();
        send(here.as_fd(), &[8; 10], &[], true).unwrap();
        let mut buffer = [0; 16];
        let mut none = Vec::new();
        let cut = receive(there.as_fd(), &mut buffer, &mut none, true).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::InvalidData);
        let whole = receive(there.as_fd(), &mut buffer, &mut none, true).unwrap();
        assert_eq!(whole, Received::Datagram(10));
    }

    #[test]
    fn a_full_socket_says_would_block() {
        let (here, _there) = pair().unwrap();
        let refused = (0..100_000).find_map(|_| send(here.as_fd(), &[0; 512], &[], true).err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
