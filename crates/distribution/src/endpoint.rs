//! One server that may have an image, and how it is reached.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderMap;
use url::Url;

use crate::reference::{DEFAULT_HOST, Reference};

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
    /// Asked only if no TLS connection came about with the endpoint before it (registries that are configured as insecure).
    AfterNoConnection,
}

/// What an endpoint is to the image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Stands in for the registry.
    Mirror,
    /// The registry itself, wherever configuration says that it is.
    Registry,
}

/// Which line of which file an endpoint comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file, or the directory of certificates; `None` for what holds without configuration.
    pub file: Option<PathBuf>,
    /// The dotted key in the file; empty for a directory.
    pub key: String,
    /// Certificates and keys that were read for it.
    pub certificates: Vec<PathBuf>,
    /// File and table of `registries.conf` that led here.
    pub rule: Option<String>,
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
    /// The tag as this server calls it, where configuration renames tags too.
    pub tag: Option<String>,
    /// The proxy on the way to this server, whatever the environment says. May hold a password.
    pub proxy: Option<Url>,
    /// Mirror or registry.
    pub role: Role,
    /// The host in the image's name.
    pub registry: String,
    /// Where it is configured.
    pub source: Source,
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
            tag: None,
            proxy: None,
            role: Role::Registry,
            registry: reference.host().to_owned(),
            source: Source::default(),
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
