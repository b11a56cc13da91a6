//! Unpacks image layers into directories that serve as overlayfs lower layers, treating every archive as hostile.
//!
//! A layer arrives as a possibly compressed tar stream from an untrusted source and is written by root. So:
//!
//! * nothing outside the given directory is ever touched: every system call uses a directory handle that was opened without
//!   following a symbolic link, and the last component is never followed;
//! * everything an archive can make large (bytes, entries, names, attributes, nesting) has a limit in [`Limits`];
//! * every refusal names the entry, the operation and the kernel's answer.
//!
//! Input: tar as described by POSIX pax and by GNU tar, whiteouts as described by the OCI image specification
//! (<https://github.com/opencontainers/image-spec/blob/main/layer.md>). Output: the kernel's overlay format
//! (<https://docs.kernel.org/filesystems/overlayfs.html>, "whiteouts and opaque directories").
//!
//! The crate never changes the process's umask or working directory, never fsyncs by itself (see [`sync_tree`]) and
//! never cleans up after a failure: the caller owns the directory and removes it with [`remove_tree`].
//!
//! ```text
//!   untrusted bytes ─▶ compression ─▶ stream ═▶ archive ─▶ unpack ─▶ writer ─▶ the directory
//!                       (a thread of its own)     │                    ├ parents   directories
//!                                                 ├ pax, number        ├ metadata  owner, mode, xattrs, times
//!                                                 └ sparse             └ remove    replaced entries
//!
//!   walk serves remove and usage; path, entry, limits and error serve all
//! ```
//!
//! The other direction: `tar_split` records what is needed to reproduce the archive, `check` verifies a layer against it, `pack`
//! writes a layer as a new archive, `merge` finds the metadata of directories in the layers below.

mod archive;
mod check;
mod compression;
mod entry;
mod error;
mod limits;
mod merge;
mod metadata;
mod number;
mod pack;
mod parents;
mod path;
mod pax;
mod remove;
mod sparse;
mod stream;
mod tar_split;
mod unpack;
mod usage;
mod walk;
mod writer;

pub use archive::inspect;
pub use check::{Expected, check};
pub use compression::Compression;
pub use error::{EntryPath, Error, ErrorKind, Limit};
pub use limits::Limits;
pub use merge::{Stacked, describe_implied};
pub use pack::{Packed, pack};
pub use remove::remove_tree;
pub use tar_split::TarSplitReader;
pub use unpack::{DiffId, Unpacked, unpack, unpack_recorded};
pub use usage::{Usage, sync_tree, usage};

#[cfg(test)]
mod testing;
