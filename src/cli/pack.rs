//! A directory as a .tar.gz, ready to be uploaded.
//!
//! The archive is written to an anonymous file in memory, so that its length is known before it is
//! sent. Names are sorted and times left out: the same directory gives the same bytes. Left out
//! besides are version control and compiled files, which are nobody's function.

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::MemfdFlags;
use std::fs::{self, File};
use std::io::{self, Seek as _, Write};
use std::path::Path;
use tar::{Builder, EntryType, Header, HeaderMode};

/// Names that are left out wherever they are.
const LEFT_OUT: [&str; 2] = [".git", "__pycache__"];
/// Files and directories of one function.
const ENTRIES_MAX: usize = 100_000;
/// Levels of directories.
const DEPTH_MAX: usize = 64;
/// Bytes of an archive.
const ARCHIVE_BYTES_MAX: u64 = 4 << 30;

/// Why a directory cannot be packed.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub why: String,
    pub remedy: &'static str,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self {
            why: error.to_string(),
            remedy: "mend that and deploy again",
        }
    }
}

/// The archive from its beginning, and its length.
pub fn directory(root: &Path) -> Result<(File, u64), Refused> {
    let memory = rustix::fs::memfd_create(c"olworker-upload", MemfdFlags::CLOEXEC);
    let file = File::from(memory.map_err(io::Error::from)?);
    let bounded = Bounded {
        inner: file,
        left: ARCHIVE_BYTES_MAX,
    };
    let mut archive = Builder::new(GzEncoder::new(bounded, Compression::fast()));
    archive.mode(HeaderMode::Deterministic);
    archive.follow_symlinks(false);
    add_all(&mut archive, root)?;
    let mut file = archive.into_inner()?.finish()?.inner;
    let length = file.stream_position()?;
    file.rewind()?;
    Ok((file, length))
}

/// Every file, in the order of its path.
fn add_all(archive: &mut Builder<impl Write>, root: &Path) -> Result<(), Refused> {
    let mut count = 0;
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let name = path
            .strip_prefix(root)
            .expect("everything walked is below the root");
        let at = |error: io::Error| Refused {
            why: format!("{}: {error}", path.display()),
            remedy: "make it readable, or leave it out",
        };
        let kind = fs::symlink_metadata(&path).map_err(at)?.file_type();
        if kind.is_dir() || path == root {
            if name.components().count() > DEPTH_MAX {
                let why = format!("{}: deeper than {DEPTH_MAX} directories", path.display());
                return Err(Refused {
                    why,
                    remedy: "deploy a directory further down",
                });
            }
            let mut children = Vec::new();
            for entry in fs::read_dir(&path).map_err(at)? {
                let entry = entry.map_err(at)?;
                if !LEFT_OUT
                    .iter()
                    .any(|left_out| entry.file_name() == *left_out)
                {
                    children.push(entry.path());
                }
            }
            children.sort();
            count += children.len();
            if count > ENTRIES_MAX {
                let why = format!("more than {ENTRIES_MAX} files");
                return Err(Refused {
                    why,
                    remedy: "deploy a directory with fewer files",
                });
            }
            open.extend(children.into_iter().rev());
        } else if kind.is_file() {
            archive.append_path_with_name(&path, name).map_err(at)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(at)?;
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            archive.append_link(&mut header, name, target).map_err(at)?;
        } else {
            let why = format!("{}: neither file nor directory", path.display());
            return Err(Refused {
                why,
                remedy: "leave it out",
            });
        }
    }
    if count == 0 {
        return Err(Refused {
            why: "the directory is empty".to_owned(),
            remedy: "write a function into it",
        });
    }
    Ok(())
}

/// Refuses to grow beyond a bound.
struct Bounded {
    inner: File,
    left: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            let why = format!("packed it is larger than {} GB", ARCHIVE_BYTES_MAX >> 30);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let count = self.inner.write(&bytes[..most])?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read as _;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("olworker-pack-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).expect("a temporary directory");
            Self(path)
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is ours");
        }
    }

    fn bytes(mut file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("memory");
        bytes
    }

    #[test]
    fn what_is_no_function_is_left_out_and_the_rest_is_sorted() {
        let scratch = Scratch::new("order");
        for name in [
            "b.py",
            "a/z.txt",
            "a/__pycache__/z.pyc",
            ".git/config",
            "a.py",
        ] {
            scratch.write(name, name);
        }
        std::os::unix::fs::symlink("b.py", scratch.0.join("link")).expect("a link");
        let (file, length) = directory(&scratch.0).expect("packed");
        let first = bytes(file);
        assert_eq!(first.len() as u64, length);
        let mut archive = tar::Archive::new(GzDecoder::new(first.as_slice()));
        let names: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|entry| {
                entry
                    .expect("whole")
                    .path()
                    .expect("a path")
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(names, ["a/z.txt", "a.py", "b.py", "link"]);

        fs::remove_file(scratch.0.join("a.py")).expect("there");
        scratch.write("a.py", "a.py");
        let (again, _) = directory(&scratch.0).expect("packed");
        assert_eq!(bytes(again), first, "the same content gives the same bytes");
    }

    #[test]
    fn what_cannot_be_a_function_is_refused() {
        let scratch = Scratch::new("bad");
        let refused = directory(&scratch.0).expect_err("empty");
        assert_eq!(refused.why, "the directory is empty");
        let socket = scratch.0.join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let refused = directory(&scratch.0).expect_err("a socket");
        assert!(
            refused.why.ends_with("/s: neither file nor directory"),
            "{}",
            refused.why
        );
    }
}
