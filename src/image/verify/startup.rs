//! After a power cut: layers unpacked since the store was last known to be whole are verified before their images are shown.
//!
//! One thread reads them, so that the daemon answers at once and containers that start meanwhile keep most of the disk. An image
//! in doubt is absent until it is verified: whoever pulls it waits for the verdict instead of fetching. A layer that is
//! damaged goes; its image is then incomplete, and a pull fetches only that layer.

use std::sync::mpsc::Sender;

use tokio::sync::watch;

use crate::error::chain;
use crate::image::error::{ImageError, io_error};
use crate::image::store::clean_shutdown;
use crate::image::store::files;
use crate::image::store::layers::{Layers, Ticket};
use crate::image::store::layout::Layout;
use crate::image::store::load::UnverifiedImages;
use crate::image::store::metadata::MetadataJob;
use crate::image::store::record::LayerRecord;
use crate::image::verify::layer::{self, Verdict};

/// Verifies in a thread of its own, tells the keeper, and marks the store whole up to `whole` afterwards. The receiver ends then.
pub(crate) fn start(
    layout: &Layout,
    layers: &Layers,
    unverified: UnverifiedImages,
    keeper: Sender<MetadataJob>,
    whole: i64,
) -> Result<watch::Receiver<()>, ImageError> {
    let (running, ends) = watch::channel(());
    if unverified.is_empty() {
        return Ok(ends);
    }
    let base = layout.base().to_owned();
    let (layout, layers) = (layout.clone(), layers.clone());
    std::thread::Builder::new()
        .name("image-verifier".to_owned())
        .spawn(move || {
            run(&layout, &layers, unverified, &keeper);
            if let Err(error) = clean_shutdown::in_use(&layout, whole) {
                let error = chain(&error);
                tracing::warn!(error, "layers will be verified again after the next power cut");
            }
            drop(running);
        })
        .map_err(io_error("start the thread that verifies layers of", &base))?;
    Ok(ends)
}

fn run(layout: &Layout, layers: &Layers, mut unverified: UnverifiedImages, keeper: &Sender<MetadataJob>) {
    tracing::warn!(
        images = unverified.images.len(),
        layers = unverified.layers.len(),
        "the machine did not go down in order: verifying layers that are newer than the last orderly stop"
    );
    for (record, config) in std::mem::take(&mut unverified.images) {
        for hex in &record.layers {
            if let Some((ticket, layer)) = unverified.layers.remove(hex)
                && let Some(layer) = verify(layout, layers, ticket, layer)
            {
                unverified.held.insert(hex.clone(), layer);
            }
        }
        let job = match unverified.judge(record, config) {
            Ok(found) => MetadataJob::Adopt(found),
            Err(lacking) => MetadataJob::Lack(lacking),
        };
        // Without the keeper the store is closing.
        drop(keeper.send(job));
    }
}

fn verify(
    layout: &Layout,
    layers: &Layers,
    ticket: Ticket,
    record: LayerRecord,
) -> Option<std::sync::Arc<crate::image::store::layers::Layer>> {
    match layer::layer(layout, &record) {
        Verdict::Whole => Some(ticket.confirm(record)),
        Verdict::Unknown(error) => {
            let error = chain(&error);
            tracing::warn!(error, "a layer could not be verified and is taken for whole");
            Some(ticket.confirm(record))
        }
        Verdict::Damaged(damage) => {
            tracing::error!(
                layer = record.diff_id,
                damage,
                "a layer did not survive the power cut and will be fetched again"
            );
            let place = layout.layer(&record.diff_id);
            let trash = layout.staging().join(files::unique("damaged"));
            if let Err(error) = std::fs::rename(&place, &trash) {
                // The next to fetch it puts it out of the way.
                tracing::warn!(%error, "a damaged layer stays where it is");
            }
            layers.discard(&trash);
            drop(ticket);
            None
        }
    }
}
