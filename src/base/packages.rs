//! What a function needs and a zygote has: named packages, with or without a version.
//!
//! Names are normalised as PEP 503 says (lower case, runs of `-_.` become one `-`), so that
//! `Scikit_Learn` and `scikit-learn` are one package. A package without a version means any version
//! in a tree, and the only installed one in a function's set.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One package: `numpy`, or `numpy==1.26.4`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Package {
    name: String,
    version: Option<String>,
}

impl Package {
    /// Reads `name` or `name==version`; the name is normalised, surrounding blanks are dropped.
    pub fn parse(text: &str) -> Self {
        let (name, version) = match text.split_once("==") {
            Some((name, version)) => (name, Some(version.trim())),
            None => (text, None),
        };
        Self {
            name: normalised(name),
            version: version
                .filter(|version| !version.is_empty())
                .map(String::from),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether a zygote that imported `self` shows what a function with `wanted` asked for:
    /// same name, and the same version where `self` names one.
    pub fn matches(&self, wanted: &Self) -> bool {
        self.name == wanted.name && (self.version.is_none() || self.version == wanted.version)
    }
}

/// The name as PEP 503 normalises it.
pub fn normalised(name: &str) -> String {
    let mut result = String::with_capacity(name.len());
    for letter in name.trim().chars() {
        match letter {
            '-' | '_' | '.' if result.ends_with('-') => {}
            '-' | '_' | '.' => result.push('-'),
            _ => result.extend(letter.to_lowercase()),
        }
    }
    result
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}=={version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Debug for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Package {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Package {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::parse(&text))
    }
}

/// Packages, sorted by name, each once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PackageSet(Vec<Package>);

impl PackageSet {
    pub const EMPTY: Self = Self(Vec::new());

    /// Of several with the same name the first in order of version stays.
    pub fn new(mut packages: Vec<Package>) -> Self {
        packages.sort();
        packages.dedup_by(|second, first| second.name == first.name);
        Self(packages)
    }

    /// Reads each as `Package::parse` does.
    pub fn parse<'a, I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        Self::new(texts.into_iter().map(Package::parse).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Package> {
        self.0.iter()
    }

    pub fn get(&self, name: &str) -> Option<&Package> {
        let place = self
            .0
            .binary_search_by(|package| package.name.as_str().cmp(name))
            .ok()?;
        Some(&self.0[place])
    }

    /// Whether a function with this set may be shown `package`: it asked for it.
    pub fn allows(&self, package: &Package) -> bool {
        self.get(&package.name)
            .is_some_and(|wanted| package.matches(wanted))
    }

    /// Whether a function with this set may start from a zygote that has all of `packages`.
    pub fn allows_all(&self, packages: &Self) -> bool {
        packages.iter().all(|package| self.allows(package))
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut packages = self.0.clone();
        packages.extend(other.0.iter().cloned());
        Self::new(packages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_pep_503_says() {
        for spelling in [
            "Scikit-Learn",
            "scikit_learn",
            "scikit.-_learn",
            " SCIKIT.LEARN ",
        ] {
            assert_eq!(Package::parse(spelling).name(), "scikit-learn");
        }
    }

    #[test]
    fn a_version_matches_itself_and_none_matches_all() {
        let wanted = PackageSet::parse(["numpy==1.26.4", "six"]);
        assert!(wanted.allows(&Package::parse("numpy")));
        assert!(wanted.allows(&Package::parse("NumPy == 1.26.4")));
        assert!(!wanted.allows(&Package::parse("numpy==1.26.5")));
        assert!(wanted.allows(&Package::parse("six")));
        assert!(
            !wanted.allows(&Package::parse("six==1.16")),
            "unknown is not equal"
        );
        assert!(!wanted.allows(&Package::parse("pandas")));
        assert!(wanted.allows_all(&PackageSet::EMPTY));
        assert!(!wanted.allows_all(&PackageSet::parse(["numpy", "pandas"])));
    }
}
