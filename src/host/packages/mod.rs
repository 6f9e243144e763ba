//! Packages: what functions ask for, and what of it is installed.
//!
//! ```text
//! DIR/TAG/                     one interpreter's packages (python3.11-x86_64)
//!   store/NAME-VERSION-DIGEST/ one package: whole, verified, never changed
//!   store/...DIGEST.json       what is known of it
//!   views/DIGEST/              what one set of functions sees as /packages: links to the store
//!   sets/KEY.json              requirements -> the packages they came to
//!   work/                      installs under way, the installer's cache; emptied at start
//! ```
//!
//! `requirements` reads what people write, `installer` knows the tools, `joint` tells apart what
//! one run of them installed, `store` keeps packages, `disk` counts what runs write, `record`
//! believes nothing that lies in a directory until it fits its RECORD. All of it blocks, so helpers
//! call it; installers themselves run in sandboxes of their own.

mod disk;
mod installer;
mod joint;
mod machine;
mod record;
mod requirements;
mod store;
mod unpacked;

pub use disk::{Written, written};
pub use installer::{Agent, Errand, Installing, Mode, Mount, Pinned, Tool, last_lines};
pub use machine::{Sources, Wish};
pub use requirements::{Requirement, Requirements, RequirementsKey};
pub use store::{Entry, EntryId, Facts, Profile, Set, Store, View};
