//! Images as archives: an OCI layout in a tar (image-layout.md), with the `manifest.json` that `docker load` reads as well.
//!
//! The store keeps no compressed layers, so an export holds plain ones. A layer's archive is reproduced from its tar-split file, byte by
//! byte: same diff id, same config, same image id, and whoever compresses layers may. Where that is impossible, because the
//! original had entries that replaced each other, the tree is packed anew; then diff id, config and image id change, and the
//! result says so.
//!
//! What is written is verified on the way: a damaged layer ends the export with an error and never goes into an archive.

mod archive;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use pausa_distribution::Digest;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::image::Images;
use crate::image::archive::spool::blob_name;
use crate::image::error::{ImageError, shortened};
use crate::image::pull::fetch::blocking;
use crate::image::store::content::{CONFIG_MAX, Content};
use crate::image::store::files;
use crate::image::store::layout::Layout;

use archive::{Archive, LayerBlob};

/// Chunks between the thread that reads and whoever writes.
const CHUNKS: usize = 8;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Its id in the store.
    pub id: String,
    /// Its id in the archive: another one only if it is not exact.
    pub exported_id: String,
    /// Its tags, which are in the archive too.
    pub names: Vec<String>,
    /// All layers have their original diff ids.
    pub exact: bool,
}

/// An image to write.
struct Source {
    content: Arc<Content>,
    names: Vec<String>,
}

impl Images {
    /// Writes images, by any of their names, as one archive that every tool reads which knows OCI or Docker archives. The images
    /// stay while this runs. Does not shut `to` down.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`], [`ImageError::ArchiveWrite`]; [`ImageError::Unpack`] for a damaged layer.
    pub async fn export(
        &self,
        references: &[String],
        to: impl AsyncWrite + Send,
    ) -> Result<Vec<Exported>, ImageError> {
        let sources = self.sources(references)?;
        let layout = self.inner.layout.clone();
        let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS);
        let writing = blocking("exporting images", move || write(&layout, &sources, sender));
        let copying = async move {
            let mut to = std::pin::pin!(to);
            while let Some(chunk) = chunks.recv().await {
                to.write_all(&chunk).await?;
            }
            to.flush().await
        };
        let (written, copied) = tokio::join!(writing, copying);
        // Whoever takes the archive ends the reading when it fails, so its reason is the first.
        copied.map_err(|source| ImageError::ArchiveWrite { source })?;
        written
    }

    fn sources(&self, references: &[String]) -> Result<Vec<Source>, ImageError> {
        let index = self.inner.index.load();
        let mut sources: Vec<Source> = Vec::new();
        for reference in references {
            let (entry, content) = self.hold(&index, reference)?;
            if !sources
                .iter()
                .any(|source| Arc::ptr_eq(&source.content, &content))
            {
                let names = entry.tags.clone();
                sources.push(Source { content, names });
            }
        }
        Ok(sources)
    }
}

fn write(
    layout: &Layout,
    sources: &[Source],
    chunks: mpsc::Sender<Bytes>,
) -> Result<Vec<Exported>, ImageError> {
    let mut archive = Archive::new(chunks);
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut written = HashSet::new();
    let (mut described, mut saved) = (Vec::new(), Vec::new());
    let mut exported = Vec::new();
    for source in sources {
        let image = image(layout, source, &mut archive, &mut written)?;
        described.extend(image.descriptors);
        saved.push(image.saved);
        exported.push(image.exported);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": described});
    archive.file("manifest.json", Value::from(saved).to_string().as_bytes())?;
    archive.file("index.json", index.to_string().as_bytes())?;
    archive.finish()?;
    Ok(exported)
}

/// What the archive's indexes say about an image.
struct Written {
    descriptors: Vec<Value>,
    saved: Value,
    exported: Exported,
}

fn image(
    layout: &Layout,
    source: &Source,
    archive: &mut Archive,
    written: &mut HashSet<Digest>,
) -> Result<Written, ImageError> {
    let content = &source.content;
    let mut layers: Vec<LayerBlob> = Vec::new();
    for layer in &content.layers {
        let blob = archive::measure(layout, layer.record())?;
        if written.insert(blob.digest.clone()) {
            archive.layer(layout, layer.record(), &blob)?;
        }
        layers.push(blob);
    }
    let path = layout.config(content.config.id.hex());
    let original = files::read(&path, u64::try_from(CONFIG_MAX).unwrap_or(u64::MAX))?;
    let exact = layers.iter().all(|blob| blob.exact);
    let config = if exact {
        original
    } else {
        with_layers(&original, &layers, content)?
    };
    let (config_digest, config_size) = archive.blob(&config, written)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest.to_string(), "size": config_size},
        "layers": layers.iter().map(|blob| json!({
            "mediaType": LAYER, "digest": blob.digest.to_string(), "size": blob.size,
        })).collect::<Vec<_>>(),
    });
    let (digest, size) = archive.blob(manifest.to_string().as_bytes(), written)?;
    Ok(Written {
        descriptors: descriptors(&digest, size, &source.names),
        saved: json!({
            "Config": blob_name(&config_digest),
            "RepoTags": source.names,
            "Layers": layers.iter().map(|blob| blob_name(&blob.digest)).collect::<Vec<_>>(),
        }),
        exported: Exported {
            id: content.config.id.to_string(),
            exported_id: config_digest.to_string(),
            names: source.names.clone(),
            exact,
        },
    })
}

/// One for each name, as the OCI layout wants it, or one without any.
fn descriptors(digest: &Digest, size: u64, names: &[String]) -> Vec<Value> {
    let bare = json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size});
    if names.is_empty() {
        return vec![bare];
    }
    let named = names.iter().map(|name| {
        let mut descriptor = bare.clone();
        descriptor["annotations"] = json!({
            "org.opencontainers.image.ref.name": name,
            "io.containerd.image.name": name,
        });
        descriptor
    });
    named.collect()
}

/// The config with the diff ids of the layers as they are written.
fn with_layers(config: &[u8], layers: &[LayerBlob], content: &Content) -> Result<Vec<u8>, ImageError> {
    let unusable = |reason: String| ImageError::Config {
        digest: content.config.id.to_string(),
        reason,
    };
    let mut value: Value =
        serde_json::from_slice(config).map_err(|error| unusable(shortened(&error.to_string())))?;
    let diff_ids: Vec<String> = layers.iter().map(|blob| blob.digest.to_string()).collect();
    match value.pointer_mut("/rootfs/diff_ids") {
        Some(listed) => *listed = json!(diff_ids),
        None => return Err(unusable("it lists no layers".to_owned())),
    }
    serde_json::to_vec(&value).map_err(|error| unusable(error.to_string()))
}

/// The archive could not be written any further.
fn unwritten(source: io::Error) -> ImageError {
    ImageError::ArchiveWrite { source }
}
