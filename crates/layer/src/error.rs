//! The crate's error. Messages tell the reader of a pod's event whether the image, the registry or the node is at fault.

use std::borrow::Cow;
use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::Compression;

/// The bytes of a path in an archive. Displayed escaped and shortened: names may hold control characters.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    const SHOWN: usize = 256;

    /// A path of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes as in the archive.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(Self::SHOWN)];
        write!(f, "\"{}", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "…\" ({} bytes)", self.0.len())
        } else {
            f.write_str("\"")
        }
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The exceeded one of [`crate::Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// [`crate::Limits::archive_bytes`]
    ArchiveBytes,
    /// [`crate::Limits::content_bytes`]
    ContentBytes,
    /// [`crate::Limits::entries`]
    Entries,
    /// [`crate::Limits::path_bytes`]
    PathBytes,
    /// [`crate::Limits::depth`]
    Depth,
    /// [`crate::Limits::extension_bytes`]
    ExtensionBytes,
    /// [`crate::Limits::xattr_bytes`]
    XattrBytes,
    /// [`crate::Limits::xattrs`]
    Xattrs,
    /// [`crate::Limits::sparse_regions`]
    SparseRegions,
    /// [`crate::Limits::directory_memory`]
    DirectoryMemory,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArchiveBytes => "bytes of the uncompressed archive",
            Self::ContentBytes => "bytes of all files together",
            Self::Entries => "entries in the archive",
            Self::PathBytes => "bytes in a path",
            Self::Depth => "components in a path",
            Self::ExtensionBytes => "bytes in an extension header",
            Self::XattrBytes => "bytes in an extended attribute",
            Self::Xattrs => "extended attributes of an entry",
            Self::SparseRegions => "data regions of a sparse file",
            Self::DirectoryMemory => "bytes of memory for directory names",
        })
    }
}

/// Why a layer could not be unpacked, measured or removed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    /// The source of the stream failed; the archive itself may be fine.
    #[error("read of the layer stream failed after {offset} uncompressed bytes; fetch the layer again")]
    Input {
        offset: u64,
        #[source]
        source: io::Error,
    },
    /// The compressed data is damaged or cut off.
    #[error(
        "{compression} data of the layer is damaged after {offset} uncompressed bytes; fetch the layer again"
    )]
    Decompress {
        compression: Compression,
        offset: u64,
        #[source]
        source: io::Error,
    },
    /// The archive ends within a header or within a file.
    #[error("layer archive ends at byte {offset}, in the middle of entry {path}; fetch the layer again")]
    Truncated { offset: u64, path: EntryPath },
    /// A block is not a tar header.
    #[error("no tar header at byte {offset} of the layer archive, after entry {path}: {fault}")]
    Header {
        offset: u64,
        path: EntryPath,
        fault: &'static str,
    },
    /// A field of an entry's header has no acceptable value.
    #[error("entry {path} of the layer has an unusable {field}")]
    Field { path: EntryPath, field: &'static str },
    /// The path of an entry leads out of the layer.
    #[error("entry {path} of the layer climbs out of it with \"..\"; the image is faulty or hostile")]
    Escape { path: EntryPath },
    /// The target of a hard link leads out of the layer.
    #[error("hard link {path} of the layer points out of it, to {target}; the image is faulty or hostile")]
    LinkEscape { path: EntryPath, target: EntryPath },
    /// A hard link names something that this layer does not contain or that cannot have one.
    #[error("linkat({target}, {path}, 0) failed: a hard link's target must be a file of the same layer")]
    LinkTarget {
        path: EntryPath,
        target: EntryPath,
        #[source]
        source: Errno,
    },
    /// A parent of an entry exists in this layer and is not a directory.
    #[error("entry {path} of the layer lies below {parent}, which is not a directory")]
    ParentNotDirectory { path: EntryPath, parent: EntryPath },
    /// The parents of an entry lead through too many symbolic links.
    #[error("entry {path} of the layer lies below more than {allowed} symbolic links")]
    ParentLoop { path: EntryPath, allowed: usize },
    /// The archive's root is to become something other than a directory.
    #[error("entry {path} of the layer would replace the root directory")]
    Root { path: EntryPath },
    /// A whiteout that names nothing that could be hidden.
    #[error("whiteout {path} of the layer names nothing")]
    Whiteout { path: EntryPath },
    /// A type of entry that has no place in an image.
    #[error("entry {path} of the layer has the unknown type {kind:#04x}")]
    Unsupported { path: EntryPath, kind: u8 },
    /// The layer is larger than allowed.
    #[error("layer exceeds the limit of {allowed} {limit} at entry {path}; the image is faulty or hostile")]
    Limit {
        limit: Limit,
        allowed: u64,
        path: EntryPath,
    },
    /// The kernel refused to create or to change something.
    #[error("{call} for entry {path} of the layer failed")]
    System {
        path: EntryPath,
        call: Cow<'static, str>,
        #[source]
        source: Errno,
    },
    /// A tree to be removed or measured contains a mount point.
    #[error("{path} is a mount point; unmount it first")]
    MountPoint { path: EntryPath },
    /// A tree changed while it was walked, so that the way back is not the way there.
    #[error("directory {path} was moved while its tree was walked; try again when nothing writes to it")]
    Moved { path: EntryPath },
    /// A layer on disk differs from the unpacked archive.
    #[error("{path} {what}: the layer on disk is damaged; pull the image again")]
    Damaged {
        path: EntryPath,
        what: Cow<'static, str>,
    },
    /// An output file could not be written.
    #[error("{what} could not be written")]
    Output {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// The thread that decompresses could not be started.
    #[error("no thread could be started for decompression")]
    Thread {
        #[source]
        source: io::Error,
    },
}

/// The kind of an [`Error`], for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The source of the stream failed: fetch again.
    Input,
    /// The bytes are damaged: fetch again, perhaps from elsewhere.
    Corrupt,
    /// The archive is understood and refused: no retry helps.
    Refused,
    /// The archive is larger than allowed: no retry helps.
    Limit,
    /// This machine's file system or kernel refused: look at the errno.
    System,
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Input { .. } => ErrorKind::Input,
            Self::Decompress { .. } | Self::Truncated { .. } | Self::Header { .. } | Self::Damaged { .. } => {
                ErrorKind::Corrupt
            }
            Self::Limit { .. } => ErrorKind::Limit,
            Self::System { .. }
            | Self::MountPoint { .. }
            | Self::Moved { .. }
            | Self::Output { .. }
            | Self::Thread { .. } => ErrorKind::System,
            Self::Field { .. }
            | Self::Escape { .. }
            | Self::LinkEscape { .. }
            | Self::LinkTarget { .. }
            | Self::ParentNotDirectory { .. }
            | Self::ParentLoop { .. }
            | Self::Root { .. }
            | Self::Whiteout { .. }
            | Self::Unsupported { .. } => ErrorKind::Refused,
        }
    }

    pub(crate) fn system(path: &[u8], call: impl Into<Cow<'static, str>>, source: Errno) -> Self {
        Self::System {
            path: EntryPath::new(path),
            call: call.into(),
            source,
        }
    }

    pub(crate) fn damaged(path: &[u8], what: impl Into<Cow<'static, str>>) -> Self {
        Self::Damaged {
            path: EntryPath::new(path),
            what: what.into(),
        }
    }

    pub(crate) fn field(path: &[u8], field: &'static str) -> Self {
        Self::Field {
            path: EntryPath::new(path),
            field,
        }
    }

    pub(crate) fn limit(limit: Limit, allowed: u64, path: &[u8]) -> Self {
        Self::Limit {
            limit,
            allowed,
            path: EntryPath::new(path),
        }
    }
}
