//! The files of the store, below `<root>/images`. Earlier versions of pausa used the same names.
//!
//! ```text
//!  layers/DIFFID/fs/        an unpacked layer, a lower directory of overlay mounts
//!  layers/DIFFID/layer.json its record: sizes and flags
//!  layers/DIFFID/tape       its tar-split file, from which its archive can be rebuilt for verification and export
//!  layers/DIFFID/implied    names of directories that its archive uses but does not describe
//!  tops/ID/                 an image's own layer on top, with the right attributes of such directories
//!  images/ID.json           an image's record: names, layers
//!  configs/ID  manifests/D  the documents as they were received, by digest
//!  names.json               a copy of all image records, in case one is lost
//!  kept.json                layers without an image that are retained for the retry of a failed pull
//!  mark.json                the boot that uses the store, and the time up to which all layers are known to be whole
//!  staging/                 ingests and trash; emptied at start
//!  empty/                   the lower directory of images without layers
//! ```
//!
//! DIFFID, ID and D are 64 hex digits of a SHA-256.

use std::path::{Path, PathBuf};

use super::files;
use crate::image::error::ImageError;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    base: PathBuf,
}

impl Layout {
    /// The layout below `root`. Creates nothing.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            base: root.join("images"),
        }
    }

    /// Creates missing directories.
    pub(crate) fn make(&self) -> Result<(), ImageError> {
        for dir in [
            self.base.clone(),
            self.layers(),
            self.implied_dirs(),
            self.records(),
            self.configs(),
            self.manifests(),
            self.staging(),
        ] {
            files::make_dir(&dir, 0o700)?;
        }
        // Layers are unpacked here and keep their place on the disk when they are renamed.
        files::spread_subdirectories(&self.staging())?;
        files::make_dir(&self.empty(), 0o755)
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.base.join("layers")
    }

    pub(crate) fn layer(&self, hex: &str) -> PathBuf {
        self.base.join("layers").join(hex)
    }

    pub(crate) fn layer_fs(&self, hex: &str) -> PathBuf {
        self.layer(hex).join(FS)
    }

    pub(crate) fn implied_dirs(&self) -> PathBuf {
        self.base.join("tops")
    }

    /// The own layer of the image with this id.
    pub(crate) fn implied_dirs_of(&self, hex: &str) -> PathBuf {
        self.implied_dirs().join(hex)
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.base.join("names.json")
    }

    pub(crate) fn retained(&self) -> PathBuf {
        self.base.join("kept.json")
    }

    pub(crate) fn shutdown_marker(&self) -> PathBuf {
        self.base.join("mark.json")
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.base.join("images")
    }

    pub(crate) fn record(&self, hex: &str) -> PathBuf {
        self.records().join(format!("{hex}.json"))
    }

    pub(crate) fn configs(&self) -> PathBuf {
        self.base.join("configs")
    }

    pub(crate) fn config(&self, hex: &str) -> PathBuf {
        self.configs().join(hex)
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.base.join("manifests")
    }

    pub(crate) fn manifest(&self, hex: &str) -> PathBuf {
        self.manifests().join(hex)
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.base.join("staging")
    }

    pub(crate) fn empty(&self) -> PathBuf {
        self.base.join("empty")
    }
}

/// The directory with a layer's content.
pub(crate) const FS: &str = "fs";
/// A layer's tar-split file.
pub(crate) const TAR_SPLIT: &str = "tape";
/// The file with the names of a layer's implied directories, separated by NUL.
pub(crate) const IMPLIED: &str = "implied";
/// The file of a layer's record.
pub(crate) const LAYER_RECORD: &str = "layer.json";

/// Whether a name is 64 lower-case hex digits.
pub(crate) fn is_hex(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
