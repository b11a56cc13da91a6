//! From a reference to the endpoints that may have the image, in the order to ask them.
//!
//! [`Resolver`] is what the client needs of registry configuration: [`Registries`](crate::Registries), or the
//! [`HostsDir`](crate::hosts::HostsDir) below it. It is called for every operation, so that configuration is live.

use std::fmt;

use url::Url;

use crate::endpoint::{Endpoint, Fallback, api_host, is_loopback};
use crate::error::Error;
use crate::reference::{Reference, ReferenceError, Rule};

#[cfg(test)]
mod tests;

/// Turns a reference into the endpoints to ask.
pub(crate) trait Resolver: fmt::Debug + Send + Sync {
    /// The endpoints for `reference` in order, at least one. May block on files.
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error>;
}

/// The registry itself, as it is reached without any configuration.
pub(crate) fn default_endpoints(reference: &Reference) -> Result<Vec<Endpoint>, Error> {
    let host = api_host(reference.host());
    let base = |scheme: &str| {
        Url::parse(&format!("{scheme}://{host}/v2"))
            .map_err(|_| Error::from(ReferenceError::new(&reference.to_string(), Rule::Host)))
    };
    let secure = base("https")?;
    let mut endpoints = Vec::with_capacity(2);
    let local = is_loopback(&secure);
    let mut own = |url| {
        let mut endpoint = Endpoint::new(url, reference);
        // `host:443` loses its port in a URL and would look like a mirror of itself.
        endpoint.namespace = None;
        // A server on loopback is on this node, and its certificate is rarely more than self-signed.
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
