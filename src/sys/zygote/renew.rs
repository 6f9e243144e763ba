//! What makes up numbers in an instance, made unlike its siblings': tables that Python told of are
//! filled with random numbers in each child.

use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::sync::Mutex;

/// The standard library and numpy have one each.
const TABLES_MAX: usize = 8;

/// Where random numbers go, and the number that says that all of them are unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) address: usize,
    pub(super) bytes: usize,
    pub(super) index_address: usize,
    pub(super) index: u32,
}

static TABLES: Mutex<Vec<Table>> = Mutex::new(Vec::new());

/// From now on this table is renewed in children. False when there are as many as there may be.
pub(super) fn add(table: Table) -> bool {
    let Ok(mut tables) = TABLES.lock() else {
        return false;
    };
    if tables.contains(&table) {
        return true;
    }
    if tables.len() == TABLES_MAX {
        return false;
    }
    tables.push(table);
    true
}

/// In a child.
pub(super) fn all() -> io::Result<()> {
    let tables = TABLES.lock().map_err(|_| io::ErrorKind::Other)?;
    for table in tables.iter() {
        let place = core::ptr::with_exposed_provenance_mut::<u8>(table.address);
        // SAFETY: whoever added it found the table there; it lives as long as its module, and
        // this process has no other thread.
        let bytes = unsafe { core::slice::from_raw_parts_mut(place, table.bytes) };
        let mut filled = 0;
        while filled < bytes.len() {
            filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
        }
        let index = core::ptr::with_exposed_provenance_mut::<u32>(table.index_address);
        // SAFETY: likewise.
        unsafe { index.write_unaligned(table.index) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_filled_anew_each_time() {
        let table = Box::leak(Box::new([7_u32; 625]));
        let added = Table {
            address: (&raw mut table[0]).expose_provenance(),
            bytes: 624 * 4,
            index_address: (&raw mut table[624]).expose_provenance(),
            index: 624,
        };
        assert!(add(added) && add(added));
        all().unwrap();
        let first = *table;
        all().unwrap();
        assert!(table[..624] != first[..624] && first[..624] != [7; 624]);
        assert_eq!((first[624], table[624]), (624, 624));
    }
}
