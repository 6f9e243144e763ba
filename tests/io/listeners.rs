//! Newcomers: all of them, in good time, and none while paused.

use crate::rig::{PATIENCE, Rig, bytes, limits, may_open, newcomer};
use olworker::io::{Handle, Limits, What};
use rustix::net::{SocketAddrUnix, getsockname};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

on_both_back_ends! {
    a_storm_of_newcomers_all_come_in
    nobody_comes_in_while_paused
    who_came_before_the_pause_is_let_in_after_it
    pausing_and_resuming_at_once_changes_nothing
    newcomers_neither_block_nor_survive_exec
    a_thousand_connections_are_served
    a_closed_listener_lets_nobody_in
    what_does_not_listen_is_told
    a_blocking_listener_does_not_block
}

/// A listening socket with a name of its own in no directory.
struct Door {
    address: SocketAddr,
    handle: Handle,
}

impl Door {
    fn open(rig: &mut Rig, token: u64) -> Self {
        let listener = OwnedFd::from(listening());
        let name = SocketAddrUnix::try_from(getsockname(&listener).unwrap()).unwrap();
        let address = SocketAddr::from_abstract_name(name.abstract_name().unwrap()).unwrap();
        let handle = rig.add(listener, token);
        rig.io.accept(handle);
        Self { address, handle }
    }

    fn knock(&self) -> UnixStream {
        UnixStream::connect_addr(&self.address).unwrap()
    }
}

fn listening() -> UnixListener {
    // The kernel finds a free name where none is given.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed()).unwrap();
    rustix::net::listen(&socket, 1024).unwrap();
    UnixListener::from(socket)
}

fn a_storm_of_newcomers_all_come_in(mut rig: Rig) {
    if !may_open(1000) {
        return;
    }
    let door = Door::open(&mut rig, 1);
    rig.expect_nothing();
    let clients: Vec<_> = (0..500).map(|_| door.knock()).collect();
    let newcomers: Vec<_> = clients.iter().map(|_| newcomer(rig.next().1)).collect();
    assert_eq!(newcomers.len(), clients.len());
    rig.expect_nothing();
}

fn nobody_comes_in_while_paused(mut rig: Rig) {
    let door = Door::open(&mut rig, 1);
    let _first = door.knock();
    newcomer(rig.next().1);
    rig.io.pause_accept(door.handle);
    let clients: Vec<_> = (0..100).map(|_| door.knock()).collect();
    rig.expect_nothing();
    rig.io.accept(door.handle);
    for _ in &clients {
        newcomer(rig.next().1);
    }
    rig.expect_nothing();
}

fn who_came_before_the_pause_is_let_in_after_it(mut rig: Rig) {
    let door = Door::open(&mut rig, 1);
    rig.expect_nothing();
    let clients: Vec<_> = (0..100).map(|_| door.knock()).collect();
    // More than one wait tells of: the others may have been accepted already.
    while rig.out.is_empty() {
        rig.io.wait(Some(PATIENCE), &mut rig.out).unwrap();
    }
    let let_in = rig.out.drain(..).count();
    assert!(let_in < clients.len());
    rig.io.pause_accept(door.handle);
    rig.expect_nothing();
    rig.io.accept(door.handle);
    for _ in let_in..clients.len() {
        newcomer(rig.next().1);
    }
    rig.expect_nothing();
}

fn pausing_and_resuming_at_once_changes_nothing(mut rig: Rig) {
    let door = Door::open(&mut rig, 1);
    let mut clients = Vec::new();
    for round in 0..20 {
        for _ in 0..round % 4 {
            rig.io.pause_accept(door.handle);
            clients.push(door.knock());
            rig.io.accept(door.handle);
        }
        if round % 3 == 0 {
            rig.io
                .wait(Some(core::time::Duration::ZERO), &mut rig.out)
                .unwrap();
        }
    }
    for _ in &clients {
        newcomer(rig.next().1);
    }
    rig.expect_nothing();
}

fn newcomers_neither_block_nor_survive_exec(mut rig: Rig) {
    let door = Door::open(&mut rig, 1);
    let _client = door.knock();
    let newcomer = newcomer(rig.next().1);
    let flags = rustix::io::fcntl_getfd(&newcomer).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let mut stream = UnixStream::from(newcomer);
    assert_eq!(
        stream.read(&mut [0]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

fn a_thousand_connections_are_served(rig: Rig) {
    if !may_open(2000) {
        return;
    }
    let mut rig = rig.with(Limits {
        handles: 1001,
        ..limits()
    });
    let door = Door::open(&mut rig, u64::MAX / 2);
    let mut clients = Vec::new();
    let mut handles = Vec::new();
    for number in 0..1000 {
        clients.push(door.knock());
        let newcomer = newcomer(rig.next().1);
        handles.push(rig.add(newcomer, number));
    }
    for round in 0..2u8 {
        for handle in &handles {
            rig.io.receive(*handle);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(&[number as u8, round]).unwrap();
        }
        let (mut received, mut sent) = (0, 0);
        while sent < 1000 {
            let (token, what) = rig.next();
            let number = token as usize;
            if let What::Sent { result, .. } = what {
                assert_eq!(result, Ok(2));
                sent += 1;
                continue;
            }
            assert_eq!(bytes(&what), [number as u8, round]);
            received += 1;
            rig.io.send(handles[number], vec![round, number as u8]);
        }
        assert_eq!(received, 1000);
        for (number, client) in clients.iter_mut().enumerate() {
            let mut answer = [0; 2];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [round, number as u8]);
        }
    }
}

fn a_closed_listener_lets_nobody_in(mut rig: Rig) {
    let door = Door::open(&mut rig, 1);
    let mut waiting = door.knock();
    rig.io.close(door.handle);
    rig.expect_nothing();
    assert!(UnixStream::connect_addr(&door.address).is_err());
    // Whoever waited in the backlog is told, not left waiting.
    assert!(matches!(waiting.read(&mut [0]), Ok(0) | Err(_)));
}

fn what_does_not_listen_is_told(mut rig: Rig) {
    let socket = UnixStream::pair().unwrap().0;
    let handle = rig.add(socket, 3);
    rig.io.accept(handle);
    assert!(matches!(rig.next(), (3, What::Accepted(Err(_)))));
    // It is paused now: no loop.
    rig.expect_nothing();
}

fn a_blocking_listener_does_not_block(mut rig: Rig) {
    let listener = listening();
    listener.set_nonblocking(false).unwrap();
    let handle = rig.add(listener, 1);
    rig.io.accept(handle);
    rig.expect_nothing();
}
