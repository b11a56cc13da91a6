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
//! One task (`driver`) owns the byte stream. It and the streams' halves share the [`Connection`] and the queues of what
//! has been received under one lock, held for a few assignments and never across an await or a system call. A half that
//! changes something wakes the task; the task wakes the halves that can go on.
//!
//! ```text
//!   Session, Incoming, RecvHalf, SendHalf ──▶ shared: Connection + slots ◀── driver ◀──▶ byte stream
//! ```
//!
//! Bounds, for each connection: unread bytes as [`Config::session_window`] says, plus one read; unsent bytes
//! [`Config::send_buffer`] for each stream, plus one batch. A stream nobody reads stalls no other one while the peer keeps
//! windows; with a peer that does not, all stall once it has filled the session's window by itself (without windows there
//! is no way to tell the peer which stream to hold back).

mod driver;
mod incoming;
mod recv;
mod send;
mod shared;
mod slot;
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
use shared::{Phase, Shared};
pub use stream::Stream;

/// A connection. It is driven by a task of its own; dropping the session ends the task, the connection and with it all
/// streams, whose halves then fail with `ConnectionAborted`.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
}

impl Session {
    /// Starts the protocol on a connection that has been upgraded already. Switch Nagle's algorithm off before
    /// (`TCP_NODELAY`): frames are small and complete.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start<T>(io: T, role: Role, config: Config) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::new(Shared::new(Connection::new(role, config.clone())));
        tokio::spawn(Driver::new(io, Arc::clone(&shared), config).run());
        Self { shared }
    }

    /// The next stream the peer opens; `None` once none can come any more (GOAWAY received, connection ended; see
    /// [`Self::closed`] for why). Cancel-safe.
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
                if state.phase != Phase::Running || state.connection.is_going_away() {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Opens a stream and waits for the peer's reply. Dropped while it waits, it resets the stream.
    ///
    /// # Errors
    /// The peer refused it, or the connection ended.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Error> {
        let id = self.shared.lock().open(headers)?;
        let mut stream = Stream::new(Arc::clone(&self.shared), id, Headers::new());
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

    /// Ends the connection in order: what was written before is sent, streams still open are reset, then GOAWAY, then the
    /// end of the byte stream; then what the peer still sends is read and dropped until it closes too, lest the system
    /// answers it with a reset that overtakes our last words. All that takes [`Config::close_timeout`] at most.
    pub async fn close(self) {
        self.shared.lock().start_closing();
        drop(self.closed().await);
    }

    /// Waits for the end of the connection: `Ok` for GOAWAY, a clean end of the byte stream or `close`. May be called by
    /// any number of tasks, also after the end.
    ///
    /// # Errors
    /// Why the connection failed.
    pub async fn closed(&self) -> Result<(), Error> {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(end) = self.shared.lock().end.clone() {
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
