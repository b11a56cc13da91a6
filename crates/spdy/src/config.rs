//! Limits and habits: what a connection allows the peer and how it looks after itself.

use std::time::Duration;

/// The window every stream and the session start with (draft 3.1, section 2.6.8). No window here is ever smaller, because
/// a peer may fill this one before it hears of another.
pub const DEFAULT_WINDOW: u32 = 64 * 1024;

/// Whether windows are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowControl {
    /// What Kubernetes' peers need. Go's spdystream neither sends nor heeds WINDOW_UPDATE and SETTINGS
    /// (<https://github.com/moby/spdystream/issues/2>): who waited for its WINDOW_UPDATE would stop for good after
    /// 64 KiB, and who insisted on its own window would reset every `kubectl cp`. So:
    ///
    /// * Send windows are counted from the first byte and kept from the moment the peer shows that it takes part, by
    ///   WINDOW_UPDATE or by SETTINGS with an initial window. The session's window is kept from the first
    ///   WINDOW_UPDATE for stream 0. Before that, only the byte stream below holds us back.
    /// * Receive windows are announced and credited as usual, but a peer that overruns one is not punished: it may not
    ///   have heard of it yet, or never will. Instead the byte stream is not read while more than
    ///   [`Config::session_window`] is unread, and a peer that has shown no sign of taking part gets no more
    ///   WINDOW_UPDATE, which it would only throw away.
    #[default]
    WhenPeerTakesPart,
    /// As SPDY/3.1 says: never send more than the window, reset a stream and end a session that overruns it.
    Enforced,
}

/// How the driver sees that a peer has vanished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Send a PING after so long without a frame from the peer, and again each time. That alone finds a connection that
    /// is dead: the system reports it when we write, even while we do not read.
    pub interval: Duration,
    /// End the connection when nothing at all came for so long after a PING. Not for spdystream: it answers a PING no
    /// sooner than its application has read what came before, so a `kubectl exec` whose output waits in a pager would be
    /// cut off. While the peer is held back (see [`FlowControl`]) its answers cannot be read and this is not judged.
    pub timeout: Option<Duration>,
}

/// How much a peer may ask of us before a single stream is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a control frame, compressed headers included. (DATA needs no limit: it is passed on in pieces.)
    pub control_frame: u32,
    /// Bytes of a header block, decompressed.
    pub header_block: usize,
    /// Headers in a block.
    pub headers: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            control_frame: 32 * 1024,
            header_block: 64 * 1024,
            headers: 128,
        }
    }
}

/// Limits and habits of a connection. `Config::default()` is right for Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Whether windows are kept.
    pub flow_control: FlowControl,
    /// Bytes a stream may have unread before the peer must stop; at least 64 KiB. Announced by SETTINGS.
    pub stream_window: u32,
    /// Bytes all streams together may have unread; at least 64 KiB. This is what bounds the memory of a connection.
    pub session_window: u32,
    /// Bytes written to a stream and not yet handed to the byte stream below, before writing waits.
    pub send_buffer: usize,
    /// Streams the peer may have open at once; more are refused.
    pub max_streams: u32,
    /// What a single frame may be.
    pub limits: Limits,
    /// Pings of our own; none if absent. (The peer's are always answered.) By default they are sent but not judged.
    pub keepalive: Option<Keepalive>,
    /// Ends the session after so long without a frame from the peer and without data sent. Answers to our own pings do
    /// not count; pings of the peer do, so `kubectl`, which pings, keeps a shell open as it does with spdystream.
    pub idle_timeout: Option<Duration>,
    /// How long `Session::close` waits for what is still to be sent and then for the peer to close its side.
    pub close_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flow_control: FlowControl::default(),
            stream_window: 256 * 1024,
            session_window: 1024 * 1024,
            send_buffer: 128 * 1024,
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
    /// The window of a stream as it is announced.
    pub(crate) fn announced_stream_window(&self) -> u32 {
        self.stream_window.clamp(DEFAULT_WINDOW, crate::StreamId::MAX)
    }

    /// The window of the session as it is announced.
    pub(crate) fn announced_session_window(&self) -> u32 {
        self.session_window.clamp(DEFAULT_WINDOW, crate::StreamId::MAX)
    }
}
