//! The receiving half of a stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::task::coop;

use super::shared::{Shared, register};
use crate::{Error, RstStatus, StreamId};

/// Bytes from the peer. Ends (0 bytes, `None`) with the peer's FIN; fails with `ConnectionReset` after RST_STREAM and
/// `ConnectionAborted` after the end of the connection, in both cases only after everything received before has been read.
///
/// [`Self::chunk`] and `AsyncBufRead` (`tokio::io::copy_buf`) do not copy; `AsyncRead` does. Bytes count as unread, and the
/// peer gets no credit for them, until the next ones are asked for: the reader may hold them until it has passed them on.
#[derive(Debug)]
pub struct RecvHalf {
    shared: Arc<Shared>,
    id: StreamId,
    current: Bytes,
    /// Bytes that are given out, `current` included, and still count as unread.
    held: usize,
}

impl RecvHalf {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self {
            shared,
            id,
            current: Bytes::new(),
            held: 0,
        }
    }

    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The next bytes as received, `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// The stream was reset or the connection ended.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll_current(cx)).await?;
        let chunk = std::mem::take(&mut self.current);
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    /// Resets the stream, both directions.
    pub fn reset(&mut self, status: RstStatus) {
        self.shared.lock().reset(self.id, status);
    }

    /// Ready when `current` has bytes, or when it is empty because the stream has ended.
    fn poll_current(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.current.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let progress = ready!(coop::poll_proceed(cx));
        let mut state = self.shared.lock();
        state.release(self.id, std::mem::take(&mut self.held));
        let Some(slot) = state.slots.get_mut(&self.id) else {
            return Poll::Ready(Err(Error::Closed.into()));
        };
        if let Some(chunk) = slot.unread.pop(usize::MAX) {
            self.held = chunk.len();
            self.current = chunk;
        } else if !slot.ended {
            register(&mut slot.reader, cx);
            let failed = slot.reset.is_some() || state.end().is_some();
            let Some(failure) = state.failure(self.id).filter(|_| failed) else {
                return Poll::Pending;
            };
            return Poll::Ready(Err(failure.into()));
        }
        progress.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_current(cx))?;
        let some = this.current.len().min(buffer.remaining());
        buffer.put_slice(&this.current[..some]);
        this.current.advance(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for RecvHalf {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_current(cx))?;
        Poll::Ready(Ok(&this.current))
    }

    fn consume(self: Pin<&mut Self>, bytes: usize) {
        self.get_mut().current.advance(bytes);
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.release(self.id, self.held);
        state.drop_reader(self.id);
    }
}
