//! One direction of one stream of a client, over SPDY or WebSocket.

use std::io;

use bytes::Bytes;
use pausa_spdy::{RecvHalf, RstStatus, SendHalf};
use tokio::io::AsyncWriteExt;

use super::websocket::{Receiver, Sender};

/// The most that is sent at once: twice the size of a pipe.
pub(super) const PIECE_MAX: usize = 128 * 1024;

/// A stream from the client.
#[derive(Debug)]
pub(super) enum Input {
    Spdy(RecvHalf),
    WebSocket(Receiver),
}

impl Input {
    /// The next bytes; none at the end. Cancel-safe. They count as unread until the next call.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Spdy(half) => half.chunk().await,
            Self::WebSocket(messages) => Ok(messages.next().await),
        }
    }
}

/// A stream to the client.
#[derive(Debug)]
pub(super) enum Output {
    Spdy(SendHalf),
    WebSocket(Sender),
}

impl Output {
    /// How many bytes to send at once, so that what waits to be sent on all streams of the client stays small.
    pub(super) fn piece(&self) -> usize {
        match self {
            Self::Spdy(half) => half.share().min(PIECE_MAX),
            Self::WebSocket(sender) => sender.piece(),
        }
    }

    /// Sends; waits while the client does not read.
    pub(super) async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Spdy(half) => half.send(bytes).await,
            Self::WebSocket(sender) => sender.send(bytes).await,
        }
    }

    /// Ends the stream. A channel of a WebSocket cannot be ended.
    pub(super) async fn finish(&mut self) {
        if let Self::Spdy(half) = self {
            // Fails if the client is gone.
            half.shutdown().await.ok();
        }
    }

    /// Resets the stream: the rest of the data is lost.
    pub(super) fn reset(&mut self) {
        if let Self::Spdy(half) = self {
            half.reset(RstStatus::Cancel);
        }
    }

    /// Waits until the client no longer reads this stream.
    pub(super) async fn closed(&mut self) {
        match self {
            Self::Spdy(half) => half.closed().await,
            Self::WebSocket(sender) => sender.closed().await,
        }
    }
}
