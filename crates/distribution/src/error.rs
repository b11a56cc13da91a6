//! The crate's error: what failed, at which host, with which answer, and what to try.
//!
//! Never holds a secret: no query strings (signed URLs), no header values, no request bodies. A server's words are cut to
//! 200 characters and stripped of control characters before they get here, because kubelet puts them into pod events.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::{Digest, DigestError};
use crate::endpoint::authority;
use crate::reference::ReferenceError;

#[cfg(test)]
mod tests;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    /// The text is not an image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The text is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A configuration file cannot be read.
    #[error("cannot read {}, which registry configuration needs; check that the file exists and its mode", path.display())]
    ConfigRead { path: PathBuf, source: io::Error },
    /// A configuration file is not valid TOML or has unknown keys.
    #[error("{} line {line} is not valid registry configuration: {reason}; correct the file, no restart is needed", path.display())]
    ConfigSyntax {
        path: PathBuf,
        line: usize,
        /// Quotes no values of the file: a header may be a secret.
        reason: String,
    },
    /// A value in a configuration file is invalid.
    #[error("{}: {key} = \"{value}\" {reason}; correct the file, no restart is needed", path.display())]
    ConfigValue {
        path: PathBuf,
        key: String,
        value: String,
        reason: &'static str,
    },
    /// Configuration forbids the image.
    #[error("pulling {reference} is forbidden: {} blocks \"{prefix}\"", path.display())]
    Blocked {
        reference: String,
        path: PathBuf,
        prefix: String,
    },
    /// Configuration does not say what a name without a host means.
    #[error("the short name \"{name}\" {reason} in {}; give the full name", path.display())]
    ShortName {
        name: String,
        path: PathBuf,
        reason: &'static str,
    },
    /// The credentials given with the request cannot be used.
    #[error(
        "the registry credentials of this request cannot be used: {reason}; correct the image pull secret"
    )]
    Credentials { reason: &'static str },
    /// A credential helper failed.
    #[error(
        "{program} returned no credentials for {host}: {reason}; try it by hand: echo {host} | {program} get"
    )]
    Helper {
        program: String,
        host: String,
        reason: String,
    },
    /// TLS settings cannot be turned into a client.
    #[error("the TLS settings for {host} cannot be used; check ca and client in its hosts.toml")]
    Tls {
        host: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Registry configuration leaves no server to ask.
    #[error("no endpoint of {host} may {capability}; check capabilities in its hosts.toml")]
    NoEndpoint { host: String, capability: &'static str },
    /// The server answered with an error status.
    #[error("{target} was answered {status}{}; {}", quoted(excerpt), advice(*status))]
    Status {
        target: Target,
        status: u16,
        excerpt: String,
        retry_after: Option<Duration>,
    },
    /// The server requires authentication that cannot be given.
    #[error(
        "{target} requires authentication ({offered}), but {reason}; check the image pull secret for this registry"
    )]
    Challenge {
        target: Target,
        offered: String,
        reason: &'static str,
    },
    /// The connection failed before or during the response.
    #[error(
        "{target} failed on the network; check DNS, proxy, firewall and certificates between this node and the host"
    )]
    Transport { target: Target, source: reqwest::Error },
    /// No data arrived for `after` while waiting for `step`.
    #[error("{target}: no byte arrived for {} s while waiting for {step}; the registry or the connection to it is stuck", after.as_secs_f32())]
    Stalled {
        target: Target,
        step: &'static str,
        after: Duration,
    },
    /// The body ended early.
    #[error(
        "{target} ended after {at} of {size} bytes; the registry, or a proxy in front of it, closed the connection"
    )]
    Ended { target: Target, at: u64, size: u64 },
    /// A redirect that must not be followed.
    #[error("{target} was answered with a redirect that is not followed: {reason}")]
    Redirect { target: Target, reason: &'static str },
    /// The response breaks the distribution specification.
    #[error("{target} was answered with something unusable: {reason}; tell the registry's operator")]
    Answer { target: Target, reason: &'static str },
    /// A manifest, index or image config is malformed.
    #[error("{digest} is not a usable image document: {reason}; the image must be pushed again")]
    Document { digest: Digest, reason: &'static str },
    /// The response is larger than allowed for its kind.
    #[error("{target} was answered with more than the {limit} bytes allowed for a {what}")]
    TooLarge {
        target: Target,
        what: &'static str,
        limit: u64,
    },
    /// The bytes do not have the expected digest.
    #[error(
        "the bytes of {expected} hash to {found}; a mirror, proxy or the registry returned damaged data, try again or remove that mirror"
    )]
    DigestMismatch { expected: Digest, found: Digest },
    /// The number of bytes differs from the descriptor's.
    #[error(
        "{digest} has {found} bytes where its descriptor says {expected}; a mirror, proxy or the registry returned damaged data"
    )]
    SizeMismatch {
        digest: Digest,
        expected: u64,
        found: u64,
    },
    /// Damaged data, with the servers that delivered it.
    #[error("{servers} delivered damaged data")]
    Damaged { servers: String, source: Box<Self> },
    /// No manifest for this platform.
    #[error("the image is not built for {wanted}; it has {available}")]
    Platform { wanted: String, available: String },
    /// The image uses a feature that is refused on purpose.
    #[error("{what} is not supported; {advice}")]
    Unsupported { what: String, advice: &'static str },
    /// Every endpoint failed; `tried` is in the order asked. The last one is the registry itself unless configuration removes it.
    #[error("{}", chain_all(tried))]
    AllFailed { tried: Vec<Self> },
}

impl Error {
    /// The kind of failure, for callers that act on it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Reference { .. } | Self::Digest { .. } | Self::ShortName { .. } => Kind::InvalidReference,
            Self::Blocked { .. } => Kind::Blocked,
            Self::ConfigRead { .. }
            | Self::ConfigSyntax { .. }
            | Self::ConfigValue { .. }
            | Self::Credentials { .. }
            | Self::Helper { .. }
            | Self::Tls { .. }
            | Self::NoEndpoint { .. } => Kind::Config,
            Self::Status {
                status: 401 | 403, ..
            }
            | Self::Challenge { .. } => Kind::Unauthorized,
            Self::Status {
                status: 404 | 410, ..
            } => Kind::NotFound,
            Self::Status { status: 429, .. } => Kind::RateLimited,
            Self::Status {
                status: 408 | 500..=599,
                ..
            }
            | Self::Transport { .. }
            | Self::Stalled { .. }
            | Self::Ended { .. } => Kind::Unavailable,
            Self::Status { .. }
            | Self::Redirect { .. }
            | Self::Answer { .. }
            | Self::Document { .. }
            | Self::TooLarge { .. } => Kind::InvalidAnswer,
            Self::Damaged { .. } | Self::DigestMismatch { .. } | Self::SizeMismatch { .. } => {
                Kind::DigestMismatch
            }
            Self::Platform { .. } => Kind::NoMatchingPlatform,
            Self::Unsupported { .. } => Kind::Unsupported,
            // The last endpoint is the registry itself; its answer counts, not the mirrors'.
            Self::AllFailed { tried } => tried.last().map_or(Kind::Unavailable, Self::kind),
        }
    }

    /// How long the server asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::AllFailed { tried } => tried.last().and_then(Self::retry_after),
            _ => None,
        }
    }

    /// Adds the servers that delivered the data if the error is about damaged data.
    #[must_use]
    pub fn delivered_by(self, servers: &[String]) -> Self {
        let damage = matches!(self, Self::DigestMismatch { .. } | Self::SizeMismatch { .. });
        if !damage || servers.is_empty() {
            return self;
        }
        Self::Damaged {
            servers: servers.join(", "),
            source: Box::new(self),
        }
    }

    /// Removes `secrets` from the server's words, in case it repeated them.
    pub(crate) fn without(mut self, secrets: &[String]) -> Self {
        if let Self::Status { excerpt, .. } = &mut self {
            for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
                *excerpt = excerpt.replace(secret.as_str(), "…");
                // The excerpt may end in the middle of a secret.
                let cut = (4..secret.len()).rev().filter_map(|end| secret.get(..end));
                if let Some(begun) = cut.into_iter().find(|begun| excerpt.ends_with(begun)) {
                    let length = excerpt.len() - begun.len();
                    excerpt.truncate(length);
                    excerpt.push('…');
                }
            }
        }
        self
    }

    /// Whether the server was reached but does not speak TLS.
    pub(crate) fn is_no_tls(&self) -> bool {
        matches!(self, Self::Transport { source, .. } if is_no_tls(source))
    }

    /// Whether no TLS connection could be made: no server listens, or it does not speak TLS.
    pub(crate) fn is_no_connection(&self) -> bool {
        self.is_no_tls() || matches!(self, Self::Transport { source, .. } if source.is_connect())
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.kind(), Kind::Unavailable | Kind::RateLimited)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Kind::Unauthorized => io::ErrorKind::PermissionDenied,
            Kind::NotFound => io::ErrorKind::NotFound,
            Kind::Unavailable | Kind::RateLimited => io::ErrorKind::ConnectionAborted,
            Kind::DigestMismatch | Kind::InvalidAnswer => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

/// What callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The registry requires credentials, or other ones.
    Unauthorized,
    /// The registry does not know the image, manifest or blob.
    NotFound,
    /// The registry asks to slow down.
    RateLimited,
    /// The image is not built for the wanted platform.
    NoMatchingPlatform,
    /// The network, a timeout or the registry failed; a later try may succeed.
    Unavailable,
    /// The data received does not have the expected digest or size.
    DigestMismatch,
    /// A reference or digest does not parse.
    InvalidReference,
    /// The image uses a feature that this client refuses on purpose.
    Unsupported,
    /// The registry's answer breaks the distribution or image specification.
    InvalidAnswer,
    /// The node's configuration forbids the image.
    Blocked,
    /// The node's configuration or the given credentials are unusable.
    Config,
}

/// The request an error is about. Has no query string, so it is safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    method: &'static str,
    /// With the port if the URL has one.
    host: String,
    path: String,
}

impl Target {
    pub(crate) fn new(method: &'static str, url: &url::Url) -> Self {
        Self {
            method,
            host: authority(url),
            path: url.path().chars().take(300).collect(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.method, self.path, self.host)
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "check the image pull secret and that it may pull this repository",
        404 | 410 => "check the image's name and tag, and whether it is private",
        429 => "the registry limits the rate: log in, use a mirror, or wait",
        500..=599 => "the registry has an internal problem, try again later",
        _ => "the registry does not accept this request",
    }
}

fn quoted(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!(" (\"{excerpt}\")")
    }
}

/// Each error with its causes, one after the other.
pub(crate) fn chain_all(tried: &[Error]) -> String {
    let texts: Vec<String> = tried
        .iter()
        .map(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                text.push_str(": ");
                text.push_str(&inner.to_string());
                cause = inner.source();
            }
            text
        })
        .collect();
    texts.join("; then ")
}

/// Whether a request failed because the server does not speak TLS.
fn is_no_tls(error: &reqwest::Error) -> bool {
    if !error.is_connect() {
        return false;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(current) = cause {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return matches!(tls, rustls::Error::InvalidMessage(_));
        }
        cause = match current.downcast_ref::<io::Error>() {
            Some(io) if io.kind() == io::ErrorKind::UnexpectedEof => return true,
            // An io::Error does not show the error it wraps in `source`.
            Some(io) => io
                .get_ref()
                .map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => current.source(),
        };
    }
    false
}
