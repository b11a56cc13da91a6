//! The entries that a log file has not taken yet.
//!
//! ```text
//!   whole ──(a write stops inside an entry)──▶ torn ──(its rest is written)──▶ whole
//!     │                                         │
//!     └─ entries that the file refuses are counted and dropped ─┘
//! ```
//!
//! A full disk may accept a part of an entry. The rest of that entry is kept and written before anything else, so that no
//! line is torn or duplicated. Whole entries that are refused are dropped.

use rustix::io::Errno;

/// Log bytes that could not be written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Includes the parts before the content of entries.
    pub(crate) bytes: u64,
    /// Why, of the last ones.
    pub(crate) errno: i32,
}

impl Dropped {
    pub(super) fn add(&mut self, bytes: usize, errno: Errno) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes as u64);
            self.errno = errno.raw_os_error();
        }
    }
}

/// Entries in their order. The first one may be the rest of a torn entry.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// Length of that rest.
    torn: usize,
    /// Why it was torn.
    errno: Option<Errno>,
}

/// Entries that are being written.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) torn: usize,
}

impl Backlog {
    pub(super) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            torn: 0,
            errno: None,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there is no more than the rest of a torn entry.
    pub(super) const fn has_no_whole_entry(&self) -> bool {
        self.bytes.len() == self.torn
    }

    /// Where to append whole entries.
    pub(super) const fn entries(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes everything.
    pub(super) fn take(&mut self) -> Batch {
        let Self { bytes, torn, .. } = std::mem::replace(self, Self::new());
        Batch { bytes, torn }
    }

    /// The file has taken the first `written` bytes of the batch that was taken last, and refused the rest if there is any.
    pub(super) fn settle(
        &mut self,
        batch: &[u8],
        torn: usize,
        written: usize,
        errno: Errno,
        dropped: &mut Dropped,
    ) {
        let (done, refused) = batch.split_at(written);
        let rest = match done.last() {
            _ if written < torn => torn - written,
            None | Some(b'\n') => 0,
            Some(_) => memchr::memchr(b'\n', refused).map_or(refused.len(), |end| end + 1),
        };
        dropped.add(refused.len() - rest, errno);
        self.bytes.splice(..0, refused[..rest].iter().copied());
        self.torn = rest;
        self.errno = Some(errno);
    }

    /// The batch was not tried, since one before it was refused.
    pub(super) fn put_back(&mut self, batch: &[u8]) {
        self.bytes.splice(self.torn..self.torn, batch.iter().copied());
    }

    /// Drops everything, for this reason or that for which the first entry was torn.
    pub(super) fn drop_all(&mut self, errno: Option<Errno>, dropped: &mut Dropped) {
        let errno = errno.or(self.errno).unwrap_or(Errno::IO);
        dropped.add(self.take().bytes.len(), errno);
    }
}

#[cfg(test)]
mod tests;
