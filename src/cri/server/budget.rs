//! What the clients of the socket may have in progress at the same time: each process, and all together.
//!
//! ```text
//!   connection ─ counted for its process ─▶ request ─ counted ─▶ its bytes ─ counted ─▶ answer sent: counted no more
//!                 └─ an idle one makes room            └──────────────┴─ RESOURCE_EXHAUSTED
//! ```
//!
//! Whoever can open the socket is trusted, but may have a bug: a program that never closes connections, repeats requests
//! without waiting for the answers, or does not read them. It must not take the memory and the operations that kubelet
//! needs. A process is what connected (SO_PEERCRED, unix(7)). HTTP/2 itself holds back a client with more than
//! [`STREAMS_MAX`] requests on one connection.
//!
//! A program that never closes connections, as many test suites and scripts do, need not notice: the connection that it has
//! not used for the longest time is closed for the new one, and gRPC connects again when it wants to use that.
//!
//! Must never: refuse what kubelet sends. It has up to some hundred requests in progress, over two connections.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hyper::body::{Bytes, Frame, SizeHint};
use parking_lot::Mutex;
use rustix::net::Shutdown;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::telemetry::metrics;

/// Requests on one connection, as HTTP/2 announces it (SETTINGS_MAX_CONCURRENT_STREAMS): a client sends no more.
pub(super) const STREAMS_MAX: u32 = 1024;
/// A request up to this size does not count as bytes. Nearly all are smaller.
const SMALL_REQUEST: usize = 64 * 1024;
/// The largest message of an import, and of the admin service at all. It is what counts for an import, whose messages are
/// not kept.
pub(super) const IMPORT_MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// How often a refusal is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How much there may be at the same time.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    requests: usize,
    /// Of request messages.
    bytes: usize,
}

const OF_ONE: Limits = Limits {
    connections: 64,
    requests: 1024,
    bytes: 64 * 1024 * 1024,
};
const OF_ALL: Limits = Limits {
    connections: 512,
    requests: 4096,
    bytes: 256 * 1024 * 1024,
};

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} in progress: wait until some of them have ended")]
pub(super) struct TooMuch {
    what: &'static str,
}

/// Counts up to limits.
#[derive(Debug)]
struct Account {
    limits: Limits,
    connections: AtomicUsize,
    requests: AtomicUsize,
    bytes: AtomicUsize,
}

impl Account {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        }
    }
}

/// Adds to a count, unless it would exceed the limit.
fn add(count: &AtomicUsize, more: usize, limit: usize) -> bool {
    let sum = |now: usize| now.checked_add(more).filter(|sum| *sum <= limit);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum)
        .is_ok()
}

/// Adds to the counts of a client and of all, or to neither.
fn add_both(one: (&AtomicUsize, usize), all: (&AtomicUsize, usize), more: usize) -> bool {
    if !add(one.0, more, one.1) {
        return false;
    }
    let added = add(all.0, more, all.1);
    if !added {
        one.0.fetch_sub(more, Ordering::Relaxed);
    }
    added
}

/// All clients.
#[derive(Debug)]
pub(super) struct Clients {
    all: Arc<Account>,
    known: Mutex<HashMap<i32, Weak<Client>>>,
    connections: Mutex<Vec<Weak<Connection>>>,
    logged: Mutex<Option<Instant>>,
}

/// A process that has connected.
#[derive(Debug)]
struct Client {
    pid: i32,
    own: Account,
    all: Arc<Account>,
    logged: Mutex<Option<Instant>>,
}

/// A connection that counts until this is dropped, or closed to make room.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Arc<Client>,
    socket: OwnedFd,
    requests: AtomicUsize,
    /// When the last request began or ended.
    used: Mutex<Instant>,
    closed: AtomicBool,
}

impl Default for Clients {
    fn default() -> Self {
        Self {
            all: Arc::new(Account::new(OF_ALL)),
            known: Mutex::default(),
            connections: Mutex::default(),
            logged: Mutex::default(),
        }
    }
}

impl Clients {
    /// Counts a connection of a process. If there are too many, one without requests is closed for it: of the same process,
    /// or of any if all together have too many. None, and a line in the log, if all have requests.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub(super) fn connect(&self, pid: i32, socket: impl AsFd) -> std::io::Result<Option<Arc<Connection>>> {
        let socket = socket.as_fd().try_clone_to_owned()?;
        let client = self.client(pid);
        let (own, all) = (&client.own, &client.all);
        let count = || {
            add_both(
                (&own.connections, own.limits.connections),
                (&all.connections, all.limits.connections),
                1,
            )
        };
        let counted = count();
        if !counted && due(&self.logged) {
            tracing::warn!(
                pid,
                connections = own.connections.load(Ordering::Relaxed),
                connections_of_all = all.connections.load(Ordering::Relaxed),
                "there are too many connections to the CRI socket: the idle one that was not used for the longest time is closed for a new one, or the new one if none is idle"
            );
        }
        if !(counted || self.close_idle(&client) && count()) {
            metrics::connection_closed("new");
            return Ok(None);
        }
        metrics::connection(true);
        let connection = Arc::new(Connection {
            client,
            socket,
            requests: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            closed: AtomicBool::new(false),
        });
        let mut connections = self.connections.lock();
        if connections.len() >= 2 * OF_ALL.connections {
            connections.retain(|connection| connection.strong_count() > 0);
        }
        connections.push(Arc::downgrade(&connection));
        Ok(Some(connection))
    }

    /// Closes a connection without requests. False if there is none.
    fn close_idle(&self, client: &Arc<Client>) -> bool {
        let of_one = client.own.connections.load(Ordering::Relaxed) >= client.own.limits.connections;
        let connections = self.connections.lock();
        let idle = connections.iter().filter_map(Weak::upgrade).filter(|connection| {
            connection.requests.load(Ordering::Relaxed) == 0
                && !connection.closed.load(Ordering::Relaxed)
                && (!of_one || Arc::ptr_eq(&connection.client, client))
        });
        let oldest = idle.min_by_key(|connection| *connection.used.lock());
        oldest.is_some_and(|connection| {
            metrics::connection_closed("idle");
            connection.close();
            true
        })
    }

    fn client(&self, pid: i32) -> Arc<Client> {
        let mut known = self.known.lock();
        if let Some(client) = known.get(&pid).and_then(Weak::upgrade) {
            return client;
        }
        known.retain(|_, client| client.strong_count() > 0);
        let client = Arc::new(Client {
            pid,
            own: Account::new(OF_ONE),
            all: Arc::clone(&self.all),
            logged: Mutex::default(),
        });
        known.insert(pid, Arc::downgrade(&client));
        client
    }
}

/// Whether it is time to log again.
fn due(logged: &Mutex<Option<Instant>>) -> bool {
    let mut logged = logged.lock();
    let due = logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
    if due {
        *logged = Some(Instant::now());
    }
    due
}

impl Connection {
    /// The server reads the end of the stream, as if the client had gone. It does not count any more.
    fn close(&self) {
        self.end();
        // Fails if the client has gone.
        rustix::net::shutdown(&self.socket, Shutdown::Both).ok();
    }

    fn end(&self) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            metrics::connection(false);
            for account in [&self.client.own, &*self.client.all] {
                account.connections.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}

impl Client {
    fn refused(&self, what: &'static str) -> TooMuch {
        if due(&self.logged) {
            tracing::warn!(
                pid = self.pid,
                what,
                "a client of the CRI socket has too much in progress: refusing requests"
            );
        }
        TooMuch { what }
    }
}

/// A request that counts until this is dropped, with its bytes.
#[derive(Debug)]
struct Charge {
    connection: Arc<Connection>,
    bytes: AtomicUsize,
}

impl Charge {
    fn begin(connection: &Arc<Connection>) -> Result<Self, TooMuch> {
        let client = &connection.client;
        let (own, all) = (&client.own, &client.all);
        let counted = add_both(
            (&own.requests, own.limits.requests),
            (&all.requests, all.limits.requests),
            1,
        );
        if !counted {
            metrics::request_refused("requests");
            return Err(client.refused("too many requests are"));
        }
        connection.requests.fetch_add(1, Ordering::Relaxed);
        *connection.used.lock() = Instant::now();
        Ok(Self {
            connection: Arc::clone(connection),
            bytes: AtomicUsize::new(0),
        })
    }

    fn add(&self, more: usize) -> Result<(), TooMuch> {
        let client = &self.connection.client;
        let (own, all) = (&client.own, &client.all);
        let counted = add_both(
            (&own.bytes, own.limits.bytes),
            (&all.bytes, all.limits.bytes),
            more,
        );
        if !counted {
            metrics::request_refused("bytes");
            return Err(client.refused("too many large requests are"));
        }
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        for account in [&self.connection.client.own, &*self.connection.client.all] {
            account.requests.fetch_sub(1, Ordering::Relaxed);
            account.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        *self.connection.used.lock() = Instant::now();
        self.connection.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<TooMuch> for Status {
    fn from(error: TooMuch) -> Self {
        Self::resource_exhausted(error.to_string())
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct BudgetLayer;

impl<S> Layer<S> for BudgetLayer {
    type Service = Budget<S>;

    fn layer(&self, inner: S) -> Budget<S> {
        Budget { inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Budget<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Budget<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // It is there with every request of a connection.
        let Some(connection) = request.extensions().get::<Arc<Connection>>() else {
            return Box::pin(self.inner.call(request));
        };
        let is_import = request.uri().path().ends_with("/Import");
        let charged = Charge::begin(connection).and_then(|charge| {
            if is_import {
                charge.add(IMPORT_MESSAGE_MAX)?;
            }
            Ok(Arc::new(charge))
        });
        let charge = match charged {
            Ok(charge) => charge,
            Err(error) => {
                let refused = Status::from(error).into_http();
                return Box::pin(std::future::ready(Ok(refused)));
            }
        };
        let request = if is_import {
            request
        } else {
            let charge = Arc::clone(&charge);
            request.map(|body| {
                Body::new(Metered {
                    body,
                    charge,
                    free: SMALL_REQUEST,
                })
            })
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            // tonic says OUT_OF_RANGE of messages that are too large, other servers RESOURCE_EXHAUSTED. Nothing else here
            // says OUT_OF_RANGE.
            let status = answer.headers_mut().get_mut(Status::GRPC_STATUS);
            if let Some(status) =
                status.filter(|status| Code::from_bytes(status.as_bytes()) == Code::OutOfRange)
            {
                *status = HeaderValue::from(Code::ResourceExhausted as i32);
            }
            Ok(answer.map(|body| {
                Body::new(Answer {
                    body,
                    _charge: charge,
                })
            }))
        })
    }
}

/// The body of a request, whose bytes count.
struct Metered {
    body: Body,
    charge: Arc<Charge>,
    free: usize,
}

impl hyper::body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let free = self.free.min(data.len());
            self.free -= free;
            if data.len() > free {
                self.charge.add(data.len() - free)?;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer. The request counts until it is sent, or the client is gone.
struct Answer {
    body: Body,
    _charge: Arc<Charge>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
