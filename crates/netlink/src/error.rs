//! What can go wrong in talking to the kernel's routing tables.

use std::io;

use netlink_packet_core::DecodeError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The netlink socket could not be used.
    #[error("netlink socket: {operation} failed")]
    Socket {
        /// The system call and what it was for.
        operation: &'static str,
        /// errno
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("netlink: cannot {request}")]
    Refused {
        /// What was asked for, with its arguments.
        request: String,
        /// errno
        #[source]
        source: io::Error,
    },
    /// The kernel's answer is not what the protocol says.
    #[error("netlink: the answer to \"{request}\" cannot be read")]
    Malformed {
        /// What was asked for.
        request: String,
        /// Where decoding stopped.
        #[source]
        source: DecodeError,
    },
    /// The answer ended before everything asked for was answered.
    #[error("netlink: no answer to \"{request}\"")]
    NoAnswer {
        /// What was asked for.
        request: String,
    },
    /// No thread could be started.
    #[error("cannot start a thread for another network namespace")]
    Thread {
        /// errno
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("setns(fd, CLONE_NEWNET) failed: is it a network namespace, and are we root?")]
    Setns {
        /// errno
        #[source]
        source: io::Error,
    },
}

/// What a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The link, address or route is not there.
    NotFound,
    /// It is there already.
    Exists,
    /// Anything else.
    Other,
}

impl Error {
    /// The case this error belongs to.
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
            _ => ErrorKind::Other,
        }
    }
}
