//! Unpacks image layers into directories that serve as overlayfs lower layers, treating every archive as hostile.
//!
//! A layer arrives as a possibly compressed tar stream from a stranger and is written by root. So:
//!
//! * nothing outside the directory handed in is ever touched: every system call goes through a directory handle whose
//!   way from the root contains no symbolic link, and the last component is never followed;
//! * everything an archive can make large (bytes, entries, names, attributes, nesting) has a limit in [`Limits`];
//! * every refusal names the entry, the operation and the kernel's answer.
//!
//! What goes in: tar as described by POSIX pax and by GNU tar, whiteouts as described by the OCI image specification
//! (<https://github.com/opencontainers/image-spec/blob/main/layer.md>). What comes out: the kernel's overlay format
//! (<https://docs.kernel.org/filesystems/overlayfs.html>, "whiteouts and opaque directories").
//!
//! The crate never changes the process's umask or working directory, never fsyncs by itself (see [`sync_tree`]) and
//! never cleans up after a failure: the caller owns the directory and removes it with [`remove_tree`].
//!
//! ```text
//!   stranger's bytes ─▶ compression ─▶ stream ═▶ archive ─▶ unpack ─▶ writer ─▶ the directory
//!                       (a thread of its own)     │                    ├ parents   where
//!                                                 ├ pax, number        ├ metadata  whose, which mode
//!                                                 └ sparse             └ remove    what was in the way
//!
//!   walk carries remove and usage; path, entry, limits and error are known to all
//! ```
//!
//! And back: `tape` records what makes the archive again, `check` holds a layer against it, `pack` writes a layer as a new
//! archive, `merge` finds what directories are called in the layers below.

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
mod tape;
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
pub use tape::Replay;
pub use unpack::{DiffId, Unpacked, unpack, unpack_recorded};
pub use usage::{Usage, sync_tree, usage};

#[cfg(test)]
mod testing;
