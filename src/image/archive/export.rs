//! Exports images as one archive: an OCI layout in a tar (image-layout.md), with a `manifest.json` for
//! `docker load`.
//!
//! The store keeps no compressed layers, so layers are exported uncompressed. A layer's archive is rebuilt
//! byte for byte from its tar-split file, with the same diff id, config and image id. Where that is
//! impossible, because entries of the original archive replaced each other, the tree is packed again. Then
//! diff id, config and image id change, and the result says so.
//!
//! Everything is verified while it is written: a damaged layer ends the export with an error. The same images
//! give the same bytes.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use bytes::Bytes;
use pausa_distribution::{Algorithm, Digest, DigestError, Hasher};
use pausa_layer::{EntryPath, TarSplitReader};
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::spool::blob_name;
use crate::blocking::blocking;
use crate::image::error::{ImageError, io_error, shortened};
use crate::image::store::content::{CONFIG_MAX, Content};
use crate::image::store::files;
use crate::image::store::layout::{Layout, TAR_SPLIT};
use crate::image::store::record::LayerRecord;

/// Bytes in a chunk.
const CHUNK: usize = 256 << 10;
/// Most chunks between the thread that reads layers and the writer.
const CHUNKS: usize = 8;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportedImage {
    /// The id in the store.
    pub(crate) id: String,
    /// The id in the archive. It differs only if the export is not exact.
    pub(crate) exported_id: String,
    /// The tags, which are in the archive too.
    pub(crate) names: Vec<String>,
    /// Whether all layers have their original diff ids.
    pub(crate) exact: bool,
}

/// An image to export, and its tags.
pub(crate) struct ExportSource {
    pub(crate) content: Arc<Content>,
    pub(crate) names: Vec<String>,
}

/// Writes images as one archive. Does not shut `to` down.
pub(crate) async fn export(
    layout: Layout,
    sources: Vec<ExportSource>,
    to: impl AsyncWrite + Send,
) -> Result<Vec<ExportedImage>, ImageError> {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS);
    let writing = blocking(move || write(&layout, &sources, sender));
    let copying = async move {
        let mut to = std::pin::pin!(to);
        while let Some(chunk) = chunks.recv().await {
            to.write_all(&chunk).await?;
        }
        to.flush().await
    };
    let (written, copied) = tokio::join!(writing, copying);
    // If the receiver of the archive fails, the reading thread fails as well, but only as a consequence.
    copied.map_err(unwritten)?;
    written
}

fn write(
    layout: &Layout,
    sources: &[ExportSource],
    chunks: mpsc::Sender<Bytes>,
) -> Result<Vec<ExportedImage>, ImageError> {
    let mut archive = Archive::new(chunks);
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut written = HashSet::new();
    let (mut described, mut saved) = (Vec::new(), Vec::new());
    let mut exported = Vec::new();
    for source in sources {
        let image = write_image(layout, source, &mut archive, &mut written)?;
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

/// An image's entries in the indexes of the archive.
struct IndexEntries {
    descriptors: Vec<Value>,
    saved: Value,
    exported: ExportedImage,
}

fn write_image(
    layout: &Layout,
    source: &ExportSource,
    archive: &mut Archive,
    written: &mut HashSet<Digest>,
) -> Result<IndexEntries, ImageError> {
    let content = &source.content;
    let mut layers: Vec<LayerBlob> = Vec::new();
    for layer in &content.layers {
        let blob = measure(layout, layer.record())?;
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
    Ok(IndexEntries {
        descriptors: descriptors(&digest, size, &source.names),
        saved: json!({
            "Config": blob_name(&config_digest),
            "RepoTags": source.names,
            "Layers": layers.iter().map(|blob| blob_name(&blob.digest)).collect::<Vec<_>>(),
        }),
        exported: ExportedImage {
            id: content.config.id.to_string(),
            exported_id: config_digest.to_string(),
            names: source.names.clone(),
            exact,
        },
    })
}

/// One descriptor for each name, as OCI layouts have them, or one without a name.
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

/// The config with the diff ids of the exported layers.
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

fn unwritten(source: io::Error) -> ImageError {
    ImageError::ArchiveWrite { source }
}

struct LayerBlob {
    digest: Digest,
    size: u64,
    /// Whether the digest is the layer's diff id.
    exact: bool,
}

/// The archive that is being written.
struct Archive {
    out: BufWriter<Channel>,
}

/// Sends what is written to the receiver of the archive.
struct Channel(mpsc::Sender<Bytes>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Bytes::copy_from_slice(bytes)) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    fn new(chunks: mpsc::Sender<Bytes>) -> Self {
        Self {
            out: BufWriter::with_capacity(CHUNK, Channel(chunks)),
        }
    }

    /// Writes a small file.
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.header(name, bytes.len() as u64)?;
        self.out.write_all(bytes).map_err(unwritten)?;
        self.pad(bytes.len() as u64)
    }

    /// Writes a document under its digest, unless it was written before.
    fn blob(&mut self, bytes: &[u8], written: &mut HashSet<Digest>) -> Result<(Digest, u64), ImageError> {
        let digest = Digest::sha256(bytes);
        if written.insert(digest.clone()) {
            self.file(&blob_name(&digest), bytes)?;
        }
        Ok((digest, bytes.len() as u64))
    }

    /// Writes a layer. `blob` is the result of [`measure`].
    fn layer(&mut self, layout: &Layout, record: &LayerRecord, blob: &LayerBlob) -> Result<(), ImageError> {
        self.header(&blob_name(&blob.digest), blob.size)?;
        let dir = files::open_dir(&layout.layer_fs(&record.diff_id))?;
        let mut out = Hashed {
            out: &mut self.out,
            hasher: Hasher::new(Algorithm::Sha256),
            written: 0,
        };
        if blob.exact {
            replay(&dir, layout, record, &mut out)?;
        } else {
            pausa_layer::pack(dir.as_fd(), &mut out).map_err(unreadable(record))?;
        }
        if out.written != blob.size || out.hasher.finish() != blob.digest {
            return Err(unreadable(record)(pausa_layer::Error::Damaged {
                path: EntryPath::new(&b"."[..]),
                what: "has changed since it was unpacked".into(),
            }));
        }
        self.pad(blob.size)
    }

    fn finish(mut self) -> Result<(), ImageError> {
        self.out.write_all(&[0; 1024]).map_err(unwritten)?;
        self.out.flush().map_err(unwritten)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), ImageError> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).map_err(unwritten)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(unwritten)
    }

    fn pad(&mut self, size: u64) -> Result<(), ImageError> {
        let odd = usize::try_from(size % 512).unwrap_or(0);
        if odd > 0 {
            self.out.write_all(&[0; 512][odd..]).map_err(unwritten)?;
        }
        Ok(())
    }
}

/// Determines how a layer has to be written. Without a tar-split file, that means packing it.
fn measure(layout: &Layout, record: &LayerRecord) -> Result<LayerBlob, ImageError> {
    if record.tree.is_none() && record.archive_bytes > 0 {
        let diff_id = format!("sha256:{}", record.diff_id);
        let digest = diff_id
            .parse()
            .map_err(|source: DigestError| ImageError::Reference {
                reference: diff_id.clone(),
                source: Box::new(source.into()),
            })?;
        return Ok(LayerBlob {
            digest,
            size: record.archive_bytes,
            exact: true,
        });
    }
    let dir = files::open_dir(&layout.layer_fs(&record.diff_id))?;
    let mut out = Hashed {
        out: &mut io::sink(),
        hasher: Hasher::new(Algorithm::Sha256),
        written: 0,
    };
    pausa_layer::pack(dir.as_fd(), &mut out).map_err(unreadable(record))?;
    Ok(LayerBlob {
        size: out.written,
        digest: out.hasher.finish(),
        exact: false,
    })
}

fn replay<W: Write>(
    dir: &File,
    layout: &Layout,
    record: &LayerRecord,
    out: &mut Hashed<'_, W>,
) -> Result<(), ImageError> {
    let path = layout.layer(&record.diff_id).join(TAR_SPLIT);
    let tar_split = File::open(&path).map_err(io_error("open", &path))?;
    // Damage of the layer is reported as such, other errors as those of the file.
    let failed = |error: io::Error| match error.downcast::<pausa_layer::Error>() {
        Ok(damage) => unreadable(record)(damage),
        Err(error) => io_error("read", &path)(error),
    };
    let mut replay = TarSplitReader::new(tar_split, dir.as_fd()).map_err(failed)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match replay.read(&mut buffer).map_err(failed)? {
            0 => return Ok(()),
            read => out.write_all(&buffer[..read]).map_err(unwritten)?,
        }
    }
}

fn unreadable(record: &LayerRecord) -> impl Fn(pausa_layer::Error) -> ImageError {
    let diff_id = format!("sha256:{}", record.diff_id);
    move |source| match source {
        pausa_layer::Error::Output { source, .. } => unwritten(source),
        source => ImageError::Unpack {
            diff_id: diff_id.clone(),
            source: Box::new(source),
        },
    }
}

/// Hashes and counts what is written.
struct Hashed<'o, W> {
    out: &'o mut W,
    hasher: Hasher,
    written: u64,
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
