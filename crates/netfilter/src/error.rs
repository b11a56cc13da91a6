//! The crate's error.

use std::io;

use rustix::io::Errno;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    /// The netlink socket could not be used.
    #[error("netfilter socket: {operation} failed")]
    Socket {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("netfilter: cannot {request}")]
    Refused {
        request: String,
        #[source]
        source: io::Error,
    },
    /// The kernel's answer breaks the protocol.
    #[error("netfilter: the answer to \"{request}\" cannot be read")]
    Malformed { request: String },
    /// The kernel did not answer in time or not completely.
    #[error("netfilter: no answer to \"{request}\"")]
    NoAnswer { request: String },
    /// A request is longer than netlink allows.
    #[error("netfilter: the request \"{request}\" is too long")]
    TooLong { request: String },
}

/// The kind of failure, for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The table, chain, rule or extension does not exist.
    NotFound,
    /// The chain exists already.
    Exists,
    /// A chain is still the target of a rule.
    Busy,
    /// The rules have changed since they were read.
    Changed,
    /// Anything else.
    Other,
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        /// The kernel's own `ERESTART`, which is not in errno(3).
        const RESTART: i32 = 85;
        let Self::Refused { source, .. } = self else {
            return ErrorKind::Other;
        };
        match source.raw_os_error() {
            Some(RESTART) => ErrorKind::Changed,
            Some(raw) => match Errno::from_raw_os_error(raw) {
                Errno::NOENT => ErrorKind::NotFound,
                Errno::EXIST => ErrorKind::Exists,
                Errno::BUSY => ErrorKind::Busy,
                Errno::AGAIN | Errno::INTR => ErrorKind::Changed,
                _ => ErrorKind::Other,
            },
            None => ErrorKind::Other,
        }
    }
}
