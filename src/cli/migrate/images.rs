//! Images of the other runtime's store, sent to the daemon as archives.
//!
//! The daemon imports them as `pausa image import` does, and checks every byte by its digest. What cannot be imported is
//! reported by name; the others are imported all the same. Registries are not asked.
//!
//! The archive is an OCI image layout. Where the store has no compressed layers any more, it has the layers without
//! compression, under their diff ids.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context as _;
use pausa_distribution::{Descriptor, Digest, Document, Platform, Reference};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::blocking::blocking;
use crate::cli::client::Daemon;
use crate::cli::output::{Table, escape, print_stderr};
use crate::cli::units;
use crate::error::chain;
use crate::proto::admin::ImportRequest;
use crate::proto::v1;

mod beneath;
mod content;
mod storage;
mod tar_split;

pub(super) use content::Containerd;
pub(super) use storage::Storage;

/// Largest manifest, index or config.
const DOCUMENT_MAX: u64 = 8 << 20;
/// Most indexes between a name and its manifest.
const NESTING_MAX: usize = 3;
/// Bytes of an archive in one message.
const CHUNK: usize = 256 * 1024;
/// Messages that are written before the daemon takes them.
const READ_AHEAD: usize = 4;

/// A store of another runtime.
pub(super) enum Store {
    Containerd(Containerd),
    Storage(Storage),
}

/// An image of a store.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) names: Vec<String>,
    /// `sha256:` and 64 hex digits; absent if the image cannot be read.
    pub(super) id: Option<String>,
    /// Bytes to send to the daemon.
    pub(super) size: u64,
    pub(super) state: State,
    /// Why it is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip)]
    pub(super) parts: Option<Parts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// It can be imported.
    Found,
    Imported,
    /// The daemon has it under all its names.
    Present,
    Skipped,
}

/// What an archive of an image consists of.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// What the names stand for: an index, or the manifest.
    top: Descriptor,
    /// Indexes, manifest and config, each under its digest.
    documents: Vec<(Digest, Vec<u8>)>,
    layers: Vec<Layer>,
}

/// A layer in a store.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Of the bytes that are sent.
    digest: Digest,
    size: u64,
    /// The layer of containers/storage that it is rebuilt from; otherwise it is a blob.
    rebuilt: Option<String>,
}

/// A name or several of one image, before its documents are read.
pub(super) struct Named {
    pub(super) names: Vec<String>,
    pub(super) found: anyhow::Result<Parts>,
}

impl Store {
    /// All images, by name.
    pub(super) fn list(&self) -> anyhow::Result<Vec<Listed>> {
        let named = match self {
            Self::Containerd(store) => store.images()?,
            Self::Storage(store) => store.images()?,
        };
        let mut images: Vec<Listed> = named.into_iter().map(listed).collect();
        images.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(images)
    }

    fn read(&self, layer: &Layer) -> anyhow::Result<Box<dyn Read + '_>> {
        match self {
            Self::Containerd(store) => Ok(Box::new(store.blob(&layer.digest)?)),
            Self::Storage(store) => store.layer(layer.rebuilt.as_deref().unwrap_or_default()),
        }
    }
}

fn listed(named: Named) -> Listed {
    let Named { names, found } = named;
    match found {
        Ok(parts) => {
            let id = parts.config().map(|(digest, _)| digest.to_string());
            Listed {
                names,
                id,
                size: parts
                    .layers
                    .iter()
                    .map(|layer| layer.size)
                    .fold(0, u64::saturating_add),
                state: State::Found,
                reason: None,
                parts: Some(parts),
            }
        }
        Err(error) => Listed {
            names,
            id: None,
            size: 0,
            state: State::Skipped,
            reason: Some(chain(error.as_ref())),
            parts: None,
        },
    }
}

impl Parts {
    /// The config is the last document.
    fn config(&self) -> Option<&(Digest, Vec<u8>)> {
        self.documents.last()
    }

    /// Follows a descriptor to the manifest for this node and its config. `read` gets documents by their digests.
    fn read(
        top: Descriptor,
        read: impl Fn(&Digest) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<(Self, Vec<Descriptor>, Vec<Digest>)> {
        let checked = |digest: &Digest| {
            let bytes = read(digest)?;
            anyhow::ensure!(
                Digest::of(digest.algorithm(), &bytes) == *digest,
                "{digest} is damaged: it does not hash to its name"
            );
            Ok(bytes)
        };
        let (mut documents, mut at) = (Vec::new(), top.clone());
        let manifest = loop {
            anyhow::ensure!(documents.len() <= NESTING_MAX, "it has too many nested indexes");
            let bytes = checked(&at.digest)?;
            let parsed = Document::parse(&bytes, Some(&at.media_type), &at.digest)?;
            documents.push((at.digest.clone(), bytes));
            match parsed.0 {
                Document::Manifest(manifest) => break manifest,
                Document::Index(index) => at = index.select(&Platform::host())?.clone(),
            }
        };
        let config = checked(&manifest.config.digest)?;
        let diff_ids = diff_ids(&config)?;
        anyhow::ensure!(
            diff_ids.len() == manifest.layers.len(),
            "manifest and config do not have the same layers"
        );
        documents.push((manifest.config.digest.clone(), config));
        let parts = Self {
            top,
            documents,
            layers: Vec::new(),
        };
        Ok((parts, manifest.layers, diff_ids))
    }
}

/// `rootfs.diff_ids` of an image's config.
fn diff_ids(config: &[u8]) -> anyhow::Result<Vec<Digest>> {
    #[derive(serde::Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(serde::Deserialize)]
    struct RootFs {
        diff_ids: Vec<String>,
    }
    let config: Config = serde_json::from_slice(config).context("its config is not that of an image")?;
    let ids = config.rootfs.diff_ids.iter();
    Ok(ids.map(|id| id.parse()).collect::<Result<_, _>>()?)
}

/// The name as the daemon has it: with a tag, or with a digest.
fn canonical(name: &str) -> Option<String> {
    let reference: Reference = name.parse().ok()?;
    Some(match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{}@{digest}", reference.name()),
        (None, tag) => format!("{}:{}", reference.name(), tag.unwrap_or("latest")),
    })
}

/// Imports what the daemon does not have. A failure of one image is its reason; only a daemon that is gone ends it.
pub(super) async fn import(
    daemon: &Daemon,
    store: Store,
    mut images: Vec<Listed>,
) -> anyhow::Result<Vec<Listed>> {
    let answer = daemon
        .images()
        .list_images(v1::ListImagesRequest::default())
        .await;
    let stored = answer.map_err(daemon.failed("ListImages"))?.into_inner().images;
    let id_of = |name: &str| {
        let has = |image: &&v1::Image| {
            image
                .repo_tags
                .iter()
                .chain(&image.repo_digests)
                .any(|known| known == name)
        };
        stored.iter().find(has).map(|image| image.id.as_str())
    };
    let store = std::sync::Arc::new(store);
    let count = images.iter().filter(|image| image.state == State::Found).count();
    let mut at = 0;
    for image in &mut images {
        let Some(parts) = image.parts.clone() else {
            continue;
        };
        at += 1;
        let (mut wanted, mut taken) = (Vec::new(), Vec::new());
        for name in &image.names {
            match canonical(name).as_deref().map(id_of) {
                Some(None) => wanted.push(name.clone()),
                Some(id) if id == image.id.as_deref() => {}
                Some(_) => taken.push(format!("{name} is another image in pausa")),
                None => taken.push(format!("{name} is not a name that pausa can use")),
            }
        }
        image.reason = (!taken.is_empty()).then(|| taken.join("; "));
        if wanted.is_empty() {
            image.state = if taken.is_empty() {
                State::Present
            } else {
                State::Skipped
            };
            continue;
        }
        let name = image.names.first().map_or("", String::as_str);
        print_stderr(&format!(
            "{at}/{count} {}, {}",
            escape(name),
            units::size(image.size)
        ));
        match send(daemon, store.clone(), parts, wanted).await {
            Ok(()) => image.state = State::Imported,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                image.state = State::Skipped;
                image.reason = Some(chain(error.as_ref()));
            }
        }
    }
    Ok(images)
}

/// Whether the daemon is gone, so that the other images would fail as well.
fn is_fatal(error: &anyhow::Error) -> bool {
    use crate::cli::failure::CommandError;
    let error = error.downcast_ref::<CommandError>();
    error.is_some_and(|error| !matches!(error, CommandError::Refused { .. }))
}

async fn send(
    daemon: &Daemon,
    store: std::sync::Arc<Store>,
    parts: Parts,
    names: Vec<String>,
) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let writing = blocking(move || {
        let mut out = Chunks {
            buffer: Vec::with_capacity(CHUNK),
            to: sender,
        };
        archive(&store, &parts, &names, &mut out)?;
        Ok::<_, anyhow::Error>(out.flush()?)
    });
    let mut admin = daemon.admin();
    let importing = admin.import(ReceiverStream::new(receiver));
    let (written, answer) = tokio::join!(writing, importing);
    // A closed channel only says that the daemon has refused the archive. Any other failure to read explains why the daemon
    // has found it incomplete.
    if let Err(error) = written
        && !error.chain().any(is_refusal)
    {
        return Err(error);
    }
    answer.map_err(daemon.failed("`image import`"))?;
    Ok(())
}

/// Whether an error is [`Refused`]. An I/O error does not name what it was made of as its source.
fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<Refused>())
}

/// The daemon takes no more.
#[derive(Debug, thiserror::Error)]
#[error("the daemon takes no more of the archive")]
struct Refused;

/// Collects what is written and sends it in messages.
struct Chunks {
    buffer: Vec<u8>,
    to: mpsc::Sender<ImportRequest>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.to.blocking_send(ImportRequest { chunk });
        sent.map_err(|_| io::Error::other(Refused))
    }
}

/// Writes an OCI layout. Its index comes last: without it, the daemon takes nothing.
fn archive(store: &Store, parts: &Parts, names: &[String], out: &mut impl Write) -> anyhow::Result<()> {
    let mut tar = tar::Builder::new(out);
    let mut seen = std::collections::HashSet::new();
    for (digest, bytes) in &parts.documents {
        if seen.insert(digest.clone()) {
            append(
                &mut tar,
                &blob_name(digest),
                u64::try_from(bytes.len())?,
                bytes.as_slice(),
            )?;
        }
    }
    for layer in &parts.layers {
        if !seen.insert(layer.digest.clone()) {
            continue;
        }
        let content = store.read(layer)?;
        append(&mut tar, &blob_name(&layer.digest), layer.size, content)
            .with_context(|| format!("cannot read the layer {}", layer.digest))?;
    }
    let manifests: Vec<_> = names
        .iter()
        .map(|name| {
            serde_json::json!({
                "mediaType": parts.top.media_type,
                "digest": parts.top.digest.to_string(),
                "size": parts.top.size,
                "annotations": { "io.containerd.image.name": name },
            })
        })
        .collect();
    let index = serde_json::to_vec(&serde_json::json!({ "schemaVersion": 2, "manifests": manifests }))?;
    append(
        &mut tar,
        "index.json",
        u64::try_from(index.len())?,
        index.as_slice(),
    )?;
    tar.finish()?;
    Ok(())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// Adds a file of exactly `size` bytes.
fn append(
    tar: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    mut content: impl Read,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_mode(0o644);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let out = tar.get_mut();
    out.write_all(header.as_bytes())?;
    let copied = io::copy(&mut content.by_ref().take(size), out)?;
    anyhow::ensure!(copied == size, "{name} is shorter than it should be");
    anyhow::ensure!(content.read(&mut [0])? == 0, "{name} is longer than it should be");
    let padding = usize::try_from(size.next_multiple_of(512) - size)?;
    out.write_all(&[0; 512][..padding])?;
    Ok(())
}

/// A row for each name.
pub(super) fn table(images: &[Listed]) -> String {
    let mut table = Table::new(["IMAGE", "IMAGE ID", "SIZE>", "STATE"]);
    for image in images {
        let state = match image.state {
            State::Found => "found",
            State::Imported => "imported",
            State::Present => "already there",
            State::Skipped => "skipped",
        };
        let state = match &image.reason {
            Some(reason) => format!("{state}: {reason}"),
            None => state.to_owned(),
        };
        let id = image
            .id
            .as_deref()
            .map_or_else(|| "-".to_owned(), |id| units::id(id, false));
        for name in &image.names {
            table.row([name.clone(), id.clone(), units::size(image.size), state.clone()]);
        }
    }
    table.render()
}

/// The store of containerd or of containers/storage in a directory.
pub(super) fn open_containerd(root: &Path, namespace: &str) -> anyhow::Result<Store> {
    Ok(Store::Containerd(Containerd::open(root, namespace)?))
}

/// The same for CRI-O.
pub(super) fn open_storage(root: &Path) -> anyhow::Result<Store> {
    Ok(Store::Storage(Storage::open(root)?))
}

#[cfg(test)]
mod tests;
