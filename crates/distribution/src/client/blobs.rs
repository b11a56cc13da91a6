//! Blobs: small ones whole, large ones as streams.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{Client, no_endpoint};
use crate::blob::BlobStream;
use crate::blob::ahead::RangePolicy;
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::verify::same;

/// How often a small blob is fetched if its bytes do not have the expected digest.
const SMALL_TRIES: usize = 2;

impl Client {
    /// A whole, verified blob of at most `limit` bytes: image configs and other small documents.
    pub async fn fetch_small(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: usize,
        credentials: &Credentials,
    ) -> Result<Bytes, Error> {
        if usize::try_from(descriptor.size).map_or(true, |size| size > limit) {
            let reason = "its descriptor announces more bytes than allowed for such a document";
            return Err(Error::Document {
                digest: descriptor.digest.clone(),
                reason,
            });
        }
        let mut damaged = None;
        for _ in 0..SMALL_TRIES {
            let mut stream = self.fetch_blob(reference, descriptor, 0, credentials).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.chunk().await? {
                bytes.extend_from_slice(&chunk);
            }
            match same(
                &descriptor.digest,
                Digest::of(descriptor.digest.algorithm(), &bytes),
            ) {
                Ok(()) => return Ok(bytes.into()),
                Err(error) => {
                    let servers = stream.servers();
                    self.distrust(&descriptor.digest, &servers);
                    damaged = Some(error.delivered_by(&servers));
                }
            }
        }
        Err(damaged.unwrap_or_else(|| no_endpoint(reference, false)))
    }

    /// Remembers for a while that these servers ([`BlobStream::servers`]) delivered damaged data for `digest`: the next try asks
    /// others first.
    pub fn distrust(&self, digest: &Digest, servers: &[String]) {
        self.inner.distrusted.add(digest, servers);
    }

    pub(crate) fn ranges(&self) -> &RangePolicy {
        &self.inner.config.ranges
    }

    pub(crate) fn part_permits(&self) -> &Arc<Semaphore> {
        &self.inner.part_permits
    }

    /// Opens a blob at byte `offset`. The stream resumes when a connection fails, and changes to another endpoint if one does not
    /// recover. It does not verify the digest.
    pub async fn fetch_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
        credentials: &Credentials,
    ) -> Result<BlobStream, Error> {
        if !descriptor.urls.is_empty() {
            return Err(Error::Unsupported {
                what: format!(
                    "the foreign layer {} (its descriptor has urls)",
                    descriptor.digest
                ),
                advice: "push the image with all its layers in the registry",
            });
        }
        let mut failover = self.failover(reference, false).await?;
        failover.put_last(|route| {
            self.inner
                .distrusted
                .has(&descriptor.digest, route.endpoint.base.as_str())
        });
        BlobStream::open(
            self.clone(),
            failover,
            reference.clone(),
            descriptor,
            offset,
            credentials.clone(),
        )
        .await
    }
}
