//! Why a stream or a connection ended.

/// Why a stream was reset (draft 3, section 2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RstStatus {
    /// The peer broke the protocol on this stream.
    ProtocolError,
    /// A frame came for a stream that is not open.
    InvalidStream,
    /// The stream was refused before anything was done for it.
    RefusedStream,
    /// The peer speaks another version.
    UnsupportedVersion,
    /// Who opened the stream needs it no longer.
    Cancel,
    /// The end that resets failed.
    InternalError,
    /// More data than the window allowed.
    FlowControlError,
    /// A second reply, or a second SYN_STREAM of the same id.
    StreamInUse,
    /// Data after FIN.
    StreamAlreadyClosed,
    /// A frame larger than the receiver's limit.
    FrameTooLarge,
    /// A number this crate has no name for.
    Other(u32),
}

/// Why a connection ends (draft 3, section 2.6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoAwayStatus {
    /// Nothing is wrong.
    Ok,
    /// The peer broke the protocol.
    ProtocolError,
    /// The end that goes failed.
    InternalError,
    /// A number this crate has no name for.
    Other(u32),
}
