//! The adapter between a socket and h2: an AsyncRead/AsyncWrite that runs inbound bytes through a
//! [`Rewriter`]. Once that is transparent, reads go straight to the socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::Rewriter;
use crate::cri::server::Connection;

/// How much is read at once while bytes are looked at.
const SCRATCH: usize = 8 * 1024;

/// A connection whose client may call the server what it likes.
#[derive(Debug)]
pub(crate) struct LenientAuthority<S> {
    inner: S,
    rewriter: Rewriter,
    /// Rewritten bytes that h2 has not read yet, from `read` on.
    ready: Vec<u8>,
    read: usize,
    scratch: Vec<u8>,
    connection: Arc<Connection>,
}

impl<S> LenientAuthority<S> {
    /// Wraps an accepted connection of which nothing has been read yet.
    pub(crate) fn new(inner: S, connection: Arc<Connection>) -> Self {
        Self {
            inner,
            rewriter: Rewriter::default(),
            ready: Vec::new(),
            read: 0,
            scratch: vec![0; SCRATCH],
            connection,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LenientAuthority<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.read < this.ready.len() {
                let unread = &this.ready[this.read..];
                let now = unread.len().min(buf.remaining());
                buf.put_slice(&unread[..now]);
                this.read += now;
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.read = 0;
            if this.rewriter.is_transparent() {
                // For most connections this is the whole story: give the buffers back.
                this.ready = Vec::new();
                this.scratch = Vec::new();
                return Pin::new(&mut this.inner).poll_read(cx, buf);
            }
            let mut scratch = ReadBuf::new(&mut this.scratch);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut scratch))?;
            if scratch.filled().is_empty() {
                this.rewriter.finish(&mut this.ready);
            } else {
                this.rewriter.push(scratch.filled(), &mut this.ready);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientAuthority<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Requests have the connection among their extensions.
impl<S> Connected for LenientAuthority<S> {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.connection)
    }
}
