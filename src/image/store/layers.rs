//! The layers of the store, counted by who holds them.
//!
//! ```text
//!            claim: Fetch               commit
//!  absent ───────────────▶ fetching ────────────▶ present ◀── claim: Held
//!    ▲                       │ ticket dropped       │ last Arc<Layer> dropped
//!    └───────────────────────┴──────────────────────┴──▶ reaper moves the directory away
//! ```
//!
//! Who claims a layer that is on its way in or out waits and claims again. The count is that of `Arc<Layer>`: images and pulls
//! in progress hold one for each layer. Dropping the last one removes the directory, except when the store is closing.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pausa_layer::Usage;
use tokio::sync::{oneshot, watch};

use crate::image::error::ImageError;
use crate::image::store::gc::{self, GcJob, Table};
use crate::image::store::layout::Layout;
use crate::image::store::record::LayerRecord;

/// The state of a layer that is not absent.
pub(crate) enum LayerSlot {
    /// Being fetched; the receiver ends with it.
    Fetching(watch::Receiver<()>),
    /// There, or (when nobody holds it any more) about to go; the receiver ends when it is gone.
    Present {
        layer: Weak<Layer>,
        gone: watch::Receiver<()>,
        /// What it occupies until it is gone.
        usage: Usage,
    },
}

/// A layer that cannot go away while this lives.
pub(crate) struct Layer {
    record: LayerRecord,
    durable: AtomicBool,
    gone: Option<watch::Sender<()>>,
    owner: Layers,
}

impl Layer {
    pub(crate) fn record(&self) -> &LayerRecord {
        &self.record
    }

    /// Whether a power cut cannot damage it any more.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn mark_durable(&self) {
        self.durable.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({})", self.record.diff_id)
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if self.owner.closing.load(Ordering::Acquire) {
            return;
        }
        let job = GcJob::Layer {
            hex: std::mem::take(&mut self.record.diff_id),
            gone: self.gone.take(),
        };
        // Without its thread the store is closing anyway.
        drop(self.owner.reaper.send(job));
    }
}

/// What a claim leads to.
pub(crate) enum Claim {
    /// It is there.
    Held(Arc<Layer>),
    /// Wait for the receiver's end, or for what fetches it to be kept ([`RetainedPulls`](crate::image::pull::retained::RetainedPulls)), and claim again.
    Wait(watch::Receiver<()>),
    /// It is yours to fetch.
    Fetch(Ticket),
}

/// All layers. Clones are the same.
#[derive(Clone)]
pub(crate) struct Layers {
    layout: Layout,
    table: Table,
    reaper: Sender<GcJob>,
    closing: Arc<AtomicBool>,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Layers {
    pub(crate) fn new(layout: Layout, closing: Arc<AtomicBool>) -> Result<Self, ImageError> {
        let table: Table = Arc::new(Mutex::new(HashMap::new()));
        let reaper = gc::start(layout.clone(), Arc::clone(&table))?;
        Ok(Self {
            layout,
            table,
            reaper,
            closing,
        })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, LayerSlot>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a layer.
    pub(crate) fn claim(&self, hex: &str) -> Claim {
        let mut table = self.table();
        match table.get(hex) {
            Some(LayerSlot::Fetching(busy)) => {
                let mut busy = busy.clone();
                // What was told before now is no news.
                busy.mark_unchanged();
                Claim::Wait(busy)
            }
            Some(LayerSlot::Present { layer, gone, .. }) => match layer.upgrade() {
                Some(layer) => Claim::Held(layer),
                None => Claim::Wait(gone.clone()),
            },
            None => {
                let (busy, ends) = watch::channel(());
                table.insert(hex.to_owned(), LayerSlot::Fetching(ends));
                Claim::Fetch(Ticket {
                    hex: hex.to_owned(),
                    layers: self.clone(),
                    committed: false,
                    busy,
                })
            }
        }
    }

    /// Whether a layer is there or on its way.
    pub(crate) fn knows(&self, hex: &str) -> bool {
        self.table().contains_key(hex)
    }

    /// Takes up a layer found at start.
    pub(crate) fn add_loaded(&self, record: LayerRecord) -> Arc<Layer> {
        let layer = self.insert(record);
        layer.mark_durable();
        layer
    }

    /// Takes up a layer that may not be durable yet.
    pub(crate) fn insert(&self, record: LayerRecord) -> Arc<Layer> {
        let (gone, ends) = watch::channel(());
        let hex = record.diff_id.clone();
        let usage = Usage {
            bytes: record.size,
            inodes: record.inodes,
        };
        let layer = Arc::new(Layer {
            record,
            durable: AtomicBool::new(false),
            gone: Some(gone),
            owner: self.clone(),
        });
        let entry = LayerSlot::Present {
            layer: Arc::downgrade(&layer),
            gone: ends,
            usage,
        };
        self.table().insert(hex, entry);
        layer
    }

    /// Hex digits of all layers that somebody holds.
    pub(crate) fn present(&self) -> Vec<String> {
        let table = self.table();
        let held = table.iter().filter(|(_, entry)| match entry {
            LayerSlot::Present { layer, .. } => layer.strong_count() > 0,
            LayerSlot::Fetching(_) => false,
        });
        held.map(|(hex, _)| hex.clone()).collect()
    }

    /// Space and inodes of all layers, those on their way out included: they still occupy them.
    pub(crate) fn usage(&self) -> Usage {
        let table = self.table();
        table.values().fold(Usage::default(), |sum, entry| match entry {
            LayerSlot::Present { usage, .. } => Usage {
                bytes: sum.bytes.saturating_add(usage.bytes),
                inodes: sum.inodes.saturating_add(usage.inodes),
            },
            LayerSlot::Fetching(_) => sum,
        })
    }

    /// Has a tree in `staging/` removed by and by.
    pub(crate) fn discard(&self, path: &Path) {
        drop(self.reaper.send(GcJob::Tree(path.to_owned())));
    }

    /// Waits until everything given up so far is off the disk.
    pub(crate) async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.reaper.send(GcJob::Flush(done)).is_ok() {
            // Without an answer the thread is gone, and with it the store.
            drop(wait.await);
        }
    }
}

/// The right and duty to fetch a layer. Dropped without [`commit`](Self::commit), the layer is absent again.
#[derive(Debug)]
pub(crate) struct Ticket {
    hex: String,
    layers: Layers,
    committed: bool,
    busy: watch::Sender<()>,
}

impl Ticket {
    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Wakes those who wait for the layer when something is sent; they wait until this is dropped as well.
    pub(crate) fn bell(&self) -> watch::Sender<()> {
        self.busy.clone()
    }

    /// The layer's directory is in place, and so it was before the machine's start.
    pub(crate) fn confirm(self, record: LayerRecord) -> Arc<Layer> {
        let layer = self.commit(record);
        layer.mark_durable();
        layer
    }

    /// The layer's directory is in place.
    pub(crate) fn commit(mut self, record: LayerRecord) -> Arc<Layer> {
        self.committed = true;
        self.layers.insert(record)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.committed {
            self.layers.table().remove(&self.hex);
        }
    }
}
