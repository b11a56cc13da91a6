//! The only writer of image records and of the index: one thread with a queue.
//!
//! ```text
//!             put                 remove, nobody leases it
//!   absent ─────────▶ listed ──────────────────────────────────▶ absent
//!                    ▲ ▲  │ remove, leased                        ▲  ▲
//!                    │ │  ▼                                       │  │
//!                    │ put ─ retired (record without names) ── last lease ends
//!                    │                                               │
//!                   put ─ incomplete (a layer is damaged or lost) ── remove
//! ```
//!
//! Order on disk: layers are durable before anything speaks of them; then manifests, then the record, then the config, with
//! which the image exists. It goes the other way round. So a record without a config is the rest of something that was cut
//! off, and a config without a record is a loss, to be made good from the copy in `names.json`. A name that moves is
//! written to its new image first; if the power fails in between, the later record has it. Removing hides an image from
//! readers first, so that no lease can begin while it goes.

mod damage;
mod names;
mod publish;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::error::chain;
use crate::failpoint::failpoint;
use crate::image::error::ImageError;
use crate::image::store::content::{Config, Content};
use crate::image::store::files;
use crate::image::store::index::Index;
use crate::image::store::layers::Layer;
use crate::image::store::layout::Layout;
use crate::image::store::record::{self, ImageRecord};
use crate::image::store::{gc, implied_dirs};

/// A document by its hex digits.
#[derive(Debug)]
pub(crate) struct StoredDocument {
    pub(crate) hex: String,
    pub(crate) bytes: Vec<u8>,
}

/// An image that is complete and durable.
#[derive(Debug)]
pub(crate) struct NewImage {
    pub(crate) config: Config,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) layers: Vec<Arc<Layer>>,
    pub(crate) manifests: Vec<StoredDocument>,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
}

use names::merge;
pub(crate) use names::{fresh, resolve_name_conflicts};
pub(crate) use publish::load_record_copies;

type Reply<T> = oneshot::Sender<Result<T, ImageError>>;

/// Work for the thread.
pub(crate) enum MetadataJob {
    /// Record an image, or more names of it.
    NewImage(Box<NewImage>, Reply<()>),
    /// Drop the image with these hex digits.
    Remove(String, Reply<()>),
    /// Drop it if nobody leases it; whether that was so.
    RemoveUnused(String, Reply<bool>),
    /// Nobody holds this content any more.
    Forget {
        hex: String,
        generation: u64,
        layers: Vec<Arc<Layer>>,
    },
    /// An image found at start is whole after all.
    Adopt(Box<VerifiedImage>),
    /// An image found at start is not whole.
    Lack(Box<PartialImage>),
    /// Set a damaged layer aside, and with it the images that have it.
    Condemn(String, Reply<()>),
    /// Every lease of before the start has been taken again.
    Recovered,
    /// Answer when everything asked before is done.
    Flush(oneshot::Sender<()>),
    /// End.
    Stop,
}

/// An image found at start.
#[derive(Debug)]
pub(crate) struct VerifiedImage {
    pub(crate) record: ImageRecord,
    pub(crate) config: Config,
    pub(crate) layers: Vec<Arc<Layer>>,
}

/// An image found at start that is not whole.
#[derive(Debug)]
pub(crate) struct PartialImage {
    pub(crate) record: ImageRecord,
    /// The layers that are.
    pub(crate) held: Vec<Arc<Layer>>,
    /// Hex digits of those that are not.
    pub(crate) missing: Vec<String>,
}

/// An image as the keeper knows it.
struct ImageEntry {
    record: ImageRecord,
    /// Of an incomplete image, the layers that are whole: a pull needs to fetch only the others.
    held: Vec<Arc<Layer>>,
    /// Of an incomplete image, the layers that are not there; of others none.
    missing: Vec<String>,
    /// Held while the image is listed, or until [`MetadataJob::Recovered`].
    strong: Option<Arc<Content>>,
    weak: Weak<Content>,
}

impl ImageEntry {
    fn whole(record: ImageRecord, content: Arc<Content>) -> Self {
        Self {
            record,
            held: Vec::new(),
            missing: Vec::new(),
            weak: Arc::downgrade(&content),
            strong: Some(content),
        }
    }
}

/// The thread's state.
pub(crate) struct MetadataStore {
    layout: Layout,
    images: BTreeMap<String, ImageEntry>,
    index: Arc<ArcSwap<Index>>,
    generation: u64,
    /// The copy of the records as it was last written.
    copied: Vec<u8>,
    sender: Sender<MetadataJob>,
    closing: Arc<AtomicBool>,
}

impl MetadataStore {
    pub(crate) fn new(
        layout: Layout,
        index: Arc<ArcSwap<Index>>,
        sender: Sender<MetadataJob>,
        closing: Arc<AtomicBool>,
    ) -> Self {
        Self {
            layout,
            images: BTreeMap::new(),
            index,
            generation: 0,
            copied: Vec::new(),
            sender,
            closing,
        }
    }

    /// Takes up an image found at start.
    pub(crate) fn add_loaded(&mut self, record: ImageRecord, config: Config, layers: Vec<Arc<Layer>>) {
        let content = self.content(config, layers, record.top);
        self.images
            .insert(record.id.clone(), ImageEntry::whole(record, content));
    }

    /// Works until told to stop.
    pub(crate) fn run(mut self, jobs: &Receiver<MetadataJob>) {
        for job in jobs {
            match job {
                // Who asked may have gone away; the work is done all the same.
                MetadataJob::NewImage(put, reply) => drop(reply.send(self.put(*put))),
                MetadataJob::Remove(hex, reply) => drop(reply.send(self.remove(&hex))),
                MetadataJob::RemoveUnused(hex, reply) => drop(reply.send(self.remove_unused(&hex))),
                MetadataJob::Forget {
                    hex,
                    generation,
                    layers,
                } => self.forget(&hex, generation, layers),
                MetadataJob::Adopt(found) => self.add_verified(*found),
                MetadataJob::Lack(lacking) => self.mark_incomplete(*lacking),
                MetadataJob::Condemn(hex, reply) => drop(reply.send(self.quarantine_layer(&hex))),
                MetadataJob::Recovered => self.release_retired(),
                MetadataJob::Flush(done) => drop(done.send(())),
                MetadataJob::Stop => return,
            }
        }
    }

    fn content(&mut self, config: Config, layers: Vec<Arc<Layer>>, top: u64) -> Arc<Content> {
        self.generation += 1;
        Arc::new(Content {
            config,
            layers,
            top,
            generation: self.generation,
            silent: false,
            keeper: self.sender.clone(),
            closing: Arc::clone(&self.closing),
        })
    }

    fn put(&mut self, put: NewImage) -> Result<(), ImageError> {
        let hex = put.config.id.hex().to_owned();
        let known = self.images.get(&hex);
        let living = known.and_then(|kept| kept.strong.clone().or_else(|| kept.weak.upgrade()));
        // Without living content the documents of before may just be on their way out.
        let mut record = match (known, &living) {
            (Some(kept), _) if !kept.missing.is_empty() => kept.record.clone(),
            (Some(kept), Some(_)) => kept.record.clone(),
            _ => fresh(&put.config),
        };
        merge(&mut record.tags, &put.tags);
        merge(&mut record.digests, &put.digests);
        record.updated = crate::state::now();
        record.removed = false;
        if living.is_none() {
            record.top = self.make_top(&hex, &put.layers)?;
        }
        let mut written = Vec::new();
        for manifest in put
            .manifests
            .iter()
            .filter(|new| !record.manifests.contains(&new.hex) || living.is_none())
        {
            files::replace(&self.layout.manifest(&manifest.hex), &manifest.bytes)?;
            written.push(manifest.hex.clone());
        }
        merge(&mut record.manifests, &written);
        failpoint("manifests-written");
        self.save(&record)?;
        failpoint("record-written");
        if living.is_none() {
            files::replace(&self.layout.config(&hex), &put.config_bytes)?;
        }
        failpoint("config-written");
        let content = living.unwrap_or_else(|| self.content(put.config, put.layers, record.top));
        self.images
            .insert(hex.clone(), ImageEntry::whole(record, content));
        let moved = self.take_names(&hex, &[put.tags, put.digests].concat());
        self.publish();
        moved
    }

    /// The layer on top of an image of which nothing is in use. Made here, because only this thread removes such layers.
    fn make_top(&self, hex: &str, layers: &[Arc<Layer>]) -> Result<u64, ImageError> {
        let made = implied_dirs::make(&self.layout, hex, layers)?;
        if made > 0 {
            files::sync_all(&self.layout.tops())?;
        }
        Ok(made)
    }

    /// Takes names away from all images but `owner`.
    fn take_names(&mut self, owner: &str, names: &[String]) -> Result<(), ImageError> {
        let mut changed = Vec::new();
        for (hex, kept) in &mut self.images {
            let record = &mut kept.record;
            let before = record.tags.len() + record.digests.len();
            if hex != owner {
                record.tags.retain(|tag| !names.contains(tag));
                record.digests.retain(|digest| !names.contains(digest));
            }
            if record.tags.len() + record.digests.len() != before {
                changed.push(record.clone());
            }
        }
        changed.iter().try_for_each(|record| self.save(record))
    }

    fn save(&self, record: &ImageRecord) -> Result<(), ImageError> {
        let path = self.layout.record(&record.id);
        files::replace(&path, &record::encode(record, &path)?)
    }

    fn remove(&mut self, hex: &str) -> Result<(), ImageError> {
        let Some(kept) = self.images.get_mut(hex) else {
            return Ok(());
        };
        let Some(strong) = kept.strong.take() else {
            return if kept.missing.is_empty() {
                Ok(())
            } else {
                self.drop_incomplete(hex)
            };
        };
        kept.record.tags.clear();
        kept.record.digests.clear();
        kept.record.removed = true;
        let record = kept.record.clone();
        self.publish();
        match Arc::into_inner(strong) {
            None => self.save(&record),
            Some(content) => self.erase(&record, content),
        }
    }

    /// Takes an image that nobody holds off the disk.
    fn erase(&mut self, record: &ImageRecord, mut content: Content) -> Result<(), ImageError> {
        let layers = std::mem::take(&mut content.layers);
        self.images.remove(&record.id);
        let unlinked = self.unlink(record);
        drop(layers);
        // What it shared with one other image is that one's alone now.
        self.publish();
        unlinked
    }

    fn forget(&mut self, hex: &str, generation: u64, layers: Vec<Arc<Layer>>) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        let current = self.images.get(hex).and_then(|kept| kept.weak.upgrade());
        let incomplete = self.images.get(hex).is_some_and(|kept| !kept.missing.is_empty());
        if !incomplete
            && current.is_none_or(|content| content.generation == generation)
            && let Some(kept) = self.images.remove(hex)
        {
            report(hex, self.unlink(&kept.record));
            self.publish();
        }
        drop(layers);
    }

    /// The config first: without it the rest is nobody's and goes at the next start.
    fn unlink(&self, record: &ImageRecord) -> Result<(), ImageError> {
        failpoint("removal-begun");
        files::remove_file(&self.layout.config(&record.id))?;
        files::sync_dir(&self.layout.configs())?;
        failpoint("config-removed");
        files::remove_file(&self.layout.record(&record.id))?;
        failpoint("record-removed");
        // Two images may have one index in common.
        let others = self.images.values().filter(|kept| kept.record.id != record.id);
        let kept: HashSet<&String> = others.flat_map(|kept| &kept.record.manifests).collect();
        let own = record.manifests.iter().filter(|hex| !kept.contains(hex));
        own.into_iter()
            .try_for_each(|hex| files::remove_file(&self.layout.manifest(hex)))?;
        if record.top > 0 {
            gc::remove(&self.layout.top(&record.id))?;
        }
        Ok(())
    }

    fn release_retired(&mut self) {
        let retired = self.images.values_mut().filter(|kept| kept.record.removed);
        let given_up: Vec<_> = retired
            .filter_map(|kept| Some((kept.record.clone(), kept.strong.take()?)))
            .collect();
        for (record, strong) in given_up {
            // Those with a lease go when it ends.
            if let Some(content) = Arc::into_inner(strong) {
                report(&record.id, self.erase(&record, content));
            }
        }
        self.publish();
    }
}

impl Drop for MetadataStore {
    /// However the thread ends, giving up the images it holds must not remove them from disk.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
    }
}

/// For removals that nobody waits for.
fn report(hex: &str, unlinked: Result<(), ImageError>) {
    if let Err(error) = unlinked {
        let error = chain(&error);
        tracing::warn!(image = hex, error, "the record of a removed image stays");
    }
}
