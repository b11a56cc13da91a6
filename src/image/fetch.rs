//! One layer on its way into the store: unpacked while it arrives, verified, moved into place.
//!
//! ```text
//!  registry ─async─▶ bounded channel ─▶ digest ─▶ decompress ─▶ diff id ─▶ untar into staging/   (blocking threads)
//!  file     ───────────────────────────▶   └────────────── both right ──▶ rename to layers/DIFFID
//! ```
//!
//! Nothing of a layer is visible before both digests are known to be right. Whoever gives up, the thread that unpacks removes
//! what there is. Data is not made durable here but once for all layers of an image, before its record.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use pausa_distribution::{self as distribution, Client, Credentials, Descriptor, Digest, Hasher, Reference};
use tokio::sync::{Semaphore, mpsc};

use super::error::{ImageError, io_error};
use super::install::unpack;
use super::layers::{Claim, Layer, Layers, Ticket};
use super::pipe::{Message, pipe};
use super::progress::{LayerState, Track};

/// Where registry blobs come from.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) client: Client,
    pub(super) reference: Reference,
    pub(super) credentials: Credentials,
}

/// Where a layer's blob is.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// In a registry.
    Registry(Arc<Remote>, Descriptor),
    /// In a file, with its digest if that is known.
    File(PathBuf, Option<Digest>),
}

impl Origin {
    /// Digest and size of the blob, for those who watch; `diff_id` stands in for a digest that is not known.
    pub(super) fn blob(&self, diff_id: &str) -> (String, u64) {
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
pub(super) struct Effort {
    /// How many may be fetched at once.
    slots: Semaphore,
    /// Held by every thread at work.
    busy: mpsc::Sender<()>,
}

impl Effort {
    /// For so many at once. The receiver ends when this and all its threads have ended.
    pub(super) fn new(parallel: usize) -> (Self, mpsc::Receiver<()>) {
        let (busy, idle) = mpsc::channel(1);
        let slots = Semaphore::new(parallel.clamp(1, 64));
        (Self { slots, busy }, idle)
    }

    /// Runs `work` on a thread that counts as busy until its result is taken or dropped.
    async fn thread(
        &self,
        work: impl FnOnce() -> Result<Arc<Layer>, ImageError> + Send + 'static,
    ) -> Result<Arc<Layer>, ImageError> {
        let busy = self.busy.clone();
        // In this order in the tuple: a layer nobody takes is given up before the thread stops being busy.
        let (layer, _busy) = blocking("unpacking a layer", move || Ok((work(), busy))).await?;
        layer
    }
}

/// How often a layer is fetched whose bytes turn out to be damaged: once from each of two servers, if there are two.
const DAMAGE_TRIES: usize = 2;

/// Holds the layer `diff_id`, fetched from `origin` if the store does not have it and nobody else is fetching it.
pub(super) async fn obtain(
    layers: &Layers,
    diff_id: &str,
    origin: &Origin,
    effort: &Effort,
    track: &Arc<Track>,
) -> Result<Arc<Layer>, ImageError> {
    let mut tries = 0;
    loop {
        match layers.claim(diff_id) {
            Claim::Held(layer) => {
                track.enter(LayerState::Present);
                return Ok(layer);
            }
            // Ends without a value: only the end counts. Who failed there may have had other credentials, so try here.
            Claim::Wait(mut busy) => {
                track.enter(LayerState::Joined);
                drop(busy.changed().await);
            }
            Claim::Fetch(ticket) => {
                track.enter(LayerState::Queued);
                let _slot = effort.slots.acquire().await;
                track.enter(LayerState::Fetching);
                // Another server may have it whole; a file is what it is.
                let (fetched, other) = match origin {
                    Origin::File(path, digest) => {
                        let read = from_file(ticket, effort, path.clone(), digest.clone(), track);
                        (read.await, false)
                    }
                    Origin::Registry(remote, blob) => {
                        (from_registry(ticket, effort, remote, blob, track).await, true)
                    }
                };
                tries += 1;
                match fetched {
                    Err(error) if other && error.is_damage() && tries < DAMAGE_TRIES => {
                        let error = crate::error::chain(&error);
                        tracing::warn!(diff_id, error, "fetching a damaged layer again");
                    }
                    fetched => {
                        let layer = fetched?;
                        track.enter(LayerState::Done);
                        return Ok(layer);
                    }
                }
            }
        }
    }
}

async fn from_file(
    ticket: Ticket,
    effort: &Effort,
    path: PathBuf,
    digest: Option<Digest>,
    track: &Arc<Track>,
) -> Result<Arc<Layer>, ImageError> {
    let track = Arc::clone(track);
    let work = move || {
        let input = File::open(&path).map_err(io_error("open", &path))?;
        let size = input.metadata().map_err(io_error("stat", &path))?.len();
        let mut input = Counted { input, track };
        let Some(digest) = digest else {
            return unpack(ticket, &mut input, |_| Ok(()));
        };
        let mut input = Verified::new(input, digest, size);
        unpack(ticket, &mut input, |input| input.finish("the archive"))
    };
    effort.thread(work).await
}

async fn from_registry(
    ticket: Ticket,
    effort: &Effort,
    remote: &Remote,
    blob: &Descriptor,
    track: &Track,
) -> Result<Arc<Layer>, ImageError> {
    let name = remote.reference.to_string();
    let failed = |source| ImageError::Fetch {
        reference: remote.reference.to_string(),
        source: Box::new(source),
    };
    let opened = remote
        .client
        .fetch_blob(&remote.reference, blob, 0, &remote.credentials);
    let mut stream = opened.await.map_err(failed)?;
    let servers = stream.servers();
    let (sender, chunks) = pipe::<distribution::Error>();
    let (digest, size) = (blob.digest.clone(), blob.size);
    let unpacked = effort.thread(move || {
        let mut input = Verified::new(chunks, digest, size);
        unpack(ticket, &mut input, |input| match input.inner.failure.take() {
            Some(source) => Err(ImageError::Fetch {
                reference: name.clone(),
                source: Box::new(source),
            }),
            None => input.finish(&name),
        })
    });
    let feed = async move {
        loop {
            let message = match stream.chunk().await {
                Ok(Some(chunk)) => {
                    track.add(chunk.len());
                    Message::Bytes(chunk)
                }
                Ok(None) => Message::End,
                Err(error) => Message::Failed(error),
            };
            let last = !matches!(message, Message::Bytes(_));
            // Nobody listens any more: the unpacking failed and says why.
            if sender.send(message).await.is_err() || last {
                return;
            }
        }
    };
    let ((), layer) = tokio::join!(feed, unpacked);
    match layer {
        Err(error) if error.is_damage() => {
            let servers = servers.list();
            remote.client.distrust(&blob.digest, &servers);
            Err(error.delivered_by(&servers))
        }
        layer => layer,
    }
}

/// Runs `work` where blocking is allowed. It ends even if the caller goes away.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(ImageError::Stopped { doing }),
        },
    }
}

/// Counts what is read.
struct Counted {
    input: File,
    track: Arc<Track>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(into)?;
        self.track.add(length);
        Ok(length)
    }
}

/// Hashes what is read.
struct Verified<R> {
    inner: R,
    hasher: Hasher,
    expected: Digest,
    size: u64,
    seen: u64,
}

impl<R: Read> Verified<R> {
    fn new(inner: R, expected: Digest, size: u64) -> Self {
        Self {
            inner,
            hasher: Hasher::new(expected.algorithm()),
            expected,
            size,
            seen: 0,
        }
    }

    /// Reads the rest, which archives may have, and compares.
    fn finish(&mut self, reference: &str) -> Result<(), ImageError> {
        let failed = |source| ImageError::Fetch {
            reference: reference.to_owned(),
            source: Box::new(source),
        };
        if io::copy(self, &mut io::sink()).is_err() {
            return Err(ImageError::Stopped {
                doing: "fetching a layer",
            });
        }
        if self.seen != self.size {
            return Err(failed(distribution::Error::SizeMismatch {
                digest: self.expected.clone(),
                expected: self.size,
                found: self.seen,
            }));
        }
        let found = self.hasher.clone().finish();
        if found != self.expected {
            return Err(failed(distribution::Error::DigestMismatch {
                expected: self.expected.clone(),
                found,
            }));
        }
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.hasher.update(&into[..length]);
        self.seen += u64::try_from(length).unwrap_or(u64::MAX);
        Ok(length)
    }
}
