//! Which back end runs, and the sentence that says why it is not the other one.

use crate::rig::limits;
use olworker::io::{BackEnd, Chosen, Io, Unavailable, Wanted};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;

/// Tries it in a thread of its own where the system call is answered with the error.
fn without<T: Send>(call: i64, error: i32, what: impl FnOnce() -> T + Send) -> T {
    let filter = SeccompFilter::new(
        BTreeMap::from([(call, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(error as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    std::thread::scope(|scope| {
        let tried = scope.spawn(move || {
            seccompiler::apply_filter(&program).unwrap();
            what()
        });
        tried.join().unwrap()
    })
}

fn chosen(wanted: Wanted) -> Result<Chosen, Unavailable> {
    Io::new(wanted, limits()).map(|(_, chosen)| chosen)
}

#[test]
fn epoll_is_had_when_wanted() {
    let chosen = chosen(Wanted::Epoll).unwrap();
    assert_eq!((chosen.back_end, chosen.fallback), (BackEnd::Epoll, None));
}

#[test]
fn auto_prefers_io_uring_or_says_why_not() {
    let auto = chosen(Wanted::Auto).unwrap();
    match chosen(Wanted::IoUring) {
        Ok(_) => assert_eq!(auto.to_string(), "io_uring"),
        Err(unavailable) => {
            assert_eq!(auto.back_end, BackEnd::Epoll);
            assert!(auto.fallback.unwrap().ends_with(&unavailable.why));
        }
    }
}

#[test]
fn what_hides_io_uring_is_named() {
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let forbidden = match switch.as_deref().map(str::trim) {
        Ok(level @ ("1" | "2")) => {
            format!("switched off by the system (sysctl kernel.io_uring_disabled = {level})")
        }
        _ => String::from("forbidden, probably by a seccomp filter"),
    };
    let hidden = String::from("not in this kernel, or hidden by a seccomp filter");
    for (error, why) in [(libc::EPERM, forbidden), (libc::ENOSYS, hidden)] {
        let (auto, only) = without(libc::SYS_io_uring_setup, error, || {
            (
                chosen(Wanted::Auto).unwrap(),
                chosen(Wanted::IoUring).unwrap_err(),
            )
        });
        assert_eq!(
            auto.to_string(),
            format!("epoll: io_uring cannot be used: {why}")
        );
        assert_eq!(
            only.to_string(),
            format!("io_uring cannot be used: {why} (set [io] backend = \"auto\" to do without)")
        );
    }
}

#[test]
fn a_ring_that_cannot_do_all_is_not_relied_on() {
    for call in [libc::SYS_io_uring_register, libc::SYS_io_uring_enter] {
        let auto = without(call, libc::EPERM, || chosen(Wanted::Auto).unwrap());
        assert_eq!(auto.back_end, BackEnd::Epoll);
        assert!(
            auto.fallback
                .unwrap()
                .starts_with("io_uring cannot be used: ")
        );
    }
}
