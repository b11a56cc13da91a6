//! From an HTTP request to its session.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use pausa_spdy::{Config, Role, Session};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol;
use tracing::Instrument;

use super::client::Client;
use super::ticket::{Connect, SessionTicket, Streams, Ticket};
use super::tunnel::Tunnel;
use super::upgrade::{self, Answer, Forward, Remote, refusal};
use super::{Shared, forward, remote, session, websocket};
use crate::id::Id;
use crate::telemetry::metrics;

/// How often a session is checked for a client that disconnected behind data that nobody reads.
const HANGUP_PERIOD: Duration = Duration::from_secs(5);

type Io = TokioIo<Upgraded>;

/// Answers a request and starts its session. `watched` is the connection below it.
pub(super) fn answer(mut request: Request<Incoming>, watched: Arc<OwnedFd>, shared: &Shared) -> Answer {
    let path = request.uri().path().to_owned();
    let Some((kind @ ("exec" | "attach" | "portforward"), token)) =
        path.strip_prefix('/').and_then(|path| path.split_once('/'))
    else {
        return unknown();
    };
    if ![Method::GET, Method::POST].contains(request.method()) {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "only GET and POST");
    }
    let ticket = shared.tokens.redeem(token);
    let Some(ticket) = ticket.filter(|ticket| ticket.kind() == kind) else {
        return unknown();
    };
    let kind = ticket.kind();
    let admitted = match shared.sessions.admit(ticket.pod()) {
        Ok(admitted) => admitted,
        Err(refused) => {
            tracing::warn!(kind, pod = %ticket.pod(), error = %refused, "a client was refused a session");
            return refusal(refused.status(), refused.to_string());
        }
    };
    let span = tracing::debug_span!("stream", kind, id = ticket.id().short());
    match Job::new(ticket, request.headers()) {
        Ok((job, answer)) => {
            let upgrade = hyper::upgrade::on(&mut request);
            let idle = *shared.idle.lock();
            metrics::session(kind);
            let running = async move {
                run(job, upgrade, watched, idle).await;
                drop(admitted);
            };
            tokio::spawn(running.instrument(span));
            answer
        }
        Err(refused) => *refused,
    }
}

fn unknown() -> Answer {
    refusal(
        StatusCode::NOT_FOUND,
        "no such stream: its URL can be used once, within a minute after it was issued",
    )
}

/// The session of an upgraded connection.
enum Job {
    Exec(Remote, SessionTicket),
    Attach(Remote, SessionTicket),
    PortForward(Forward, Id, Vec<u16>, Connect),
}

impl Job {
    fn new(ticket: Ticket, headers: &HeaderMap) -> Result<(Self, Answer), Box<Answer>> {
        Ok(match ticket {
            Ticket::Exec(ticket) => {
                let (how, answer) = upgrade::remote(headers)?;
                (Self::Exec(how, ticket), answer)
            }
            Ticket::Attach(ticket) => {
                let (how, answer) = upgrade::remote(headers)?;
                (Self::Attach(how, ticket), answer)
            }
            Ticket::PortForward { pod, ports, connect } => {
                let (how, answer) = upgrade::port_forward(headers)?;
                if let Forward::WebSocket(_) = how {
                    check_ports(&ports)?;
                }
                (Self::PortForward(how, pod, ports, connect), answer)
            }
        })
    }

    async fn run(self, io: Io, idle: Duration) {
        match self {
            Self::Exec(how, ticket) => {
                if let Some(client) = client(io, how, ticket.streams, ticket.tty, idle).await {
                    session::exec(ticket, client).await;
                }
            }
            Self::Attach(how, ticket) => {
                if let Some(client) = client(io, how, ticket.streams, ticket.tty, idle).await {
                    session::attach(ticket, client).await;
                }
            }
            Self::PortForward(Forward::Spdy, pod, _, connect) => {
                let session = spdy(io, forward::STREAMS_MAX, idle);
                forward::over_spdy(session, &connect, &pod).await;
            }
            Self::PortForward(Forward::Tunnel, pod, _, connect) => {
                let tunnel = Tunnel::new(web_socket(io).await);
                let session = spdy(tunnel, forward::STREAMS_MAX, idle);
                forward::over_spdy(session, &connect, &pod).await;
            }
            Self::PortForward(Forward::WebSocket(form), pod, ports, connect) => {
                let socket = web_socket(io).await;
                forward::over_websocket(socket, form, &connect, &pod, &ports, idle).await;
            }
        }
    }
}

/// A WebSocket has channels for the ports of the PortForward request only.
fn check_ports(ports: &[u16]) -> Result<(), Box<Answer>> {
    if (1..=forward::PORTS_MAX).contains(&ports.len()) {
        return Ok(());
    }
    let why = format!(
        "a WebSocket that does not tunnel SPDY needs 1 to {} ports in the PortForward request, which has {}",
        forward::PORTS_MAX,
        ports.len()
    );
    Err(refusal(StatusCode::BAD_REQUEST, why).into())
}

/// Runs a session from the upgrade to the end.
async fn run(job: Job, upgrade: OnUpgrade, watched: Arc<OwnedFd>, idle: Duration) {
    let io = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => {
            let error = crate::error::chain(&error);
            tracing::debug!(error, "a client disconnected before its session began");
            return;
        }
    };
    tracing::debug!("session started");
    tokio::select! {
        () = job.run(io, idle) => tracing::debug!("session ended"),
        () = hung_up(&watched) => tracing::debug!("session ended: the client disconnected, and the data it sent last were not read"),
    }
}

/// Completes when the client has closed the connection and the session does not notice, because the end is behind bytes
/// that wait for a process that does not read.
async fn hung_up(socket: &OwnedFd) {
    let mut before = false;
    loop {
        tokio::time::sleep(HANGUP_PERIOD).await;
        let mut watched = [PollFd::new(socket, PollFlags::RDHUP)];
        let gone = poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
        // Twice in a row, so that a session that is just ending can do so.
        if gone && before {
            return;
        }
        before = gone;
    }
}

fn spdy<S>(io: S, max_streams: u32, idle: Duration) -> Session
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut config = Config::default();
    config.idle_timeout = Some(idle);
    config.max_streams = max_streams;
    Session::start(io, Role::Server, config)
}

async fn web_socket(io: Io) -> WebSocketStream<Io> {
    WebSocketStream::from_raw_socket(io, protocol::Role::Server, Some(websocket::limits())).await
}

async fn client(io: Io, how: Remote, wanted: Streams, tty: bool, idle: Duration) -> Option<Client> {
    match how {
        Remote::Spdy(version) => {
            let session = spdy(io, remote::STREAMS_MAX, idle);
            remote::over_spdy(session, version, wanted, tty).await
        }
        Remote::WebSocket(version, form) => {
            let socket = web_socket(io).await;
            Some(remote::over_websocket(socket, (version, form), wanted, tty, idle).await)
        }
    }
}
