//! One layer from stream to directory: a thread decompresses and digests ahead while the caller's thread writes.

use std::fmt;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::archive::Archive;
use crate::error::EntryPath;
use crate::stream::{Piece, Producer, Remote};
use crate::tar_split::{self, TarSplitWriter};
use crate::writer::Writer;
use crate::{Compression, Error, Limits};

/// Buffers that circulate between the two threads.
const PIECES: usize = 4;

/// SHA-256 of a layer's uncompressed archive, as an image config lists it under `rootfs.diff_ids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiffId([u8; 32]);

impl DiffId {
    /// A digest that was computed before, as of a record.
    pub fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest without the algorithm.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// What was found out about a layer while it was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Compare it with the image config before you use the directory.
    pub diff_id: DiffId,
    /// Bytes of the uncompressed archive.
    pub archive_bytes: u64,
    /// Bytes the directory occupies: sizes rounded up to blocks, as the kernel may not have allocated them yet.
    pub size_on_disk: u64,
    /// Inodes of the directory, itself included.
    pub files: u64,
    /// Directories that the archive has entries in but no entry for. They belong to root with mode 0755; in an
    /// overlay they hide the mode, owner and attributes of the same directory in the layers below: see
    /// [`describe_implied`](crate::describe_implied).
    pub implied: Vec<EntryPath>,
    /// The archive hides everything in the layers below. The kernel ignores this on a layer's root: leave those
    /// layers out of the mount.
    pub opaque_root: bool,
    /// Extended attributes that were not kept: the overlay's own, in unknown namespaces, or unsupported by the file system.
    pub dropped_xattrs: u64,
    /// The directory holds the contents of every file of the archive: no entry replaced another.
    pub reproducible: bool,
}

/// Unpacks a layer into the empty directory `into`, converting whiteouts to the kernel's overlay format.
///
/// Blocks. On failure `into` holds a part of the layer, which the caller removes. Timeouts and cancellation of the reader are
/// up to the caller: an error on the writing side waits until a read in progress returns.
///
/// # Errors
/// If the stream cannot be read or decompressed, the archive is malformed, hostile or over `limits`, or the kernel refuses.
pub fn unpack<R: Read + Send>(
    reader: R,
    compression: Compression,
    into: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<Unpacked, Error> {
    run(reader, compression, into, limits, None)
}

/// Does the same as [`unpack`] and writes to `tar_split` what [`TarSplitReader`](crate::TarSplitReader) needs to reproduce the
/// archive. If the result is not [`Unpacked::reproducible`], discard the tar-split file.
pub fn unpack_recorded<R: Read + Send>(
    reader: R,
    compression: Compression,
    into: BorrowedFd<'_>,
    limits: &Limits,
    tar_split: impl Write + Send + 'static,
) -> Result<Unpacked, Error> {
    let writer = TarSplitWriter::new(Box::new(tar_split)).map_err(tar_split::unwritten)?;
    run(reader, compression, into, limits, Some(writer))
}

fn run<R: Read + Send>(
    reader: R,
    compression: Compression,
    into: BorrowedFd<'_>,
    limits: &Limits,
    tar_split: Option<TarSplitWriter>,
) -> Result<Unpacked, Error> {
    let (full_in, full) = sync_channel(PIECES);
    let (spent, spent_out) = sync_channel(PIECES);
    // The reader itself keeps one more.
    for _ in 1..PIECES {
        drop(spent.send(Piece::new()));
    }
    thread::scope(|scope| {
        let producer = thread::Builder::new()
            .name("layer-reader".to_owned())
            .spawn_scoped(scope, move || match Producer::new(reader, compression, limits) {
                Ok(producer) => producer.run(&full_in, &spent_out),
                Err(error) => {
                    drop(full_in.send(Err(error)));
                    [0; 32]
                }
            })
            .map_err(|source| Error::Thread { source })?;
        let written = write(
            Archive::new(Remote { full, spent }, limits).record(tar_split),
            into,
            limits,
        );
        let digest = producer
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map(|unpacked| Unpacked {
            diff_id: DiffId(digest),
            ..unpacked
        })
    })
}

fn write(mut archive: Archive<'_, Remote>, into: BorrowedFd<'_>, limits: &Limits) -> Result<Unpacked, Error> {
    let mut writer = Writer::new(into, limits)?;
    while let Some(entry) = archive.next()? {
        writer.entry(&entry, &mut archive)?;
    }
    let (archive_bytes, _) = archive.drain()?;
    writer.finish(archive_bytes)
}

impl Unpacked {
    /// Everything but the digest, which comes from the other thread.
    pub(crate) fn without_digest(archive_bytes: u64, size_on_disk: u64, files: u64) -> Self {
        Self {
            diff_id: DiffId([0; 32]),
            archive_bytes,
            size_on_disk,
            files,
            implied: Vec::new(),
            opaque_root: false,
            dropped_xattrs: 0,
            reproducible: true,
        }
    }
}

#[cfg(test)]
mod tests;
