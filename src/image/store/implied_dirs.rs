//! The layer on top of an image's own, where one is needed: directories that a layer implies and another below describes.
//!
//! A layer whose archive puts a file into `/tmp` without an entry for `/tmp` has a `/tmp` of mode 0755, which in the overlay covers
//! the 1777 of the layer below. Layers are shared by images with other layers below, so it cannot be put right in the layer. An
//! image that needs it gets a directory tree of its own, `tops/ID`, stacked above its layers. It follows from the layers alone and
//! may be made again at any time.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use pausa_layer::{EntryPath, Stacked};

use crate::image::error::{ImageError, io_error};
use crate::image::pull::unpack;
use crate::image::store::files;
use crate::image::store::gc;
use crate::image::store::layers::Layer;
use crate::image::store::layout::Layout;

/// Makes the image's layer on top, if it needs one, and yields how many directories it has. Not durable by itself.
pub(crate) fn make(layout: &Layout, hex: &str, layers: &[Arc<Layer>]) -> Result<u64, ImageError> {
    let shown = shown(layers);
    if !shown.iter().skip(1).any(|layer| layer.record().implies) {
        return Ok(0);
    }
    let mut dirs = Vec::with_capacity(shown.len());
    let mut implied: Vec<Vec<EntryPath>> = Vec::with_capacity(shown.len());
    for layer in shown {
        let hex = &layer.record().diff_id;
        dirs.push(files::open_dir(&layout.layer_fs(hex))?);
        implied.push(if layer.record().implies {
            unpack::implied(&layout.layer(hex))?
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
    let made = pausa_layer::describe_implied(&stack, into.as_fd()).map_err(|source| ImageError::Unpack {
        diff_id: format!("on top of the image {hex}"),
        source: Box::new(source),
    });
    let place = layout.top(hex);
    match made {
        Ok(made) if made > 0 => {
            // What an earlier life of the image left.
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

/// The layers that can be seen, lowest first. The kernel knows no opaque root: what it hides is left out instead.
pub(crate) fn shown(layers: &[Arc<Layer>]) -> &[Arc<Layer>] {
    let from = layers.iter().rposition(|layer| layer.record().opaque_root);
    &layers[from.unwrap_or(0)..]
}

/// The image's layer on top, if it has one.
pub(crate) fn path(layout: &Layout, hex: &str, directories: u64) -> Option<PathBuf> {
    (directories > 0).then(|| layout.top(hex))
}
