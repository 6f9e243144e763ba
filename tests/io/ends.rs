//! What ends: handles, the io itself, and what must not outlive them.

use crate::rig::{Rig, bytes, limits};
use olworker::io::{Limits, What};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

on_both_back_ends! {
    a_closed_handle_never_completes_again
    what_had_come_for_a_closed_handle_is_swallowed
    closing_right_after_asking_harms_nobody
    a_closed_descriptor_is_closed
    closing_ends_it_for_the_peer_though_a_copy_lives
    what_is_taken_comes_back_usable
    taking_what_is_under_way_is_a_bug
    a_second_receive_is_a_bug
    a_second_send_is_a_bug
    a_closed_handle_cannot_be_used
    an_io_can_end_with_everything_under_way
    children_inherit_nothing
}

fn a_closed_handle_never_completes_again(mut rig: Rig) {
    for round in 0..50 {
        let (old, mut old_peer) = rig.pair(1);
        rig.io.receive(old);
        rig.io.send(old, vec![0; 1 << 20]);
        if round % 2 == 0 {
            rig.io.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
        }
        rig.io.close(old);
        // Very likely under the same number, and in the same place.
        let (new, mut new_peer) = rig.pair(2);
        rig.io.receive(new);
        let _ = old_peer.write(b"to the dead");
        new_peer.write_all(b"to the living").unwrap();
        let (token, what) = rig.next();
        assert_eq!((token, bytes(&what)), (2, b"to the living".to_vec()));
        rig.io.close(new);
    }
    rig.expect_nothing();
}

fn what_had_come_for_a_closed_handle_is_swallowed(rig: Rig) {
    // One completion a wait is handed out at a time, the others lie ready inside.
    let mut rig = rig.with(Limits {
        completions: 2,
        ..limits()
    });
    let mut ends: Vec<_> = (0..8).map(|token| rig.pair(token)).collect();
    for (handle, peer) in &mut ends {
        peer.write_all(b"x").unwrap();
        rig.io.receive(*handle);
    }
    while rig.out.is_empty() {
        rig.io.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
    }
    let told = rig.out.len();
    assert!(told <= 2);
    for (handle, _) in &ends {
        rig.io.close(*handle);
    }
    rig.out.clear();
    rig.expect_nothing();
}

fn closing_right_after_asking_harms_nobody(mut rig: Rig) {
    // What was asked for on the old one is not submitted yet when the new one gets its number.
    for _ in 0..50 {
        let (old, old_peer) = rig.pair(1);
        rig.io.send(old, b"old".to_vec());
        rig.io.receive(old);
        rig.io.close(old);
        let (new, mut new_peer) = rig.pair(2);
        rig.io.send(new, b"new".to_vec());
        assert!(matches!(rig.next(), (2, What::Sent { result: Ok(3), .. })));
        let mut heard = [0; 3];
        new_peer.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"new");
        rig.io.close(new);
        rig.expect_nothing();
        drop(old_peer);
        assert_eq!(new_peer.read(&mut heard).unwrap(), 0);
    }
}

fn a_closed_descriptor_is_closed(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(1);
    rig.io.receive(handle);
    rig.expect_nothing();
    rig.io.close(handle);
    rig.expect_nothing();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

fn closing_ends_it_for_the_peer_though_a_copy_lives(mut rig: Rig) {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let copy = ours.try_clone().unwrap();
    let handle = rig.add(ours, 1);
    rig.io.receive(handle);
    rig.expect_nothing();
    rig.io.close(handle);
    rig.expect_nothing();
    // The copy keeps the description alive: nobody here may react to it any more.
    peer.write_all(b"x").unwrap();
    rig.expect_to_sleep();
    let mut byte = [0];
    (&copy).read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

fn what_is_taken_comes_back_usable(mut rig: Rig) {
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let handle = rig.add(ours, 1);
    rig.io.receive(handle);
    peer.write_all(b"first").unwrap();
    assert_eq!(bytes(&rig.next().1), b"first");
    let taken = rig.io.take(handle);
    assert_eq!(taken.as_raw_fd(), number);
    peer.write_all(b"second").unwrap();
    rig.expect_nothing();
    let mut second = [0; 6];
    UnixStream::from(taken).read_exact(&mut second).unwrap();
    assert_eq!(&second, b"second");
}

fn is_a_bug<T, F: FnOnce(&mut Rig) -> T>(rig: &mut Rig, what: F) {
    assert!(catch_unwind(AssertUnwindSafe(|| what(rig))).is_err());
}

fn taking_what_is_under_way_is_a_bug(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    rig.io.receive(handle);
    is_a_bug(&mut rig, |rig| rig.io.take(handle));
}

fn a_second_receive_is_a_bug(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    rig.io.receive(handle);
    is_a_bug(&mut rig, |rig| rig.io.receive(handle));
}

fn a_second_send_is_a_bug(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    rig.io.send(handle, vec![0; 4 << 20]);
    is_a_bug(&mut rig, |rig| rig.io.send(handle, vec![1]));
}

fn a_closed_handle_cannot_be_used(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    rig.io.close(handle);
    is_a_bug(&mut rig, |rig| rig.io.receive(handle));
    is_a_bug(&mut rig, |rig| rig.io.close(handle));
}

fn an_io_can_end_with_everything_under_way(mut rig: Rig) {
    let mut peers = Vec::new();
    for token in 0..8 {
        let (handle, peer) = rig.pair(token);
        rig.io.receive(handle);
        rig.io.send(handle, vec![0; 2 << 20]);
        if token % 2 == 0 {
            rig.io.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
        }
        peers.push(peer);
    }
    let (held, mut peer) = rig.pair(8);
    peer.write_all(b"held").unwrap();
    rig.io.receive(held);
    let (_, what) = rig.next();
    drop(rig);
    // A chunk outlives the io it came from.
    assert_eq!(bytes(&what), b"held");
    for mut peer in peers {
        let mut heard = Vec::new();
        let _ = peer.read_to_end(&mut heard);
        assert!(heard.len() < 2 << 20);
    }
}

fn children_inherit_nothing(mut rig: Rig) {
    let (handle, mut peer) = rig.pair(1);
    rig.io.receive(handle);
    rig.expect_nothing();
    let output = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .unwrap();
    let listing = String::from_utf8_lossy(&output.stdout);
    assert!(!listing.contains("anon_inode"), "{listing}");
    // And the ring still works in the parent.
    peer.write_all(b"still here").unwrap();
    assert_eq!(bytes(&rig.next().1), b"still here");
    drop::<OwnedFd>(rig.io.take(handle));
}
