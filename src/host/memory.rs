//! What sandboxes hold, where the kernel does not count it for us.
//!
//! A process's proportional set: its own pages, and of each shared page its share. Charged so, a
//! zygote's pages are counted once, divided among all that were forked from it. Reading it walks
//! the page tables (about a millisecond for 70 MB), so it is sampled, never read on the path of a
//! call.

use super::cgroup::Group;
use std::fs::File;
use std::io::{self, Read as _};

/// A summary is shorter.
const SUMMARY_BYTES_MAX: usize = 4096;

/// What a group holds, in bytes: the sum over its processes. Those that end meanwhile count
/// nothing.
pub fn proportional(group: &Group) -> io::Result<u64> {
    let pids = group.pids()?;
    Ok(pids
        .into_iter()
        .filter_map(|pid| of_process(pid).ok())
        .sum())
}

/// What one process holds, in bytes.
pub fn of_process(pid: i32) -> io::Result<u64> {
    let mut file = File::open(format!("/proc/{pid}/smaps_rollup"))?;
    let mut bytes = [0; SUMMARY_BYTES_MAX];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..])? {
            0 => break,
            count => length += count,
        }
    }
    let text = core::str::from_utf8(&bytes[..length])
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    kilobytes(text, "Pss:")
        .map(|kb| kb * 1024)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_understood() {
        let text = "5581000-7ffd000 ---p 00000000 00:00 0 [rollup]\n\
                    Rss:                7080 kB\nPss:                5101 kB\nPss_Dirty: 99 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(5101));
        assert_eq!(kilobytes(text, "Swap:"), None);
    }

    #[test]
    fn ours_is_at_least_what_we_write() {
        let pages = vec![1_u8; 8 << 20];
        let own = of_process(std::process::id() as i32).unwrap();
        assert!(own >= pages.len() as u64, "{own}");
    }
}
