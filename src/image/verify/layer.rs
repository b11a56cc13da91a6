//! Whether what is on disk is what was unpacked: one layer, one document.
//!
//! Reads only. A layer is verified against its own archive, reproduced from its tar-split file ([`pausa_layer::check`]), or where that is
//! impossible against the digest its tree had when it was unpacked.

use std::fs::File;
use std::os::fd::AsFd as _;

use pausa_distribution::Digest;
use pausa_layer::{DiffId, ErrorKind, Expected, Limits};
use rustix::io::Errno;
use serde::Serialize;

use crate::error::chain;
use crate::image::error::ImageError;
use crate::image::store::files;
use crate::image::store::layout::{Layout, TAR_SPLIT};
use crate::image::store::record::LayerRecord;

/// How a layer is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyMethod {
    /// Its archive is made again and must hash to the diff id.
    Exact,
    /// Its tree must have the digest it had when it was unpacked.
    Tree,
}

/// What came out.
#[derive(Debug)]
pub(crate) enum Verdict {
    Whole,
    /// What is wrong, for people.
    Damaged(String),
    /// It could not be read for a reason that is not its own.
    Unknown(ImageError),
}

/// How this layer is verified.
pub(crate) fn method(record: &LayerRecord) -> VerifyMethod {
    match record.tree {
        Some(_) => VerifyMethod::Tree,
        None => VerifyMethod::Exact,
    }
}

/// Verifies a layer. Blocks as long as reading it takes.
pub(crate) fn layer(layout: &Layout, record: &LayerRecord) -> Verdict {
    match compare(layout, record) {
        Ok(()) => Verdict::Whole,
        Err(source) if is_damage_of_layer(&source) => Verdict::Damaged(chain(&source)),
        Err(source) => Verdict::Unknown(ImageError::Unpack {
            diff_id: format!("sha256:{}", record.diff_id),
            source: Box::new(source),
        }),
    }
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
            Err(damaged("is not as it was when it was unpacked"))
        };
    }
    let tar_split = layout.layer(&record.diff_id).join(TAR_SPLIT);
    let tar_split = File::open(tar_split).map_err(|_| damaged("has lost its tar-split file"))?;
    let mut digest = [0; 32];
    hex::decode_to_slice(&record.diff_id, &mut digest).map_err(|_| damaged("has a name that is none"))?;
    let expected = Expected {
        diff_id: DiffId::from_bytes(digest),
        files: record.files,
        dropped_xattrs: record.dropped_xattrs,
    };
    pausa_layer::check(dir.as_fd(), tar_split, &expected, &Limits::default())
}

/// Whether a failure says something about the layer rather than about this process.
fn is_damage_of_layer(error: &pausa_layer::Error) -> bool {
    let scarce = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::INTR,
        Errno::ACCESS,
        Errno::PERM,
    ];
    match error {
        pausa_layer::Error::System { source, .. } => !scarce.contains(source),
        other => !matches!(other.kind(), ErrorKind::System),
    }
}

/// Verifies a document that is named by its SHA-256; what is wrong, if something is.
pub(crate) fn document(path: &std::path::Path, hex: &str) -> Option<String> {
    match files::read(path, files::RECORD_MAX) {
        Ok(bytes) => {
            let found = Digest::sha256(&bytes);
            (found.hex() != hex).then(|| format!("it hashes to {found}"))
        }
        Err(error) => Some(chain(&error)),
    }
}
