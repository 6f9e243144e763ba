//! What strangers pack: uploads that mean harm are refused with the reason and leave nothing.

use crate::on_both;
use crate::rig::{Answer, Worker, worker};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tar::EntryType as Kind;

on_both!(
    bad_archives_are_refused_and_leave_nothing,
    good_archives_are_read_only_plain_files_of_root,
    byte_code_is_made_once_by_nobody,
    bad_settings_are_refused_in_both_notations,
);

const CODE: &[u8] = b"def f(event):\n    return 1\n";

struct Entry<'a> {
    name: &'a [u8],
    kind: Kind,
    link: &'a str,
    content: &'a [u8],
    /// What the header claims.
    size: u64,
}

fn entry<'a>(name: &'a str, kind: Kind, link: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry {
        name: name.as_bytes(),
        kind,
        link,
        content,
        size: content.len() as u64,
    }
}

/// As they are, without the checks of a well-meaning builder; the end is cut at a false size.
fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name);
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(0o6755);
        header.set_size(entry.size);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(entries: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content, mode) in entries {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn zip_with_link(name: &str, target: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.add_symlink(name, target, options).unwrap();
    writer.finish().unwrap().into_inner()
}

/// 600 MB of zeros.
fn bomb() -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_level(Some(1));
    let zeros = vec![0; 1 << 20];
    writer.start_file("f.py", options).unwrap();
    for _ in 0..600 {
        writer.write_all(&zeros).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// 600 MB of zeros in so many files, in some hundred kilobytes: gzip in many members, as one is.
fn gzip_bomb(files: usize) -> Vec<u8> {
    let zeros = gzip(&vec![0; 1 << 20]);
    let each = 600 / files;
    let mut bytes = Vec::new();
    for number in 0..files {
        let name = format!("f{number}.py");
        let head = tar_of(&[Entry {
            size: (each << 20) as u64,
            ..entry(&name, Kind::Regular, "", b"")
        }]);
        bytes.extend(gzip(&head[..512]));
        bytes.extend(zeros.repeat(each));
    }
    bytes.extend(gzip(&[0; 1024]));
    bytes
}

fn tars() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let one =
        |name: &'static str, kind, link: &'static str| tar_of(&[entry(name, kind, link, b"")]);
    let claims = |size| Entry {
        size,
        ..entry("f.py", Kind::Regular, "", CODE)
    };
    let deep = "d/".repeat(48) + "f";
    let no_text = Entry {
        name: b"\xff\xfe.py",
        ..entry("", Kind::Regular, "", CODE)
    };
    let mut many = Vec::new();
    let names: Vec<String> = (0..20_001).map(|number| format!("f{number}.py")).collect();
    many.extend(names.iter().map(|name| entry(name, Kind::Regular, "", b"")));
    vec![
        ("up", one("../evil", Kind::Regular, ""), "leads outside"),
        (
            "up-within",
            one("a/../../evil", Kind::Regular, ""),
            "leads outside",
        ),
        (
            "absolute",
            one("/etc/evil", Kind::Regular, ""),
            "absolute name",
        ),
        (
            "shadow",
            one("f.py", Kind::Symlink, "/etc/shadow"),
            "link leads outside",
        ),
        (
            "climbing-link",
            one("a/f.py", Kind::Symlink, "../../x"),
            "link leads outside",
        ),
        (
            "hard-link",
            one("f.py", Kind::Link, "/etc/shadow"),
            "hard link",
        ),
        ("device", one("f.py", Kind::Char, ""), "device or pipe"),
        ("disk", one("f.py", Kind::Block, ""), "device or pipe"),
        ("pipe", one("f.py", Kind::Fifo, ""), "device or pipe"),
        ("five-gb", tar_of(&[claims(5 << 30)]), "more than 512 MB"),
        ("cut", tar_of(&[claims(400 << 20)]), "damaged"),
        (
            "deep",
            tar_of(&[entry(&deep, Kind::Regular, "", CODE)]),
            "directories deep",
        ),
        ("no-text", tar_of(&[no_text]), "no UTF-8"),
        ("many", tar_of(&many), "more than 20000 entries"),
        ("empty", tar_of(&[]), "empty"),
        (
            "no-entry",
            tar_of(&[entry("main.txt", Kind::Regular, "", b"")]),
            "no entry file",
        ),
        (
            "through-link",
            tar_of(&[
                entry("dir/x", Kind::Regular, "", b""),
                entry("alias", Kind::Symlink, "dir", b""),
                entry("alias/f.py", Kind::Regular, "", CODE),
            ]),
            "not a directory in the archive",
        ),
        (
            "file-and-directory",
            tar_of(&[
                entry("f.py/x", Kind::Regular, "", b""),
                entry("f.py", Kind::Regular, "", CODE),
            ]),
            "both file and directory",
        ),
    ]
}

/// As they are sent.
fn zips() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    vec![
        (
            "zip-up",
            zip_of(&[("../evil", CODE, 0o644)]),
            "leads outside",
        ),
        (
            "zip-absolute",
            zip_of(&[("/etc/evil", CODE, 0o644)]),
            "absolute name",
        ),
        (
            "zip-shadow",
            zip_with_link("f.py", "/etc/shadow"),
            "link leads outside",
        ),
        ("zip-empty", zip_of(&[]), "empty"),
        ("zip-bomb", bomb(), "more than 512 MB"),
        ("bomb-of-one", gzip_bomb(1), "more than 512 MB"),
        ("bomb-of-many", gzip_bomb(60), "more than 512 MB"),
        ("zip-cut", b"PK\x03\x04 cut".to_vec(), "damaged zip"),
    ]
}

/// Everything below a directory. What is made while one looks may be gone.
fn all(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            // Byte code on its way.
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}

fn stores(worker: &Worker) -> BTreeSet<PathBuf> {
    let mut found = all(&worker.directory.join("registry"));
    found.extend(all(&code(worker)));
    // Byte code of what was called or deployed comes when somebody has time.
    found.retain(|path| {
        !path
            .components()
            .any(|part| part.as_os_str() == "__pycache__")
    });
    found
}

fn code(worker: &Worker) -> PathBuf {
    let found = all(&worker.directory);
    let mut stores = found
        .into_iter()
        .filter(|path| path.ends_with("cache/code"));
    stores.next().expect("a store of code")
}

fn put(worker: &Worker, name: &str, body: &[u8]) -> Answer {
    worker.ask("PUT", &format!("/registry/{name}"), "", body)
}

fn bad_archives_are_refused_and_leave_nothing(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    worker.deploy("good", "def f(event):\n    return 'good'\n");
    let before = stores(&worker);
    for (name, archive, why) in tars().into_iter().chain(zips()) {
        let is_zip = name.starts_with("zip") || name.starts_with("bomb");
        let packed = if is_zip {
            archive.clone()
        } else {
            gzip(&archive)
        };
        let mut bodies = vec![packed];
        // A tar of nothing is nothing but zeros, and no zip.
        if !is_zip && name != "empty" && archive.len() < 1 << 20 {
            bodies.push(archive);
        }
        for body in bodies {
            let answer = put(&worker, name, &body);
            assert_eq!(answer.status, 422, "{name}: {}", answer.text());
            assert_eq!(answer.code(), "bad-function");
            let told = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(told.contains(why), "{name}: {told}");
            assert!(!told.contains("/tmp"), "{name}: {told}");
            assert_eq!(stores(&worker), before, "{name}");
            assert_eq!(worker.call(name, "").code(), "no-such-function");
            // What serves goes on serving.
            if !name.contains("bomb") {
                assert_eq!(put(&worker, "good", &body).status, 422);
            }
        }
    }
    assert_eq!(stores(&worker), before);
    assert_eq!(worker.call("good", "").text(), "\"good\"");
    assert!(!Path::new("/etc/evil").exists() && !worker.directory.join("evil").exists());
}

fn good_archives_are_read_only_plain_files_of_root(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    // Nobody but root may come near the files by their path.
    fs::set_permissions(&worker.directory, fs::Permissions::from_mode(0o700)).unwrap();
    let tar = tar_of(&[
        entry("./lib/deep/x.py", Kind::Regular, "", b"VALUE = 7\n"),
        entry("./lib/link.py", Kind::Symlink, "deep/x.py", b""),
        entry("./f.py", Kind::Regular, "", b"old = True\n"),
        entry(
            "./f.py",
            Kind::Regular,
            "",
            b"import os\nfrom lib import link\ndef f(event):\n    \
              try:\n        open('/handler/new', 'w')\n    except OSError as error:\n        \
              return [link.VALUE, os.getuid() != 0, error.strerror]\n",
        ),
    ]);
    assert_eq!(put(&worker, "x", &gzip(&tar)).status, 200);
    assert_eq!(
        worker.call("x", "").json(),
        serde_json::json!([7, true, "Read-only file system"])
    );
    let files = all(&code(&worker));
    assert!(files.iter().any(|path| path.ends_with("lib/deep/x.py")));
    for path in files
        .iter()
        .filter(|path| path.is_file() && !path.is_symlink())
    {
        let data = fs::symlink_metadata(path).unwrap();
        assert_eq!(
            (data.uid(), data.mode() & 0o6022),
            (0, 0),
            "{}",
            path.display()
        );
    }
}

fn byte_code_is_made_once_by_nobody(back_end: &str) {
    let Some(mut worker) = worker(back_end, &[]) else {
        return;
    };
    let zip = zip_of(&[
        (
            "f.py",
            b"import lib.x\ndef f(event):\n    return lib.x.__cached__\n",
            0o644,
        ),
        ("lib/x.py", b"print('once an import')\n", 0o644),
        ("lib/broken.py", b"def (\n", 0o644),
    ]);
    assert_eq!(put(&worker, "x", &zip).status, 200);
    assert_eq!(worker.call("x", "").status, 200);
    let mut made = Vec::new();
    worker.until("byte code is there", |worker| {
        let files = all(&code(worker));
        made = files
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "pyc"))
            .collect();
        made.len() == 2
    });
    for path in &made {
        let data = fs::metadata(path).unwrap();
        assert_eq!((data.uid(), data.mode() & 0o7777), (0, 0o644));
        // The flags behind the magic number: by hash, and not to be checked.
        assert_eq!(fs::read(path).unwrap()[4..8], [1, 0, 0, 0]);
    }
    // What is there is used: code that is no longer what its source says shows it.
    let lib = made
        .iter()
        .find(|path| path.to_string_lossy().contains("/lib/"));
    let lib = lib.expect("byte code of lib/x.py");
    let text = fs::read(lib).unwrap();
    let at = text
        .windows(4)
        .position(|window| window == b"once")
        .unwrap();
    let mut other = text.clone();
    other[at..at + 4].copy_from_slice(b"pyc!");
    fs::write(lib, other).unwrap();
    let settings = "def f(event):\n    return 1\n";
    worker.deploy("other", settings);
    worker.kill();
    worker.start_again();
    worker.call("x", "");
    worker.until("it was imported from byte code", |worker| {
        worker.get("/logs/x").text().contains("pyc! an import")
    });
}

fn bad_settings_are_refused_in_both_notations(back_end: &str) {
    let Some(worker) = worker(back_end, &[]) else {
        return;
    };
    let before = stores(&worker);
    for (name, file, text, why) in [
        ("toml", "ol.toml", "zigote = true", "did you mean zygote?"),
        ("toml-syntax", "ol.toml", "a = = 1", "ol.toml:1: "),
        (
            "yaml",
            "ol.yaml",
            "limits:\n  mem_bm: 3\n",
            "did you mean mem_mb?",
        ),
        ("yaml-syntax", "ol.yaml", "a: b\n\tc: d\n", "ol.yaml:2: "),
        ("yaml-open", "ol.yaml", "environment: {A: 1\n", "ol.yaml:"),
    ] {
        let zip = zip_of(&[("f.py", CODE, 0o644), (file, text.as_bytes(), 0o644)]);
        let answer = put(&worker, name, &zip);
        assert_eq!(answer.status, 422, "{name}: {}", answer.text());
        assert!(answer.text().contains(why), "{name}: {}", answer.text());
        assert_eq!(stores(&worker), before, "{name}");
    }
    let yaml = "triggers:\n  http:\n    - method: PUT\nenvironment:\n  GREETING: \"hello\"\n";
    let code = b"import os\ndef f(event):\n    return os.environ['GREETING']\n";
    let zip = zip_of(&[("f.py", code, 0o644), ("ol.yaml", yaml.as_bytes(), 0o644)]);
    assert_eq!(put(&worker, "x", &zip).status, 200);
    assert_eq!(worker.ask("PUT", "/run/x", "", b"").text(), "\"hello\"");
    assert_eq!(worker.call("x", "").status, 405);
}
