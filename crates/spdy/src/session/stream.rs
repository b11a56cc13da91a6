//! One stream as two halves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use crate::{Headers, RstStatus, StreamId};

/// An open stream, both directions. Dropped before both directions have ended, it is reset (CANCEL).
#[derive(Debug)]
pub struct Stream {
    recv: RecvHalf,
    send: SendHalf,
}

impl Stream {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> StreamId {
        unimplemented!("missing")
    }

    /// What the peer sent with it: in SYN_STREAM if it opened the stream, in SYN_REPLY if we did.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        unimplemented!("missing")
    }

    /// Gives the directions into different hands. The stream is reset when both are dropped before both have ended
    /// (end received and FIN sent). A receiving half dropped alone discards what still comes; a sending half dropped
    /// alone sends nothing, not even FIN.
    #[must_use]
    pub fn split(self) -> (RecvHalf, SendHalf) {
        (self.recv, self.send)
    }

    /// Ends both directions at once.
    pub fn reset(self, status: RstStatus) {
        let _ = status;
        unimplemented!("missing")
    }
}

/// What comes from the peer. Ends (0 bytes, `None`) with the peer's FIN; fails with `ConnectionReset` after RST_STREAM
/// and `ConnectionAborted` after the end of the connection, in both cases only when all that came before is read.
///
/// [`Self::chunk`] and `AsyncBufRead` (`tokio::io::copy_buf`) do not copy; `AsyncRead` does.
#[derive(Debug)]
pub struct RecvHalf {}

impl RecvHalf {
    /// The next bytes as they came, `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// The stream was reset or the connection ended.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        unimplemented!("missing")
    }

    /// Resets the stream, both directions.
    pub fn reset(&mut self, status: RstStatus) {
        let _ = status;
        unimplemented!("missing")
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        unimplemented!("missing")
    }
}

impl AsyncBufRead for RecvHalf {
    fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        unimplemented!("missing")
    }

    fn consume(self: Pin<&mut Self>, _: usize) {
        unimplemented!("missing")
    }
}

/// What goes to the peer. `shutdown` sends FIN; writing fails with `ConnectionReset` after RST_STREAM,
/// `ConnectionAborted` after the end of the connection and `BrokenPipe` after `shutdown`.
///
/// [`Self::send`] does not copy; `AsyncWrite` does. Both wait while too much of this stream is not yet on its way.
#[derive(Debug)]
pub struct SendHalf {}

impl SendHalf {
    /// Sends bytes without copying them. Cancel-safe in that nothing or a beginning of them is sent.
    ///
    /// # Errors
    /// The stream was reset or the connection ended.
    pub async fn send(&mut self, data: Bytes) -> io::Result<()> {
        drop(data);
        unimplemented!("missing")
    }

    /// Waits until the stream can carry nothing any more: reset by either end, or the connection ended. For who has
    /// nothing to send and wants to know when the peer goes.
    pub async fn closed(&mut self) {
        unimplemented!("missing")
    }

    /// Resets the stream, both directions.
    pub fn reset(&mut self, status: RstStatus) {
        let _ = status;
        unimplemented!("missing")
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        unimplemented!("missing")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        unimplemented!("missing")
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        unimplemented!("missing")
    }
}
