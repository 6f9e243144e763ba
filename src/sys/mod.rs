//! The only unsafe: what rustix does not have. Imports base; `zygote`, which is a peer of the
//! worker inside another process, speaks `wire`.

#![expect(
    unsafe_code,
    reason = "this room is where unsafe lives, one operation a block"
)]

pub mod clock;
pub mod clone;
pub mod launch;
pub mod listen;
pub mod machine;
pub mod mount;
pub mod network_namespace;
pub mod page;
pub mod probe;
pub mod process;
pub mod ring;
pub mod scm;
pub mod seccomp;
pub mod session;
pub mod signals;
pub mod user_namespace;
pub mod wait;
pub mod zygote;
