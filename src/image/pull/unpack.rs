//! A layer's way from bytes to its place: unpacked in `staging/`, held against the diff id, renamed into `layers/`.
//!
//! What lies beside the unpacked tree is made while it is unpacked: the tar-split file, from which its archive can be reproduced, or
//! where that is impossible the digest of the tree, and the names of directories the archive only implies.
//!
//! Nothing here is durable yet: that is done once for all layers of an image, before its record, without which a layer
//! counts for nothing after a restart.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pausa_layer::{Compression, EntryPath, Limits, Unpacked};

use crate::failpoint::failpoint;
use crate::image::error::{ImageError, io_error};
use crate::image::store::files;
use crate::image::store::gc;
use crate::image::store::layers::{Layer, Ticket};
use crate::image::store::layout::{FS, IMPLIED, LAYER_RECORD, Layout, TAR_SPLIT};
use crate::image::store::record::{self, LayerRecord, VERSION};

/// What sizes are rounded up to.
const UNIT: u64 = 4096;
/// Longest list of implied directories that is read.
const IMPLIED_MAX: u64 = 256 << 20;
/// How often another place is asked for when the file system chose one that is used ground.
const PLACES: usize = 8;

/// A directory in `staging/` that goes when nobody moved it away.
struct Staging(PathBuf);

impl Staging {
    /// A new one with a directory for the layer's content, on fresh ground if there is some: see [`files::is_fresh`].
    fn new(layout: &Layout) -> Result<Self, ImageError> {
        // Kept meanwhile, or the file system would choose their places again.
        let mut passed = Vec::new();
        loop {
            let staging = Self(layout.staging().join(files::unique("layer")));
            files::make_dir(&staging.0, 0o700)?;
            let content = staging.0.join(FS);
            files::make_dir(&content, 0o755)?;
            if passed.len() == PLACES || files::is_fresh(&staging.0, &content)? {
                return Ok(staging);
            }
            passed.push(staging);
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = gc::remove(&self.0) {
            let error = crate::error::chain(&error);
            tracing::warn!(error, "a part of a layer stays in staging until the next start");
        }
    }
}

/// Unpacks `input`; `end` reads its rest and says whether it was what was promised.
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
    // A broken or wrong blob explains whatever the unpacker stumbled over.
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

/// Writes what lies beside the tree, but for the record.
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
        // Rare: the archive holds files that another entry replaced.
        files::remove_file(&tar_split)?;
        let packed = pausa_layer::pack(dir, io::sink()).map_err(failed(hex))?;
        Some(hex::encode(packed.diff_id.as_bytes()))
    };
    let names: Vec<&[u8]> = unpacked.implied.iter().map(EntryPath::as_bytes).collect();
    if !names.is_empty() {
        let path = staging.join(IMPLIED);
        std::fs::write(&path, names.join(&0)).map_err(io_error("write", &path))?;
    }
    // The layer's own directory and its record, and what lies beside.
    let (mut size, mut inodes) = (unpacked.size_on_disk + 2 * UNIT, unpacked.files + 2);
    for name in [TAR_SPLIT, IMPLIED] {
        if let Ok(stat) = staging.join(name).metadata() {
            size += stat.len().next_multiple_of(UNIT);
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
        // Something that no table knows of is in the way; layers are never empty, so nothing was overwritten.
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

/// The directories a layer only implies.
pub(crate) fn implied(layer: &Path) -> Result<Vec<EntryPath>, ImageError> {
    let bytes = files::read(&layer.join(IMPLIED), IMPLIED_MAX)?;
    Ok(bytes.split(|byte| *byte == 0).map(EntryPath::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_were_passed_over_leave_no_trace() {
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
