//! Where functions come from: a directory, which takes uploads, or the web, which does not.

use super::archive::Bad;
use super::image::{Check, Digest, Image};
use super::registry::{FileStamp, Files, Listed, Rows, Version};
use super::web::{Looked, Web, WebStamp};
use crate::base::FunctionName;
use std::io;

/// A registry. Clones are the same one.
#[derive(Clone, Debug)]
pub enum Registry {
    Files(Files),
    Web(Web),
}

/// How one knows, without reading it, that an entry is what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stamp {
    Files(FileStamp),
    Web(WebStamp),
}

/// What is there of a name.
#[derive(Debug)]
pub enum Entry<T> {
    Absent,
    /// As it was when the stamp was taken.
    Same,
    Code(Loaded<T>),
}

/// Code that was loaded.
#[derive(Debug)]
pub struct Loaded<T> {
    pub image: Image,
    pub checked: T,
    /// As the registry numbers its uploads; 0 when it was put there by hand.
    pub version: u64,
    pub stamp: Stamp,
}

/// Why there is no code.
#[derive(Debug)]
pub enum Trouble {
    /// It cannot be said what is there.
    Registry(io::Error),
    /// What is there cannot be a function.
    Bad(Bad),
}

impl Registry {
    /// The directory, if it is one.
    pub fn files(&self) -> Option<&Files> {
        match self {
            Self::Files(files) => Some(files),
            Self::Web(_) => None,
        }
    }

    /// The code of a name, unless it is what `known` was taken of. Blocks.
    pub fn load<T>(
        &self,
        name: &FunctionName,
        known: Option<&Stamp>,
        check: Check<'_, T>,
    ) -> Result<Entry<T>, Trouble> {
        match self {
            Self::Files(files) => {
                let Some(found) = files.find(name).map_err(Trouble::Registry)? else {
                    return Ok(Entry::Absent);
                };
                let stamp = Stamp::Files(found.stamp.clone());
                if known == Some(&stamp) {
                    return Ok(Entry::Same);
                }
                let (image, checked) = files.load(&found, check).map_err(Trouble::Bad)?;
                let version = files.version_of(name, &image).map_err(Trouble::Registry)?;
                Ok(Entry::Code(Loaded {
                    image,
                    checked,
                    version,
                    stamp,
                }))
            }
            Self::Web(web) => {
                let known = known.and_then(|stamp| match stamp {
                    Stamp::Web(stamp) => Some(stamp),
                    Stamp::Files(_) => None,
                });
                let fetched = match web.look(name, known).map_err(Trouble::Registry)? {
                    Looked::Absent => return Ok(Entry::Absent),
                    Looked::Same => return Ok(Entry::Same),
                    Looked::New(fetched) => fetched,
                };
                let stamp = Stamp::Web(fetched.stamp.clone());
                let (image, checked) = web.load(fetched, check).map_err(Trouble::Bad)?;
                Ok(Entry::Code(Loaded {
                    image,
                    checked,
                    version: 0,
                    stamp,
                }))
            }
        }
    }

    /// Every function, by name; of a registry behind HTTP those that were found so far. Blocks.
    pub fn list(&self) -> io::Result<Listing> {
        Ok(match self {
            Self::Files(files) => Listing::Files(Box::new(files.list()?)),
            Self::Web(web) => Listing::Web(web.list()?.into_iter()),
        })
    }

    /// One function's row. Blocks.
    pub fn get(&self, name: &FunctionName) -> io::Result<Option<Listed>> {
        match self {
            Self::Files(files) => files.get(name),
            Self::Web(web) => web.get(name),
        }
    }

    /// Uploads kept of this name, newest first. Blocks.
    pub fn versions(&self, name: &FunctionName) -> io::Result<Vec<Version>> {
        match self {
            Self::Files(files) => files.versions(name),
            Self::Web(_) => Ok(Vec::new()),
        }
    }
}

/// A list that is read piece by piece.
#[derive(Debug)]
pub enum Listing {
    Files(Box<Rows>),
    Web(std::vec::IntoIter<Listed>),
}

impl Listing {
    /// At most so many rows; none at the end. Blocks.
    pub fn next(&mut self, rows_max: usize) -> io::Result<Vec<Listed>> {
        match self {
            Self::Files(rows) => rows.next(rows_max),
            Self::Web(rows) => Ok(rows.take(rows_max).collect()),
        }
    }
}

impl<T> Loaded<T> {
    /// The same content under another stamp.
    pub fn is(&self, digest: Digest) -> bool {
        self.image.digest == digest
    }
}
