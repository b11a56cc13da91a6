//! The client: resolves references, fetches manifests and small blobs whole, opens large blobs as streams.
//!
//! Everything returned whole is verified against its digest. Streams are not: read them through a
//! [`VerifyingReader`](crate::VerifyingReader). The caller limits how many operations run at once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::sync::Semaphore;

use crate::blob::ahead::RangePolicy;
use crate::body::Body;
use crate::connect::Connections;
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::distrust::Distrust;
use crate::endpoint::Capabilities;
use crate::error::{Error, Target};
use crate::manifest::{self, Document, Manifest};
use crate::platform::Platform;
use crate::proxy::Proxies;
use crate::reference::Reference;
use crate::registries::Registries;
use crate::resolver::Resolver;
use crate::retry::{Failover, RetryPolicy};
use crate::token::Tokens;
use crate::transport::{self, Ask, Route};
use crate::verify::same;

mod blobs;

#[cfg(test)]
mod tests;

/// Largest manifest or index, the specification's recommended limit.
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
/// How many indexes may be between a reference and its manifest.
const MAX_NESTING: usize = 3;

/// Time limits, retries and proxies.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Time limit for DNS, TCP and TLS together, unless `hosts.toml` says otherwise.
    pub connect_timeout: Duration,
    /// Time limit for waiting without receiving data from a connected server.
    pub stall_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    /// Used for servers for which `hosts.toml` names no proxy.
    pub proxies: Proxies,
    pub(crate) ranges: RangePolicy,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(60),
            retry: RetryPolicy::default(),
            proxies: Proxies::default(),
            ranges: RangePolicy::default(),
        }
    }
}

/// A verified manifest or index.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Media type of the document.
    pub media_type: String,
    /// The document as received.
    pub bytes: Bytes,
    document: Document,
    /// Host of the endpoint that served it.
    pub endpoint: String,
}

/// A reference followed down to the manifest of one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// The document that the reference itself points to: an index or the manifest.
    pub target: Resolved,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// The manifest as received.
    pub bytes: Bytes,
    /// The manifest, parsed.
    pub manifest: Manifest,
}

pub(crate) struct Inner {
    resolver: Arc<dyn Resolver>,
    connections: Connections,
    pub(crate) tokens: Tokens,
    distrusted: Distrust,
    /// One for each part of a blob that may be in memory.
    part_permits: Arc<Semaphore>,
    config: ClientConfig,
}

/// A registry client; clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("resolver", &self.inner.resolver)
            .field("tokens", &self.inner.tokens)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that reads `registries` for every operation.
    pub fn new(registries: Arc<Registries>, config: ClientConfig) -> Self {
        Self::with_resolver(registries, config)
    }

    pub(crate) fn with_resolver(resolver: Arc<dyn Resolver>, config: ClientConfig) -> Self {
        let inner = Inner {
            resolver,
            connections: Connections::new(config.proxies.clone()),
            tokens: Tokens::default(),
            distrusted: Distrust::default(),
            part_permits: Arc::new(Semaphore::new(config.ranges.in_memory)),
            config,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What `reference` points to: by its digest if it has one, else by its tag.
    async fn resolve(&self, reference: &Reference, credentials: &Credentials) -> Result<Resolved, Error> {
        self.document(reference, reference.digest(), credentials).await
    }

    /// The manifest or index called `digest` in the repository of `reference`.
    async fn fetch_manifest(
        &self,
        reference: &Reference,
        digest: &Digest,
        credentials: &Credentials,
    ) -> Result<Resolved, Error> {
        self.document(reference, Some(digest), credentials).await
    }

    /// Follows `reference` through indexes to the manifest for `platform`.
    pub async fn image(
        &self,
        reference: &Reference,
        platform: &Platform,
        credentials: &Credentials,
    ) -> Result<Image, Error> {
        let target = self.resolve(reference, credentials).await?;
        let mut found = target.clone();
        for _ in 0..=MAX_NESTING {
            let next = match &found.document {
                Document::Manifest(manifest) => {
                    let manifest = manifest.clone();
                    return Ok(Image {
                        target,
                        digest: found.digest,
                        bytes: found.bytes,
                        manifest,
                    });
                }
                Document::Index(index) => index.select(platform)?.clone(),
            };
            found = self.fetch_manifest(reference, &next.digest, credentials).await?;
            let size = u64::try_from(found.bytes.len()).unwrap_or(u64::MAX);
            if size != next.size {
                return Err(Error::SizeMismatch {
                    digest: next.digest,
                    expected: next.size,
                    found: size,
                });
            }
        }
        Err(Error::Document {
            digest: target.digest,
            reason: "its indexes are nested too deeply",
        })
    }

    async fn document(
        &self,
        reference: &Reference,
        digest: Option<&Digest>,
        credentials: &Credentials,
    ) -> Result<Resolved, Error> {
        let mut failover = self.failover(reference, digest.is_none()).await?;
        loop {
            let route = current(&failover, reference)?;
            let ask = manifest_ask(&route, reference, digest);
            match self.document_from(&route, &ask, digest, credentials).await {
                Ok(resolved) => return Ok(resolved),
                Err(error) => failover.failed(error).await?,
            }
        }
    }

    async fn document_from(
        &self,
        route: &Route,
        ask: &Ask,
        digest: Option<&Digest>,
        credentials: &Credentials,
    ) -> Result<Resolved, Error> {
        let target: Target = ask.target(route);
        let response = transport::ask(route, ask, &self.inner.tokens, credentials).await?;
        let media_type = header(response.headers(), CONTENT_TYPE.as_str()).map(str::to_owned);
        let announced = content_digest(response.headers());
        let bytes = Body::new(response, target, route.stall)
            .whole("manifest", MAX_MANIFEST)
            .await?;
        let digest = match digest.or(announced.as_ref()) {
            Some(expected) => {
                same(expected, Digest::of(expected.algorithm(), &bytes))
                    .map_err(|error| error.delivered_by(&[route.endpoint.base.to_string()]))?;
                expected.clone()
            }
            None => Digest::sha256(&bytes),
        };
        let (document, media_type) = Document::parse(&bytes, media_type.as_deref(), &digest)?;
        Ok(Resolved {
            digest,
            media_type,
            bytes: bytes.into(),
            document,
            endpoint: route.endpoint.host(),
        })
    }

    /// The endpoints for `reference`. Reads configuration files on a blocking thread.
    async fn failover(&self, reference: &Reference, by_tag: bool) -> Result<Failover, Error> {
        let inner = Arc::clone(&self.inner);
        let wanted = reference.clone();
        let routes = tokio::task::spawn_blocking(move || inner.routes(&wanted, by_tag)).await;
        let routes = match routes.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(routes) => routes?,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and will drop this future too.
            Err(Err(_)) => std::future::pending().await,
        };
        Ok(Failover::new(routes, self.inner.config.retry))
    }
}

impl Inner {
    fn routes(&self, reference: &Reference, by_tag: bool) -> Result<Vec<Route>, Error> {
        let able = |c: Capabilities| if by_tag { c.pull && c.resolve } else { c.pull };
        let mut routes = Vec::new();
        for endpoint in self.resolver.endpoints(reference)? {
            if able(endpoint.capabilities) {
                let http = self.connections.client(&endpoint, self.config.connect_timeout)?;
                let stall = self.config.stall_timeout;
                let patience = endpoint.dial_timeout.unwrap_or(self.config.connect_timeout) + stall;
                routes.push(Route {
                    endpoint,
                    http,
                    stall,
                    patience,
                });
            }
        }
        if routes.is_empty() {
            Err(no_endpoint(reference, by_tag))
        } else {
            Ok(routes)
        }
    }
}

/// The request for the manifest that `digest`, or else the tag, names at that endpoint.
fn manifest_ask(route: &Route, reference: &Reference, digest: Option<&Digest>) -> Ask {
    let selector = match (digest, &route.endpoint.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.clone(),
        (None, None) => reference.selector(),
    };
    Ask {
        method: Method::GET,
        tail: format!("manifests/{selector}"),
        accept: Some(manifest::ACCEPT),
        from: None,
        until: None,
    }
}

fn no_endpoint(reference: &Reference, by_tag: bool) -> Error {
    let capability = if by_tag { "pull and resolve tags" } else { "pull" };
    Error::NoEndpoint {
        host: reference.host().to_owned(),
        capability,
    }
}

pub(crate) fn current(failover: &Failover, reference: &Reference) -> Result<Arc<Route>, Error> {
    failover.current().ok_or_else(|| no_endpoint(reference, false))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    header(headers, "docker-content-digest")?.trim().parse().ok()
}
