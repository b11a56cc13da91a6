//! What is stored about layers and images: versioned JSON.
//!
//! A layer's record is written with the layer and never changes. An image's record holds its names. Records
//! of earlier versions of pausa must stay readable: a new field has a default.

use std::path::Path;

use pausa_layer::Usage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::files;
use super::layout::{FS, LAYER_RECORD, Layout};
use crate::image::error::ImageError;

/// The only version so far.
pub(crate) const VERSION: u32 = 1;

/// `layer.json` of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) version: u32,
    /// Hex digits of the diff id.
    pub(crate) diff_id: String,
    /// Bytes that removing it frees.
    pub(crate) size: u64,
    /// Inodes that removing it frees.
    pub(crate) inodes: u64,
    /// It hides all layers below it.
    #[serde(default)]
    pub(crate) opaque_root: bool,
    /// When it was unpacked, in nanoseconds since the epoch.
    #[serde(default)]
    pub(crate) unpacked: i64,
    /// Inodes of the unpacked tree alone.
    #[serde(default)]
    pub(crate) files: u64,
    /// Bytes of its uncompressed archive.
    #[serde(default)]
    pub(crate) archive_bytes: u64,
    /// Extended attributes of the archive that could not be set.
    #[serde(default)]
    pub(crate) dropped_xattrs: u64,
    /// Hex digits of the digest of the tree, packed again. Only where there is no tar-split file.
    #[serde(default)]
    pub(crate) tree: Option<String>,
    /// It has directories that its archive uses but does not describe.
    #[serde(default)]
    pub(crate) implies: bool,
}

/// `images/ID.json`: an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) version: u32,
    /// Hex digits of the config's digest.
    pub(crate) id: String,
    /// `name:tag`.
    pub(crate) tags: Vec<String>,
    /// `name@digest`.
    pub(crate) digests: Vec<String>,
    /// Hex digits of the manifests (and indexes) that led to the image. Each has a file.
    pub(crate) manifests: Vec<String>,
    /// Hex digits of the diff ids, lowest layer first.
    pub(crate) layers: Vec<String>,
    /// When the names last changed, in nanoseconds since the epoch. If two records have the same name, the
    /// later one keeps it.
    pub(crate) updated: i64,
    /// The image was removed while leased: it has no names and lives until the last lease ends.
    #[serde(default)]
    pub(crate) removed: bool,
    /// Directories of the image's own layer on top; 0 without such a layer.
    #[serde(default, rename = "top")]
    pub(crate) implied_dirs: u64,
}

impl LayerRecord {
    /// Reads the record of a layer in `layers/`.
    pub(crate) fn load(layout: &Layout, hex: &str) -> Result<Self, ImageError> {
        let path = layout.layer(hex).join(LAYER_RECORD);
        let record: Self = load(&path)?;
        if record.version == VERSION && record.diff_id == hex && layout.layer(hex).join(FS).is_dir() {
            return Ok(record);
        }
        Err(ImageError::Record {
            path,
            reason: "it does not belong to the layer in its directory".to_owned(),
        })
    }

    /// What the layer occupies on disk.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            bytes: self.size,
            inodes: self.inodes,
        }
    }
}

impl ImageRecord {
    /// The record of an image without names. `layers` are hex digits of diff ids, lowest layer first.
    pub(crate) fn new(id: &str, layers: &[String]) -> Self {
        Self {
            version: VERSION,
            id: id.to_owned(),
            tags: Vec::new(),
            digests: Vec::new(),
            manifests: Vec::new(),
            layers: layers.to_vec(),
            updated: 0,
            removed: false,
            implied_dirs: 0,
        }
    }

    /// Tags, then digests.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.tags.iter().chain(&self.digests)
    }
}

pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let bytes = files::read(path, files::RECORD_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| ImageError::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A value as JSON, for the file `path`.
pub(crate) fn encode<T: Serialize>(record: &T, path: &Path) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(record).map_err(|error| ImageError::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as earlier versions of pausa have written them.
    #[test]
    fn records_of_earlier_versions_are_read() {
        let hex = "ab".repeat(32);
        let first = serde_json::json!({
            "version": 1, "id": hex, "tags": ["a:b"], "digests": [], "manifests": [hex], "layers": [hex], "updated": 5,
        });
        let image: ImageRecord = serde_json::from_value(first.clone()).unwrap();
        assert_eq!((image.removed, image.implied_dirs), (false, 0));
        let mut later = first;
        later["removed"] = true.into();
        later["top"] = 3.into();
        let image: ImageRecord = serde_json::from_value(later.clone()).unwrap();
        assert_eq!((image.removed, image.implied_dirs), (true, 3));
        // An earlier version reads what is written now.
        assert_eq!(serde_json::to_value(&image).unwrap(), later);
        let layer = serde_json::json!({"version": 1, "diff_id": hex, "size": 4096, "inodes": 7});
        let layer: LayerRecord = serde_json::from_value(layer).unwrap();
        assert_eq!(
            (layer.size, layer.inodes, layer.unpacked, layer.tree),
            (4096, 7, 0, None)
        );
    }
}
