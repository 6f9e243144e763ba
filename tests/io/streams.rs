//! Bytes in order, whole and to the end.

use crate::rig::{PATIENCE, Rig, bytes, newcomer};
use olworker::io::{Errno, What};
use rustix::net::sockopt::set_socket_linger;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

on_both_back_ends! {
    bytes_come_and_go
    a_receive_waits_for_bytes_and_then_for_the_end
    bytes_come_and_go_over_tcp
    more_than_a_chunk_comes_in_order
    the_end_comes_after_the_last_bytes
    a_big_send_reaches_a_slow_reader_whole
    sending_and_receiving_go_on_at_once
    an_empty_buffer_is_sent_at_once
    the_buffer_comes_back_as_it_went
    a_peer_that_resets_ends_the_send
    a_peer_that_closes_ends_the_send
    shutdown_ends_what_the_peer_reads
    pipes_are_streams_too
    a_full_pipe_takes_the_rest_later
    a_pipe_without_reader_is_an_error
}

fn bytes_come_and_go(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(7);
    for round in 0..3u8 {
        peer.write_all(&[round; 5]).unwrap();
        rig.io.receive(handle);
        let (token, what) = rig.next();
        assert_eq!((token, bytes(&what)), (7, vec![round; 5]));
        rig.io.send(handle, vec![round + 1; 6]);
        assert!(matches!(rig.next(), (7, What::Sent { result: Ok(6), .. })));
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [round + 1; 6]);
    }
}

fn a_receive_waits_for_bytes_and_then_for_the_end(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(1);
    rig.io.receive(handle);
    rig.expect_nothing();
    peer.write_all(b"x").unwrap();
    assert_eq!(bytes(&rig.next().1), b"x");
    rig.io.receive(handle);
    rig.expect_nothing();
    peer.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(rig.next(), (1, What::Ended)));
    rig.io.close(handle);
    rig.expect_nothing();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

fn bytes_come_and_go_over_tcp(mut rig: Rig) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listening = rig.add(listener, 1);
    rig.io.accept(listening);
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let newcomer = newcomer(rig.next().1);
    let handle = rig.add(newcomer, 2);
    for round in 0..3u8 {
        rig.io.receive(handle);
        client.write_all(&[round; 100]).unwrap();
        assert_eq!(bytes(&rig.next().1), [round; 100]);
        rig.io.send(handle, vec![round; 200]);
        assert!(matches!(
            rig.next(),
            (
                2,
                What::Sent {
                    result: Ok(200),
                    ..
                }
            )
        ));
        client.read_exact(&mut [0; 200]).unwrap();
    }
}

/// Bytes that tell their place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(31) >> 3) as u8)
        .collect()
}

fn more_than_a_chunk_comes_in_order(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(1);
    let all = pattern(50_000);
    peer.write_all(&all).unwrap();
    let mut got = Vec::new();
    while got.len() < all.len() {
        rig.io.receive(handle);
        got.extend(bytes(&rig.next().1));
    }
    assert_eq!(got, all);
    rig.io.receive(handle);
    rig.expect_nothing();
}

fn the_end_comes_after_the_last_bytes(mut rig: Rig) {
    // Every length around that of a chunk, since a chunk that is not filled is taken to say
    // something about what is left.
    for length in [1, 1023, 1024, 1025, 2048] {
        let (handle, mut peer) = rig.pair(1);
        rig.io.receive(handle);
        rig.expect_nothing();
        let all = pattern(length);
        peer.write_all(&all).unwrap();
        drop(peer);
        let mut got = Vec::new();
        loop {
            match rig.next().1 {
                What::Ended => break,
                what => got.extend(bytes(&what)),
            }
            rig.io.receive(handle);
        }
        assert_eq!(got, all);
        rig.io.close(handle);
    }
}

fn a_big_send_reaches_a_slow_reader_whole(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(1);
    let all = pattern(3 << 20);
    rig.io.send(handle, all.clone());
    rig.expect_nothing();
    let reader = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut got: Vec<u8> = Vec::new();
            let mut part = vec![0; 60_000];
            while got.len() < 3 << 20 {
                let count = peer.read(&mut part).unwrap();
                got.extend(&part[..count]);
            }
            got
        });
        let (_, what) = rig.next();
        assert!(matches!(what, What::Sent { result: Ok(length), .. } if length == 3 << 20));
        reader.join().unwrap()
    });
    assert!(reader == all);
}

fn sending_and_receiving_go_on_at_once(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(1);
    rig.io.receive(handle);
    rig.io.send(handle, vec![9; 1 << 20]);
    rig.expect_nothing();
    peer.write_all(b"while it is being sent").unwrap();
    assert_eq!(bytes(&rig.next().1), b"while it is being sent");
    rig.io.receive(handle);
    std::thread::scope(|scope| {
        scope.spawn(|| peer.read_exact(&mut vec![0; 1 << 20]).unwrap());
        assert!(matches!(rig.next(), (1, What::Sent { result: Ok(_), .. })));
    });
    peer.write_all(b"and after").unwrap();
    assert_eq!(bytes(&rig.next().1), b"and after");
}

fn an_empty_buffer_is_sent_at_once(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    rig.io.send(handle, Vec::new());
    assert!(matches!(rig.next(), (1, What::Sent { result: Ok(0), .. })));
}

fn the_buffer_comes_back_as_it_went(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    let mut buffer = Vec::with_capacity(4096);
    buffer.extend(b"whole");
    let (address, capacity) = (buffer.as_ptr(), buffer.capacity());
    rig.io.send(handle, buffer);
    let (
        _,
        What::Sent {
            result: Ok(5),
            buffer,
        },
    ) = rig.next()
    else {
        panic!("not sent")
    };
    assert_eq!((buffer.as_ptr(), buffer.capacity()), (address, capacity));
    assert_eq!(buffer, b"whole");
}

fn a_peer_that_resets_ends_the_send(mut rig: Rig) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let handle = rig.add(ours, 1);
    rig.io.send(handle, vec![0; 64 << 20]);
    rig.expect_nothing();
    set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    let (
        _,
        What::Sent {
            result: Err(error),
            buffer,
        },
    ) = rig.next()
    else {
        panic!("not failed")
    };
    assert!(matches!(error, Errno::CONNRESET | Errno::PIPE), "{error}");
    assert_eq!(buffer.len(), 64 << 20);
    // The error was told once; what is left is the end.
    rig.io.receive(handle);
    assert!(matches!(rig.next().1, What::Ended | What::Received(Err(_))));
}

fn a_peer_that_closes_ends_the_send(mut rig: Rig) {
    let (handle, peer) = rig.pair(1);
    rig.io.send(handle, vec![0; 4 << 20]);
    rig.expect_nothing();
    drop(peer);
    let (
        _,
        What::Sent {
            result: Err(error), ..
        },
    ) = rig.next()
    else {
        panic!("not failed")
    };
    assert!(matches!(error, Errno::CONNRESET | Errno::PIPE), "{error}");
    rig.io.send(handle, vec![1]);
    assert!(matches!(
        rig.next().1,
        What::Sent {
            result: Err(Errno::PIPE),
            ..
        }
    ));
}

fn shutdown_ends_what_the_peer_reads(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(1);
    rig.io.send(handle, b"last words".to_vec());
    assert!(matches!(rig.next().1, What::Sent { result: Ok(_), .. }));
    rig.io.shutdown(handle, Shutdown::Write);
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "last words");
    peer.write_all(b"heard").unwrap();
    rig.io.receive(handle);
    assert_eq!(bytes(&rig.next().1), b"heard");
}

fn pipes_are_streams_too(mut rig: Rig) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let handle = rig.add(OwnedFd::from(reader), 1);
    rig.io.receive(handle);
    rig.expect_nothing();
    for _ in 0..3 {
        writer.write_all(b"printed").unwrap();
        assert_eq!(bytes(&rig.next().1), b"printed");
        rig.io.receive(handle);
        rig.expect_nothing();
    }
    drop(writer);
    assert!(matches!(rig.next(), (1, What::Ended)));
}

fn a_full_pipe_takes_the_rest_later(mut rig: Rig) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let handle = rig.add(OwnedFd::from(writer), 1);
    let all = pattern(300_000);
    rig.io.send(handle, all.clone());
    rig.expect_nothing();
    let got = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut got = vec![0; 300_000];
            reader.read_exact(&mut got).unwrap();
            got
        });
        assert!(matches!(
            rig.next(),
            (
                1,
                What::Sent {
                    result: Ok(300_000),
                    ..
                }
            )
        ));
        reader.join().unwrap()
    });
    assert!(got == all);
}

fn a_pipe_without_reader_is_an_error(mut rig: Rig) {
    let (reader, writer) = std::io::pipe().unwrap();
    let handle = rig.add(OwnedFd::from(writer), 1);
    drop(reader);
    rig.io.send(handle, vec![1; 10]);
    assert!(matches!(
        rig.next().1,
        What::Sent {
            result: Err(Errno::PIPE),
            ..
        }
    ));
}
