//! A real worker process, called over its socket: every test here runs on both io back ends.

mod archives;
mod calls;
mod failures;
mod index;
mod installs;
mod life;
mod memory;
mod packages;
mod records;
mod registry;
mod requests;
mod rig;
mod tls;
mod trees;
mod uploads;
mod web;
mod wheels;

/// The same test on each back end.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod epoll {
            $(#[test]
            fn $name() {
                super::$name("epoll");
            })+
        }
        mod io_uring {
            $(#[test]
            fn $name() {
                super::$name("io_uring");
            })+
        }
    };
}
pub(crate) use on_both;
