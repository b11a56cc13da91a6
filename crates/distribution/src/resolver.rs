//! Who is asked for an image: an ordered list of endpoints for a reference.
//!
//! [`Resolver`] is the seam between registry configuration and the client. [`HostsDir`] reads containerd's `certs.d` layout;
//! other formats only have to yield [`Endpoint`]s. Resolvers are asked anew for every operation, so configuration is live.

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderMap;
use url::Url;

use crate::error::Error;
use crate::reference::{DEFAULT_HOST, Reference};

pub use crate::hosts::HostsDir;

#[cfg(test)]
mod tests;

/// What an endpoint may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Fetching by digest.
    pub pull: bool,
    /// Turning a tag into a digest: only for those trusted to say what a tag means.
    pub resolve: bool,
}

impl Capabilities {
    /// Everything this client does.
    pub const ALL: Self = Self {
        pull: true,
        resolve: true,
    };
}

/// Whether and how plain HTTP comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Asked in its turn, like any other.
    None,
    /// Asked only if the endpoint before it answered, but not in TLS (loopback registries).
    AfterNoTls,
}

/// A client certificate and its key. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientPem {
    /// PEM with the certificate chain.
    pub chain: Vec<u8>,
    /// PEM with the private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientPem(..)")
    }
}

/// TLS as configured for one endpoint: contents, not paths, so that rotated files take effect.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    /// PEM bundles trusted besides the system's roots.
    pub ca: Vec<Vec<u8>>,
    /// Client certificates; the first is presented.
    pub client: Vec<ClientPem>,
    /// Accept any certificate.
    pub skip_verify: bool,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "TlsSettings {{ ca: {}, client: {}, skip_verify: {} }}",
            self.ca.len(),
            self.client.len(),
            self.skip_verify
        )
    }
}

/// One server that may have the image.
#[derive(Clone)]
pub struct Endpoint {
    /// Everything up to and with `/v2`, without a slash at the end.
    pub base: Url,
    /// The repository as this server calls it.
    pub repository: String,
    /// Sent as `ns=`: the reference's host, where this server is a mirror of it.
    pub namespace: Option<String>,
    /// What it may be used for.
    pub capabilities: Capabilities,
    /// How to speak TLS with it.
    pub tls: TlsSettings,
    /// Sent with every request to this server (not to those it redirects to). May hold secrets.
    pub headers: HeaderMap,
    /// Limit for connecting; the client's own where `None`.
    pub dial_timeout: Option<Duration>,
    /// Whether this is the plain twin of the endpoint before it.
    pub fallback: Fallback,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base.as_str())
            .field("repository", &self.repository)
            .field("capabilities", &self.capabilities)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// A plain endpoint at `base` for `reference`, without any special settings.
    pub fn new(base: Url, reference: &Reference) -> Self {
        let host = authority(&base);
        let own = host == reference.host() || host == api_host(reference.host());
        Self {
            base,
            repository: reference.repository().to_owned(),
            namespace: (!own).then(|| reference.host().to_owned()),
            capabilities: Capabilities::ALL,
            tls: TlsSettings::default(),
            headers: HeaderMap::new(),
            dial_timeout: None,
            fallback: Fallback::None,
        }
    }

    /// Host and port as shown to people.
    pub fn host(&self) -> String {
        authority(&self.base)
    }

    /// The URL of `tail` (`manifests/…`, `blobs/…`) in this endpoint's repository.
    pub(crate) fn url(&self, tail: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}/{}/{tail}",
            self.base.path().trim_end_matches('/'),
            self.repository
        ));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }
}

/// Turns a reference into the endpoints to ask, in order. Never empty on success. May block on files.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The endpoints for `reference`.
    fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>, Error>;
}

/// `host[:port]` of a URL.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The name under which a registry's API is reached.
pub(crate) fn api_host(host: &str) -> &str {
    if host == DEFAULT_HOST {
        "registry-1.docker.io"
    } else {
        host
    }
}

/// Whether the URL stays on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
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
