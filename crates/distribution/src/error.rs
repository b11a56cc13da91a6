//! The crate's error: what failed, at which host, with which answer, and what to try.
//!
//! Never holds a secret: no query strings (signed URLs), no header values, no request bodies. A server's words are cut to
//! 200 characters and stripped of control characters before they get here, because kubelet puts them into pod events.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::reference::ReferenceError;

mod words;

#[cfg(test)]
mod tests;

pub use words::{Kind, Target};

use words::{advice, quoted};
pub(crate) use words::{chain_all, excerpt};

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no image reference.
    #[error("\"{text}\" is not an image reference: {reason}")]
    Reference {
        /// The text as given, shortened.
        text: String,
        /// The broken rule.
        reason: ReferenceError,
    },
    /// The text is no digest.
    #[error("\"{text}\" is not a digest: {reason}")]
    Digest {
        /// The text as given, shortened.
        text: String,
        /// The broken rule.
        reason: &'static str,
    },
    /// A configuration file cannot be read.
    #[error("cannot read {}, which registry configuration needs; check that the file exists and its mode", path.display())]
    ConfigRead {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A configuration file is not valid TOML or has keys nobody knows.
    #[error("{} line {line} is no valid registry configuration: {reason}; correct the file, no restart is needed", path.display())]
    ConfigSyntax {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What is wrong. Quotes no values: a header may be a secret.
        reason: String,
    },
    /// A value in a configuration file makes no sense.
    #[error("{}: {key} = \"{value}\" {reason}; correct the file, no restart is needed", path.display())]
    ConfigValue {
        /// The file.
        path: PathBuf,
        /// Dotted key.
        key: String,
        /// The value as given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Configuration forbids the image.
    #[error("pulling {reference} is forbidden: {} blocks \"{prefix}\"", path.display())]
    Blocked {
        /// The image.
        reference: String,
        /// The file.
        path: PathBuf,
        /// The prefix of its table.
        prefix: String,
    },
    /// A name without a host that configuration does not let stand.
    #[error("the short name \"{name}\" {reason} in {}; give the full name", path.display())]
    ShortName {
        /// As given, shortened.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The credentials given with the request cannot be used.
    #[error(
        "the registry credentials of this request cannot be used: {reason}; correct the image pull secret"
    )]
    Credentials {
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A credential helper does not help.
    #[error(
        "{program} gives no credentials for {host}: {reason}; check it by hand: echo {host} | {program} get"
    )]
    Helper {
        /// The program.
        program: String,
        /// The registry.
        host: String,
        /// What went wrong.
        reason: String,
    },
    /// TLS settings cannot be turned into a client.
    #[error("the TLS settings for {host} cannot be used; check ca and client in its hosts.toml")]
    Tls {
        /// Host they are for.
        host: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Registry configuration leaves nobody to ask.
    #[error("no endpoint of {host} may {capability}; check capabilities in its hosts.toml")]
    NoEndpoint {
        /// The reference's host.
        host: String,
        /// What was to be done.
        capability: &'static str,
    },
    /// The server answered with an error status.
    #[error("{target} was answered {status}{}; {}", quoted(excerpt), advice(*status))]
    Status {
        /// The request.
        target: Target,
        /// The HTTP status.
        status: u16,
        /// The server's words, shortened.
        excerpt: String,
        /// When the server says another try makes sense.
        retry_after: Option<Duration>,
    },
    /// The server wants authentication that cannot be given.
    #[error(
        "{target} wants authentication ({offered}) and {reason}; check the image pull secret for this registry"
    )]
    Challenge {
        /// The request.
        target: Target,
        /// The schemes it offers.
        offered: String,
        /// Why none fits.
        reason: &'static str,
    },
    /// The connection failed before or during the answer.
    #[error(
        "{target} failed on the network; check DNS, proxy, firewall and certificates between this node and the host"
    )]
    Transport {
        /// The request.
        target: Target,
        /// What the HTTP client said, without the URL.
        source: reqwest::Error,
    },
    /// Nothing arrived for too long.
    #[error("{target}: no byte arrived for {} s while waiting for {step}; the registry or the way to it is stuck", after.as_secs_f32())]
    Stalled {
        /// The request.
        target: Target,
        /// What was awaited.
        step: &'static str,
        /// The limit that passed.
        after: Duration,
    },
    /// The body ended before all bytes had come.
    #[error(
        "{target} ended after {at} of {size} bytes; the connection was cut by the registry or something before it"
    )]
    Ended {
        /// The request.
        target: Target,
        /// Bytes there were.
        at: u64,
        /// Bytes there should be.
        size: u64,
    },
    /// A redirect that must not be followed.
    #[error("{target} was answered with a redirect that is not followed: {reason}")]
    Redirect {
        /// The request.
        target: Target,
        /// Why.
        reason: &'static str,
    },
    /// The answer breaks the specification.
    #[error("{target} was answered with something unusable: {reason}; tell the registry's operator")]
    Answer {
        /// The request.
        target: Target,
        /// What is wrong.
        reason: &'static str,
    },
    /// A manifest, index or config is not what it should be.
    #[error("{digest} is not a usable image document: {reason}; the image must be pushed again")]
    Document {
        /// Which one.
        digest: Digest,
        /// What is wrong.
        reason: &'static str,
    },
    /// The answer is larger than its kind may be.
    #[error("{target} was answered with more than the {limit} bytes allowed for a {what}")]
    TooLarge {
        /// The request.
        target: Target,
        /// What was asked for.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The bytes are not those of the digest.
    #[error(
        "the bytes of {expected} hash to {found}; a mirror, proxy or the registry returned damaged data, try again or remove that mirror"
    )]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The number of bytes is not that of the descriptor.
    #[error(
        "{digest} has {found} bytes where its descriptor says {expected}; a mirror, proxy or the registry returned damaged data"
    )]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Size in the descriptor.
        expected: u64,
        /// Size seen or announced.
        found: u64,
    },
    /// Damaged bytes, with those who delivered them.
    #[error("{servers} delivered damaged data")]
    Damaged {
        /// Hosts or addresses.
        servers: String,
        /// What is wrong with the bytes.
        source: Box<Self>,
    },
    /// No manifest for this platform.
    #[error("the image is not built for {wanted}; it has {available}")]
    Platform {
        /// The platform looked for.
        wanted: String,
        /// Those in the index.
        available: String,
    },
    /// Refused on purpose.
    #[error("{what} is not supported; {advice}")]
    Unsupported {
        /// What came.
        what: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// Several endpoints were asked and none could help. The last one is the registry itself unless configured away.
    #[error("{}", chain_all(tried))]
    AllFailed {
        /// One error for each endpoint, in the order asked.
        tried: Vec<Self>,
    },
}

impl Error {
    /// What callers must tell apart.
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
            // The last endpoint is the authority; mirrors may fail as they like.
            Self::AllFailed { tried } => tried.last().map_or(Kind::Unavailable, Self::kind),
        }
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::AllFailed { tried } => tried.last().and_then(Self::retry_after),
            _ => None,
        }
    }

    /// The same with those who delivered the bytes, if it is about damaged ones.
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

    /// The same without `secrets` in what the server said, should it have repeated them.
    pub(crate) fn without(mut self, secrets: &[String]) -> Self {
        if let Self::Status { excerpt, .. } = &mut self {
            for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
                *excerpt = excerpt.replace(secret.as_str(), "…");
                // The excerpt may end within it.
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

    /// Whether the server was reached and does not speak TLS.
    pub(crate) fn is_no_tls(&self) -> bool {
        matches!(self, Self::Transport { source, .. } if crate::connect::is_no_tls(source))
    }

    /// Whether no connection came about: nobody listens, or it is not TLS that is spoken there.
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
