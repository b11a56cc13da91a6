//! What failed pulls leave for a retry: complete layers, and ingests that stopped midway.
//!
//! ```text
//!  pull fails ─▶ retained ── a pull takes it ──▶ in use ── fails again ──▶ retained
//!                  └── too old, disk short, an image removed or pruned, a repair ──▶ discarded
//! ```
//!
//! A retained layer is a layer of the store that no image has. A retained ingest is a thread that waits for
//! its next byte; it ends with the daemon. Complete layers survive the daemon: a list on disk tells them from
//! the remains of an interrupted removal. Losing that list only costs the layers it names.
//!
//! Must never: retain anything that no retry can use, or whose space is needed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pausa_distribution::Digest;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::ingest::Ingest;
use crate::blocking::blocking;
use crate::error::chain;
use crate::image::error::ImageError;
use crate::image::store::files;
use crate::image::store::layers::{Layer, Layers};
use crate::image::store::layout::{Layout, is_hex};
use crate::image::store::record::{self, LayerRecord, VERSION};

/// An ingest with fewer bytes is not retained: fetching them again is as fast.
const MIN_BYTES: u64 = 1 << 20;
/// Most retained ingests: each is a thread with the buffers of a decompressor.
const MAX_INGESTS: usize = 8;
/// Nothing is retained where less of the file system is free, because kubelet begins to remove images there.
const FREE_PERCENT: u64 = 15;
/// How often expired data is looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);

/// A layer, or a part of one, that is retained for a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetainedLayer {
    /// `sha256:` and 64 hex digits.
    pub(crate) diff_id: String,
    pub(crate) complete: bool,
    /// Bytes on disk of a complete layer; received compressed bytes of another one.
    pub(crate) bytes: u64,
    /// All compressed bytes of a layer that is not complete.
    pub(crate) bytes_total: u64,
    /// Time until it is discarded.
    pub(crate) remaining: Duration,
}

#[derive(Debug)]
pub(crate) struct RetainedPulls {
    keep_for: Mutex<Duration>,
    layout: Layout,
    items: Mutex<Items>,
}

#[derive(Debug, Default)]
struct Items {
    /// By the hex digits of the diff id, with the time of expiry.
    layers: HashMap<String, (Arc<Layer>, Instant)>,
    ingests: HashMap<String, (Ingest, Instant)>,
    /// A task discards what expires.
    expiring: bool,
    /// The list on disk is out of date.
    changed: bool,
}

/// What is no longer retained. Its space is free after [`discard`](Self::discard); dropping it does not wait
/// for that.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Removed {
    layers: Vec<Arc<Layer>>,
    ingests: Vec<Ingest>,
}

impl Removed {
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.ingests.is_empty()
    }

    /// Releases the layers, which garbage collection then removes, and waits until what the ingests wrote is
    /// gone.
    pub(crate) async fn discard(self) {
        drop(self.layers);
        for ingest in self.ingests {
            ingest.discard().await;
        }
    }
}

impl RetainedPulls {
    /// Retains data for `keep_for`, or nothing if that is zero.
    pub(crate) fn new(keep_for: Duration, layout: Layout) -> Self {
        Self {
            keep_for: Mutex::new(keep_for),
            layout,
            items: Mutex::default(),
        }
    }

    /// From now on. What is retained stays until it was to be discarded.
    pub(crate) fn set_keep_for(&self, keep_for: Duration) {
        *self.keep_for.lock() = keep_for;
    }

    fn keep_for(&self) -> Duration {
        *self.keep_for.lock()
    }

    /// Whether failed pulls leave anything at all.
    pub(crate) fn is_enabled(&self) -> bool {
        !self.keep_for().is_zero()
    }

    /// Whether anything may be retained now.
    pub(crate) fn has_space(&self) -> bool {
        self.is_enabled() && files::has_free(self.layout.base(), FREE_PERCENT)
    }

    /// Retains layers, which must be durable.
    pub(crate) async fn retain_layers(&self, layers: Vec<Arc<Layer>>) {
        let until = Instant::now() + self.keep_for();
        {
            let mut items = self.items.lock();
            for layer in layers {
                let hex = layer.record().diff_id.clone();
                items.layers.insert(hex, (layer, until));
            }
            items.changed = true;
        }
        self.save().await;
    }

    /// Retains again what the previous daemon has listed and what has not expired. To be called at start, and
    /// only if no layer has to be verified: retained layers are not verified later.
    pub(crate) fn restore(&self, layers: &Layers) {
        if !self.has_space() {
            return;
        }
        let now = crate::state::now();
        for hex in load_list(&self.layout) {
            if !is_hex(&hex) || layers.knows(&hex) {
                continue;
            }
            let Ok(record) = LayerRecord::load(&self.layout, &hex) else {
                continue;
            };
            let Ok(age) = u64::try_from(now.saturating_sub(record.unpacked)) else {
                continue;
            };
            let remaining = self.keep_for().saturating_sub(Duration::from_nanos(age));
            if !remaining.is_zero() {
                let until = Instant::now() + remaining;
                let mut items = self.items.lock();
                items.layers.insert(hex, (layers.insert(record), until));
            }
        }
    }

    /// Retains an ingest, or returns it if that is not worth it or not possible.
    pub(crate) fn retain_ingest(&self, ingest: Ingest) -> Result<(), Ingest> {
        if ingest.received() < MIN_BYTES || ingest.has_failed() || !self.has_space() {
            return Err(ingest);
        }
        let mut items = self.items.lock();
        if items.ingests.len() >= MAX_INGESTS {
            return Err(ingest);
        }
        let until = Instant::now() + self.keep_for();
        let hex = ingest.diff_id().to_owned();
        // An older ingest of the layer has failed, or comes from another source.
        drop(items.ingests.remove(&hex));
        let (ingest, _) = items.ingests.entry(hex).or_insert((ingest, until));
        ingest.wake_waiters();
        Ok(())
    }

    /// Takes the retained ingest of a layer if it is one of `blob`. An ingest of another blob is discarded: the layer
    /// will be there before anybody continues it.
    pub(crate) fn take_ingest(&self, diff_id: &str, blob: Option<&Digest>) -> Option<Ingest> {
        let (ingest, _) = self.items.lock().ingests.remove(diff_id)?;
        (blob == Some(ingest.blob()) && !ingest.has_failed()).then_some(ingest)
    }

    /// Whether this layer is retained.
    pub(crate) fn has(&self, layer: &Layer) -> bool {
        self.items.lock().layers.contains_key(&layer.record().diff_id)
    }

    /// Stops retaining layers that belong to an image now.
    pub(crate) async fn release(&self, diff_ids: &[String]) {
        let removed = self.take(|hex, _| diff_ids.contains(hex));
        drop(removed);
        self.save().await;
    }

    /// Discards everything and waits until its space is free, except for layers that garbage collection still
    /// removes.
    pub(crate) async fn discard_all(&self) {
        self.forget_all().await.discard().await;
    }

    /// Stops retaining anything, here and in the list on disk.
    pub(crate) async fn forget_all(&self) -> Removed {
        let removed = self.remove_all();
        self.save().await;
        removed
    }

    pub(crate) fn remove_all(&self) -> Removed {
        self.take(|_, _| true)
    }

    /// The daemon stops: discards all ingests and leaves the layers to the next daemon.
    pub(crate) fn close(&self) {
        let ingests = std::mem::take(&mut self.items.lock().ingests);
        drop(ingests);
    }

    fn take(&self, which: impl Fn(&String, Instant) -> bool) -> Removed {
        let mut items = self.items.lock();
        let layers = items.layers.extract_if(|hex, (_, until)| which(hex, *until));
        let layers: Vec<_> = layers.map(|(_, (layer, _))| layer).collect();
        items.changed |= !layers.is_empty();
        let ingests = items.ingests.extract_if(|hex, (_, until)| which(hex, *until));
        let ingests = ingests.map(|(_, (ingest, _))| ingest).collect();
        Removed { layers, ingests }
    }

    /// Writes the list of retained layers, if it has changed.
    async fn save(&self) {
        let layers: Vec<String> = {
            let mut items = self.items.lock();
            if !std::mem::take(&mut items.changed) {
                return;
            }
            items.layers.keys().cloned().collect()
        };
        let layout = self.layout.clone();
        if let Err(error) = blocking(move || save_list(&layout, layers)).await {
            tracing::warn!(
                path = %self.layout.retained().display(),
                error = chain(&error),
                "cannot save the list of layers retained from failed pulls; they will be lost if the daemon restarts"
            );
        }
    }

    /// Starts a task that discards what expires, or everything when space is short, unless it runs already.
    /// The task ends when nothing is retained.
    pub(crate) fn start_expiry(self: &Arc<Self>) {
        {
            let mut items = self.items.lock();
            if items.expiring || items.is_empty() {
                return;
            }
            items.expiring = true;
        }
        let retained = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EXPIRY_INTERVAL).await;
                let Some(retained) = retained.upgrade() else {
                    return;
                };
                let all = !retained.has_space();
                let now = Instant::now();
                let expired = retained.take(|_, until| all || until <= now);
                let done = {
                    let mut items = retained.items.lock();
                    items.expiring = !items.is_empty();
                    !items.expiring
                };
                if !expired.is_empty() {
                    tracing::info!(
                        layers = expired.layers.len(),
                        ingests = expired.ingests.len(),
                        "discarding what failed pulls have left: it has expired, or the disk is short of space"
                    );
                    expired.discard().await;
                    retained.save().await;
                }
                if done {
                    return;
                }
            }
        });
    }

    /// Everything that is retained, by diff id.
    pub(crate) fn list(&self) -> Vec<RetainedLayer> {
        let now = Instant::now();
        let items = self.items.lock();
        let layers = items.layers.values().map(|(layer, until)| RetainedLayer {
            diff_id: format!("sha256:{}", layer.record().diff_id),
            complete: true,
            bytes: layer.record().size,
            bytes_total: layer.record().size,
            remaining: until.saturating_duration_since(now),
        });
        let ingests = items.ingests.values().map(|(ingest, until)| RetainedLayer {
            diff_id: format!("sha256:{}", ingest.diff_id()),
            complete: false,
            bytes: ingest.received(),
            bytes_total: ingest.size(),
            remaining: until.saturating_duration_since(now),
        });
        let mut all: Vec<RetainedLayer> = layers.chain(ingests).collect();
        all.sort_by(|a, b| a.diff_id.cmp(&b.diff_id));
        all
    }
}

impl Items {
    fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.ingests.is_empty()
    }
}

/// The list on disk, `kept.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct List {
    version: u32,
    layers: Vec<String>,
}

/// Hex digits of the layers that were retained when the list was last written. An unreadable list is empty.
fn load_list(layout: &Layout) -> HashSet<String> {
    let list = record::load::<List>(&layout.retained()).unwrap_or_default();
    let known = list.version == VERSION;
    list.layers.into_iter().filter(|_| known).collect()
}

/// Replaces the list, or removes it if there are no layers.
pub(crate) fn save_list(layout: &Layout, layers: Vec<String>) -> Result<(), ImageError> {
    let path = layout.retained();
    if layers.is_empty() {
        return files::remove_file(&path);
    }
    let list = List {
        version: VERSION,
        layers,
    };
    files::replace(&path, &record::encode(&list, &path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file as earlier versions of pausa have written it.
    #[test]
    fn lists_of_earlier_versions_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let layout = Layout::new(temp.path());
        layout.make().unwrap();
        let path = temp.path().join("images/kept.json");
        assert!(load_list(&layout).is_empty());
        let hex = "ab".repeat(32);
        let list = serde_json::json!({"version": 1, "layers": [hex]});
        std::fs::write(&path, list.to_string()).unwrap();
        assert_eq!(load_list(&layout), HashSet::from([hex.clone()]));
        save_list(&layout, vec![hex]).unwrap();
        let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(saved, list);
        save_list(&layout, Vec::new()).unwrap();
        assert!(!path.exists());
    }
}
