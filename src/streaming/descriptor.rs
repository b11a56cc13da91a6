//! A pipe, terminal or socket for the async runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::io::unix::AsyncFd;

use crate::async_fd;
use crate::error::{ErrorKind, Kinded};

/// A smaller piece is copied, so that it does not hold a whole buffer while it waits to be sent.
const SMALL: usize = 8 * 1024;

/// Clones share the descriptor, which is closed with the last one.
#[derive(Debug, Clone)]
pub(super) struct Descriptor(Arc<AsyncFd<OwnedFd>>);

/// Why a descriptor cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for a stream with epoll(7)")]
pub(super) struct DescriptorError(#[source] io::Error);

impl Kinded for DescriptorError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

impl Descriptor {
    pub(super) fn new(fd: OwnedFd) -> Result<Self, DescriptorError> {
        rustix::io::ioctl_fionbio(&fd, true).map_err(|errno| DescriptorError(errno.into()))?;
        let fd = async_fd::register(fd).map_err(DescriptorError)?;
        Ok(Self(Arc::new(fd)))
    }

    /// The next bytes, at most `limit`; empty at the end, also of a terminal that no process has open. Cancel-safe.
    pub(super) async fn read(&self, limit: usize) -> io::Result<Bytes> {
        loop {
            let mut ready = self.0.readable().await?;
            // Not kept while waiting: most descriptors of most sessions have nothing to read.
            let mut buffer = Vec::with_capacity(limit);
            let read = ready.try_io(|fd| match rustix::io::read(fd, spare_capacity(&mut buffer)) {
                Err(Errno::IO) => Ok(0),
                read => Ok(read?),
            });
            match read {
                Err(_would_block) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(read)) if read < SMALL => return Ok(Bytes::copy_from_slice(&buffer)),
                Ok(Ok(_)) => return Ok(buffer.into()),
            }
        }
    }

    /// Writes everything. If it is dropped, a part may have been written.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Err(_would_block) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }

    /// Ends the writing direction of a socket.
    pub(super) fn finish_writing(&self) {
        // Fails if the other end is closed.
        rustix::net::shutdown(&*self.0, Shutdown::Write).ok();
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests;
