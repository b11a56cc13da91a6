//! A layer's bytes on their way from a registry to the thread that unpacks them, and what becomes of both when no more come.
//!
//! ```text
//!           ┌────────── a pull of the same blob ──────────┐
//!           ▼                                             │
//!  fetch ─▶ feeding ── the registry fails, or the pull ─▶ kept (shelf) ── given up ──▶ the thread cleans up
//!           └── all bytes came ──▶ unpacked, verified
//! ```
//!
//! The thread notices nothing of a break: it waits for the next byte. Whoever sends it, the digests decide at the end.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use pausa_distribution::{self as distribution, BlobStream, Descriptor, Digest, VerifyingReader};
use tokio::sync::{mpsc, watch};

use crate::image::error::{ImageError, is_retryable};
use crate::image::pull::chunk_reader::{Message, chunk_channel};
use crate::image::pull::fetch::{PullContext, Remote, UnpackTask, blocking, finish_verified};
use crate::image::pull::progress::{LayerState, LayerTracker};
use crate::image::pull::unpack::unpack;
use crate::image::store::layers::{Layer, Ticket};
use crate::telemetry::metrics;

type Sender = mpsc::Sender<Message<distribution::Error>>;

/// A thread that unpacks a layer, and the way to feed it.
#[derive(Debug)]
pub(crate) struct Ingest {
    diff_id: String,
    blob: Digest,
    size: u64,
    /// Bytes it got.
    done: u64,
    /// None when it got all of them.
    sender: Option<Sender>,
    work: UnpackTask,
    /// Wakes those who wait for the layer.
    bell: watch::Sender<()>,
    /// Opened before its first byte was written: tells of writes that failed.
    disk: Arc<File>,
}

impl Ingest {
    pub(crate) fn diff_id(&self) -> &str {
        &self.diff_id
    }

    /// The digest of what it is fed with.
    pub(crate) fn blob(&self) -> &Digest {
        &self.blob
    }

    /// Bytes it got.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// Bytes there are.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn bell(&self) -> watch::Sender<()> {
        self.bell.clone()
    }

    /// Whether the thread has given up by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.sender.as_ref().is_some_and(mpsc::Sender::is_closed)
    }

    /// Ends the thread and waits until what it wrote is gone.
    pub(crate) async fn give_up(mut self) {
        self.sender = None;
        self.work.give_up().await;
    }
}

/// A feed in the hands of a pull. Dropped in the middle, it is kept if the pull wants that, else given up.
struct ActiveIngest<'a> {
    feed: Option<Ingest>,
    effort: &'a PullContext,
}

impl Drop for ActiveIngest<'_> {
    fn drop(&mut self) {
        if self.effort.keeps() {
            self.keep();
        }
    }
}

impl ActiveIngest<'_> {
    /// Keeps the stream for a retry, if it is worth it. What is not stays here.
    fn keep(&mut self) -> bool {
        let Some(feed) = self.feed.take() else {
            return false;
        };
        feed.work.detach();
        let refused = self.effort.shelf().retain(feed).err();
        self.feed = refused.inspect(|feed| feed.work.attach(self.effort));
        self.feed.is_none()
    }

    /// Waits for the thread.
    async fn finish(mut self) -> Result<Arc<Layer>, ImageError> {
        let Some(feed) = self.feed.as_mut() else {
            return Err(stopped());
        };
        let layer = feed.work.finish().await;
        // There is nothing left to keep.
        self.feed = None;
        layer
    }
}

fn stopped() -> ImageError {
    ImageError::Stopped {
        doing: "fetching a layer",
    }
}

/// Fetches a layer from its first byte on.
pub(crate) async fn fetch(
    ticket: Ticket,
    effort: &PullContext,
    remote: &Remote,
    blob: &Descriptor,
    track: &LayerTracker,
) -> Result<Arc<Layer>, ImageError> {
    let name = remote.reference.to_string();
    let mut stream = open(remote, blob, 0).await?;
    let (sender, chunks) = chunk_channel::<distribution::Error>();
    let (digest, size) = (blob.digest.clone(), blob.size);
    let (diff_id, bell) = (ticket.hex().to_owned(), ticket.bell());
    let work = effort.start(move || {
        let mut input = VerifyingReader::new(chunks, digest, size);
        unpack(ticket, &mut input, |input| match input.get_mut().failure.take() {
            Some(source) => Err(ImageError::Fetch {
                reference: name.clone(),
                source: Box::new(source),
            }),
            None => finish_verified(input, &name),
        })
    });
    let feed = Ingest {
        diff_id,
        blob: blob.digest.clone(),
        size,
        done: 0,
        sender: Some(sender),
        work,
        bell,
        disk: effort.disk(),
    };
    let feeding = ActiveIngest {
        feed: Some(feed),
        effort,
    };
    match run(feeding, Some(&mut stream), remote, track).await {
        Err(error) if error.is_damage() => {
            let servers = stream.servers();
            remote.client.distrust(&blob.digest, &servers);
            Err(error.delivered_by(&servers))
        }
        layer => layer,
    }
}

/// Goes on with a feed that was kept. If its bytes turn out to be damaged, nobody knows who sent the wrong ones.
pub(crate) async fn resume(
    feed: Ingest,
    effort: &PullContext,
    remote: &Remote,
    blob: &Descriptor,
    track: &LayerTracker,
) -> Result<Arc<Layer>, ImageError> {
    let (done, disk) = (feed.done, Arc::clone(&feed.disk));
    feed.work.attach(effort);
    let missing = feed.sender.is_some();
    let mut feeding = ActiveIngest {
        feed: Some(feed),
        effort,
    };
    track.enter(LayerState::Queued);
    track.resume(done);
    let _slot = effort.slot().await;
    track.enter(LayerState::Fetching);
    let mut stream = match missing {
        false => None,
        true => match open(remote, blob, done).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                if error.is_retryable() {
                    feeding.keep();
                }
                return Err(error);
            }
        },
    };
    tracing::info!(layer = blob.digest.to_string(), from = done, "resuming a layer");
    let layer = run(feeding, stream.as_mut(), remote, track).await?;
    blocking("making a layer durable", move || {
        pausa_layer::sync_tree(disk.as_fd()).map_err(|source| ImageError::Unpack {
            diff_id: format!("sha256:{}", layer.record().diff_id),
            source: Box::new(source),
        })?;
        Ok(layer)
    })
    .await
}

async fn open(remote: &Remote, blob: &Descriptor, from: u64) -> Result<BlobStream, ImageError> {
    let opened = remote
        .client
        .fetch_blob(&remote.reference, blob, from, &remote.credentials);
    opened.await.map_err(|source| fetch_error(remote, source))
}

fn fetch_error(remote: &Remote, source: distribution::Error) -> ImageError {
    ImageError::Fetch {
        reference: remote.reference.to_string(),
        source: Box::new(source),
    }
}

/// Sends what comes from `stream`, and waits for the thread.
async fn run(
    mut feeding: ActiveIngest<'_>,
    stream: Option<&mut BlobStream>,
    remote: &Remote,
    track: &LayerTracker,
) -> Result<Arc<Layer>, ImageError> {
    let Some(stream) = stream else {
        return feeding.finish().await;
    };
    loop {
        let message = match stream.chunk().await {
            Ok(Some(chunk)) => Message::Bytes(chunk),
            Ok(None) => Message::End,
            Err(source) if is_retryable(&source) && feeding.keep() => {
                return Err(fetch_error(remote, source));
            }
            Err(source) => Message::Failed(source),
        };
        let length = match &message {
            Message::Bytes(chunk) => chunk.len(),
            Message::End | Message::Failed(_) => 0,
        };
        let last = matches!(message, Message::End);
        let Some(feed) = feeding.feed.as_mut() else {
            return Err(stopped());
        };
        let Some(sender) = &feed.sender else {
            return feeding.finish().await;
        };
        let failed = matches!(message, Message::Failed(_));
        // Nobody listens any more: the unpacking failed and says why.
        if sender.send(message).await.is_err() || failed {
            return feeding.finish().await;
        }
        if last {
            feed.sender = None;
        }
        feed.done += u64::try_from(length).unwrap_or(0);
        track.add(length);
        metrics::pulled(length);
    }
}
