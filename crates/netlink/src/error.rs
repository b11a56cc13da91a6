//! The crate's error.

use std::io;

use netlink_packet_core::DecodeError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    /// The netlink socket could not be used.
    #[error("netlink socket: {operation} failed")]
    Socket {
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("netlink: cannot {request}")]
    Refused {
        request: String,
        #[source]
        source: io::Error,
    },
    /// The kernel's answer breaks the protocol.
    #[error("netlink: the answer to \"{request}\" cannot be read")]
    Malformed {
        request: String,
        #[source]
        source: DecodeError,
    },
    /// The kernel did not answer in time or not completely.
    #[error("netlink: no answer to \"{request}\"")]
    NoAnswer { request: String },
    /// No thread could be started.
    #[error("cannot start a thread for another network namespace")]
    Thread {
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("setns(fd, CLONE_NEWNET) failed: is it a network namespace, and are we root?")]
    Setns {
        #[source]
        source: io::Error,
    },
}

/// The kind of failure, for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The link, address or route does not exist.
    NotFound,
    /// The link, address or route exists already.
    Exists,
    /// There is no route to the address.
    Unreachable,
    /// Anything else.
    Other,
}

impl Error {
    /// The kind of this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        use rustix::io::Errno;
        let errno = match self {
            Self::Refused { source, .. } => source.raw_os_error().map(Errno::from_raw_os_error),
            _ => None,
        };
        match errno {
            Some(Errno::NODEV | Errno::NOENT | Errno::ADDRNOTAVAIL | Errno::SRCH) => ErrorKind::NotFound,
            Some(Errno::EXIST) => ErrorKind::Exists,
            Some(Errno::NETUNREACH | Errno::HOSTUNREACH) => ErrorKind::Unreachable,
            _ => ErrorKind::Other,
        }
    }
}
