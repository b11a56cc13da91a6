//! Hashes what flows through and refuses the end of it if digest or size are not those promised.
//!
//! The error comes in place of the end of file, so a consumer that reads to the end cannot miss it. Whatever was read before
//! is unverified until then and must not be committed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::manifest::Descriptor;

#[cfg(test)]
mod tests;

/// Reads from `R` and verifies.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Hasher,
    expected: Digest,
    size: u64,
    seen: u64,
    done: bool,
}

impl<R> VerifyingReader<R> {
    /// Expects the whole content of `descriptor`, from its first byte, from `inner`.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        Self {
            inner,
            hasher: Hasher::new(descriptor.digest.algorithm()),
            expected: descriptor.digest.clone(),
            size: descriptor.size,
            seen: 0,
            done: false,
        }
    }

    /// Whether the end was reached and all was as promised.
    pub fn is_verified(&self) -> bool {
        self.done
    }

    fn wrong_size(&self) -> io::Error {
        Error::SizeMismatch {
            digest: self.expected.clone(),
            expected: self.size,
            found: self.seen,
        }
        .into()
    }

    fn end(&mut self) -> io::Result<()> {
        if self.done {
            return Ok(());
        }
        if self.seen != self.size {
            return Err(self.wrong_size());
        }
        let found = self.hasher.clone().finish();
        if found != self.expected {
            return Err(Error::DigestMismatch {
                expected: self.expected.clone(),
                found,
            }
            .into());
        }
        self.done = true;
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for VerifyingReader<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // An empty buffer would look like the end.
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            return Poll::Ready(this.end());
        }
        this.hasher.update(new);
        this.seen = this
            .seen
            .saturating_add(u64::try_from(new.len()).unwrap_or(u64::MAX));
        if this.seen > this.size {
            // With an error nothing may have been read.
            buf.set_filled(before);
            return Poll::Ready(Err(this.wrong_size()));
        }
        Poll::Ready(Ok(()))
    }
}
