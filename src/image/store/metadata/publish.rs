//! What the keeper tells: the index for readers, and the copy of all records for the day one is lost.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{ImageEntry, MetadataStore};
use crate::error::chain;
use crate::image::error::ImageError;
use crate::image::store::content::{Content, User};
use crate::image::store::files;
use crate::image::store::index::{Incomplete, Index, IndexedImage, Size};
use crate::image::store::layout::Layout;
use crate::image::store::record::{self, ImageRecord};

/// What a directory of a layer on top occupies.
const BLOCK: u64 = 4096;

impl MetadataStore {
    /// Makes the present state what readers see.
    pub(crate) fn publish(&mut self) {
        let mut index = Index::default();
        let mut by_age: Vec<&ImageEntry> = self.images.values().collect();
        by_age.sort_by_key(|kept| kept.record.updated);
        let living: Vec<(&ImageEntry, Arc<Content>)> = by_age
            .iter()
            .filter_map(|kept| Some((*kept, kept.strong.clone().or_else(|| kept.weak.upgrade())?)))
            .collect();
        let users = users(&living, &by_age);
        for (kept, content) in &living {
            index.insert(entry(&kept.record, content, &users), kept.record.removed);
        }
        for kept in by_age.iter().filter(|kept| !kept.missing.is_empty()) {
            index.insert_incomplete(kept.record.id.clone(), incomplete(kept));
        }
        self.index.store(Arc::new(index));
        self.copy_records();
    }

    /// Not synced, and a failure is no failure: it is needed only when something else was lost.
    fn copy_records(&mut self) {
        let records: BTreeMap<&String, &ImageRecord> = self
            .images
            .iter()
            .map(|(hex, kept)| (hex, &kept.record))
            .collect();
        let path = self.layout.names();
        let Ok(bytes) = record::encode(&records, &path) else {
            return;
        };
        if bytes == self.copied {
            return;
        }
        match files::replace_unsynced(&path, &bytes) {
            Ok(()) => self.copied = bytes,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "the copy of the image records is out of date");
            }
        }
    }
}

/// How many images hold each layer.
fn users<'k>(living: &'k [(&ImageEntry, Arc<Content>)], all: &[&'k ImageEntry]) -> HashMap<&'k str, usize> {
    let whole = living.iter().map(|(_, content)| &content.layers);
    let parts = all.iter().map(|kept| &kept.held);
    let mut users = HashMap::new();
    for layers in whole.chain(parts) {
        let distinct: HashSet<&str> = layers
            .iter()
            .map(|layer| layer.record().diff_id.as_str())
            .collect();
        for hex in distinct {
            *users.entry(hex).or_default() += 1;
        }
    }
    users
}

fn entry(record: &ImageRecord, content: &Arc<Content>, users: &HashMap<&str, usize>) -> IndexedImage {
    let config = content.config.config.config().as_ref();
    let user = config
        .and_then(|config| config.user().as_deref())
        .unwrap_or_default();
    IndexedImage {
        config: content.config.clone(),
        tags: record.tags.clone(),
        digests: record.digests.clone(),
        manifests: record.manifests.clone(),
        size: size(content, users),
        user: User::parse(user),
        top: content.top,
        content: Arc::downgrade(content),
    }
}

fn size(content: &Content, users: &HashMap<&str, usize>) -> Size {
    let own = content
        .config
        .size
        .saturating_add(content.top.saturating_mul(BLOCK))
        .max(1);
    let mut size = Size {
        total: own,
        freed: own,
    };
    let mut seen = HashSet::new();
    for layer in &content.layers {
        let record = layer.record();
        if !seen.insert(&record.diff_id) {
            continue;
        }
        size.total = size.total.saturating_add(record.size);
        if users.get(record.diff_id.as_str()).is_none_or(|users| *users < 2) {
            size.freed = size.freed.saturating_add(record.size);
        }
    }
    size
}

fn incomplete(kept: &ImageEntry) -> Incomplete {
    let diff_id = |hex: &String| format!("sha256:{hex}");
    Incomplete {
        id: diff_id(&kept.record.id),
        names: [kept.record.tags.clone(), kept.record.digests.clone()].concat(),
        missing: kept.missing.iter().map(diff_id).collect(),
    }
}

/// The copy of all records. What cannot be read is as good as none.
pub(crate) fn load_record_copies(layout: &Layout) -> BTreeMap<String, ImageRecord> {
    let loaded: Result<BTreeMap<String, ImageRecord>, ImageError> = record::load(&layout.names());
    loaded.unwrap_or_default()
}
