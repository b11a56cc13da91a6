//! Frames, apart from their encoding (draft 3, section 2.6).

use bytes::Bytes;

use crate::{GoAwayStatus, Headers, RstStatus, StreamId};

/// The version in every control frame. SPDY/3.1 is version 3 with a window for the session.
pub(crate) const VERSION: u16 = 3;
/// Bytes before every payload.
pub(crate) const HEAD: usize = 8;
/// The largest length a frame can announce.
pub(crate) const MAX_LENGTH: usize = 0xff_ffff;
/// The direction of the sender ends with this frame.
pub(crate) const FLAG_FIN: u8 = 0x01;
/// The receiver of SYN_STREAM may not send on the stream.
pub(crate) const FLAG_UNIDIRECTIONAL: u8 = 0x02;
/// SETTINGS: discard stored settings.
pub(crate) const FLAG_CLEAR: u8 = 0x01;

/// Numbers of the control frames.
pub(crate) mod kind {
    pub(crate) const SYN_STREAM: u16 = 1;
    pub(crate) const SYN_REPLY: u16 = 2;
    pub(crate) const RST_STREAM: u16 = 3;
    pub(crate) const SETTINGS: u16 = 4;
    pub(crate) const PING: u16 = 6;
    pub(crate) const GOAWAY: u16 = 7;
    pub(crate) const HEADERS: u16 = 8;
    pub(crate) const WINDOW_UPDATE: u16 = 9;
}

/// SETTINGS: streams that the receiver may have open at once.
pub(crate) const SETTING_MAX_STREAMS: u32 = 4;
/// SETTINGS: the initial window of streams to the sender.
pub(crate) const SETTING_INITIAL_WINDOW: u32 = 7;

/// One pair of a SETTINGS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Setting {
    pub flags: u8,
    /// 24 bits.
    pub id: u32,
    pub value: u32,
}

/// A frame, or a piece of a DATA frame. With `fin` the sender sends nothing more on the stream; of a DATA frame only the last
/// piece has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub enum Frame {
    SynStream {
        stream: StreamId,
        /// The associated stream, 0 for none.
        associated: u32,
        /// 0 (highest) to 7.
        priority: u8,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    SynReply {
        stream: StreamId,
        fin: bool,
        headers: Headers,
    },
    /// Ends a stream at once.
    RstStream { stream: StreamId, status: RstStatus },
    /// The sender's settings.
    Settings { clear: bool, settings: Vec<Setting> },
    /// Requests the same frame as an answer, or is the answer.
    Ping {
        /// Odd for the client's requests, even for the server's.
        id: u32,
    },
    /// No new streams from now on.
    GoAway {
        /// The last stream of the receiver that the sender has processed, 0 for none.
        last_good: u32,
        status: GoAwayStatus,
    },
    /// More headers of a stream.
    Headers {
        stream: StreamId,
        fin: bool,
        headers: Headers,
    },
    /// Lets the receiver send more.
    WindowUpdate {
        /// `None` for the session.
        stream: Option<StreamId>,
        delta: u32,
    },
    Data {
        stream: StreamId,
        fin: bool,
        data: Bytes,
    },
}
