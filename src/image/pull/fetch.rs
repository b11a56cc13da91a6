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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pausa_distribution::{Client, Credentials, Descriptor, Digest, Reference, VerifyingReader};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::{JoinError, JoinHandle};

use crate::image::error::{ImageError, io_error};
use crate::image::pull::ingest;
use crate::image::pull::progress::{LayerState, LayerTracker};
use crate::image::pull::retained::RetainedPulls;
use crate::image::pull::unpack::unpack;
use crate::image::store::layers::{Claim, Layer, Layers, Ticket};

/// Where registry blobs come from.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) client: Client,
    pub(crate) reference: Reference,
    pub(crate) credentials: Credentials,
}

/// Where a layer's blob is.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// In a registry.
    Registry(Arc<Remote>, Descriptor),
    /// In a file, with its digest if that is known.
    File(PathBuf, Option<Digest>),
}

impl Origin {
    /// Digest and size of the blob, for those who watch; `diff_id` stands in for a digest that is not known.
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
    /// How many may be fetched at once.
    slots: Semaphore,
    /// Held by every thread at work.
    busy: mpsc::Sender<()>,
    /// For what is not finished.
    shelf: Arc<RetainedPulls>,
    /// Whether streams that are cut off are kept there.
    keep: AtomicBool,
    /// Opened before anything is written.
    disk: Arc<File>,
}

impl PullContext {
    /// For so many at once. The receiver ends when this and all its threads have ended.
    pub(crate) fn new(
        parallel: usize,
        shelf: Arc<RetainedPulls>,
        disk: Arc<File>,
    ) -> (Self, mpsc::Receiver<()>) {
        let (busy, idle) = mpsc::channel(1);
        let slots = Semaphore::new(parallel.clamp(1, 64));
        let effort = Self {
            slots,
            busy,
            shelf,
            keep: AtomicBool::new(false),
            disk,
        };
        (effort, idle)
    }

    /// A turn to fetch; it ends when this is dropped.
    pub(crate) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.slots.acquire().await.ok()
    }

    pub(crate) fn shelf(&self) -> &RetainedPulls {
        &self.shelf
    }

    pub(crate) fn disk(&self) -> Arc<File> {
        Arc::clone(&self.disk)
    }

    /// From here on streams that are cut off are kept for another try.
    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::Release);
    }

    pub(crate) fn keeps(&self) -> bool {
        self.keep.load(Ordering::Acquire)
    }

    /// Runs `work` on a thread that counts as busy until its result is taken or dropped.
    pub(crate) fn start(
        &self,
        work: impl FnOnce() -> Result<Arc<Layer>, ImageError> + Send + 'static,
    ) -> UnpackTask {
        let busy: BusyToken = Arc::new(Mutex::new(Some(self.busy.clone())));
        let held = Arc::clone(&busy);
        // In this order in the tuple: a layer nobody takes is given up before the thread stops being busy.
        let thread = tokio::task::spawn_blocking(move || (work(), held));
        UnpackTask { thread, busy }
    }
}

/// What a thread holds while its pull has to wait for it.
type BusyToken = Arc<Mutex<Option<mpsc::Sender<()>>>>;

/// A thread at work on a layer.
#[derive(Debug)]
pub(crate) struct UnpackTask {
    thread: JoinHandle<(Result<Arc<Layer>, ImageError>, BusyToken)>,
    busy: BusyToken,
}

impl UnpackTask {
    /// Waits for the result; to be called once.
    pub(crate) async fn finish(&mut self) -> Result<Arc<Layer>, ImageError> {
        ended("unpacking a layer", (&mut self.thread).await)?.0
    }

    /// Waits for the end, whatever it is.
    pub(crate) async fn give_up(self) {
        drop(self.thread.await);
    }

    /// No pull waits for it any more.
    pub(crate) fn detach(&self) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// This pull waits for it.
    pub(crate) fn attach(&self, effort: &PullContext) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = Some(effort.busy.clone());
    }
}

/// How often a layer is fetched whose bytes turn out to be damaged: once from each of two servers, if there are two.
const DAMAGE_TRIES: usize = 2;

/// Holds the layer `diff_id`, fetched from `origin` if the store does not have it and nobody else is fetching it.
pub(crate) async fn obtain(
    layers: &Layers,
    diff_id: &str,
    origin: &Origin,
    effort: &PullContext,
    track: &Arc<LayerTracker>,
) -> Result<Arc<Layer>, ImageError> {
    let mut tries = 0;
    loop {
        match layers.claim(diff_id) {
            Claim::Held(layer) => {
                track.enter(LayerState::Present);
                return Ok(layer);
            }
            // Ends without a value: only the end counts. Who failed there may have had other credentials, so try here.
            Claim::Wait(mut busy) => match from_shelf(diff_id, origin, effort, track).await {
                Some(Err(error)) if error.is_damage() => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(diff_id, error, "fetching a resumed layer from its beginning");
                }
                Some(resumed) => return resumed,
                None => {
                    track.enter(LayerState::Joined);
                    drop(busy.changed().await);
                }
            },
            Claim::Fetch(ticket) => {
                track.enter(LayerState::Queued);
                let _slot = effort.slot().await;
                track.enter(LayerState::Fetching);
                // Another server may have it whole; a file is what it is.
                let (fetched, other) = match origin {
                    Origin::File(path, digest) => {
                        let read = from_file(ticket, effort, path.clone(), digest.clone(), track);
                        (read.await, false)
                    }
                    Origin::Registry(remote, blob) => {
                        (ingest::fetch(ticket, effort, remote, blob, track).await, true)
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

/// Goes on with what a failed pull has left of this layer, if there is something.
async fn from_shelf(
    diff_id: &str,
    origin: &Origin,
    effort: &PullContext,
    track: &Arc<LayerTracker>,
) -> Option<Result<Arc<Layer>, ImageError>> {
    let Origin::Registry(remote, blob) = origin else {
        // An archive is read from its beginning: whatever is kept is in its way.
        drop(effort.shelf.resume(diff_id, None));
        return None;
    };
    let feed = effort.shelf.resume(diff_id, Some(&blob.digest))?;
    let layer = ingest::resume(feed, effort, remote, blob, track).await;
    if layer.is_ok() {
        track.enter(LayerState::Done);
    }
    Some(layer)
}

async fn from_file(
    ticket: Ticket,
    effort: &PullContext,
    path: PathBuf,
    digest: Option<Digest>,
    track: &Arc<LayerTracker>,
) -> Result<Arc<Layer>, ImageError> {
    let track = Arc::clone(track);
    let work = move || {
        let input = File::open(&path).map_err(io_error("open", &path))?;
        let size = input.metadata().map_err(io_error("stat", &path))?.len();
        let mut input = Counted { input, track };
        let Some(digest) = digest else {
            return unpack(ticket, &mut input, |_| Ok(()));
        };
        let mut input = VerifyingReader::new(input, digest, size);
        unpack(ticket, &mut input, |input| finish_verified(input, "the archive"))
    };
    effort.start(work).finish().await
}

/// Runs `work` where blocking is allowed. It ends even if the caller goes away.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    ended(doing, tokio::task::spawn_blocking(work).await)?
}

/// The result of a thread. Its panic goes on here.
fn ended<T>(doing: &'static str, result: Result<T, JoinError>) -> Result<T, ImageError> {
    result.or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(ImageError::Stopped { doing }),
    })
}

/// Counts what is read.
struct Counted {
    input: File,
    track: Arc<LayerTracker>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(into)?;
        self.track.add(length);
        Ok(length)
    }
}

/// Reads `input` to its end, as archives may have trailing data, and compares digest and size.
pub(crate) fn finish_verified<R: Read>(
    input: &mut VerifyingReader<R>,
    reference: &str,
) -> Result<(), ImageError> {
    if io::copy(input, &mut io::sink()).is_err() {
        return Err(ImageError::Stopped {
            doing: "fetching a layer",
        });
    }
    input.verify().map_err(|source| ImageError::Fetch {
        reference: reference.to_owned(),
        source: Box::new(source),
    })
}
