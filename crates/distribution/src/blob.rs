//! A blob as a stream that mends itself.
//!
//! ```text
//!  open ──answer──▶ flowing ──all bytes──▶ done
//!   ▲                  │ break, stall, early end, wrong range
//!   └──Range: at──── failed ──budget spent, nobody left──▶ error, and nothing after it
//! ```
//!
//! Invariants: bytes come out in order, none twice, none missing, never more than the descriptor's size. Whether they are the
//! right ones only their digest can tell, and that is [`VerifyingReader`](crate::VerifyingReader)'s work.
//! The consumer's own slowness never counts as a stall: time runs only while a byte is awaited.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use reqwest::{Method, StatusCode};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::body::Body;
use crate::client::{Client, current};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::retry::Failover;
use crate::transport::{self, Ask, Route};

#[cfg(test)]
mod tests;

/// So many bytes since the last break show that the connection is worth another full budget of retries.
const PROGRESS: u64 = 1024 * 1024;

/// The bytes of a blob as they arrive. Dropping it ends the transfer.
pub struct BlobStream {
    chunks: BoxStream<'static, Result<Bytes, Error>>,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobStream")
    }
}

impl BlobStream {
    pub(crate) async fn open(
        client: Client,
        failover: Failover,
        reference: Reference,
        descriptor: &Descriptor,
        offset: u64,
        credentials: Credentials,
    ) -> Result<Self, Error> {
        let (digest, size) = (descriptor.digest.clone(), descriptor.size);
        if offset > size {
            return Err(Error::SizeMismatch {
                digest,
                expected: size,
                found: offset,
            });
        }
        let mut download = Download {
            client,
            failover,
            reference,
            credentials,
            digest,
            size,
            position: offset,
            broken_at: offset,
            whole: false,
            delivery: None,
        };
        // Opened here, so that a missing blob is the caller's error and not the first read's.
        if offset < size {
            download.connect().await?;
        }
        let chunks = stream::try_unfold(download, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        });
        Ok(Self {
            chunks: chunks.boxed(),
        })
    }

    /// The next bytes; `None` when all have come.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.chunks.next().await.transpose()
    }

    /// The same as a reader. Its errors wrap an [`Error`].
    pub fn into_reader(self) -> impl AsyncRead + Send + Unpin + 'static {
        StreamReader::new(self.chunks.map(|chunk| chunk.map_err(io::Error::from)))
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(cx)
    }
}

struct Delivery {
    body: Body,
    /// Bytes to throw away first, where the server ignored the range.
    skip: u64,
}

struct Download {
    client: Client,
    failover: Failover,
    reference: Reference,
    credentials: Credentials,
    digest: Digest,
    size: u64,
    /// The next byte the consumer gets.
    position: u64,
    /// Where the last break was.
    broken_at: u64,
    /// The current endpoint refused a range: ask for everything and skip.
    whole: bool,
    delivery: Option<Delivery>,
}

impl Download {
    /// The next piece for the consumer.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.position < self.size {
            if self.delivery.is_none() {
                self.connect().await?;
            }
            match self.read().await {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => {}
                Err(error) => self.broke(error).await?,
            }
        }
        Ok(None)
    }

    /// Asks until some endpoint begins to deliver from `position`.
    async fn connect(&mut self) -> Result<(), Error> {
        loop {
            let route = current(&self.failover, &self.reference)?;
            match self.request(&route).await {
                Ok(delivery) => {
                    self.delivery = Some(delivery);
                    return Ok(());
                }
                Err(Error::Status { status: 416, .. }) if !self.whole && self.position > 0 => {
                    self.whole = true;
                }
                Err(error) => self.broke(error).await?,
            }
        }
    }

    async fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.delivery = None;
        self.whole = false;
        if self.position - self.broken_at >= PROGRESS {
            self.failover.progressed();
        }
        self.broken_at = self.position;
        self.failover.failed(error).await
    }

    async fn request(&self, route: &Route) -> Result<Delivery, Error> {
        let from = (self.position > 0 && !self.whole).then_some(self.position);
        let ask = Ask {
            method: Method::GET,
            tail: format!("blobs/{}", self.digest),
            accept: None,
            from,
        };
        let target = ask.target(route);
        let response = transport::ask(route, &ask, &self.client.inner.tokens, &self.credentials).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let skip = match (partial, from) {
            (true, Some(from)) => {
                let range = content_range(response.headers()).filter(|range| range.first == from);
                let range = range.ok_or_else(|| Error::Answer {
                    target: target.clone(),
                    reason: "its Content-Range is not the range asked for",
                })?;
                self.check_size(range.total.unwrap_or(self.size))?;
                0
            }
            (true, None) => {
                let reason = "it is a part where the whole was asked for";
                return Err(Error::Answer { target, reason });
            }
            (false, _) => {
                self.check_size(response.content_length().unwrap_or(self.size))?;
                self.position
            }
        };
        Ok(Delivery {
            body: Body::new(response, target, route.stall),
            skip,
        })
    }

    fn check_size(&self, found: u64) -> Result<(), Error> {
        if found == self.size {
            return Ok(());
        }
        Err(Error::SizeMismatch {
            digest: self.digest.clone(),
            expected: self.size,
            found,
        })
    }

    /// The next piece from the open body; `None` where it held nothing for the consumer.
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(delivery) = self.delivery.as_mut() else {
            return Ok(None);
        };
        let Some(mut chunk) = delivery.body.chunk().await? else {
            let target = delivery.body.target().clone();
            return Err(Error::Ended {
                target,
                at: self.position,
                size: self.size,
            });
        };
        if delivery.skip > 0 {
            let skipped = delivery.skip.min(length(&chunk));
            delivery.skip -= skipped;
            chunk.advance(usize::try_from(skipped).unwrap_or(chunk.len()));
        }
        if chunk.is_empty() {
            return Ok(None);
        }
        let end = self.position + length(&chunk);
        if end > self.size {
            return Err(Error::SizeMismatch {
                digest: self.digest.clone(),
                expected: self.size,
                found: end,
            });
        }
        if end == self.size {
            self.finish().await?;
        }
        self.position = end;
        Ok(Some(chunk))
    }

    /// After the last byte there must be none. Answers without a length are the ones that can surprise here.
    async fn finish(&mut self) -> Result<(), Error> {
        let Some(mut delivery) = self.delivery.take() else {
            return Ok(());
        };
        while let Ok(Some(chunk)) = delivery.body.chunk().await {
            if !chunk.is_empty() {
                let found = self.size + length(&chunk);
                return Err(Error::SizeMismatch {
                    digest: self.digest.clone(),
                    expected: self.size,
                    found,
                });
            }
        }
        Ok(())
    }
}

fn length(chunk: &Bytes) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    total: Option<u64>,
}

/// `bytes 10-99/100` (RFC 9110, section 14.4); the total may be `*`.
fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = if total == "*" {
        None
    } else {
        Some(total.trim().parse().ok()?)
    };
    (first <= last).then_some(ContentRange { first, total })
}
