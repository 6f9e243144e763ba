//! Puts what a zygote has written into huge pages, once, before the first fork.
//!
//! Only what is mostly its own: a part that it still shares with the zygote it was forked from
//! would be copied, and the memory that sharing saves is worth more than the entries.

use super::arenas::HUGE_BYTES;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

const PAGE_BYTES: usize = 4096;
const PAGES: usize = HUGE_BYTES / PAGE_BYTES;
/// Of /proc/self/pagemap: the page is there, and nobody else has it.
const PRESENT: u64 = 1 << 63;
const EXCLUSIVE: u64 = 1 << 56;
/// Of a huge page's small ones that must be our own.
const OWN_MIN: usize = PAGES / 2;
/// Looked at; more memory than any zygote may have.
const RANGES_MAX: usize = 4096;

/// How many huge pages there are now that were small ones before. None is no harm: the kernel may
/// have no huge pages, or none left.
pub(super) fn gather() -> io::Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let pagemap = File::open("/proc/self/pagemap")?;
    let ranges = maps.lines().filter_map(anonymous).flat_map(|(begin, end)| {
        let first = begin.next_multiple_of(HUGE_BYTES);
        (first..end)
            .step_by(HUGE_BYTES)
            .filter(move |at| at + HUGE_BYTES <= end)
    });
    let mut gathered = 0;
    for begin in ranges.take(RANGES_MAX) {
        if is_mostly_own(&pagemap, begin)? && collapse(begin) {
            gathered += 1;
        }
    }
    Ok(gathered)
}

/// The bounds of a line of `maps`, if it is memory of no file that may be written.
fn anonymous(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    if words.next()? != "rw-p" || words.nth(2)? != "0" {
        return None;
    }
    if words.next().is_some_and(|name| name != "[heap]") {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(begin)?, number(end)?))
}

fn is_mostly_own(pagemap: &File, begin: usize) -> io::Result<bool> {
    let mut entries = [0; PAGES * 8];
    pagemap.read_exact_at(&mut entries, (begin / PAGE_BYTES * 8) as u64)?;
    let own = entries.as_chunks::<8>().0.iter().filter(|entry| {
        let entry = u64::from_ne_bytes(**entry);
        entry & PRESENT != 0 && entry & EXCLUSIVE != 0
    });
    Ok(own.count() >= OWN_MIN)
}

fn collapse(begin: usize) -> bool {
    let place = core::ptr::with_exposed_provenance_mut(begin);
    // SAFETY: whatever is there is there afterwards; only the pages behind it change.
    unsafe { libc::madvise(place, HUGE_BYTES, libc::MADV_COLLAPSE) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_of_no_file_is_looked_at() {
        for (line, found) in [
            ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0 ", true),
            ("296ab000-2a1b2000 rw-p 00000000 00:00 0    [heap]", true),
            ("7ffe1000-7ffe3000 rw-p 00000000 00:00 0    [stack]", false),
            ("7f00-7f01 r--p 00000000 00:00 0 ", false),
            ("7f00-7f01 rw-s 00000000 00:01 7 /memfd:x (deleted)", false),
            (
                "00946000-00a85000 rw-p 00545000 fe:00 247706 /usr/bin/python3.11",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(anonymous(line).is_some(), found, "{line}");
        }
    }

    #[test]
    fn what_is_gathered_holds_what_it_held() {
        let mut memory = vec![0_u8; 4 * HUGE_BYTES];
        for (place, byte) in memory.iter_mut().enumerate() {
            *byte = (place % 251) as u8;
        }
        gather().unwrap();
        let kept = memory
            .iter()
            .enumerate()
            .all(|(place, byte)| *byte == (place % 251) as u8);
        assert!(kept);
    }
}
