//! Verification of images on demand, and repair.
//!
//! [`Images::verify`] only reads. [`Images::repair`] removes damaged layers, which makes the image
//! incomplete: absent for CRI, but known here by its names, until a pull fetches exactly what is missing. The
//! daemon tries that pull itself, with credentials if it knows some
//! ([`PullCredentials`](super::pull::credentials::PullCredentials)).

pub(crate) mod layer;
pub(crate) mod startup;

use std::time::Duration;

use tokio::sync::oneshot;

use super::Images;
use super::error::ImageError;
use super::store::content::Content;
use super::store::index::IncompleteImage;
use super::store::layout::Layout;
use super::store::metadata::MetadataJob;
use crate::blocking::blocking;
use crate::error::chain;
use layer::{Verdict, VerifyMethod, document_damage, verify_layer};

/// How long the daemon tries to repair an incomplete image before it removes it.
const REPAIR_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// First and longest pause between two attempts.
const REPAIR_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// The result of verifying an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageReport {
    /// `sha256:` and 64 hex digits.
    pub(crate) id: String,
    /// Tags, then digests.
    pub(crate) names: Vec<String>,
    /// Config and manifests.
    pub(crate) documents: Vec<DocumentReport>,
    /// Lowest first.
    pub(crate) layers: Vec<LayerReport>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentReport {
    /// `sha256:` and 64 hex digits.
    pub(crate) digest: String,
    /// `config` or `manifest`.
    pub(crate) kind: &'static str,
    /// What is wrong with it, for people.
    pub(crate) damage: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerReport {
    /// `sha256:` and 64 hex digits.
    pub(crate) diff_id: String,
    /// Bytes on disk.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) method: VerifyMethod,
    /// The first thing that is wrong with it, for people.
    pub(crate) damage: Option<String>,
}

impl ImageReport {
    pub(crate) fn is_whole(&self) -> bool {
        let documents = self.documents.iter().all(|document| document.damage.is_none());
        documents && self.layers.iter().all(|layer| layer.damage.is_none())
    }
}

impl Images {
    /// Reads all files of an image, which takes as long as the disk needs, and compares them with what was
    /// unpacked. Changes nothing. The image cannot be removed from disk meanwhile.
    ///
    /// # Errors
    /// [`ImageError::NotFound`]; [`ImageError::Ambiguous`]; [`ImageError::Unpack`] if a layer cannot be read
    /// for a reason that says nothing about it, such as a lack of memory or descriptors.
    pub(crate) async fn verify(&self, reference: &str) -> Result<ImageReport, ImageError> {
        let (content, names, manifests) = {
            let index = self.inner.index.load();
            let (image, content) = self.find_held(&index, reference)?;
            let names = [image.tags.clone(), image.digests.clone()].concat();
            (content, names, image.manifests.clone())
        };
        let layout = self.inner.layout.clone();
        blocking(move || verify_image(&layout, &content, names, &manifests)).await
    }

    /// As [`verify`](Self::verify), and removes damaged layers. The image is then
    /// [incomplete](Self::incomplete) until a pull or an import brings these layers.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); [`ImageError::InUse`] while a container uses a damaged layer.
    pub(crate) async fn repair(&self, reference: &str) -> Result<ImageReport, ImageError> {
        let report = self.verify(reference).await?;
        if !report.is_whole() {
            // A retained layer would otherwise come back with its damage.
            self.discard_retained().await;
        }
        for layer in report.layers.iter().filter(|layer| layer.damage.is_some()) {
            let hex = layer.diff_id.trim_start_matches("sha256:").to_owned();
            let (reply, done) = oneshot::channel();
            self.inner.send(MetadataJob::QuarantineLayer(hex, reply));
            done.await.unwrap_or(Err(ImageError::Stopped {
                doing: "removing a damaged layer",
            }))?;
        }
        self.flush().await;
        Ok(report)
    }

    /// Waits until the layers to be verified at start are, then tries to complete all incomplete images until
    /// none is left.
    pub(super) async fn repair_incomplete(self) {
        let mut verified = self.inner.verified.clone();
        // The channel carries no value. Its end is what counts.
        drop(verified.changed().await);
        self.flush().await;
        let mut pause = REPAIR_PAUSE.0;
        let give_up = tokio::time::Instant::now() + REPAIR_PERIOD;
        loop {
            for image in self.incomplete() {
                self.complete(&image).await;
            }
            if self.incomplete().is_empty() {
                return;
            }
            if tokio::time::Instant::now() >= give_up {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REPAIR_PAUSE.1);
        }
        for image in self.incomplete() {
            match self.remove(&image.id).await {
                Ok(()) => tracing::warn!(
                    image = image.id,
                    names = ?image.names,
                    "removed an incomplete image, since it could not be repaired for a day; pull it again if it is needed"
                ),
                Err(error) => tracing::warn!(
                    image = image.id,
                    names = ?image.names,
                    error = chain(&error),
                    "cannot remove an incomplete image; its layers occupy space until the next pull or removal"
                ),
            }
        }
    }

    async fn complete(&self, image: &IncompleteImage) {
        // A digest is better than a tag, which may have moved.
        let names = image.names.iter();
        let by_digest = names.clone().find(|name| name.contains('@'));
        let Some(name) = by_digest.or_else(|| names.clone().next()) else {
            return;
        };
        let Ok(reference) = name.parse() else { return };
        let credentials = {
            let live = self.inner.live.load_full();
            let file = live.config.auth_file.as_deref();
            self.inner.credentials.find(&reference, file).await
        };
        match self.pull_with(name, &credentials).await {
            Ok(_) => tracing::info!(
                image = name,
                layers = image.missing.len(),
                "repaired a damaged image: its missing layers were fetched again"
            ),
            Err(error) => tracing::warn!(
                image = name,
                missing = ?image.missing,
                error = chain(&error),
                "cannot repair a damaged image; it stays absent, and the repair is tried again. A pull with the right credentials \
                 repairs it at once"
            ),
        }
    }
}

fn verify_image(
    layout: &Layout,
    content: &Content,
    names: Vec<String>,
    manifests: &[String],
) -> Result<ImageReport, ImageError> {
    let id = content.config.id.hex();
    let mut documents = vec![DocumentReport {
        digest: content.config.id.to_string(),
        kind: "config",
        damage: document_damage(&layout.config(id), id),
    }];
    documents.extend(manifests.iter().map(|hex| DocumentReport {
        digest: format!("sha256:{hex}"),
        kind: "manifest",
        damage: document_damage(&layout.manifest(hex), hex),
    }));
    let mut layers = Vec::with_capacity(content.layers.len());
    for layer in &content.layers {
        let record = layer.record();
        let damage = match verify_layer(layout, record) {
            Verdict::Whole => None,
            Verdict::Damaged(damage) => Some(damage),
            Verdict::Unknown(error) => return Err(error),
        };
        layers.push(LayerReport {
            diff_id: format!("sha256:{}", record.diff_id),
            bytes: record.size,
            inodes: record.inodes,
            method: VerifyMethod::of(record),
            damage,
        });
    }
    Ok(ImageReport {
        id: content.config.id.to_string(),
        names,
        documents,
        layers,
    })
}
