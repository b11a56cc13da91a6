//! The sending half of a stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::task::coop;
use tokio::time::Instant;

use super::shared::{Shared, State, register};
use crate::{Error, RstStatus, StreamId};

/// Bytes to the peer. `shutdown` sends FIN behind the written bytes; writing fails with `ConnectionReset` after
/// RST_STREAM, `ConnectionAborted` after the end of the connection and `BrokenPipe` after `shutdown`.
///
/// [`Self::send`] does not copy; `AsyncWrite` does. Both wait while [`crate::Config::send_buffer`] bytes of this stream are
/// not sent yet. Written bytes are sent without a flush; `flush` and `shutdown` do not wait.
#[derive(Debug)]
pub struct SendHalf {
    shared: Arc<Shared>,
    id: StreamId,
}

impl SendHalf {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self { shared, id }
    }

    /// The id of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// How many bytes this stream may have queued now: [`crate::Config::send_buffer`], or less if there are many streams.
    #[must_use]
    pub fn share(&self) -> usize {
        self.shared.lock().connection.share()
    }

    /// Sends bytes without copying them. If it is cancelled, the first of them may have been sent.
    ///
    /// # Errors
    /// The stream was reset or the connection ended.
    pub async fn send(&mut self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            poll_fn(|cx| {
                self.poll_room(cx, |state, id, room| {
                    let some = data.split_to(room.min(data.len()));
                    state.connection.write(id, some)
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until the stream is reset by either end or the connection ends. Shows an end of the peer to a caller that has nothing
    /// to send.
    pub async fn closed(&mut self) {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.end().is_some() {
                return Poll::Ready(());
            }
            match state.slots.get_mut(&self.id) {
                Some(slot) if slot.reset.is_none() => {
                    register(&mut slot.writer, cx);
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Resets the stream, both directions.
    pub fn reset(&mut self, status: RstStatus) {
        self.shared.lock().reset(self.id, status);
    }

    /// Waits for room and lets `write` use it.
    fn poll_room<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut State, StreamId, usize) -> Result<R, Error>,
    ) -> Poll<io::Result<R>> {
        let progress = ready!(coop::poll_proceed(cx));
        let mut state = self.shared.lock();
        if let Some(failure) = state.failure(self.id) {
            return Poll::Ready(Err(failure.into()));
        }
        let room = state.connection.room(self.id)?;
        if room == 0 {
            if let Some(slot) = state.slots.get_mut(&self.id) {
                register(&mut slot.writer, cx);
            }
            return Poll::Pending;
        }
        let result = write(&mut state, self.id, room)?;
        state.last_activity = Instant::now();
        state.wake_driver();
        progress.made_progress();
        Poll::Ready(Ok(result))
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_room(cx, |state, id, room| {
            let some = room.min(data.len());
            state.connection.write_slice(id, &data[..some]).map(|()| some)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if let Some(failure) = state.failure(self.id) {
            return Poll::Ready(Err(failure.into()));
        }
        // A second shutdown finds the direction finished.
        if state.connection.finish(self.id).is_ok() {
            state.wake_driver();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.shared.lock().drop_writer(self.id);
    }
}
