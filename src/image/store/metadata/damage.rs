//! Images that are not whole: how they become so and how they stop being kept.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use super::names::merge;
use super::{ImageEntry, MetadataStore, PartialImage, VerifiedImage, report};
use crate::image::error::ImageError;
use crate::image::store::content::Content;
use crate::image::store::layers::Layer;
use crate::image::store::record::ImageRecord;

impl MetadataStore {
    /// Takes up an image that was found at start and is not whole.
    pub(crate) fn mark_incomplete(&mut self, lacking: PartialImage) {
        let PartialImage {
            record,
            held,
            missing,
        } = lacking;
        // Pulled meanwhile: then it is whole.
        if !self.images.contains_key(&record.id) {
            let kept = ImageEntry {
                held,
                missing,
                strong: None,
                weak: Weak::new(),
                record,
            };
            self.images.insert(kept.record.id.clone(), kept);
            self.publish();
        }
    }

    /// Takes up an image whose layers had to be verified first.
    pub(crate) fn add_verified(&mut self, found: VerifiedImage) {
        let VerifiedImage {
            mut record,
            config,
            layers,
        } = found;
        // Names that were given to other images meanwhile are theirs.
        let others: Vec<&ImageRecord> = self.images.values().map(|kept| &kept.record).collect();
        let taken = |name: &String| {
            let mut names = others
                .iter()
                .flat_map(|other| other.tags.iter().chain(&other.digests));
            names.any(|other| other == name)
        };
        record.tags.retain(|name| !taken(name));
        record.digests.retain(|name| !taken(name));
        match self.images.get_mut(&record.id) {
            None => self.add_loaded(record, config, layers),
            // Pulled meanwhile.
            Some(kept) => {
                merge(&mut kept.record.tags, &record.tags);
                merge(&mut kept.record.digests, &record.digests);
                merge(&mut kept.record.manifests, &record.manifests);
                let record = kept.record.clone();
                report(&record.id, self.save(&record));
            }
        }
        self.publish();
    }

    /// Sets a damaged layer aside: the images that have it become incomplete, unless one of them is in use.
    pub(crate) fn quarantine_layer(&mut self, hex: &str) -> Result<(), ImageError> {
        let in_use = || ImageError::InUse {
            diff_id: format!("sha256:{hex}"),
        };
        let has = |content: &Content| content.layers.iter().any(|layer| layer.record().diff_id == hex);
        let mut users: Vec<(String, Arc<Content>)> = Vec::new();
        for (id, kept) in &mut self.images {
            match kept.strong.take_if(|strong| has(strong)) {
                Some(content) => users.push((id.clone(), content)),
                // Removed, and leased still.
                None if kept.strong.is_none() && kept.weak.upgrade().is_some_and(|content| has(&content)) => {
                    self.restore(users);
                    return Err(in_use());
                }
                None => {}
            }
        }
        // From here on no lease can begin.
        self.publish();
        if users.iter().any(|(_, content)| Arc::strong_count(content) > 1) {
            self.restore(users);
            return Err(in_use());
        }
        while let Some((id, content)) = users.pop() {
            // A reader of the index of before may just have taken a lease.
            let mut content = match Arc::try_unwrap(content) {
                Ok(content) => content,
                Err(content) => {
                    users.push((id, content));
                    self.restore(users);
                    return Err(in_use());
                }
            };
            content.silent = true;
            let layers: Vec<Arc<Layer>> = std::mem::take(&mut content.layers);
            if let Some(kept) = self.images.get_mut(&id) {
                kept.weak = Weak::new();
                kept.missing.push(hex.to_owned());
                kept.held = layers
                    .into_iter()
                    .filter(|layer| layer.record().diff_id != hex)
                    .collect();
            }
        }
        for kept in self.images.values_mut().filter(|kept| !kept.missing.is_empty()) {
            let before = kept.held.len();
            kept.held.retain(|layer| layer.record().diff_id != hex);
            if kept.held.len() < before {
                kept.missing.push(hex.to_owned());
            }
        }
        self.publish();
        Ok(())
    }

    fn restore(&mut self, users: Vec<(String, Arc<Content>)>) {
        for (id, content) in users {
            if let Some(kept) = self.images.get_mut(&id) {
                kept.strong = Some(content);
            }
        }
        self.publish();
    }

    /// The documents that images found at start have.
    pub(crate) fn documents(&self) -> HashSet<String> {
        let records = self.images.values().map(|kept| &kept.record);
        records
            .flat_map(|record| record.manifests.iter().cloned())
            .collect()
    }

    /// Hex digits of all images.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &String> {
        self.images.keys()
    }

    /// Removes the record of an image that nobody wants and that is not whole.
    pub(crate) fn drop_record(&self, record: &ImageRecord) -> Result<(), ImageError> {
        self.unlink(record)
    }

    /// Removes an image that nobody leases, and says whether it did. Giving up the store's own hold on it is the test and the
    /// beginning of the removal at once: no lease can begin in between.
    pub(crate) fn remove_unused(&mut self, hex: &str) -> Result<bool, ImageError> {
        let Some(kept) = self.images.get_mut(hex) else {
            return Ok(false);
        };
        let Some(strong) = kept.strong.take() else {
            return Ok(false);
        };
        match Arc::try_unwrap(strong) {
            Ok(content) => {
                let record = kept.record.clone();
                self.erase(&record, content).map(|()| true)
            }
            Err(leased) => {
                kept.strong = Some(leased);
                Ok(false)
            }
        }
    }

    /// Removes an image that is not whole.
    pub(crate) fn drop_incomplete(&mut self, hex: &str) -> Result<(), ImageError> {
        let Some(kept) = self.images.remove(hex) else {
            return Ok(());
        };
        self.publish();
        let unlinked = self.unlink(&kept.record);
        drop(kept.held);
        unlinked
    }
}
