//! Code: what was uploaded, checked, unpacked, kept in versions, and given to instances read-only.

pub mod archive;
