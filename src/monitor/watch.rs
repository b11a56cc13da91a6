//! A descriptor in tokio's hands.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Waits for this descriptor from now on.
#[expect(
    deprecated,
    reason = "unsound only for types that lie about their descriptor; its successor is unsafe, which no code here may be"
)]
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
