//! Records clean shutdowns: whether the machine may have lost data of the store since it was last known to be
//! whole.
//!
//! ```text
//!   clean ─▶ start ─▶ first new layer: in use, boot B ─── clean shutdown: syncfs if need be ───▶ clean ─▶ start …
//!                                       │
//!                                       ├── the daemon is killed: the same boot, the kernel still has every page ─▶ nothing to verify
//!                                       └── power cut: another boot finds "in use" ─▶ layers unpacked since `whole` are verified
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

/// What the marker on disk says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marked {
    /// The last shutdown was clean: everything is durable.
    Clean,
    /// A daemon of this boot uses the store, or was killed.
    InUse,
    /// It is lost, or the machine was restarted while the store was in use.
    Unknown,
}

impl Marked {
    /// What has to be verified, if layers are known to be whole until `whole`.
    pub(crate) fn scope(self, whole: i64) -> VerifyScope {
        match self {
            // The kernel still has every page of what a daemon of this boot has written.
            Self::Clean | Self::InUse => VerifyScope::None,
            Self::Unknown => VerifyScope::Since(whole),
        }
    }
}

/// What the last daemon has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastShutdown {
    pub(crate) state: Marked,
    /// The time until which layers are known to be whole (`i64::MIN` for unknown).
    pub(crate) whole: i64,
}

/// Reads what the last daemon has left.
pub(crate) fn read(layout: &Layout) -> LastShutdown {
    let marker = record::load::<ShutdownMarker>(&layout.shutdown_marker()).ok();
    let Some(marker) = marker.filter(|marker| marker.version == VERSION) else {
        // If the marker is lost, other files may be too.
        return LastShutdown {
            state: Marked::Unknown,
            whole: i64::MIN,
        };
    };
    let state = match marker.clean {
        true => Marked::Clean,
        false if marker.boot == crate::state::boot_id() => Marked::InUse,
        false => Marked::Unknown,
    };
    LastShutdown {
        state,
        whole: marker.whole,
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
        let (state, whole) = (Marked::Unknown, i64::MIN);
        assert_eq!(read(&layout), LastShutdown { state, whole });
        for (boot, clean, state) in [
            ("an earlier boot", true, Marked::Clean),
            ("an earlier boot", false, Marked::Unknown),
            (crate::state::boot_id().as_str(), false, Marked::InUse),
        ] {
            let marker = serde_json::json!({"version": 1, "boot": boot, "clean": clean, "whole": 7});
            std::fs::write(&path, marker.to_string()).unwrap();
            let whole = 7;
            assert_eq!(read(&layout), LastShutdown { state, whole });
        }
    }
}
