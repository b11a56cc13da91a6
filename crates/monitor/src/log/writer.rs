//! Writes whole entries to a file that may refuse them.
//!
//! ```text
//!   whole ──(a write stops inside an entry)──▶ torn ──(its rest is written)──▶ whole
//!     │                                         │
//!     └─ entries that the file refuses are counted and dropped ─┘
//! ```
//!
//! A full disk may accept a part of an entry. The rest of that entry is kept and written before anything else, so that no
//! line is torn or duplicated. Whole entries that are refused are dropped. Writing never waits and never fails, since the
//! container must not wait for the disk.

use std::fs::File;
use std::io::{ErrorKind, Write};

use rustix::io::Errno;

/// Log bytes that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Includes the parts before the content of entries.
    pub(crate) bytes: u64,
    /// Of the last failed write.
    pub(crate) errno: i32,
}

/// Writes entries to a log file. Tests use another writer in its place.
#[derive(Debug)]
pub(crate) struct Writer<W = File> {
    file: W,
    /// The rest of a torn entry.
    torn: Vec<u8>,
    dropped: u64,
    errno: i32,
}

impl<W: Write> Writer<W> {
    /// Takes a file that is open for appending.
    pub(crate) const fn new(file: W) -> Self {
        Self {
            file,
            torn: Vec::new(),
            dropped: 0,
            errno: 0,
        }
    }

    /// Writes a batch of whole entries, or as many of them as the file accepts.
    pub(crate) fn write(&mut self, entries: &[u8]) {
        if !self.complete_torn_entry() {
            self.count(entries.len());
            return;
        }
        let written = self.write_bytes(entries);
        let (done, refused) = entries.split_at(written);
        if refused.is_empty() {
            return;
        }
        let torn = match done.last() {
            None | Some(b'\n') => 0,
            Some(_) => memchr::memchr(b'\n', refused).map_or(refused.len(), |end| end + 1),
        };
        self.torn = refused[..torn].to_vec();
        self.count(refused.len() - torn);
    }

    /// Continues in another file. A torn entry is completed in the old file or dropped.
    pub(crate) fn replace(&mut self, file: W) {
        self.complete_torn_entry();
        let lost = std::mem::take(&mut self.torn).len();
        self.count(lost);
        self.file = file;
    }

    /// Writes the rest of a torn entry. Returns true if no entry is torn any more.
    pub(crate) fn complete_torn_entry(&mut self) -> bool {
        if !self.torn.is_empty() {
            let torn = std::mem::take(&mut self.torn);
            let written = self.write_bytes(&torn);
            self.torn = torn[written..].to_vec();
        }
        self.torn.is_empty()
    }

    /// Whether anything was dropped since the last [`Self::take_dropped`].
    pub(crate) const fn has_dropped(&self) -> bool {
        self.dropped > 0
    }

    /// The bytes dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> Option<Dropped> {
        let bytes = std::mem::take(&mut self.dropped);
        (bytes > 0).then_some(Dropped {
            bytes,
            errno: self.errno,
        })
    }

    fn count(&mut self, bytes: usize) {
        self.dropped = self.dropped.saturating_add(bytes as u64);
    }

    /// Writes until everything is written or the file refuses. Returns the number of bytes written.
    fn write_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.write(&bytes[done..]) {
                Ok(0) => {
                    self.errno = Errno::NOSPC.raw_os_error();
                    break;
                }
                Ok(written) => done += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.errno = error.raw_os_error().unwrap_or(0);
                    break;
                }
            }
        }
        done
    }
}

#[cfg(test)]
mod tests;
