//! Files read a piece at a time, for answers that nobody should hold in memory as a whole.
//!
//! A [`Stretch`] is a part of a file from its beginning, a [`Stretches`] several of them one behind
//! the other. Every read blocks and returns little, so helpers do it between other work.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// What one read returns at most.
pub const PIECE_BYTES: usize = 64 * 1024;

/// The first bytes of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    pub path: PathBuf,
    pub bytes: u64,
}

/// What is left to be read of several.
#[derive(Debug)]
pub struct Stretches {
    left: VecDeque<Stretch>,
    open: Option<io::Take<File>>,
}

impl Stretches {
    pub fn new(stretches: Vec<Stretch>) -> Self {
        Self {
            left: stretches.into(),
            open: None,
        }
    }

    /// The next piece; an empty one is the end. A file that is gone meanwhile is passed over.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(open) = &mut self.open {
                let piece = piece(open)?;
                if !piece.is_empty() {
                    return Ok(piece);
                }
            }
            let Some(next) = self.left.pop_front() else {
                return Ok(Vec::new());
            };
            self.open = match File::open(&next.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                file => Some(file?.take(next.bytes)),
            };
        }
    }
}

/// At most a piece of what is left; empty at the end.
pub fn piece(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    reader.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn stretches_follow_each_other_and_the_missing_is_passed_over() {
        let root = std::env::temp_dir().join(format!("ol-stretch-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let stretch = |name: &str, text: &[u8], bytes: u64| {
            let path = root.join(name);
            fs::write(&path, text).unwrap();
            Stretch { path, bytes }
        };
        let long = vec![b'x'; PIECE_BYTES + 5];
        let list = vec![
            stretch("a", b"one-not this", 4),
            stretch("b", &long, u64::MAX),
            stretch("c", b"", 0),
            stretch("d", b"end", 3),
        ];
        fs::remove_file(&list[2].path).unwrap();
        let mut all = Stretches::new(list);
        let mut lengths = Vec::new();
        loop {
            let piece = all.read().unwrap();
            if piece.is_empty() {
                break;
            }
            lengths.push(piece.len());
        }
        assert_eq!(lengths, [4, PIECE_BYTES, 5, 3]);
        fs::remove_dir_all(root).unwrap();
    }
}
