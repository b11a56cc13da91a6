//! When things are put on the shelf and taken off it.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use super::{RetainedLayer, list};
use crate::error::chain;
use crate::image::Images;
use crate::image::pull::fetch::blocking;
use crate::image::store::layers::Layer;

/// How often somebody looks for what is too old.
const SWEEP: Duration = Duration::from_secs(10);

impl Images {
    /// What failed pulls have left for the next try. Waits for nobody.
    pub fn kept(&self) -> Vec<RetainedLayer> {
        self.inner.shelf.list()
    }

    /// Keeps the layers of a pull that failed, those that no image has.
    pub(crate) async fn keep(&self, layers: Vec<Arc<Layer>>, disk: &Arc<File>) {
        let mut layers = layers;
        layers.retain(|layer| !layer.is_durable() || self.inner.shelf.has(layer));
        if self.inner.shelf.has_room() && !layers.is_empty() {
            match self.make_durable(&layers, disk).await {
                Ok(()) => {
                    self.inner.shelf.put(layers);
                    self.note_kept().await;
                }
                Err(error) => tracing::warn!(error = chain(&error), "nothing of a failed pull is kept"),
            }
        }
        self.sweep();
    }

    /// The daemon stops: its successor keeps what this one kept, and the complete layers of pulls in flight. Blocks.
    pub(crate) fn keep_for_the_next(&self) {
        if self.inner.shelf.keeps_for().is_zero() {
            return;
        }
        let index = self.inner.index.load();
        let mut layers = self.inner.layers.present();
        layers.retain(|hex| !index.has_layer(hex));
        if let Err(error) = list::write(&self.inner.layout, layers) {
            tracing::warn!(error = chain(&error), "nothing is kept for retries of pulls");
        }
    }

    /// Gives up everything that is kept, and waits until its space is free.
    pub async fn clear_shelf(&self) {
        self.inner.shelf.clear().give_up().await;
        self.note_kept().await;
    }

    /// Lets go of layers that have an image now.
    pub(crate) async fn release_kept(&self, diff_ids: &[String]) {
        self.inner.shelf.release(diff_ids);
        self.note_kept().await;
    }

    /// Brings the list on disk up to date. A failure costs the next daemon what is kept.
    async fn note_kept(&self) {
        if let Some(layers) = self.inner.shelf.changed() {
            let layout = self.inner.layout.clone();
            let written = blocking("noting what is kept", move || list::write(&layout, layers)).await;
            if let Err(error) = written {
                tracing::warn!(
                    error = chain(&error),
                    "what is kept for retries of pulls ends with the daemon"
                );
            }
        }
    }

    /// From here on what is kept goes in time.
    pub(crate) fn sweep(&self) {
        if !self.inner.shelf.begin_sweeping() {
            return;
        }
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(inner) = inner.upgrade() else { return };
                let images = Self { inner };
                let gone = images.inner.shelf.sweep();
                let done = images.inner.shelf.done_sweeping();
                if !gone.is_empty() {
                    tracing::info!("what a failed pull had left is given up");
                    gone.give_up().await;
                    images.note_kept().await;
                }
                if done {
                    return;
                }
            }
        });
    }
}
