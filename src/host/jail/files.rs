//! What is copied or made in a base rather than mounted: /etc, /dev, the runtime.

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Names in /etc that programs need. Never all of it.
const ETC: &[&str] = &[
    "alternatives",
    "hosts",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "resolv.conf",
    "ssl",
];
/// As are those that begin so.
const ETC_PREFIX: &str = "python3";
/// Those that change while the worker runs.
const ETC_FOLLOWED: &[&str] = &["hosts", "resolv.conf"];
/// No file of /etc that we copy is longer.
const FILE_BYTES_MAX: u64 = 8 << 20;
const DEPTH_MAX: usize = 8;
/// Users named in the made-up passwd. Instances get the lowest free id, so that few go beyond.
const USERS_NAMED: u32 = 4096;

/// A file of the host and its copy, which changes when the file does.
#[derive(Debug)]
pub(super) struct Followed {
    source: PathBuf,
    copy: PathBuf,
    seen: Option<(u64, i64, i64, u64)>,
}

impl Followed {
    /// Copies it again if it changed.
    pub(super) fn follow(&mut self) -> io::Result<()> {
        let now = fs::metadata(&self.source)
            .ok()
            .map(|found| (found.ino(), found.mtime(), found.mtime_nsec(), found.size()));
        if now == self.seen {
            return Ok(());
        }
        // In place: sandboxes that have it open, or mounted, see the new content.
        let content = if now.is_some() {
            fs::read(&self.source)?
        } else {
            Vec::new()
        };
        fs::write(&self.copy, content)?;
        self.seen = now;
        Ok(())
    }
}

/// What of the host's /etc programs need, with made-up users.
pub(super) fn copy_etc(target: &Path) -> io::Result<Vec<Followed>> {
    fs::create_dir(target)?;
    let mut followed = Vec::new();
    for entry in fs::read_dir("/etc")? {
        let entry = entry?;
        let name = entry.file_name();
        let copy = target.join(&name);
        if ETC_FOLLOWED.iter().any(|one| name == *one) {
            let mut file = Followed {
                source: entry.path(),
                copy,
                seen: None,
            };
            file.follow()?;
            followed.push(file);
        } else if is_needed(&name) {
            copy_entry(&entry.path(), &copy, DEPTH_MAX)?;
        }
    }
    write_users(target)?;
    Ok(followed)
}

fn is_needed(name: &OsStr) -> bool {
    ETC.iter().any(|one| name == *one) || name.as_encoded_bytes().starts_with(ETC_PREFIX.as_bytes())
}

/// Root and nobody, as every system has them, and a name for each user an instance may be.
fn write_users(target: &Path) -> io::Result<()> {
    let mut passwd = String::from("root:x:0:0:root:/tmp:/usr/sbin/nologin\n");
    let mut group = String::from("root:x:0:\n");
    for id in 1..=USERS_NAMED {
        let _ = writeln!(passwd, "sandbox{id}:x:{id}:{id}::/tmp:/usr/sbin/nologin");
        let _ = writeln!(group, "sandbox{id}:x:{id}:");
    }
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    group.push_str("nogroup:x:65534:\n");
    fs::write(target.join("passwd"), passwd)?;
    fs::write(target.join("group"), group)
}

/// A directory's content, recursively: what everybody may read.
pub(super) fn copy_tree(source: &Path, target: &Path) -> io::Result<()> {
    copy_directory(source, target, DEPTH_MAX)
}

fn copy_directory(source: &Path, target: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        copy_entry(&entry.path(), &target.join(entry.file_name()), depth)?;
    }
    Ok(())
}

fn copy_entry(source: &Path, target: &Path, depth: usize) -> io::Result<()> {
    let found = fs::symlink_metadata(source)?;
    if found.is_symlink() {
        return copy_link(source, target, depth);
    }
    if !is_public(&found) || depth == 0 {
        return Ok(());
    }
    if found.is_dir() {
        fs::create_dir(target)?;
        return copy_directory(source, target, depth - 1);
    }
    if found.is_file() && found.size() <= FILE_BYTES_MAX {
        fs::write(target, fs::read(source)?)?;
    }
    Ok(())
}

/// A link into /usr, or beside it, leads to the same in a sandbox; others are followed now.
fn copy_link(source: &Path, target: &Path, depth: usize) -> io::Result<()> {
    let link = fs::read_link(source)?;
    let beside = link.components().count() == 1;
    if link.starts_with("/usr") || link.starts_with("/etc/alternatives") || beside {
        return symlink(link, target);
    }
    match fs::canonicalize(source) {
        Ok(real) if depth > 0 => copy_entry(&real, target, depth - 1),
        // It leads nowhere on the host either.
        _ => Ok(()),
    }
}

/// Private keys and the like stay where they are.
fn is_public(found: &Metadata) -> bool {
    let wanted = if found.is_dir() { 0o005 } else { 0o004 };
    found.permissions().mode() & wanted == wanted
}

/// Devices without which programs do not run, and the usual links.
pub(super) fn make_devices(target: &Path) -> io::Result<()> {
    const DEVICES: [(&str, u32); 5] = [
        ("null", 3),
        ("zero", 5),
        ("full", 7),
        ("random", 8),
        ("urandom", 9),
    ];
    const MEMORY_DEVICES: u32 = 1;
    fs::create_dir(target)?;
    for (name, minor) in DEVICES {
        let path = target.join(name);
        let mode = Mode::from_raw_mode(0o666);
        let device = makedev(MEMORY_DEVICES, minor);
        match mknodat(CWD, &path, FileType::CharacterDevice, mode, device) {
            // Where even root may not make devices (containers), the host's are mounted.
            Err(Errno::PERM) => {
                fs::write(&path, "")?;
                rustix::mount::mount_bind(Path::new("/dev").join(name), &path)?;
            }
            Err(error) => return Err(error.into()),
            Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?,
        }
    }
    for (name, link) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("shm", "/tmp"),
    ] {
        symlink(link, target.join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_etc_only_what_programs_need() {
        assert!(is_needed(OsStr::new("ssl")) && is_needed(OsStr::new("python3.11")));
        for secret in ["shadow", "passwd", "ssh", "machine-id", "ssl-private"] {
            assert!(!is_needed(OsStr::new(secret)), "{secret}");
        }
    }
}
