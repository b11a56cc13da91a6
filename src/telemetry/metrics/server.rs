//! Answers `GET /metrics`, on a TCP or a unix socket. There is nothing to log in with: who reaches the socket may read.
//!
//! One request a connection, few connections at a time, little patience: a scraper that hangs costs nothing.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{Metrics, States, begin};

#[cfg(test)]
mod tests;

/// What the answer is.
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients at a time.
const CLIENTS_MAX: usize = 8;
/// How long to wait when a connection cannot be accepted, which is mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A path: `unix:///path`. Mode 0660.
    Unix(PathBuf),
}

/// An address that is none.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is neither address:port nor unix:// and an absolute path")]
pub struct AddressError {
    text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError {
            text: text.to_owned(),
        };
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(wrong()),
            None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is taken, or none of this node.
    #[error("cannot listen on {address} for metrics; correct metrics.address")]
    Listen {
        /// As configured.
        address: Address,
        /// errno.
        #[source]
        source: io::Error,
    },
}

/// Metrics that are about to be served. From here on events are counted.
#[derive(Debug)]
pub struct Listening {
    listener: Listener,
    metrics: &'static Metrics,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    /// Listens on `address`.
    ///
    /// # Errors
    /// [`ServeError::Listen`].
    pub async fn begin(address: &Address) -> Result<Self, ServeError> {
        let listener = match address {
            Address::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Address::Unix(path) => unix(path).map(Listener::Unix),
        };
        let listener = listener.map_err(|source| ServeError::Listen {
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            listener,
            metrics: begin(),
        })
    }

    /// The TCP address, should it be one.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }

    /// Answers until it is dropped; `states` is asked with each request.
    pub async fn serve(self, states: impl Fn() -> States + Send + Sync + 'static) {
        let states: Arc<dyn Fn() -> States + Send + Sync> = Arc::new(states);
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        loop {
            let Ok(client) = Arc::clone(&clients).acquire_owned().await else {
                return;
            };
            let (metrics, states) = (self.metrics, Arc::clone(&states));
            let answering = match &self.listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(io, _)| {
                    tokio::spawn(async move {
                        answer(io, metrics, &*states).await;
                        drop(client);
                    })
                }),
                Listener::Unix(listener) => listener.accept().await.map(|(io, _)| {
                    tokio::spawn(async move {
                        answer(io, metrics, &*states).await;
                        drop(client);
                    })
                }),
            };
            if let Err(error) = answering {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A socket of a daemon before this one is in the way; anything else is not ours to remove.
fn unix(path: &Path) -> io::Result<UnixListener> {
    if path
        .symlink_metadata()
        .is_ok_and(|file| file.file_type().is_socket())
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    Ok(listener)
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    metrics: &'static Metrics,
    states: &(dyn Fn() -> States + Send + Sync),
) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let answer = respond(request.method(), request.uri().path(), metrics, states);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    let serving = http.keep_alive(false).serve_connection(TokioIo::new(io), service);
    match tokio::time::timeout(PATIENCE, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client for metrics went away"),
        Err(_) => tracing::debug!("a client for metrics took too long"),
    }
}

fn respond(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    states: &(dyn Fn() -> States + Send + Sync),
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if path != "/metrics" {
        *response.status_mut() = StatusCode::NOT_FOUND;
    } else if method != Method::GET && method != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    } else {
        metrics.set(states());
        *response.body_mut() = Full::from(metrics.text());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    }
    response
}
