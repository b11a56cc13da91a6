//! What failed pulls leave for the next try: layers that are complete, and streams that stopped in the middle of one.
//!
//! ```text
//!  pull fails ─▶ kept ── a pull takes it ──▶ in use ── fails again ──▶ kept
//!                 └── too old, disk short, an image is removed, damage is set aside ──▶ gone
//! ```
//!
//! A layer that is kept is like any other of the store, only that no image has it. A stream that is kept is a thread in the
//! middle of unpacking, waiting for the next byte: it ends with the daemon, layers do not (see [`open`](crate::image::store::load)).
//!
//! Must never: keep anything that no retry can use, or that somebody needs the space of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pausa_distribution::Digest;
use serde::Serialize;
use tokio::time::Instant;

use crate::image::pull::ingest::Ingest;
use crate::image::store::layers::Layer;

mod keeping;
pub(crate) mod list;

/// Less of a stream is fetched again as soon as it is kept.
const WORTH: u64 = 1 << 20;
/// Streams that are kept: each is a thread and the buffers of a decompressor.
const STREAMS: usize = 8;
/// Where less than this part of the file system is free, nothing is kept: kubelet begins to remove images there.
const FREE_PERCENT: u64 = 15;

/// Something that is kept for a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RetainedLayer {
    /// `sha256:` and 64 hex digits.
    pub diff_id: String,
    /// Whether the whole layer is there.
    pub complete: bool,
    /// Of a whole layer the bytes it occupies; else compressed bytes taken in.
    pub bytes: u64,
    /// Of a layer that is not complete, how many compressed bytes there are.
    pub bytes_total: u64,
    /// How long it is kept if nobody takes it.
    pub remaining: Duration,
}

/// The shelf.
#[derive(Debug)]
pub(crate) struct RetainedPulls {
    keep: Duration,
    base: PathBuf,
    items: Mutex<Items>,
}

#[derive(Debug, Default)]
struct Items {
    layers: HashMap<String, (Arc<Layer>, Instant)>,
    streams: HashMap<String, (Ingest, Instant)>,
    sweeping: bool,
    /// The list on disk is another.
    changed: bool,
}

/// What was taken off to be given up. Streams take a moment to clean up.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Released {
    layers: Vec<Arc<Layer>>,
    streams: Vec<Ingest>,
}

impl Released {
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.streams.is_empty()
    }

    /// Gives everything up; what streams have written is gone afterwards, layers are the reaper's.
    pub(crate) async fn give_up(self) {
        drop(self.layers);
        for stream in self.streams {
            stream.give_up().await;
        }
    }
}

impl RetainedPulls {
    /// Keeps things for `keep`, nothing if that is zero; `base` is where they lie.
    pub(crate) fn new(keep: Duration, base: &Path) -> Self {
        Self {
            keep,
            base: base.to_owned(),
            items: Mutex::default(),
        }
    }

    fn items(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long things are kept.
    pub(crate) fn keeps_for(&self) -> Duration {
        self.keep
    }

    /// Whether there is space to keep anything.
    pub(crate) fn has_room(&self) -> bool {
        if self.keep.is_zero() {
            return false;
        }
        match rustix::fs::statvfs(&self.base) {
            Ok(stat) => stat.f_bavail.saturating_mul(100) >= stat.f_blocks.saturating_mul(FREE_PERCENT),
            Err(_) => false,
        }
    }

    /// Keeps layers that are durable.
    pub(crate) fn put(&self, layers: Vec<Arc<Layer>>) {
        let until = Instant::now() + self.keep;
        let mut items = self.items();
        for layer in layers {
            let hex = layer.record().diff_id.clone();
            items.layers.insert(hex, (layer, until));
        }
        items.changed = true;
    }

    /// Whether a layer is here.
    fn has(&self, layer: &Layer) -> bool {
        self.items().layers.contains_key(&layer.record().diff_id)
    }

    /// Takes up a layer that was unpacked so long ago, at start.
    pub(crate) fn take_up(&self, layer: Arc<Layer>, age: Duration) {
        let until = Instant::now() + self.keep.saturating_sub(age);
        let hex = layer.record().diff_id.clone();
        self.items().layers.insert(hex, (layer, until));
    }

    /// Keeps a stream; gives it back if it is not worth it or not possible.
    pub(crate) fn retain(&self, feed: Ingest) -> Result<(), Ingest> {
        if feed.done() < WORTH || feed.is_over() || !self.has_room() {
            return Err(feed);
        }
        let bell = feed.bell();
        {
            let mut items = self.items();
            if items.streams.len() >= STREAMS {
                return Err(feed);
            }
            let until = Instant::now() + self.keep;
            let hex = feed.diff_id().to_owned();
            // One of before is of a thread that has ended: this one has the layer's ticket.
            drop(items.streams.insert(hex, (feed, until)));
        }
        // Pulls that wait for this layer go on with it.
        bell.send_replace(());
        Ok(())
    }

    /// The stream of a layer, if it is kept and of this blob. One of another blob is given up: it is in the way.
    pub(crate) fn resume(&self, diff_id: &str, blob: Option<&Digest>) -> Option<Ingest> {
        let (feed, _) = self.items().streams.remove(diff_id)?;
        (blob == Some(feed.blob()) && !feed.is_over()).then_some(feed)
    }

    /// Lets go of layers that have an image now.
    pub(crate) fn release(&self, diff_ids: &[String]) {
        let mut items = self.items();
        let layers = diff_ids.iter().map(|hex| items.layers.remove(hex));
        let layers: Vec<_> = layers.collect();
        items.changed |= layers.iter().any(Option::is_some);
        let streams = diff_ids.iter().map(|hex| items.streams.remove(hex));
        let streams: Vec<_> = streams.collect();
        drop(items);
        drop((layers, streams));
    }

    /// Gives up all streams: the daemon stops. Layers stay for its successor.
    pub(crate) fn close(&self) {
        let streams = std::mem::take(&mut self.items().streams);
        drop(streams);
    }

    /// Takes everything off.
    pub(crate) fn clear(&self) -> Released {
        self.take(|_| true)
    }

    /// Takes off what is too old, and everything if space is short.
    pub(crate) fn sweep(&self) -> Released {
        if !self.has_room() {
            return self.clear();
        }
        let now = Instant::now();
        self.take(|until| until <= now)
    }

    fn take(&self, which: impl Fn(Instant) -> bool) -> Released {
        let mut items = self.items();
        let layers = items.layers.extract_if(|_, (_, until)| which(*until));
        let layers: Vec<_> = layers.map(|(_, (layer, _))| layer).collect();
        items.changed |= !layers.is_empty();
        let streams = items.streams.extract_if(|_, (_, until)| which(*until));
        let streams = streams.map(|(_, (feed, _))| feed).collect();
        Released { layers, streams }
    }

    /// Hex digits of the layers, if they are others than when this was last asked.
    fn changed(&self) -> Option<Vec<String>> {
        let mut items = self.items();
        let changed = std::mem::take(&mut items.changed);
        changed.then(|| items.layers.keys().cloned().collect())
    }

    /// Whether the caller is to sweep from now on: there is something, and nobody does yet.
    pub(crate) fn begin_sweeping(&self) -> bool {
        let mut items = self.items();
        let begin = !items.sweeping && !items.is_empty();
        items.sweeping |= begin;
        begin
    }

    /// Whether who sweeps is done: there is nothing left.
    pub(crate) fn done_sweeping(&self) -> bool {
        let mut items = self.items();
        items.sweeping = !items.is_empty();
        !items.sweeping
    }

    /// What there is.
    pub(crate) fn list(&self) -> Vec<RetainedLayer> {
        let now = Instant::now();
        let items = self.items();
        let layers = items.layers.values().map(|(layer, until)| RetainedLayer {
            diff_id: format!("sha256:{}", layer.record().diff_id),
            complete: true,
            bytes: layer.record().size,
            bytes_total: layer.record().size,
            remaining: until.saturating_duration_since(now),
        });
        let streams = items.streams.values().map(|(feed, until)| RetainedLayer {
            diff_id: format!("sha256:{}", feed.diff_id()),
            complete: false,
            bytes: feed.done(),
            bytes_total: feed.size(),
            remaining: until.saturating_duration_since(now),
        });
        let mut all: Vec<RetainedLayer> = layers.chain(streams).collect();
        all.sort_by(|a, b| a.diff_id.cmp(&b.diff_id));
        all
    }
}

impl Items {
    fn is_empty(&self) -> bool {
        self.layers.is_empty() && self.streams.is_empty()
    }
}
