//! Whether the machine went down in order since the store was last known to be whole.
//!
//! ```text
//!   start ─▶ in use, boot B ─── orderly stop: syncfs ───▶ clean ─▶ start …
//!                 │
//!                 ├── the daemon is killed: the same boot, the kernel still has every page ─▶ nothing to verify
//!                 └── power cut: another boot finds "in use" ─▶ layers unpacked since `whole` are verified
//! ```

use serde::{Deserialize, Serialize};

use crate::image::error::ImageError;
use crate::image::store::files;
use crate::image::store::layout::Layout;
use crate::image::store::record::{self, VERSION};

/// The mark on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShutdownMarker {
    version: u32,
    /// The boot during which it was written.
    boot: String,
    /// Stopped in order, and nothing was written since.
    clean: bool,
    /// Layers unpacked up to here are known to be whole on disk, nanoseconds since the epoch.
    whole: i64,
}

/// What has to be verified at a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerifyScope {
    /// Nothing.
    None,
    /// Layers unpacked after this time, nanoseconds since the epoch.
    Since(i64),
}

impl VerifyScope {
    /// Whether a layer unpacked then is in doubt.
    pub(crate) fn covers(self, unpacked: i64) -> bool {
        match self {
            Self::None => false,
            Self::Since(whole) => unpacked > whole,
        }
    }
}

/// What the mark of the time before says, and up to when layers are known to be whole.
pub(crate) fn read(layout: &Layout) -> (VerifyScope, i64) {
    let boot = crate::state::boot_id();
    let known = record::load::<ShutdownMarker>(&layout.mark()).ok();
    let known = known.filter(|mark| mark.version == VERSION);
    match known {
        // A mark that is lost says nothing good about the rest.
        None => (VerifyScope::Since(i64::MIN), i64::MIN),
        Some(mark) if mark.clean || mark.boot == boot => (VerifyScope::None, mark.whole),
        Some(mark) => (VerifyScope::Since(mark.whole), mark.whole),
    }
}

/// Marks the store as in use during this boot, whole up to `whole`.
pub(crate) fn in_use(layout: &Layout, whole: i64) -> Result<(), ImageError> {
    write(layout, false, whole)
}

/// Marks the store as left in order; everything in it must be durable.
pub(crate) fn clean(layout: &Layout) -> Result<(), ImageError> {
    write(layout, true, crate::state::now())
}

fn write(layout: &Layout, clean: bool, whole: i64) -> Result<(), ImageError> {
    let mark = ShutdownMarker {
        version: VERSION,
        boot: crate::state::boot_id(),
        clean,
        whole,
    };
    let path = layout.mark();
    files::replace(&path, &record::encode(&mark, &path)?)
}
