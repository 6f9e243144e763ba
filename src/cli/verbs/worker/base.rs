//! `-i IMAGE`: what the root of sandboxes is made of.

use super::super::super::failure::Failure;
use super::Place;
use crate::config::meaning::Base;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The base that was named, ready to be used. A tar is unpacked below the worker's directory.
pub fn prepare(image: &str, working_directory: &Path, place: &Place) -> Result<Base, Failure> {
    if matches!(image, "host" | "ol-min") {
        return Ok(Base::Host);
    }
    let path = working_directory.join(image);
    let what = format!("-i {image}");
    let Ok(path) = path.canonicalize() else {
        let why = "there is no such base";
        return Err(Failure::failed(
            what,
            why,
            "give host, a root directory, or a tar of one",
        ));
    };
    if path.is_dir() {
        looks_like_a_root(&path, &what)?;
        return Ok(Base::Rootfs(path));
    }
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if ![".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst"]
        .iter()
        .any(|e| name.ends_with(e))
    {
        let why = "it is neither a directory nor a tar";
        return Err(Failure::failed(
            what,
            why,
            "give host, a root directory, or a tar of one",
        ));
    }
    let root = place.directory().join("base");
    if root.exists() {
        is_of(&path, &root, &what)?;
    } else {
        unpack(&path, &root, &what)?;
    }
    looks_like_a_root(&root, &what)?;
    Ok(Base::Rootfs(root))
}

/// Beside an unpacked base: which tar it is of.
fn origin_file(root: &Path) -> PathBuf {
    root.with_extension("origin")
}

/// A tar, and which of those that were called so.
fn origin(archive: &Path) -> io::Result<String> {
    let data = archive.metadata()?;
    let (bytes, seconds) = (data.len(), data.mtime());
    Ok(format!("{} {bytes} {seconds}\n", archive.display()))
}

/// A base that was unpacked from another tar is not silently used for this one.
fn is_of(archive: &Path, root: &Path, what: &str) -> Result<(), Failure> {
    let known = fs::read_to_string(origin_file(root)).unwrap_or_default();
    if origin(archive).is_ok_and(|origin| origin == known) {
        return Ok(());
    }
    let why = format!("{} is there already, of another tar", root.display());
    let remedy = "remove it while no worker runs, or choose another directory with -p";
    Err(Failure::failed(what, why, remedy))
}

fn looks_like_a_root(path: &Path, what: &str) -> Result<(), Failure> {
    if path == Path::new("/") {
        let why = "the host's whole root would be shown to functions";
        return Err(Failure::failed(
            what,
            why,
            "give host, or another root directory",
        ));
    }
    if !path.join("usr").is_dir() {
        let why = format!("{} holds no usr", path.display());
        return Err(Failure::failed(
            what,
            why,
            "give the root directory of a system",
        ));
    }
    Ok(())
}

/// A root file system has owners, devices and links: the machine's tar knows them all.
fn unpack(archive: &Path, root: &Path, what: &str) -> Result<(), Failure> {
    let beside = root.with_extension("unpacking");
    let failed = |why: String| {
        let _ = fs::remove_dir_all(&beside);
        Failure::failed(what, why, "give a tar of a root directory")
    };
    let _ = fs::remove_dir_all(&beside);
    fs::create_dir_all(&beside).map_err(|error| failed(error.to_string()))?;
    let output = Command::new("tar")
        .args([
            "--extract",
            "--preserve-permissions",
            "--same-owner",
            "--numeric-owner",
        ])
        .arg("--directory")
        .arg(&beside)
        .arg("--file")
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("tar: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it failed");
        return Err(failed(format!("tar: {last}")));
    }
    let told = origin(archive).and_then(|origin| fs::write(origin_file(root), origin));
    told.and_then(|()| fs::rename(&beside, root))
        .map_err(|error| failed(error.to_string()))
}
