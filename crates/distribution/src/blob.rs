//! A blob as a stream that resumes after failures.
//!
//! ```text
//!  open ──answer──▶ flowing ──all bytes──▶ done
//!   ▲                  │ break, stall, early end, wrong range
//!   └──Range: at──── failed ──budget spent, no endpoint left──▶ error
//! ```
//!
//! Invariants: every byte comes out once and in order, never more than the descriptor's size. The digest is not verified here,
//! but by [`VerifyingReader`](crate::VerifyingReader).
//! A slow consumer never counts as a stall: time runs only while this waits for data.
//!
//! A large blob is requested in parts. If the server answers the first request with a part, the next ones are requested at the
//! same time ([`ahead`]); if it answers with the whole blob, that is read to the end.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use reqwest::{Method, StatusCode};

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

#[cfg(test)]
mod tests;

use ahead::{Ahead, Part, Whole};
use range::content_range;

/// After this many bytes since the last failure the budget of retries is restored.
const PROGRESS: u64 = 1024 * 1024;

/// The source of the bytes at the moment.
enum Delivery {
    /// An answer's body up to `end`.
    Body {
        body: Box<Body>,
        /// Bytes to discard first, if the server ignored the range.
        skip: u64,
        end: u64,
    },
    /// A part fetched ahead.
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

    /// Removes the bytes from `chunk` that the consumer has already.
    fn skip(&mut self, chunk: &mut Bytes) {
        if let Self::Body { skip, .. } = self {
            let skipped = length(chunk).min(*skip);
            *skip -= skipped;
            chunk.advance(usize::try_from(skipped).unwrap_or(chunk.len()));
        }
    }
}

/// The bytes of a blob as they arrive. Dropping it ends the transfer.
pub struct BlobStream {
    /// The bases of their endpoints.
    servers: BTreeSet<String>,
    client: Client,
    failover: Failover,
    reference: Reference,
    credentials: Credentials,
    digest: Digest,
    size: u64,
    /// The next byte the consumer gets.
    position: u64,
    /// Position at the last failure.
    failed_at: u64,
    /// The current endpoint refused a range: request the whole blob and skip.
    whole: bool,
    /// Something failed: no more parallel requests.
    sequential: bool,
    ahead: Ahead,
    delivery: Option<Delivery>,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("digest", &self.digest)
            .field("position", &self.position)
            .finish_non_exhaustive()
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
        let mut stream = Self {
            servers: BTreeSet::new(),
            client,
            failover,
            reference,
            credentials,
            digest,
            size,
            position: offset,
            failed_at: offset,
            whole: false,
            sequential: false,
            ahead: Ahead::default(),
            delivery: None,
        };
        // Opened here, so that a missing blob is the caller's error and not the first read's.
        if offset < size {
            stream.connect().await?;
        }
        Ok(stream)
    }

    /// The servers that delivered bytes so far, for [`Client::distrust`] if the bytes turn out to be wrong.
    pub fn servers(&self) -> Vec<String> {
        self.servers.iter().cloned().collect()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// If no endpoint could deliver them within the retry policy. There is nothing more to read then.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
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
                // A part is tried once, and its errors do not count against the endpoint.
                Err(_) if matches!(self.delivery, Some(Delivery::Part(_))) => self.go_sequential(),
                Err(error) => self.failed(error).await?,
            }
        }
        Ok(None)
    }

    /// Requests until an endpoint begins to deliver from `position`.
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
                // Bad answers to optional ranges must not fail the download.
                Err(Error::Answer { .. }) if self.until().is_some() => self.go_sequential(),
                Err(error) => self.failed(error).await?,
            }
        }
    }

    /// Makes only one request at a time from here on.
    fn go_sequential(&mut self) {
        self.delivery = None;
        self.ahead.clear();
        self.sequential = true;
    }

    /// Continues with `delivery`, and requests the parts behind it.
    fn begin(&mut self, delivery: Delivery) {
        let end = delivery.end();
        self.delivery = Some(delivery);
        if end == self.size || self.sequential {
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

    async fn failed(&mut self, error: Error) -> Result<(), Error> {
        self.go_sequential();
        self.whole = false;
        if self.position - self.failed_at >= PROGRESS {
            self.failover.progressed();
        }
        self.failed_at = self.position;
        self.failover.failed(error).await
    }

    /// The end of the range to request, if the rest is worth several requests.
    fn until(&self) -> Option<u64> {
        let policy = self.client.ranges();
        let large = self.size - self.position >= policy.from_size.max(policy.part.saturating_add(1));
        (large && policy.at_once > 1 && !self.whole && !self.sequential)
            .then(|| self.position.saturating_add(policy.part))
    }

    async fn request(&mut self, route: &Route) -> Result<Delivery, Error> {
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
                // A server may return less than was requested; the rest is requested next.
                (0, range.end().min(until.unwrap_or(self.size)).min(self.size))
            }
            (true, None) => {
                let reason = "it is a partial response to a request for the whole blob";
                return Err(Error::Answer { target, reason });
            }
            (false, _) => {
                self.check_size(response.content_length().unwrap_or(self.size))?;
                (self.position, self.size)
            }
        };
        self.servers.insert(route.endpoint.base.to_string());
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

    /// The next piece from the open body; `None` if it has nothing for the consumer.
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

    /// Checks that nothing follows the last byte: a response without a length may have more.
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
