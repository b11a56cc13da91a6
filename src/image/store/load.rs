//! Loading the store at start. Complete images are listed; images with layers that may be damaged are listed
//! after their verification; damaged ones are reported and repaired later; what no image refers to is
//! removed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use pausa_distribution::Digest;

use super::clean_shutdown::VerifyScope;
use super::content::{CONFIG_MAX, ImageConfig};
use super::layers::{Claim, Layer, LayerSource, Layers, Ticket};
use super::layout::{Layout, is_hex};
use super::metadata::{FoundImage, MetadataStore, PartialImage};
use super::record::{self, ImageRecord, LayerRecord, VERSION};
use super::{files, implied_dirs};
use crate::error::chain;
use crate::image::error::{ImageError, io_error};

/// Images with layers that have to be verified.
#[derive(Default)]
pub(crate) struct UnverifiedImages {
    pub(crate) images: Vec<(ImageRecord, ImageConfig)>,
    /// Layers that need no verification, by the hex digits of their diff id.
    pub(crate) held: HashMap<String, Arc<Layer>>,
    /// Layers that do. Pulls of them wait for the ticket.
    pub(crate) layers: HashMap<String, (Ticket, LayerRecord)>,
}

/// Loads all images into `metadata`. What cannot be used is logged and left out.
///
/// [`remove_orphans`] has to be called afterwards, when all layers that are to stay are known.
pub(crate) fn load_images(
    layout: &Layout,
    layers: &Layers,
    metadata: &mut MetadataStore,
    scope: VerifyScope,
) -> Result<UnverifiedImages, ImageError> {
    for name in files::names(&layout.staging())? {
        layers.gc().remove_tree(layout.staging().join(name));
    }
    let mut loader = Loader {
        layout,
        layers,
        scope,
        unverified: UnverifiedImages::default(),
    };
    for (record, config) in read_images(layout)? {
        loader.image(record, config, metadata);
    }
    Ok(loader.unverified)
}

fn report(error: &ImageError) {
    tracing::warn!(
        error = chain(error),
        "a part of the image store is damaged; images that need it are absent until it is fetched again"
    );
}

/// Records and configs of all images. An image whose config is damaged has none.
fn read_images(layout: &Layout) -> Result<Vec<(ImageRecord, Option<ImageConfig>)>, ImageError> {
    let copies: Result<BTreeMap<String, ImageRecord>, ImageError> = record::load(&layout.names());
    let copies = copies.unwrap_or_default();
    let mut configs = HashMap::new();
    let mut records = Vec::new();
    for hex in listed(&layout.configs(), "")? {
        match read_image(layout, &hex, &copies) {
            Ok((record, config)) => {
                configs.insert(record.id.clone(), config);
                records.push(record);
            }
            Err(error) => {
                // The config is damaged. Names may still be known, and layers whole.
                records.extend(
                    read_record(layout, &hex, None)
                        .ok()
                        .or_else(|| copies.get(&hex).cloned()),
                );
                report(&error);
            }
        }
    }
    let known: HashSet<String> = records.iter().map(|record| record.id.clone()).collect();
    for hex in listed(&layout.records(), ".json")? {
        // Without a config it is the remains of an interrupted pull or removal.
        if !known.contains(&hex) && !layout.config(&hex).exists() {
            files::remove_file(&layout.record(&hex))?;
        }
    }
    resolve_name_conflicts(&mut records);
    let with_config = |record: ImageRecord| {
        let config = configs.remove(&record.id);
        (record, config)
    };
    Ok(records.into_iter().map(with_config).collect())
}

/// After a power cut in the middle of moving a name, two records have it. The later record keeps it.
fn resolve_name_conflicts(records: &mut [ImageRecord]) {
    records.sort_by_key(|record| std::cmp::Reverse(record.updated));
    let mut owners: HashSet<String> = HashSet::new();
    for record in records {
        record.tags.retain(|name| owners.insert(name.clone()));
        record.digests.retain(|name| owners.insert(name.clone()));
    }
}

/// The hex names in a directory. Other files, left by interrupted writes, are removed.
fn listed(dir: &Path, suffix: &str) -> Result<BTreeSet<String>, ImageError> {
    let mut found = BTreeSet::new();
    for name in files::names(dir)? {
        match name.strip_suffix(suffix).filter(|hex| is_hex(hex)) {
            Some(hex) => {
                found.insert(hex.to_owned());
            }
            None => files::remove_file(&dir.join(name))?,
        }
    }
    Ok(found)
}

/// An image's record and config. A damaged record is replaced by its copy, or by one without names.
fn read_image(
    layout: &Layout,
    hex: &str,
    copies: &BTreeMap<String, ImageRecord>,
) -> Result<(ImageRecord, ImageConfig), ImageError> {
    let path = layout.config(hex);
    let bytes = files::read(&path, u64::try_from(CONFIG_MAX).unwrap_or(u64::MAX))?;
    let id = Digest::sha256(&bytes);
    if id.hex() != hex {
        return Err(ImageError::Record {
            path,
            reason: format!("its content hashes to {id}"),
        });
    }
    let config = ImageConfig::parse(&bytes, id)?;
    let record = read_record(layout, hex, Some(&config)).unwrap_or_else(|error| {
        report(&error);
        let copy = copies
            .get(hex)
            .filter(|copy| check_record(copy, hex, Some(&config)).is_ok());
        copy.cloned()
            .unwrap_or_else(|| ImageRecord::new(hex, &config.diff_ids))
    });
    Ok((record, config))
}

fn read_record(layout: &Layout, hex: &str, config: Option<&ImageConfig>) -> Result<ImageRecord, ImageError> {
    let path = layout.record(hex);
    let record: ImageRecord = record::load(&path)?;
    match check_record(&record, hex, config) {
        Ok(()) => Ok(record),
        Err(reason) => Err(ImageError::Record { path, reason }),
    }
}

fn check_record(record: &ImageRecord, hex: &str, config: Option<&ImageConfig>) -> Result<(), String> {
    if record.version != VERSION {
        return Err(format!(
            "its version is {}, but only version {VERSION} is known",
            record.version
        ));
    }
    if record.id != hex || config.is_some_and(|config| record.layers != config.diff_ids) {
        return Err("it does not match the image's config".to_owned());
    }
    let mut digests = record.manifests.iter().chain(&record.layers);
    if !digests.all(|hex| is_hex(hex)) {
        return Err("it contains an invalid digest".to_owned());
    }
    Ok(())
}

struct Loader<'a> {
    layout: &'a Layout,
    layers: &'a Layers,
    scope: VerifyScope,
    unverified: UnverifiedImages,
}

impl Loader<'_> {
    fn image(&mut self, mut record: ImageRecord, config: Option<ImageConfig>, metadata: &mut MetadataStore) {
        let mut held = Vec::new();
        let mut missing = Vec::new();
        let mut unverified = false;
        for hex in &record.layers {
            match self.layer(hex) {
                Ok(Some(layer)) => held.push(layer),
                Ok(None) => unverified = true,
                Err(error) => {
                    report(&error);
                    missing.push(hex.clone());
                }
            }
        }
        match config {
            Some(config) if unverified => self.unverified.images.push((record, config)),
            Some(config) if missing.is_empty() => {
                self.restore_implied_dirs(&mut record, &held);
                metadata.add_loaded(record, config, held);
            }
            // An image that was removed needs no repair.
            _ if record.removed => {
                if let Err(error) = metadata.delete_files(&record) {
                    report(&error);
                }
            }
            config => {
                if config.is_none() {
                    missing.push(record.id.clone());
                }
                metadata.add_incomplete(PartialImage {
                    record,
                    held,
                    missing,
                });
            }
        }
    }

    /// A layer, or `None` if it has to be verified first.
    fn layer(&mut self, hex: &str) -> Result<Option<Arc<Layer>>, ImageError> {
        if let Some(layer) = self.unverified.held.get(hex) {
            return Ok(Some(Arc::clone(layer)));
        }
        if self.unverified.layers.contains_key(hex) {
            return Ok(None);
        }
        let record = LayerRecord::load(self.layout, hex)?;
        if self.scope.covers(record.unpacked)
            && let Claim::Fetch(ticket) = self.layers.claim(hex, &LayerSource::Store)
        {
            self.unverified.layers.insert(hex.to_owned(), (ticket, record));
            return Ok(None);
        }
        let layer = self.layers.insert_durable(record);
        self.unverified.held.insert(hex.to_owned(), Arc::clone(&layer));
        Ok(Some(layer))
    }

    /// Makes the image's own layer again if it is missing, or if the record does not say that there should be
    /// one.
    fn restore_implied_dirs(&self, record: &mut ImageRecord, layers: &[Arc<Layer>]) {
        let exists = self.layout.implied_dirs_of(&record.id).is_dir();
        if exists == (record.implied_dirs > 0) {
            return;
        }
        record.implied_dirs = implied_dirs::make(self.layout, &record.id, layers).unwrap_or_else(|error| {
            report(&error);
            0
        });
    }
}

/// Removes what no image has: layers, documents and implied directories of interrupted pulls and removals.
pub(crate) fn remove_orphans(
    layout: &Layout,
    layers: &Layers,
    metadata: &MetadataStore,
    unverified: &UnverifiedImages,
) -> Result<(), ImageError> {
    let late = unverified.images.iter().map(|(record, _)| record);
    let records: Vec<&ImageRecord> = metadata.records().chain(late).collect();
    let documents: HashSet<&String> = records.iter().flat_map(|record| &record.manifests).collect();
    for name in files::names(&layout.manifests())? {
        if !documents.contains(&name) {
            files::remove_file(&layout.manifests().join(name))?;
        }
    }
    let images: HashSet<&String> = records.iter().map(|record| &record.id).collect();
    for name in files::names(&layout.implied_dirs())? {
        if !images.contains(&name) {
            discard(layout, layers, &layout.implied_dirs().join(name))?;
        }
    }
    for name in files::names(layout.base())? {
        if name.starts_with(".new") {
            files::remove_file(&layout.base().join(name))?;
        }
    }
    for name in files::names(&layout.layers())? {
        if !layers.knows(&name) {
            discard(layout, layers, &layout.layers().join(name))?;
        }
    }
    Ok(())
}

/// Renames a tree at once, so that a pull can use its name, and removes it in the background.
fn discard(layout: &Layout, layers: &Layers, from: &Path) -> Result<(), ImageError> {
    let trash = layout.staging().join(files::unique("orphan"));
    std::fs::rename(from, &trash).map_err(io_error("rename", from))?;
    layers.gc().remove_tree(trash);
    Ok(())
}

impl UnverifiedImages {
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// An image after the verification of its layers: complete, or what there is of it.
    pub(crate) fn verified(
        &self,
        record: ImageRecord,
        config: ImageConfig,
    ) -> Result<Box<FoundImage>, Box<PartialImage>> {
        let mut held = Vec::new();
        let mut missing = Vec::new();
        for hex in &record.layers {
            match self.held.get(hex) {
                Some(layer) => held.push(Arc::clone(layer)),
                None => missing.push(hex.clone()),
            }
        }
        if missing.is_empty() {
            return Ok(Box::new(FoundImage {
                record,
                config,
                layers: held,
            }));
        }
        Err(Box::new(PartialImage {
            record,
            held,
            missing,
        }))
    }
}
