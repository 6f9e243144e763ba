//! Keep-alive simulation: which containers stay, when memory is short.

pub mod classic;
mod classic_hist;
mod heap;
mod mersenne;
pub mod report;
