//! What can go wrong.

use crate::RstStatus;

/// Why something could not be done on a session or a stream.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream was reset by the peer.
    #[error("the peer reset the stream: {0:?}")]
    Reset(RstStatus),
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
}

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The peer reset this stream; the connection lives on.
    Reset,
    /// The connection has ended; nothing more can be done on it.
    Closed,
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Reset(_) => ErrorKind::Reset,
            Self::Closed => ErrorKind::Closed,
        }
    }
}
