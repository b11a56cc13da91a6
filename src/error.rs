//! What kinds of failure there are: the one word that every room's error and the door agree on.
//!
//! Each module has its own error type with fields and implements [`Kinded`] for it. `cri/status.rs` turns the kind
//! into a gRPC code; nothing else does.

/// A kind of failure, after the gRPC status codes it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong, whatever the state of the node.
    InvalidArgument,
    /// What the request is about is not there.
    NotFound,
    /// Something else has that name.
    AlreadyExists,
    /// It is there but not in a state for this.
    FailedPrecondition,
    /// A limit is reached: disk full, too many.
    ResourceExhausted,
    /// It did not happen in time.
    DeadlineExceeded,
    /// Somebody else does not answer: a registry, a plugin.
    Unavailable,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// Bytes came that are not those asked for.
    DataLoss,
    /// pausa does not do that (yet).
    Unimplemented,
    /// The node or pausa is at fault.
    Internal,
}

impl ErrorKind {
    /// In the words of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::FailedPrecondition => "failed_precondition",
            Self::ResourceExhausted => "resource_exhausted",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
            Self::DataLoss => "data_loss",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        }
    }
}

/// An error that knows what kind of failure it is.
pub trait Kinded: std::error::Error + Send + Sync + 'static {
    /// The kind of this failure.
    fn kind(&self) -> ErrorKind;
}

/// A failure as it leaves a room: the kind for machines, the story for the person who reads it.
///
/// Rooms make it from their own errors with [`Failure::from_error`]; the door only adds the gRPC code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the door makes a gRPC code of.
    pub kind: ErrorKind,
    /// The whole chain of causes in one line.
    pub message: String,
}

impl Failure {
    /// A failure that has no error behind it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The failure that `error` and its causes are to a caller.
    pub fn from_error(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(kind, chain(error))
    }
}

impl<E: Kinded> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::from_error(error.kind(), &error)
    }
}

/// An error with all its causes in one line, outermost first.
///
/// Messages in this code base never repeat their source, so this is the full story.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries print their source inside their own text: do not say it twice.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
