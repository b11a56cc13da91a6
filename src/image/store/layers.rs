//! The layers of the store, with reference counts.
//!
//! ```text
//!            claim: Fetch               commit
//!  absent ───────────────▶ fetching ────────────▶ present ◀── claim: Held
//!    ▲                       │ all tickets dropped  │ last Arc<Layer> dropped
//!    └───────────────────────┴──────────────────────┴──▶ garbage collection renames the directory, then removes it
//! ```
//!
//! A caller that claims a layer on its way out, or in from the same source, waits and claims again. A layer may be on its
//! way in from several sources at once, each with a ticket: an image declares its diff ids itself, and its registry may be
//! as slow as it likes, so nobody waits for a registry that was not asked for. The first one to arrive is installed. The count is that of
//! `Arc<Layer>`: images and pulls in progress hold one for each layer. Dropping the last one removes the
//! directory, except while the store is closing. Its space counts as used until all of it is gone.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use pausa_distribution::Digest;
use pausa_layer::Usage;
use tokio::sync::watch;

use super::clean_shutdown;
use super::gc::GarbageCollector;
use super::layout::Layout;
use super::record::LayerRecord;
use crate::image::error::ImageError;

/// Where a layer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LayerSource {
    /// A blob of a registry, by the host that image references name.
    Registry { host: String, blob: Digest },
    /// A file of this node.
    File,
    /// The store itself, where the layer is verified after a power cut.
    Store,
}

/// A layer on its way in, with the ticket of this number.
struct Fetch {
    ticket: u64,
    source: LayerSource,
    /// Wakes those who wait.
    waiters: watch::Sender<()>,
}

impl Fetch {
    /// Whether somebody who wants the layer from `source` waits for this one.
    fn serves(&self, source: &LayerSource) -> bool {
        // What is in the store is in the place of any other.
        self.source == *source || self.source == LayerSource::Store
    }
}

/// The state of a layer that is not absent.
enum LayerSlot {
    /// Being fetched, at least once.
    Fetching(Vec<Fetch>),
    /// Put into its place by the ticket of the first, whose place nobody can take any more.
    Installing(Fetch),
    /// On disk. If no holder is left, it is about to be removed, until the sender of `gone` is dropped.
    Present {
        layer: Weak<Layer>,
        gone: watch::Receiver<()>,
        /// What it occupies until it is gone.
        usage: Usage,
    },
}

#[derive(Default)]
struct Table {
    /// By the hex digits of the diff id.
    slots: HashMap<String, LayerSlot>,
    /// What the layers occupy that are out of the way, but not off the disk.
    dying: Usage,
}

/// A layer on disk. It is not removed while this is held.
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

    /// The directory of its content, record and tar-split file.
    pub(crate) fn directory(&self) -> PathBuf {
        self.owner.layout.layer(&self.record.diff_id)
    }

    /// Whether a power cut can no longer damage it.
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
        let hex = std::mem::take(&mut self.record.diff_id);
        let usage = self.record.usage();
        let (table, gone) = (Arc::clone(&self.owner.table), self.gone.take());
        let renamed = {
            let (table, hex) = (Arc::clone(&table), hex.clone());
            move || {
                let mut table = table.lock();
                table.slots.remove(&hex);
                table.dying = table.dying.plus(usage);
                drop(table);
                drop(gone);
            }
        };
        let unlinked = move || {
            let mut table = table.lock();
            table.dying.bytes = table.dying.bytes.saturating_sub(usage.bytes);
            table.dying.inodes = table.dying.inodes.saturating_sub(usage.inodes);
        };
        self.owner.gc.remove_layer(hex, renamed, unlinked);
    }
}

/// The answer to a claim.
pub(crate) enum Claim {
    Held(Arc<Layer>),
    /// Wait for a change of the receiver, or for its end, and claim again. A change means that the ingest of
    /// the layer was [retained](crate::image::pull::retained).
    Wait(watch::Receiver<()>),
    /// The caller has to fetch it.
    Fetch(Ticket),
}

/// All layers. Clones share the same state.
#[derive(Clone)]
pub(crate) struct Layers {
    layout: Layout,
    table: Arc<Mutex<Table>>,
    gc: GarbageCollector,
    closing: Arc<AtomicBool>,
    tickets: Arc<AtomicU64>,
    /// The marker of the store says that its last shutdown was clean, with layers whole until then. Before one is added, it has
    /// to say that the store is in use.
    clean: Arc<Mutex<Option<i64>>>,
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layers")
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Layers {
    /// No layer yet. While `closing` is set, dropped layers stay on disk.
    pub(crate) fn new(layout: Layout, closing: Arc<AtomicBool>) -> Result<Self, ImageError> {
        Ok(Self {
            gc: GarbageCollector::start(layout.clone())?,
            layout,
            table: Arc::default(),
            closing,
            tickets: Arc::default(),
            clean: Arc::default(),
        })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn gc(&self) -> &GarbageCollector {
        &self.gc
    }

    pub(crate) fn claim(&self, hex: &str, source: &LayerSource) -> Claim {
        let wait = |fetch: &Fetch| {
            // Earlier wake-ups do not count for a new receiver.
            Claim::Wait(fetch.waiters.subscribe())
        };
        let mut table = self.table.lock();
        let others = match table.slots.get_mut(hex) {
            Some(LayerSlot::Present { layer, gone, .. }) => {
                return match layer.upgrade() {
                    Some(layer) => Claim::Held(layer),
                    None => Claim::Wait(gone.clone()),
                };
            }
            Some(LayerSlot::Installing(fetch)) => return wait(fetch),
            Some(LayerSlot::Fetching(fetches)) => {
                if let Some(fetch) = fetches.iter().find(|fetch| fetch.serves(source)) {
                    return wait(fetch);
                }
                Some(fetches)
            }
            None => None,
        };
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (waiters, _) = watch::channel(());
        let fetch = Fetch {
            ticket,
            source: source.clone(),
            waiters: waiters.clone(),
        };
        match others {
            Some(fetches) => fetches.push(fetch),
            None => {
                let slot = LayerSlot::Fetching(vec![fetch]);
                table.slots.insert(hex.to_owned(), slot);
            }
        }
        Claim::Fetch(Ticket {
            hex: hex.to_owned(),
            layers: self.clone(),
            number: ticket,
            waiters,
        })
    }

    /// Whether a layer is present or being fetched.
    pub(crate) fn knows(&self, hex: &str) -> bool {
        self.table.lock().slots.contains_key(hex)
    }

    /// Adds a layer that was found at start and is durable.
    pub(crate) fn insert_durable(&self, record: LayerRecord) -> Arc<Layer> {
        let layer = self.insert(record);
        layer.mark_durable();
        layer
    }

    /// Adds a layer that may not be durable yet.
    pub(crate) fn insert(&self, record: LayerRecord) -> Arc<Layer> {
        let (gone_sender, gone) = watch::channel(());
        let hex = record.diff_id.clone();
        let usage = record.usage();
        let layer = Arc::new(Layer {
            record,
            durable: AtomicBool::new(false),
            gone: Some(gone_sender),
            owner: self.clone(),
        });
        let slot = LayerSlot::Present {
            layer: Arc::downgrade(&layer),
            gone,
            usage,
        };
        self.table.lock().slots.insert(hex, slot);
        layer
    }

    /// Hex digits of all layers that have a holder.
    pub(crate) fn held(&self) -> Vec<String> {
        let table = self.table.lock();
        let held = table.slots.iter().filter(|(_, slot)| match slot {
            LayerSlot::Present { layer, .. } => layer.strong_count() > 0,
            LayerSlot::Fetching(_) | LayerSlot::Installing(_) => false,
        });
        held.map(|(hex, _)| hex.clone()).collect()
    }

    /// The store is as the last daemon has left it, which recorded a clean shutdown.
    pub(crate) fn begin_clean(&self, whole: i64) {
        *self.clean.lock() = Some(whole);
    }

    /// Whether the marker on disk still says so: no layer was added since.
    pub(crate) fn are_clean(&self) -> bool {
        self.clean.lock().is_some()
    }

    /// Records that the store is in use, if that is not recorded yet: to be called before a layer gets into its place. Blocks.
    pub(crate) fn begin_use(&self) -> Result<(), ImageError> {
        let clean = *self.clean.lock();
        if let Some(whole) = clean {
            // Twice where two layers come at the same time, with the same content.
            clean_shutdown::record_in_use(&self.layout, whole)?;
            *self.clean.lock() = None;
        }
        Ok(())
    }

    /// Whether a power cut can damage none of the layers that are in their place.
    pub(crate) fn are_durable(&self) -> bool {
        self.table.lock().slots.values().all(|slot| match slot {
            // One that has no holder is about to be removed.
            LayerSlot::Present { layer, .. } => layer.upgrade().is_none_or(|layer| layer.is_durable()),
            LayerSlot::Fetching(_) => true,
            LayerSlot::Installing(_) => false,
        })
    }

    /// Space and inodes of all layers on disk, including those that are being removed.
    pub(crate) fn usage(&self) -> Usage {
        let table = self.table.lock();
        table.slots.values().fold(table.dying, |all, slot| match slot {
            LayerSlot::Present { usage, .. } => all.plus(*usage),
            LayerSlot::Fetching(_) | LayerSlot::Installing(_) => all,
        })
    }

    /// Space and inodes of the layers that are out of the way, but not off the disk.
    pub(crate) fn dying(&self) -> Usage {
        self.table.lock().dying
    }
}

/// The right to put a layer into the store, which is exclusive from [`begin_install`](Self::begin_install) on. If all
/// tickets are dropped without a commit, the layer is absent again.
#[derive(Debug)]
pub(crate) struct Ticket {
    hex: String,
    layers: Layers,
    number: u64,
    waiters: watch::Sender<()>,
}

impl Ticket {
    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    pub(crate) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Wakes the claims that wait for this ticket, each time something is sent. They end only when the ticket
    /// is dropped as well.
    pub(crate) fn waiters(&self) -> watch::Sender<()> {
        self.waiters.clone()
    }

    /// Makes the ticket the only one. Returns `false` if another one was faster: then the layer is in its place, or will
    /// be soon.
    pub(crate) fn begin_install(&self) -> bool {
        let mut table = self.layers.table.lock();
        let Some(slot) = table.slots.get_mut(&self.hex) else {
            return false;
        };
        let LayerSlot::Fetching(fetches) = slot else {
            return false;
        };
        let Some(at) = fetches.iter().position(|fetch| fetch.ticket == self.number) else {
            return false;
        };
        let own = fetches.swap_remove(at);
        let others = std::mem::take(fetches);
        *slot = LayerSlot::Installing(own);
        drop(table);
        // Those who wait for the others wait for this one now.
        wake(&others);
        true
    }

    /// The layer's directory is in place since before the daemon's start, and durable.
    pub(crate) fn commit_durable(self, record: LayerRecord) -> Arc<Layer> {
        let layer = self.commit(record);
        layer.mark_durable();
        layer
    }

    /// The layer's directory is in place.
    pub(crate) fn commit(self, record: LayerRecord) -> Arc<Layer> {
        self.layers.insert(record)
    }
}

fn wake(fetches: &[Fetch]) {
    for fetch in fetches {
        fetch.waiters.send_replace(());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.layers.table.lock();
        let is_last = match table.slots.get_mut(&self.hex) {
            Some(LayerSlot::Fetching(fetches)) => {
                fetches.retain(|fetch| fetch.ticket != self.number);
                fetches.is_empty()
            }
            Some(LayerSlot::Installing(fetch)) => fetch.ticket == self.number,
            // Committed, by this ticket or another one.
            Some(LayerSlot::Present { .. }) | None => false,
        };
        if is_last {
            table.slots.remove(&self.hex);
        }
    }
}
