//! The HTTP server: accepts connections, with TLS if configured, and starts sessions on upgraded ones.
//!
//! ```text
//!   accept ─▶ (TLS) ─▶ one HTTP request ─┬─ refused ─▶ closed
//!                                        └─ 101 ─▶ its session's task, until either side disconnects
//! ```
//!
//! The port is open to everybody on the node. Therefore connections without a request are limited in time, number and size.
//! When there are too many, the oldest is closed: clients that have a URL send their request at once, and must not wait
//! for others that send nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::route::answer;
use crate::accept::accept;
use crate::blocking::blocking;
use crate::telemetry::metrics;

/// How long a client may take from connecting to the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that have not been answered yet.
const UNANSWERED_MAX: usize = 256;
/// Bytes of a request's head. The API server and kubelet pass the headers of the user's request on.
const HEAD_MAX: usize = 64 * 1024;

/// Why a connection ended without a session.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("cannot use the connection")]
    Socket(#[from] io::Error),
    #[error("cannot read the request")]
    Http(#[from] hyper::Error),
}

/// Accepts connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut unanswered = VecDeque::<AbortHandle>::new();
    loop {
        let socket = accept("streaming", || listener.accept()).await;
        if unanswered.len() >= UNANSWERED_MAX {
            unanswered.retain(|connection| !connection.is_finished());
        }
        if unanswered.len() >= UNANSWERED_MAX
            && let Some(oldest) = unanswered.pop_front()
        {
            tracing::debug!(
                "too many connections to the streaming server without a request: closing the oldest"
            );
            metrics::session_refused("connections");
            oldest.abort();
        }
        let shared = Arc::clone(&shared);
        let connection = tokio::spawn(async move {
            match tokio::time::timeout(PATIENCE, serve_connection(socket, &shared)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = crate::error::chain(&error);
                    tracing::debug!(error, "a connection to the streaming server failed");
                }
                Err(_) => tracing::debug!("a connection to the streaming server sent no request in time"),
            }
        });
        unanswered.push_back(connection.abort_handle());
    }
}

/// Serves one connection up to the answer. A session runs in a task of its own.
async fn serve_connection(socket: TcpStream, shared: &Arc<Shared>) -> Result<(), ConnectionError> {
    socket.set_nodelay(true)?;
    let watched = socket.as_fd().try_clone_to_owned()?;
    if shared.certificate.is_none() {
        return http(socket, watched, shared).await;
    }
    let looking = Arc::clone(shared);
    match blocking(move || looking.certificate.as_ref().map(|c| c.current())).await {
        Some(config) => http(TlsAcceptor::from(config).accept(socket).await?, watched, shared).await,
        None => Ok(()),
    }
}

/// Serves one request; a second one would have nothing to ask for.
async fn http<S>(io: S, watched: OwnedFd, shared: &Arc<Shared>) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let watched = Arc::new(watched);
    let service = service_fn(|request| {
        let answer = answer(request, Arc::clone(&watched), shared);
        async { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await?;
    Ok(())
}
