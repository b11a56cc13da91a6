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
//! [`target`] is what the room needs of the one that has the containers. All data travel through descriptors.
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
use crate::id::Id;
use target::{AttachRequest, ExecRequest, Streams, Target};
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
pub mod target;
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
pub struct Streaming<T> {
    room: Arc<Room<T>>,
    /// What every URL begins with.
    base: String,
    accepting: AbortHandle,
}

/// What a client needs to be served.
#[derive(Debug)]
struct Room<T> {
    target: Arc<T>,
    tokens: Tokens<Ticket>,
    certificate: Option<Certificate>,
    idle: Duration,
}

/// What a token stands for.
#[derive(Debug)]
enum Ticket {
    Exec(ExecRequest),
    /// With whether the client has a terminal.
    Attach(AttachRequest, bool),
    PortForward(Id, Vec<u16>),
}

impl Ticket {
    /// Its place in URLs.
    fn kind(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(..) => "attach",
            Self::PortForward(..) => "portforward",
        }
    }
}

impl<T: Target> Streaming<T> {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the address or the certificate cannot be used.
    pub async fn start(settings: Settings, target: Arc<T>) -> Result<Self, StreamingError> {
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
        let room = Arc::new(Room {
            target,
            tokens: Tokens::default(),
            certificate,
            idle: settings.idle_timeout,
        });
        tracing::info!(at = base, "streams are served");
        let accepting = tokio::spawn(server::serve(listener, Arc::clone(&room))).abort_handle();
        Ok(Self {
            room,
            base,
            accepting,
        })
    }

    /// A URL to run a command at.
    ///
    /// # Errors
    /// When the container is not there or does not run, or too many URLs are unused.
    pub fn exec(
        &self,
        id: &str,
        command: Vec<String>,
        streams: Streams,
        tty: bool,
    ) -> Result<String, Failure> {
        let container = self.room.target.running_container(id)?;
        self.url(Ticket::Exec(ExecRequest {
            container,
            command,
            streams,
            tty,
            size: None,
        }))
    }

    /// A URL to attach at.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub fn attach(&self, id: &str, streams: Streams, tty: bool) -> Result<String, Failure> {
        let container = self.room.target.running_container(id)?;
        self.url(Ticket::Attach(AttachRequest { container, streams }, tty))
    }

    /// A URL to forward ports of a pod at.
    ///
    /// # Errors
    /// When the pod is not there or not ready, or too many URLs are unused.
    pub fn port_forward(&self, id: &str, ports: Vec<u16>) -> Result<String, Failure> {
        let pod = self.room.target.ready_pod(id)?;
        self.url(Ticket::PortForward(pod, ports))
    }

    fn url(&self, ticket: Ticket) -> Result<String, Failure> {
        let kind = ticket.kind();
        let token = self.room.tokens.issue(ticket).map_err(|TooMany| {
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

impl<T> Drop for Streaming<T> {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[cfg(test)]
mod tests;
