//! Both programs as people and scripts meet them: what they print, where, and their exit codes.

mod bench;
mod check;
mod disks;
mod documents;
mod fake;
mod fit;
mod functions;
mod rig;
mod usage;
mod walkthrough;
mod worker;
