//! Where the worker listens: what the service manager passed, else sockets of its own.
//!
//! Sockets that were passed stay with the manager: while the worker is away their backlog waits for
//! its successor. So they decide how a worker ends (`Sockets::are_passed`): it stops accepting, and
//! nobody is turned away; with sockets of its own it goes on accepting and says that it drains.

use super::front::Via;
use crate::config::meaning::Http;
use crate::sys::listen::{self, Family, Passed, Refused, SocketFile};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// The group that may talk to the worker of the machine.
const GROUP: &str = "olworker";

/// One listening socket, and how people write where it is.
#[derive(Debug)]
pub struct Listener {
    pub via: Via,
    pub descriptor: OwnedFd,
    pub address: String,
}

/// Every socket the worker listens on.
#[derive(Debug)]
pub struct Sockets {
    pub listeners: Vec<Listener>,
    /// They belong to the service manager.
    pub are_passed: bool,
    file: Option<SocketFile>,
}

impl Sockets {
    /// Takes what was passed; where nothing was, binds what is configured.
    pub fn open(http: &Http) -> Result<Self, Refused> {
        let passed: Vec<_> = listen::passed()?.into_iter().filter_map(listener).collect();
        if !passed.is_empty() {
            return Ok(Self {
                listeners: passed,
                are_passed: true,
                file: None,
            });
        }
        let (descriptor, file) = listen::unix(&http.unix, listen::group(GROUP))?;
        let mut listeners = vec![Listener {
            via: Via::Unix,
            descriptor,
            address: http.unix.display().to_string(),
        }];
        if let Some(address) = http.tcp {
            let descriptor = listen::tcp(address)?;
            let address = listen::tcp_address(&descriptor).unwrap_or(address);
            listeners.push(tcp(descriptor, Some(address)));
        }
        Ok(Self {
            listeners,
            are_passed: false,
            file: Some(file),
        })
    }

    /// Removes the socket file of our own; to be called once the sockets are closed.
    pub fn clean_up(&self) {
        if let Some(file) = &self.file {
            file.remove();
        }
    }
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, listener) in self.listeners.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", listener.address)?;
        }
        Ok(())
    }
}

fn tcp(descriptor: OwnedFd, address: Option<SocketAddr>) -> Listener {
    Listener {
        via: Via::Tcp,
        address: address.map_or_else(|| "tcp".to_owned(), |address| format!("http://{address}")),
        descriptor,
    }
}

fn listener(passed: Passed) -> Option<Listener> {
    match passed {
        Passed::Listener {
            family: Family::Tcp,
            descriptor,
            ..
        } => {
            let address = listen::tcp_address(&descriptor);
            Some(tcp(descriptor, address))
        }
        Passed::Listener {
            family: Family::Unix,
            descriptor,
            name,
        } => Some(Listener {
            via: Via::Unix,
            address: listen::unix_path(&descriptor).map_or(name, |path| path.display().to_string()),
            descriptor,
        }),
        // Nothing was stored by any version; closing it takes it out of the store.
        Passed::Stored { name, .. } => {
            log::warn!("the service manager kept a descriptor named {name}: closed");
            None
        }
    }
}
