//! Verification on demand, and what to do about damage.
//!
//! `verify` only looks. `repair` sets damaged layers aside, which makes the image incomplete: absent for CRI, known by its names
//! here, mended by the next pull, which fetches just what is missing. The daemon tries that pull by itself, with credentials if it
//! knows some ([`logins`](crate::image::pull::credentials)).

pub(crate) mod layer;
pub(crate) mod startup;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use super::error::ImageError;
use super::{Images, Inner};
use crate::error::chain;
use crate::image::pull::fetch::blocking;
use crate::image::store::content::Content;
use crate::image::store::index::Incomplete;
use crate::image::store::metadata::MetadataJob;
use layer::{Verdict, VerifyMethod};

/// How long an incomplete image is kept for somebody to mend it.
const MEND_FOR: Duration = Duration::from_secs(24 * 3600);
/// First and longest pause between attempts to mend.
const MEND_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// What the verification of an image found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// `sha256:` and 64 hex digits.
    pub id: String,
    /// Tags, then digests.
    pub names: Vec<String>,
    /// Config and manifests.
    pub documents: Vec<DocumentReport>,
    /// Lowest first.
    pub layers: Vec<LayerReport>,
}

/// One document of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentReport {
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// `config` or `manifest`.
    pub kind: &'static str,
    /// What is wrong with it, for people.
    pub damage: Option<String>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// `sha256:` and 64 hex digits.
    pub diff_id: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes on disk.
    pub inodes: u64,
    /// How it was verified.
    pub method: VerifyMethod,
    /// The first thing that is wrong with it, for people.
    pub damage: Option<String>,
}

impl ImageReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        let documents = self.documents.iter().all(|document| document.damage.is_none());
        documents && self.layers.iter().all(|layer| layer.damage.is_none())
    }
}

impl Images {
    /// Reads a whole image again, which takes as long as the disk needs, and compares it with what was unpacked. Changes
    /// nothing; the image stays while this runs.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`]; [`ImageError::Unpack`] where a layer cannot be read for want of memory
    /// or descriptors.
    pub async fn verify(&self, reference: &str) -> Result<ImageReport, ImageError> {
        let (content, names, manifests) = {
            let index = self.inner.index.load();
            let (entry, content) = self.hold(&index, reference)?;
            let names = [entry.tags.clone(), entry.digests.clone()].concat();
            (content, names, entry.manifests.clone())
        };
        let inner = Arc::clone(&self.inner);
        blocking("verifying an image", move || {
            report(&inner, &content, names, &manifests)
        })
        .await
    }

    /// As [`verify`](Self::verify), and sets damaged layers aside: the image is absent then ([`incomplete`](Self::incomplete)) until
    /// a pull or an import brings those layers, and only those.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); [`ImageError::InUse`] while a container uses a damaged layer.
    pub async fn repair(&self, reference: &str) -> Result<ImageReport, ImageError> {
        let report = self.verify(reference).await?;
        if !report.is_whole() {
            // What is damaged must not come back from there.
            self.clear_shelf().await;
        }
        for layer in report.layers.iter().filter(|layer| layer.damage.is_some()) {
            let hex = layer.diff_id.trim_start_matches("sha256:").to_owned();
            let (reply, done) = oneshot::channel();
            self.inner.send(MetadataJob::Condemn(hex, reply));
            done.await.unwrap_or(Err(ImageError::Stopped {
                doing: "setting a damaged layer aside",
            }))?;
        }
        self.settle().await;
        Ok(report)
    }

    /// Images that are known by name and lack layers. CRI does not show them; a pull mends them.
    pub fn incomplete(&self) -> Vec<Incomplete> {
        self.inner.index.load().incomplete().cloned().collect()
    }

    /// Waits until layers that were in doubt after a power cut are verified, and tries to mend what is not whole.
    pub(super) async fn mend(self) {
        let mut checked = self.inner.checked.clone();
        // Ends without a value: only the end counts.
        drop(checked.changed().await);
        self.settle().await;
        let mut pause = MEND_PAUSE.0;
        let give_up = tokio::time::Instant::now() + MEND_FOR;
        loop {
            for image in self.incomplete() {
                self.mend_one(&image).await;
            }
            if self.incomplete().is_empty() {
                return;
            }
            if tokio::time::Instant::now() >= give_up {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MEND_PAUSE.1);
        }
        for image in self.incomplete() {
            tracing::warn!(image = image.id, names = ?image.names, "an image that nobody mended is removed");
            if let Err(error) = self.remove(&image.id).await {
                tracing::warn!(error = chain(&error), "and could not be");
            }
        }
    }

    async fn mend_one(&self, image: &Incomplete) {
        // By digest if there is one: a tag may have moved.
        let Some(name) = image
            .names
            .iter()
            .find(|name| name.contains('@'))
            .or_else(|| image.names.first())
        else {
            return;
        };
        let Ok(reference) = name.parse() else { return };
        let fields = self.inner.logins.of(&reference).await;
        match self.pull_with(name, &fields).await {
            Ok(_) => tracing::info!(
                image = name,
                layers = image.missing.len(),
                "a damaged image is whole again"
            ),
            Err(error) => tracing::warn!(
                image = name,
                missing = ?image.missing,
                error = chain(&error),
                "a damaged image could not be mended; it is tried again, and a pull with the right credentials mends it at once"
            ),
        }
    }
}

fn report(
    inner: &Inner,
    content: &Content,
    names: Vec<String>,
    manifests: &[String],
) -> Result<ImageReport, ImageError> {
    let layout = &inner.layout;
    let hex = content.config.id.hex();
    let document = |kind, hex: &str, path: std::path::PathBuf| DocumentReport {
        digest: format!("sha256:{hex}"),
        kind,
        damage: layer::document(&path, hex),
    };
    let mut documents = vec![document("config", hex, layout.config(hex))];
    documents.extend(
        manifests
            .iter()
            .map(|hex| document("manifest", hex, layout.manifest(hex))),
    );
    let mut layers = Vec::with_capacity(content.layers.len());
    for layer in &content.layers {
        let record = layer.record();
        let damage = match layer::layer(layout, record) {
            Verdict::Whole => None,
            Verdict::Damaged(damage) => Some(damage),
            Verdict::Unknown(error) => return Err(error),
        };
        layers.push(LayerReport {
            diff_id: format!("sha256:{}", record.diff_id),
            bytes: record.size,
            inodes: record.inodes,
            method: layer::method(record),
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
