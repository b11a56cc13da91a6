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
//!
//! A large blob is asked for in parts. A server that answers the first with a part gets the next ones at the same time
//! ([`ahead`]); one that answers with the whole is read to its end.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use reqwest::{Method, StatusCode};
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use crate::body::Body;
use crate::client::{Client, current};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, Target};
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::retry::Failover;
use crate::transport::{self, Ask, Route};

pub(crate) mod ahead;
mod range;
mod servers;

#[cfg(test)]
mod tests;

use ahead::{Ahead, Part, Whole};
use range::content_range;
pub use servers::Servers;

/// So many bytes since the last break show that the connection is worth another full budget of retries.
const PROGRESS: u64 = 1024 * 1024;

/// The bytes of a blob as they arrive. Dropping it ends the transfer.
pub struct BlobStream {
    chunks: BoxStream<'static, Result<Bytes, Error>>,
    servers: Servers,
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
        let servers = Servers::default();
        let mut download = Download {
            servers: servers.clone(),
            client,
            failover,
            reference,
            credentials,
            digest,
            size,
            position: offset,
            broken_at: offset,
            whole: false,
            alone: false,
            ahead: Ahead::default(),
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
            servers,
        })
    }

    /// Who delivers, for [`Client::distrust`] when the bytes turn out to be wrong.
    pub fn servers(&self) -> Servers {
        self.servers.clone()
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

/// Where bytes come from just now.
enum Delivery {
    /// An answer's body up to `end`.
    Body {
        body: Box<Body>,
        /// Bytes to throw away first, where the server ignored the range.
        skip: u64,
        end: u64,
    },
    /// A part that was fetched ahead.
    Part(Part),
}

impl Delivery {
    fn end(&self) -> u64 {
        match self {
            Self::Body { end, .. } => *end,
            Self::Part(part) => part.end,
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Body { body, .. } => body.chunk().await,
            Self::Part(part) => part.chunk().await,
        }
    }

    /// Shortens `chunk` by what the consumer has already.
    fn skip(&mut self, chunk: &mut Bytes) {
        if let Self::Body { skip, .. } = self {
            let skipped = length(chunk).min(*skip);
            *skip -= skipped;
            chunk.advance(usize::try_from(skipped).unwrap_or(chunk.len()));
        }
    }
}

struct Download {
    servers: Servers,
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
    /// Something went wrong: no more parts ahead of their turn.
    alone: bool,
    ahead: Ahead,
    delivery: Option<Delivery>,
}

impl Download {
    /// The next piece for the consumer.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.position < self.size {
            if self.delivery.is_none() {
                match self.ahead.take(self.position) {
                    Some(part) => self.begin(Delivery::Part(part)),
                    None => self.connect().await?,
                }
            }
            match self.read().await {
                Ok(Some(chunk)) => return Ok(Some(chunk)),
                Ok(None) => {}
                // A part is tried once, and only the endpoint itself is judged by its errors.
                Err(_) if matches!(self.delivery, Some(Delivery::Part(_))) => self.go_alone(),
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
                    self.begin(delivery);
                    return Ok(());
                }
                Err(Error::Status { status: 416, .. }) if !self.whole => {
                    self.whole = true;
                }
                // Ranges that nobody needs must not fail a download.
                Err(Error::Answer { .. }) if self.until().is_some() => self.go_alone(),
                Err(error) => self.broke(error).await?,
            }
        }
    }

    /// From here on one request after the other.
    fn go_alone(&mut self) {
        self.delivery = None;
        self.ahead.clear();
        self.alone = true;
    }

    /// Goes on with `delivery`, and fetches ahead of it what it does not bring.
    fn begin(&mut self, delivery: Delivery) {
        let end = delivery.end();
        self.delivery = Some(delivery);
        if end == self.size || self.alone {
            return;
        }
        if let Some(route) = self.failover.current() {
            let whole = Whole {
                client: self.client.clone(),
                route,
                credentials: self.credentials.clone(),
                tail: format!("blobs/{}", self.digest),
                size: self.size,
            };
            self.ahead.fill(&Arc::new(whole), end);
        }
    }

    async fn broke(&mut self, error: Error) -> Result<(), Error> {
        self.go_alone();
        self.whole = false;
        if self.position - self.broken_at >= PROGRESS {
            self.failover.progressed();
        }
        self.broken_at = self.position;
        self.failover.failed(error).await
    }

    /// The end of the range to ask for, where the rest is worth several requests.
    fn until(&self) -> Option<u64> {
        let policy = self.client.ranges();
        let large = self.size - self.position >= policy.from_size.max(policy.part.saturating_add(1));
        (large && policy.at_once > 1 && !self.whole && !self.alone)
            .then(|| self.position.saturating_add(policy.part))
    }

    async fn request(&self, route: &Route) -> Result<Delivery, Error> {
        let until = self.until();
        let from = ((self.position > 0 || until.is_some()) && !self.whole).then_some(self.position);
        let ask = Ask {
            method: Method::GET,
            tail: format!("blobs/{}", self.digest),
            accept: None,
            from,
            until,
        };
        let target = ask.target(route);
        let response = transport::ask(route, &ask, &self.client.inner.tokens, &self.credentials).await?;
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        let (skip, end) = match (partial, from) {
            (true, Some(from)) => {
                let range = content_range(response.headers()).filter(|range| range.first == from);
                let range = range.ok_or_else(|| Error::Answer {
                    target: target.clone(),
                    reason: "its Content-Range is not the range asked for",
                })?;
                self.check_size(range.total.unwrap_or(self.size))?;
                // A server may give less than was asked for; the rest is asked for next.
                (0, range.end().min(until.unwrap_or(self.size)).min(self.size))
            }
            (true, None) => {
                let reason = "it is a part where the whole was asked for";
                return Err(Error::Answer { target, reason });
            }
            (false, _) => {
                self.check_size(response.content_length().unwrap_or(self.size))?;
                (self.position, self.size)
            }
        };
        self.servers.add(route.endpoint.base.as_str());
        Ok(Delivery::Body {
            body: Box::new(Body::new(response, target, route.stall)),
            skip,
            end,
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
        let target_end = delivery.end();
        let Some(mut chunk) = delivery.chunk().await? else {
            let route = current(&self.failover, &self.reference)?;
            let path = format!("blobs/{}", self.digest);
            return Err(Error::Ended {
                target: Target::new("GET", &route.endpoint.url(&path)),
                at: self.position,
                size: self.size,
            });
        };
        delivery.skip(&mut chunk);
        if chunk.is_empty() {
            return Ok(None);
        }
        let end = self.position + length(&chunk);
        if end > target_end {
            return Err(Error::SizeMismatch {
                digest: self.digest.clone(),
                expected: target_end,
                found: end,
            });
        }
        if end == self.size {
            self.finish().await?;
        } else if end == target_end {
            self.delivery = None;
        }
        self.position = end;
        Ok(Some(chunk))
    }

    /// After the last byte there must be none. Answers without a length are the ones that can surprise here.
    async fn finish(&mut self) -> Result<(), Error> {
        let Some(Delivery::Body { mut body, .. }) = self.delivery.take() else {
            return Ok(());
        };
        while let Ok(Some(chunk)) = body.chunk().await {
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
