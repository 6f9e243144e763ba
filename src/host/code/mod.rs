//! Code: what was uploaded, checked, unpacked, kept in versions, and given to instances read-only.
//!
//! ```text
//! registry/NAME.{tar.gz,tgz,tar,zip,py}, NAME/   what people put there, or an upload did
//! registry/~versions/NAME/000007-DIGEST.zip      uploads kept for a rollback
//! registry/~incoming/                            uploads under way; emptied at start
//!          |  load: unpacked once for each content
//!          v
//! cache/code/DIGEST/                             what instances see as /handler
//! ```
//!
//! Everything here blocks, so it is called by helpers, never by the loop.

mod archive;
mod durable;
mod image;
mod names;
mod python_text;
mod registry;
mod s3;
mod s3_list;
mod sigv4;
mod source;
mod web;

pub use archive::{Bad, Bounds, Format, unpack};
pub use image::{Check, Compiler, Digest, Image};
pub use names::put_names;
pub use registry::{FileStamp, Files, Found, Listed, Placed, Upload, Version};
pub use source::{Entry, Listing, Loaded, Registry, Stamp, Trouble};
pub use web::Web;
