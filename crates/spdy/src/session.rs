//! The tokio driver: a connection of streams over anything that reads and writes.
//!
//! ```text
//!   let session = Session::start(upgraded_io, Role::Server, Config::default());
//!   while let Some(incoming) = session.accept().await {          // SYN_STREAM
//!       match incoming.headers().get("streamType") {
//!           Some("stdin") => { let stream = incoming.accept(Headers::new()); … }   // SYN_REPLY
//!           _ => incoming.refuse(RstStatus::RefusedStream),                         // RST_STREAM
//!       }
//!   }
//!   session.close().await;                                        // everything sent, GOAWAY, shutdown
//! ```

mod stream;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Error, Headers, Role, RstStatus, StreamId};
pub use stream::{RecvHalf, SendHalf, Stream};

/// Whether windows are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowControl {
    /// What Kubernetes' peers need. Go's spdystream neither sends nor heeds WINDOW_UPDATE and SETTINGS, so send
    /// windows are kept only from the moment the peer shows (by one of these frames) that it takes part. What we
    /// receive is bounded by [`Config::session_window`]: once so much is unread, the socket is no longer read.
    #[default]
    WhenPeerTakesPart,
    /// As SPDY/3.1 says: never send more than the window, reset what overruns it.
    Enforced,
}

/// How the driver looks after the connection by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Send a PING after so long without a frame from the peer.
    pub interval: Duration,
    /// End the connection when nothing at all came for so long after the PING.
    pub timeout: Duration,
}

/// Limits and habits of a session. `Config::default()` is right for Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Whether windows are kept.
    pub flow_control: FlowControl,
    /// Bytes a stream may have unread before the peer must stop (announced by SETTINGS).
    pub stream_window: u32,
    /// Bytes all streams together may have unread.
    pub session_window: u32,
    /// Streams the peer may have open at once; more are refused.
    pub max_streams: u32,
    /// Pings of our own; none if absent. (The peer's pings are always answered.)
    pub keepalive: Option<Keepalive>,
    /// Ends the session after so long without a frame from the peer and without data sent. Answers to our own pings
    /// do not count, pings of the peer do.
    pub idle_timeout: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            flow_control: FlowControl::default(),
            stream_window: 256 * 1024,
            session_window: 1024 * 1024,
            max_streams: 1024,
            keepalive: None,
            idle_timeout: None,
        }
    }
}

/// A connection. It is driven by a task of its own; dropping the session ends the task, the connection and with it all
/// streams, whose halves then fail with `ConnectionAborted`.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Starts the protocol on a connection that has been upgraded already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start<T>(io: T, role: Role, config: Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        drop((io, role, config));
        unimplemented!("missing")
    }

    /// The next stream the peer opens; `None` once none can come any more (GOAWAY received, connection ended; see
    /// [`Self::closed`] for why). Cancel-safe; may be waited for by one task at a time.
    pub async fn accept(&self) -> Option<Incoming> {
        unimplemented!("missing")
    }

    /// Opens a stream and waits for the peer's reply.
    ///
    /// # Errors
    /// The peer refused it, or the connection ended.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Error> {
        drop(headers);
        unimplemented!("missing")
    }

    /// Sends a PING and waits for its answer.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn ping(&self) -> Result<Duration, Error> {
        unimplemented!("missing")
    }

    /// How long the connection has been idle (as [`Config::idle_timeout`] counts).
    #[must_use]
    pub fn idle(&self) -> Duration {
        unimplemented!("missing")
    }

    /// Streams open now, in any state.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        unimplemented!("missing")
    }

    /// Ends the connection in order: what was written before is sent first, then GOAWAY, then the end of the byte
    /// stream. Streams still open are cut off. (Go's spdystream stops reading at GOAWAY, so nothing may follow it.)
    pub async fn close(self) {
        unimplemented!("missing")
    }

    /// Waits for the end of the connection: `Ok` for GOAWAY, a clean end of the byte stream or `close`.
    /// May be called by any number of tasks, also after the end.
    ///
    /// # Errors
    /// Why the connection failed.
    pub async fn closed(&self) -> Result<(), Error> {
        unimplemented!("missing")
    }
}

/// A stream the peer has opened and we have not answered. Dropping it refuses it. What the peer sends meanwhile is kept.
#[derive(Debug)]
#[must_use = "a stream that is dropped is refused"]
pub struct Incoming {}

impl Incoming {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        unimplemented!("missing")
    }

    /// What the peer opened it with.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        unimplemented!("missing")
    }

    /// Sends SYN_REPLY. Nothing can be sent on a stream before (spdystream would drop it).
    pub fn accept(self, headers: Headers) -> Stream {
        drop(headers);
        unimplemented!("missing")
    }

    /// Sends RST_STREAM.
    pub fn refuse(self, status: RstStatus) {
        let _ = status;
        unimplemented!("missing")
    }
}
