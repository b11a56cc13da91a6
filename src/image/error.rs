//! What can go wrong with images, told for the person who reads a pod's event.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pausa_distribution as distribution;
use pausa_layer as layer;
use rustix::io::Errno;

use crate::error::{ErrorKind, Kinded};

/// A failure of the image room.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is no image reference, or the credentials given with it cannot be used.
    #[error("cannot use the image reference {reference:?}")]
    Reference {
        /// As given, shortened.
        reference: String,
        /// What is wrong.
        #[source]
        source: Box<distribution::Error>,
    },
    /// The registry, or what it sent, is at fault.
    #[error("cannot fetch {reference}")]
    Fetch {
        /// The image.
        reference: String,
        /// What the client says.
        #[source]
        source: Box<distribution::Error>,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {diff_id}")]
    Unpack {
        /// Which.
        diff_id: String,
        /// Entry, system call, errno.
        #[source]
        source: Box<layer::Error>,
    },
    /// A layer is not the one that the image config names.
    #[error(
        "a layer unpacks to {found} where the image config says {expected}; the image is faulty and must be built again"
    )]
    DiffId {
        /// Of the config.
        expected: String,
        /// Of the archive.
        found: String,
    },
    /// The config is not an image config.
    #[error("{digest} is not a usable image config: {reason}; the image must be built again")]
    Config {
        /// Which.
        digest: String,
        /// The broken rule, or where the JSON is wrong.
        reason: String,
    },
    /// Something that is pulled like an image and is none.
    #[error(
        "{what} has the media type {media_type:?}, which is no part of a container image this runtime can use"
    )]
    MediaType {
        /// Config or layer, and its digest.
        what: String,
        /// As given, shortened.
        media_type: String,
    },
    /// No image has this name or id.
    #[error("no image {reference:?} in the store; pull it first")]
    NotFound {
        /// As given.
        reference: String,
    },
    /// More than one image has an id with this beginning.
    #[error("{reference:?} is the beginning of more than one image id; give more digits")]
    Ambiguous {
        /// As given.
        reference: String,
    },
    /// A system call on the store failed.
    #[error("{call} {} failed; check the file system that holds it", path.display())]
    Io {
        /// The call.
        call: &'static str,
        /// On what.
        path: PathBuf,
        /// errno.
        #[source]
        source: io::Error,
    },
    /// A record of the store cannot be read.
    #[error("{} is not a valid record: {reason}; pull the image again", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An overlay mount failed.
    #[error("{call} failed for an overlay of {layers} layers{}", said(log))]
    Mount {
        /// The call with its arguments.
        call: String,
        /// How many lower layers.
        layers: usize,
        /// The kernel's own words, if it had any.
        log: String,
        /// errno.
        #[source]
        source: Errno,
    },
    /// An overlay mount was asked for that the kernel cannot make.
    #[error("an overlay needs {needed} layers and got {given}")]
    LayerCount {
        /// In words.
        needed: &'static str,
        /// How many there were.
        given: usize,
    },
    /// An archive cannot be read.
    #[error("the image archive cannot be read")]
    ArchiveRead {
        /// What the reader or decompressor says.
        #[source]
        source: io::Error,
    },
    /// An archive is not what it should be.
    #[error("the image archive is not usable: {name:?} {reason}")]
    Archive {
        /// Name in the archive, shortened.
        name: String,
        /// What is wrong, as the end of a sentence.
        reason: &'static str,
    },
    /// Something cannot be mended while it is in use.
    #[error(
        "layer {diff_id} is damaged and in use by a container or a pull; stop those that use it and try again"
    )]
    InUse {
        /// Which.
        diff_id: String,
    },
    /// An archive could not be written.
    #[error("the image archive cannot be written")]
    ArchiveWrite {
        /// What the writer says.
        #[source]
        source: io::Error,
    },
    /// The work ended without a result: the daemon stops, or has a bug.
    #[error("{doing} was given up because the daemon is stopping; try again")]
    Stopped {
        /// What was going on.
        doing: &'static str,
    },
    /// A short name, and none of what it may mean could be pulled.
    #[error("cannot pull {reference:?}: {}", told(tried))]
    AllNamesFailed {
        /// As given, shortened.
        reference: String,
        /// One for each meaning, in the order tried.
        tried: Vec<Self>,
    },
    /// The failure of the operation that this request had joined.
    #[error(transparent)]
    Joined(Arc<Self>),
}

fn told(tried: &[ImageError]) -> String {
    let texts: Vec<String> = tried.iter().map(|error| crate::error::chain(error)).collect();
    texts.join("; then ")
}

fn said(log: &str) -> String {
    if log.is_empty() {
        String::new()
    } else {
        format!(" (the kernel says: {log})")
    }
}

impl ImageError {
    /// The failure of all meanings of a name; its own where there is only one.
    pub(super) fn all_names_failed(reference: &str, mut tried: Vec<Self>) -> Self {
        match tried.pop() {
            Some(only) if tried.is_empty() => only,
            last => Self::AllNamesFailed {
                reference: shortened(reference),
                tried: tried.into_iter().chain(last).collect(),
            },
        }
    }

    /// Whether other bytes came than those of the digest: another server may have the right ones.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Fetch { source, .. } if source.kind() == distribution::Kind::DigestMismatch)
    }

    /// Whether the same pull may get further another time, with what came until now.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => is_retryable(source),
            Self::Joined(inner) => inner.is_retryable(),
            _ => false,
        }
    }

    /// Whether the disk is full, or the quota of whoever runs this.
    pub(super) fn is_disk_full(&self) -> bool {
        let full = |raw: Option<i32>| {
            raw == Some(Errno::NOSPC.raw_os_error()) || raw == Some(Errno::DQUOT.raw_os_error())
        };
        match self {
            Self::Io { source, .. } => full(source.raw_os_error()),
            Self::Unpack { source, .. } => match &**source {
                layer::Error::System { source, .. } => full(Some(source.raw_os_error())),
                layer::Error::Output { source, .. } => full(source.raw_os_error()),
                _ => false,
            },
            _ => false,
        }
    }

    /// The same with those who delivered the bytes, if it is about damaged ones.
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
            Self::Unpack { source, .. } => unpack_kind(source),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } | Self::ArchiveRead { .. } | Self::Archive { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::MediaType { .. } => ErrorKind::Unimplemented,
            Self::DiffId { .. } | Self::Config { .. } | Self::InUse { .. } => ErrorKind::FailedPrecondition,
            Self::Io { source, .. } | Self::ArchiveWrite { source } => errno_kind(source.raw_os_error()),
            Self::Mount { source, .. } => errno_kind(Some(source.raw_os_error())),
            Self::Record { .. } | Self::LayerCount { .. } => ErrorKind::Internal,
            Self::Stopped { .. } => ErrorKind::Unavailable,
            // One that may get better goes before one that says no.
            Self::AllNamesFailed { tried, .. } => {
                let mut kinds = tried.iter().map(Self::kind);
                let kind = kinds.clone().find(|kind| *kind == ErrorKind::Unavailable);
                kind.or_else(|| kinds.next_back()).unwrap_or(ErrorKind::NotFound)
            }
            Self::Joined(inner) => inner.kind(),
        }
    }
}

/// Whether a registry's failure says nothing about the image itself.
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
        // Outages and senseless answers: they end by themselves or with another mirror.
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

/// Wraps an I/O error of `call` on `path`.
pub(super) fn io_error(call: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { call, path, source }
}

/// At most 120 characters of somebody's words, without control characters.
pub(super) fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
