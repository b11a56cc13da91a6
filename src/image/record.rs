//! What is kept about layers and images on disk: versioned JSON.
//!
//! A layer's record is written with the layer and never changes. An image's record is what makes an image exist: it is written
//! last and removed first.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ImageError;
use super::files;

/// The only version there is.
pub(super) const VERSION: u32 = 1;

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) version: u32,
    /// Hex digits of the diff id.
    pub(super) diff_id: String,
    /// Bytes that removing it frees.
    pub(super) size: u64,
    /// Inodes that removing it frees.
    pub(super) inodes: u64,
    /// It hides everything below.
    #[serde(default)]
    pub(super) opaque_root: bool,
    /// When it was unpacked, nanoseconds since the epoch.
    #[serde(default)]
    pub(super) unpacked: i64,
    /// Inodes of the tree alone.
    #[serde(default)]
    pub(super) files: u64,
    /// Bytes of its uncompressed archive.
    #[serde(default)]
    pub(super) archive_bytes: u64,
    /// Extended attributes of the archive that the tree does not have.
    #[serde(default)]
    pub(super) dropped_xattrs: u64,
    /// Hex digits of the digest of the tree packed anew, where there is no tape.
    #[serde(default)]
    pub(super) tree: Option<String>,
    /// Has directories that its archive does not describe.
    #[serde(default)]
    pub(super) implies: bool,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) version: u32,
    /// Hex digits of the config's digest.
    pub(super) id: String,
    /// `name:tag`.
    pub(super) tags: Vec<String>,
    /// `name@digest`.
    pub(super) digests: Vec<String>,
    /// Hex digits of manifests that led here, with a file each.
    pub(super) manifests: Vec<String>,
    /// Hex digits of the diff ids, lowest layer first.
    pub(super) layers: Vec<String>,
    /// When names changed last, nanoseconds since the epoch: of two claims to a name the later one holds.
    pub(super) updated: i64,
    /// Removed while leased: has no names and lives as long as somebody holds a lease.
    #[serde(default)]
    pub(super) removed: bool,
    /// How many directories its own layer on top of the others has; none, no such layer.
    #[serde(default)]
    pub(super) top: u64,
}

/// Reads a record.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let bytes = files::read(path, files::RECORD_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| ImageError::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// A record as bytes.
pub(super) fn encode<T: Serialize>(record: &T, path: &Path) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(record).map_err(|error| ImageError::Record {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
