//! Descriptors the owner drains itself, the waker, and sleeping.

use crate::rig::{Rig, skip};
use olworker::io::{Interest, Token, What};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

on_both_back_ends! {
    a_watched_counter_is_told_once_for_each_time_asked
    what_is_left_unread_is_told_again
    the_death_of_a_child_is_told
    a_timer_is_told
    messages_are_drained_by_their_owner
    a_change_in_a_control_group_is_told
    closing_ends_a_watch
    a_waker_wakes_from_another_thread
    wakes_before_a_wait_are_told_as_one
    a_wait_without_time_does_not_sleep
    a_wait_ends_when_its_time_is_over
    nothing_wakes_an_idle_worker
}

fn counter(start: u32) -> std::os::fd::OwnedFd {
    eventfd(start, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn a_watched_counter_is_told_once_for_each_time_asked(mut rig: Rig) {
    let ours = counter(0);
    let theirs = ours.try_clone().unwrap();
    let handle = rig.add(ours, 5);
    for _ in 0..3 {
        rig.io.watch(handle, Interest::Readable);
        rig.expect_nothing();
        rustix::io::write(&theirs, &1u64.to_ne_bytes()).unwrap();
        assert!(matches!(rig.next(), (5, What::Ready(Ok(())))));
        rustix::io::write(&theirs, &1u64.to_ne_bytes()).unwrap();
        rig.expect_nothing();
        rustix::io::read(rig.io.descriptor(handle), &mut [0; 8]).unwrap();
    }
}

fn what_is_left_unread_is_told_again(mut rig: Rig) {
    let handle = rig.add(counter(1), 5);
    for _ in 0..3 {
        rig.io.watch(handle, Interest::Readable);
        assert!(matches!(rig.next(), (5, What::Ready(Ok(())))));
    }
    rustix::io::read(rig.io.descriptor(handle), &mut [0; 8]).unwrap();
    rig.io.watch(handle, Interest::Readable);
    rig.expect_nothing();
}

fn the_death_of_a_child_is_told(mut rig: Rig) {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let handle = rig.add(pidfd_open(pid, PidfdFlags::empty()).unwrap(), 1);
    rig.io.watch(handle, Interest::Readable);
    rig.expect_nothing();
    drop(child.stdin.take());
    assert!(matches!(rig.next(), (1, What::Ready(Ok(())))));
    assert!(child.wait().unwrap().success());
}

fn a_timer_is_told(mut rig: Rig) {
    let timer =
        rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
    let soon = Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000,
        },
    };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &soon).unwrap();
    let handle = rig.add(timer, 1);
    rig.io.watch(handle, Interest::Readable);
    assert!(matches!(rig.next(), (1, What::Ready(Ok(())))));
}

fn messages_are_drained_by_their_owner(mut rig: Rig) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let handle = rig.add(ours, 1);
    rig.io.watch(handle, Interest::Readable);
    for message in [&b"one"[..], b"three"] {
        rustix::net::send(&theirs, message, SendFlags::empty()).unwrap();
    }
    assert!(matches!(rig.next().1, What::Ready(Ok(()))));
    let mut buffer = [0; 16];
    for length in [3, 5] {
        let descriptor = rig.io.descriptor(handle);
        let received = rustix::net::recv(descriptor, &mut buffer, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(received.0, length);
    }
    rig.io.watch(handle, Interest::Readable);
    rig.expect_nothing();
    drop(theirs);
    assert!(matches!(rig.next().1, What::Ready(Ok(()))));
}

/// A control group of this test's own, gone afterwards.
struct Group(PathBuf);

impl Group {
    fn make(rig: &Rig) -> Option<Self> {
        let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .map(PathBuf::from)
            .into_iter()
            .find(|root| {
                root.join("cgroup.procs").exists() && root.join("cgroup.controllers").exists()
            })?;
        let path = root.join(format!(
            "olworker-io-{:?}-{}",
            rig.wanted,
            std::process::id()
        ));
        std::fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn a_change_in_a_control_group_is_told(mut rig: Rig) {
    let Some(group) = Group::make(&rig) else {
        return skip("no control group (version 2) can be made here");
    };
    let events = std::fs::File::open(group.0.join("cgroup.events")).unwrap();
    let handle = rig.add(events, 1);
    let mut text = [0; 256];
    let mut read = |rig: &Rig| {
        let count = rustix::io::pread(rig.io.descriptor(handle), &mut text, 0).unwrap();
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    assert!(read(&rig).contains("frozen 0"));
    for (order, state) in [("1", "frozen 1"), ("0", "frozen 0")] {
        rig.io.watch(handle, Interest::Priority);
        rig.expect_nothing();
        std::fs::write(group.0.join("cgroup.freeze"), order).unwrap();
        assert!(matches!(rig.next(), (1, What::Ready(Ok(())))));
        assert!(read(&rig).contains(state));
    }
}

fn closing_ends_a_watch(mut rig: Rig) {
    let ours = counter(0);
    let theirs = ours.try_clone().unwrap();
    let handle = rig.add(ours, 5);
    rig.io.watch(handle, Interest::Readable);
    rig.expect_nothing();
    rig.io.close(handle);
    rustix::io::write(theirs.as_fd(), &1u64.to_ne_bytes()).unwrap();
    rig.expect_nothing();
}

fn a_waker_wakes_from_another_thread(mut rig: Rig) {
    let waker = rig.io.waker();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            let waker = waker.clone();
            scope.spawn(move || waker.wake());
            let (token, what) = rig.next();
            assert!(
                token == Token::WAKER.0 && matches!(what, What::Woken),
                "{what:?}"
            );
        }
    });
    rig.expect_nothing();
}

fn wakes_before_a_wait_are_told_as_one(mut rig: Rig) {
    for _ in 0..3 {
        rig.io.waker().wake();
    }
    assert!(matches!(rig.next().1, What::Woken));
    rig.expect_nothing();
}

fn a_wait_without_time_does_not_sleep(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    rig.io.receive(handle);
    // Were it to sleep this would never end.
    for _ in 0..100 {
        rig.io.wait(Some(Duration::ZERO), &mut rig.out).unwrap();
    }
    assert!(rig.out.is_empty());
}

fn a_wait_ends_when_its_time_is_over(mut rig: Rig) {
    let (handle, _peer) = rig.pair(1);
    rig.io.receive(handle);
    let before = olworker::sys::clock::now();
    let mut rounds = 0;
    while olworker::sys::clock::now().since(before) < Duration::from_millis(30) {
        rig.io
            .wait(Some(Duration::from_millis(30)), &mut rig.out)
            .unwrap();
        rounds += 1;
    }
    assert!(rig.out.is_empty());
    // The first may return early, having met what the set-up left behind.
    assert!(rounds <= 3, "{rounds} rounds");
}

fn nothing_wakes_an_idle_worker(mut rig: Rig) {
    let peers: Vec<_> = (0..50)
        .map(|token| {
            let (handle, peer) = rig.pair(token);
            rig.io.receive(handle);
            peer
        })
        .collect();
    rig.expect_nothing();
    rig.expect_to_sleep();
    drop(peers);
}
