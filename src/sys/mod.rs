//! The only unsafe: what rustix does not have. Imports base.

#![expect(
    unsafe_code,
    reason = "this room is where unsafe lives, one operation a block"
)]

pub mod clock;
pub mod listen;
pub mod signals;
