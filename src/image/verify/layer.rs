//! Verifies that a layer or a document on disk is what was unpacked or received. Reads only.
//!
//! A layer is compared with its own archive, rebuilt from its tar-split file ([`pausa_layer::check`]). Where
//! that is impossible, its tree is compared with the digest it had when it was unpacked.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use pausa_distribution::Digest;
use pausa_layer::{DiffId, ErrorKind, Expected, Limits};
use rustix::io::Errno;

use crate::error::chain;
use crate::image::error::ImageError;
use crate::image::store::files;
use crate::image::store::layout::{Layout, TAR_SPLIT};
use crate::image::store::record::LayerRecord;

/// How a layer is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerifyMethod {
    /// Its archive is rebuilt and must hash to the diff id.
    Exact,
    /// Its tree must have the digest that it had when it was unpacked.
    Tree,
}

impl VerifyMethod {
    pub(crate) fn of(record: &LayerRecord) -> Self {
        match record.tree {
            Some(_) => Self::Tree,
            None => Self::Exact,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Verdict {
    Whole,
    /// What is wrong, for people.
    Damaged(String),
    /// It could not be read, for a reason that says nothing about the layer.
    Unknown(ImageError),
}

/// Verifies a layer. Blocks while it is being read.
pub(crate) fn verify_layer(layout: &Layout, record: &LayerRecord) -> Verdict {
    let source = match compare(layout, record) {
        Ok(()) => return Verdict::Whole,
        Err(source) => source,
    };
    // Some errors concern this process rather than the layer.
    let of_process = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
        Errno::ACCESS,
        Errno::PERM,
    ];
    let damaged = match &source {
        pausa_layer::Error::System { source, .. } => !of_process.contains(source),
        other => !matches!(other.kind(), ErrorKind::System),
    };
    if damaged {
        return Verdict::Damaged(chain(&source));
    }
    Verdict::Unknown(ImageError::Unpack {
        diff_id: format!("sha256:{}", record.diff_id),
        source: Box::new(source),
    })
}

fn compare(layout: &Layout, record: &LayerRecord) -> Result<(), pausa_layer::Error> {
    let damaged = |what: &'static str| pausa_layer::Error::Damaged {
        path: pausa_layer::EntryPath::new(&b"."[..]),
        what: what.into(),
    };
    let dir = files::open_dir(&layout.layer_fs(&record.diff_id)).map_err(|_| damaged("cannot be opened"))?;
    if let Some(tree) = &record.tree {
        let packed = pausa_layer::pack(dir.as_fd(), std::io::sink())?;
        return if hex::encode(packed.diff_id.as_bytes()) == *tree {
            Ok(())
        } else {
            Err(damaged("has changed since it was unpacked"))
        };
    }
    let tar_split = layout.layer(&record.diff_id).join(TAR_SPLIT);
    let tar_split = File::open(tar_split).map_err(|_| damaged("has lost its tar-split file"))?;
    let mut digest = [0; 32];
    hex::decode_to_slice(&record.diff_id, &mut digest).map_err(|_| damaged("has an invalid diff id"))?;
    let expected = Expected {
        diff_id: DiffId::from_bytes(digest),
        files: record.files,
        dropped_xattrs: record.dropped_xattrs,
    };
    pausa_layer::check(dir.as_fd(), tar_split, &expected, &Limits::default())
}

/// Verifies a document that is named by its SHA-256. Returns what is wrong with it, for people.
pub(crate) fn document_damage(path: &Path, hex: &str) -> Option<String> {
    match files::read(path, files::RECORD_MAX) {
        Ok(bytes) => {
            let found = Digest::sha256(&bytes);
            (found.hex() != hex).then(|| format!("it hashes to {found}"))
        }
        Err(error) => Some(chain(&error)),
    }
}
