//! Errors of images, worded for the reader of a pod's event.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pausa_distribution as distribution;
use pausa_layer as layer;
use rustix::io::Errno;

use crate::error::{ErrorKind, Kinded};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// The text is not an image reference, or the credentials given with it cannot be used.
    #[error("cannot use the image reference {reference:?}")]
    Reference {
        /// Shortened.
        reference: String,
        #[source]
        source: Box<distribution::Error>,
    },
    /// The registry does not answer as it should, or has sent wrong data.
    #[error("cannot fetch {reference}")]
    Fetch {
        reference: String,
        #[source]
        source: Box<distribution::Error>,
    },
    /// More would only compete with those in progress.
    #[error("{limit} pulls are in progress, as many as may be: try again when some have ended")]
    TooManyPulls { limit: usize },
    /// A layer cannot be unpacked or read.
    #[error("cannot unpack layer {diff_id}")]
    Unpack {
        diff_id: String,
        /// Entry, system call, errno.
        #[source]
        source: Box<layer::Error>,
    },
    /// A directory of the store cannot be read, synced or removed.
    #[error("cannot {operation} {}", path.display())]
    Tree {
        operation: &'static str,
        path: PathBuf,
        /// Entry, system call, errno.
        #[source]
        source: Box<layer::Error>,
    },
    /// A layer is not the one that the image config names.
    #[error(
        "a layer unpacks to {found} where the image config says {expected}; the image is faulty and must be built again"
    )]
    DiffId { expected: String, found: String },
    /// The config of an image is not usable.
    #[error("{digest} is not a usable image config: {reason}; the image must be built again")]
    Config { digest: String, reason: String },
    /// An artifact that is not a container image, or a kind of layer that is not supported.
    #[error("{what} has the media type {media_type:?}, which pausa does not support in a container image")]
    MediaType {
        /// Config or layer, and its digest.
        what: String,
        /// Shortened.
        media_type: String,
    },
    /// No image has this name or id.
    #[error("no image {reference:?} in the store; pull it first")]
    NotFound { reference: String },
    /// More than one image id begins with this text.
    #[error("{reference:?} is the beginning of more than one image id; give more digits")]
    Ambiguous { reference: String },
    /// A system call on the store failed.
    #[error("{call} {} failed; check the file system that holds it", path.display())]
    Io {
        call: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A record of the store cannot be read.
    #[error("{} is not a valid record: {reason}; pull the image again", path.display())]
    Record { path: PathBuf, reason: String },
    #[error("{call} failed for an overlay of {layers} layers{}", in_parentheses(log))]
    Mount {
        /// With its arguments.
        call: String,
        /// Lower layers.
        layers: usize,
        /// Messages of the kernel; may be empty.
        log: String,
        #[source]
        source: Errno,
    },
    /// The kernel cannot stack this number of layers.
    #[error("an overlay needs {needed} layers and got {given}")]
    LayerCount { needed: &'static str, given: usize },
    #[error("the image archive cannot be read")]
    ArchiveRead {
        #[source]
        source: io::Error,
    },
    #[error("the image archive is not usable: {name:?} {reason}")]
    Archive {
        /// Name in the archive, shortened.
        name: String,
        /// The end of the sentence.
        reason: &'static str,
    },
    /// A damaged layer cannot be removed while it is in use.
    #[error(
        "layer {diff_id} is damaged, but cannot be replaced while a container or a pull uses it; stop those that use it and try again"
    )]
    InUse { diff_id: String },
    #[error("the image archive cannot be written")]
    ArchiveWrite {
        #[source]
        source: io::Error,
    },
    /// The operation ended without a result: the daemon stops, or has a bug.
    #[error("{doing} was interrupted because the daemon is stopping; try again")]
    Stopped { doing: &'static str },
    /// The layer has come from another source meanwhile: it has to be claimed again.
    #[error("layer {diff_id} was put into the store by another pull")]
    Overtaken { diff_id: String },
    /// A short name has several meanings, and none of them could be pulled.
    #[error("cannot pull {reference:?}: {}", one_by_one(tried))]
    AllNamesFailed {
        /// Shortened.
        reference: String,
        /// One error for each meaning, in order.
        tried: Vec<Self>,
    },
    /// The error of the operation that this request has joined.
    #[error(transparent)]
    Joined(Arc<Self>),
}

fn one_by_one(tried: &[ImageError]) -> String {
    let texts: Vec<String> = tried.iter().map(|error| crate::error::chain(error)).collect();
    texts.join("; then ")
}

fn in_parentheses(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(" (the kernel says: {log})")
    }
}

impl ImageError {
    /// The error of all meanings of a name, or that of the only one.
    pub(super) fn all_names_failed(reference: &str, mut tried: Vec<Self>) -> Self {
        match tried.pop() {
            Some(only) if tried.is_empty() => only,
            last => Self::AllNamesFailed {
                reference: shortened(reference),
                tried: tried.into_iter().chain(last).collect(),
            },
        }
    }

    /// Whether the received bytes do not have the expected digest. Another server may have the right ones.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Fetch { source, .. } if source.kind() == distribution::Kind::DigestMismatch)
    }

    /// Whether a retry may succeed and use what was fetched so far.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => is_retryable(source),
            Self::Joined(inner) => inner.is_retryable(),
            _ => false,
        }
    }

    /// Whether the disk or a quota is full.
    pub(super) fn is_disk_full(&self) -> bool {
        let full = |raw: Option<i32>| {
            raw == Some(Errno::NOSPC.raw_os_error()) || raw == Some(Errno::DQUOT.raw_os_error())
        };
        match self {
            Self::Io { source, .. } => full(source.raw_os_error()),
            Self::Unpack { source, .. } | Self::Tree { source, .. } => match &**source {
                layer::Error::System { source, .. } => full(Some(source.raw_os_error())),
                layer::Error::Output { source, .. } => full(source.raw_os_error()),
                _ => false,
            },
            _ => false,
        }
    }

    /// Adds the servers that delivered the bytes, if these are damaged.
    pub(super) fn delivered_by(self, servers: &[String]) -> Self {
        match self {
            Self::Fetch { reference, source } => Self::Fetch {
                reference,
                source: Box::new(source.delivered_by(servers)),
            },
            other => other,
        }
    }
}

impl Kinded for ImageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Reference { source, .. } | Self::Fetch { source, .. } => fetch_kind(source.kind()),
            Self::Unpack { source, .. } | Self::Tree { source, .. } => unpack_kind(source),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } | Self::ArchiveRead { .. } | Self::Archive { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::MediaType { .. } => ErrorKind::Unimplemented,
            Self::DiffId { .. } | Self::Config { .. } | Self::InUse { .. } => ErrorKind::FailedPrecondition,
            Self::Io { source, .. } | Self::ArchiveWrite { source } => errno_kind(source.raw_os_error()),
            Self::Mount { source, .. } => errno_kind(Some(source.raw_os_error())),
            Self::Record { .. } | Self::LayerCount { .. } | Self::Overtaken { .. } => ErrorKind::Internal,
            Self::Stopped { .. } => ErrorKind::Unavailable,
            Self::TooManyPulls { .. } => ErrorKind::ResourceExhausted,
            // An error that may pass takes precedence over a final one.
            Self::AllNamesFailed { tried, .. } => {
                let mut kinds = tried.iter().map(Self::kind);
                let kind = kinds.clone().find(|kind| *kind == ErrorKind::Unavailable);
                kind.or_else(|| kinds.next_back()).unwrap_or(ErrorKind::NotFound)
            }
            Self::Joined(inner) => inner.kind(),
        }
    }
}

/// Whether an error of a registry says nothing about the image itself.
pub(super) fn is_retryable(source: &distribution::Error) -> bool {
    use distribution::Kind;
    !matches!(
        source.kind(),
        Kind::DigestMismatch | Kind::Unsupported | Kind::InvalidReference | Kind::NoMatchingPlatform
    )
}

fn fetch_kind(kind: distribution::Kind) -> ErrorKind {
    use distribution::Kind;
    match kind {
        Kind::Unauthorized => ErrorKind::Unauthenticated,
        Kind::NotFound | Kind::NoMatchingPlatform => ErrorKind::NotFound,
        Kind::InvalidReference => ErrorKind::InvalidArgument,
        Kind::Unsupported => ErrorKind::Unimplemented,
        Kind::Config | Kind::Blocked => ErrorKind::FailedPrecondition,
        Kind::RateLimited => ErrorKind::ResourceExhausted,
        Kind::DigestMismatch => ErrorKind::DataLoss,
        // Outages and invalid answers, which end by themselves or with another mirror.
        _ => ErrorKind::Unavailable,
    }
}

fn unpack_kind(error: &layer::Error) -> ErrorKind {
    match error {
        layer::Error::System { source, .. } => errno_kind(Some(source.raw_os_error())),
        layer::Error::Output { source, .. } => errno_kind(source.raw_os_error()),
        other => match other.kind() {
            layer::ErrorKind::Input | layer::ErrorKind::Corrupt => ErrorKind::Unavailable,
            layer::ErrorKind::Refused => ErrorKind::FailedPrecondition,
            layer::ErrorKind::Limit => ErrorKind::ResourceExhausted,
            _ => ErrorKind::Internal,
        },
    }
}

fn errno_kind(raw: Option<i32>) -> ErrorKind {
    let full = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
    ];
    match raw {
        Some(raw) if full.iter().any(|errno| errno.raw_os_error() == raw) => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Internal,
    }
}

/// Wraps an error of `operation` on the directory `path`.
pub(super) fn tree_error(
    operation: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(layer::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Tree {
        operation,
        path,
        source: Box::new(source),
    }
}

/// Wraps an I/O error of `call` on `path`.
pub(super) fn io_error(call: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { call, path, source }
}

/// At most 120 characters of a foreign text, without control characters.
pub(super) fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
