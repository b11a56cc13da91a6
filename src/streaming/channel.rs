//! One direction of one stream of a client, however the client is connected.

use std::io;

use bytes::Bytes;
use pausa_spdy::{RecvHalf, RstStatus, SendHalf};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::websocket::Sender;

/// What a client sends.
#[derive(Debug)]
pub(super) enum Input {
    /// A stream of its own.
    Spdy(RecvHalf),
    /// A channel of a WebSocket.
    WebSocket(mpsc::Receiver<Bytes>),
}

impl Input {
    /// The next bytes; none when the client has said that there are no more. Cancel-safe.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Spdy(half) => half.chunk().await,
            Self::WebSocket(messages) => Ok(messages.recv().await),
        }
    }
}

/// What is sent to a client.
#[derive(Debug)]
pub(super) enum Output {
    /// A stream of its own.
    Spdy(SendHalf),
    /// A channel of a WebSocket.
    WebSocket(Sender),
}

impl Output {
    /// Sends, or waits until there is room to.
    pub(super) async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Spdy(half) => half.send(bytes).await,
            Self::WebSocket(sender) => sender.send(bytes).await,
        }
    }

    /// Says that there is no more. A channel of a WebSocket has no way to say that.
    pub(super) async fn finish(&mut self) {
        if let Self::Spdy(half) = self {
            // Fails where nobody is left to be told.
            half.shutdown().await.ok();
        }
    }

    /// Says that what was to come is lost.
    pub(super) fn reset(&mut self) {
        if let Self::Spdy(half) = self {
            half.reset(RstStatus::Cancel);
        }
    }

    /// Waits until the client wants no more of this.
    pub(super) async fn closed(&mut self) {
        match self {
            Self::Spdy(half) => half.closed().await,
            Self::WebSocket(sender) => sender.closed().await,
        }
    }
}
