//! A client of an exec or attach, with all its streams.

use std::time::Duration;

use super::channel::{Input, Output};
use super::resize::Sizes;
use super::status::Outcome;
use super::websocket;

/// How long a client may take to read the rest and to close the connection.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// How a client gets the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statuses {
    /// Plain text, nothing after success.
    Text,
    /// `metav1.Status`.
    Json,
}

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
    /// Sends the outcome and closes the connection.
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
        // Nobody reads further input.
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
                // Fails if the client is gone.
                error.send(status).await.ok();
            }
            error.finish().await;
            connection.close().await;
        };
        if tokio::time::timeout(CLOSE_PATIENCE, goodbye).await.is_err() {
            tracing::debug!("a client does not read the outcome of its command; closing the connection");
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
    /// Waits until the client disconnects. Streams that it opens meanwhile are refused.
    pub(super) async fn gone(&self) {
        match self {
            Self::Spdy(session) => while session.accept().await.is_some() {},
            Self::WebSocket(connection) => connection.over().await,
        }
    }

    /// Closes the connection after everything was sent.
    async fn close(self) {
        match self {
            Self::Spdy(session) => session.close().await,
            Self::WebSocket(connection) => connection.close().await,
        }
    }
}
