//! Where things lie below `<root>/images`.
//!
//! ```text
//!  layers/DIFFID/fs/        an unpacked layer, a lower directory of overlay mounts
//!  layers/DIFFID/layer.json its sizes
//!  layers/DIFFID/tape       its tar-split file: reproduces its archive, for verification and export
//!  layers/DIFFID/implied    directories its archive does not describe
//!  tops/ID/                 the layer on top of an image's own: what those directories are called below
//!  images/ID.json           an image's record: names, layers
//!  configs/ID  manifests/D  the documents as they came, by digest
//!  names.json               a copy of all records, for the one that is lost
//!  kept.json                which layers without an image are kept for the next try of a failed pull
//!  mark.json                which boot uses the store, and since when everything in it is known to be whole
//!  staging/                 work in progress and trash; emptied at start
//!  empty/                   the lower directory of images without any
//! ```
//!
//! DIFFID, ID and D are 64 hex digits of a SHA-256.

use std::path::{Path, PathBuf};

use crate::image::error::ImageError;
use crate::image::store::files;

/// Paths of one store.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    base: PathBuf,
}

impl Layout {
    /// The layout below `root`; touches nothing.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            base: root.join("images"),
        }
    }

    /// Makes the directories that are missing.
    pub(crate) fn make(&self) -> Result<(), ImageError> {
        for dir in [
            self.base.clone(),
            self.layers(),
            self.tops(),
            self.records(),
            self.configs(),
            self.manifests(),
            self.staging(),
        ] {
            files::make_dir(&dir, 0o700)?;
        }
        // Where layers are unpacked; they keep their place on the disk when they are renamed.
        files::spread(&self.staging())?;
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

    pub(crate) fn tops(&self) -> PathBuf {
        self.base.join("tops")
    }

    pub(crate) fn top(&self, hex: &str) -> PathBuf {
        self.tops().join(hex)
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.base.join("names.json")
    }

    pub(crate) fn kept(&self) -> PathBuf {
        self.base.join("kept.json")
    }

    pub(crate) fn mark(&self) -> PathBuf {
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

/// The directory of a layer's content.
pub(crate) const FS: &str = "fs";
/// A layer's tar-split file.
pub(crate) const TAR_SPLIT: &str = "tape";
/// The file with the names of a layer's implied directories, separated by zeros.
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
