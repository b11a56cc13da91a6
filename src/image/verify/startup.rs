//! Verification at start, after an unclean shutdown: layers unpacked since the store was last known to be
//! whole are verified before their images are listed.
//!
//! One thread reads them, so that the daemon answers at once and containers that start meanwhile get most of
//! the disk's bandwidth. An image is absent until its layers are verified, and a pull of it waits instead of
//! fetching. A damaged layer is removed; its image is then incomplete, and a pull fetches only that layer.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::watch;

use super::layer::{Verdict, verify_layer};
use crate::error::chain;
use crate::image::error::{ImageError, io_error};
use crate::image::store::layers::{Layer, Layers, Ticket};
use crate::image::store::load::UnverifiedImages;
use crate::image::store::metadata::MetadataJob;
use crate::image::store::record::LayerRecord;
use crate::image::store::{clean_shutdown, files};

/// Starts a thread that verifies layers, hands the images to the metadata store, and then records that the
/// store is whole up to `whole`. The sender of the returned channel is dropped when that is done.
pub(crate) fn start(
    layers: &Layers,
    unverified: UnverifiedImages,
    metadata: Sender<MetadataJob>,
    whole: i64,
) -> Result<watch::Receiver<()>, ImageError> {
    let (running, ended) = watch::channel(());
    if unverified.is_empty() {
        return Ok(ended);
    }
    let base = layers.layout().base().to_owned();
    let layers = layers.clone();
    std::thread::Builder::new()
        .name("image-verifier".to_owned())
        .spawn(move || {
            run(&layers, unverified, &metadata);
            if let Err(error) = clean_shutdown::record_in_use(layers.layout(), whole) {
                tracing::warn!(
                    error = chain(&error),
                    "cannot record that all layers are verified; they will be verified again after the next power cut"
                );
            }
            drop(running);
        })
        .map_err(io_error("start the verification thread of", &base))?;
    Ok(ended)
}

fn run(layers: &Layers, mut unverified: UnverifiedImages, metadata: &Sender<MetadataJob>) {
    tracing::warn!(
        images = unverified.images.len(),
        layers = unverified.layers.len(),
        "unclean shutdown: verifying layers newer than the last clean one; their images are absent until that is done"
    );
    for (record, config) in std::mem::take(&mut unverified.images) {
        for hex in &record.layers {
            if let Some((ticket, layer)) = unverified.layers.remove(hex)
                && let Some(layer) = verify(layers, ticket, layer)
            {
                unverified.held.insert(hex.clone(), layer);
            }
        }
        let job = match unverified.verified(record, config) {
            Ok(complete) => MetadataJob::AddVerified(complete),
            Err(partial) => MetadataJob::AddIncomplete(partial),
        };
        // Without the metadata thread the store is closing.
        drop(metadata.send(job));
    }
}

/// The layer, unless it is damaged.
fn verify(layers: &Layers, ticket: Ticket, record: LayerRecord) -> Option<Arc<Layer>> {
    let layout = layers.layout();
    match verify_layer(layout, &record) {
        Verdict::Whole => Some(ticket.commit_durable(record)),
        Verdict::Unknown(error) => {
            tracing::warn!(
                layer = record.diff_id,
                error = chain(&error),
                "cannot verify a layer; it is used as if it were whole"
            );
            Some(ticket.commit_durable(record))
        }
        Verdict::Damaged(damage) => {
            tracing::error!(
                layer = record.diff_id,
                damage,
                "a layer did not survive the power cut and will be fetched again"
            );
            let place = layout.layer(&record.diff_id);
            let trash = layout.staging().join(files::unique("damaged"));
            match std::fs::rename(&place, &trash) {
                Ok(()) => layers.gc().remove_tree(trash),
                Err(error) => tracing::warn!(
                    path = %place.display(),
                    %error,
                    "cannot rename a damaged layer; it occupies space until it is fetched again"
                ),
            }
            drop(ticket);
            None
        }
    }
}
