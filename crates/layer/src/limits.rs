//! Limits for one layer. The defaults are far above the needs of honest images and far below any harm to a node.

/// Upper bounds for one layer; going beyond any of them ends the unpacking with [`crate::Error::Limit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub archive_bytes: u64,
    /// Bytes of all files together, holes of sparse files included (a copy-up may turn them into data).
    pub content_bytes: u64,
    /// Entries of the archive, extension headers included.
    pub entries: u64,
    /// Bytes of one path, and of one link target. More than 4095 cannot be opened in one system call.
    pub path_bytes: usize,
    /// Components of one path.
    pub depth: usize,
    /// Bytes of one extension header (pax records, GNU long names), which is held in memory.
    pub extension_bytes: u64,
    /// Bytes of one extended attribute's value. The kernel takes no more than 64 KiB.
    pub xattr_bytes: usize,
    /// Extended attributes of one entry.
    pub xattrs: usize,
    /// Data regions of one sparse file.
    pub sparse_regions: usize,
    /// Bytes held in memory to set the times of directories at the end.
    pub directory_memory: usize,
    /// Window of a zstd frame as a power of two, which bounds the decoder's memory.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 64 << 30,
            content_bytes: 64 << 30,
            entries: 10_000_000,
            path_bytes: 4095,
            depth: 512,
            extension_bytes: 1 << 20,
            xattr_bytes: 64 << 10,
            xattrs: 256,
            sparse_regions: 1 << 18,
            directory_memory: 256 << 20,
            zstd_window_log: 27,
        }
    }
}
