//! One server that may have an image, and how to reach it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderMap;
use url::Url;

use crate::reference::{DEFAULT_HOST, Reference};

/// What an endpoint may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Fetch by digest.
    pub(crate) pull: bool,
    /// Turn a tag into a digest: only for servers that are trusted to say what a tag means.
    pub(crate) resolve: bool,
}

impl Capabilities {
    pub(crate) const ALL: Self = Self {
        pull: true,
        resolve: true,
    };
}

/// When an endpoint that stands in for the one before it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// Asked in its turn: not a stand-in.
    None,
    /// Asked only if the endpoint before it was reached but does not speak TLS (loopback registries).
    AfterNoTls,
    /// Asked only if no TLS connection to the endpoint before it could be made (registries configured as insecure).
    AfterNoConnection,
}

/// How an endpoint relates to the registry in the image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Mirror,
    /// The registry itself, at the address that configuration gives.
    Registry,
}

/// Where an endpoint is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// The file, or the directory of certificates; `None` for the default without configuration.
    pub(crate) file: Option<PathBuf>,
    /// The dotted key in the file; empty for a directory.
    pub(crate) key: String,
    /// Certificates and keys read for it.
    pub(crate) certificates: Vec<PathBuf>,
    /// File and table of `registries.conf` that lead to it.
    pub(crate) rule: Option<String>,
}

/// A client certificate chain and its key in PEM. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClientPem {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for ClientPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientPem(..)")
    }
}

/// TLS as configured for one endpoint: contents, not paths, so that rotated files take effect.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsSettings {
    /// PEM bundles trusted in addition to the system's roots.
    pub(crate) ca: Vec<Vec<u8>>,
    pub(crate) client: Vec<ClientPem>,
    pub(crate) skip_verify: bool,
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
pub(crate) struct Endpoint {
    /// Up to and including `/v2`, without a slash at the end.
    pub(crate) base: Url,
    /// The repository on this server.
    pub(crate) repository: String,
    /// Sent as `ns=`: the reference's host, if this server is a mirror of it.
    pub(crate) namespace: Option<String>,
    pub(crate) capabilities: Capabilities,
    pub(crate) tls: TlsSettings,
    /// Sent with every request to this server (not to those it redirects to). May hold secrets.
    pub(crate) headers: HeaderMap,
    /// Time limit for connecting; `None` means the client's.
    pub(crate) dial_timeout: Option<Duration>,
    pub(crate) fallback: Fallback,
    /// The tag on this server, if configuration renames it.
    pub(crate) tag: Option<String>,
    /// Overrides the proxy of the environment. May hold a password.
    pub(crate) proxy: Option<Url>,
    pub(crate) role: Role,
    /// The host in the image's name.
    pub(crate) registry: String,
    pub(crate) source: Source,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base.as_str())
            .field("repository", &self.repository)
            .field("capabilities", &self.capabilities)
            .field("role", &self.role)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint at `base` for `reference` without special settings.
    pub(crate) fn new(base: Url, reference: &Reference) -> Self {
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
            tag: None,
            proxy: None,
            role: Role::Registry,
            registry: reference.host().to_owned(),
            source: Source::default(),
        }
    }

    pub(crate) fn host(&self) -> String {
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

/// `host[:port]` of a URL.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The host that serves a registry's API.
pub(crate) fn api_host(host: &str) -> &str {
    if host == DEFAULT_HOST {
        "registry-1.docker.io"
    } else {
        host
    }
}

/// Whether the URL's host is loopback.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
