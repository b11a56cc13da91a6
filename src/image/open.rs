//! Opening a store: what is complete is taken up, what is broken is reported, what nobody refers to goes.

use std::collections::HashMap;
use std::sync::Arc;

use pausa_distribution::Digest;

use super::content::{CONFIG_MAX, Config};
use super::error::ImageError;
use super::files;
use super::keeper::{Keeper, fresh, settle_names};
use super::layers::{Layer, Layers};
use super::layout::{FS, LAYER_RECORD, Layout, is_hex};
use super::record::{self, ImageRecord, LayerRecord, VERSION};

/// Loads all images into `keeper`. What cannot be used is returned and left out.
pub(super) fn load(
    layout: &Layout,
    layers: &Layers,
    keeper: &mut Keeper,
) -> Result<Vec<ImageError>, ImageError> {
    for name in files::names(&layout.staging())? {
        layers.discard(&layout.staging().join(name));
    }
    let mut broken = Vec::new();
    let mut images = Vec::new();
    for name in files::names(&layout.records())? {
        let Some(hex) = name.strip_suffix(".json").filter(|hex| is_hex(hex)) else {
            // The leftover of an interrupted write.
            files::remove_file(&layout.records().join(name))?;
            continue;
        };
        match read_image(layout, hex) {
            Ok((record, config, note)) => {
                images.push((record, config));
                broken.extend(note);
            }
            Err(error) => broken.push(error),
        }
    }
    // Of two claims to a name the later one holds.
    let mut records: Vec<ImageRecord> = images.iter().map(|(record, _)| record.clone()).collect();
    settle_names(&mut records);
    let mut configs: HashMap<String, Config> = images
        .into_iter()
        .map(|(record, config)| (record.id, config))
        .collect();
    let mut adopted: HashMap<String, Arc<Layer>> = HashMap::new();
    for record in records {
        let held: Result<Vec<_>, _> = record
            .layers
            .iter()
            .map(|hex| adopt(layout, layers, &mut adopted, hex))
            .collect();
        match (held, configs.remove(&record.id)) {
            (Ok(held), Some(config)) => keeper.adopt(record, config, held),
            (Err(error), _) => broken.push(error),
            (Ok(_), None) => {}
        }
    }
    drop_orphans(layout, layers, &adopted)?;
    Ok(broken)
}

/// An image's record and config. A record that is lost is made again from the config, without names.
fn read_image(layout: &Layout, hex: &str) -> Result<(ImageRecord, Config, Option<ImageError>), ImageError> {
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
    let path = layout.record(hex);
    let loaded = record::load::<ImageRecord>(&path).and_then(|record| {
        let reason = if record.version != VERSION {
            format!("its version is {}, only {VERSION} is known", record.version)
        } else if record.id != hex || record.layers != config.diff_ids {
            "it does not fit the image's config".to_owned()
        } else if record.manifests.iter().any(|hex| !is_hex(hex)) {
            "it names a manifest that is no digest".to_owned()
        } else {
            return Ok(record);
        };
        Err(ImageError::Record { path, reason })
    });
    Ok(match loaded {
        Ok(record) => (record, config, None),
        Err(error) => (fresh(&config), config, Some(error)),
    })
}

fn adopt(
    layout: &Layout,
    layers: &Layers,
    adopted: &mut HashMap<String, Arc<Layer>>,
    hex: &str,
) -> Result<Arc<Layer>, ImageError> {
    if let Some(layer) = adopted.get(hex) {
        return Ok(Arc::clone(layer));
    }
    let path = layout.layer(hex).join(LAYER_RECORD);
    let record: LayerRecord = record::load(&path)?;
    if record.version != VERSION || record.diff_id != hex || !layout.layer(hex).join(FS).is_dir() {
        let reason = "it does not fit the layer's directory".to_owned();
        return Err(ImageError::Record { path, reason });
    }
    let layer = layers.adopt(record);
    adopted.insert(hex.to_owned(), Arc::clone(&layer));
    Ok(layer)
}

/// Layers without an image: those of pulls that were cut off, and those whose removal was.
fn drop_orphans(
    layout: &Layout,
    layers: &Layers,
    adopted: &HashMap<String, Arc<Layer>>,
) -> Result<(), ImageError> {
    for name in files::names(&layout.layers())? {
        if adopted.contains_key(&name) {
            continue;
        }
        // Moved at once, so that the name is free for a pull; emptied in the background.
        let trash = layout.staging().join(files::unique("orphan"));
        let from = layout.layers().join(&name);
        std::fs::rename(&from, &trash).map_err(super::error::io_error("rename", &from))?;
        layers.discard(&trash);
    }
    Ok(())
}
