//! What sandboxes hold, where the kernel does not count it for us.
//!
//! A process's proportional set: its own pages, and of each shared page its share. Charged so, a
//! zygote's pages are counted once, divided among all that were forked from it. Reading it walks
//! the page tables (about a millisecond for 70 MB), so it is sampled, never read on the path of a
//! call, and not read again while the kernel's counts of pages (20 us) say that nothing changed.

use super::cgroup::Group;
use std::fs::{self, File};
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

/// This many pages may come or go, or this part of what is held, and it is still the same.
const SAME_PAGES: u64 = 16;
const SAME_PART: u64 = 16;

/// What processes held when their page tables were walked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    pages: Pages,
    /// Their proportional sets.
    pub held: u64,
}

/// What the kernel counts as it goes. A page of one's own is got by a fault, in place of one that
/// was shared or in addition; a page given back is resident no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Pages {
    faults: u64,
    resident: u64,
}

/// What the processes hold; as before, if next to no pages came or went. Those that end meanwhile
/// count nothing.
pub fn of_processes(pids: &[i32], before: Option<Walked>) -> Walked {
    let each = pids.iter().filter_map(|pid| Pages::of(*pid));
    let pages = each.fold(Pages::default(), |all, one| Pages {
        faults: all.faults + one.faults,
        resident: all.resident + one.resident,
    });
    match before {
        Some(walked) if walked.is_still(pages) => walked,
        _ => Walked {
            pages,
            held: pids.iter().filter_map(|pid| of_process(*pid).ok()).sum(),
        },
    }
}

impl Walked {
    fn is_still(&self, now: Pages) -> bool {
        let held = self.held / rustix::param::page_size() as u64;
        let same = u64::max(SAME_PAGES, held / SAME_PART);
        now.faults.abs_diff(self.pages.faults) <= same
            && now.resident.abs_diff(self.pages.resident) <= same
    }
}

impl Pages {
    fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Behind the name, which may contain anything, the state is the third field.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse().ok();
        Some(Self {
            faults: field(10)?,
            resident: field(24)?,
        })
    }
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
    fn the_tables_are_walked_again_only_when_pages_came_or_went() {
        let own = [std::process::id() as i32];
        // Told apart from what a walk would say.
        let before = Walked {
            held: 7,
            ..of_processes(&own, None)
        };
        let pages = vec![1_u8; 64 << 20];
        assert_ne!(of_processes(&own, Some(before)).held, 7);
        assert!(pages.iter().all(|byte| *byte == 1));
        let pages = before.pages;
        let more = |faults, resident| Pages {
            faults: pages.faults + faults,
            resident: pages.resident + resident,
        };
        assert!(before.is_still(pages));
        assert!(before.is_still(more(SAME_PAGES, SAME_PAGES)));
        assert!(
            !before.is_still(more(SAME_PAGES + 1, 0)),
            "in place of shared ones"
        );
        assert!(!before.is_still(more(0, SAME_PAGES + 1)));
        let large = Walked {
            held: 64 << 20,
            ..before
        };
        assert!(large.is_still(more(SAME_PAGES + 1, 0)));
    }

    #[test]
    fn the_fields_are_counted_behind_the_name() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 5101 0 0 0 1 2 0 0 20 0 1 0 9 8192 333 18446";
        let pages = Pages::parse(text);
        assert_eq!(
            pages,
            Some(Pages {
                faults: 5101,
                resident: 333
            })
        );
        assert_eq!(Pages::parse("7 (a) S 1"), None);
    }

    #[test]
    fn ours_is_at_least_what_we_write() {
        let pages = vec![1_u8; 8 << 20];
        let own = of_process(std::process::id() as i32).unwrap();
        assert!(own >= pages.len() as u64, "{own}");
    }
}
