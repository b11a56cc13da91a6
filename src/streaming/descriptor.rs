//! A pipe, terminal or socket as the runtime waits for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::io::unix::AsyncFd;

/// Read at once: twice what a pipe holds, for sockets that have more.
const CHUNK: usize = 128 * 1024;
/// A smaller piece is copied, so that it does not hold a whole buffer while it waits to be sent.
const SMALL: usize = 8 * 1024;

/// See the module. Clones are the same descriptor; it is closed with the last.
#[derive(Debug, Clone)]
pub(super) struct Descriptor(Arc<AsyncFd<OwnedFd>>);

impl Descriptor {
    #[expect(
        deprecated,
        reason = "unsound only for types that lie about their descriptor; its successor is unsafe, which no code here may be"
    )]
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(Arc::new(AsyncFd::new(fd)?)))
    }

    /// The next bytes; empty at the end. A terminal nobody has open any more is at its end. Cancel-safe.
    pub(super) async fn read(&self) -> io::Result<Bytes> {
        let mut buffer = Vec::new();
        loop {
            let mut ready = self.0.readable().await?;
            if buffer.capacity() == 0 {
                buffer.reserve_exact(CHUNK);
            }
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

    /// Writes all of it. Dropped before its end, it has written a beginning.
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

    /// Says to the other end of a socket that no more comes.
    pub(super) fn finish_writing(&self) {
        // Fails where the other end has gone already.
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
