//! Implied directories: directories that a layer's archive uses but does not describe.
//!
//! If an archive has a file in `/tmp` but no entry for `/tmp`, the layer's `/tmp` has the mode 0755, and in
//! the overlay hides the mode 1777 of the `/tmp` below. That cannot be fixed in the layer, because images
//! with other lower layers share it. An image that needs it gets a layer of its own, stacked above the
//! others, that contains only such directories with the right attributes. It depends only on the layers and
//! can be made again at any time.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use pausa_layer::{EntryPath, Stacked};

use super::layers::Layer;
use super::layout::{IMPLIED, Layout};
use super::{files, gc};
use crate::image::error::{ImageError, io_error, tree_error};

/// Bytes on disk of one directory.
pub(crate) const BLOCK: u64 = 4096;
/// Longest list of implied directories that is read.
const LIST_MAX: u64 = 256 << 20;

/// Makes the image's own layer, if it needs one, and returns the number of its directories. The layer is not
/// durable yet.
pub(crate) fn make(layout: &Layout, hex: &str, layers: &[Arc<Layer>]) -> Result<u64, ImageError> {
    let visible = visible(layers);
    if !visible.iter().skip(1).any(|layer| layer.record().implies) {
        return Ok(0);
    }
    let mut dirs = Vec::with_capacity(visible.len());
    let mut implied: Vec<Vec<EntryPath>> = Vec::with_capacity(visible.len());
    for layer in visible {
        let hex = &layer.record().diff_id;
        dirs.push(files::open_dir(&layout.layer_fs(hex))?);
        implied.push(if layer.record().implies {
            let bytes = files::read(&layout.layer(hex).join(IMPLIED), LIST_MAX)?;
            bytes.split(|byte| *byte == 0).map(EntryPath::new).collect()
        } else {
            Vec::new()
        });
    }
    let stack: Vec<Stacked<'_>> = dirs
        .iter()
        .zip(&implied)
        .map(|(dir, implied)| Stacked {
            dir: dir.as_fd(),
            implied,
        })
        .collect();
    let staging = layout.staging().join(files::unique("top"));
    files::make_dir(&staging, 0o755)?;
    let into = files::open_dir(&staging)?;
    let place = layout.implied_dirs_of(hex);
    let made = pausa_layer::describe_implied(&stack, into.as_fd()).map_err(tree_error("create", &place));
    match made {
        Ok(made) if made > 0 => {
            // An earlier image with this id may have left one.
            gc::remove(&place)?;
            std::fs::rename(&staging, &place).map_err(io_error("rename to", &place))?;
            Ok(made)
        }
        other => {
            gc::remove(&staging)?;
            other
        }
    }
}

/// The layers that can be seen, lowest first. The kernel knows no opaque root directory, so the layers that
/// one hides are left out instead.
pub(crate) fn visible(layers: &[Arc<Layer>]) -> &[Arc<Layer>] {
    let from = layers.iter().rposition(|layer| layer.record().opaque_root);
    &layers[from.unwrap_or(0)..]
}
