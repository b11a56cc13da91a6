//! The configuration of a connection: limits for the peer, flow control, keepalive and timeouts.

use std::time::Duration;

/// The initial window of every stream and of the session (draft 3.1, section 2.6.8). No window here is ever smaller, because
/// a peer may fill this one before it receives our SETTINGS.
pub const DEFAULT_WINDOW: u32 = 64 * 1024;

/// Whether flow control is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowControl {
    /// For Kubernetes' peers. Go's spdystream neither sends nor obeys WINDOW_UPDATE and SETTINGS
    /// (<https://github.com/moby/spdystream/issues/2>): a sender that waited for its WINDOW_UPDATE would stop for good after
    /// 64 KiB, and a receiver that enforced its window would reset every `kubectl cp`. So:
    ///
    /// * Send windows are counted from the first byte and obeyed as soon as the peer shows that it uses flow control, by
    ///   WINDOW_UPDATE or by SETTINGS with an initial window. The session's window is obeyed from the first
    ///   WINDOW_UPDATE for stream 0 on. Before that, only the byte stream below limits us.
    /// * Receive windows are announced and credited as usual, but a peer may overrun one: it may not know of it yet, or
    ///   never will. Instead the byte stream is not read while more than [`Config::session_window`] is unread, and a
    ///   peer that has never used flow control gets no more WINDOW_UPDATE, which it would ignore.
    #[default]
    WhenPeerTakesPart,
    /// As in SPDY/3.1: never send more than the window, reset a stream and end a session that overruns it.
    Enforced,
}

/// How the driver detects a dead peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Send a PING after this time without a frame from the peer, and again each time. That alone detects a dead connection:
    /// the system reports it when we write, even while we do not read.
    pub interval: Duration,
    /// End the connection if the peer sends nothing for this time after a PING. Not for spdystream: it answers a PING only
    /// after its application has read everything before it, so a `kubectl exec` whose output waits in a pager would be
    /// cut off. Does not apply while we do not read from the peer (see [`FlowControl`]).
    pub timeout: Option<Duration>,
}

/// Limits for frames of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a control frame, compressed headers included. (DATA needs no limit: it is passed on in pieces.)
    pub control_frame: u32,
    /// Bytes of a header block, decompressed.
    pub header_block: usize,
    /// Headers in a block.
    pub headers: u32,
    /// Bytes of the header blocks of all streams that the peer has opened and that are not accepted yet. Streams beyond are
    /// refused.
    pub waiting_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_frame: 8 * 1024,
            header_block: 4 * 1024,
            headers: 32,
            waiting_headers: 64 * 1024,
        }
    }
}

/// The configuration of a connection. The default is right for Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields named as their types have no docs of their own"
)]
#[non_exhaustive]
pub struct Config {
    pub flow_control: FlowControl,
    /// Unread bytes of a stream before the peer must stop; at least 64 KiB. Announced by SETTINGS.
    pub stream_window: u32,
    /// Unread bytes of all streams together; at least 64 KiB. Bounds the memory of a connection.
    pub session_window: u32,
    /// Bytes written to a stream and not yet handed to the byte stream below, before writing waits.
    pub send_buffer: usize,
    /// What open streams share for that: with many, each gets less than [`Self::send_buffer`], but at least 4 KiB.
    pub session_send_buffer: usize,
    /// Streams the peer may have open at once; more are refused.
    pub max_streams: u32,
    pub limits: Limits,
    /// Our own PINGs, if any. (The peer's are always answered.) By default they are sent without a timeout.
    pub keepalive: Option<Keepalive>,
    /// Ends the session after this time without a frame from the peer and without data sent. Answers to our own PINGs do
    /// not count; PINGs of the peer do, so `kubectl`, which sends them, keeps a shell open as it does with spdystream.
    pub idle_timeout: Option<Duration>,
    /// How long `Session::close` waits until everything is sent and the peer closes its side.
    pub close_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flow_control: FlowControl::default(),
            stream_window: 256 * 1024,
            session_window: 1024 * 1024,
            send_buffer: 128 * 1024,
            session_send_buffer: 1024 * 1024,
            max_streams: 1024,
            limits: Limits::default(),
            keepalive: Some(Keepalive {
                interval: Duration::from_secs(30),
                timeout: None,
            }),
            idle_timeout: None,
            close_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    pub(crate) fn announced_stream_window(&self) -> u32 {
        self.stream_window.clamp(DEFAULT_WINDOW, crate::StreamId::MAX)
    }

    pub(crate) fn announced_session_window(&self) -> u32 {
        self.session_window.clamp(DEFAULT_WINDOW, crate::StreamId::MAX)
    }
}
