//! What is kept about layers and images on disk: versioned JSON.
//!
//! A layer's record is written with the layer and never changes. An image's record is what makes an image exist: it is written
//! last and removed first.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::image::error::ImageError;
use crate::image::store::files;

/// The only version there is.
pub(crate) const VERSION: u32 = 1;

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) version: u32,
    /// Hex digits of the diff id.
    pub(crate) diff_id: String,
    /// Bytes that removing it frees.
    pub(crate) size: u64,
    /// Inodes that removing it frees.
    pub(crate) inodes: u64,
    /// It hides everything below.
    #[serde(default)]
    pub(crate) opaque_root: bool,
    /// When it was unpacked, nanoseconds since the epoch.
    #[serde(default)]
    pub(crate) unpacked: i64,
    /// Inodes of the tree alone.
    #[serde(default)]
    pub(crate) files: u64,
    /// Bytes of its uncompressed archive.
    #[serde(default)]
    pub(crate) archive_bytes: u64,
    /// Extended attributes of the archive that the tree does not have.
    #[serde(default)]
    pub(crate) dropped_xattrs: u64,
    /// Hex digits of the digest of the tree packed anew, if there is no tar-split file.
    #[serde(default)]
    pub(crate) tree: Option<String>,
    /// Has directories that its archive does not describe.
    #[serde(default)]
    pub(crate) implies: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) version: u32,
    /// Hex digits of the config's digest.
    pub(crate) id: String,
    /// `name:tag`.
    pub(crate) tags: Vec<String>,
    /// `name@digest`.
    pub(crate) digests: Vec<String>,
    /// Hex digits of manifests that led here, with a file each.
    pub(crate) manifests: Vec<String>,
    /// Hex digits of the diff ids, lowest layer first.
    pub(crate) layers: Vec<String>,
    /// When names changed last, nanoseconds since the epoch: of two claims to a name the later one holds.
    pub(crate) updated: i64,
    /// Removed while leased: has no names and lives as long as somebody holds a lease.
    #[serde(default)]
    pub(crate) removed: bool,
    /// How many directories its own layer on top of the others has; none, no such layer.
    #[serde(default)]
    pub(crate) top: u64,
}

/// Reads a record.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let bytes = files::read(path, files::RECORD_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| ImageError::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A record as bytes.
pub(crate) fn encode<T: Serialize>(record: &T, path: &Path) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(record).map_err(|error| ImageError::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
