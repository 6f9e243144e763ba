//! Every bound: what happens at it, and that nobody starves below it.

use crate::rig::{Rig, bytes, limits, may_open};
use olworker::io::{Limits, Token, What};
use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

on_both_back_ends! {
    a_full_io_hands_the_descriptor_back
    closing_makes_room_at_once
    closing_leaves_nothing_behind
    without_a_free_chunk_receives_wait_and_none_is_lost
    chunks_go_round_in_the_order_of_the_data
    nobody_overtakes_who_waits_for_a_chunk
    a_connection_with_nothing_to_receive_takes_no_chunk
    the_end_needs_no_chunk
    pipes_wait_for_chunks_too
    a_wait_never_tells_more_than_the_limit
    a_flood_on_one_connection_does_not_starve_another
    more_operations_than_the_queues_hold
}

fn a_full_io_hands_the_descriptor_back(mut rig: Rig) {
    let ends: Vec<_> = (0..64).map(|token| rig.pair(token)).collect();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let back = rig.io.add(ours.into(), Token(64)).unwrap_err();
    assert_eq!(back.as_raw_fd(), number);
    rig.io.close(ends[0].0);
    rig.io.add(back, Token(64)).unwrap();
}

fn closing_makes_room_at_once(mut rig: Rig) {
    for _ in 0..5 {
        let ends: Vec<_> = (0..64).map(|token| rig.pair(token)).collect();
        for (handle, _) in &ends {
            rig.io.receive(*handle);
            rig.io.send(*handle, vec![0; 1 << 20]);
        }
        for (handle, _) in &ends {
            rig.io.close(*handle);
        }
    }
    rig.expect_nothing();
}

fn closing_leaves_nothing_behind(mut rig: Rig) {
    for _ in 0..30 {
        let ends: Vec<_> = (0..64).map(|token| rig.pair(token)).collect();
        for (handle, _) in &ends {
            rig.io.receive(*handle);
            rig.io.send(*handle, vec![0; 1 << 20]);
        }
        rig.io.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
        for (handle, _) in &ends {
            rig.io.close(*handle);
        }
        rig.io.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
    }
    rig.expect_nothing();
}

/// An io with two chunks, and connections with one message waiting on each.
fn two_chunks(rig: Rig, connections: u64) -> (Rig, Vec<UnixStream>) {
    let mut rig = rig.with(Limits {
        chunks: 2,
        ..limits()
    });
    let mut peers = Vec::new();
    for token in 0..connections {
        let (handle, mut peer) = rig.pair(token);
        peer.write_all(&[token as u8]).unwrap();
        rig.io.receive(handle);
        peers.push(peer);
    }
    (rig, peers)
}

fn without_a_free_chunk_receives_wait_and_none_is_lost(rig: Rig) {
    let (mut rig, _peers) = two_chunks(rig, 7);
    let mut held: VecDeque<_> = (0..2).map(|_| rig.next()).collect();
    rig.expect_nothing();
    let mut seen = Vec::new();
    for left in (0..7).rev() {
        let (token, what) = held.pop_front().unwrap();
        assert_eq!(bytes(&what), [token as u8]);
        seen.push(token);
        drop(what);
        if left >= 2 {
            held.push_back(rig.next());
            rig.expect_nothing();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
}

fn chunks_go_round_in_the_order_of_the_data(rig: Rig) {
    let (mut rig, mut peers) = two_chunks(rig, 2);
    let mut held: VecDeque<_> = (0..2).map(|_| rig.next()).collect();
    let mut handles = Vec::new();
    for token in 10..16 {
        let (handle, peer) = rig.pair(token);
        rig.io.receive(handle);
        handles.push(handle);
        peers.push(peer);
    }
    rig.expect_nothing();
    // The last to ask is the first to have something to receive.
    for (index, peer) in peers.iter_mut().enumerate().skip(2).rev() {
        peer.write_all(&[index as u8 + 8]).unwrap();
        rig.expect_nothing();
    }
    let mut order = Vec::new();
    for _ in 10..16 {
        drop(held.pop_front());
        held.push_back(rig.next());
        order.push(held.back().unwrap().0);
    }
    assert_eq!(order, [15, 14, 13, 12, 11, 10]);
}

fn nobody_overtakes_who_waits_for_a_chunk(rig: Rig) {
    let (mut rig, mut peers) = two_chunks(rig, 3);
    let mut held: VecDeque<_> = (0..2).map(|_| rig.next()).collect();
    rig.expect_nothing();
    let waiting = (0..3).find(|token| held.iter().all(|(other, _)| other != token));
    let (late, mut peer) = rig.pair(9);
    peer.write_all(b"late").unwrap();
    peers.push(peer);
    rig.io.receive(late);
    held.pop_front();
    let first = rig.next();
    assert_eq!(Some(first.0), waiting);
    rig.expect_nothing();
    held.clear();
    assert_eq!(rig.next().0, 9);
}

fn a_connection_with_nothing_to_receive_takes_no_chunk(rig: Rig) {
    let mut rig = rig.with(Limits {
        chunks: 1,
        ..limits()
    });
    let idle: Vec<_> = (100..140)
        .map(|token| {
            let (handle, peer) = rig.pair(token);
            rig.io.receive(handle);
            peer
        })
        .collect();
    let (busy, mut peer) = rig.pair(1);
    for _ in 0..20 {
        peer.write_all(b"x").unwrap();
        rig.io.receive(busy);
        let (token, what) = rig.next();
        assert_eq!((token, bytes(&what)), (1, b"x".to_vec()));
        // Held over a round, so that the idle ones have every chance to take it.
        rig.expect_nothing();
    }
    drop(idle);
}

fn the_end_needs_no_chunk(rig: Rig) {
    let (mut rig, _peers) = two_chunks(rig, 2);
    let held = rig.next_of(2);
    let (handle, peer) = rig.pair(9);
    rig.io.receive(handle);
    drop(peer);
    drop(held);
    assert!(matches!(rig.next(), (9, What::Ended)));
}

fn pipes_wait_for_chunks_too(rig: Rig) {
    let (mut rig, _peers) = two_chunks(rig, 2);
    let mut held = rig.next_of(2);
    let mut writers = Vec::new();
    for token in 10..14 {
        let (reader, writer) = std::io::pipe().unwrap();
        let handle = rig.add(reader, token);
        rig.io.receive(handle);
        writers.push(writer);
    }
    rig.expect_nothing();
    for (index, writer) in writers.iter_mut().enumerate().skip(1) {
        writer.write_all(&[index as u8]).unwrap();
    }
    rig.expect_nothing();
    for _ in 1..4 {
        held.pop();
        let (token, what) = rig.next();
        assert_eq!(bytes(&what), [(token - 10) as u8]);
    }
    writers[0].write_all(b"late").unwrap();
    assert_eq!(bytes(&rig.next().1), b"late");
}

fn a_wait_never_tells_more_than_the_limit(rig: Rig) {
    let mut rig = rig.with(Limits {
        completions: 3,
        ..limits()
    });
    let mut ends: Vec<_> = (0..40).map(|token| rig.pair(token)).collect();
    for (handle, peer) in &mut ends {
        peer.write_all(b"x").unwrap();
        rig.io.receive(*handle);
        rig.io.send(*handle, b"y".to_vec());
    }
    let mut told = 0;
    while told < 80 {
        rig.io
            .wait(Some(Duration::from_secs(20)), &mut rig.out)
            .unwrap();
        assert!(rig.out.len() <= 3);
        told += rig.out.drain(..).count();
    }
    rig.expect_nothing();
}

fn a_flood_on_one_connection_does_not_starve_another(rig: Rig) {
    let mut rig = rig.with(Limits {
        completions: 2,
        ..limits()
    });
    let (flooded, mut flood) = rig.pair(1);
    let (quiet, mut peer) = rig.pair(2);
    flood.set_nonblocking(true).unwrap();
    rig.io.receive(flooded);
    rig.io.receive(quiet);
    for round in 0..20 {
        peer.write_all(b"?").unwrap();
        let mut served = false;
        for _ in 0..10 {
            while flood.write(&[0; 4096]).is_ok() {}
            rig.io.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
            for done in std::mem::take(&mut rig.out) {
                if done.token == Token(1) {
                    rig.io.receive(flooded);
                } else {
                    served = true;
                    rig.io.receive(quiet);
                }
            }
        }
        assert!(served, "round {round}");
    }
}

fn more_operations_than_the_queues_hold(rig: Rig) {
    if !may_open(6000) {
        return;
    }
    let mut rig = rig.with(Limits {
        handles: 3000,
        chunks: 64,
        ..limits()
    });
    let mut ends: Vec<_> = (0..3000).map(|token| rig.pair(token)).collect();
    for (handle, peer) in &mut ends {
        peer.write_all(b"x").unwrap();
        rig.io.receive(*handle);
        rig.io.send(*handle, b"y".to_vec());
    }
    let (mut received, mut sent) = (0, 0);
    while received + sent < 6000 {
        match rig.next().1 {
            What::Received(Ok(_)) => received += 1,
            What::Sent { result: Ok(1), .. } => sent += 1,
            what => panic!("{what:?}"),
        }
    }
    assert_eq!((received, sent), (3000, 3000));
    for (handle, _) in &ends {
        rig.io.receive(*handle);
    }
    for (handle, _) in &ends {
        rig.io.close(*handle);
    }
    rig.expect_nothing();
}
