//! The HTTP server in front: accepts, speaks TLS where configured, and hands upgraded connections over.
//!
//! ```text
//!   accept ─▶ (TLS) ─▶ one HTTP request ─┬─ refused ─▶ closed
//!                                        └─ 101 ─▶ its session's task, until either side goes
//! ```
//!
//! Who only connects and says nothing is cut off soon, and there may be only so many of them: the port is open to
//! everybody on the node.

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
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::route::answer;

/// How long a client may take from connecting to the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that have not been answered yet.
const STRANGERS_MAX: usize = 256;
/// How long to wait when a connection cannot be accepted, which is mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection came to nothing.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error("cannot use the connection")]
    Socket(#[from] io::Error),
    #[error("cannot read the request")]
    Http(#[from] hyper::Error),
    #[error("the certificate could not be looked at")]
    Certificate(#[from] tokio::task::JoinError),
}

/// Accepts until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let Ok(stranger) = Arc::clone(&strangers).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    match tokio::time::timeout(PATIENCE, meet(socket, &shared)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => {
                            let error = crate::error::chain(&error);
                            tracing::debug!(error, "a connection to the streaming server came to nothing");
                        }
                        Err(_) => tracing::debug!("a connection to the streaming server said nothing"),
                    }
                    drop(stranger);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the streaming server");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// From the connection to the answer. A session that begins is a task of its own.
async fn meet(socket: TcpStream, shared: &Arc<Shared>) -> Result<(), Stranger> {
    socket.set_nodelay(true)?;
    let watched = socket.as_fd().try_clone_to_owned()?;
    if shared.certificate.is_none() {
        return http(socket, watched, shared).await;
    }
    let looking = Arc::clone(shared);
    let config = tokio::task::spawn_blocking(move || looking.certificate.as_ref().map(|c| c.current()));
    match config.await? {
        Some(config) => http(TlsAcceptor::from(config).accept(socket).await?, watched, shared).await,
        None => Ok(()),
    }
}

/// One request: there is nothing to ask a second time for.
async fn http<S>(io: S, watched: OwnedFd, shared: &Arc<Shared>) -> Result<(), Stranger>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let watched = Arc::new(watched);
    let service = service_fn(|request| {
        let answer = answer(request, Arc::clone(&watched), shared);
        async { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await?;
    Ok(())
}
