//! What the clients of the socket may have in progress at the same time: each process, and all together.
//!
//! ```text
//!   connection ─ counted for its process ─▶ request ─ counted ─▶ its bytes ─ counted ─▶ answer sent: counted no more
//!                 └─ closed at once                    └──────────────┴─ RESOURCE_EXHAUSTED
//! ```
//!
//! Whoever can open the socket is trusted, but may have a bug: a program that never closes connections, repeats requests
//! without waiting for the answers, or does not read them. It must not take the memory and the operations that kubelet
//! needs. A process is what connected (SO_PEERCRED, unix(7)). HTTP/2 itself holds back a client with more than
//! [`STREAMS_MAX`] requests on one connection.
//!
//! Must never: refuse what kubelet sends. It has up to some hundred requests in progress, over two connections.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hyper::body::{Bytes, Frame, SizeHint};
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

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

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Connection(Arc<Client>);

impl Default for Clients {
    fn default() -> Self {
        Self {
            all: Arc::new(Account::new(OF_ALL)),
            known: Mutex::default(),
            logged: Mutex::default(),
        }
    }
}

impl Clients {
    /// Counts a connection of a process. None, and a line in the log, if there are too many.
    pub(super) fn connect(&self, pid: i32) -> Option<Arc<Connection>> {
        let client = self.client(pid);
        let (own, all) = (&client.own, &client.all);
        let counted = add_both(
            (&own.connections, own.limits.connections),
            (&all.connections, all.limits.connections),
            1,
        );
        if counted {
            return Some(Arc::new(Connection(client)));
        }
        if due(&self.logged) {
            tracing::warn!(
                pid,
                connections = own.connections.load(Ordering::Relaxed),
                connections_of_all = all.connections.load(Ordering::Relaxed),
                "closing a new connection to the CRI socket at once: there are too many"
            );
        }
        None
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

impl Drop for Connection {
    fn drop(&mut self) {
        for account in [&self.0.own, &*self.0.all] {
            account.connections.fetch_sub(1, Ordering::Relaxed);
        }
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
    client: Arc<Client>,
    bytes: AtomicUsize,
}

impl Charge {
    fn begin(client: &Arc<Client>) -> Result<Self, TooMuch> {
        let (own, all) = (&client.own, &client.all);
        let counted = add_both(
            (&own.requests, own.limits.requests),
            (&all.requests, all.limits.requests),
            1,
        );
        if !counted {
            return Err(client.refused("too many requests are"));
        }
        Ok(Self {
            client: Arc::clone(client),
            bytes: AtomicUsize::new(0),
        })
    }

    fn add(&self, more: usize) -> Result<(), TooMuch> {
        let (own, all) = (&self.client.own, &self.client.all);
        let counted = add_both(
            (&own.bytes, own.limits.bytes),
            (&all.bytes, all.limits.bytes),
            more,
        );
        if !counted {
            return Err(self.client.refused("too many large requests are"));
        }
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        for account in [&self.client.own, &*self.client.all] {
            account.requests.fetch_sub(1, Ordering::Relaxed);
            account.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
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
        let charged = Charge::begin(&connection.0).and_then(|charge| {
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
