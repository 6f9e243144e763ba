//! The list of all functions, made piece by piece while its client takes it.
//!
//! Ten thousand rows are a megabyte: nobody holds it, and no step of it is long enough to keep a
//! helper from the calls that wait for one.

use crate::host::code::{Listed, Listing};
use crate::host::log::Moment;
use serde_json::{Value, json};
use std::io::{self, Write as _};
use std::time::Duration;

/// Rows of one piece: some milliseconds of a disk.
const ROWS_MAX: usize = 128;

/// What is left to tell of it.
#[derive(Debug)]
pub(super) struct Lister {
    rows: Listing,
    begun: bool,
    ended: bool,
}

impl Lister {
    pub(super) fn new(rows: Listing) -> Self {
        Self {
            rows,
            begun: false,
            ended: false,
        }
    }

    /// The next piece of JSON; an empty one: it was the end. Blocks: for helpers.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = Vec::new();
        if self.ended {
            return Ok(piece);
        }
        if !self.begun {
            piece.extend_from_slice(b"{\"functions\":[");
        }
        let rows = self.rows.next(ROWS_MAX)?;
        self.ended = rows.is_empty();
        for row in &rows {
            if core::mem::replace(&mut self.begun, true) {
                piece.push(b',');
            }
            write!(piece, "{}", row_json(row))?;
        }
        // The beginning is told once, also of an empty list.
        self.begun = true;
        if self.ended {
            piece.extend_from_slice(b"]}\n");
        }
        Ok(piece)
    }
}

/// One function, as lists show it.
pub(super) fn row_json(row: &Listed) -> Value {
    json!({
        "name": row.name.as_str(),
        "version": row.version,
        "bytes": row.bytes,
        "uploaded": moment(row.modified_secs),
    })
}

pub(super) fn moment(unix_secs: i64) -> String {
    Moment(Duration::from_secs(unix_secs.try_into().unwrap_or(0))).to_string()
}
