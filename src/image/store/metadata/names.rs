//! Records by what they are called: pure functions on names.

use std::collections::HashSet;

use crate::image::store::content::Config;
use crate::image::store::record::{ImageRecord, VERSION};

/// The record of an image without names.
pub(crate) fn fresh(config: &Config) -> ImageRecord {
    ImageRecord {
        version: VERSION,
        id: config.id.hex().to_owned(),
        tags: Vec::new(),
        digests: Vec::new(),
        manifests: Vec::new(),
        layers: config.diff_ids.clone(),
        updated: 0,
        removed: false,
        top: 0,
    }
}

/// Adds what is not there yet, keeping the order.
pub(crate) fn merge(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// Names that more than one record claims, after a power cut in the middle of moving one, belong to the later record.
pub(crate) fn resolve_name_conflicts(records: &mut [ImageRecord]) {
    records.sort_by_key(|record| std::cmp::Reverse(record.updated));
    let mut owners: HashSet<String> = HashSet::new();
    for record in records {
        record.tags.retain(|name| owners.insert(name.clone()));
        record.digests.retain(|name| owners.insert(name.clone()));
    }
}
