//! Why a stream or a connection ended, as numbers on the wire.

/// Why a stream was reset (draft 3, section 2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RstStatus {
    /// The peer broke the protocol on this stream.
    ProtocolError,
    /// A frame for a stream that is not open.
    InvalidStream,
    /// The stream was refused before it was processed.
    RefusedStream,
    /// The peer speaks another version.
    UnsupportedVersion,
    /// The end that opened the stream does not need it any more.
    Cancel,
    /// The end that resets the stream failed.
    InternalError,
    /// More data than the window allowed.
    FlowControlError,
    /// A second reply, or a second SYN_STREAM of the same id.
    StreamInUse,
    /// Data after FIN.
    StreamAlreadyClosed,
    /// A frame larger than the receiver's limit.
    FrameTooLarge,
    /// Any other number.
    Other(u32),
}

impl RstStatus {
    /// The meaning of a number on the wire.
    #[must_use]
    pub const fn from_wire(number: u32) -> Self {
        match number {
            1 => Self::ProtocolError,
            2 => Self::InvalidStream,
            3 => Self::RefusedStream,
            4 => Self::UnsupportedVersion,
            5 => Self::Cancel,
            6 => Self::InternalError,
            7 => Self::FlowControlError,
            8 => Self::StreamInUse,
            9 => Self::StreamAlreadyClosed,
            11 => Self::FrameTooLarge,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::ProtocolError => 1,
            Self::InvalidStream => 2,
            Self::RefusedStream => 3,
            Self::UnsupportedVersion => 4,
            Self::Cancel => 5,
            Self::InternalError => 6,
            Self::FlowControlError => 7,
            Self::StreamInUse => 8,
            Self::StreamAlreadyClosed => 9,
            Self::FrameTooLarge => 11,
            Self::Other(other) => other,
        }
    }
}

/// Why a connection ends (draft 3, section 2.6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoAwayStatus {
    /// Nothing is wrong.
    Ok,
    /// The peer broke the protocol.
    ProtocolError,
    /// The end that sends GOAWAY failed.
    InternalError,
    /// Any other number.
    Other(u32),
}

impl GoAwayStatus {
    /// The meaning of a number on the wire.
    #[must_use]
    pub const fn from_wire(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::ProtocolError,
            2 => Self::InternalError,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::ProtocolError => 1,
            Self::InternalError => 2,
            Self::Other(other) => other,
        }
    }
}
