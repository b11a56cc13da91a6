//! Unpacks a layer in `staging/`, compares it with its diff id, and renames it into `layers/`, unless the layer has come
//! from elsewhere meanwhile.
//!
//! Beside the tree lie a tar-split file, from which its archive can be rebuilt, and the names of implied
//! directories. Where the archive cannot be rebuilt, the record has the digest of the tree instead.
//!
//! Nothing is durable afterwards. That is done once for all layers of an image, before its record is written.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pausa_layer::{Compression, EntryPath, Limits, Unpacked};

use crate::error::chain;
use crate::failpoint::failpoint;
use crate::image::error::{ImageError, io_error};
use crate::image::store::layers::{Layer, Ticket};
use crate::image::store::layout::{FS, IMPLIED, LAYER_RECORD, Layout, TAR_SPLIT};
use crate::image::store::record::{self, LayerRecord, VERSION};
use crate::image::store::{files, gc};

/// Sizes are rounded up to blocks of the file system.
const BLOCK: u64 = 4096;
/// How often another place is tried if the file system chose one with recently used inodes.
const PLACES: usize = 8;

/// A directory in `staging/`. Dropping it removes what was not renamed.
struct Staging(PathBuf);

impl Staging {
    /// A new one with a directory for the layer's content, at a place without recently used inodes if there
    /// is one; see [`files::is_fresh`].
    fn new(layout: &Layout) -> Result<Self, ImageError> {
        // Held meanwhile, or the file system would choose the same places again.
        let mut rejected = Vec::new();
        loop {
            let staging = Self(layout.staging().join(files::unique("layer")));
            files::make_dir(&staging.0, 0o700)?;
            let content = staging.0.join(FS);
            files::make_dir(&content, 0o755)?;
            if rejected.len() == PLACES || files::is_fresh(&staging.0, &content)? {
                return Ok(staging);
            }
            rejected.push(staging);
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = gc::remove(&self.0) {
            tracing::warn!(
                path = %self.0.display(),
                error = chain(&error),
                "cannot remove an unfinished layer; it occupies space until the daemon restarts"
            );
        }
    }
}

/// Unpacks `input` and commits the layer. `end` reads the rest of the input and checks it.
pub(crate) fn unpack<R: Read + Send>(
    ticket: Ticket,
    input: &mut R,
    end: impl FnOnce(&mut R) -> Result<(), ImageError>,
) -> Result<Arc<Layer>, ImageError> {
    let layout = ticket.layers().layout().clone();
    let staging = Staging::new(&layout)?;
    let dir = files::open_dir(&staging.0.join(FS))?;
    let path = staging.0.join(TAR_SPLIT);
    let tar_split = File::create_new(&path).map_err(io_error("open(O_EXCL)", &path))?;
    let limits = Limits::default();
    let unpacked =
        pausa_layer::unpack_recorded(&mut *input, Compression::Detect, dir.as_fd(), &limits, tar_split);
    let expected = format!("sha256:{}", ticket.hex());
    // If the blob is incomplete or wrong, that explains the error of the unpacker.
    let ended = end(input);
    let unpacked = match (unpacked, ended) {
        (Ok(unpacked), Ok(())) => unpacked,
        (Err(source), Ok(())) => return Err(failed(&expected)(source)),
        (_, Err(error)) => return Err(error),
    };
    let found = unpacked.diff_id.to_string();
    if found != expected {
        return Err(ImageError::DiffId { expected, found });
    }
    let record = describe(&staging.0, ticket.hex(), dir.as_fd(), &unpacked)?;
    failpoint("layer-unpacked");
    ticket.layers().begin_use()?;
    if !ticket.begin_install() {
        return Err(ImageError::Overtaken { diff_id: expected });
    }
    install(&staging.0, &layout.layer(ticket.hex()), &record)?;
    failpoint("layer-installed");
    Ok(ticket.commit(record))
}

fn failed(diff_id: &str) -> impl FnOnce(pausa_layer::Error) -> ImageError {
    let diff_id = diff_id.to_owned();
    |source| ImageError::Unpack {
        diff_id,
        source: Box::new(source),
    }
}

/// Writes what lies beside the tree, except the record.
fn describe(
    staging: &Path,
    hex: &str,
    dir: BorrowedFd<'_>,
    unpacked: &Unpacked,
) -> Result<LayerRecord, ImageError> {
    let tar_split = staging.join(TAR_SPLIT);
    let tree = if unpacked.reproducible {
        None
    } else {
        // Rare: an entry of the archive replaces another one.
        files::remove_file(&tar_split)?;
        let packed = pausa_layer::pack(dir, io::sink()).map_err(failed(hex))?;
        Some(hex::encode(packed.diff_id.as_bytes()))
    };
    let names: Vec<&[u8]> = unpacked.implied.iter().map(EntryPath::as_bytes).collect();
    if !names.is_empty() {
        let path = staging.join(IMPLIED);
        std::fs::write(&path, names.join(&0)).map_err(io_error("write", &path))?;
    }
    // The layer's own directory and its record, then the other files.
    let (mut size, mut inodes) = (unpacked.size_on_disk + 2 * BLOCK, unpacked.files + 2);
    for name in [TAR_SPLIT, IMPLIED] {
        if let Ok(stat) = staging.join(name).metadata() {
            size += stat.len().next_multiple_of(BLOCK);
            inodes += 1;
        }
    }
    Ok(LayerRecord {
        version: VERSION,
        diff_id: hex.to_owned(),
        size,
        inodes,
        opaque_root: unpacked.opaque_root,
        unpacked: crate::state::now(),
        files: unpacked.files,
        archive_bytes: unpacked.archive_bytes,
        dropped_xattrs: unpacked.dropped_xattrs,
        tree,
        implies: !names.is_empty(),
    })
}

fn install(staging: &Path, place: &Path, record: &LayerRecord) -> Result<(), ImageError> {
    let path = staging.join(LAYER_RECORD);
    std::fs::write(&path, record::encode(record, &path)?).map_err(io_error("write", &path))?;
    match std::fs::rename(staging, place) {
        // An unknown directory is in the way. Layers are never empty, so rename(2) has not replaced it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            gc::remove(place)?;
            std::fs::rename(staging, place)
        }
        other => other,
    }
    .map_err(io_error("rename to", place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_places_leave_no_trace() {
        let temp = tempfile::tempdir().unwrap();
        let layout = Layout::new(temp.path());
        layout.make().unwrap();
        for _ in 0..3 {
            let staging = Staging::new(&layout).unwrap();
            assert_eq!(files::names(&layout.staging()).unwrap().len(), 1);
            assert!(staging.0.is_dir());
        }
        assert!(files::names(&layout.staging()).unwrap().is_empty());
    }
}
