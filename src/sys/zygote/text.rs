//! Puts the interpreter's own code into huge pages, once, in the zygote that all others come from.
//!
//! Code is mapped from the interpreter's file, and a fork leaves such a mapping to be faulted in
//! again: some seventy faults in each child, each of which maps up to sixteen pages whose entries
//! are to be taken down when it ends. A copy of the code in huge pages, at the same addresses, is
//! two entries that a fork copies and no fault at all. It costs the zygote the memory of the copy,
//! which children share.
//!
//! What looks addresses up in `/proc/self/maps` finds no file name there any more; what goes by the
//! list of loaded objects (unwinding, `dladdr`) finds the same as before.

use super::arenas::HUGE_BYTES;
use rustix::mm::{MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use std::io;
use std::ops::Range;
use std::ptr::null_mut;

/// Of code; more than any interpreter has.
const COPIED_MAX: usize = 32 << 20;

/// Copies what surrounds this address in its file's mappings. How many huge pages there are now:
/// none is no harm.
pub(super) fn gather(address: usize) -> io::Result<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let Some(whole) = surrounding(&maps, address) else {
        return Ok(0);
    };
    let begin = whole.start.next_multiple_of(HUGE_BYTES);
    let end = whole.end / HUGE_BYTES * HUGE_BYTES;
    if end <= begin || end - begin > COPIED_MAX {
        return Ok(0);
    }
    replace(begin, end - begin)?;
    Ok((end - begin) / HUGE_BYTES)
}

/// The mappings of one file, side by side and not to be written to, around this address.
fn surrounding(maps: &str, address: usize) -> Option<Range<usize>> {
    let mut found: Option<(Range<usize>, &str)> = None;
    for line in maps.lines() {
        let mapped = read_only(line);
        if let (Some((range, file)), Some((new, same))) = (&mut found, &mapped)
            && range.end == new.start
            && file == same
        {
            range.end = new.end;
            continue;
        }
        if found
            .as_ref()
            .is_some_and(|(range, _)| range.contains(&address))
        {
            break;
        }
        found = mapped;
    }
    let (range, _) = found?;
    range.contains(&address).then_some(range)
}

/// The bounds and the file of a line of `maps` that is private and cannot be written to.
fn read_only(line: &str) -> Option<(Range<usize>, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    if !matches!(words.next()?, "r--p" | "r-xp") {
        return None;
    }
    let file = words.nth(3)?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    file.starts_with('/')
        .then_some((number(begin)?..number(end)?, file))
}

/// Puts a copy in huge pages where the original is.
fn replace(begin: usize, bytes: usize) -> io::Result<()> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let reserved = bytes + HUGE_BYTES;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let scratch =
        unsafe { rustix::mm::mmap_anonymous(null_mut(), reserved, access, MapFlags::PRIVATE)? };
    let before = scratch.addr().next_multiple_of(HUGE_BYTES) - scratch.addr();
    let copy = scratch.wrapping_byte_add(before);
    let placed = fill(copy, begin, bytes);
    // What is left of the reservation, or all of it.
    let rest = [
        (scratch, before),
        (copy, if placed.is_ok() { 0 } else { bytes }),
        (copy.wrapping_byte_add(bytes), HUGE_BYTES - before),
    ];
    for (place, bytes) in rest.into_iter().filter(|(_, bytes)| *bytes > 0) {
        // SAFETY: a part of the mapping made above, which nobody has seen.
        let _ = unsafe { rustix::mm::munmap(place, bytes) };
    }
    placed
}

fn fill(copy: *mut core::ffi::c_void, begin: usize, bytes: usize) -> io::Result<()> {
    let original = core::ptr::with_exposed_provenance_mut::<core::ffi::c_void>(begin);
    // SAFETY: the original is mapped readable for so many bytes, as was just read, and this is the
    // only thread; the copy is as long and our own.
    unsafe { core::ptr::copy_nonoverlapping(original.cast::<u8>(), copy.cast::<u8>(), bytes) };
    // SAFETY: whatever is there is there afterwards; only the pages behind it change.
    if unsafe { libc::madvise(copy, bytes, libc::MADV_COLLAPSE) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Constants between the code may be executed as well now: nothing was gained by who can jump
    // there, code of this size holds any sequence of bytes.
    let access = MprotectFlags::READ | MprotectFlags::EXEC;
    // SAFETY: nobody writes to the copy any more.
    unsafe { rustix::mm::mprotect(copy, bytes, access)? };
    let flags = MremapFlags::MAYMOVE;
    // SAFETY: byte for byte the same is there afterwards, and may be read and executed as before.
    unsafe { rustix::mm::mremap_fixed(copy, bytes, bytes, flags, original)? };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-0041f000 r--p 00000000 fe:00 247706      /usr/bin/python3.11
0041f000-006d2000 r-xp 0001f000 fe:00 247706      /usr/bin/python3.11
006d2000-00945000 r--p 002d2000 fe:00 247706      /usr/bin/python3.11
00946000-00a85000 rw-p 00545000 fe:00 247706      /usr/bin/python3.11
00a85000-00aca000 rw-p 00000000 00:00 0
7f00-8000 r--p 00000000 fe:00 324304              /usr/lib/a.so
8000-9000 r-xp 00000000 fe:00 324305              /usr/lib/b.so
";

    #[test]
    fn one_file_s_read_only_mappings_side_by_side() {
        for (address, found) in [
            (0x41_f800, Some(0x40_0000..0x94_5000)),
            (0x40_0000, Some(0x40_0000..0x94_5000)),
            (0x94_6000, None),
            (0xa8_5000, None),
            (0x7f80, Some(0x7f00..0x8000)),
            (0x8f00, Some(0x8000..0x9000)),
            (0x9000, None),
        ] {
            assert_eq!(surrounding(MAPS, address), found, "{address:x}");
        }
    }

    #[test]
    fn what_was_replaced_reads_as_before() {
        let file = rustix::fs::memfd_create("code", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut content = vec![0_u8; 3 * HUGE_BYTES];
        for (place, byte) in content.iter_mut().enumerate() {
            *byte = (place % 251) as u8;
        }
        rustix::io::write(&file, &content).unwrap();
        let bytes = content.len();
        let (access, flags) = (ProtFlags::READ, MapFlags::PRIVATE);
        // SAFETY: a new mapping touches no memory of ours, and nobody changes the file.
        let mapped = unsafe { rustix::mm::mmap(null_mut(), bytes, access, flags, &file, 0) };
        let mapped = mapped.unwrap();
        let begin = mapped.expose_provenance().next_multiple_of(HUGE_BYTES);
        replace(begin, HUGE_BYTES).unwrap();
        // SAFETY: mapped above, for so long.
        let seen = unsafe { core::slice::from_raw_parts(mapped.cast::<u8>(), bytes) };
        assert!(seen == content, "byte for byte");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let place = format!("{begin:x}-{:x} r-xp 00000000 00:00 0", begin + HUGE_BYTES);
        assert!(maps.contains(&place), "{maps}");
    }
}
