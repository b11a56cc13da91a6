//! The only writer of image records and of the index: one thread with a queue.
//!
//! ```text
//!             put                 remove, nobody leases it
//!   absent ─────────▶ listed ──────────────────────────────────▶ absent
//!                      ▲  │ remove, leased                          ▲
//!                      │  ▼                                         │
//!                 put ─ retired (record without names) ── last lease ends
//! ```
//!
//! Order on disk: an image's data is durable before its record is written, and the record goes before the data does. A name
//! that moves is written to its new image first; if the power fails in between, the later record has it.
//! Removing hides an image from readers first, so that no lease can begin while it goes.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::content::{Config, Content, User};
use super::error::ImageError;
use super::files;
use super::index::{Entry, Index};
use super::layers::Layer;
use super::layout::Layout;
use super::record::{self, ImageRecord, VERSION};
use crate::error::chain;

/// A document by its hex digits.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) hex: String,
    pub(super) bytes: Vec<u8>,
}

/// An image that is complete and durable.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) config: Config,
    pub(super) config_bytes: Vec<u8>,
    pub(super) layers: Vec<Arc<Layer>>,
    pub(super) manifests: Vec<Blob>,
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
}

type Reply<T> = oneshot::Sender<Result<T, ImageError>>;

/// Work for the thread.
pub(super) enum Job {
    /// Record an image, or more names of it.
    Put(Box<Put>, Reply<()>),
    /// Drop the image with these hex digits.
    Remove(String, Reply<()>),
    /// Nobody holds this content any more.
    Forget {
        hex: String,
        generation: u64,
        layers: Vec<Arc<Layer>>,
    },
    /// Every lease of before the start has been taken again.
    Recovered,
    /// Answer when everything asked before is done.
    Flush(oneshot::Sender<()>),
    /// End.
    Stop,
}

/// An image as the keeper knows it.
struct Kept {
    record: ImageRecord,
    /// Held while the image is listed, or until [`Job::Recovered`].
    strong: Option<Arc<Content>>,
    weak: Weak<Content>,
}

/// The thread's state.
pub(super) struct Keeper {
    layout: Layout,
    images: BTreeMap<String, Kept>,
    index: Arc<ArcSwap<Index>>,
    generation: u64,
    sender: Sender<Job>,
    closing: Arc<AtomicBool>,
}

impl Keeper {
    pub(super) fn new(
        layout: Layout,
        index: Arc<ArcSwap<Index>>,
        sender: Sender<Job>,
        closing: Arc<AtomicBool>,
    ) -> Self {
        Self {
            layout,
            images: BTreeMap::new(),
            index,
            generation: 0,
            sender,
            closing,
        }
    }

    /// Takes up an image found at start.
    pub(super) fn adopt(&mut self, record: ImageRecord, config: Config, layers: Vec<Arc<Layer>>) {
        let content = self.content(config, layers);
        self.images.insert(
            record.id.clone(),
            Kept {
                record,
                weak: Arc::downgrade(&content),
                strong: Some(content),
            },
        );
    }

    /// Works until told to stop.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                // Who asked may have gone away; the work is done all the same.
                Job::Put(put, reply) => drop(reply.send(self.put(*put))),
                Job::Remove(hex, reply) => drop(reply.send(self.remove(&hex))),
                Job::Forget {
                    hex,
                    generation,
                    layers,
                } => self.forget(&hex, generation, layers),
                Job::Recovered => self.release_retired(),
                Job::Flush(done) => drop(done.send(())),
                Job::Stop => return,
            }
        }
    }

    fn content(&mut self, config: Config, layers: Vec<Arc<Layer>>) -> Arc<Content> {
        self.generation += 1;
        Arc::new(Content {
            config,
            layers,
            generation: self.generation,
            keeper: self.sender.clone(),
            closing: Arc::clone(&self.closing),
        })
    }

    fn put(&mut self, put: Put) -> Result<(), ImageError> {
        let hex = put.config.id.hex().to_owned();
        let known = self.images.get(&hex);
        let living = known.and_then(|kept| kept.strong.clone().or_else(|| kept.weak.upgrade()));
        // Without living content the documents of before may just be on their way out.
        let mut record = match (known, &living) {
            (Some(kept), Some(_)) => kept.record.clone(),
            _ => fresh(&put.config),
        };
        merge(&mut record.tags, &put.tags);
        merge(&mut record.digests, &put.digests);
        record.updated = crate::state::now();
        record.removed = false;
        let mut written = Vec::new();
        if living.is_none() {
            files::replace(&self.layout.config(&hex), &put.config_bytes)?;
        }
        for manifest in put
            .manifests
            .iter()
            .filter(|new| !record.manifests.contains(&new.hex))
        {
            files::replace(&self.layout.manifest(&manifest.hex), &manifest.bytes)?;
            written.push(manifest.hex.clone());
        }
        record.manifests.append(&mut written);
        self.save(&record)?;
        let content = living.unwrap_or_else(|| self.content(put.config, put.layers));
        let kept = Kept {
            record,
            weak: Arc::downgrade(&content),
            strong: Some(content),
        };
        self.images.insert(hex.clone(), kept);
        let moved = self.take_names(&hex, &[put.tags, put.digests].concat());
        self.publish();
        moved
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
            return Ok(());
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
        unlinked
    }

    fn forget(&mut self, hex: &str, generation: u64, layers: Vec<Arc<Layer>>) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        let current = self.images.get(hex).and_then(|kept| kept.weak.upgrade());
        if current.is_none_or(|content| content.generation == generation)
            && let Some(kept) = self.images.remove(hex)
        {
            report(hex, self.unlink(&kept.record));
            self.publish();
        }
        drop(layers);
    }

    /// The record first: without it the rest is nobody's and goes at the next start.
    fn unlink(&self, record: &ImageRecord) -> Result<(), ImageError> {
        files::remove_file(&self.layout.record(&record.id))?;
        files::sync_dir(&self.layout.records())?;
        files::remove_file(&self.layout.config(&record.id))?;
        record
            .manifests
            .iter()
            .try_for_each(|hex| files::remove_file(&self.layout.manifest(hex)))
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

    /// Makes the present state what readers see.
    pub(super) fn publish(&self) {
        let mut index = Index::default();
        let mut by_age: Vec<&Kept> = self.images.values().collect();
        by_age.sort_by_key(|kept| kept.record.updated);
        for kept in by_age {
            if let Some(content) = kept.strong.clone().or_else(|| kept.weak.upgrade()) {
                index.insert(entry(&kept.record, &content), kept.record.removed);
            }
        }
        self.index.store(Arc::new(index));
    }
}

impl Drop for Keeper {
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

/// The record of an image without names.
pub(super) fn fresh(config: &Config) -> ImageRecord {
    ImageRecord {
        version: VERSION,
        id: config.id.hex().to_owned(),
        tags: Vec::new(),
        digests: Vec::new(),
        manifests: Vec::new(),
        layers: config.diff_ids.clone(),
        updated: 0,
        removed: false,
    }
}

fn entry(record: &ImageRecord, content: &Arc<Content>) -> Entry {
    let config = content.config.config.config().as_ref();
    let user = config
        .and_then(|config| config.user().as_deref())
        .unwrap_or_default();
    Entry {
        config: content.config.clone(),
        tags: record.tags.clone(),
        digests: record.digests.clone(),
        size: content.size(),
        user: User::parse(user),
        content: Arc::downgrade(content),
    }
}

/// Adds what is not there yet, keeping the order.
fn merge(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// Names that more than one record claims, after a power cut in the middle of moving one, belong to the later record.
pub(super) fn settle_names(records: &mut [ImageRecord]) {
    records.sort_by_key(|record| std::cmp::Reverse(record.updated));
    let mut owners: HashSet<String> = HashSet::new();
    for record in records {
        record.tags.retain(|name| owners.insert(name.clone()));
        record.digests.retain(|name| owners.insert(name.clone()));
    }
}
