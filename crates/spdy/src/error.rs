//! Errors: protocol violations of the peer ([`Violation`]) and failed operations ([`Error`]).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::{GoAwayStatus, RstStatus, StreamId};

/// How the peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Violation {
    /// A control frame larger than [`crate::Limits::control_frame`].
    #[error("control frame of type {frame} has {length} bytes, allowed are {limit}")]
    ControlFrameTooLarge { frame: u16, length: u32, limit: u32 },
    /// A control frame whose length does not fit its type.
    #[error("control frame of type {frame} cannot have {length} bytes")]
    FrameLength { frame: u16, length: u32 },
    /// A version other than 3.
    #[error("control frame of SPDY version {version}, spoken is 3")]
    Version { version: u16 },
    /// Id 0 for a stream or a ping.
    #[error("frame of type {frame} with id 0")]
    ZeroId { frame: u16 },
    /// A header block that zlib cannot read.
    #[error("header block is not the continuation of a zlib stream with the SPDY dictionary")]
    Compression,
    /// A header block larger than [`crate::Limits::header_block`].
    #[error("header block has more than {limit} bytes")]
    HeaderBlockTooLarge { limit: usize },
    /// A header block whose lengths contradict each other.
    #[error("header block is cut off or has something behind its end")]
    HeaderBlock,
    /// More headers than [`crate::Limits::headers`].
    #[error("header block announces {count} headers, allowed are {limit}")]
    TooManyHeaders { count: u32, limit: u32 },
    /// A name that is empty, not lower-case or not printable ASCII.
    #[error("header name is empty or not lower-case printable ASCII")]
    HeaderName,
    /// A name that occurs twice.
    #[error("header occurs twice")]
    DuplicateHeader,
    /// A stream id of the wrong side, or not above those before it.
    #[error("stream {stream} cannot be opened by the peer now")]
    StreamId { stream: StreamId },
    /// More data than the window allowed.
    #[error("more data than the window allowed")]
    WindowOverrun,
    /// A window beyond 2^31-1.
    #[error("window beyond 2^31-1 bytes")]
    WindowOverflow,
}

/// Why an operation on a session or a stream failed.
#[derive(Clone, Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol; the connection has ended.
    #[error("the peer does not keep to SPDY/3.1")]
    Protocol(#[source] Violation),
    /// The byte stream below failed.
    #[error("could not {operation} the connection")]
    Io {
        operation: &'static str,
        #[source]
        source: Arc<io::Error>,
    },
    /// The byte stream ended inside a frame.
    #[error("the connection was cut inside a frame")]
    Truncated,
    /// The peer sent GOAWAY with an error.
    #[error("the peer gave up the connection ({status:?})")]
    GoAway { status: GoAwayStatus },
    /// The stream was reset, by the peer or because the peer broke the protocol on it.
    #[error("stream {stream} was reset ({status:?})")]
    Reset { stream: StreamId, status: RstStatus },
    /// The peer did not answer a PING in time.
    #[error("the peer did not answer a PING for {timeout:?}")]
    Unanswered { timeout: Duration },
    /// Nothing happened for [`crate::Config::idle_timeout`].
    #[error("the connection was idle for {timeout:?}")]
    Idle { timeout: Duration },
    /// The peer allows no more streams now.
    #[error("the peer allows {limit} streams at once, which are open")]
    TooManyStreams { limit: u32 },
    /// All stream ids of this connection are used up; open a new one.
    #[error("all stream ids of this connection are used up: connect again")]
    IdsUsedUp,
    /// Headers to be sent are larger than [`crate::Limits::header_block`].
    #[error("headers have {length} bytes, allowed are {limit}")]
    HeadersTooLarge { length: usize, limit: usize },
    /// The stream is not open for the operation.
    #[error("stream {stream} is not open for this operation")]
    NotOpen { stream: StreamId },
    /// The connection has ended or is closing.
    #[error("the connection has ended")]
    Closed,
}

/// The kind of failure, for callers that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The stream was reset or refused; the connection continues.
    Reset,
    /// The connection has ended, by either side: nothing can be sent.
    Closed,
    /// The connection has ended because the peer broke the protocol.
    Protocol,
    /// The connection has ended because the peer was silent for too long.
    TimedOut,
    /// The operation is not possible now; the connection continues.
    Refused,
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Protocol(_) => ErrorKind::Protocol,
            Self::Io { .. } | Self::Truncated | Self::GoAway { .. } | Self::Closed => ErrorKind::Closed,
            Self::Reset { .. } => ErrorKind::Reset,
            Self::Unanswered { .. } | Self::Idle { .. } => ErrorKind::TimedOut,
            Self::TooManyStreams { .. }
            | Self::IdsUsedUp
            | Self::HeadersTooLarge { .. }
            | Self::NotOpen { .. } => ErrorKind::Refused,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Io { source, .. } => source.kind(),
            Error::NotOpen { .. } => io::ErrorKind::BrokenPipe,
            _ => match error.kind() {
                ErrorKind::Reset => io::ErrorKind::ConnectionReset,
                ErrorKind::TimedOut => io::ErrorKind::TimedOut,
                ErrorKind::Refused => io::ErrorKind::InvalidInput,
                ErrorKind::Closed | ErrorKind::Protocol => io::ErrorKind::ConnectionAborted,
            },
        };
        Self::new(kind, error)
    }
}
