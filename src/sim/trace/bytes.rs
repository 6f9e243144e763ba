//! From a path to plain bytes: what a trace begins with, decompression, how far reading has come.
//!
//! Owns the open file. The beginning is looked at without seeking, so that a trace may come through
//! a pipe; only formats that must be read twice need a file.

use super::TraceError;
use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

/// Enough to tell every format.
const HEAD_BYTES: u64 = 1 << 16;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

pub type Bytes = Box<dyn Read + Send>;

/// How much of a file of known length has been read; shared with whoever shows it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    read: Arc<AtomicU64>,
    total: u64,
}

impl Progress {
    /// Between zero and one; none when the length is not known (a pipe).
    pub fn share(&self) -> Option<f64> {
        let read = self.read.load(Ordering::Relaxed);
        (self.total > 0).then(|| f64::min(read as f64 / self.total as f64, 1.0))
    }
}

struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = self.file.read(into)?;
        self.read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(len)
    }
}

/// A file's content, decompressed where it begins as gzip does.
pub fn open(path: &Path) -> Result<(Bytes, Progress), TraceError> {
    let cannot = |error: std::io::Error| {
        TraceError::whole(format!("cannot be opened: {error}")).remedied("name a trace")
    };
    let file = File::open(path).map_err(cannot)?;
    let total = file.metadata().map_err(cannot)?.len();
    let progress = Progress {
        read: Arc::default(),
        total,
    };
    let mut counted = Counted {
        file,
        read: progress.read.clone(),
    };
    let mut magic = Vec::new();
    counted
        .by_ref()
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut magic)
        .map_err(cannot)?;
    let compressed = magic == GZIP_MAGIC;
    let bytes = Cursor::new(magic).chain(counted);
    if compressed {
        let decoder = flate2::bufread::MultiGzDecoder::new(BufReader::new(bytes));
        return Ok((Box::new(decoder), progress));
    }
    Ok((Box::new(bytes), progress))
}

/// Reads the beginning; the bytes handed back have it still.
pub fn with_head(mut bytes: Bytes) -> (Vec<u8>, Bytes) {
    let mut head = Vec::new();
    // An error here comes again, with its line, when the reader gets that far.
    match bytes.by_ref().take(HEAD_BYTES).read_to_end(&mut head) {
        Ok(_) => (head.clone(), Box::new(Cursor::new(head).chain(bytes))),
        Err(error) => {
            let failing = Failing(Some(error));
            (head.clone(), Box::new(Cursor::new(head).chain(failing)))
        }
    }
}

/// Fails once, as it failed before.
struct Failing(Option<std::io::Error>);

impl Read for Failing {
    fn read(&mut self, _into: &mut [u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}
