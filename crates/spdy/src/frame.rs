//! What a frame says, apart from its bytes (draft 3, section 2.6).

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
/// SETTINGS: forget what was stored before.
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

/// SETTINGS: streams the sender lets its peer have open at once.
pub(crate) const SETTING_MAX_STREAMS: u32 = 4;
/// SETTINGS: the window streams to the sender begin with.
pub(crate) const SETTING_INITIAL_WINDOW: u32 = 7;

/// One pair of a SETTINGS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Flags about persistence, which nobody uses on such connections.
    pub flags: u8,
    /// What is set, 24 bits.
    pub id: u32,
    /// To what.
    pub value: u32,
}

/// A frame, or of DATA as much as was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its id.
        stream: StreamId,
        /// The stream it belongs to, 0 for none.
        associated: u32,
        /// 0 (first) to 7.
        priority: u8,
        /// The sender sends nothing more on it.
        fin: bool,
        /// The receiver may send nothing on it.
        unidirectional: bool,
        /// What it is for.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// Its id.
        stream: StreamId,
        /// The sender sends nothing more on it.
        fin: bool,
        /// Any answer.
        headers: Headers,
    },
    /// Ends a stream at once.
    RstStream {
        /// Its id.
        stream: StreamId,
        /// The reason.
        status: RstStatus,
    },
    /// Says what the sender allows.
    Settings {
        /// Forget what was stored before.
        clear: bool,
        /// What is set.
        settings: Vec<Setting>,
    },
    /// Asks for the same frame back, or is that answer.
    Ping {
        /// Odd if the client asks, even if the server does.
        id: u32,
    },
    /// No new streams from now on.
    GoAway {
        /// The last stream of the receiver that the sender has looked at, 0 for none.
        last_good: u32,
        /// The reason.
        status: GoAwayStatus,
    },
    /// More headers of a stream.
    Headers {
        /// Its id.
        stream: StreamId,
        /// The sender sends nothing more on it.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// Lets the receiver send more.
    WindowUpdate {
        /// On which stream; on the session if absent.
        stream: Option<StreamId>,
        /// How many bytes more.
        delta: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Its id.
        stream: StreamId,
        /// The sender sends nothing more on it; set with the last piece of the frame.
        fin: bool,
        /// The bytes, or those of the frame that were there.
        data: Bytes,
    },
}
