//! What can go wrong: what a peer did ([`Violation`]) and why something could not be done ([`Error`]).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::{GoAwayStatus, RstStatus, StreamId};

/// How the peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A control frame larger than [`crate::Limits::control_frame`].
    #[error("control frame of type {frame} has {length} bytes, allowed are {limit}")]
    ControlFrameTooLarge {
        /// The type of the frame.
        frame: u16,
        /// Its length in bytes.
        length: u32,
        /// The limit in bytes.
        limit: u32,
    },
    /// A control frame whose length does not fit its type.
    #[error("control frame of type {frame} cannot have {length} bytes")]
    FrameLength {
        /// The type of the frame.
        frame: u16,
        /// Its length in bytes.
        length: u32,
    },
    /// A version other than 3.
    #[error("control frame of SPDY version {version}, spoken is 3")]
    Version {
        /// The version.
        version: u16,
    },
    /// Id 0 where a stream or a ping must have one.
    #[error("frame of type {frame} with id 0")]
    ZeroId {
        /// The type of the frame, 0 for DATA.
        frame: u16,
    },
    /// A header block that zlib cannot read.
    #[error("header block is not the continuation of a zlib stream with the SPDY dictionary")]
    Compression,
    /// A header block larger than [`crate::Limits::header_block`].
    #[error("header block has more than {limit} bytes")]
    HeaderBlockTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A header block whose lengths contradict each other.
    #[error("header block is cut off or has something behind its end")]
    HeaderBlock,
    /// More headers than [`crate::Limits::headers`].
    #[error("header block announces {count} headers, allowed are {limit}")]
    TooManyHeaders {
        /// Announced.
        count: u32,
        /// The limit.
        limit: u32,
    },
    /// A name that is empty, not lower-case or not printable ASCII.
    #[error("header name is empty or not lower-case printable ASCII")]
    HeaderName,
    /// A name that occurs twice.
    #[error("header occurs twice")]
    DuplicateHeader,
    /// A stream id of the wrong side, or not above those before it.
    #[error("stream {stream} cannot be opened by the peer now")]
    StreamId {
        /// The id.
        stream: StreamId,
    },
    /// More data than the window allowed.
    #[error("more data than the window allowed")]
    WindowOverrun,
    /// A window beyond 2^31-1.
    #[error("window beyond 2^31-1 bytes")]
    WindowOverflow,
}

/// Why something could not be done on a session or a stream.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer broke the protocol; the connection is of no use any more.
    #[error("the peer does not keep to SPDY/3.1")]
    Protocol(#[source] Violation),
    /// The byte stream below failed.
    #[error("could not {operation} the connection")]
    Io {
        /// `read`, `write` or `shut down`.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: Arc<io::Error>,
    },
    /// The byte stream ended inside a frame.
    #[error("the connection was cut inside a frame")]
    Truncated,
    /// The peer sent GOAWAY with an error.
    #[error("the peer gave up the connection ({status:?})")]
    GoAway {
        /// Its reason.
        status: GoAwayStatus,
    },
    /// The stream was reset, by the peer or because the peer broke the protocol on it.
    #[error("stream {stream} was reset ({status:?})")]
    Reset {
        /// The stream.
        stream: StreamId,
        /// The reason.
        status: RstStatus,
    },
    /// The peer did not answer a PING in time.
    #[error("the peer did not answer a PING for {timeout:?}")]
    Unanswered {
        /// [`crate::Keepalive::timeout`].
        timeout: Duration,
    },
    /// Nothing happened for [`crate::Config::idle_timeout`].
    #[error("the connection was idle for {timeout:?}")]
    Idle {
        /// [`crate::Config::idle_timeout`].
        timeout: Duration,
    },
    /// The peer allows no more streams now.
    #[error("the peer allows {limit} streams at once, which are open")]
    TooManyStreams {
        /// What the peer allows.
        limit: u32,
    },
    /// All ids of this connection are used up; make a new one.
    #[error("all stream ids of this connection are used up: connect again")]
    IdsUsedUp,
    /// Headers to be sent are larger than [`crate::Limits::header_block`].
    #[error("headers have {length} bytes, allowed are {limit}")]
    HeadersTooLarge {
        /// Their length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The stream is not open for what was asked.
    #[error("stream {stream} is not open for that")]
    NotOpen {
        /// The stream.
        stream: StreamId,
    },
    /// The connection has ended, or has been told to end.
    #[error("the connection has ended")]
    Closed,
}

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This stream was reset or refused; the connection lives on.
    Reset,
    /// The connection has ended; nothing more can be done on it.
    Closed,
    /// The connection has ended because the peer broke the protocol.
    Protocol,
    /// The connection has ended because nothing came for too long.
    TimedOut,
    /// What was asked cannot be done now; the connection lives on.
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
