//! What a function asks for: the names in its `requirements.txt` and `# ol-install:` lines.
//!
//! Only names and pins are read here, to find the zygote that has most of them imported.

use super::code::Bad;
use crate::base::{Package, PackageSet};
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Of one file.
const BYTES_MAX: u64 = 1 << 20;
/// Lines of `f.py` in which `# ol-install:` is looked for.
const HEAD_LINES: usize = 50;

/// The packages of an image. Blocks.
pub fn of(image: &Path) -> Result<PackageSet, Bad> {
    let mut packages = Vec::new();
    if let Some(text) = read(&image.join("requirements.txt")).map_err(Bad::Host)? {
        packages.extend(text.lines().filter_map(requirement));
    }
    if let Some(text) = read(&image.join("f.py")).map_err(Bad::Host)? {
        let lists = text.lines().take(HEAD_LINES).filter_map(|line| {
            line.trim_start()
                .strip_prefix('#')?
                .trim_start()
                .strip_prefix("ol-install:")
        });
        packages.extend(
            lists
                .flat_map(|list| list.split(','))
                .filter_map(requirement),
        );
    }
    Ok(PackageSet::new(packages))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    BufReader::new(file.take(BYTES_MAX)).read_to_end(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// `numpy==1.26.4 ; python_version > "3.8"  # why` is numpy 1.26.4; options and blank lines are
/// nothing.
fn requirement(line: &str) -> Option<Package> {
    let text = line.split('#').next()?.split(';').next()?.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(text.len());
    let name = &text[..end];
    if name.is_empty() || name.starts_with('-') {
        return None;
    }
    let rest = text[end..].trim_start();
    let rest = rest.strip_prefix('[').map_or(rest, |extras| {
        extras
            .split_once(']')
            .map_or("", |(_, rest)| rest.trim_start())
    });
    let pin = rest
        .strip_prefix("==")
        .map(|version| version.trim_start_matches('=').trim());
    let is_exact = |version: &&str| !version.contains(['*', ',', ' ']);
    Some(match pin.filter(is_exact) {
        Some(version) => Package::parse(&format!("{name}=={version}")),
        None => Package::parse(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_pins_are_read() {
        for (line, package) in [
            ("numpy", Some("numpy")),
            ("Flask_Login >= 1, <3", Some("flask-login")),
            ("pandas == 2.2.1 # why", Some("pandas==2.2.1")),
            (
                "requests[socks]==2.31.0 ; python_version > '3.8'",
                Some("requests==2.31.0"),
            ),
            ("six==1.*", Some("six")),
            ("--index-url https://example.org", None),
            ("-r other.txt", None),
            ("  # a comment", None),
            ("", None),
        ] {
            assert_eq!(requirement(line), package.map(Package::parse), "{line}");
        }
    }
}
