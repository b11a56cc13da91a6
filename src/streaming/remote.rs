//! The protocols of exec and attach, `vN.channel.k8s.io`: from a connection to a [`Client`].
//!
//! | version | adds |
//! |---|---|
//! | 1 (`channel.k8s.io`), 2 | stdin, stdout, stderr; errors as text |
//! | 3 | sizes of the terminal |
//! | 4 | the status as JSON |
//! | 5 | WebSocket only: the client can end stdin, as it always can with SPDY |
//!
//! With SPDY the client opens a stream for each, named by the header `streamType`. Over a WebSocket they are the
//! channels 0 to 4.

use std::time::Duration;

use bytes::Bytes;
use pausa_spdy::{Headers, RstStatus, Session, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::channel::{Input, Output};
use super::client::{Client, Connection, Statuses};
use super::resize::Sizes;
use super::status::Outcome;
use super::ticket::Streams;
use super::websocket::{Channels, Form};

/// Streams of a SPDY client at the same time: it needs five, and one more that it opens twice is refused by name.
pub(super) const STREAMS_MAX: u32 = 8;
/// How long a client may take to open its streams.
pub(super) const CREATION: Duration = Duration::from_secs(30);

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u8);

impl Version {
    const RESIZES: Self = Self(3);
    const JSON: Self = Self(4);
    const ENDS: Self = Self(5);

    /// What SPDY clients may ask for, best first.
    pub(super) const SPDY: [(&'static str, Self); 4] = [
        ("v4.channel.k8s.io", Self(4)),
        ("v3.channel.k8s.io", Self(3)),
        ("v2.channel.k8s.io", Self(2)),
        ("channel.k8s.io", Self(1)),
    ];

    /// What WebSocket clients may ask for, best first.
    pub(super) const WEBSOCKET: [(&'static str, (Self, Form)); 9] = [
        ("v5.channel.k8s.io", (Self(5), Form::Binary)),
        ("v4.channel.k8s.io", (Self(4), Form::Binary)),
        ("v4.base64.channel.k8s.io", (Self(4), Form::Base64)),
        ("v3.channel.k8s.io", (Self(3), Form::Binary)),
        ("v2.channel.k8s.io", (Self(2), Form::Binary)),
        ("channel.k8s.io", (Self(1), Form::Binary)),
        ("base64.channel.k8s.io", (Self(1), Form::Base64)),
        ("v1.channel.k8s.io", (Self(1), Form::Binary)),
        ("v1.base64.channel.k8s.io", (Self(1), Form::Base64)),
    ];

    /// For WebSocket clients that ask for none.
    pub(super) const FIRST: (Self, Form) = (Self(1), Form::Binary);

    fn statuses(self) -> Statuses {
        if self >= Self::JSON {
            Statuses::Json
        } else {
            Statuses::Text
        }
    }
}

/// The streams that a SPDY client has opened.
#[derive(Debug, Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Opened {
    fn place(&mut self, kind: &str) -> Option<&mut Option<Stream>> {
        match kind {
            "error" => Some(&mut self.error),
            "stdin" => Some(&mut self.stdin),
            "stdout" => Some(&mut self.stdout),
            "stderr" => Some(&mut self.stderr),
            "resize" => Some(&mut self.resize),
            _ => None,
        }
    }

    fn has(&self, wanted: Streams, resizes: bool) -> bool {
        self.error.is_some()
            && (!wanted.stdin || self.stdin.is_some())
            && (!wanted.stdout || self.stdout.is_some())
            && (!wanted.stderr || self.stderr.is_some())
            && (!resizes || self.resize.is_some())
    }
}

/// Waits for the streams of a SPDY client. None if it disconnected or took too long.
pub(super) async fn over_spdy(
    connection: Session,
    version: Version,
    wanted: Streams,
    tty: bool,
) -> Option<Client> {
    let resizes = tty && version >= Version::RESIZES;
    let mut opened = Opened::default();
    let all = async {
        while !opened.has(wanted, resizes) {
            let incoming = connection.accept().await?;
            let kind = incoming
                .headers()
                .get("streamType")
                .unwrap_or_default()
                .to_owned();
            match opened.place(&kind) {
                Some(place) if place.is_none() => *place = Some(incoming.accept(Headers::new())),
                _ => incoming.refuse(RstStatus::RefusedStream),
            }
        }
        Some(())
    };
    let come = tokio::time::timeout(CREATION, all).await;
    let output = |stream: Stream| {
        // Clients do not send on these streams.
        let (_, half) = stream.split();
        Output::Spdy(half)
    };
    let statuses = version.statuses();
    match come {
        Ok(Some(())) => Some(Client {
            stdin: opened.stdin.map(input).filter(|_| wanted.stdin),
            stdout: opened.stdout.map(output).filter(|_| wanted.stdout),
            stderr: opened.stderr.map(output).filter(|_| wanted.stderr),
            sizes: opened.resize.map(|stream| Sizes::new(input(stream))),
            error: output(opened.error?),
            statuses,
            connection: Connection::Spdy(connection),
        }),
        Ok(None) => None,
        Err(_) => {
            late(opened.error.map(output), statuses, connection).await;
            None
        }
    }
}

fn input(stream: Stream) -> Input {
    let (half, _) = stream.split();
    Input::Spdy(half)
}

/// Sends a client the error that it took too long.
async fn late(error: Option<Output>, statuses: Statuses, connection: Session) {
    tracing::debug!("a client did not open its streams in time");
    let Some(error) = error else { return };
    let client = Client {
        stdin: None,
        stdout: None,
        stderr: None,
        sizes: None,
        error,
        statuses,
        connection: Connection::Spdy(connection),
    };
    let seconds = CREATION.as_secs();
    let why = format!("the client did not open all of its streams within {seconds} s");
    client.end(&Outcome::Failed(why)).await;
}

/// The channels of a WebSocket client exist from the beginning.
pub(super) async fn over_websocket<S>(
    socket: WebSocketStream<S>,
    (version, form): (Version, Form),
    wanted: Streams,
    tty: bool,
    idle: Duration,
) -> Client
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut channels = Channels::new(form, version >= Version::ENDS);
    let stdin = wanted.stdin.then(|| Input::WebSocket(channels.input(0)));
    let mut stdout = wanted.stdout.then(|| Output::WebSocket(channels.output(1)));
    let mut stderr = wanted.stderr.then(|| Output::WebSocket(channels.output(2)));
    let mut error = Output::WebSocket(channels.output(3));
    let sizes = tty.then(|| Sizes::new(Input::WebSocket(channels.input(4))));
    let connection = channels.start(socket, idle);
    // Clients wait for an empty message on the first output channel.
    let first = stdout.as_mut().or(stderr.as_mut()).unwrap_or(&mut error);
    // Fails if the client is gone, which is noticed later.
    first.send(Bytes::new()).await.ok();
    Client {
        stdin,
        stdout,
        stderr,
        sizes,
        error,
        statuses: version.statuses(),
        connection: Connection::WebSocket(connection),
    }
}
