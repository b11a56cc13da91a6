//! Registering descriptors with tokio.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor, which must support epoll, with the current runtime.
#[expect(
    deprecated,
    reason = "unsound only for types whose descriptor changes, which that of OwnedFd does not; the replacement is unsafe"
)]
pub(crate) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
