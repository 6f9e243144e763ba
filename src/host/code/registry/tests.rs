//! Uploads, versions, listings, on a disk.

use super::*;
use std::io::Write;

struct Bed {
    root: PathBuf,
    files: Files,
    next: std::cell::Cell<u64>,
}

fn name(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

impl Bed {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("ol-reg-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let files = Files::open(
            &root.join("registry"),
            &root.join("cache"),
            3,
            Unprivileged::InProcess,
        )
        .unwrap();
        Self {
            root,
            files,
            next: std::cell::Cell::new(0),
        }
    }

    fn put(&self, name: &str, code: &str) -> Version {
        self.next.set(self.next.get() + 1);
        let mut upload = self.files.incoming(self.next.get()).unwrap();
        upload.file.write_all(code.as_bytes()).unwrap();
        let placed = self.files.put(&self::name(name), upload, &|_| Ok(()));
        placed.unwrap().version
    }

    fn code(&self, name: &str) -> Option<String> {
        let found = self.files.find(&self::name(name)).unwrap()?;
        let (image, ()) = self.files.load(&found, &|_| Ok(())).unwrap();
        Some(fs::read_to_string(image.path.join("f.py")).unwrap())
    }

    /// The list, read in pieces of one.
    fn rows(&self) -> Vec<Listed> {
        let mut listing = self.files.list().unwrap();
        let mut rows = Vec::new();
        loop {
            let piece = listing.next(1).unwrap();
            if piece.is_empty() {
                return rows;
            }
            rows.extend(piece);
        }
    }

    fn incoming_count(&self) -> usize {
        fs::read_dir(self.root.join("registry").join(INCOMING))
            .unwrap()
            .count()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn uploads_become_versions_and_go_back() {
    let bed = Bed::new("versions");
    assert_eq!(bed.code("x"), None);
    for number in 1..=5 {
        assert_eq!(bed.put("x", &format!("v{number}")).number, number);
        assert_eq!(bed.code("x"), Some(format!("v{number}")));
    }
    let name = &name("x");
    let numbers = |bed: &Bed| -> Vec<u64> {
        bed.files
            .versions(name)
            .unwrap()
            .iter()
            .map(|v| v.number)
            .collect()
    };
    assert_eq!(numbers(&bed), [5, 4, 3]);
    let (again, _) = bed.files.rollback(name, None).unwrap().unwrap();
    assert_eq!(again.number, 6);
    assert_eq!(bed.code("x"), Some("v4".into()));
    assert_eq!(bed.files.rollback(name, Some(1)).unwrap(), None);
    assert_eq!(numbers(&bed), [6, 5, 4]);
    assert_eq!(bed.incoming_count(), 0);
}

#[test]
fn a_version_that_did_not_reach_the_disk_is_not_served() {
    let bed = Bed::new("damaged");
    let first = bed.put("x", "one");
    bed.put("x", "two");
    first.settle().unwrap();
    fs::write(&first.path, "").unwrap();
    let refused = bed.files.rollback(&name("x"), None).unwrap_err();
    assert!(
        refused.to_string().contains("version 1 was damaged"),
        "{refused}"
    );
    assert_eq!(bed.code("x"), Some("two".into()));
    assert_eq!(bed.incoming_count(), 0);
}

#[test]
fn the_newest_entry_counts_and_edits_do_not_reach_versions() {
    let bed = Bed::new("newest");
    bed.put("x", "uploaded");
    let by_hand = bed.root.join("registry/x");
    fs::create_dir(&by_hand).unwrap();
    fs::write(by_hand.join("f.py"), "by hand").unwrap();
    // By somebody whose clock is ahead: the next upload must count all the same.
    let ahead = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 33);
    File::open(&by_hand).unwrap().set_modified(ahead).unwrap();
    assert_eq!(bed.code("x"), Some("by hand".into()));
    bed.put("x", "again");
    assert_eq!(bed.code("x"), Some("again".into()));
    assert!(!by_hand.exists());
    fs::write(bed.root.join("registry/x.py"), "edited in place").unwrap();
    assert_eq!(bed.code("x"), Some("edited in place".into()));
    bed.files.rollback(&name("x"), Some(2)).unwrap().unwrap();
    assert_eq!(bed.code("x"), Some("again".into()));
}

#[test]
fn a_changed_directory_has_another_stamp_and_image() {
    let bed = Bed::new("directory");
    let by_hand = bed.root.join("registry/x");
    fs::create_dir_all(by_hand.join("__pycache__")).unwrap();
    fs::write(by_hand.join("f.py"), "one").unwrap();
    let name = &name("x");
    let first = bed.files.find(name).unwrap().unwrap();
    assert_eq!(bed.files.find(name).unwrap().unwrap().stamp, first.stamp);
    let load = |found: &Found| bed.files.load(found, &|_| Ok(())).unwrap().0;
    let image = load(&first);
    fs::write(by_hand.join("f.py"), "other").unwrap();
    let second = bed.files.find(name).unwrap().unwrap();
    assert_ne!(second.stamp, first.stamp);
    assert_ne!(load(&second).digest, image.digest);
    assert_eq!(fs::read_to_string(image.path.join("f.py")).unwrap(), "one");
}

#[test]
fn a_refused_upload_leaves_nothing_behind() {
    let bed = Bed::new("refused");
    let mut upload = bed.files.incoming(1).unwrap();
    upload.file.write_all(b"\x7fELF\x01\x02").unwrap();
    let name = &name("x");
    assert!(matches!(
        bed.files.put(name, upload, &|_| Ok(())),
        Err(Bad::Archive(_))
    ));
    let mut upload = bed.files.incoming(2).unwrap();
    upload.file.write_all(b"print()").unwrap();
    let refuse = |_: &Image| -> Result<(), Bad> { Err(Bad::Archive("no".into())) };
    assert!(bed.files.put(name, upload, &refuse).is_err());
    assert_eq!(bed.rows(), []);
    assert_eq!(bed.files.images.count().unwrap(), 0);
    assert_eq!(bed.incoming_count(), 0);
}

#[test]
fn deleting_leaves_nothing_and_lists_are_sorted() {
    let bed = Bed::new("delete");
    bed.put("b", "1");
    bed.put("a", "2");
    fs::write(bed.root.join("registry/notes.txt"), "no function").unwrap();
    std::os::unix::fs::symlink("b.py", bed.root.join("registry/link.py")).unwrap();
    std::os::unix::fs::symlink("nothing", bed.root.join("registry/dead.py")).unwrap();
    let rows = bed.rows();
    let names = rows.iter().map(|row| (row.name.as_str(), row.version));
    let wanted = [("a", Some(1)), ("b", Some(1)), ("link", None)];
    assert_eq!(names.collect::<Vec<_>>(), wanted);
    assert!(bed.files.delete(&name("a")).unwrap());
    assert!(!bed.files.delete(&name("a")).unwrap());
    assert_eq!(bed.code("a"), None);
    assert_eq!(bed.files.versions(&name("a")).unwrap(), []);
}
