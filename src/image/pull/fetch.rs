//! One layer of a pull: already in the store, being fetched from the same registry by another pull, retained from a failed
//! one, or to be fetched.
//!
//! ```text
//!            ┌───────────── a pull of the same blob ─────────────┐
//!            ▼                                                   │
//!  fetch ─▶ ingest ── the registry fails, or the pull ─▶ retained ── discarded ──▶ the thread cleans up
//!            └── all bytes received ──▶ verified, in layers/
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pausa_distribution::{
    self as distribution, BlobStream, Client, Credentials, Descriptor, Digest, Reference, VerifyingReader,
};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::ingest::{BusyToken, Ingest, UnpackTask, finish_verified, stopped};
use super::progress::{LayerState, LayerTracker};
use super::retained::RetainedPulls;
use super::unpack::unpack;
use crate::blocking::blocking;
use crate::error::chain;
use crate::image::error::{ImageError, io_error, is_retryable, tree_error};
use crate::image::store::layers::{Claim, Layer, LayerSource, Layers, Ticket};
use crate::telemetry::metrics;

/// How often a layer is fetched whose bytes are damaged: once from each of two servers, if there are two.
const DAMAGE_TRIES: usize = 2;

/// Where registry blobs come from.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) client: Client,
    pub(crate) reference: Reference,
    pub(crate) credentials: Credentials,
}

impl Remote {
    async fn open(&self, blob: &Descriptor, from: u64) -> Result<BlobStream, ImageError> {
        self.client
            .fetch_blob(&self.reference, blob, from, &self.credentials)
            .await
            .map_err(|source| self.failed(source))
    }

    pub(crate) fn failed(&self, source: distribution::Error) -> ImageError {
        ImageError::Fetch {
            reference: self.reference.to_string(),
            source: Box::new(source),
        }
    }
}

/// Where a layer's blob is.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Registry(Arc<Remote>, Descriptor),
    /// In a file, with its digest if that is known.
    File(PathBuf, Option<Digest>),
}

impl Origin {
    fn source(&self) -> LayerSource {
        match self {
            Self::Registry(remote, blob) => LayerSource::Registry {
                host: remote.reference.host().to_owned(),
                blob: blob.digest.clone(),
            },
            Self::File(..) => LayerSource::File,
        }
    }

    /// Digest and size of the blob, for progress reports. `diff_id` stands in for an unknown digest.
    pub(crate) fn blob(&self, diff_id: &str) -> (String, u64) {
        match self {
            Self::Registry(_, blob) => (blob.digest.to_string(), blob.size),
            Self::File(path, digest) => (
                digest
                    .as_ref()
                    .map_or_else(|| format!("sha256:{diff_id}"), Digest::to_string),
                path.metadata().map_or(0, |file| file.len()),
            ),
        }
    }
}

/// What the layers of one image share while they are fetched.
#[derive(Debug)]
pub(crate) struct PullContext {
    /// Limits how many layers are fetched at once.
    slots: Semaphore,
    busy: BusyToken,
    retained: Arc<RetainedPulls>,
    /// Whether ingests that are cut off are retained.
    retain: AtomicBool,
    /// Opened before anything is written.
    disk: Arc<File>,
}

impl PullContext {
    /// A context in which `parallel` layers are fetched at once. The receiver ends when the context and all
    /// its threads have ended.
    pub(crate) fn new(
        parallel: usize,
        retained: Arc<RetainedPulls>,
        disk: Arc<File>,
    ) -> (Self, mpsc::Receiver<()>) {
        let (busy, idle) = mpsc::channel(1);
        let context = Self {
            slots: Semaphore::new(parallel.clamp(1, 64)),
            busy,
            retained,
            retain: AtomicBool::new(false),
            disk,
        };
        (context, idle)
    }

    /// A turn to fetch; it ends when the permit is dropped.
    async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.slots.acquire().await.ok()
    }

    /// From here on ingests that are cut off are retained for a retry.
    pub(crate) fn retain_ingests(&self) {
        self.retain.store(true, Ordering::Release);
    }
}

/// An ingest in the hands of a pull. If it is dropped midway, it is retained if the pull wants that, and
/// discarded otherwise.
struct ActiveIngest<'a> {
    ingest: Option<Ingest>,
    context: &'a PullContext,
}

impl Drop for ActiveIngest<'_> {
    fn drop(&mut self) {
        if self.context.retain.load(Ordering::Acquire) {
            self.retain();
        }
    }
}

impl ActiveIngest<'_> {
    /// Retains the ingest for a retry and returns `true`, if it is worth it. Otherwise it stays here.
    fn retain(&mut self) -> bool {
        let Some(ingest) = self.ingest.take() else {
            return false;
        };
        ingest.detach();
        let refused = self.context.retained.retain_ingest(ingest).err();
        self.ingest = refused.inspect(|ingest| ingest.attach(self.context.busy.clone()));
        self.ingest.is_none()
    }

    async fn finish(mut self) -> Result<Arc<Layer>, ImageError> {
        let Some(ingest) = self.ingest.as_mut() else {
            return Err(stopped());
        };
        let layer = ingest.finish().await;
        // Nothing is left to retain.
        self.ingest = None;
        layer
    }

    /// Sends the bytes of `stream` to the thread, and waits for the layer.
    async fn receive(
        mut self,
        stream: &mut BlobStream,
        remote: &Remote,
        track: &LayerTracker,
    ) -> Result<Arc<Layer>, ImageError> {
        loop {
            let chunk = match stream.chunk().await {
                Err(source) if is_retryable(&source) && self.retain() => return Err(remote.failed(source)),
                chunk => chunk,
            };
            let Some(ingest) = self.ingest.as_mut() else {
                return Err(stopped());
            };
            match chunk {
                Ok(Some(chunk)) => {
                    let length = chunk.len();
                    if !ingest.send(chunk).await {
                        return self.finish().await;
                    }
                    track.add(length);
                    metrics::pulled(length);
                }
                Ok(None) => {
                    ingest.end().await;
                    return self.finish().await;
                }
                Err(source) => {
                    ingest.fail(source).await;
                    return self.finish().await;
                }
            }
        }
    }
}

/// Returns the layer `diff_id` and holds it. It is fetched from `origin` if the store does not have it and no
/// other pull is fetching it from there.
pub(crate) async fn obtain(
    layers: &Layers,
    diff_id: &str,
    origin: &Origin,
    context: &PullContext,
    track: &Arc<LayerTracker>,
) -> Result<Arc<Layer>, ImageError> {
    let (source, mut tries) = (origin.source(), 0);
    let (mut is_shared, bytes) = (false, track.total());
    loop {
        let claim = layers.claim(diff_id, &source);
        if let Claim::Held(layer) = claim {
            track.enter(LayerState::Present);
            let had = match (is_shared, context.retained.has(&layer)) {
                (true, _) => "shared",
                (false, true) => "retained",
                (false, false) => "present",
            };
            metrics::layer(had, bytes);
            return Ok(layer);
        }
        match resume_retained(diff_id, origin, context, track).await {
            Some(Err(ImageError::Overtaken { .. })) => continue,
            Some(Err(error)) if error.is_damage() => {
                tracing::warn!(
                    layer = diff_id,
                    error = chain(&error),
                    "a resumed layer is damaged; fetching it again from its first byte"
                );
                continue;
            }
            Some(resumed) => {
                return resumed.inspect(|_| metrics::layer("retained", bytes));
            }
            None => {}
        }
        match claim {
            Claim::Held(layer) => return Ok(layer),
            Claim::Wait(mut busy) => {
                track.enter(LayerState::Joined);
                is_shared = true;
                // The channel carries no value: its end and every wake-up are the same. If the other pull
                // has failed, this one tries itself, since it may have other credentials.
                drop(busy.changed().await);
            }
            Claim::Fetch(ticket) => {
                track.enter(LayerState::Queued);
                let _slot = context.slot().await;
                track.enter(LayerState::Fetching);
                tries += 1;
                let fetched = match origin {
                    Origin::File(path, digest) => {
                        read_file(ticket, context, path.clone(), digest.clone(), track).await
                    }
                    Origin::Registry(remote, blob) => {
                        let fetched = fetch_blob(ticket, context, remote, blob, track).await;
                        if let Err(error) = &fetched
                            && error.is_damage()
                            && tries < DAMAGE_TRIES
                        {
                            tracing::warn!(
                                layer = diff_id,
                                image = %remote.reference,
                                error = chain(error),
                                "a fetched layer is damaged; fetching it again, from another server if there is one"
                            );
                            continue;
                        }
                        fetched
                    }
                };
                if let Err(ImageError::Overtaken { .. }) = fetched {
                    continue;
                }
                let layer = fetched?;
                track.enter(LayerState::Done);
                let had = match origin {
                    Origin::Registry(..) => "fetched",
                    Origin::File(..) => "imported",
                };
                metrics::layer(had, bytes);
                return Ok(layer);
            }
        }
    }
}

/// Continues the retained ingest of this layer, if there is one.
async fn resume_retained(
    diff_id: &str,
    origin: &Origin,
    context: &PullContext,
    track: &Arc<LayerTracker>,
) -> Option<Result<Arc<Layer>, ImageError>> {
    let Origin::Registry(remote, blob) = origin else {
        // An archive is read from its first byte. A retained ingest of the layer would only block it.
        drop(context.retained.take_ingest(diff_id, None));
        return None;
    };
    let ingest = context.retained.take_ingest(diff_id, Some(&blob.digest))?;
    let layer = resume(ingest, context, remote, blob, track).await;
    if layer.is_ok() {
        track.enter(LayerState::Done);
    }
    Some(layer)
}

async fn fetch_blob(
    ticket: Ticket,
    context: &PullContext,
    remote: &Remote,
    blob: &Descriptor,
    track: &LayerTracker,
) -> Result<Arc<Layer>, ImageError> {
    let mut stream = remote.open(blob, 0).await?;
    let ingest = Ingest::start(
        ticket,
        blob,
        remote.reference.to_string(),
        context.busy.clone(),
        Arc::clone(&context.disk),
    );
    let active = ActiveIngest {
        ingest: Some(ingest),
        context,
    };
    match active.receive(&mut stream, remote, track).await {
        Err(error) if error.is_damage() => {
            let servers = stream.servers();
            remote.client.distrust(&blob.digest, &servers);
            Err(error.delivered_by(&servers))
        }
        layer => layer,
    }
}

/// Continues a retained ingest. If its bytes turn out to be damaged, the server that sent them is not known.
async fn resume(
    ingest: Ingest,
    context: &PullContext,
    remote: &Remote,
    blob: &Descriptor,
    track: &LayerTracker,
) -> Result<Arc<Layer>, ImageError> {
    let (received, complete, disk) = (ingest.received(), ingest.is_complete(), ingest.disk());
    ingest.attach(context.busy.clone());
    let mut active = ActiveIngest {
        ingest: Some(ingest),
        context,
    };
    track.enter(LayerState::Queued);
    track.resume(received);
    let _slot = context.slot().await;
    track.enter(LayerState::Fetching);
    let stream = if complete {
        None
    } else {
        match remote.open(blob, received).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                if error.is_retryable() {
                    active.retain();
                }
                return Err(error);
            }
        }
    };
    tracing::info!(image = %remote.reference, layer = %blob.digest, from = received, "resuming a layer");
    let layer = match stream {
        Some(mut stream) => active.receive(&mut stream, remote, track).await?,
        None => active.finish().await?,
    };
    // The pull's own descriptor was opened after the first bytes were written, so it may miss a failed write.
    blocking(move || {
        let dir = layer.directory();
        pausa_layer::sync_tree(disk.as_fd()).map_err(tree_error("sync", &dir))?;
        Ok(layer)
    })
    .await
}

async fn read_file(
    ticket: Ticket,
    context: &PullContext,
    path: PathBuf,
    digest: Option<Digest>,
    track: &Arc<LayerTracker>,
) -> Result<Arc<Layer>, ImageError> {
    let track = Arc::clone(track);
    let work = move || {
        let input = File::open(&path).map_err(io_error("open", &path))?;
        let size = input.metadata().map_err(io_error("stat", &path))?.len();
        let mut input = TrackedFile { input, track };
        let Some(digest) = digest else {
            return unpack(ticket, &mut input, |_| Ok(()));
        };
        let mut input = VerifyingReader::new(input, digest, size);
        unpack(ticket, &mut input, |input| finish_verified(input, "the archive"))
    };
    UnpackTask::start(context.busy.clone(), work).finish().await
}

/// Reports what is read as progress.
struct TrackedFile {
    input: File,
    track: Arc<LayerTracker>,
}

impl Read for TrackedFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(into)?;
        self.track.add(length);
        Ok(length)
    }
}
