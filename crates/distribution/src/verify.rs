//! A reader that hashes what passes through, to compare it with a blob's digest and size at the end.
//!
//! Everything read is unverified until [`VerifyingReader::verify`] succeeds and must not be committed before that.

use std::io::{self, Read};

use crate::digest::{Digest, Hasher};
use crate::error::Error;

#[cfg(test)]
mod tests;

/// Reads from `R` and hashes.
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    hasher: Hasher,
    expected: Digest,
    size: u64,
    seen: u64,
}

impl<R> VerifyingReader<R> {
    /// Expects `size` bytes with the digest `expected` from `inner`.
    pub fn new(inner: R, expected: Digest, size: u64) -> Self {
        Self {
            inner,
            hasher: Hasher::new(expected.algorithm()),
            expected,
            size,
            seen: 0,
        }
    }

    /// The reader that is verified; what is read from it directly is not.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Compares everything read so far with the expected size and digest.
    ///
    /// # Errors
    /// [`Error::SizeMismatch`], also if the reader was not read to its end, or [`Error::DigestMismatch`].
    pub fn verify(&self) -> Result<(), Error> {
        if self.seen != self.size {
            return Err(Error::SizeMismatch {
                digest: self.expected.clone(),
                expected: self.size,
                found: self.seen,
            });
        }
        same(&self.expected, self.hasher.clone().finish())
    }
}

/// Fails if `found` is not `expected`.
pub(crate) fn same(expected: &Digest, found: Digest) -> Result<(), Error> {
    if found == *expected {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        expected: expected.clone(),
        found,
    })
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.hasher.update(&into[..length]);
        self.seen = self
            .seen
            .saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        Ok(length)
    }
}
