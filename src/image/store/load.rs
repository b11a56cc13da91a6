//! Opening a store: what is complete is taken up, what is in doubt is verified first, what is broken is reported and mended
//! later, what nobody refers to goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pausa_distribution::Digest;

use crate::image::error::{ImageError, io_error};
use crate::image::pull::retained::{self, RetainedPulls};
use crate::image::store::clean_shutdown::VerifyScope;
use crate::image::store::content::{CONFIG_MAX, Config};
use crate::image::store::files;
use crate::image::store::implied_dirs;
use crate::image::store::layers::{Claim, Layer, Layers, Ticket};
use crate::image::store::layout::{FS, LAYER_RECORD, Layout, is_hex};
use crate::image::store::metadata::{
    MetadataStore, PartialImage, VerifiedImage, fresh, load_record_copies, resolve_name_conflicts,
};
use crate::image::store::record::{self, ImageRecord, LayerRecord, VERSION};

/// What was found.
pub(crate) struct LoadedStore {
    /// What cannot be used.
    pub(crate) broken: Vec<ImageError>,
    /// What has to be verified before it is taken up.
    pub(crate) unverified: UnverifiedImages,
}

/// Images with layers that are to be verified.
#[derive(Default)]
pub(crate) struct UnverifiedImages {
    pub(crate) images: Vec<(ImageRecord, Config)>,
    /// Layers that are not in doubt.
    pub(crate) held: HashMap<String, Arc<Layer>>,
    /// Layers that are: whoever pulls them meanwhile waits.
    pub(crate) layers: HashMap<String, (Ticket, LayerRecord)>,
}

/// Loads all images into `keeper`.
pub(crate) fn load(
    layout: &Layout,
    layers: &Layers,
    keeper: &mut MetadataStore,
    shelf: &RetainedPulls,
    scope: VerifyScope,
) -> Result<LoadedStore, ImageError> {
    for name in files::names(&layout.staging())? {
        layers.discard(&layout.staging().join(name));
    }
    let mut broken = Vec::new();
    let images = read_images(layout, &mut broken)?;
    let mut loader = Loader {
        layout,
        layers,
        scope,
        unverified: UnverifiedImages::default(),
        broken,
    };
    for (record, config) in images {
        loader.image(record, config, keeper);
    }
    if scope == VerifyScope::None && shelf.has_room() {
        keep_layers(layout, layers, shelf);
    }
    drop_orphans(layout, layers, keeper, &loader.unverified)?;
    Ok(LoadedStore {
        broken: loader.broken,
        unverified: loader.unverified,
    })
}

/// Records and configs of all images; of two claims to a name the later one holds.
fn read_images(
    layout: &Layout,
    broken: &mut Vec<ImageError>,
) -> Result<Vec<(ImageRecord, Option<Config>)>, ImageError> {
    let copies = load_record_copies(layout);
    let mut configs = HashMap::new();
    let mut records = Vec::new();
    for hex in listed(&layout.configs(), "")? {
        match read_image(layout, &hex, &copies) {
            Ok((record, config, note)) => {
                configs.insert(record.id.clone(), config);
                records.push(record);
                broken.extend(note);
            }
            Err(error) => {
                // The config itself is damaged: the names may still be known, and the layers be whole.
                if let Some(record) = read_record(layout, &hex, None)
                    .ok()
                    .or_else(|| copies.get(&hex).cloned())
                {
                    records.push(record);
                }
                broken.push(error);
            }
        }
    }
    let known: HashSet<String> = records.iter().map(|record| record.id.clone()).collect();
    for hex in listed(&layout.records(), ".json")? {
        // Without a config: the rest of a pull or of a removal that was cut off.
        if !known.contains(&hex) && !layout.config(&hex).exists() {
            files::remove_file(&layout.record(&hex))?;
        }
    }
    resolve_name_conflicts(&mut records);
    Ok(records
        .into_iter()
        .map(|record| {
            let config = configs.remove(&record.id);
            (record, config)
        })
        .collect())
}

/// The hex names in a directory; leftovers of writes that were cut off are removed.
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

/// An image's record and config. A record that is lost is taken from the copy, or made again without names.
fn read_image(
    layout: &Layout,
    hex: &str,
    copies: &BTreeMap<String, ImageRecord>,
) -> Result<(ImageRecord, Config, Option<ImageError>), ImageError> {
    let path = layout.config(hex);
    let bytes = files::read(&path, u64::try_from(CONFIG_MAX).unwrap_or(u64::MAX))?;
    let id = Digest::sha256(&bytes);
    if id.hex() != hex {
        return Err(ImageError::Record {
            path,
            reason: format!("its content hashes to {id}"),
        });
    }
    let config = Config::parse(&bytes, id)?;
    Ok(match read_record(layout, hex, Some(&config)) {
        Ok(record) => (record, config, None),
        Err(error) => {
            let copy = copies
                .get(hex)
                .filter(|copy| fits(copy, hex, Some(&config)).is_ok());
            let record = copy.cloned().unwrap_or_else(|| fresh(&config));
            (record, config, Some(error))
        }
    })
}

fn read_record(layout: &Layout, hex: &str, config: Option<&Config>) -> Result<ImageRecord, ImageError> {
    let path = layout.record(hex);
    let record: ImageRecord = record::load(&path)?;
    match fits(&record, hex, config) {
        Ok(()) => Ok(record),
        Err(reason) => Err(ImageError::Record { path, reason }),
    }
}

fn fits(record: &ImageRecord, hex: &str, config: Option<&Config>) -> Result<(), String> {
    if record.version != VERSION {
        return Err(format!(
            "its version is {}, only {VERSION} is known",
            record.version
        ));
    }
    if record.id != hex || config.is_some_and(|config| record.layers != config.diff_ids) {
        return Err("it does not fit the image's config".to_owned());
    }
    if !record
        .manifests
        .iter()
        .chain(&record.layers)
        .all(|hex| is_hex(hex))
    {
        return Err("it names something that is no digest".to_owned());
    }
    Ok(())
}

struct Loader<'a> {
    layout: &'a Layout,
    layers: &'a Layers,
    scope: VerifyScope,
    unverified: UnverifiedImages,
    broken: Vec<ImageError>,
}

impl Loader<'_> {
    fn image(&mut self, mut record: ImageRecord, config: Option<Config>, keeper: &mut MetadataStore) {
        let mut held = Vec::new();
        let mut missing = Vec::new();
        let mut unverified = false;
        for hex in &record.layers {
            match self.layer(hex) {
                Ok(Some(layer)) => held.push(layer),
                Ok(None) => unverified = true,
                Err(error) => {
                    self.broken.push(error);
                    missing.push(hex.clone());
                }
            }
        }
        match config {
            Some(config) if unverified => self.unverified.images.push((record, config)),
            Some(config) if missing.is_empty() => {
                self.restore_top(&mut record, &held);
                let layers = held;
                keeper.add_loaded(record, config, layers);
            }
            // An image that was removed needs no mending.
            _ if record.removed => self.broken.extend(keeper.drop_record(&record).err()),
            config => {
                if config.is_none() {
                    missing.push(record.id.clone());
                }
                keeper.mark_incomplete(PartialImage {
                    record,
                    held,
                    missing,
                });
            }
        }
    }

    /// A layer; none if it has to be verified first.
    fn layer(&mut self, hex: &str) -> Result<Option<Arc<Layer>>, ImageError> {
        if let Some(layer) = self.unverified.held.get(hex) {
            return Ok(Some(Arc::clone(layer)));
        }
        if self.unverified.layers.contains_key(hex) {
            return Ok(None);
        }
        let path = self.layout.layer(hex).join(LAYER_RECORD);
        let record: LayerRecord = record::load(&path)?;
        if record.version != VERSION || record.diff_id != hex || !self.layout.layer(hex).join(FS).is_dir() {
            let reason = "it does not fit the layer's directory".to_owned();
            return Err(ImageError::Record { path, reason });
        }
        if self.scope.covers(record.unpacked)
            && let Claim::Fetch(ticket) = self.layers.claim(hex)
        {
            self.unverified.layers.insert(hex.to_owned(), (ticket, record));
            return Ok(None);
        }
        let layer = self.layers.add_loaded(record);
        self.unverified.held.insert(hex.to_owned(), Arc::clone(&layer));
        Ok(Some(layer))
    }

    /// Makes the image's own layer again if it is not there, or if nobody knows any more whether there should be one.
    fn restore_top(&mut self, record: &mut ImageRecord, layers: &[Arc<Layer>]) {
        let there = self.layout.top(&record.id).is_dir();
        if there == (record.top > 0) {
            return;
        }
        match implied_dirs::make(self.layout, &record.id, layers) {
            Ok(directories) => record.top = directories,
            Err(error) => {
                record.top = 0;
                self.broken.push(error);
            }
        }
    }
}

/// Takes up the layers that the daemon before this one kept. Only where nothing is in doubt: nobody else verifies them.
fn keep_layers(layout: &Layout, layers: &Layers, shelf: &RetainedPulls) {
    let now = crate::state::now();
    for name in retained::list::read(layout) {
        if layers.knows(&name) || !is_hex(&name) {
            continue;
        }
        let record = record::load::<LayerRecord>(&layout.layer(&name).join(LAYER_RECORD));
        let record = record.ok().filter(|record| {
            record.version == VERSION && record.diff_id == name && layout.layer_fs(&name).is_dir()
        });
        let age = record.as_ref().map(|record| now.saturating_sub(record.unpacked));
        let age = age
            .and_then(|age| u64::try_from(age).ok())
            .map(Duration::from_nanos);
        if let (Some(record), Some(age)) = (record, age)
            && age < shelf.keeps_for()
        {
            shelf.take_up(layers.insert(record), age);
        }
    }
}

/// What no image has: layers of pulls that were cut off, and of removals that were; documents; layers on top.
fn drop_orphans(
    layout: &Layout,
    layers: &Layers,
    keeper: &MetadataStore,
    unverified: &UnverifiedImages,
) -> Result<(), ImageError> {
    let mut documents = keeper.documents();
    let late = unverified.images.iter();
    documents.extend(late.flat_map(|(record, _)| record.manifests.iter().cloned()));
    for name in files::names(&layout.manifests())? {
        if !documents.contains(&name) {
            files::remove_file(&layout.manifests().join(name))?;
        }
    }
    let images = keeper
        .ids()
        .chain(unverified.images.iter().map(|(record, _)| &record.id));
    let images: HashSet<&String> = images.collect();
    for name in files::names(&layout.tops())? {
        if !images.contains(&name) {
            discard(layout, layers, &layout.tops().join(name))?;
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

/// Moved at once, so that the name is free for a pull; emptied in the background.
fn discard(layout: &Layout, layers: &Layers, from: &Path) -> Result<(), ImageError> {
    let trash = layout.staging().join(files::unique("orphan"));
    std::fs::rename(from, &trash).map_err(io_error("rename", from))?;
    layers.discard(&trash);
    Ok(())
}

impl UnverifiedImages {
    /// Whether there is nothing to verify.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// An image all of whose layers turned out to be there, or what there is of it.
    pub(crate) fn judge(
        &self,
        record: ImageRecord,
        config: Config,
    ) -> Result<Box<VerifiedImage>, Box<PartialImage>> {
        let mut held = Vec::new();
        let mut missing = Vec::new();
        for hex in &record.layers {
            match self.held.get(hex) {
                Some(layer) => held.push(Arc::clone(layer)),
                None => missing.push(hex.clone()),
            }
        }
        if missing.is_empty() {
            let layers = held;
            return Ok(Box::new(VerifiedImage {
                record,
                config,
                layers,
            }));
        }
        Err(Box::new(PartialImage {
            record,
            held,
            missing,
        }))
    }
}
