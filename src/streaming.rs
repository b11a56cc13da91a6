//! The streaming server for exec, attach and port-forward.
//!
//! CRI answers such a call with a URL. The client (kubelet on behalf of kubectl, or crictl) connects to it and upgrades
//! the connection to SPDY/3.1 or WebSocket.
//!
//! ```text
//!   CRI call ─▶ checked ─▶ token, URL                        server ─ route ─ upgrade      HTTP, tls
//!                             │                                          │
//!   client ── HTTP ── token redeemed ── upgraded ─┬─ remote ──▶ client ─ session           exec, attach
//!                                                 └─ forward ─▶ pairs                      port-forward
//! ```
//!
//! A [`ticket`](ticket::Ticket) is the operation of a URL, with the functions that start it. All data travel through
//! descriptors.
//!
//! Must never: decide anything about containers, know about monitors, or leave anything behind when a client
//! disconnects: a session is one future, and dropping it closes everything.
//!
//! Invariants: a URL works once, within a minute, for the operation it was issued for. The memory of a session is bounded,
//! however many streams, headers, messages or connections its client makes: a side that does not read makes the other
//! one wait. The number of sessions is bounded, with each pod and in all.
//!
//! Links: the streaming calls of CRI v1; [0007](../docs/design/0007-streaming.md).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::error::Failure;
use crate::telemetry::metrics::StreamingStates;
use sessions::Sessions;
use ticket::Ticket;
use tls::Certificate;
use tokens::Tokens;

mod channel;
mod client;
mod descriptor;
mod forward;
mod remote;
mod resize;
mod route;
mod server;
mod session;
mod sessions;
mod status;
pub mod ticket;
mod tls;
mod tokens;
mod tunnel;
mod upgrade;
mod websocket;

pub use sessions::SessionLimits;
pub use tls::TlsError;

/// Configuration of the streaming server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address to listen on; port 0 means any free port.
    pub address: SocketAddr,
    /// Files of the certificate and its key; plain HTTP without them.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// A connection without traffic for so long is closed.
    pub idle_timeout: Duration,
    pub sessions: SessionLimits,
}

/// Why the streaming server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamingError {
    #[error("cannot listen on {address} for streams")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Certificate(#[from] TlsError),
}

/// The streaming server. After it is dropped, no new clients are accepted; sessions continue.
#[derive(Debug)]
pub struct Streaming {
    shared: Arc<Shared>,
    /// How every URL begins.
    base: String,
    accepting: AbortHandle,
}

/// The state that all connections share.
#[derive(Debug)]
struct Shared {
    tokens: Tokens<Ticket>,
    certificate: Option<Certificate>,
    /// Of sessions that begin.
    idle: Mutex<Duration>,
    sessions: Arc<Sessions>,
}

impl Streaming {
    /// Starts to listen.
    ///
    /// # Errors
    /// The address or the certificate cannot be used.
    pub async fn start(settings: Settings) -> Result<Self, StreamingError> {
        let certificate = match &settings.certificate {
            Some((cert, key)) => Some(Certificate::open(cert, key)?),
            None => None,
        };
        let failed = |source| StreamingError::Listen {
            address: settings.address,
            source,
        };
        let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{address}");
        let shared = Arc::new(Shared {
            tokens: Tokens::default(),
            certificate,
            idle: Mutex::new(settings.idle_timeout),
            sessions: Arc::new(Sessions::new(settings.sessions)),
        });
        tracing::info!(url = base, "streaming server started");
        let accepting = tokio::spawn(server::serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            shared,
            base,
            accepting,
        })
    }

    /// Has other limits from now on, for sessions that begin. Address and certificate stay.
    pub fn configure(&self, settings: &Settings) {
        *self.shared.idle.lock() = settings.idle_timeout;
        self.shared.sessions.set_limits(settings.sessions);
    }

    /// What there is of sessions, for metrics.
    pub(crate) fn states(&self) -> StreamingStates {
        let (sessions, sessions_max) = self.shared.sessions.total();
        StreamingStates {
            sessions,
            sessions_max,
            tickets: self.shared.tokens.outstanding(),
        }
    }

    /// Issues a URL at which one client can redeem the ticket, once, within a minute.
    ///
    /// # Errors
    /// ResourceExhausted if too many URLs are unused.
    pub fn url(&self, ticket: Ticket) -> Result<String, Failure> {
        let kind = ticket.kind();
        let token = self.shared.tokens.issue(ticket)?;
        Ok(format!("{}/{kind}/{token}", self.base))
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[cfg(test)]
mod tests;
