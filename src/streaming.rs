//! Exec, attach and port-forward: what clients stream to and from containers and pods.
//!
//! CRI answers such a call with a URL; the client (kubelet on behalf of kubectl, or crictl) goes there, upgrades the
//! connection to SPDY/3.1 or WebSocket, and streams.
//!
//! ```text
//!   CRI call ─▶ checked ─▶ token, URL                        server ─ route ─ upgrade      HTTP, tls
//!                             │                                          │
//!   client ── HTTP ── token redeemed ── upgraded ─┬─ remote ──▶ client ─ session           exec, attach
//!                                                 └─ forward ─▶ pairs                      port-forward
//! ```
//!
//! A [`ticket`](ticket::Ticket) is what a URL stands for, with the functions that begin what the client came for. All data
//! travel through descriptors.
//!
//! Must never: decide anything about containers, know what a monitor is, or leave anything behind when a client
//! goes, however it goes: a session is one future, and dropping it closes all it had.
//!
//! Invariants: a URL works once, within a minute, for what it was made for. Nothing is kept in memory beyond a few
//! buffers a stream: who does not read makes the other side wait.
//!
//! Links: the streaming calls of CRI v1; [0007](../docs/design/0007-streaming.md).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::error::{ErrorKind, Failure};
use ticket::Ticket;
use tls::Certificate;
use tokens::{Tokens, TooMany};

mod channel;
mod client;
mod descriptor;
mod forward;
mod remote;
mod resize;
mod route;
mod server;
mod session;
mod status;
pub mod ticket;
mod tls;
mod tokens;
mod tunnel;
mod upgrade;
mod websocket;

pub use tls::TlsError;

/// How the streaming server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Files of the certificate and its key; without them it speaks plain HTTP.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// A connection on which nothing comes or goes for so long is closed.
    pub idle_timeout: Duration,
}

/// Why the streaming server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamingError {
    /// The address cannot be had.
    #[error("cannot listen on {address} for streams")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate will not do.
    #[error(transparent)]
    Certificate(#[from] TlsError),
}

/// The streaming server. Dropped, it takes no more clients; those it has are served on.
#[derive(Debug)]
pub struct Streaming {
    shared: Arc<Shared>,
    /// What every URL begins with.
    base: String,
    accepting: AbortHandle,
}

/// What every connection needs.
#[derive(Debug)]
struct Shared {
    tokens: Tokens<Ticket>,
    certificate: Option<Certificate>,
    idle: Duration,
}

impl Streaming {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the address or the certificate cannot be used.
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
            idle: settings.idle_timeout,
        });
        tracing::info!(at = base, "streams are served");
        let accepting = tokio::spawn(server::serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self {
            shared,
            base,
            accepting,
        })
    }

    /// A URL at which one client can redeem the ticket, once, within a minute.
    ///
    /// # Errors
    /// ResourceExhausted when too many URLs are unused.
    pub fn url(&self, ticket: Ticket) -> Result<String, Failure> {
        let kind = ticket.kind();
        let token = self.shared.tokens.issue(ticket).map_err(|TooMany| {
            Failure::new(
                ErrorKind::ResourceExhausted,
                format!(
                    "there are {} URLs for exec, attach and port-forward that nobody has used; the oldest expires within {} s",
                    tokens::OUTSTANDING_MAX,
                    tokens::LIFETIME.as_secs()
                ),
            )
        })?;
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
