//! One entry of an archive, all of its headers merged. Plain data; nothing here has been checked against a tree.

/// A stretch of a sparse file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What an entry is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Symlink,
    Hardlink,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
}

/// Owner, mode and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Names and values, with the name's namespace, in the order of the archive.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As written in the archive.
    pub(crate) path: Vec<u8>,
    /// Target of a symbolic or hard link, as written.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    /// Size of the file, holes included; 0 for anything but a regular file.
    pub(crate) size: u64,
    /// The data regions where the file is sparse.
    pub(crate) regions: Option<Vec<Region>>,
}
