//! Answers `GET /metrics` on a TCP or a unix socket. There is no login: every client that reaches the socket may read.
//!
//! A client that hangs costs little: one request per connection, a few connections at a time, a time limit for each.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::path::Path;
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
use tokio_util::either::Either;

use super::{Metrics, States, begin};
use crate::accept::accept;
use crate::blocking::blocking;
use crate::config::MetricsAddress;
use crate::error::chain;

#[cfg(test)]
mod tests;

/// The content type of the answer (OpenMetrics 1.0).
const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Limit for one connection, from its first byte to the end of the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are served at the same time; more wait in the listener's queue.
const CLIENTS_MAX: usize = 8;

type Collect = Arc<dyn Fn() -> States + Send + Sync>;

/// Metrics cannot be served on `address`.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for metrics; correct metrics.address in the configuration")]
pub(crate) struct ServeError {
    address: MetricsAddress,
    #[source]
    source: io::Error,
}

/// A listener for metrics. Events are counted from the moment it exists.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: Listener,
    address: MetricsAddress,
    metrics: &'static Metrics,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    pub(crate) async fn begin(address: &MetricsAddress) -> Result<Self, ServeError> {
        let bound = match address {
            MetricsAddress::Tcp(address) => TcpListener::bind(address).await.and_then(|listener| {
                Ok((
                    MetricsAddress::Tcp(listener.local_addr()?),
                    Listener::Tcp(listener),
                ))
            }),
            MetricsAddress::Unix(path) => {
                bind_unix(path).map(|listener| (address.clone(), Listener::Unix(listener)))
            }
        };
        let (address, listener) = bound.map_err(|source| ServeError {
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            listener,
            address,
            metrics: begin(),
        })
    }

    /// The address in use: instead of port 0, the port that the kernel chose.
    pub(crate) fn address(&self) -> &MetricsAddress {
        &self.address
    }

    /// Serves until the future is dropped. `states` is called for each request and may block.
    pub(crate) async fn serve(self, states: impl Fn() -> States + Send + Sync + 'static) {
        let states: Collect = Arc::new(states);
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        // The semaphore is never closed, so this does not end.
        while let Ok(permit) = Arc::clone(&clients).acquire_owned().await {
            let socket = match &self.listener {
                Listener::Tcp(listener) => Either::Left(accept("metrics", || listener.accept()).await),
                Listener::Unix(listener) => Either::Right(accept("metrics", || listener.accept()).await),
            };
            let (metrics, states) = (self.metrics, Arc::clone(&states));
            tokio::spawn(async move {
                answer(socket, metrics, states).await;
                drop(permit);
            });
        }
    }
}

/// Replaces the socket of an earlier daemon. Any other file at `path` is left alone, and bind(2) fails.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
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

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(socket: S, metrics: &'static Metrics, states: Collect) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let states = Arc::clone(&states);
        async move {
            let answer = respond(request.method(), request.uri().path(), metrics, states).await;
            Ok::<_, Infallible>(answer)
        }
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    match tokio::time::timeout(CLIENT_TIMEOUT, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(
                error = chain(&error),
                "a metrics client was disconnected before the answer"
            );
        }
        Err(_) => {
            metrics.scrapes_cut_off.inc();
            tracing::debug!("a metrics client took too long and was disconnected");
        }
    }
}

async fn respond(
    method: &Method,
    path: &str,
    metrics: &'static Metrics,
    states: Collect,
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
        let text = blocking(move || metrics.text(&states())).await;
        *response.body_mut() = Full::from(text);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    }
    response
}
