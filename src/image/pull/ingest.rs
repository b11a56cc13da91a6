//! An ingest: a layer that is being downloaded and unpacked.
//!
//! ```text
//!  registry ─async─▶ bounded channel ─▶ digest ─▶ decompress ─▶ diff id ─▶ untar into staging/   (blocking thread)
//!                                          └──────── both right ──▶ rename to layers/DIFFID
//! ```
//!
//! The thread does not notice when a download breaks off: it waits for the next byte. A failed ingest can
//! therefore be [retained](super::retained) and continued by another pull; the digests decide at the end.
//! Nothing of a layer is visible before both digests are right. If the ingest is dropped, the thread fails at
//! its next read and removes what it wrote.
//!
//! Data is not made durable here, but once for all layers of an image, before its record is written.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use pausa_distribution::{self as distribution, Descriptor, Digest, VerifyingReader};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::chunk_reader::{Message, chunk_channel};
use super::unpack::unpack;
use crate::image::error::ImageError;
use crate::image::store::layers::{Layer, Ticket};

/// Held by every unpacking thread that a pull has to wait for. The pull waits until all of them are dropped.
pub(crate) type BusyToken = mpsc::Sender<()>;

/// A thread that unpacks a layer.
#[derive(Debug)]
pub(crate) struct UnpackTask {
    thread: JoinHandle<(Result<Arc<Layer>, ImageError>, SharedToken)>,
    busy: SharedToken,
}

/// `None` while no pull waits for the thread.
type SharedToken = Arc<Mutex<Option<BusyToken>>>;

impl UnpackTask {
    /// Runs `work` on a thread that is busy until its result is taken or dropped.
    pub(crate) fn start(
        busy: BusyToken,
        work: impl FnOnce() -> Result<Arc<Layer>, ImageError> + Send + 'static,
    ) -> Self {
        let busy: SharedToken = Arc::new(Mutex::new(Some(busy)));
        let held = Arc::clone(&busy);
        // The order in the tuple matters: a layer that nobody takes is released before the thread stops being
        // busy.
        let thread = tokio::task::spawn_blocking(move || (work(), held));
        Self { thread, busy }
    }

    /// Waits for the result. Must be called only once. A panic of the thread continues here.
    pub(crate) async fn finish(&mut self) -> Result<Arc<Layer>, ImageError> {
        match (&mut self.thread).await {
            Ok((result, _)) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(stopped()),
            },
        }
    }
}

/// Bytes of a layer on their way from a registry to the thread that unpacks them.
#[derive(Debug)]
pub(crate) struct Ingest {
    diff_id: String,
    blob: Digest,
    size: u64,
    received: u64,
    /// `None` once all bytes were sent.
    sender: Option<mpsc::Sender<Message<distribution::Error>>>,
    task: UnpackTask,
    waiters: watch::Sender<()>,
    disk: Arc<File>,
}

impl Ingest {
    /// Starts the thread for the layer of `ticket`, whose blob comes from `reference`. `disk` must have been
    /// opened before anything is written: only then does the kernel report failed writes to it.
    pub(crate) fn start(
        ticket: Ticket,
        blob: &Descriptor,
        reference: String,
        busy: BusyToken,
        disk: Arc<File>,
    ) -> Self {
        let (sender, chunks) = chunk_channel::<distribution::Error>();
        let (digest, size) = (blob.digest.clone(), blob.size);
        let (diff_id, waiters) = (ticket.hex().to_owned(), ticket.waiters());
        let task = UnpackTask::start(busy, move || {
            let mut input = VerifyingReader::new(chunks, digest, size);
            unpack(ticket, &mut input, |input| match input.get_mut().failure.take() {
                Some(source) => Err(ImageError::Fetch {
                    reference: reference.clone(),
                    source: Box::new(source),
                }),
                None => finish_verified(input, &reference),
            })
        });
        Self {
            diff_id,
            blob: blob.digest.clone(),
            size,
            received: 0,
            sender: Some(sender),
            task,
            waiters,
            disk,
        }
    }

    /// Hex digits of the layer's diff id.
    pub(crate) fn diff_id(&self) -> &str {
        &self.diff_id
    }

    /// Digest of the compressed layer.
    pub(crate) fn blob(&self) -> &Digest {
        &self.blob
    }

    /// Size of the compressed layer.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Compressed bytes that the thread has received.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the thread has all bytes.
    pub(crate) fn is_complete(&self) -> bool {
        self.sender.is_none()
    }

    /// Whether the thread has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.sender.as_ref().is_some_and(mpsc::Sender::is_closed)
    }

    pub(crate) fn disk(&self) -> Arc<File> {
        Arc::clone(&self.disk)
    }

    /// Sends a chunk. Returns `false` if the thread has ended; [`finish`](Self::finish) then says why.
    pub(crate) async fn send(&mut self, chunk: Bytes) -> bool {
        let length = u64::try_from(chunk.len()).unwrap_or(0);
        let Some(sender) = &self.sender else { return false };
        if sender.send(Message::Bytes(chunk)).await.is_err() {
            return false;
        }
        self.received += length;
        true
    }

    /// Says that all bytes were sent.
    pub(crate) async fn end(&mut self) {
        if let Some(sender) = &self.sender
            && sender.send(Message::End).await.is_ok()
        {
            self.sender = None;
        }
    }

    /// Says that the download has failed.
    pub(crate) async fn fail(&mut self, error: distribution::Error) {
        if let Some(sender) = &self.sender {
            // If the thread has ended, its own failure came first.
            drop(sender.send(Message::Failed(error)).await);
        }
    }

    /// Waits for the layer. Must be called only once.
    pub(crate) async fn finish(&mut self) -> Result<Arc<Layer>, ImageError> {
        self.task.finish().await
    }

    /// Ends the thread and waits until what it wrote is gone.
    pub(crate) async fn discard(mut self) {
        self.sender = None;
        drop(self.task.thread.await);
    }

    /// No pull waits for the thread any more.
    pub(crate) fn detach(&self) {
        *self.task.busy.lock() = None;
    }

    /// The pull of this token waits for the thread.
    pub(crate) fn attach(&self, busy: BusyToken) {
        *self.task.busy.lock() = Some(busy);
    }

    /// Wakes the pulls that wait for the layer.
    pub(crate) fn wake_waiters(&self) {
        self.waiters.send_replace(());
    }
}

pub(crate) fn stopped() -> ImageError {
    ImageError::Stopped {
        doing: "fetching a layer",
    }
}

/// Reads the rest (archives may have bytes after their end mark) and compares size and digest.
pub(super) fn finish_verified(
    input: &mut VerifyingReader<impl Read>,
    reference: &str,
) -> Result<(), ImageError> {
    if io::copy(input, &mut io::sink()).is_err() {
        return Err(stopped());
    }
    input.verify().map_err(|source| ImageError::Fetch {
        reference: reference.to_owned(),
        source: Box::new(source),
    })
}
