//! Who is asked for an image: an ordered list of endpoints for a reference.
//!
//! [`Resolver`] is the seam between registry configuration and the client. [`HostsDir`](crate::HostsDir) reads containerd's
//! `certs.d` layout; other formats only have to yield [`Endpoint`]s. Resolvers are asked anew for every operation, so
//! configuration is live.

use std::fmt;

use url::Url;

use crate::endpoint::{Endpoint, Fallback, api_host, is_loopback};
use crate::error::Error;
use crate::reference::Reference;

#[cfg(test)]
mod tests;

/// Turns a reference into the endpoints to ask, in order. Never empty on success. May block on files.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The endpoints for `reference`.
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error>;

    /// The references that `text` may mean, in the order to try: more than one only for short names.
    fn names(&self, text: &str) -> Result<Vec<Reference>, Error> {
        Ok(vec![text.parse()?])
    }
}

/// The registry itself, as it is reached without any configuration.
pub(crate) fn default_endpoints(reference: &Reference) -> Result<Vec<Endpoint>, Error> {
    let host = api_host(reference.host());
    let base = |scheme: &str| {
        Url::parse(&format!("{scheme}://{host}/v2")).map_err(|_| Error::Reference {
            text: crate::error::excerpt(reference.to_string().as_bytes()),
            reason: crate::reference::ReferenceError::Host,
        })
    };
    let secure = base("https")?;
    let mut endpoints = Vec::with_capacity(2);
    let local = is_loopback(&secure);
    let mut own = |url| {
        let mut endpoint = Endpoint::new(url, reference);
        // `host:443` loses its port in a URL and would look like a mirror of itself.
        endpoint.namespace = None;
        // Who listens on loopback has this node anyway; certificates for it are rarely more than self-signed.
        endpoint.tls.skip_verify = local;
        endpoints.push(endpoint);
    };
    own(secure);
    if local {
        own(base("http")?);
        if let Some(plain) = endpoints.last_mut() {
            plain.fallback = Fallback::AfterNoTls;
        }
    }
    Ok(endpoints)
}
