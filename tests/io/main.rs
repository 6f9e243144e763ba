//! What `io` promises, tried on both back ends: each test of the modules below runs once on epoll
//! and once on io_uring.

/// Makes two tests of each function named.
macro_rules! on_both_back_ends {
    ($($test:ident)*) => {
        mod epoll {
            $(#[test] fn $test() { crate::rig::run(olworker::io::Wanted::Epoll, super::$test); })*
        }
        mod io_uring {
            $(#[test] fn $test() { crate::rig::run(olworker::io::Wanted::IoUring, super::$test); })*
        }
    };
}

mod bounds;
mod choosing;
mod ends;
mod listeners;
mod model;
mod rig;
mod streams;
mod watching;
