//! Records clean shutdowns: whether the machine may have lost data of the store since it was last known to be
//! whole.
//!
//! ```text
//!   start ─▶ in use, boot B ─── clean shutdown: syncfs ───▶ clean ─▶ start …
//!                 │
//!                 ├── the daemon is killed: the same boot, the kernel still has every page ─▶ nothing to verify
//!                 └── power cut: another boot finds "in use" ─▶ layers unpacked since `whole` are verified
//! ```

use serde::{Deserialize, Serialize};

use super::files;
use super::layout::Layout;
use super::record::{self, VERSION};
use crate::image::error::ImageError;

/// `mark.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ShutdownMarker {
    version: u32,
    /// The boot during which it was written.
    boot: String,
    /// The shutdown was clean, and nothing was written since.
    clean: bool,
    /// Layers unpacked until then are known to be whole on disk. In nanoseconds since the epoch.
    whole: i64,
}

/// Which layers have to be verified at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerifyScope {
    None,
    /// Layers unpacked after this time, in nanoseconds since the epoch.
    Since(i64),
}

impl VerifyScope {
    /// Whether a layer that was unpacked at this time has to be verified.
    pub(crate) fn covers(self, unpacked: i64) -> bool {
        match self {
            Self::None => false,
            Self::Since(whole) => unpacked > whole,
        }
    }
}

/// What has to be verified, and the time until which layers are known to be whole (`i64::MIN` for unknown).
pub(crate) fn read(layout: &Layout) -> (VerifyScope, i64) {
    let boot = crate::state::boot_id();
    let marker = record::load::<ShutdownMarker>(&layout.shutdown_marker()).ok();
    let marker = marker.filter(|marker| marker.version == VERSION);
    match marker {
        // If the marker is lost, other files may be too.
        None => (VerifyScope::Since(i64::MIN), i64::MIN),
        Some(marker) if marker.clean || marker.boot == boot => (VerifyScope::None, marker.whole),
        Some(marker) => (VerifyScope::Since(marker.whole), marker.whole),
    }
}

/// Records that the store is in use during this boot, and whole up to `whole`.
pub(crate) fn record_in_use(layout: &Layout, whole: i64) -> Result<(), ImageError> {
    write(layout, false, whole)
}

/// Records a clean shutdown. Everything in the store must be durable.
pub(crate) fn record_clean(layout: &Layout) -> Result<(), ImageError> {
    write(layout, true, crate::state::now())
}

fn write(layout: &Layout, clean: bool, whole: i64) -> Result<(), ImageError> {
    let marker = ShutdownMarker {
        version: VERSION,
        boot: crate::state::boot_id(),
        clean,
        whole,
    };
    let path = layout.shutdown_marker();
    files::replace(&path, &record::encode(&marker, &path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file as earlier versions of pausa have written it.
    #[test]
    fn markers_of_earlier_versions_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let layout = Layout::new(temp.path());
        layout.make().unwrap();
        let path = temp.path().join("images/mark.json");
        assert_eq!(read(&layout).0, VerifyScope::Since(i64::MIN));
        for (boot, clean, scope) in [
            ("an earlier boot", true, VerifyScope::None),
            ("an earlier boot", false, VerifyScope::Since(7)),
            (crate::state::boot_id().as_str(), false, VerifyScope::None),
        ] {
            let marker = serde_json::json!({"version": 1, "boot": boot, "clean": clean, "whole": 7});
            std::fs::write(&path, marker.to_string()).unwrap();
            assert_eq!(read(&layout), (scope, 7));
        }
    }
}
