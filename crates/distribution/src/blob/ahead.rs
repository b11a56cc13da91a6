//! Parts of a large blob fetched ahead of their turn, each over a request of its own.
//!
//! ```text
//!   consumer ◀── head (streamed) │ part │ part │ part      at most `at_once` requests for a blob, the head with them
//!                                └── in memory, at most `in_memory` parts for all blobs of a client ──┘
//! ```
//!
//! One connection is often limited by its round trip or by the store behind the registry; several are not. Parts are tried
//! once: whatever goes wrong with one is the download's affair, which goes on alone from where it is.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::length;
use super::range::content_range;
use crate::body::Body;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::transport::{self, Ask, Route};

/// How large blobs are fetched.
#[derive(Clone, Copy, Debug)]
pub struct RangePolicy {
    /// Blobs with so many bytes still to come are fetched in parts.
    pub from_size: u64,
    /// Bytes of a part.
    pub part: u64,
    /// Requests for one blob at the same time; 1 fetches nothing ahead.
    pub at_once: usize,
    /// Parts in memory, for all blobs of a client.
    pub in_memory: usize,
}

impl Default for RangePolicy {
    fn default() -> Self {
        Self {
            from_size: 32 * 1024 * 1024,
            part: 4 * 1024 * 1024,
            at_once: 4,
            in_memory: 8,
        }
    }
}

/// A part on its way.
pub(super) struct Part {
    pub(super) first: u64,
    /// The byte after its last.
    pub(super) end: u64,
    chunks: mpsc::UnboundedReceiver<Result<Bytes, Error>>,
    task: JoinHandle<()>,
    /// Given back when the part is consumed or dropped.
    _room: OwnedSemaphorePermit,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Part {
    /// The next piece; `None` after the last one, which the caller must check.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.chunks.recv().await.transpose()
    }
}

/// The parts of one blob, in order.
#[derive(Default)]
pub(super) struct Ahead {
    parts: VecDeque<Part>,
}

/// What all parts of a blob have in common.
pub(super) struct Whole {
    pub(super) client: Client,
    pub(super) route: Arc<Route>,
    pub(super) credentials: Credentials,
    pub(super) tail: String,
    pub(super) size: u64,
}

impl Ahead {
    pub(super) fn clear(&mut self) {
        self.parts.clear();
    }

    /// The part that begins at `position`, if it is on its way.
    pub(super) fn take(&mut self, position: u64) -> Option<Part> {
        self.parts.pop_front().filter(|part| part.first == position)
    }

    /// Starts parts behind `end`, as many as policy and memory allow.
    pub(super) fn fill(&mut self, whole: &Arc<Whole>, end: u64) {
        let policy = whole.client.ranges();
        let mut first = self.parts.back().map_or(end, |part| part.end);
        while self.parts.len() + 1 < policy.at_once && first < whole.size {
            let Ok(room) = Arc::clone(whole.client.room()).try_acquire_owned() else {
                return;
            };
            let end = first.saturating_add(policy.part).min(whole.size);
            let (sender, chunks) = mpsc::unbounded_channel();
            let task = tokio::spawn(deliver(Arc::clone(whole), first, end, sender));
            self.parts.push_back(Part {
                first,
                end,
                chunks,
                task,
                _room: room,
            });
            first = end;
        }
    }
}

/// Room for the parts of a client.
pub(crate) fn room(policy: &RangePolicy) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(policy.in_memory))
}

async fn deliver(
    whole: Arc<Whole>,
    first: u64,
    end: u64,
    sender: mpsc::UnboundedSender<Result<Bytes, Error>>,
) {
    if let Err(error) = copy(&whole, first, end, &sender).await {
        // Without a receiver the part is not wanted any more.
        drop(sender.send(Err(error)));
    }
}

async fn copy(
    whole: &Whole,
    first: u64,
    end: u64,
    sender: &mpsc::UnboundedSender<Result<Bytes, Error>>,
) -> Result<(), Error> {
    let ask = Ask {
        method: Method::GET,
        tail: whole.tail.clone(),
        accept: None,
        from: Some(first),
        until: Some(end),
    };
    let target = ask.target(&whole.route);
    let tokens = &whole.client.inner.tokens;
    let response = transport::ask(&whole.route, &ask, tokens, &whole.credentials).await?;
    let range = content_range(response.headers());
    let right = range.is_some_and(|range| range.is(first, end, whole.size));
    if response.status() != StatusCode::PARTIAL_CONTENT || !right {
        let reason = "its Content-Range is not the range asked for";
        return Err(Error::Answer { target, reason });
    }
    let mut body = Body::new(response, target, whole.route.stall);
    let mut at = first;
    while at < end {
        let Some(chunk) = body.chunk().await? else {
            return Err(Error::Ended {
                target: body.target().clone(),
                at,
                size: end,
            });
        };
        at += length(&chunk);
        if at > end {
            return Err(Error::Answer {
                target: body.target().clone(),
                reason: "it is longer than its Content-Range says",
            });
        }
        if sender.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
