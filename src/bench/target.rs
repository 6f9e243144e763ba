//! Where the worker listens.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Unix(PathBuf),
    /// The address, resolved once.
    Tcp(SocketAddr),
}

impl Target {
    /// A connection. Waits for it, which on one machine takes microseconds.
    pub fn connect(&self) -> io::Result<OwnedFd> {
        let stream = |family| {
            let flags = SocketFlags::CLOEXEC;
            rustix::net::socket_with(family, SocketType::STREAM, flags, None)
        };
        let socket = match self {
            Self::Unix(path) => {
                let socket = stream(AddressFamily::UNIX)?;
                rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
                socket
            }
            Self::Tcp(address) => {
                let family = match address {
                    SocketAddr::V4(_) => AddressFamily::INET,
                    SocketAddr::V6(_) => AddressFamily::INET6,
                };
                let socket = stream(family)?;
                rustix::net::connect(&socket, address)?;
                sockopt::set_tcp_nodelay(&socket, true)?;
                socket
            }
        };
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(socket)
    }
}
