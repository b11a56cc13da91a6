//! The tokio driver: streams over anything that reads and writes.
//!
//! ```no_run
//! # async fn serve(upgraded: tokio::net::TcpStream) {
//! use pausa_spdy::{Config, Headers, Role, RstStatus, Session};
//!
//! let session = Session::start(upgraded, Role::Server, Config::default());
//! while let Some(incoming) = session.accept().await {
//!     match incoming.headers().get("streamType") {
//!         Some("stdin") => {
//!             let (mut input, _output) = incoming.accept(Headers::new()).split();
//!             tokio::spawn(async move { while let Ok(Some(_bytes)) = input.chunk().await {} });
//!         }
//!         _ => incoming.refuse(RstStatus::RefusedStream),
//!     }
//! }
//! session.close().await;
//! # }
//! ```
//!
//! One task (`driver`) owns the byte stream. It shares the [`Connection`] and the queues of received bytes with the halves of
//! streams under one lock, held for a few assignments and never across an await or a system call. A half that changes
//! something wakes the task; the task wakes the halves that can continue.
//!
//! ```text
//!   Session, Incoming, RecvHalf, SendHalf ──▶ shared: Connection + slots ◀── driver ◀──▶ byte stream
//! ```
//!
//! Bounds, for each connection: at most [`Config::session_window`] unread bytes plus one read; for each stream at most
//! [`Config::send_buffer`] unsent bytes, or less with many streams, plus one batch; headers of streams that wait for
//! [`Session::accept`] up to [`Limits::waiting_headers`](crate::Limits::waiting_headers). A stream that is not read stalls no other one if the
//! peer keeps to its windows; with a peer that does not, all stall once it has filled the session's window (without windows
//! there is no way to tell the peer which stream to hold back).

mod driver;
mod incoming;
mod recv;
mod send;
mod shared;
mod stream;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::{Config, Connection, Error, Headers, Role};
use driver::Driver;
pub use incoming::Incoming;
pub use recv::RecvHalf;
pub use send::SendHalf;
use shared::Shared;
pub use stream::Stream;

/// A connection, driven by a task of its own. Dropping the session ends the task, the connection and all streams, whose halves
/// then fail with `ConnectionAborted`.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
}

impl Session {
    /// Starts the protocol on a connection that has been upgraded. Set `TCP_NODELAY` before: frames are small and complete.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start<T>(io: T, role: Role, config: Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = Connection::new(role, config.clone());
        let shared = Arc::new(Shared::new(connection, config.limits.waiting_headers));
        tokio::spawn(Driver::new(io, Arc::clone(&shared), config).run());
        Self { shared }
    }

    /// The next stream that the peer opens; `None` when it can open no more (GOAWAY received, connection ended; see
    /// [`Self::closed`] for the reason). Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if let Some((id, headers)) = state.next_incoming() {
                    return Some(Incoming::new(Arc::clone(&self.shared), id, headers));
                }
                if !state.is_running() || state.connection.is_going_away() {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Opens a stream and waits for the peer's reply. If it is cancelled, it resets the stream.
    ///
    /// # Errors
    /// The peer refused it, or the connection ended.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Error> {
        let id = self.shared.lock().open(headers)?;
        let mut stream = Stream::new(Arc::clone(&self.shared), id);
        let reply = poll_fn(|cx| self.shared.lock().poll_reply(id, cx)).await?;
        stream.set_headers(reply);
        Ok(stream)
    }

    /// Sends a PING and waits for its answer.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let asked = Instant::now();
        let answer = self.shared.lock().ping()?;
        answer.await.map_err(|_| Error::Closed)?;
        Ok(asked.elapsed())
    }

    /// How long the connection has been idle (as [`Config::idle_timeout`] counts).
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.shared.lock().last_activity.elapsed()
    }

    /// Streams open now, in any state.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.shared.lock().connection.open_streams()
    }

    /// Ends the connection in order: sends bytes written before, resets open streams, sends GOAWAY and ends the byte stream. Then
    /// it reads and discards until the peer closes too; otherwise the system would answer the peer with a reset that may overtake
    /// our last frames. Takes [`Config::close_timeout`] at most.
    pub async fn close(self) {
        self.shared.lock().start_closing();
        drop(self.closed().await);
    }

    /// Waits for the end of the connection: `Ok` for GOAWAY, a clean end of the byte stream or `close`. Any number of tasks may
    /// call it, also after the end.
    ///
    /// # Errors
    /// Why the connection failed.
    pub async fn closed(&self) -> Result<(), Error> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(end) = self.shared.lock().end().cloned() {
                return end;
            }
            changed.await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.end(Err(Error::Closed));
    }
}

#[cfg(test)]
mod tests;
