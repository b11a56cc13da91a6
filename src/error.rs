//! The kinds of failure, which decide the gRPC code.
//!
//! Each module has its own error type with fields and implements [`Kinded`] for it. Only `cri/status.rs` turns the kind
//! into a gRPC code.

/// A kind of failure, named after its gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is wrong, whatever the state of the node.
    InvalidArgument,
    /// The object of the request does not exist.
    NotFound,
    /// Another object has that name.
    AlreadyExists,
    /// The object, or the node, is not in a state for this.
    FailedPrecondition,
    /// A limit is reached: disk full, too many objects.
    ResourceExhausted,
    DeadlineExceeded,
    /// Another party does not answer: a registry, a plugin.
    Unavailable,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// Received or stored data are damaged.
    DataLoss,
    /// pausa does not support it.
    Unimplemented,
    /// A fault of the node or of pausa.
    Internal,
}

impl ErrorKind {
    /// The label in metrics.
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

/// An error with a kind.
pub trait Kinded: std::error::Error + Send + Sync + 'static {
    fn kind(&self) -> ErrorKind;
}

impl<T: Kinded> Kinded for std::sync::Arc<T> {
    fn kind(&self) -> ErrorKind {
        T::kind(self)
    }
}

/// A failure without its type: the kind for machines, the text for people. `?` converts any [`Kinded`] error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: ErrorKind,
    /// The whole chain of causes in one line.
    pub message: String,
}

impl Failure {
    /// A failure without an underlying error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The failure of an error and its causes.
    pub fn from_error(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(kind, chain(error))
    }
}

impl<E: Kinded> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::from_error(error.kind(), &error)
    }
}

/// An error with all its causes in one line, outermost first. Some libraries end their text with that of the cause (`read
/// the file: no such file`): it is not printed twice. Other errors that happen to say the same are all printed.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error.to_string();
    let mut text = last.clone();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        let printed = last
            .strip_suffix(&cause_text)
            .is_some_and(|before| before.ends_with(": "));
        if !printed {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        last = cause_text;
        next = cause.source();
    }
    text
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
