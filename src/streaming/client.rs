//! A client of an exec or attach, with all its streams there.

use std::time::Duration;

use super::channel::{Input, Output};
use super::resize::Sizes;
use super::status::Outcome;
use super::websocket;

/// How long a client may take to read the rest and to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// How a client is told what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statuses {
    /// Plain text, nothing after success.
    Text,
    /// `metav1.Status`.
    Json,
}

/// See the module. Streams that were not asked for are not there.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stdin: Option<Input>,
    pub(super) stdout: Option<Output>,
    pub(super) stderr: Option<Output>,
    pub(super) sizes: Option<Sizes>,
    pub(super) error: Output,
    pub(super) statuses: Statuses,
    pub(super) connection: Connection,
}

impl Client {
    /// Says what came of it, and goodbye.
    pub(super) async fn end(self, outcome: &Outcome) {
        let Self {
            mut error,
            statuses,
            connection,
            stdin,
            mut stdout,
            mut stderr,
            ..
        } = self;
        // What the client still types is for nobody.
        drop(stdin);
        let goodbye = async {
            for output in [&mut stdout, &mut stderr].into_iter().flatten() {
                output.finish().await;
            }
            let status = match statuses {
                Statuses::Json => Some(outcome.json()),
                Statuses::Text => outcome.text(),
            };
            if let Some(status) = status {
                // Whoever has gone need not know.
                error.send(status).await.ok();
            }
            error.finish().await;
            connection.close().await;
        };
        if tokio::time::timeout(CLOSE_PATIENCE, goodbye).await.is_err() {
            tracing::debug!("a client does not read what came of its command; it is cut off");
        }
    }
}

/// The connection below the streams.
#[derive(Debug)]
pub(super) enum Connection {
    Spdy(pausa_spdy::Session),
    WebSocket(websocket::Connection),
}

impl Connection {
    /// Waits until the client has gone. Streams that it opens meanwhile are refused.
    pub(super) async fn gone(&self) {
        match self {
            Self::Spdy(session) => while session.accept().await.is_some() {},
            Self::WebSocket(connection) => connection.over().await,
        }
    }

    /// Ends it after all that was sent.
    async fn close(self) {
        match self {
            Self::Spdy(session) => session.close().await,
            Self::WebSocket(connection) => connection.close().await,
        }
    }
}
