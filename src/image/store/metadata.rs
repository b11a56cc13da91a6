//! The metadata store: the only writer of image records and of the index. One thread with a queue.
//!
//! ```text
//!             add                 remove, not leased
//!   absent ─────────▶ complete ────────────────────────────────▶ absent
//!                    ▲ ▲  │ remove, leased                        ▲  ▲
//!                    │ │  ▼                                       │  │
//!                    │ add ─ leased (record without names) ── last lease ends
//!                    │                                               │
//!                   add ─ incomplete (a layer is damaged or lost) ── remove
//! ```
//!
//! Order on disk: layers are durable before anything refers to them; then manifests, then the record, then
//! the config. An image exists if its config does. Removal goes the other way round. So a record without a
//! config is the remains of an interrupted addition or removal, and a config without a record is a loss, to
//! be restored from the copy in `names.json`. A name that moves is first written to its new image. If power
//! fails in between, the record with the later time keeps it. Removal hides an image from readers first, so
//! that no lease can begin meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use pausa_distribution::{Algorithm, Digest};
use tokio::sync::oneshot;

use super::content::{Content, ImageConfig, User};
use super::index::{IncompleteImage, Index, IndexedImage, Size};
use super::layers::Layer;
use super::layout::Layout;
use super::record::{self, ImageRecord};
use super::{files, gc, implied_dirs};
use crate::error::chain;
use crate::failpoint::failpoint;
use crate::image::error::ImageError;

/// A manifest or index, stored under the hex digits of its SHA-256.
#[derive(Debug)]
pub(crate) struct StoredDocument {
    pub(crate) hex: String,
    pub(crate) bytes: Vec<u8>,
}

impl StoredDocument {
    pub(crate) fn new(digest: &Digest, bytes: &[u8]) -> Self {
        Self {
            // File names are always SHA-256, even if the document is referred to by another digest.
            hex: match digest.algorithm() {
                Algorithm::Sha256 => digest.hex().to_owned(),
                Algorithm::Sha512 => Digest::sha256(bytes).hex().to_owned(),
            },
            bytes: bytes.to_vec(),
        }
    }
}

/// An image to add, whose layers are durable.
#[derive(Debug)]
pub(crate) struct NewImage {
    pub(crate) config: ImageConfig,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) layers: Vec<Arc<Layer>>,
    pub(crate) manifests: Vec<StoredDocument>,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
}

/// An image found at start whose layers are all there.
#[derive(Debug)]
pub(crate) struct FoundImage {
    pub(crate) record: ImageRecord,
    pub(crate) config: ImageConfig,
    pub(crate) layers: Vec<Arc<Layer>>,
}

/// An image found at start that lacks layers or its config.
#[derive(Debug)]
pub(crate) struct PartialImage {
    pub(crate) record: ImageRecord,
    pub(crate) held: Vec<Arc<Layer>>,
    /// Hex digits of what is missing.
    pub(crate) missing: Vec<String>,
}

type Reply<T> = oneshot::Sender<Result<T, ImageError>>;

/// Images are named by the hex digits of their id, layers by those of their diff id.
pub(crate) enum MetadataJob {
    /// Add an image, or more names of it.
    Add(Box<NewImage>, Reply<()>),
    Remove(String, Reply<()>),
    /// Remove an image unless it is leased, and say whether it was removed.
    RemoveUnused(String, Reply<bool>),
    /// The last lease of a removed image has ended.
    Released {
        hex: String,
        layers: Vec<Arc<Layer>>,
    },
    /// Add an image found at start, after its layers were verified.
    AddVerified(Box<FoundImage>),
    /// Add an image found at start that is incomplete.
    AddIncomplete(Box<PartialImage>),
    /// Remove a damaged layer. The images that have it become incomplete.
    QuarantineLayer(String, Reply<()>),
    /// All containers that were found at start have their leases again.
    LeasesRestored,
    /// Answer when all earlier jobs are done.
    Flush(oneshot::Sender<()>),
    Stop,
}

struct ImageEntry {
    record: ImageRecord,
    data: Data,
}

enum Data {
    /// All there and held by the store. After a start, that includes images removed while leased, until
    /// [`MetadataJob::LeasesRestored`].
    Complete(Arc<Content>),
    /// Removed while leased. It goes with the last lease.
    Leased(Weak<Content>),
    Incomplete {
        /// What is there, so that a pull needs to fetch only the rest.
        held: Vec<Arc<Layer>>,
        /// Hex digits of what is missing.
        missing: Vec<String>,
    },
}

impl ImageEntry {
    fn content(&self) -> Option<Arc<Content>> {
        match &self.data {
            Data::Complete(content) => Some(Arc::clone(content)),
            Data::Leased(content) => content.upgrade(),
            Data::Incomplete { .. } => None,
        }
    }

    fn is_incomplete(&self) -> bool {
        matches!(self.data, Data::Incomplete { .. })
    }

    /// Gives up the store's hold on the image's data.
    fn take_content(&mut self) -> Option<Arc<Content>> {
        let Data::Complete(content) = &self.data else {
            return None;
        };
        let leased = Data::Leased(Arc::downgrade(content));
        match std::mem::replace(&mut self.data, leased) {
            Data::Complete(content) => Some(content),
            Data::Leased(_) | Data::Incomplete { .. } => None,
        }
    }
}

/// The thread's state.
pub(crate) struct MetadataStore {
    layout: Layout,
    images: BTreeMap<String, ImageEntry>,
    index: Arc<ArcSwap<Index>>,
    /// The copy of all records as it was last written.
    copied: Vec<u8>,
    jobs: Sender<MetadataJob>,
    closing: Arc<AtomicBool>,
}

impl MetadataStore {
    pub(crate) fn new(
        layout: Layout,
        index: Arc<ArcSwap<Index>>,
        jobs: Sender<MetadataJob>,
        closing: Arc<AtomicBool>,
    ) -> Self {
        Self {
            copied: files::read(&layout.names(), files::RECORD_MAX).unwrap_or_default(),
            layout,
            images: BTreeMap::new(),
            index,
            jobs,
            closing,
        }
    }

    /// The thread. It ends with [`MetadataJob::Stop`].
    pub(crate) fn run(mut self, jobs: &Receiver<MetadataJob>) {
        for job in jobs {
            match job {
                // The caller may have gone away; the work is done all the same.
                MetadataJob::Add(image, reply) => drop(reply.send(self.add(*image))),
                MetadataJob::Remove(hex, reply) => drop(reply.send(self.remove(&hex))),
                MetadataJob::RemoveUnused(hex, reply) => drop(reply.send(self.remove_unused(&hex))),
                MetadataJob::Released { hex, layers } => self.released(&hex, layers),
                MetadataJob::AddVerified(image) => self.add_verified(*image),
                MetadataJob::AddIncomplete(image) => self.add_incomplete(*image),
                MetadataJob::QuarantineLayer(hex, reply) => drop(reply.send(self.quarantine_layer(&hex))),
                MetadataJob::LeasesRestored => self.remove_unleased(),
                MetadataJob::Flush(done) => drop(done.send(())),
                MetadataJob::Stop => return,
            }
        }
    }

    /// The records of all images.
    pub(crate) fn records(&self) -> impl Iterator<Item = &ImageRecord> {
        self.images.values().map(|entry| &entry.record)
    }

    /// Adds an image found at start that needs no verification.
    pub(crate) fn add_loaded(&mut self, record: ImageRecord, config: ImageConfig, layers: Vec<Arc<Layer>>) {
        let content = self.content(config, layers, record.implied_dirs);
        let data = Data::Complete(content);
        self.images.insert(record.id.clone(), ImageEntry { record, data });
    }

    /// Adds an image found at start that is incomplete.
    pub(crate) fn add_incomplete(&mut self, image: PartialImage) {
        // If it was pulled meanwhile, it is complete.
        if self.images.contains_key(&image.record.id) {
            return;
        }
        let data = Data::Incomplete {
            held: image.held,
            missing: image.missing,
        };
        let record = image.record;
        self.images.insert(record.id.clone(), ImageEntry { record, data });
        self.publish();
    }

    /// Adds an image whose layers had to be verified first.
    fn add_verified(&mut self, image: FoundImage) {
        let FoundImage {
            mut record,
            config,
            layers,
        } = image;
        // Names that other images have received meanwhile stay with them.
        let taken: HashSet<&String> = self.records().flat_map(ImageRecord::names).collect();
        record.tags.retain(|name| !taken.contains(name));
        record.digests.retain(|name| !taken.contains(name));
        match self.images.get_mut(&record.id) {
            None => self.add_loaded(record, config, layers),
            // It was pulled meanwhile.
            Some(entry) => {
                merge(&mut entry.record.tags, &record.tags);
                merge(&mut entry.record.digests, &record.digests);
                merge(&mut entry.record.manifests, &record.manifests);
                let record = entry.record.clone();
                if let Err(error) = self.save(&record) {
                    tracing::warn!(
                        image = record.id,
                        error = chain(&error),
                        "cannot save the names of an image; it may lose some of them when the daemon restarts"
                    );
                }
            }
        }
        self.publish();
    }

    fn content(&self, config: ImageConfig, layers: Vec<Arc<Layer>>, implied_dirs: u64) -> Arc<Content> {
        let (jobs, closing) = (self.jobs.clone(), Arc::clone(&self.closing));
        let hex = config.id.hex().to_owned();
        let release = Box::new(move |layers| {
            if !closing.load(Ordering::Acquire) {
                // Without the thread the store is closing anyway.
                drop(jobs.send(MetadataJob::Released { hex, layers }));
            }
        });
        Arc::new(Content::new(config, layers, implied_dirs, release))
    }

    fn add(&mut self, image: NewImage) -> Result<(), ImageError> {
        let hex = image.config.id.hex().to_owned();
        let known = self.images.get(&hex);
        let content = known.and_then(ImageEntry::content);
        // If the last lease of a removed image has just ended, its documents are about to be removed.
        let mut record = match known {
            Some(entry) if entry.is_incomplete() || content.is_some() => entry.record.clone(),
            _ => ImageRecord::new(&hex, &image.config.diff_ids),
        };
        merge(&mut record.tags, &image.tags);
        merge(&mut record.digests, &image.digests);
        record.updated = crate::state::now();
        record.removed = false;
        if content.is_none() {
            // Made here, because only this thread removes such layers.
            record.implied_dirs = implied_dirs::make(&self.layout, &hex, &image.layers)?;
            if record.implied_dirs > 0 {
                files::sync_all(&self.layout.implied_dirs())?;
            }
        }
        let mut written = Vec::new();
        for manifest in &image.manifests {
            if !record.manifests.contains(&manifest.hex) || content.is_none() {
                files::replace(&self.layout.manifest(&manifest.hex), &manifest.bytes)?;
                written.push(manifest.hex.clone());
            }
        }
        merge(&mut record.manifests, &written);
        failpoint("manifests-written");
        self.save(&record)?;
        failpoint("record-written");
        if content.is_none() {
            files::replace(&self.layout.config(&hex), &image.config_bytes)?;
        }
        failpoint("config-written");
        let content =
            content.unwrap_or_else(|| self.content(image.config, image.layers, record.implied_dirs));
        let data = Data::Complete(content);
        self.images.insert(hex.clone(), ImageEntry { record, data });
        let moved = self.take_names(&hex, &[image.tags, image.digests].concat());
        self.publish();
        moved
    }

    /// Takes names away from all images except `owner`.
    fn take_names(&mut self, owner: &str, names: &[String]) -> Result<(), ImageError> {
        let mut changed = Vec::new();
        for (hex, entry) in &mut self.images {
            let record = &mut entry.record;
            if hex != owner && record.names().any(|name| names.contains(name)) {
                record.tags.retain(|tag| !names.contains(tag));
                record.digests.retain(|digest| !names.contains(digest));
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
        let Some(entry) = self.images.get_mut(hex) else {
            return Ok(());
        };
        if entry.is_incomplete() {
            let removed = self.images.remove(hex);
            self.publish();
            return removed.map_or(Ok(()), |entry| self.delete_files(&entry.record));
        }
        let Some(content) = entry.take_content() else {
            return Ok(());
        };
        entry.record.tags.clear();
        entry.record.digests.clear();
        entry.record.removed = true;
        let record = entry.record.clone();
        self.publish();
        match Arc::into_inner(content) {
            None => self.save(&record),
            Some(content) => self.erase(&record, content),
        }
    }

    /// Removes an image unless it is leased, and returns whether it was removed. Giving up the store's hold
    /// is both the test and the beginning of the removal, so no lease can begin in between.
    fn remove_unused(&mut self, hex: &str) -> Result<bool, ImageError> {
        let Some(entry) = self.images.get_mut(hex) else {
            return Ok(false);
        };
        let Some(content) = entry.take_content() else {
            return Ok(false);
        };
        match Arc::try_unwrap(content) {
            Ok(content) => {
                let record = entry.record.clone();
                self.erase(&record, content).map(|()| true)
            }
            Err(leased) => {
                entry.data = Data::Complete(leased);
                Ok(false)
            }
        }
    }

    /// Removes an image that has no holder from disk.
    fn erase(&mut self, record: &ImageRecord, content: Content) -> Result<(), ImageError> {
        let layers = content.into_layers();
        self.images.remove(&record.id);
        let deleted = self.delete_files(record);
        drop(layers);
        // A layer that it shared with one other image now belongs to that one alone, which changes its size.
        self.publish();
        deleted
    }

    fn released(&mut self, hex: &str, layers: Vec<Arc<Layer>>) {
        if self.closing.load(Ordering::Acquire) {
            return;
        }
        let gone = self
            .images
            .get(hex)
            .is_some_and(|entry| matches!(&entry.data, Data::Leased(content) if content.strong_count() == 0));
        if gone && let Some(entry) = self.images.remove(hex) {
            self.delete_or_warn(&entry.record);
            self.publish();
        }
        drop(layers);
    }

    /// Removes the images that were removed while leased and that no container has leased again.
    fn remove_unleased(&mut self) {
        let removed = self.images.values_mut().filter(|entry| entry.record.removed);
        let candidates: Vec<_> = removed
            .filter_map(|entry| Some((entry.record.clone(), entry.take_content()?)))
            .collect();
        for (record, content) in candidates {
            // The others go with their last lease.
            if let Some(content) = Arc::into_inner(content) {
                let layers = content.into_layers();
                self.images.remove(&record.id);
                self.delete_or_warn(&record);
                drop(layers);
            }
        }
        self.publish();
    }

    /// Removes a damaged layer: the images that have it become incomplete. Fails if one of them is in use.
    fn quarantine_layer(&mut self, hex: &str) -> Result<(), ImageError> {
        let in_use = || ImageError::InUse {
            diff_id: format!("sha256:{hex}"),
        };
        let has = |layers: &[Arc<Layer>]| layers.iter().any(|layer| layer.record().diff_id == hex);
        let leased = self.images.values().any(|entry| match &entry.data {
            Data::Complete(content) => has(&content.layers) && Arc::strong_count(content) > 1,
            Data::Leased(content) => content.upgrade().is_some_and(|content| has(&content.layers)),
            Data::Incomplete { .. } => false,
        });
        if leased {
            return Err(in_use());
        }
        let mut result = Ok(());
        for entry in self.images.values_mut() {
            match &mut entry.data {
                Data::Complete(content) if has(&content.layers) => {
                    let Some(content) = entry.take_content() else {
                        continue;
                    };
                    // A reader of the index may just have taken a lease.
                    match Arc::try_unwrap(content) {
                        Ok(content) => {
                            let mut held = content.into_layers();
                            held.retain(|layer| layer.record().diff_id != hex);
                            let missing = vec![hex.to_owned()];
                            entry.data = Data::Incomplete { held, missing };
                        }
                        Err(leased) => {
                            entry.data = Data::Complete(leased);
                            result = Err(in_use());
                        }
                    }
                }
                Data::Incomplete { held, missing } if has(held) => {
                    held.retain(|layer| layer.record().diff_id != hex);
                    missing.push(hex.to_owned());
                }
                Data::Complete(_) | Data::Leased(_) | Data::Incomplete { .. } => {}
            }
        }
        self.publish();
        result
    }

    /// Deletes an image's files. The config goes first: without it the next start deletes the rest.
    pub(crate) fn delete_files(&self, record: &ImageRecord) -> Result<(), ImageError> {
        failpoint("removal-begun");
        files::remove_file(&self.layout.config(&record.id))?;
        files::sync_dir(&self.layout.configs())?;
        failpoint("config-removed");
        files::remove_file(&self.layout.record(&record.id))?;
        failpoint("record-removed");
        // Two images may share an index.
        let others = self.records().filter(|other| other.id != record.id);
        let shared: HashSet<&String> = others.flat_map(|other| &other.manifests).collect();
        for hex in record.manifests.iter().filter(|hex| !shared.contains(hex)) {
            files::remove_file(&self.layout.manifest(hex))?;
        }
        if record.implied_dirs > 0 {
            gc::remove(&self.layout.implied_dirs_of(&record.id))?;
        }
        Ok(())
    }

    fn delete_or_warn(&self, record: &ImageRecord) {
        if let Err(error) = self.delete_files(record) {
            tracing::warn!(
                image = record.id,
                error = chain(&error),
                "cannot delete the files of a removed image; it may come back when the daemon restarts"
            );
        }
    }

    /// Makes the present state visible to readers.
    pub(crate) fn publish(&mut self) {
        let mut index = Index::default();
        let mut by_age: Vec<&ImageEntry> = self.images.values().collect();
        // Of two images with the same name, the later one has it.
        by_age.sort_by_key(|entry| entry.record.updated);
        let complete: Vec<(&ImageEntry, Arc<Content>)> = by_age
            .iter()
            .filter_map(|entry| Some((*entry, entry.content()?)))
            .collect();
        let mut users: HashMap<&str, usize> = HashMap::new();
        let held = by_age.iter().filter_map(|entry| match &entry.data {
            Data::Incomplete { held, .. } => Some(held),
            Data::Complete(_) | Data::Leased(_) => None,
        });
        for layers in complete.iter().map(|(_, content)| &content.layers).chain(held) {
            let distinct: HashSet<&str> = layers
                .iter()
                .map(|layer| layer.record().diff_id.as_str())
                .collect();
            for hex in distinct {
                *users.entry(hex).or_default() += 1;
            }
        }
        for (entry, content) in &complete {
            let image = indexed(&entry.record, content, &users);
            index.insert(image, entry.record.removed);
        }
        for entry in &by_age {
            if let Data::Incomplete { missing, .. } = &entry.data {
                let diff_id = |hex: &String| format!("sha256:{hex}");
                let image = IncompleteImage {
                    id: diff_id(&entry.record.id),
                    names: entry.record.names().cloned().collect(),
                    missing: missing.iter().map(diff_id).collect(),
                };
                index.insert_incomplete(entry.record.id.clone(), image);
            }
        }
        self.index.store(Arc::new(index));
        self.copy_records();
    }

    /// Writes all records to `names.json`. Not synced: the copy is needed only if a record is lost.
    fn copy_records(&mut self) {
        let records = self.images.iter().map(|(hex, entry)| (hex, &entry.record));
        let records: BTreeMap<&String, &ImageRecord> = records.collect();
        let path = self.layout.names();
        let written = record::encode(&records, &path).and_then(|bytes| {
            if bytes != self.copied {
                files::replace_unsynced(&path, &bytes)?;
                self.copied = bytes;
            }
            Ok(())
        });
        if let Err(error) = written {
            tracing::warn!(
                path = %path.display(),
                error = chain(&error),
                "cannot update the copy of the image records; an image whose record gets damaged would lose its new names"
            );
        }
    }
}

impl Drop for MetadataStore {
    /// However the thread ends, dropping the images it holds must not remove them from disk.
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
    }
}

/// Adds what is not there yet and keeps the order.
fn merge(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// `users` says how many images have each layer.
fn indexed(record: &ImageRecord, content: &Arc<Content>, users: &HashMap<&str, usize>) -> IndexedImage {
    let config = content.config.document.config().as_ref();
    let user = config
        .and_then(|config| config.user().as_deref())
        .unwrap_or_default();
    let directories = content.implied_dirs.saturating_mul(implied_dirs::BLOCK);
    let own = content.config.size.saturating_add(directories).max(1);
    let mut size = Size {
        total: own,
        freed: own,
    };
    let mut seen = HashSet::new();
    for layer in &content.layers {
        let layer = layer.record();
        if !seen.insert(&layer.diff_id) {
            continue;
        }
        size.total = size.total.saturating_add(layer.size);
        if users.get(layer.diff_id.as_str()).is_none_or(|users| *users < 2) {
            size.freed = size.freed.saturating_add(layer.size);
        }
    }
    IndexedImage {
        config: content.config.clone(),
        tags: record.tags.clone(),
        digests: record.digests.clone(),
        manifests: record.manifests.clone(),
        size,
        user: User::parse(user),
        implied_dirs: content.implied_dirs,
        content: Arc::downgrade(content),
    }
}
