//! Parts of a large blob fetched ahead of their turn, each by a request of its own.
//!
//! ```text
//!   consumer ◀── head (streamed) │ part │ part │ part      at most `at_once` requests for a blob, the head with them
//!                                └── in memory, at most `in_memory` parts for all blobs of a client ──┘
//! ```
//!
//! One connection is often limited by its round trip or by the storage behind the registry; several are not. Each part is tried
//! once: after any failure the download continues from its position with one request at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
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
pub(crate) struct RangePolicy {
    /// Blobs with at least this many bytes to come are fetched in parts.
    pub(crate) from_size: u64,
    /// Bytes of a part.
    pub(crate) part: u64,
    /// Concurrent requests for one blob; 1 fetches nothing ahead.
    pub(crate) at_once: usize,
    /// Parts in memory, for all blobs of a client.
    pub(crate) in_memory: usize,
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

/// A part that is being fetched.
pub(super) struct Part {
    pub(super) first: u64,
    /// The byte after its last.
    pub(super) end: u64,
    chunks: mpsc::UnboundedReceiver<Result<Bytes, Error>>,
    task: JoinHandle<()>,
    /// Released when the part is dropped.
    _permit: OwnedSemaphorePermit,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Part {
    /// The next piece; `None` after the last one. The caller checks that the part is complete.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.chunks.recv().await.transpose()
    }
}

/// The parts of one blob, in order.
#[derive(Default)]
pub(super) struct Ahead {
    parts: VecDeque<Part>,
}

/// What all parts of a blob share.
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

    /// The part that begins at `position`, if it is being fetched.
    pub(super) fn take(&mut self, position: u64) -> Option<Part> {
        self.parts.pop_front().filter(|part| part.first == position)
    }

    /// Starts to fetch parts from `end` on, as many as the policy allows.
    pub(super) fn fill(&mut self, whole: &Arc<Whole>, end: u64) {
        let policy = whole.client.ranges();
        let mut first = self.parts.back().map_or(end, |part| part.end);
        while self.parts.len() + 1 < policy.at_once && first < whole.size {
            let Ok(permit) = Arc::clone(whole.client.part_permits()).try_acquire_owned() else {
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
                _permit: permit,
            });
            first = end;
        }
    }
}

async fn deliver(
    whole: Arc<Whole>,
    first: u64,
    end: u64,
    sender: mpsc::UnboundedSender<Result<Bytes, Error>>,
) {
    if let Err(error) = copy(&whole, first, end, &sender).await {
        // Without a receiver the part has been dropped.
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
                reason: "it is longer than its Content-Range",
            });
        }
        if sender.send(Ok(chunk)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
